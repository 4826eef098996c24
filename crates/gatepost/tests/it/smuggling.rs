//! Letters that try to be two: whatever stands round a dot, no server behind Gatepost sees a mail that its client has not sent.
//!
//! Behind `DATA` only CRLF.CRLF ends a letter, and a chunk of `BDAT` is a letter's whatever it holds. Each variant of line ends
//! round a dot is followed by another envelope, and goes to three servers at once, of which each would fall for another: one that
//! takes LF, CR and CRLF for line ends alike, with `CHUNKING` and without, and a real Dovecot, which ends letters at LF.LF.

use crate::gate::BINARY;
use std::time::Duration;
use testkit::dovecot::{Backend, Options};
use testkit::gatepost::Gatepost;
use testkit::peer::{FakeLmtp, Lmtp, LmtpClient};
use testkit::{Dir, real};

/// Line ends, and what some take for one.
const ENDS: [&str; 8] = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\0", "\0\r\n", "\n\0"];

/// A letter with a second envelope in it.
struct Variant {
    number: usize,
    /// What stands in front of the dot and behind it.
    before: &'static str,
    after: &'static str,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Data,
    /// Each octet near the dot on its own.
    DataInPieces,
    Chunk,
    /// A chunk for each octet near the dot.
    Chunks,
}

impl Variant {
    fn all() -> Vec<Variant> {
        let pairs = ENDS.iter().flat_map(|before| ENDS.iter().map(move |after| (*before, *after)));
        let hows = [How::Data, How::Chunk, How::DataInPieces, How::Chunks];
        let all = pairs.flat_map(|pair| hows.map(|how| (pair, how)));
        all.enumerate().map(|(number, ((before, after), how))| Variant { number, before, after, how }).collect()
    }

    fn in_data(&self) -> bool {
        matches!(self.how, How::Data | How::DataInPieces)
    }

    /// In front of the dot's neighbourhood, that, and what is behind it.
    fn parts(&self) -> [String; 3] {
        let Variant { number, before, after, .. } = self;
        [
            format!("Subject: letter {number}\r\n\r\nfirs"),
            format!("t{before}.{after}M"),
            format!(
                "AIL FROM:<evil{number}@out.test>\r\nRCPT TO:<victim@in.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nlast\r\n.\r\n"
            ),
        ]
    }

    /// What the letter is to somebody who knows only one end, and what stands behind it.
    fn strictly(&self) -> (String, String) {
        let said = self.parts().concat();
        if !self.in_data() {
            return (said, String::new());
        }
        let (letter, behind) = said.split_once("\r\n.\r\n").unwrap();
        (format!("{letter}\r\n"), behind.to_owned())
    }

    fn is_bare(&self) -> bool {
        self.strictly().0.replace("\r\n", "").contains(['\r', '\n'])
    }

    /// It is refused by a listener that rejects line ends that are none.
    fn offends(&self, rejects: bool) -> bool {
        rejects && self.is_bare()
    }

    /// The codes of all replies behind the envelope.
    fn expected(&self, rejects: bool) -> Vec<&'static str> {
        let go_on: &[&str] = match self.how {
            How::Data | How::DataInPieces => &["354"],
            How::Chunk | How::Chunks => &[],
        };
        let then: &[&str] = match self.strictly().1.as_str() {
            _ if self.offends(rejects) => return [go_on, &["550", "550", "550", "421"]].concat(),
            "" => &["221"],
            // What follows is what its client says, and it does not wait for the answer to DATA.
            rest if rest.starts_with("MAIL") => &["250", "250", "554"],
            _ => &["500", "503", "554"],
        };
        [go_on, &["250"; 3], then].concat()
    }

    /// Whether these are the codes. A chunk that offends is refused with one reply, unless it is the last. Those before it have a
    /// yes each, and so have all before the last one of a letter that does not offend.
    fn is_answered(&self, heard: &[String], rejects: bool) -> bool {
        let expected = self.expected(rejects);
        if self.how != How::Chunks {
            return heard == expected;
        }
        let taken = self.parts()[1].len() + 1;
        let yes = heard.iter().take(taken).take_while(|code| *code == "250").count();
        let rest = &heard[yes..];
        rest == &expected[..] && yes == taken || self.offends(rejects) && yes < taken && rest == ["550", "421"]
    }

    /// Says it, and returns the codes.
    fn play(&self, gatepost: &Gatepost) -> Vec<String> {
        let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
        let to = ["lenient@in.test", "chunky@in.test", "dovecot@in.test"];
        let at_rcpt = client.envelope(&format!("s{}@out.test", self.number), &to);
        assert!(at_rcpt.iter().all(|reply| reply.is_ok()), "{at_rcpt:?}\n{}", gatepost.log().tail());
        let [front, middle, behind] = self.parts();
        let mut codes = Vec::new();
        match self.how {
            How::Data | How::DataInPieces => {
                codes.push(client.expect("DATA", "354").code.to_string());
                if self.how == How::Data {
                    client.send([front, middle, behind, "QUIT\r\n".to_owned()].concat());
                } else {
                    client.send(front);
                    client.trickle(middle, Duration::from_micros(200));
                    client.send(behind + "QUIT\r\n");
                }
            }
            How::Chunk => {
                let said = [front, middle, behind].concat();
                client.send(format!("BDAT {} LAST\r\n{said}QUIT\r\n", said.len()));
            }
            How::Chunks => {
                let octets = middle.as_bytes().iter().map(|octet| format!("BDAT 1\r\n{}", char::from(*octet)));
                let chunks: String = octets.collect();
                let (first, last) = (format!("BDAT {}\r\n{front}", front.len()), format!("BDAT {} LAST\r\n", behind.len()));
                client.send([first, chunks, last, behind, "QUIT\r\n".to_owned()].concat());
            }
        }
        let replies = String::from_utf8(client.read_to_end()).unwrap();
        codes.extend(replies.lines().map(|line| line.chars().take(3).collect()));
        codes
    }
}

#[test]
fn no_letter_is_two() {
    for mode in ["normalize", "reject"] {
        let rejects = mode == "reject";
        let lenient = FakeLmtp::start(Lmtp { lenient: true, ..Lmtp::default() }.without(&["CHUNKING"]));
        let chunky = FakeLmtp::start(Lmtp { lenient: true, ..Lmtp::default() });
        let dovecot = real::require("dovecot").map(|_| Backend::start(Options { any_user: true, ..Options::default() }));
        let third = dovecot.as_ref().map_or(lenient.port(), |dovecot| dovecot.lmtp().port());
        let gatepost =
            gatepost(mode, &[("lenient", lenient.port()), ("chunky", chunky.port()), ("dovecot", third), ("victim", third)]);
        let variants = Variant::all();
        let mut wrong = Vec::new();
        for variant in &variants {
            let Variant { before, after, how, .. } = variant;
            let (heard, expected) = (variant.play(&gatepost), variant.expected(rejects));
            if !variant.is_answered(&heard, rejects) {
                wrong.push(format!("{mode} {before:?} . {after:?} {how:?}: expected {expected:?}, heard {heard:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), gatepost.log().tail());
        // Nobody's mail is refused without a line for each recipient.
        for variant in variants.iter().filter(|variant| variant.offends(rejects)) {
            let from = format!("from=<s{}@out.test>", variant.number);
            for to in ["lenient", "chunky", "dovecot"] {
                gatepost.log().wait_for_all(&[" rejected ", &from, &format!("to={to}@in.test"), "5.6.11"]);
            }
        }
        drop(gatepost);
        let arrives = |variant: &&Variant| !variant.offends(rejects);
        let arrived: Vec<&Variant> = variants.iter().filter(arrives).collect();
        // Who says a second envelope in earnest may.
        let earnest = |mail: &str| {
            let said = |variant: &&&Variant| mail.starts_with(&format!("<evil{}@", variant.number));
            arrived.iter().find(said).is_some_and(|variant| variant.strictly().1.starts_with("MAIL"))
        };
        for fake in [&lenient, &chunky] {
            let sessions = fake.wait_for_ends(fake.connections());
            let transactions: Vec<_> = sessions.into_iter().flat_map(|session| session.transactions).collect();
            for transaction in &transactions {
                let mail = &transaction.mail;
                assert!(mail.starts_with("<s") || earnest(mail) && !transaction.is_complete(), "{mode}: {mail}");
                assert!(transaction.rcpts.iter().all(|to| !to.contains("victim")) || earnest(mail), "{mode}: {mail}");
            }
            for variant in &variants {
                let sender = format!("<s{}@", variant.number);
                let letters: Vec<_> = transactions.iter().filter(|t| t.mail.starts_with(&sender) && t.is_complete()).collect();
                assert_eq!(letters.len(), usize::from(arrives(&variant)), "{mode} {:?} . {:?}", variant.before, variant.after);
                for letter in letters {
                    let text = String::from_utf8(letter.message.clone().unwrap()).unwrap();
                    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
                    let whole = variant.strictly().1.is_empty();
                    assert_eq!(text.contains("Subject: smuggled"), whole, "{mode}: {text:?}");
                }
            }
        }
        if let Some(dovecot) = dovecot {
            let delivered = dovecot.delivered("dovecot").wait_for(arrived.len());
            let mut from: Vec<_> = delivered.iter().map(|message| message.fields("Return-Path").concat()).collect();
            let mut expected: Vec<_> = arrived.iter().map(|variant| format!("<s{}@out.test>", variant.number)).collect();
            from.sort_unstable();
            expected.sort_unstable();
            assert_eq!(from, expected, "{mode}");
            assert!(dovecot.delivered("victim").messages().is_empty(), "{mode}");
        }
    }
}

/// A Gatepost that takes letters in this manner, and knows where these live.
fn gatepost(bare_newline: &str, users: &[(&str, u16)]) -> Gatepost {
    let dir = Dir::new();
    let row = |(user, port): &(&str, u16)| format!("{user}@in.test:::::::nopassword=y proxy=y host=127.0.0.1 port={port}\n");
    dir.write("users", users.iter().map(row).collect::<String>());
    let config = format!(
        "version = 1
[server]
name = \"edge.test\"
control = \"control.sock\"
[[listen]]
protocol = \"lmtp\"
address = [\"127.0.0.1:0\"]
tls = \"none\"
bare_newline = \"{bare_newline}\"
[[users]]
driver = \"passwd-file\"
path = \"users\"
"
    );
    Gatepost::start_in(dir, BINARY, &config, |_| {})
}
