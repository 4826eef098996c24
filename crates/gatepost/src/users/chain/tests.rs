use super::*;
use crate::config::meant::{Own, OwnValue};
use crate::users::testing::{self, Dir, chain, fixed, pairs, passwd_file, problems, refused, secret, sign_in, sqlite};
use crate::users::{Asked, Users};
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;

const NOBODY_CHECKS: &[(&str, &str)] = &[("nopassword", "y"), ("proxy", "y"), ("host", "10.0.0.1")];

/// What came of a login, in short: `in USER by DATABASE checked/nobody [fields]`, or the kind of failure.
async fn course(blocks: &[UsersBlock], user: &str, password: &str) -> String {
    match sign_in(&chain(blocks), user, password).await {
        Ok(answer) => {
            let checked = match &answer.checked {
                Checked::Nobody if answer.nopassword => "nopassword".to_owned(),
                Checked::Peer => "vouched".to_owned(),
                Checked::Nobody => "nobody".to_owned(),
                Checked::By(name) => format!("checked by {name}"),
            };
            let fields: Vec<_> = answer.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("in {} by {} {checked} [{}]", answer.user, answer.database, fields.join(" "))
        }
        Err(failure) => format!("{:?}", failure.kind),
    }
}

fn with(mut block: UsersBlock, change: impl FnOnce(&mut UsersBlock)) -> UsersBlock {
    change(&mut block);
    block
}

/// A database in trouble for everybody: its row makes no sense.
fn troubled(name: &str) -> UsersBlock {
    fixed(name, &[("password", "{MD5}x")])
}

/// Knows nobody: no address is in its network.
fn empty(name: &str) -> UsersBlock {
    fixed(name, &[("allow_nets", "127.0.0.1"), ("nopassword", "y"), ("leak", "y")])
}

fn password(name: &str, word: &str, field: &str) -> UsersBlock {
    fixed(name, &[("password", word), (field, name)])
}

#[tokio::test]
async fn one_database() {
    assert_eq!(
        course(&[fixed("a", NOBODY_CHECKS)], "Jo@EX.com", "x").await,
        "in jo@ex.com by a nopassword [proxy=y host=10.0.0.1]"
    );
    assert_eq!(course(&[password("a", "pw", "f")], "jo", "pw").await, "in jo by a checked by a [f=a]");
    assert_eq!(course(&[password("a", "pw", "f")], "jo", "PW").await, "Credentials");
    assert_eq!(course(&[fixed("a", &[("host", "h")])], "jo", "x").await, "Credentials");
    assert_eq!(course(&[fixed("a", &[("password", "")])], "jo", "x").await, "Credentials");
    assert_eq!(course(&[fixed("a", &[("password", ""), ("nopassword", "")])], "jo", "x").await, "in jo by a nopassword []");
    assert_eq!(course(&[fixed("a", &[("password", "pw"), ("nopassword", "n")])], "jo", "pw").await, "Row");
    assert_eq!(course(&[troubled("a")], "jo", "x").await, "Row");
    assert_eq!(course(&[fixed("a", &[("password_noscheme", "{MD5}x")])], "jo", "{MD5}x").await, "in jo by a checked by a []");
    assert_eq!(course(&[fixed("a", &[("password_noscheme", "x"), ("nopassword", "y")])], "jo", "x").await, "Row");
}

#[tokio::test]
async fn no_form_of_an_empty_password_gets_in() {
    for block in [fixed("a", NOBODY_CHECKS), fixed("a", &[("password", "{PLAIN}")]), fixed("a", &[("password", "")])] {
        assert_eq!(course(&[block], "jo", "").await, "Credentials");
    }
}

#[tokio::test]
async fn without_a_password_only_nopassword_gets_in() {
    let origin = testing::origin();
    let question = testing::question("jo", None, &origin);
    assert!(chain(&[fixed("a", NOBODY_CHECKS)]).sign_in(&question).await.is_ok());
    let failure = chain(&[password("a", "pw", "f")]).sign_in(&question).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Credentials);
}

/// Dovecot's table: what each rule does after each outcome, with a second database behind.
#[tokio::test]
async fn rules() {
    use Then::{Continue, ContinueFail, ContinueOk, Return, ReturnFail, ReturnOk};
    let behind = || password("b", "pw", "b");
    let other = || password("b", "other", "b");
    let success = |rule| with(password("a", "pw", "a"), |block| block.result_success = rule);
    for (rule, wanted, wanted_other) in [
        (ReturnOk, "in jo by a checked by a [a=a]", "in jo by a checked by a [a=a]"),
        (ReturnFail, "Credentials", "Credentials"),
        (Return, "Credentials", "Credentials"),
        // The second does not check again, so its other password does not matter.
        (ContinueOk, "in jo by b checked by a [a=a b=b]", "in jo by b checked by a [a=a b=b]"),
        (Continue, "in jo by b checked by a [a=a b=b]", "in jo by b checked by a [a=a b=b]"),
        (ContinueFail, "in jo by b checked by b [a=a b=b]", "Credentials"),
    ] {
        assert_eq!(course(&[success(rule), behind()], "jo", "pw").await, wanted, "{rule:?}");
        assert_eq!(course(&[success(rule), other()], "jo", "pw").await, wanted_other, "{rule:?}");
    }
    let failure = |rule| with(password("a", "other", "a"), |block| block.result_failure = rule);
    for (rule, wanted) in [
        (ReturnFail, "Credentials"),
        (Return, "Credentials"),
        (Continue, "in jo by b checked by b [b=b]"),
        (ContinueFail, "in jo by b checked by b [b=b]"),
        // The operator's word: let in, and said truly that nobody checked.
        (ReturnOk, "in jo by a nobody []"),
        (ContinueOk, "in jo by b nobody [b=b]"),
    ] {
        assert_eq!(course(&[failure(rule), behind()], "jo", "pw").await, wanted, "{rule:?}");
    }
    let trouble = |rule| with(troubled("a"), |block| block.result_internalfail = rule);
    for (rule, wanted, wanted_other) in [
        (ReturnFail, "Row", "Row"),
        (Return, "Row", "Row"),
        (Continue, "in jo by b checked by b [b=b]", "Row"),
        (ContinueFail, "in jo by b checked by b [b=b]", "Row"),
    ] {
        assert_eq!(course(&[trouble(rule), behind()], "jo", "pw").await, wanted, "{rule:?}");
        assert_eq!(course(&[trouble(rule), other()], "jo", "pw").await, wanted_other, "nobody let in and trouble: {rule:?}");
    }
    assert_eq!(course(&[troubled("a"), behind()], "jo", "pw").await, "Row", "by default trouble does not fall through");
    let first = with(password("a", "pw", "a"), |block| block.result_success = ContinueOk);
    assert_eq!(
        course(&[first.clone(), troubled("b")], "jo", "pw").await,
        "in jo by b checked by a [a=a]",
        "no check, no trouble with it"
    );
    let down = with(fixed("b", &[("allow_nets", "nonsense")]), |_| ());
    assert_eq!(course(&[first, down], "jo", "pw").await, "Row", "return-fail takes it back");
    let last = with(password("a", "pw", "a"), |block| block.result_success = Continue);
    assert_eq!(course(&[last], "jo", "pw").await, "Credentials", "continue does not let in");
    let earlier = with(password("a", "pw", "a"), |block| block.result_success = ContinueOk);
    let fails = with(empty("b"), |block| block.result_failure = Return);
    assert_eq!(course(&[earlier, fails], "jo", "pw").await, "in jo by a checked by a [a=a]", "return keeps what stands");
}

#[tokio::test]
async fn what_a_failing_database_gave_is_forgotten_and_nopassword_does_not_leak() {
    assert_eq!(course(&[empty("a"), password("b", "pw", "b")], "jo", "pw").await, "in jo by b checked by b [b=b]");
    assert_eq!(course(&[empty("a"), password("b", "pw", "b")], "jo", "x").await, "Credentials");
    assert_eq!(course(&[empty("a"), fixed("b", &[("host", "h")])], "jo", "x").await, "Credentials");
    let renames = fixed("a", &[("password", "no"), ("user", "other")]);
    assert_eq!(course(&[renames, fixed("b", NOBODY_CHECKS)], "jo", "x").await, "in jo by b nopassword [proxy=y host=10.0.0.1]");
    let first = with(password("a", "pw", "a"), |block| block.result_success = Then::Continue);
    assert_eq!(
        course(&[first, fixed("b", &[("nopassword", "y")])], "jo", "pw").await,
        "in jo by b checked by a [a=a]",
        "who checked stays said"
    );
}

#[tokio::test]
async fn noauthenticate_gives_fields_and_no_verdict() {
    let fields = fixed("a", &[("noauthenticate", "y"), ("host", "h"), ("user", "%n@ex.com")]);
    assert_eq!(
        course(&[fields.clone(), password("b", "pw", "b")], "jo", "pw").await,
        "in jo@ex.com by b checked by b [host=h b=b]"
    );
    assert_eq!(course(&[fields.clone(), password("b", "pw", "b")], "jo", "x").await, "Credentials");
    assert_eq!(course(&[fields], "jo", "x").await, "Lookup", "nobody is left to check");
}

#[tokio::test]
async fn skip_and_protocols() {
    let first = || with(password("a", "pw", "a"), |block| block.result_success = Then::ContinueOk);
    let second = |skip| with(password("b", "pw", "b"), |block| block.skip = skip);
    assert_eq!(course(&[first(), second(Skip::Authenticated)], "jo", "pw").await, "in jo by a checked by a [a=a]");
    assert_eq!(course(&[first(), second(Skip::Unauthenticated)], "jo", "pw").await, "in jo by b checked by a [a=a b=b]");
    assert_eq!(
        course(&[second(Skip::Unauthenticated), password("c", "pw", "c")], "jo", "pw").await,
        "in jo by c checked by c [c=c]"
    );
    assert_eq!(course(&[second(Skip::Authenticated)], "jo", "pw").await, "in jo by b checked by b [b=b]");
    let pop3 = || with(password("a", "pw", "a"), |block| block.protocols = vec!["pop3".to_owned()]);
    assert_eq!(course(&[pop3(), password("b", "pw", "b")], "jo", "pw").await, "in jo by b checked by b [b=b]");
    assert_eq!(course(&[pop3()], "jo", "pw").await, "Lookup", "nobody was asked: that is no wrong password");
    assert_eq!(course(&[], "jo", "pw").await, "Lookup");
    let both = with(password("a", "pw", "a"), |block| block.protocols = vec!["pop3".to_owned(), "imap".to_owned()]);
    assert_eq!(course(&[both], "jo", "pw").await, "in jo by a checked by a [a=a]");
}

#[tokio::test]
async fn deny_lists() {
    let dir = Dir::new();
    let path = dir.write("banned", "mallory\nodd:{PLAIN}x::::::host=%k\n");
    let deny = || with(passwd_file("banned", &path), |block| block.deny = true);
    let blocks = [deny(), fixed("main", NOBODY_CHECKS)];
    assert!(course(&blocks, "jo", "x").await.starts_with("in jo by main"));
    assert_eq!(course(&blocks, "Mallory", "x").await, "Credentials");
    assert_eq!(course(&blocks, "odd", "x").await, "Row", "trouble with a deny list ends the chain");
    let lax = with(deny(), |block| block.result_internalfail = Then::Continue);
    assert_eq!(course(&[lax, fixed("main", NOBODY_CHECKS)], "odd", "x").await, "Row", "whatever the rules say");
    assert_eq!(course(&[deny()], "jo", "x").await, "Credentials", "a deny list lets nobody in");
}

#[tokio::test]
async fn networks() {
    for (nets, wanted) in [
        ("192.0.2.0/24", true),
        ("10.0.0.0/8, 192.0.2.7", true),
        ("2001:db8::/32,192.0.2.7/32", true),
        ("local,192.0.2.7", true),
        ("192.0.2.8", false),
        ("local", false),
        ("", false),
        ("::/0", false),
    ] {
        for name in ["allow_nets", "allow_real_nets"] {
            let block = fixed("a", &[("nopassword", "y"), (name, nets)]);
            assert_eq!(course(&[block], "jo", "x").await.starts_with("in jo"), wanted, "{name}={nets}");
        }
    }
    for nets in ["192.0.2.0/33", "192.0.2.7,nonsense", "example.com"] {
        assert_eq!(course(&[fixed("a", &[("nopassword", "y"), ("allow_nets", nets)])], "jo", "x").await, "Row", "{nets}");
    }
    // The real peer is not the forwarded client.
    let block = chain(&[fixed("a", &[("nopassword", "y"), ("allow_nets", "203.0.113.9"), ("allow_real_nets", "192.0.2.7")])]);
    let mut origin = testing::origin();
    origin.client.0.set_ip("203.0.113.9".parse().unwrap());
    assert!(block.sign_in(&testing::question("jo", Some(&secret("x")), &origin)).await.is_ok());
}

#[tokio::test]
async fn names_are_made_once_and_renamed() {
    for (format, fields, user, wanted) in [
        (None, &[][..], "JO@Example.COM", "jo@example.com"),
        (Some("%u"), &[], "JO@Ex.COM", "JO@Ex.COM"),
        (Some("%Ln"), &[], "JO@Ex.COM", "jo"),
        (Some("%n@fixed.org"), &[], "jo@x", "jo@fixed.org"),
        (None, &[("user", "Other@Ex")], "jo@x", "Other@Ex"),
        (None, &[("username", "bob")], "jo@x", "bob@x"),
        (None, &[("username", "bob@y")], "jo@x", "bob@y"),
        (None, &[("username", "bob")], "jo", "bob"),
        (None, &[("domain", "y")], "jo@x", "jo@y"),
        (None, &[("domain", "y")], "jo", "jo@y"),
        (None, &[("domain", "y"), ("user", "a@b")], "jo", "a@y"),
        (None, &[("user", "%u%%u")], "jo", "jo%u"),
    ] {
        let mut all = vec![("nopassword", "y")];
        all.extend_from_slice(fields);
        let block = with(fixed("a", &all), |block| block.username_format = format.map(str::to_owned));
        assert_eq!(course(&[block], user, "x").await, format!("in {wanted} by a nopassword []"), "{format:?} {fields:?}");
    }
    for value in ["", " x", "x\u{7}", "a\u{202e}b", "a\u{2028}b", &"x".repeat(256)] {
        assert_eq!(course(&[fixed("a", &[("nopassword", "y"), ("user", value)])], "jo", "x").await, "Row", "{value:?}");
    }
    // The next database is asked for the new name.
    let dir = Dir::new();
    let second = passwd_file("b", &dir.write("users", "bob:{PLAIN}pw::::::orig=%{orig_user}\n"));
    let first = fixed("a", &[("noauthenticate", "y"), ("user", "BOB")]);
    assert_eq!(course(&[first, second], "Jo", "pw").await, "in bob by b checked by b [orig=Jo]");
    let none = with(fixed("a", NOBODY_CHECKS), |block| block.username_format = Some("%d".to_owned()));
    assert_eq!(course(&[none], "jo", "x").await, "Credentials", "no name is no user");
}

#[tokio::test]
async fn names_that_no_user_has_are_not_looked_up() {
    let chain = chain(&[fixed("a", NOBODY_CHECKS)]);
    let long = "x".repeat(256);
    for user in
        ["", " jo", "jo ", "jo\n", "j\0o", "j\u{1b}o", "j\u{85}o", "j\u{202e}o", "j\u{200f}o", "j\u{2066}o", "j\u{2029}o", &long]
    {
        assert_eq!(refused(&chain, user, "x").await.0, Kind::Credentials, "{user:?}");
    }
    assert!(sign_in(&chain, &"x".repeat(255), "x").await.is_ok());
    assert!(sign_in(&chain, "jo doe", "x").await.is_ok());
}

#[tokio::test]
async fn default_and_override_fields_and_suffixes() {
    let block = |fields: &[(&str, &str)]| {
        let mut all = vec![("nopassword", "y")];
        all.extend_from_slice(fields);
        with(fixed("a", &all), |block| {
            block.default_fields = pairs(&[("host", "%d.pool"), ("port", "143")]);
            block.override_fields = pairs(&[("ssl", "yes"), ("note", "%{passdb:host}")]);
        })
    };
    for (fields, wanted) in [
        (&[][..], "host=x.pool port=143 ssl=yes note=x.pool"),
        (&[("Host", "h"), ("ssl", "no")], "host=h port=143 ssl=yes note=h"),
        (&[("host:default", "h"), ("new:protected", "n")], "host=x.pool port=143 new=n ssl=yes note=x.pool"),
        (&[("port:remove", "")], "host=x.pool ssl=yes note=x.pool"),
    ] {
        assert_eq!(course(&[block(fields)], "jo@x", "x").await, format!("in jo@x by a nopassword [{wanted}]"), "{fields:?}");
    }
    let keyed = with(fixed("a", &[]), |block| block.override_fields = pairs(&[("password", "all")]));
    assert_eq!(course(&[keyed], "jo", "all").await, "in jo by a checked by a []");
    let clash = with(password("a", "pw", "f"), |block| block.override_fields = pairs(&[("nopassword", "y")]));
    assert_eq!(course(&[clash], "jo", "pw").await, "Row", "an override does not take a password away");
    let first = with(password("a", "pw", "host"), |block| block.result_success = Then::ContinueOk);
    let second = fixed("b", &[("host:default", "b"), ("seen", "%{passdb:host}")]);
    assert_eq!(course(&[first, second], "jo", "pw").await, "in jo by b checked by a [host=a seen=a]");
}

#[tokio::test]
async fn rows_have_limits() {
    let many: Vec<(String, String)> = (0..MAX_FIELDS + 1).map(|n| (format!("f{n}"), String::new())).collect();
    let many = testing::block("a", "static", &[("fields", Own::Fields(many))]);
    assert_eq!(course(&[many], "jo", "x").await, "Row");
    let long = "x".repeat(MAX_VALUE + 1);
    assert_eq!(course(&[fixed("a", &[("nopassword", "y"), ("f", &long)])], "jo", "x").await, "Row");
}

#[test]
fn all_problems_at_once() {
    let broken = with(fixed("a", &[("host", "%k"), ("port", "%{nope}")]), |block| {
        block.username_format = Some("%w".to_owned());
        block.default_fields = pairs(&[("x", "%Q")]);
        block.own.insert("default_pass_scheme".into(), OwnValue { value: Own::Text("NTLM".into()), at: "scheme-at".into() });
    });
    let unknown = with(fixed("b", &[]), |block| block.driver = "nosuch");
    let without = testing::block("c", "static", &[]);
    let found = problems(&[broken, unknown, without]);
    let texts: Vec<_> = found.iter().map(|problem| format!("{}: {}", problem.at, problem.text)).collect();
    for wanted in [
        "gatepost.toml:5:1: default_fields: x, column 2: unknown modifier Q",
        "gatepost.toml:5:1: username_format: a user name is not made of the password",
        "gatepost.toml:7:1 fields: fields: host, column 1: unknown variable %k",
        "gatepost.toml:7:1 fields: fields: port, column 1: unknown variable %{nope}",
        "scheme-at: default_pass_scheme: scheme NTLM is not in this version",
        "gatepost.toml:5:1: unknown driver \"nosuch\"",
        "gatepost.toml:5:1: users \"c\": driver static needs fields",
    ] {
        assert!(texts.iter().any(|text| text == wanted), "{wanted}: {texts:#?}");
    }
    assert_eq!(found.len(), 7, "{texts:#?}");
    assert!(found.iter().all(|problem| !problem.fix.is_empty()));
}

#[tokio::test]
async fn a_database_that_hangs_is_trouble_in_time_and_takes_no_more_than_its_share() {
    struct Hangs;
    impl Users for Hangs {
        fn find<'a>(&'a self, _: &'a Asked<'a>) -> crate::users::Finding<'a> {
            Box::pin(std::future::pending())
        }
        fn default_scheme(&self) -> crate::users::password::Scheme {
            crate::users::password::Scheme::CRYPT
        }
    }
    let mut chain = chain(&[fixed("a", &[]), fixed("b", NOBODY_CHECKS)]);
    chain.blocks[0].users = Box::new(Hangs);
    chain.blocks[0].deadline = Duration::from_millis(300);
    chain.blocks[0].gate = Semaphore::new(2);
    chain.blocks[0].lookups = 2;
    let (order, chain) = (std::cell::RefCell::new(Vec::new()), &chain);
    let ask = |number| {
        let order = &order;
        async move {
            let refusal = refused(chain, "jo", "x").await;
            order.borrow_mut().push(number);
            refusal
        }
    };
    let (one, two, three) = tokio::join!(ask(1), ask(2), ask(3));
    assert_eq!(order.borrow().first(), Some(&3), "refused at once, while the others wait");
    assert_eq!(three, (Kind::Lookup, "users \"a\": 2 lookups are under way already".to_owned()));
    for late in [one, two] {
        assert_eq!(late, (Kind::Lookup, "users \"a\": no answer within 300ms".to_owned()));
    }
    assert_eq!(refused(chain, "jo", "x").await.1, "users \"a\": no answer within 300ms", "places are given back");
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let dir = Dir::new();
    let hash = "$2b$09$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW";
    let file = || passwd_file("file", &dir.write("users", format!("jo:{hash}\n")));
    let path = dir.database("users.db", &format!("CREATE TABLE t (user, password); INSERT INTO t VALUES ('jo', '{hash}')"));
    let table = || sqlite("table", &path, "SELECT password FROM t WHERE user = '%u'");
    for (what, blocks) in [("file", vec![file()]), ("table", vec![table()]), ("both", vec![file(), table()])] {
        let chain = chain(&blocks);
        let spent = async |user: &str| {
            let mut least = Duration::MAX;
            for _ in 0..5 {
                let begin = Instant::now();
                assert_eq!(refused(&chain, user, "wrong").await.0, Kind::Credentials);
                least = least.min(begin.elapsed());
            }
            least
        };
        let known = spent("jo").await;
        let unknown = spent("nobody").await;
        assert!(unknown > known / 2 && known > unknown / 2, "{what}: known {known:?}, unknown {unknown:?}");
    }
}

#[tokio::test]
async fn what_unknown_users_cost_is_learnt_from_rows() {
    let cost = |chain: &Chain| chain.blocks[0].decoy().map(|verifier| format!("{verifier:?}"));
    let dir = Dir::new();
    let path = dir.database(
        "users.db",
        "CREATE TABLE t (user, password, nopassword); INSERT INTO t VALUES ('plain', '{PLAIN}x', NULL), ('no', '', 'y')",
    );
    let built = chain(&[sqlite("a", &path, "SELECT password, nopassword FROM t WHERE user = '%u'")]);
    assert_eq!(cost(&built).as_deref(), Some("Verifier(crypt ***)"), "before any row is seen: what is usual");
    sign_in(&built, "no", "x").await.unwrap();
    assert_eq!(cost(&built), None, "rows without passwords are not checked, so unknown users need not be");
    sign_in(&built, "plain", "x").await.unwrap();
    assert_eq!(cost(&built).as_deref(), Some("Verifier(PLAIN ***)"));
    sign_in(&built, "no", "x").await.unwrap();
    assert_eq!(cost(&built).as_deref(), Some("Verifier(PLAIN ***)"), "and stays");
}

#[tokio::test]
async fn answers_and_failures_print_no_secrets() {
    let block = fixed("a", &[("password", "pw-stored"), ("pass", "pw-master"), ("forward_token", "pw-token"), ("host", "h")]);
    let built = chain(&[block]);
    let answer = sign_in(&built, "jo", "pw-stored").await.unwrap();
    assert_eq!(answer.fields.get("pass"), Some("pw-master"));
    let printed = format!("{answer:?}");
    assert!(printed.contains("\"host\": \"h\"") && !printed.contains("pw-"), "{printed}");
    let failure = sign_in(&built, "jo", "pw-said").await.unwrap_err();
    assert!(!format!("{failure:?}").contains("pw-"), "{failure:?}");
}

#[tokio::test]
async fn what_a_client_said_is_escaped_in_details() {
    let dir = Dir::new();
    let built =
        chain(&[with(sqlite("a", &dir.database("users.db", "CREATE TABLE t (x)"), "SELECT 1 AS a UNION SELECT 2"), |block| {
            block.username_format = Some("%u".to_owned());
        })]);
    let (_, detail) = refused(&built, "jo\u{feff}\"\u{300}", "x").await;
    assert!(detail.contains("\\u{feff}\\\""), "{detail}");
}
