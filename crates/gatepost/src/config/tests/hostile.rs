//! Files that no operator wrote in good faith.

use super::*;
use proptest::prelude::*;

fn problems_of(octets: &[u8]) -> Vec<String> {
    let dir = Dir::furnished();
    dir.put("gatepost.toml", octets);
    dir.problems()
}

#[test]
fn large_files() {
    let told = problems_of(&vec![b'a'; 16 * 1024 * 1024]);
    assert_eq!(told, ["gatepost.toml:1:1: error[file]: cannot be read: the file is larger than 1 MiB"]);
    // A device without an end.
    let told = load(Path::new("/dev/zero"), &CATALOG).unwrap_err().to_string();
    assert_eq!(told, "/dev/zero:1:1: error[file]: cannot be read: the file is larger than 1 MiB");
}

#[test]
fn octets_that_are_no_text() {
    assert_eq!(
        problems_of(b"version = 1\nname = \"\xff\"\n"),
        ["gatepost.toml:2:9: error[file]: cannot be read: this is not UTF-8"]
    );
    assert!(problems_of(b"version = 1\n\0\n")[0].starts_with("gatepost.toml:2:1: error[syntax]"));
    assert!(problems_of(b"version = \"\0\"\n")[0].starts_with("gatepost.toml:1:"));
    // NUL that TOML allows, where the system does not.
    check(
        &format!("{TOP}[log]\nfile = \"a\\u0000b\"\n{LISTEN}{USERS}"),
        &["4:8: error[value]: `log.file` holds control characters"],
    );
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    clean(&format!("\u{feff}{TOP}{LISTEN}{USERS}"));
    clean(&format!("{TOP}{LISTEN}{USERS}").replace('\n', "\r\n"));
}

#[test]
fn empty_files() {
    for empty in ["", "\n", "# nothing\n"] {
        check(
            empty,
            &[
                "1:1: error[version]: `version` is missing|version = 1",
                "1:1: error[missing]: there is no [[listen]]",
                "1:1: error[missing]: there is no [[users]]",
            ],
        );
    }
}

#[test]
fn a_mebibyte_of_anything_is_told_in_bounds() {
    let mebibyte = |unit: &str| unit.repeat(1024 * 1024 / unit.len());
    let many: String = (0..40_000).map(|n| format!("[k{n}]\n")).collect();
    let in_one_line = format!("listen = [{}]", vec!["{a=1}"; 160_000].join(","));
    for text in [
        mebibyte("]\n"),
        mebibyte("=\n"),
        mebibyte("["),
        mebibyte("{"),
        mebibyte("a."),
        mebibyte("\""),
        mebibyte("[[listen]]\n"),
        mebibyte("[[users]]\n"),
        mebibyte("[a]\n"),
        mebibyte("[[a.b]]\n"),
        format!("version = 1\nlisten = [{}]", "{},".repeat(300_000)),
        format!("version = 1\n[trust]\nnetworks = [{}]", "\"x\",".repeat(200_000)),
        format!("version = 1\n[[listen]]\nprotocols = [{}]", "\"imap\",".repeat(100_000)),
        format!("version = 1\n[[listen]]\nprotocol = \"imap\"\naddress = [{}]", "\"*\",".repeat(200_000)),
        format!("version = 1\n[trust]\nproxy_protocol = [{}]", "\"x\",".repeat(200_000)),
        format!("version = 1\n[backend]\nsource_ips = [{}]", "\"?\",".repeat(200_000)),
        format!("version = 1\n[backend]\nsource_ips = \"{}\"", "? ".repeat(500_000)),
        format!("version = 1\n[backend]\nlocal = {{ {} }}", (0..90_000).map(|n| format!("k{n}=1,")).collect::<String>() + "z=1"),
        format!("version = {}", "9".repeat(1_000_000)),
        format!("{} = 1", "k".repeat(1_000_000)),
        format!("[server]\nname = \"{}\"", "n".repeat(1_000_000)),
        format!("[tls]\nalpn_strict = \"{}\"", "\\u001b".repeat(100_000)),
        in_one_line,
        many,
    ] {
        let begin: String = text.chars().take(60).collect();
        let started = std::time::Instant::now();
        let told = problems_of(text.as_bytes());
        // A second at most; what grows with the square of the input takes minutes.
        assert!(started.elapsed().as_secs() < 30, "{begin}: {:?}", started.elapsed());
        assert!(!told.is_empty() && told.len() <= MOST_PROBLEMS, "{begin}: {}", told.len());
        for line in told {
            assert!(line.len() < 2000, "{begin}: {} octets in one problem", line.len());
            assert!(!line.contains('\u{1b}'), "{begin}");
        }
    }
}

#[test]
fn problems_beyond_the_most_are_counted() {
    let dir = Dir::furnished();
    let networks = "\"x\",".repeat(MOST_PROBLEMS + 50);
    dir.put("gatepost.toml", format!("{TOP}[trust]\nnetworks = [{networks}]\n{LISTEN}{USERS}").as_bytes());
    let problems = dir.load().unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (MOST_PROBLEMS, 50));
    assert!(problems.to_string().ends_with("\nand 50 more"));
    // Unknown keys are kept back until the end, and count as well.
    let dir = Dir::furnished();
    let keys: String = (0..MOST_PROBLEMS + 50).map(|n| format!("zz{n} = 1\n")).collect();
    dir.put("gatepost.toml", format!("{TOP}{LISTEN}{USERS}[log]\n{keys}").as_bytes());
    let problems = dir.load().unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (MOST_PROBLEMS, 50));
}

#[test]
fn warnings_do_not_hide_errors() {
    let dir = Dir::furnished();
    // A private key that everybody can read is a warning.
    let open = vec!["{ cert = \"tls/mail.pem\", key = \"tls/mail.pem\" }"; MOST_PROBLEMS + 50].join(",");
    let good = format!("{TOP}[tls]\ncertificates = [{open}]\n{LISTEN}{USERS}");
    dir.put("gatepost.toml", good.as_bytes());
    let warnings = dir.load().unwrap().warnings;
    assert_eq!(warnings.len(), MOST_PROBLEMS + 1);
    assert_eq!((warnings[0].code, warnings[0].text.as_str()), ("more", "there are 50 more warnings"));
    dir.put("gatepost.toml", format!("{good}[limits]\nguesses = 0\nlookups = 0\n").as_bytes());
    let problems = dir.load().unwrap_err();
    assert_eq!((problems.list.len(), problems.more), (MOST_PROBLEMS, 52));
    let errors: Vec<&str> = problems.list.iter().filter(|one| one.level == Level::Error).map(|one| one.code).collect();
    assert_eq!(errors, ["range", "range"]);
}

#[test]
fn secrets_are_not_told() {
    for place in [
        "[backend]\npassword = \"hunter2\"",
        "[backend]\nclient_secret = [\"hunter2\"]",
        "[[users]]\ndriver = \"sqlite\"\npassword = \"hunter2\"",
        "[[users]]\ndriver = \"static\"\nfields = { pass = [\"hunter2\"] }",
        "[[users]]\ndriver = \"static\"\nfields = { pass = true, PASS = \"hunter2\" }",
        "[[users]]\ndriver = \"static\"\nfields = { pass = \"hunter2\\n\" }",
        "[[users]]\ndriver = \"static\"\npass = \"hunter2\"\nfields = \"hunter2\"",
        "password = \"hunter2\"",
    ] {
        let told = problems_of(format!("version = 1\n{place}\n").as_bytes());
        assert!(!told.is_empty());
        assert!(!told.concat().contains("hunter2"), "{place}: {told:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Pieces of configuration in any order: never a panic, and a refusal always has a reason.
    #[test]
    fn any_mixture(pieces in proptest::collection::vec(prop_oneof![
        Just("[server]\n"), Just("[tls]\n"), Just("[[tls.certificates]]\n"), Just("[trust]\n"), Just("[[listen]]\n"), Just("[[users]]\n"),
        Just("[backend]\n"), Just("[protocol.imap]\n"), Just("[limits]\n"), Just("[log]\n"), Just("[users.fields]\n"),
        Just("version = 1\n"), Just("name = \"x\"\n"), Just("listen = 1\n"), Just("users = {}\n"), Just("protocol = \"imap\"\n"),
        Just("protocol = {}\n"), Just("protocols = [[]]\n"), Just("address = \"[::1]:9\"\n"), Just("address = [1, {}]\n"),
        Just("tls = {}\n"), Just("tls = \"none\"\n"), Just("driver = \"static\"\n"), Just("driver = 3\n"), Just("fields = {a = {}}\n"),
        Just("fields = {a = \"b\"}\n"), Just("networks = [\"::/1\", \"8000::/1\"]\n"), Just("cert = \"\"\n"), Just("line = \"8KiB\"\n"),
        Just("idle_timeout = \"\"\n"), Just("imap_id_send = \"a\"\n"), Just("[protocol.pop3]\n"), Just("capability = \".\"\n"),
        Just("proxy_protocol = \"mixed\"\n"), Just("proxy_protocol = [\"::/1\"]\n"), Just("tls = \"offloaded\"\n"),
        Just("source_ips = \"?\"\n"), Just("source_ips = [\"?a\", []]\n"), Just("local = {imap = {}}\n"), Just("local = 1\n"), Just("\u{0}"), Just("= = ="), Just("level = 1979-05-27\n"),
    ], 0..20), cut in any::<prop::sample::Index>()) {
        let text = pieces.concat();
        let end = cut.index(text.len() + 1);
        let dir = Dir::furnished();
        dir.put("gatepost.toml", &text.as_bytes()[..end]);
        if let Ok(loaded) = dir.load() {
            prop_assert!(!loaded.meant.listen.is_empty() && !loaded.meant.users.is_empty());
        } else {
            dir.problems();
        }
    }
}
