//! The letters that lie in the demo's mailboxes.
//!
//! Short ASCII letters (RFC 5322) with fixed dates, so that a demo shows the same every time. A [`Letter`] is made of its
//! fields and keeps them beside its octets, so that `ENVELOPE` needs no parser of header fields.

use super::scene::Person;
use super::speech::Errand;

/// Which generation of the mailbox's identifiers it is. They last for ever, as nothing is ever added or removed.
pub const UID_VALIDITY: u32 = 20_260_601;

/// A letter as it lies in a mailbox.
#[derive(Debug)]
pub struct Letter {
    /// All octets; every line ends in CRLF.
    octets: Vec<u8>,
    /// Where the body begins, behind the empty line.
    body: usize,
    /// The fields that `ENVELOPE` tells.
    pub fields: Fields,
}

/// The header fields of a letter.
#[derive(Debug)]
pub struct Fields {
    /// `Date`.
    pub date: &'static str,
    /// The same as `INTERNALDATE` has it.
    pub internal_date: &'static str,
    /// `Subject`.
    pub subject: &'static str,
    /// `From`: the name to show, the local part and the domain.
    pub from: (&'static str, &'static str, &'static str),
    /// `To`, likewise.
    pub to: (&'static str, &'static str, &'static str),
    /// `Message-ID` with its brackets.
    pub message_id: String,
}

impl Letter {
    fn new(fields: Fields, body: &str) -> Letter {
        let address = |(name, local, domain): (&str, &str, &str)| format!("{name} <{local}@{domain}>");
        let header = format!(
            "Date: {}\nFrom: {}\nTo: {}\nSubject: {}\nMessage-ID: {}\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\n\n",
            fields.date,
            address(fields.from),
            address(fields.to),
            fields.subject,
            fields.message_id,
        )
        .replace('\n', "\r\n");
        let octets = [header.as_bytes(), body.replace('\n', "\r\n").as_bytes()].concat();
        Letter { octets, body: header.len(), fields }
    }

    /// The whole letter.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Its header with the empty line behind it.
    pub fn header(&self) -> &[u8] {
        self.octets.get(..self.body).unwrap_or_default()
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        self.octets.get(self.body..).unwrap_or_default()
    }
}

/// The errand of somebody who fetches the first letter with these commands.
pub fn fetched(person: &Person, letters: &[Letter], commands: &[&str]) -> Errand {
    Errand {
        commands: commands.iter().map(|command| (*command).to_owned()).collect(),
        goods: letters.first().map(|letter| letter.octets().to_vec()).unwrap_or_default(),
        arrives: format!("letter 1 arrived octet by octet as {} sent it", person.server),
    }
}

/// What lies in alice's mailbox on east.
pub fn of_east() -> Vec<Letter> {
    let alice = ("Alice", "alice", "localhost");
    write("east", alice, &EAST)
}

/// What lies in bob's mailbox on west.
pub fn of_west() -> Vec<Letter> {
    let bob = ("Bob", "bob", "example.com");
    write("west", bob, &WEST)
}

fn write(server: &'static str, to: (&'static str, &'static str, &'static str), texts: &[(&'static str, &str); 3]) -> Vec<Letter> {
    const DATES: [(&str, &str); 3] = [
        ("Mon, 01 Jun 2026 09:00:00 +0000", "01-Jun-2026 09:00:00 +0000"),
        ("Mon, 01 Jun 2026 09:05:00 +0000", "01-Jun-2026 09:05:00 +0000"),
        ("Tue, 02 Jun 2026 07:30:00 +0000", "02-Jun-2026 07:30:00 +0000"),
    ];
    let both = DATES.iter().zip(texts).enumerate();
    both.map(|(n, ((date, internal_date), (subject, body)))| {
        let message_id = format!("<letter-{}@{server}.example>", n.saturating_add(1));
        Letter::new(Fields { date, internal_date, subject, from: ("The demo", "demo", "localhost"), to, message_id }, body)
    })
    .collect()
}

const EAST: [(&str, &str); 3] = [
    (
        "You have reached east",
        "Hello Alice,\n\
         \n\
         you asked Gatepost, and Gatepost knew that you\n\
         live on the mail server east. It signed in\n\
         here for you with the password you typed, and\n\
         since then it does nothing but carry bytes\n\
         ...even where a line begins with dots.\n",
    ),
    (
        "Who is calling?",
        "Hello Alice,\n\
         \n\
         the connection to this server comes from\n\
         Gatepost, and still its log shows your own\n\
         address and port: Gatepost said them before it\n\
         signed in, by ID in IMAP and by XCLIENT in\n\
         all others. Look at the line \"east: was told\".\n",
    ),
    (
        "What to try next",
        "Hello Alice,\n\
         \n\
         mistype your password: east is asked, because\n\
         your row in the user database holds none. Then\n\
         do the same as bob@example.com: west hears\n\
         nothing of it.\n",
    ),
];

const WEST: [(&str, &str); 3] = [
    (
        "You have reached west",
        "Hello Bob,\n\
         \n\
         the same address, the same port, another\n\
         server: this is west. The way from Gatepost to\n\
         here is encrypted with STARTTLS, and Gatepost\n\
         has checked this server's certificate.\n\
         .\n\
         (A dot alone ends a letter in POP3. Not here.)\n",
    ),
    (
        "You are not who you said you are",
        "Hello Bob,\n\
         \n\
         you signed in as bob@example.com; your mailbox\n\
         here is just bob. The column destuser in the\n\
         user database says so.\n",
    ),
    (
        "Your password stopped at the gate",
        "Hello Bob,\n\
         \n\
         Gatepost checked your password against the\n\
         user database and opened your mailbox with the\n\
         name and password of a master user. This\n\
         server has never seen yours.\n",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_fit_for_the_wire() {
        for letter in of_east().iter().chain(&of_west()) {
            let text = std::str::from_utf8(letter.octets()).unwrap();
            assert!(text.is_ascii() && text.ends_with("\r\n"));
            for line in text.split_inclusive("\r\n") {
                // Both columns of `--once` show them unfolded.
                assert!(line.ends_with("\r\n") && line.len() <= 50, "{line:?}");
                assert!(!line.trim_end_matches("\r\n").contains(['\r', '\n']), "{line:?}");
            }
            assert!(letter.header().ends_with(b"\r\n\r\n"));
            assert!(letter.body().starts_with(b"Hello "));
            assert_eq!([letter.header(), letter.body()].concat(), letter.octets());
        }
    }
}
