//! `gatepost explain login` and `gatepost explain rcpt`: how one login, or one recipient's mail, would be decided, step by step,
//! without calling a backend.
//!
//! Nothing is decided here. A client is played in memory against the protocol's own front, so names, passwords and what a peer
//! says of its client go through the same gate; what follows is [`crate::login::auth::ready`], as for every login, with a
//! [`crate::witness`]; and what a backend would hear is written by the dance that would write it. In place of the call to the
//! backend there is what is known of its addresses.
//!
//! Nothing comes of it either: no guess is counted, no place among connections or sessions is taken, no turn of a source address
//! and no probe of a dead backend is used up, and no line of the journal tells of a login. Databases are asked, and names of
//! hosts are looked up, inside the same limits as for logins.
//!
//! Of a recipient the same holds: its client is played against the front of the message way, what follows is
//! [`crate::inbound::recipient::place`] as for every mail, and the verdict is the one that a client would hear.
//!
//! What cannot be known without a call is not told: whether the backend answers, shows a good certificate, and likes the
//! password; and whether it offers to hear who is calling.
//!
//! | file | what |
//! | --- | --- |
//! | `ask.rs` | what is asked: a user or a recipient, and how the client comes |
//! | `coming.rs` | how the client comes: from the listener to the greeting |
//! | `rehearsal.rs` | the login, from there to the verdict |
//! | `delivery.rs` | a recipient's mail, from there to the verdict |
//! | `client.rs` | the client and the proxy in front of us, in memory |
//! | `seen.rs` | what is told of the way to the login |
//! | `words.rs`, `said.rs` | what the backend would hear of a login, of a mail |
//! | `outcome.rs` | what would come of it |

mod ask;
mod client;
mod coming;
mod delivery;
mod outcome;
mod rehearsal;
mod said;
mod seen;
mod words;

pub use ask::{Ask, AskRcpt, Unanswerable, Way};
pub use coming::doors_of;
pub use delivery::rcpt;
pub use outcome::{Outcome, Verdict};
pub use rehearsal::login;

use crate::witness::Step;
use serde::Serialize;

/// The version of what is said as JSON.
pub const VERSION: u32 = 1;

/// How a login, or a recipient's mail, would be decided.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// [`VERSION`].
    pub version: u32,
    /// A running Gatepost says so; else the configuration file alone was looked at.
    pub running: bool,
    /// Step by step.
    pub steps: Vec<Step>,
    /// What would come of it.
    pub outcome: Outcome,
}
