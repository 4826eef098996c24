//! Gatepost: the program around [`wire`] and [`relay`].

pub mod config;
pub mod failure;
pub mod journal;
pub mod users;
