//! What a witness is told of a chain: each database, its row, and what its answer changed. Nothing here decides.

use super::block::{Block, Outcome, Proof};
use super::{Next, Standing};
use crate::config::meant::Then;
use crate::users::{Checked, Fields, Question};
use crate::witness::{Step, Witness};
use serde_json::{Map, Value};

pub(super) fn passed_over(block: &Block, why: &str) -> Step {
    Step::new("database", format!("{} (driver {}): not asked, {why}", block.name, block.driver))
        .with("database", &*block.name)
        .with("driver", block.driver)
        .with("asked", false)
        .with("why", why)
}

pub(super) fn asked(block: &Block, user: &str) -> Step {
    let what = if block.deny { "deny list" } else { "driver" };
    Step::new("database", format!("{} ({what} {}): asked for {user:?}", block.name, block.driver))
        .with("database", &*block.name)
        .with("driver", block.driver)
        .with("asked", true)
        .with("user", user)
        .with("deny", block.deny)
}

/// The row with what the configuration puts under and over it, before the chain uses its part up.
pub(super) fn row(block: &Block, fields: &Fields, user: &str, witness: Witness<'_>) -> Step {
    let mut step = Step::new("row", format!("{} has {user:?}:", block.name)).with("database", &*block.name).with("user", user);
    let mut data = Map::new();
    for (name, value) in fields.iter() {
        let shown = witness.shown(name, value);
        step = step.more(format!("{name} = {shown:?}"));
        data.insert(name.to_owned(), Value::String(shown));
    }
    step.with("fields", data)
}

pub(super) fn outcome(block: &Block, outcome: &Outcome, question: &Question<'_>) -> Step {
    let (word, text) = match outcome {
        Outcome::In { .. } if question.delivery => ("none", "knows the recipient; a mail has no password".to_owned()),
        Outcome::In { proof: Proof::NoPassword, .. } => {
            ("nopassword", "lets the user in, and leaves the password to the backend".to_owned())
        }
        Outcome::In { proof: Proof::Earlier, .. } => {
            ("in", "lets the user in; the password was settled by a database before it".to_owned())
        }
        Outcome::In { proof: Proof::Checked, .. } if question.witness.supposes_password() => (
            "supposed",
            "password not checked (none given): it would be compared here, and is taken for the right one".to_owned(),
        ),
        Outcome::In { proof: Proof::Checked, .. } => ("right", "the password is right".to_owned()),
        Outcome::LookedUp { .. } => {
            ("noauthenticate", "looks the user up and leaves the password to the databases behind it".to_owned())
        }
        Outcome::No { known: true, .. } if block.deny => ("denied", "the user stands in this deny list".to_owned()),
        Outcome::No { known: false, .. } if block.deny => ("unknown", "the user does not stand in this deny list".to_owned()),
        Outcome::No { why, known, proven } => {
            let word = if *proven {
                "wrong"
            } else if *known {
                "no"
            } else {
                "unknown"
            };
            (word, why.detail.clone())
        }
        Outcome::Trouble(failure) => ("trouble", failure.detail.clone()),
    };
    Step::new("password", text).with("database", &*block.name).with("result", word)
}

pub(super) fn rule(block: &Block, standing: &Standing<'_>, next: Next) -> Step {
    let (key, rule) = standing.followed;
    let rule = rule.map_or("", Then::word);
    let state = if standing.state { "let in" } else { "not let in" };
    let then = if next == Next::End { "the chain ends" } else { "the chain goes on" };
    let what = if rule.is_empty() { key.to_owned() } else { format!("{key} = \"{rule}\"") };
    Step::new("rule", format!("{}: {what}: {state}, {then}", block.name))
        .with("database", &*block.name)
        .with("key", key)
        .with("rule", rule)
        .with("let_in", standing.state)
        .with("ends", next == Next::End)
}

/// What the chain says in the end.
pub(super) fn answer(standing: &Standing<'_>, delivery: bool) -> Step {
    let by = match &standing.checked {
        _ if delivery => "no password: it is a recipient".to_owned(),
        Checked::By(name) => format!("password checked by {name}"),
        Checked::Nobody => "password checked by nobody here: the backend will".to_owned(),
        Checked::Peer => "no password: the trusted peer vouches for the user".to_owned(),
    };
    let checked = match &standing.checked {
        Checked::By(name) => Value::from(&**name),
        Checked::Nobody | Checked::Peer => Value::Null,
    };
    Step::new("answer", format!("user {:?} by database {}; {by}", standing.user, standing.database))
        .with("user", &*standing.user)
        .with("database", &*standing.database)
        .with("checked_by", checked)
}
