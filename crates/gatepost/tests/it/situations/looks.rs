//! What takes more than one look: a backend that dies, a database in trouble, certificates; and where no Gatepost runs.

use super::house::{House, dead_user};
use super::ip;
use crate::explained::{Asked, Told, without_tag, word};
use crate::fields::spelling::{SPELLINGS, SignIn, Way};
use crate::gate::{BINARY, Gate, Want, listeners_for};
use std::process::Command;
use testkit::certs::Authority;
use testkit::wait::{PATIENCE, poll};
use testkit::{Dir, Protocol};

#[test]
fn a_backend_that_is_down_is_told_with_its_error_and_is_not_tried() {
    let house = House::start();
    for spelling in SPELLINGS {
        let user = &*dead_user(spelling.protocol());
        let words = [user, "--protocol", spelling.protocol().name(), "--from", "127.0.0.1", "--in-clear"];
        let before = house.explain(&words, None);
        assert_eq!(before.verdict(), "signs-in", "nobody has tried it: {before:?}");
        let state = |told: &Told| told.steps("backend").next().unwrap()["state"].as_str().unwrap().to_owned();
        assert_eq!(state(&before), "unknown");
        let login = || {
            let mut client = house.usual(spelling.protocol(), ip(1));
            let sign_in = SignIn { way: Way::Command, authzid: String::new(), user: user.into(), password: "tiger".into() };
            let log = house.gate.gatepost.log().from_here();
            let heard = spelling.sign_in(&mut client, &sign_in);
            (heard, log.wait_for_all(&[" refused ", &format!("user={user} ")]))
        };
        // A probe may be due between the two; then there is another turn.
        let agreed = poll(PATIENCE, || {
            let told = house.explain(&words, None);
            let (heard, line) = login();
            (told.verdict() == "refused" && line.contains("reason=backend-down")).then_some((told, heard, line))
        });
        let (told, heard, line) = agreed.expect("a login that was not tried");
        told.check_refused(&line, &heard);
        assert_eq!(state(&told), "down");
        let step = told.steps("backend").next().unwrap();
        assert!(step["last_error"].as_str().unwrap().contains("refused"), "{step}");
        assert_eq!(without_tag(&heard), without_tag(told.hears()[0]));
        // However often it is explained, nobody's turn to try it is taken.
        let probed = poll(PATIENCE, || {
            for _ in 0..5 {
                house.explain(&words, None);
            }
            login().1.contains("reason=connect").then_some(())
        });
        assert!(probed.is_some(), "the next probe is a login's");
    }
}

#[test]
fn the_certificate_is_the_one_that_a_client_is_shown() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "names");
    let issued = [("first", "first.example"), ("second", "second.example"), ("wild", "*.wild.example")];
    let certificates = issued.map(|(stem, name)| authority.server(stem, &[name]));
    let config =
        crate::gate::config(&Want { users: &crate::gate::everybody_at(([127, 0, 0, 1], 1).into(), ""), ..Want::default() });
    let list = issued.map(|(stem, _)| format!("{{ cert = \"{stem}.pem\", key = \"{stem}.key\" }}")).join(", ");
    let config = config.replace("{ cert = \"gate.pem\", key = \"gate.key\" }", &list);
    let tls = authority.client_config();
    let gate = Gate::start_with(dir, &config);
    for (name, expected, fits) in [("first.example", 0, true), ("second.example", 1, true), ("mail.wild.example", 2, true)] {
        let words = ["alice", "--protocol", "imaps", "--sni", name];
        let told = Asked { gatepost: &gate.gatepost, words: &words }.explain(None);
        let step = told.steps("tls").next().unwrap();
        assert!(step["certificate"].as_str().unwrap().ends_with(&format!("{}.pem", issued[expected].0)), "{step}");
        assert_eq!(step["fits"], fits);
        let client = testkit::peer::Client::connect_tls(gate.imaps(), &tls, name);
        assert_eq!(client.peer_certificate().as_deref(), Some(certificates[expected].der()), "{name}");
    }
    let other =
        Asked { gatepost: &gate.gatepost, words: &["alice", "--protocol", "imaps", "--sni", "other.example"] }.explain(None);
    let step = other.steps("tls").next().unwrap();
    assert!(step["certificate"].as_str().unwrap().ends_with("first.pem") && step["fits"] == false, "{step}");
}

#[test]
fn a_database_in_trouble_is_told_as_that_and_never_as_a_wrong_password() {
    let dir = Dir::new();
    let config = crate::gate::config(&Want {
        users: "[[users]]\nname = \"rows\"\ndriver = \"passwd-file\"\npath = \"rows\"\n",
        more: &Protocol::ALL.map(listeners_for).concat(),
        ..Want::default()
    });
    dir.write("rows", "alice:{PLAIN}tiger::::::proxy=y host=127.0.0.1\n");
    let gate = Gate::start_with(dir, &config);
    std::fs::remove_file(gate.gatepost.dir().join("rows")).unwrap();
    for spelling in SPELLINGS {
        let words = ["alice", "--protocol", spelling.protocol().name(), "--from", "127.0.0.1", "--in-clear"];
        let told = poll(PATIENCE, || {
            let told = Asked { gatepost: &gate.gatepost, words: &words }.explain(None);
            (told.verdict() == "refused").then_some(told)
        });
        let told = told.expect("the file is looked at again within a second");
        let mut client = gate.any_client(spelling.protocol());
        let sign_in = SignIn { way: Way::Command, authzid: String::new(), user: "alice".into(), password: "tiger".into() };
        let log = gate.gatepost.log().from_here();
        let heard = spelling.sign_in(&mut client, &sign_in);
        let line = log.wait_for_all(&[" refused ", "user=alice "]);
        assert_eq!(word(&line, "reason").as_deref(), Some("lookup"));
        told.check_refused(&line, &heard);
    }
}

#[test]
fn without_a_gatepost_the_file_is_explained_and_nonsense_is_refused() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "gate");
    authority.server("gate", &["localhost"]);
    dir.write(
        "gatepost.toml",
        crate::gate::config(&Want { users: &crate::gate::everybody_at(([127, 0, 0, 1], 1430).into(), ""), ..Want::default() }),
    );
    let explain = |words: &[&str]| {
        let config = dir.join("gatepost.toml");
        let out = Command::new(BINARY).args(["explain", "login"]).args(words).arg("--config").arg(config).output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
    };
    let (code, out, _) = explain(&["alice"]);
    assert_eq!(code, 0, "{out}");
    let first = out.lines().next().unwrap();
    assert!(
        first.starts_with("no running Gatepost at ") && first.ends_with("from the file alone; limits and health are unknown")
    );
    assert!(!out.contains("\nlimit "), "what is unknown is not told: {out}");
    assert!(out.contains("would sign \"alice\" in at 127.0.0.1:1430"), "{out}");
    let (code, out, _) = explain(&["al\u{1b}[31mice", "--from-file"]);
    assert!(code == 1 && !out.contains('\u{1b}'), "{out:?}");
    for (words, code, why) in [
        (&["alice", "--protocol", "gopher"][..], 2, "there is no protocol \"gopher\""),
        (&["alice", "--from", "mail.example"], 2, "neither an address"),
        (&["alice", "--listener", "127.0.0.1:9"], 2, "no such listener; there are: "),
        (&["al\nice"], 2, "no client can say this user name"),
        (&["alice", "--ttl", "3"], 2, "--via"),
        (&["alice", "--helo", "a b"], 2, "\"a b\" would not be told to anybody"),
        (&["alice", "--protocol", "imaps", "--in-clear"], 2, "nobody is in clear"),
        (&["alice", "--socket", "nobody.sock"], 69, "is Gatepost running, with this server.control, and may you use it?"),
        (&["alice", "--config", "/nonexistent/gatepost.toml"], 2, "cannot be used multiple times"),
    ] {
        let (is, _, errors) = explain(words);
        assert!(is == code && errors.contains(why), "{words:?}: {is}, {errors}");
    }
    dir.write("gatepost.toml", "version = 1\nnonsense = 1\n");
    assert_eq!(explain(&["alice"]).0, 78);
}
