//! Handing mails to the servers behind us.
//!
//! * [`courier`]: one connection to one server, and the mails that go by it one after the other.
//!
//! A yes is only what a server has said about this mail, and nobody else can make one: see [`courier::Courier::deliver`].

pub mod courier;
