//! The letter itself: what passes through a delivery, whoever sends it and wherever it goes.
//!
//! A letter is a header and a body (RFC 5322), and it is immutable. It is looked at without being understood: a field that is
//! not asked for may hold anything, and leaves as it came, octet by octet. There is no socket and no clock here.
//!
//! The map:
//!
//! * [`field`]: one field of a header, with its own line ends and folding;
//! * [`letter`]: where the header of a letter ends and which fields it has, whole or while it arrives;
//! * [`edit`]: changes to a header, applied once, without copying the body;
//! * [`received`]: the trace field, and the date in it.
//!
//! Left to others: dots before lines and the end of data (the conversation), and whether lines end as they must.

pub mod edit;
pub mod field;
pub mod letter;
pub mod received;
