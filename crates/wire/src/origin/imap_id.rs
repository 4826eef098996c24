//! The carrier IMAP ID.
