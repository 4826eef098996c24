use super::super::imap::Imap;
use super::super::letters;
use super::super::managesieve::ManageSieve;
use super::super::pop3::Pop3;
use super::super::submission::Submission;
use super::*;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::secret::Secret;

fn server(password: Option<&'static str>, tell: impl Fn(Report) + Send + Sync + 'static) -> MailServer {
    MailServer {
        name: "east",
        mailbox: "alice",
        password,
        master: Some(("gatepost", "m")),
        vouched: Some("erin"),
        tls: None,
        letters: letters::of_east().into(),
        shelf: Arc::default(),
        verbatim: true,
        tell: Box::new(tell),
    }
}

#[test]
fn only_the_right_password_opens_the_mailbox() {
    let try_it = |own: Option<&'static str>, user: &str, authzid: Option<&str>, password: &str| {
        let password = Secret::new(password.as_bytes().to_vec());
        let authzid = authzid.map(str::to_owned);
        server(own, drop).let_in(&Login { user: user.to_owned(), authzid, password: Some(password), mechanism: Mechanism::Plain })
    };
    assert_eq!(try_it(Some("pw"), "alice", None, "pw"), Some(("alice".to_owned(), None)));
    assert_eq!(try_it(None, "gatepost", Some("alice"), "m"), Some(("alice".to_owned(), Some("gatepost".to_owned()))));
    let vouch = |user: &str| {
        server(Some("pw"), drop).let_in(&Login {
            user: user.to_owned(),
            authzid: None,
            password: None,
            mechanism: Mechanism::Xclient,
        })
    };
    assert_eq!((vouch("erin"), vouch("alice")), (Some(("erin".to_owned(), None)), None));
    for (own, user, authzid, password) in [
        (Some("pw"), "alice", None, "p"),
        (Some("pw"), "alice", None, ""),
        (Some("pw"), "bob", None, "pw"),
        (Some("pw"), "erin", None, ""),
        (Some("pw"), "gatepost", None, "m"),
        (Some("pw"), "gatepost", Some("bob"), "m"),
        (Some("pw"), "gatepost", Some("alice"), "pw"),
        (Some("pw"), "alice", Some("alice"), "pw"),
        (None, "alice", None, ""),
    ] {
        assert_eq!(try_it(own, user, authzid, password), None, "{own:?} {user} {authzid:?} {password}");
    }
}

fn on_a_server(speech: &'static dyn Speech, test: impl AsyncFnOnce(SocketAddr, Arc<Mutex<Vec<Report>>>)) {
    on_a_port(Spoken::Logins(speech), test);
}

fn on_a_port(spoken: Spoken, test: impl AsyncFnOnce(SocketAddr, Arc<Mutex<Vec<Report>>>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reports: Arc<Mutex<Vec<Report>>> = Arc::default();
        let heard = Arc::clone(&reports);
        let bound = bind().unwrap();
        let address = bound.address;
        let server = Arc::new(server(Some("pw"), move |report| heard.lock().unwrap().push(report)));
        tokio::select! {
            () = server.let_everybody_in(spoken, bound) => unreachable!("it serves for ever"),
            () = test(address, reports) => {}
        }
    });
}

/// Says something and reads until the server hangs up.
async fn all_it_says(to: SocketAddr, said: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(said).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn it_tells_what_it_was_told_before_it_answers() {
    on_a_server(&Imap, async |address, reports| {
        let said = b"a ID (\"x-originating-ip\" \"192.0.2.7\" \"x-originating-port\" \"5\" \"x-proxy-ttl\" \"4\")\r\n\
                     b LOGIN alice pw\r\nc SELECT INBOX\r\nd LOGOUT\r\n";
        let answer = all_it_says(address, said).await;
        assert!(answer.contains("\r\nc OK [READ-ONLY] ") && answer.ends_with("\r\nd OK That was all.\r\n"), "{answer}");
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        let told = reports.iter().find_map(|r| if let What::Told { who, .. } = &r.what { Some(who) } else { None }).unwrap();
        assert_eq!((told.client_ip, told.client_port), (Some("192.0.2.7".parse().unwrap()), Some(5)));
        let login = reports.iter().position(|r| matches!(&r.what, What::Login { user, introduced: true, .. } if user == "alice"));
        let answered = reports.iter().position(|r| matches!(&r.what, What::Answered(line) if line.starts_with("b OK ")));
        assert!(login.is_some() && login < answered, "{reports:?}");
        assert!(!format!("{reports:?}").contains("alice pw"), "{reports:?}");
    });
}

#[test]
fn guessing_junk_and_hurry_end_one_connection() {
    on_a_server(&Imap, async |address, _| {
        let answer = all_it_says(address, &b"a LOGIN alice x\r\n".repeat(10)).await;
        assert_eq!(answer.matches("a NO [AUTHENTICATIONFAILED] ").count(), 3, "{answer}");
        assert!(answer.ends_with("* BYE Too many failed logins.\r\n"), "{answer}");
        for junk in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", &[0xff; 20_000], &b"x\r\n".repeat(50)] {
            let answer = all_it_says(address, junk).await;
            assert!(!answer.contains(" OK You are in"), "{answer}");
        }
        let answer = all_it_says(address, b"a LOGIN alice pw\r\nb LOGOUT\r\n").await;
        assert!(answer.contains("a OK [CAPABILITY "), "the next one is served: {answer}");
    });
}

#[test]
fn it_tells_and_answers_in_pop3_too() {
    on_a_server(&Pop3, async |address, reports| {
        let said = b"XCLIENT ADDR=192.0.2.7 PORT=5 TTL=4\r\nUSER alice\r\nPASS pw\r\nSTAT\r\nDELE 1\r\nQUIT\r\n";
        let answer = all_it_says(address, said).await;
        assert!(answer.starts_with("+OK [XCLIENT] Gatepost demo server east ready.\r\n+OK Updated\r\n"), "{answer}");
        assert!(
            answer.ends_with("-ERR [SYS/PERM] In this demo nothing can be changed.\r\n+OK Goodbye from east.\r\n"),
            "{answer}"
        );
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        let told = reports.iter().find_map(|r| if let What::Told { who, by, .. } = &r.what { Some((who, *by)) } else { None });
        let (who, by) = told.unwrap();
        assert_eq!((who.client_ip, who.client_port, by), (Some("192.0.2.7".parse().unwrap()), Some(5), "XCLIENT"));
        assert!(reports.iter().any(|r| matches!(&r.what, What::Login { user, by: "USER and PASS", .. } if user == "alice")));
        assert!(!format!("{reports:?}").contains("PASS pw"), "{reports:?}");
    });
}

#[test]
fn it_tells_and_answers_in_managesieve_too() {
    on_a_server(&ManageSieve, async |address, reports| {
        let said = b"XCLIENT ADDR=192.0.2.7 PORT=5 TTL=4\r\nAUTHENTICATE \"PLAIN\" {12+}\r\nAGFsaWNlAHB3\r\n\
            PUTSCRIPT \"a\" \"keep;\"\r\nLOGOUT\r\n";
        let answer = all_it_says(address, said).await;
        assert!(answer.starts_with("\"IMPLEMENTATION\" \"Gatepost-demo\"\r\n\"SIEVE\" \"fileinto "), "{answer}");
        assert!(answer.contains("\r\n\"XCLIENT\"\r\nOK \"Gatepost demo server east ready.\"\r\nOK \"Updated\"\r\n"), "{answer}");
        assert!(answer.ends_with("\r\nOK \"Stored until the demo ends.\"\r\nOK \"Goodbye from east.\"\r\n"), "{answer}");
        let again = all_it_says(address, b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHB3\"\r\nLISTSCRIPTS\r\nLOGOUT\r\n").await;
        assert!(again.contains("\r\n\"a\"\r\nOK "), "it is still there: {again}");
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        let told = reports.iter().find_map(|r| if let What::Told { who, by, .. } = &r.what { Some((who, *by)) } else { None });
        let (who, by) = told.unwrap();
        assert_eq!((who.client_ip, who.client_port, by), (Some("192.0.2.7".parse().unwrap()), Some(5), "XCLIENT"));
        assert!(reports.iter().any(|r| matches!(&r.what, What::Login { by: "AUTHENTICATE PLAIN", .. })));
        assert!(reports.iter().any(|r| matches!(&r.what, What::Took(Took::Script { name, octets: 5 }) if name == "a")));
        assert!(!format!("{reports:?}").contains("AGFsaWNlAHB3"), "{reports:?}");
    });
}

/// Says something and reads up to this.
async fn answered(stream: &mut TcpStream, said: &str, until: &str) -> String {
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains(until) {
        let mut octets = [0; 4096];
        let count = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut octets)).await.unwrap().unwrap();
        assert!(count > 0, "{said}: {answer}");
        answer.push_str(std::str::from_utf8(&octets[..count]).unwrap());
    }
    answer
}

#[test]
fn it_tells_and_answers_in_submission_too() {
    on_a_server(&Submission, async |address, reports| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Whoever says EHLO or DATA waits for the answer (RFC 2920).
        for (said, until) in [
            ("", "220 east ESMTP Gatepost demo server east ready.\r\n"),
            (
                "XCLIENT ADDR=IPV6:2001:db8::7 PORT=5 PROTO=ESMTP HELO=a.example TTL=4 CLIENT-TRANSPORT=TLS\r\n",
                "220 east ESMTP Gatepost demo server east ready.\r\n",
            ),
            ("EHLO gatepost.example\r\n", "250 XCLIENT "),
            ("AUTH PLAIN\r\n", "334 \r\n"),
            ("AGFsaWNlAHB3\r\n", "235 2.7.0 You are in, this is east.\r\n"),
            ("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "354 Go on, and end with a dot alone.\r\n"),
            ("Hello\r\n.\r\nQUIT\r\n", "221 2.0.0 Goodbye from east.\r\n"),
        ] {
            answered(&mut stream, said, until).await;
        }
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        let told = reports.iter().find_map(|r| if let What::Told { who, by, .. } = &r.what { Some((who, *by)) } else { None });
        let (who, by) = told.unwrap();
        assert_eq!((who.client_ip, who.client_port, by), (Some("2001:db8::7".parse().unwrap()), Some(5), "XCLIENT"));
        assert!(reports.iter().any(|r| matches!(&r.what, What::Login { by: "AUTH PLAIN", introduced: true, .. })));
        let letter = reports.iter().find_map(|r| if let What::Took(took) = &r.what { Some(took.to_string()) } else { None });
        let expected =
            "took a letter of 7 octets from <a@b> to <c@d>; Received: from a.example ([2001:db8::7]:5) by east with ESMTPSA";
        assert_eq!(letter.as_deref(), Some(expected));
        assert!(!format!("{reports:?}").contains("AGFsaWNlAHB3"), "{reports:?}");
    });
}

#[test]
fn guessing_and_junk_end_one_connection_in_submission_too() {
    on_a_server(&Submission, async |address, _| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        answered(&mut stream, "EHLO x\r\n", "250 XCLIENT ").await;
        let guesses = "AUTH PLAIN AGFsaWNlAHg=\r\n".repeat(10);
        let answer = answered(&mut stream, &guesses, "421 4.7.0 Too many failed logins.\r\n").await;
        assert_eq!(answer.matches("535 5.7.8 ").count(), 3, "{answer}");
        let inside = [&b"AUTH PLAIN AGFsaWNlAHB3\r\n"[..], &[0xff; 20_000]].concat();
        for junk in
            [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", &[0xff; 20_000], &b"x\r\n".repeat(50), &inside]
        {
            let answer = all_it_says(address, junk).await;
            assert!(!answer.contains("235 "), "nobody has said EHLO: {answer}");
        }
        let answer = all_it_says(address, b"EHLO x\r\nQUIT\r\n").await;
        assert!(answer.contains("\r\n554 5.5.0 "), "who does not wait hears of it: {answer}");
        let answer = all_it_says(address, b"QUIT\r\n").await;
        assert!(answer.ends_with("221 2.0.0 Bye.\r\n"), "the next one is served: {answer}");
    });
}

#[test]
fn guessing_and_junk_end_one_connection_in_managesieve_too() {
    on_a_server(&ManageSieve, async |address, _| {
        let answer = all_it_says(address, &b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHg=\"\r\n".repeat(10)).await;
        assert_eq!(answer.matches("NO \"Authentication failed.\"\r\n").count(), 3, "{answer}");
        assert!(answer.ends_with("BYE \"Too many failed logins.\"\r\n"), "{answer}");
        let inside = [&b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHB3\"\r\n"[..], &[0xff; 20_000]].concat();
        for junk in
            [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", &[0xff; 20_000], &b"x\r\n".repeat(50), &inside]
        {
            let answer = all_it_says(address, junk).await;
            assert_eq!(answer.contains("OK \"You are in"), junk == inside, "{answer}");
        }
        let answer = all_it_says(address, b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHB3\"\r\nLOGOUT\r\n").await;
        assert!(answer.ends_with("OK \"Goodbye from east.\"\r\n"), "the next one is served: {answer}");
    });
}

#[test]
fn guessing_and_junk_end_one_connection_in_pop3_too() {
    on_a_server(&Pop3, async |address, _| {
        let answer = all_it_says(address, &b"USER alice\r\nPASS x\r\n".repeat(10)).await;
        assert_eq!(answer.matches("-ERR [AUTH] ").count(), 3, "{answer}");
        assert!(answer.ends_with("-ERR Too many failed logins.\r\n"), "{answer}");
        let inside = [&b"USER alice\r\nPASS pw\r\n"[..], &[0xff; 20_000]].concat();
        for junk in
            [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", &[0xff; 20_000], &b"x\r\n".repeat(50), &inside]
        {
            let answer = all_it_says(address, junk).await;
            assert_eq!(answer.contains("+OK You are in"), junk == inside, "{answer}");
        }
        let answer = all_it_says(address, b"USER alice\r\nPASS pw\r\nQUIT\r\n").await;
        assert!(answer.ends_with("+OK Goodbye from east.\r\n"), "the next one is served: {answer}");
    });
}

#[test]
fn more_connections_than_it_has_seats_for_are_closed() {
    on_a_server(&Imap, async |address, _| {
        let mut greeted = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(stream.read_u8().await.is_ok_and(|octet| octet == b'*'));
            greeted.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(stream.read_u8().await.is_err(), "one too many");
        drop(greeted);
        let answer = async { all_it_says(address, b"a LOGOUT\r\n").await };
        // The seats are free once the server has seen the others go.
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            if stream.read_u8().await.is_ok() {
                break;
            }
        }
        assert!(answer.await.contains("a OK "));
    });
}

#[test]
fn letters_are_taken_for_those_who_live_there() {
    on_a_port(Spoken::Lmtp, async |address, reports| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let large = format!("{}\r\n", "x".repeat(998)).repeat(300);
        for (say, expected) in [
            ("LHLO mx.example", "250 XRCPTFORWARD\r\n"),
            ("XCLIENT ADDR=192.0.2.7 PORT=5 HELO=there.example", "220 east "),
            ("LHLO mx.example", "250 XRCPTFORWARD\r\n"),
            ("DATA", "503 5.5.1 "),
            ("MAIL FROM:<>\r\nRCPT TO:<bob>\r\nRCPT TO:<alice@example.com>", "550 5.1.1 "),
            ("RSET", "250 2.0.0 "),
            ("MAIL FROM:<x@example.org>\r\nRCPT TO:<erin>\r\nRCPT TO:<alice>", "250 2.1.5 Fine.\r\n250 2.1.5 Fine.\r\n"),
            ("BDAT 3\r\na\r\nBDAT 3 LAST\r\nb", "250 2.0.0 <erin> This is east, it was taken.\r\n250 2.0.0 <alice> "),
            ("MAIL FROM:<x@example.org>\r\nRCPT TO:<alice>\r\nDATA", "354 "),
            (&format!("{large}."), "552 5.3.4 "),
            ("QUIT", "221 2.0.0 "),
        ] {
            stream.write_all(format!("{say}\r\n").as_bytes()).await.unwrap();
            let mut heard = String::new();
            while !heard.contains(expected) {
                let mut octets = [0; 4096];
                let count = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut octets)).await.expect(&heard).unwrap();
                assert!(count > 0, "{expected:?} was expected, not {heard}");
                heard.push_str(&String::from_utf8_lossy(&octets[..count]));
            }
        }
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        let letters: Vec<_> = reports
            .iter()
            .filter_map(|r| if let What::Took(Took::Letter(letter)) = &r.what { Some(letter) } else { None })
            .collect();
        let [letter] = letters.as_slice() else { panic!("one letter: {letters:?}") };
        assert_eq!((letter.from.as_str(), letter.octets.as_slice()), ("x@example.org", &b"a\r\nb\r\n"[..]));
        assert_eq!(letter.to, ["erin", "alice"]);
        assert_eq!(letter.received, "from there.example ([192.0.2.7]:5) by east with LMTP");
    });
}
