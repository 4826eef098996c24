//! Debian's own fail2ban counts refused logins: with the filter that it has for Dovecot, and with ours.

use super::{FORMATS, House, good, strange};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::peer::{AnyClient, Client, Conn, SmtpClient};
use testkit::{Dir, Protocol, real};

/// Our filter.
pub fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/fail2ban/filter.d/gatepost.conf")
}

/// The filter that Debian has for Dovecot. Versions up to 1.1.0 do not know the words of Dovecot 2.4: then what the later
/// ones look for is put in.
fn stock(format: &str, dir: &Dir) -> Option<PathBuf> {
    let path = PathBuf::from("/etc/fail2ban/filter.d/dovecot.conf");
    match format {
        "dovecot-2.3" => Some(path),
        "dovecot-2.4" => {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.contains("Login aborted") {
                return Some(path);
            }
            let newer = text.replace("^(?:Aborted login|", "^(?:Login aborted|Aborted login|");
            let newer = newer.replace("|proxy dest auth failed)\\):", "|proxy dest auth failed)\\)[^:]*:");
            assert_eq!(newer.matches("Login aborted").count(), 2);
            std::fs::create_dir_all(dir.join("filter.d")).unwrap();
            std::fs::copy("/etc/fail2ban/filter.d/common.conf", dir.join("filter.d/common.conf")).unwrap();
            Some(dir.write("filter.d/dovecot.conf", newer))
        }
        _ => None,
    }
}

/// How many hits each address has. `options` are those of fail2ban-regex.
#[track_caller]
pub fn hits(options: &[&str], filter: &Path, log: &Path) -> BTreeMap<IpAddr, usize> {
    let out = Command::new("fail2ban-regex").args(["-o", "ip"]).args(options).arg(log).arg(filter).output().unwrap();
    let (said, also) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!also.contains("ERROR") && !also.contains("Traceback"), "{said}{also}");
    let mut hits = BTreeMap::new();
    for line in said.lines() {
        let ip: IpAddr = line.trim().parse().unwrap_or_else(|e| panic!("{e}: {line:?}\n{also}"));
        *hits.entry(ip).or_default() += 1;
    }
    hits
}

/// Each of the filters that there are for a format.
#[track_caller]
pub fn judged(format: &str, dir: &Dir, log: &Path) -> Vec<BTreeMap<IpAddr, usize>> {
    [Some(ours()), stock(format, dir)].iter().flatten().map(|filter| hits(&[], filter, log)).collect()
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// One login from an address, and whether it went well.
#[track_caller]
pub fn login(house: &House, protocol: Protocol, from: u8, user: &str, password: &str) -> bool {
    let mut client = AnyClient::connect_from(protocol, ip(from), house.gate.at(protocol));
    client.greeting();
    let ok = client.login(user, password).ok;
    client.logout();
    ok
}

/// Logs in and fails in all the ways there are. Returns what must be counted.
pub fn all_kinds(house: &House) -> BTreeMap<IpAddr, usize> {
    use Protocol::Imap;
    // Three on one connection, which is closed with the third.
    for protocol in Protocol::ALL {
        let mut client = AnyClient::connect_from(protocol, ip(11), house.gate.at(protocol));
        client.greeting();
        for _ in 0..3 {
            assert!(!client.login("alice", "wrong").ok);
        }
        client.expect_line("Too many failed logins.");
        client.expect_end();
    }
    // Two, and a good one.
    let mut client = AnyClient::connect_from(Imap, ip(12), house.gate.at(Imap));
    client.greeting();
    for password in ["wrong", "also wrong", "right"] {
        assert_eq!(client.login("alice", password).ok, password == "right");
    }
    client.logout();
    for protocol in Protocol::ALL {
        assert!(!login(house, protocol, 13, "nobody", "wrong"));
        assert!(!login(house, protocol, 14, strange(protocol), "wrong"));
    }
    assert!(!login(house, Imap, 15, "nöbody x", "wrong"));
    // A name that cannot be one, and somebody who wants to be somebody else.
    for (authzid, user, password) in [("", "a\nb", "x"), ("paula", "alice", "right")] {
        for protocol in Protocol::ALL {
            let mut client = AnyClient::connect_from(protocol, ip(16), house.gate.at(protocol));
            client.greeting();
            assert!(!client.authenticate_plain(authzid, user, password).ok);
            client.logout();
        }
    }
    // Of whom a trusted peer tells: the address is that client's.
    let theirs: IpAddr = "2001:db8::9".parse().unwrap();
    for protocol in Protocol::ALL {
        let mut client = house.gate.any_client(protocol);
        assert!(client.introduce((theirs, 4711).into(), "told-by-a-proxy", 4).ok);
        assert!(!client.login("alice", "wrong").ok);
        client.logout();
    }
    // Trouble, and what is nobody's guess.
    for user in ["later", "dead", "odd", "gone"] {
        assert!(!login(house, Imap, 21, user, "right"), "{user}");
    }
    let port = |protocol| house.gate.at(protocol);
    for noise in [
        "",
        "a NOOP\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "a STARTTLS\r\nb NOOP\r\n",
        "STARTTLS\r\nNOOP\r\n",
        "a b c\r\na LOGIN\r\n",
        "XCLIENT ADDR=6.6.6.6.6\r\nMAIL FROM:<x>\r\nAUTHENTICATE \"PLAIN\" {3+}\r\n",
    ] {
        for protocol in Protocol::ALL {
            let mut client = AnyClient::connect_from(protocol, ip(22), port(protocol));
            client.greeting();
            let _ = client.try_send(noise);
            client.half_close();
            client.read_to_end();
        }
    }
    let mut garbage = Client::connect_from(ip(23), house.gate.imaps());
    garbage.send("no TLS at all\r\n");
    garbage.read_to_end();
    let each = Protocol::ALL.len();
    BTreeMap::from([
        (ip(11), 3 * each),
        (ip(12), 2),
        (ip(13), each),
        (ip(14), each),
        (ip(15), 1),
        (ip(16), 2 * each),
        (theirs, each),
    ])
}

#[test]
fn each_refused_login_is_a_hit_and_nothing_else_is() {
    let Some(_) = real::require("fail2ban") else { return };
    for format in FORMATS {
        let house = House::with_file(format, "");
        let expected = all_kinds(&house);
        let (dir, lines) = house.lines();
        for found in judged(format, &dir, &dir.join("log")) {
            assert_eq!(found, expected, "{format}\n{}", lines.join("\n"));
        }
    }
}

#[test]
fn fail2ban_takes_our_jail() {
    let Some(_) = real::require("fail2ban") else { return };
    let dir = Dir::new();
    let copied = Command::new("cp").args(["-r", "/etc/fail2ban/."]).arg(dir.path()).status().unwrap();
    assert!(copied.success());
    // Debian's own jail wants the log of a daemon that need not be here.
    let _ = std::fs::remove_file(dir.join("jail.d/defaults-debian.conf"));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/fail2ban");
    for file in ["filter.d/gatepost.conf", "jail.d/gatepost.conf"] {
        std::fs::copy(shipped.join(file), dir.join(file)).unwrap();
    }
    let client = |option: &str| {
        let out = Command::new("fail2ban-client").arg("-c").arg(dir.path()).arg(option).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{said}");
        said
    };
    assert!(client("-t").contains("OK"));
    let said = client("-d");
    assert!(
        said.contains("'start', 'gatepost'") && said.contains("addjournalmatch', '_SYSTEMD_UNIT=gatepost.service'"),
        "{said}"
    );
}

#[test]
fn a_thousand_good_logins_are_no_hit() {
    let Some(_) = real::require("fail2ban") else { return };
    for format in FORMATS {
        let house = House::with_file(format, "");
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let house = &house;
                scope.spawn(move || {
                    for n in 0..250 {
                        let protocol = Protocol::ALL[n % Protocol::ALL.len()];
                        assert!(login(house, protocol, 31 + worker, good(protocol), "right"));
                    }
                });
            }
        });
        let (dir, lines) = house.lines();
        let said = |piece: &str| lines.iter().filter(|line| line.contains(piece)).count();
        let (logins, ends) = match format {
            "text" => (said(" info login "), said(" info end ")),
            "json" => (said("\"event\":\"login\""), said("\"event\":\"end\"")),
            _ => (said("Started proxying to "), said(" Disconnected by ")),
        };
        assert_eq!((logins, ends, said("log-dropped")), (1000, 1000, 0), "{format}");
        for found in judged(format, &dir, &dir.join("log")) {
            assert_eq!(found, BTreeMap::new(), "{format}");
        }
    }
}

/// Names that would be somebody else's line, field or address.
fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a\nb",
        "\r\nNov 20 14:53:22 imap-login: Info: Aborted login (proxy dest auth failed): user=<x>, method=PLAIN, rip=6.6.6.6, lip=1.1.1.1",
        "\n2026-11-20T14:53:22.000Z info refused protocol=imap client=6.6.6.6:1 user=x mechanism=PLAIN reason=credentials ",
        "\n{\"time\":\"2026-11-20T14:53:22.000Z\",\"level\":\"info\",\"event\":\"refused\",\"protocol\":\"imap\",\"client\":\"6.6.6.6:1\"}",
        "esc\x1b[2J\x1b]0;x\x07",
        "bidi\u{202e}\u{2066}\u{200f}x\u{2069}",
        "lines\u{2028}\u{2029}\u{85}x",
        "x>, method=PLAIN, rip=6.6.6.6, lip=1.1.1.1, session=<y",
        "x> rip=6.6.6.6",
        "x, rip=6.6.6.6, lip=1.1.1.1",
        " rip=6.6.6.6",
        "x (auth failed, 1 attempts in 2 secs): user=<a>, rip=6.6.6.6, lip=1.1.1.1",
        "x,6.6.6.6): unknown user",
        ",6.6.6.6,",
        "\" client=6.6.6.6:1 user=x mechanism=PLAIN reason=credentials ",
        "x\\\" mechanism=PLAIN reason=credentials client=6.6.6.6:1 \\",
        "\",\"client\":\"6.6.6.6:1\",\"user\":\"x",
        "client=6.6.6.6:1",
        "6.6.6.6",
        "::ffff:6.6.6.6",
        "<HOST>",
        "Disconnected (auth failed, 1 attempts in 2 secs): rip=6.6.6.6",
        "\u{fffd}\u{1f4a9}\u{301}",
        "\\",
        "\"",
        "%n%s%x{}${x}$(x)`x`",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("x".repeat(65_000));
    names.push("rip=6.6.6.6 ".repeat(5_000));
    names.push(": ".repeat(120));
    names.push("\u{1}".repeat(255));
    names
}

/// The line is as its format says.
#[track_caller]
fn well_formed(format: &str, line: &str) {
    let clean =
        |line: &str| !line.chars().any(|c| c.is_control() || "\u{202e}\u{2066}\u{2069}\u{200f}\u{2028}\u{2029}".contains(c));
    assert!(clean(line) && line.len() < 8192, "{line:?}");
    match format {
        "json" => {
            let read: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(read["time"].is_string() && read["event"].is_string(), "{line}");
        }
        "text" => {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
            assert!(["error ", "warning ", "info ", "debug "].iter().any(|level| rest.starts_with(level)), "{line}");
        }
        _ => {
            let rest = line.get(16..).unwrap_or_else(|| panic!("no date: {line:?}"));
            let by = ["imap-login: ", "pop3-login: ", "managesieve-login: ", "submission-login: ", "gatepost: "]
                .iter()
                .find_map(|by| rest.strip_prefix(by));
            let rest = by.unwrap_or_else(|| panic!("by nobody: {line:?}"));
            assert!(["Error: ", "Warning: ", "Info: ", "Debug: "].iter().any(|level| rest.starts_with(level)), "{line}");
        }
    }
}

#[test]
fn no_name_is_more_than_one_line_or_somebody_else() {
    let Some(_) = real::require("fail2ban") else { return };
    let limits = "literal = \"64KiB\"\nfailed_logins = 1000\nbad_commands = 1000\ncommands = 1000";
    for format in FORMATS {
        let house = House::with_file(format, limits);
        let mut client = Client::connect_from(ip(66), house.gate.imap());
        client.greeting();
        let mut refused = 0;
        for name in hostile_names() {
            let reply = client.command(format!("LOGIN {{{}+}}\r\n{name} wrong", name.len()));
            assert_eq!(reply.status, "NO", "{name:?}: {reply:?}");
            refused += 1;
            if name.len() > 4096 {
                continue;
            }
            // And in the words of a refusal: whom somebody wants to be.
            let reply = client.authenticate_plain(&name, "carol", "wrong");
            assert_ne!(reply.status, "OK", "{name:?}: {reply:?}");
            refused += usize::from(reply.status == "NO");
        }
        client.no("LOGIN carol wrong", "");
        client.no("LOGIN dead wrong", "");
        client.logout();
        // What a client calls itself is in the same lines.
        let mut client = SmtpClient::connect_from(ip(66), house.gate.at(Protocol::Submission));
        client.greeting();
        for name in [
            "client=6.6.6.6:1",
            "x\",\"client\":\"6.6.6.6:1",
            "refused,client=6.6.6.6:1,user=eve,reason=credentials",
            ",rip=6.6.6.6,lip=127.0.0.1",
            "\\",
            "\"",
        ] {
            client.expect(format!("EHLO {name}"), "250");
            client.expect("AUTH PLAIN AG5vYm9keQB3cm9uZw==", "535 5.7.8");
            refused += 1;
        }
        drop(client);
        let mut other = Conn::new(std::net::TcpStream::connect(house.gate.imap()).unwrap());
        other.expect_line("* OK");
        drop(other);
        let (dir, lines) = house.lines();
        lines.iter().for_each(|line| well_formed(format, line));
        let of_logins = |line: &&String| match format {
            "json" => line.contains("\"event\":\"refused\""),
            "text" => line.contains(" refused protocol="),
            _ => [": Aborted login (", ": Login aborted: Login refused", ": proxy("].iter().any(|word| line.contains(word)),
        };
        // With carol's, and that of trouble.
        assert_eq!(lines.iter().filter(of_logins).count(), refused + 2, "{format}\n{}", lines.join("\n"));
        for found in judged(format, &dir, &dir.join("log")) {
            assert_eq!(found, BTreeMap::from([(ip(66), refused + 1)]), "{format}\n{}", lines.join("\n"));
        }
    }
}
