//! A backend's log: what was written to it about our one login.
//!
//! Dovecot's words are known: `rip=`, `rport=`, `user=<...>`, `session=<...>`. A line whose session is ours is about us, and
//! shows that the backend believed what it was told: else it would have an id of its own. That our id stands somewhere else in a
//! line shows nothing: a backend may write down what it was told and not believe a word of it. A line about the same user that
//! names this proxy as the client is the proof of the opposite.
//!
//! Postfix writes down who has gone, `disconnect from NAME[IP] ... xclient=0/1 ...`, without user and session. It forgets its own
//! peer when it takes an XCLIENT, so an address that is not this proxy's is what it believed. This proxy's own address shows
//! nothing, because others may have come through it.

use super::witnessed::Witnessed;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the backend may take to write its line.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of what was appended.
const MOST: u64 = 64 << 20;

/// The log, from where it was before the login.
pub struct BackendLog {
    path: PathBuf,
    from: u64,
}

/// Whom the backend took for the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The client; the line that says so.
    Match(String),
    /// Somebody else; the line, and in words.
    Mismatch(String, String),
    /// It does not say.
    Nothing,
}

impl BackendLog {
    /// Remembers where the log ends now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<BackendLog, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let from = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(failed)?;
        Ok(BackendLog { path: path.to_owned(), from })
    }

    /// Looks what was appended, until our line is there or it takes too long.
    pub fn look_for(&self, witnessed: &Witnessed) -> Seen {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = self.appended().unwrap_or_default();
            let last = Instant::now() >= until;
            match judge(&text, witnessed, last) {
                Seen::Nothing if !last => std::thread::sleep(Duration::from_millis(50)),
                seen => return seen,
            }
        }
    }

    fn appended(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        // A log that was rotated begins anew.
        let from = if file.metadata()?.len() < self.from { 0 } else { self.from };
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// `last`: nothing more will come, so that a line that may be about another login of the same user counts, too.
fn judge(text: &str, witnessed: &Witnessed, last: bool) -> Seen {
    let Witnessed { client, source, session, destuser, .. } = witnessed;
    for line in text.lines().filter(|line| field(line, "session=") == Some(&format!("<{session}>"))) {
        match address(line, "rip=") {
            Some(rip) if rip == client.ip() => return Seen::Match(line.trim().to_owned()),
            Some(rip) => {
                return Seen::Mismatch(line.trim().to_owned(), format!("the backend takes {rip} for the client"));
            }
            None => {}
        }
    }
    for line in text.lines().filter(|line| line.contains(&format!("user=<{destuser}>"))) {
        let (Some(rip), port) = (address(line, "rip="), number(line, "rport=")) else { continue };
        // Who has told nothing but addresses (a PROXY header) is known by them.
        if rip == client.ip() && (port == Some(client.port()) || port.is_none() && rip != source.ip() && last) {
            return Seen::Match(line.trim().to_owned());
        }
        if rip == source.ip() && (port == Some(source.port()) || port.is_none() && last) {
            let why = format!("the backend takes this proxy ({rip}) for the client, and has a session id of its own");
            return Seen::Mismatch(line.trim().to_owned(), why);
        }
    }
    let by_xclient = witnessed.introduction.starts_with("XCLIENT ");
    for line in text.lines().filter(|line| !by_xclient || line.contains(" xclient=")) {
        let Some((ip, port)) = gone_from_postfix(line) else { continue };
        if ip == client.ip() && (port == Some(client.port()) || port.is_none() && ip != source.ip()) {
            return Seen::Match(line.trim().to_owned());
        }
    }
    Seen::Nothing
}

/// The client that Postfix says is gone, and its port where `smtpd_client_port_logging` has it told.
fn gone_from_postfix(line: &str) -> Option<(IpAddr, Option<u16>)> {
    let (_, rest) = line.split_once("]: disconnect from ")?;
    let (ip, rest) = rest.split_once('[')?.1.split_once(']')?;
    let port = rest.strip_prefix(':').and_then(|rest| rest.split(' ').next()?.parse().ok());
    Some((ip.parse::<IpAddr>().ok()?.to_canonical(), port))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    // `rip=` is also the end of `real_rip=`.
    let at = line.match_indices(name).map(|(at, _)| at).find(|at| {
        line.get(..*at).and_then(|before| before.chars().next_back()).is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
    })?;
    line.get(at + name.len()..)?.split([',', ' ', ')']).next()
}

fn address(line: &str, name: &str) -> Option<IpAddr> {
    field(line, name)?.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn number(line: &str, name: &str) -> Option<u16> {
    field(line, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witnessed() -> Witnessed {
        let own = "192.0.2.9:5000".parse().unwrap();
        let mut witnessed = Witnessed::of(own, "127.0.0.1:143".parse().unwrap());
        witnessed.session = "sessABC".into();
        witnessed.destuser = "alice".into();
        witnessed.source = "10.0.0.1:7000".parse().unwrap();
        witnessed
    }

    #[test]
    fn lines_of_dovecot_and_of_others() {
        let yes = |line: &str| matches!(judge(line, &witnessed(), true), Seen::Match(_));
        let no = |line: &str| matches!(judge(line, &witnessed(), true), Seen::Mismatch(..));
        assert!(yes("imap-login: Info: Login: user=<alice>, rip=192.0.2.9, lip=10.0.0.2, session=<sessABC>"));
        assert!(yes("imap-login: Info: Login: user=<alice>, real_rip=10.0.0.1, rip=192.0.2.9, session=<sessABC>"));
        // A PROXY header tells no session id.
        assert!(yes("imap-login: Info: Login: user=<alice>, rip=192.0.2.9, session=<other>"));
        assert!(no("imap-login: Info: Login: user=<alice>, rip=10.0.0.1, lip=10.0.0.2, session=<other>"));
        assert!(no("imap-login: Info: Login: user=<alice>, rip=10.0.0.1, rport=7000, session=<other>"));
        assert!(no("imap-login: Info: Login: user=<alice>, rip=198.51.100.1, session=<sessABC>"));
        for nothing in [
            "",
            "imap-login: Info: Login: user=<alice>, rip=10.0.0.1, rport=7001, session=<other>",
            "imap-login: Info: Login: user=<bob>, rip=10.0.0.1, session=<other>",
            "imap-login: Info: Login: user=<alice>, rip=198.51.100.1, session=<other>",
            // It was told, and has written that down; it does not say that it believes it.
            "imap-login: Info: ID sent: x-session-id=sessABC, x-originating-ip=192.0.2.9: user=<>, rip=10.0.0.1, session=<other>",
            "some server: session sessABC from 192.0.2.9",
        ] {
            assert_eq!(judge(nothing, &witnessed(), true), Seen::Nothing, "{nothing}");
        }
        // Without a port it may be another login of hers, so ours is waited for.
        let line = "imap-login: Info: Login: user=<alice>, rip=10.0.0.1, session=<other>";
        assert_eq!(judge(line, &witnessed(), false), Seen::Nothing);
    }

    #[test]
    fn lines_of_postfix() {
        let mut witnessed = witnessed();
        witnessed.introduction = "XCLIENT ADDR=192.0.2.9".into();
        let yes = |witnessed: &Witnessed, line: &str| matches!(judge(line, witnessed, true), Seen::Match(_));
        for line in [
            "Nov 20 19:24:14 mx postfix/smtpd[29]: disconnect from unknown[192.0.2.9] ehlo=3 xclient=0/1 auth=1 quit=1 commands=6/7",
            "postfix/submission/smtpd[29]: disconnect from a.example[192.0.2.9]:5000 ehlo=3 xclient=0/1 auth=1 quit=1 commands=6/7",
        ] {
            assert!(yes(&witnessed, line), "{line}");
        }
        for nothing in [
            "postfix/smtpd[29]: connect from unknown[192.0.2.9]",
            // It came without a proxy.
            "postfix/smtpd[29]: disconnect from unknown[192.0.2.9] ehlo=2 auth=1 quit=1 commands=4",
            "postfix/smtpd[29]: disconnect from unknown[192.0.2.9]:5001 ehlo=3 xclient=0/1 auth=1 quit=1 commands=6/7",
            "postfix/smtpd[29]: disconnect from unknown[198.51.100.1] ehlo=3 xclient=0/1 auth=1 quit=1 commands=6/7",
            // It may be anybody's whose row says proxy_not_trusted.
            "postfix/smtpd[29]: disconnect from unknown[10.0.0.1] ehlo=2 auth=1 quit=1 commands=4",
            "postfix/smtpd[29]: disconnect from unknown",
            "postfix/smtpd[29]: disconnect from unknown[no.address] xclient=1",
        ] {
            assert_eq!(judge(nothing, &witnessed, true), Seen::Nothing, "{nothing}");
        }
        // A PROXY header is not counted.
        witnessed.introduction.clear();
        assert!(yes(&witnessed, "postfix/smtpd[29]: disconnect from unknown[192.0.2.9] ehlo=2 auth=1 quit=1 commands=4"));
        witnessed.introduction = "XCLIENT ADDR=2001:db8::9".into();
        witnessed.client = "[2001:db8::9]:5000".parse().unwrap();
        assert!(yes(
            &witnessed,
            "postfix/smtpd[29]: disconnect from unknown[2001:db8::9] ehlo=3 xclient=0/1 quit=1 commands=5/6"
        ));
        // Client and proxy on one host: only the port tells them apart.
        witnessed.client = "10.0.0.1:5000".parse().unwrap();
        assert!(!yes(&witnessed, "postfix/smtpd[29]: disconnect from unknown[10.0.0.1] ehlo=3 xclient=0/1 quit=1 commands=5/6"));
        assert!(yes(
            &witnessed,
            "postfix/smtpd[29]: disconnect from unknown[10.0.0.1]:5000 ehlo=3 xclient=0/1 quit=1 commands=5/6"
        ));
    }

    #[test]
    fn only_what_is_appended_counts_and_a_rotated_log_begins_anew() {
        let dir = testkit::Dir::new();
        let line = "imap-login: Info: Login: user=<alice>, rip=192.0.2.9, session=<sessABC>\n";
        let path = dir.write("log", line);
        let log = BackendLog::open(&path).unwrap();
        assert_eq!(log.appended().unwrap(), "");
        dir.write("log", format!("{line}{line}"));
        assert_eq!(log.appended().unwrap(), line);
        dir.write("log", "new\n");
        assert_eq!(log.appended().unwrap(), "new\n");
        assert!(BackendLog::open(&dir.join("none")).is_err());
    }
}
