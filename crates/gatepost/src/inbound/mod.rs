//! The message way: a client hands over mails, and each recipient has a server of its own.
//!
//! * `session`: the conversation with one client, from accept to its end;
//! * [`recipient`]: where one recipient's mail goes: databases, route, addresses;
//! * `transaction`: one mail, its recipients, and the servers that are asked about them, all at once;
//! * [`hold`]: the letter while it is here: in memory, and in a file that has no name where it is large;
//! * [`told`]: what the journal says of each recipient.

pub mod hold;
pub mod recipient;
pub mod session;
pub mod told;
mod transaction;
