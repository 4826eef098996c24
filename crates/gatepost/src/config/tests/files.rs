//! Several files.

use super::*;

#[track_caller]
fn check_files(files: &[(&str, &str)], expected: &[&str]) {
    let dir = Dir::furnished();
    for (name, text) in files {
        dir.put(name, text.as_bytes());
    }
    compare(&format!("{files:#?}"), &dir.problems(), expected);
}

#[test]
fn arrays_are_joined_in_the_order_of_names() {
    let dir = Dir::furnished();
    dir.put("gatepost.toml", format!("{TOP}[trust]\nnetworks = [\"192.0.2.1\"]\n{LISTEN}{USERS}").as_bytes());
    dir.put("conf.d/20-b.toml", b"version = 1\n[trust]\nnetworks = [\"192.0.2.3\"]\n");
    dir.put("conf.d/10-a.toml", b"[trust]\nnetworks = [\"192.0.2.2\"]\n[[users]]\nname = \"second\"\ndriver = \"sqlite\"\npath = \"../users.db\"\nquery = \"q\"\n[limits]\nguesses = 7\n");
    // Neither is a configuration.
    dir.put("conf.d/30-c.toml.bak", b"rubbish =");
    dir.put("conf.d/.40-d.toml", b"rubbish =");
    let loaded = dir.load().unwrap();
    let networks: Vec<String> = loaded.meant.trust.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"]);
    assert_eq!(loaded.meant.limits.guesses, 7);
    let names: Vec<&str> = loaded.meant.users.iter().map(|users| users.name.as_str()).collect();
    assert_eq!(names, ["static-1", "second"]);
    let base = &dir.0;
    assert_eq!(loaded.files, [base.join("gatepost.toml"), base.join("conf.d/10-a.toml"), base.join("conf.d/20-b.toml")]);
    let path = &loaded.meant.users[1].own["path"];
    assert_eq!(path.value, meant::Own::Path(base.join("conf.d/../users.db")), "relative to the file it stands in");
    assert_eq!(path.at, format!("{}:6:8", base.join("conf.d/10-a.toml").display()));
}

#[test]
fn one_setting_in_two_files() {
    check_files(
        &[
            ("gatepost.toml", &format!("{TOP}[limits]\nguesses = 5\n{LISTEN}{USERS}")),
            ("conf.d/a.toml", "[limits]\nguesses = 5\n[backend]\ntls_pin = \"x\"\n"),
            ("conf.d/b.toml", "limits = 3\n[backend]\ntls_pin = []\n"),
        ],
        &[
            "conf.d/a.toml:2:1: error[twice]: `limits.guesses` is set already at |gatepost.toml:4:1|keep one of the two",
            "conf.d/a.toml:4:11: error[value]: `backend.tls_pin`",
            "conf.d/b.toml:1:1: error[twice]: `limits` is set already at |gatepost.toml:3:2",
            "conf.d/b.toml:3:1: error[twice]: `backend.tls_pin` is set already at |conf.d/a.toml:4:1",
        ],
    );
}

#[test]
fn problems_of_all_files_are_told_at_once() {
    check_files(
        &[
            ("gatepost.toml", "[server]\nname = \"a b\"\n[[users]]\ndriver = \"statik\"\n"),
            ("conf.d/a.toml", "version = 2\n[limits]\nline = 5\n"),
            ("conf.d/b.toml", "[limits\n"),
            ("conf.d/c.toml", "[log]\nlevel = \"loud\"\n"),
        ],
        &[
            "gatepost.toml:2:8: error[value]: `server.name`: `a b` holds other characters",
            "gatepost.toml:4:10: error[value]: `users.driver` cannot be `statik`|did you mean `static`?",
            "conf.d/a.toml:1:11: error[version]: `version` is 2; this program reads 1",
            "conf.d/a.toml:3:8: error[kind]: `limits.line` is a number without a unit|\"5B\"",
            // The version, listener and certificates that are missing may stand in this one.
            "conf.d/b.toml:1:|error[syntax]",
            "conf.d/c.toml:2:9: error[value]: `log.level` cannot be `loud`|`error`, `warning`, `info`, `debug`",
        ],
    );
}

#[test]
fn a_main_file_with_mistakes_of_toml_does_not_hide_its_neighbours() {
    check_files(
        &[("gatepost.toml", "version 1\n"), ("conf.d/a.toml", "[limits]\nguesses = 0\n")],
        &[
            "gatepost.toml:1:|error[syntax]",
            "conf.d/a.toml:2:11: error[range]: `limits.guesses` is 0; it must be from 1 to 1000000",
        ],
    );
}

#[test]
fn files_that_cannot_be_read() {
    check_files(&[], &["gatepost.toml:1:1: error[file]: cannot be read: No such file or directory"]);
    check_files(&[("gatepost.toml/x", "")], &["gatepost.toml:1:1: error[file]: cannot be read: Is a directory"]);
    let good = format!("{TOP}{LISTEN}{USERS}");
    check_files(
        &[("gatepost.toml", &good), ("conf.d/a.toml/x", "")],
        &["conf.d/a.toml:1:1: error[file]: cannot be read: Is a directory"],
    );
    check_files(
        &[("gatepost.toml", &good), ("conf.d", "")],
        &["gatepost.toml:1:1: error[file]: cannot list |conf.d: Not a directory"],
    );
    let dir = Dir::furnished();
    dir.put("gatepost.toml", good.as_bytes()).put("conf.d/b.toml", b"");
    rustix::fs::mknodat(rustix::fs::CWD, dir.0.join("conf.d/a.toml"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    compare("a pipe", &dir.problems(), &["conf.d/a.toml:1:1: error[file]: cannot be read: it is a pipe"]);
}

#[test]
fn a_bare_name_is_in_the_working_directory() {
    // No change of directory in a test with threads: a name that exists nowhere must only be reported as itself.
    let problems = load(Path::new("no-such-gatepost.toml"), &CATALOG).unwrap_err();
    assert_eq!(problems.to_string(), "no-such-gatepost.toml:1:1: error[file]: cannot be read: No such file or directory");
}

#[test]
fn bounds_on_files() {
    let dir = Dir::furnished();
    let good = format!("{TOP}{LISTEN}{USERS}");
    dir.put("gatepost.toml", good.as_bytes());
    let large = vec![b'#'; 1024 * 1024];
    for n in 0..8 {
        dir.put(&format!("conf.d/{n}.toml"), &large);
    }
    compare("8 MiB", &dir.problems(), &["conf.d/7.toml:1:1: error[file]: |all files together are larger than 8 MiB"]);
    let dir = Dir::furnished();
    dir.put("gatepost.toml", good.as_bytes());
    for n in 0..1000 {
        dir.put(&format!("conf.d/{n}.toml"), b"rubbish =");
    }
    compare("1000 files", &dir.problems(), &["gatepost.toml:1:1: error[file]: |conf.d has 1000 files or more"]);
    // A table that grows file by file.
    let dir = Dir::furnished();
    dir.put("gatepost.toml", good.as_bytes());
    for file in 0..3 {
        let keys: String = (0..400).map(|n| format!("k{file}_{n} = 1\n")).collect();
        dir.put(&format!("conf.d/{file}.toml"), format!("[log]\n{keys}").as_bytes());
    }
    let told = dir.problems();
    assert!(
        told.iter().any(|told| told.starts_with("conf.d/2.toml:202:1: error[range]: with this file a table has more than 1000"))
    );
}
