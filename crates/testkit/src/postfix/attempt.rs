//! What a Postfix has tried with a recipient, read from its log, and what still lies in its queue.

use std::fs;
use std::path::Path;

/// One try to deliver a message to one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The program that tried: `lmtp`, `smtp`, `virtual`, `error`.
    pub agent: String,
    /// The message.
    pub queue_id: String,
    /// The recipient, without brackets.
    pub to: String,
    /// The next server, `127.0.0.1[127.0.0.1]:2424` or a path with text around it; `none` when there was none to talk to.
    pub relay: String,
    /// The enhanced code: the server's, or what Postfix made of it.
    pub dsn: String,
    /// `sent`, `deferred` or `bounced`.
    pub status: String,
    /// What stands in parentheses behind it: the server's words, or Postfix's.
    pub said: String,
}

impl Attempt {
    /// Reads a line like `Nov 20 21:08:22 postfix postfix/lmtp[71]: 4Q1: to=<a@b.test>, relay=127.0.0.1[127.0.0.1]:2424,
    /// delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 Saved)`; `None` for any other.
    pub(super) fn read(line: &str) -> Option<Attempt> {
        let (_, rest) = line.split_once(" postfix/")?;
        let (agent, rest) = rest.split_once('[')?;
        let (_, rest) = rest.split_once("]: ")?;
        let (queue_id, rest) = rest.split_once(": to=<")?;
        let (to, rest) = rest.split_once(">, ")?;
        let (fields, outcome) = rest.split_once(", status=")?;
        let (status, said) = outcome.split_once(" (")?;
        let field = |name: &str| fields.split(", ").find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
        Some(Attempt {
            agent: agent.to_owned(),
            queue_id: queue_id.to_owned(),
            to: to.to_owned(),
            relay: field("relay")?.to_owned(),
            dsn: field("dsn")?.to_owned(),
            status: status.to_owned(),
            said: said.strip_suffix(')').unwrap_or(said).to_owned(),
        })
    }
}

/// Adds the names of the files in a directory of the queue and below.
pub(super) fn ids(dir: &Path, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            ids(&path, into);
        } else {
            into.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_taken_apart() {
        let line = "Nov 20 21:08:22 postfix postfix/lmtp[71]: 4Q1: to=<a@b.test>, orig_to=<x>, relay=127.0.0.1[127.0.0.1]:24, \
                    conn_use=2, delay=0.1, delays=0/0/0/0.1, dsn=4.2.2, status=deferred (host 127.0.0.1[127.0.0.1] said: 452 \
                    4.2.2 <a@b.test> full (in reply to end of DATA command))";
        let attempt = Attempt::read(line).unwrap();
        assert_eq!((&*attempt.agent, &*attempt.queue_id, &*attempt.to), ("lmtp", "4Q1", "a@b.test"));
        assert_eq!((&*attempt.relay, &*attempt.dsn, &*attempt.status), ("127.0.0.1[127.0.0.1]:24", "4.2.2", "deferred"));
        assert!(attempt.said.starts_with("host 127.0.0.1") && attempt.said.ends_with("DATA command)"), "{attempt:?}");
        assert_eq!(Attempt::read("Nov 20 21:08:22 postfix postfix/qmgr[71]: 4Q1: removed"), None);
    }
}
