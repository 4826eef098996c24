use super::*;
use crate::users::Checked;
use crate::users::testing::{self, Dir, chain, passwd_file, problems, refused, sign_in};

const FILE: &str = "\
# a comment
jo:{PLAIN}secret:1000:1000:Jo Doe,,,:/home/jo:/bin/sh:proxy=y host=10.0.0.1 userdb_mail=maildir:~/Mail destuser=%n@%d-%{user|upper}
crypt@example.com:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5::::::host=2001:db8::1  port=143 proxy_maybe
nopw@example.com:::::::nopassword proxy=y host=10.0.0.2 note=x%%y

short
windows:{PLAIN}secret::::::host=10.0.0.3\r
";

#[tokio::test]
async fn the_format() {
    let dir = Dir::new();
    let chain = chain(&[passwd_file("main", &dir.write("users", FILE))]);
    let answer = sign_in(&chain, "Jo", "secret").await.unwrap();
    assert_eq!(answer.checked, Checked::By("main".into()));
    assert_eq!(answer.fields.iter().collect::<Vec<_>>(), [("proxy", "y"), ("host", "10.0.0.1"), ("destuser", "jo@-JO")]);
}

#[tokio::test]
async fn fields_are_what_stands_behind_the_seventh_colon() {
    let dir = Dir::new();
    let chain = chain(&[passwd_file("main", &dir.write("users", FILE))]);
    let answer = sign_in(&chain, "crypt@example.com", "Hello world!").await.unwrap();
    let wanted = [("host", "2001:db8::1"), ("port", "143"), ("proxy_maybe", "")];
    assert_eq!(answer.fields.iter().collect::<Vec<_>>(), wanted, "colons and double blanks are fine");
    let answer = sign_in(&chain, "nopw@example.com", "x").await.unwrap();
    assert_eq!((answer.nopassword, answer.fields.get("note")), (true, Some("x%y")));
    assert_eq!(sign_in(&chain, "windows", "secret").await.unwrap().fields.get("host"), Some("10.0.0.3"));
    for (user, password) in [("jo", "wrong"), ("short", "x"), ("nobody", "x"), ("# a comment", "x"), ("jo:{PLAIN}secret", "x")] {
        assert_eq!(refused(&chain, user, password).await.0, Kind::Credentials, "{user}");
    }
}

#[tokio::test]
async fn a_broken_line_is_reported_and_costs_its_own_user_only() {
    let dir = Dir::new();
    let mut file = b"good:{PLAIN}x::::::host=a\nbad:{PLAIN}x::::::host=%k\n:nobody\nnoname:{PLAIN}x::::::=v\n".to_vec();
    file.extend_from_slice(b"latin:{PLAIN}\xe4::::::host=a\n\xe4:x\ngood:{PLAIN}y::::::host=b\n");
    let (warn, heard) = testing::warnings();
    let block = passwd_file("main", &dir.write("users", file));
    let chain = crate::users::Chain::build(&[block], &testing::limits(), warn).unwrap_or_else(|_| panic!());
    let heard = heard.lock().unwrap().clone();
    for (line, wanted) in [
        (2, "field host, column 1: unknown variable %k"),
        (3, "no user name"),
        (4, "a field without a name"),
        (5, "not UTF-8"),
        (6, "no user name"),
        (7, "user good stands here a second time"),
    ] {
        assert!(
            heard.iter().any(|text| text.contains(&format!("users:{line}: ")) && text.contains(wanted)),
            "{wanted}: {heard:?}"
        );
    }
    assert_eq!(heard.len(), 6);
    assert_eq!(sign_in(&chain, "good", "x").await.unwrap().fields.get("host"), Some("a"));
    for user in ["bad", "noname", "latin"] {
        assert_eq!(refused(&chain, user, "x").await.0, Kind::Row, "{user}");
    }
}

#[test]
fn many_broken_lines_are_not_many_reports() {
    let dir = Dir::new();
    let (warn, heard) = testing::warnings();
    let block = passwd_file("main", &dir.write("users", ":\n".repeat(100_000)));
    assert!(crate::users::Chain::build(&[block], &testing::limits(), warn).is_ok());
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), REPORTED + 1);
    assert!(heard[REPORTED].contains("99990 more broken lines"), "{heard:?}");
}

#[test]
fn what_is_wrong_with_a_block_is_said_at_load() {
    let dir = Dir::new();
    let path = dir.write("users", FILE);
    let huge = dir.path("huge");
    File::create(&huge).unwrap().set_len(MAX_FILE + 1).unwrap();
    for (path, wanted) in [(&dir.path("missing"), "No such file"), (&std::env::temp_dir(), "not a file"), (&huge, "larger than")]
    {
        let found = problems(&[passwd_file("main", path)]);
        assert!(found[0].text.contains(wanted), "{found:?}");
        assert_eq!(found[0].at, "gatepost.toml:7:1 path");
    }
    let keyed = |keys: &[(&str, &str)]| {
        let mut block = passwd_file("main", &path);
        for (key, value) in keys {
            let value = crate::config::meant::Own::Text((*value).to_owned());
            block.own.insert((*key).to_owned(), crate::config::meant::OwnValue { value, at: "here".to_owned() });
        }
        block
    };
    assert!(problems(&[keyed(&[("scheme", "ROT13")])])[0].text.contains("unknown password scheme"));
    assert!(problems(&[keyed(&[("default_pass_scheme", "MD5")])])[0].text.contains("MD5 is not in this version"));
    assert!(problems(&[keyed(&[("scheme", "PLAIN"), ("default_pass_scheme", "PLAIN")])])[0].text.contains("the same key"));
    chain(&[keyed(&[("scheme", "plain")])]);
}

#[tokio::test]
async fn a_default_scheme_can_be_set() {
    let dir = Dir::new();
    let mut block = passwd_file("main", &dir.write("users", "jo:secret\n"));
    assert_eq!(refused(&chain(&[block.clone()]), "jo", "secret").await.0, Kind::Row, "CRYPT is the default");
    let value = crate::config::meant::Own::Text("PLAIN".to_owned());
    block.own.insert("scheme".to_owned(), crate::config::meant::OwnValue { value, at: "here".to_owned() });
    assert!(sign_in(&chain(&[block]), "jo", "secret").await.is_ok());
}

fn source(dir: &Dir, name: &str) -> Source {
    Source::new("main".to_owned(), dir.path(name), testing::warnings().0)
}

/// Makes the last look old.
fn wait(source: &Source) {
    if let Some(look) = &mut *source.lock() {
        look.at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
    }
}

/// Makes the file quiet: last changed this many seconds ago.
fn age(path: &std::path::Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn has(contents: &Result<Arc<Contents>, String>, user: &str) -> bool {
    contents.as_ref().unwrap().line(user).is_some()
}

#[test]
fn a_change_is_seen_at_the_next_look_and_not_before() {
    let dir = Dir::new();
    let path = dir.write("users", "old:x\n");
    age(&path, 60);
    let source = source(&dir, "users");
    assert!(has(&source.look(), "old"));

    // Replaced.
    age(&dir.write("new", "new:x\n"), 2);
    std::fs::rename(dir.path("new"), &path).unwrap();
    assert!(has(&source.look(), "old"), "the last look is good for a second");
    wait(&source);
    assert!(has(&source.look(), "new"));

    // Written in place: not before it has been quiet.
    std::fs::write(&path, "half").unwrap();
    wait(&source);
    assert!(has(&source.look(), "new"));
    std::fs::write(&path, "third:x\n").unwrap();
    wait(&source);
    assert!(has(&source.look(), "new"));
    age(&path, 2);
    wait(&source);
    assert!(has(&source.look(), "third"));
}

#[test]
fn a_file_that_has_lost_everybody_is_trouble_until_somebody_is_back() {
    let dir = Dir::new();
    let path = dir.write("users", "");
    age(&path, 60);
    let source = source(&dir, "users");
    assert!(!has(&source.look(), "jo"), "one that was always empty just has no users");
    for (text, well) in [("jo:x\n", true), ("", false), ("", false), ("# nobody\n", false), ("jo:x\n", true)] {
        std::fs::write(&path, text).unwrap();
        age(&path, 2);
        wait(&source);
        assert_eq!(source.look().is_ok(), well, "{text:?}");
    }
}

#[test]
fn a_file_that_never_rests_is_read_in_the_end() {
    let dir = Dir::new();
    let path = dir.write("users", "old:x\n");
    age(&path, 60);
    let source = source(&dir, "users");
    source.look().unwrap();
    std::fs::write(&path, "new:x\n").unwrap();
    wait(&source);
    assert!(has(&source.look(), "old"));
    let begin = source.lock().as_ref().unwrap().unrest.expect("it is not at rest");
    wait(&source);
    source.look().unwrap();
    assert_eq!(source.lock().as_ref().unwrap().unrest, Some(begin), "counted from the beginning");
    source.lock().as_mut().unwrap().unrest = begin.checked_sub(MAX_UNREST);
    wait(&source);
    assert!(has(&source.look(), "new"));
}

#[test]
fn a_change_within_one_tick_of_the_clock_is_seen() {
    let dir = Dir::new();
    let path = dir.write("users", "old:x\n");
    let source = source(&dir, "users");
    assert!(has(&source.look(), "old"));
    // Same size, same inode, same time: only that the file was young when it was read gives it away.
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "new:x\n").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    std::thread::sleep(LOOK_EVERY);
    assert!(has(&source.look(), "new"));
}

#[test]
fn a_file_that_is_gone_is_trouble_until_it_is_back() {
    let dir = Dir::new();
    let path = dir.write("users", "jo:x\n");
    let source = source(&dir, "users");
    assert!(has(&source.look(), "jo"));
    std::fs::rename(&path, dir.path("away")).unwrap();
    wait(&source);
    assert!(source.look().err().unwrap().contains("No such file"));
    std::fs::rename(dir.path("away"), &path).unwrap();
    wait(&source);
    assert!(has(&source.look(), "jo"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_go_on_while_the_file_is_rewritten() {
    let dir = Dir::new();
    let contents = |round: usize| {
        let others = (0..300).map(|n| format!("u{n}:{{PLAIN}}x::::::host=h{round}\n")).collect::<String>();
        format!("{others}jo:{{PLAIN}}secret::::::host=h{round}\n")
    };
    let path = dir.write("users", contents(0));
    let chain = Arc::new(chain(&[passwd_file("main", &path)]));
    let done = Arc::new(AtomicBool::new(false));
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (chain, done) = (Arc::clone(&chain), Arc::clone(&done));
        set.spawn(async move {
            let mut hosts = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let answer = sign_in(&chain, "jo", "secret").await.expect("nobody is locked out by a rewrite");
                hosts.insert(answer.fields.get("host").unwrap().to_owned());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            hosts.len()
        });
    }
    // Both manners: by rename, and in place with a pause in the middle. Then a rest.
    for round in 1..=24 {
        if round % 2 == 0 {
            std::fs::rename(dir.write("new", contents(round)), &path).unwrap();
        } else {
            let text = contents(round);
            let (first, second) = text.as_bytes().split_at(text.len() / 2);
            std::fs::write(&path, first).unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
            use std::io::Write as _;
            File::options().append(true).open(&path).unwrap().write_all(second).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(if round % 12 == 0 { 2300 } else { 60 })).await;
    }
    done.store(true, Ordering::Relaxed);
    let seen = set.join_all().await;
    assert!(seen.iter().all(|hosts| *hosts >= 3), "new contents were seen: {seen:?}");
}
