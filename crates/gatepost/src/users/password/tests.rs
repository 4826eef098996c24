use super::*;
use std::time::{Duration, Instant};

const WORD: &str = "pâss wörd";

fn matches(stored: &str, default: Scheme, said: &str) -> Result<bool, String> {
    let verifier = Verifier::read(stored, default).map_err(|why| why.0)?;
    verifier.matches(&Secret::new(said.as_bytes().to_vec())).map_err(|why| why.0)
}

/// Made with `doveadm pw -s SCHEME -p 'pâss wörd'` of Dovecot 2.3.19.1.
const DOVECOT: &[&str] = &[
    "{PLAIN}pâss wörd",
    "{CLEARTEXT}pâss wörd",
    "{CLEAR}pâss wörd",
    "{plain}pâss wörd",
    "{PLAIN.HEX}70c3a273732077c3b67264",
    "{SHA}/E55djk4mixTQXKjo3bU9S7UrEo=",
    "{SHA1}/E55djk4mixTQXKjo3bU9S7UrEo=",
    "{SHA256}GHln6GZxyblGhlv88EaUVj9QKyaHHYQ4tF+1cFXbcvs=",
    "{SHA256}187967e86671c9b946865bfcf04694563f502b26871d8438b45fb57055db72fb",
    "{SHA256.HEX}187967e86671c9b946865bfcf04694563f502b26871d8438b45fb57055db72fb",
    "{SHA256.hex}187967E86671C9B946865BFCF04694563F502B26871D8438B45FB57055DB72FB",
    "{SHA512}+YkinllTVU4KghAw9vzbuBr1KMyl1lz0e4PGA64yliz9QI/Ki9puGPVj0aGPOX7qj0tNpmUTE8p2PEy8N9eHKg==",
    "{SSHA}egBFO3uFdDP4EmMU+7MI1vvh952Eu6Bw",
    "{SSHA.HEX}7c3f7659d4670ea6e53cdc335da23c4bf78e2ef1ee59ceb6",
    "{SSHA256}aQup4dFcgY76tIerE5fZEbjDZ6htEtQECbgbKLpQtp8P8CeG",
    "{SSHA256.BASE64}nmyllQpyArlS/S0TCl7CrKPIVBEw4XpAyD8+KAB2UFnyG2Ht",
    "{SSHA512}QcSAaHLKRJ9OlFWN8hXypAeVC08R2IMQEG+SE9hBHvBNvQFr9CqMs19WaxihQxZnApyPggDwYnFvTiV5g8D7KcRFd1k=",
    "{SSHA512.HEX}d395f2cce6aea5e0332958d068f552c7f3a4d4474cfc32ec5d7b720758dcacd9043e77faadb13604739d951e8954aa59640cee15a84dec7ccc22d8d1d0acd7f700edc847",
    "{SHA256-CRYPT}$5$n2wjFwSRLFg/IHDp$6qfIXCKEjj8GR7H/gCr474cos6z54RrDo9ccGYZbhq/",
    "{SHA512-CRYPT}$6$nnB3PSLLbY9xetGv$.f1s1ZvpHb8Ij8I/HhrdCTJ5MuUiWyZAi2/yfOar/yHcKKRegNW5Jko77.7z5Y0pg3JD21roCiMQP6sc7uHEY/",
    "{CRYPT}$6$nnB3PSLLbY9xetGv$.f1s1ZvpHb8Ij8I/HhrdCTJ5MuUiWyZAi2/yfOar/yHcKKRegNW5Jko77.7z5Y0pg3JD21roCiMQP6sc7uHEY/",
    "{BLF-CRYPT}$2y$05$JnK2XWvo0vI4Kynp3ysroe0MOlYEGs2KKzzeeEX4kS4UFbOoycnNC",
    "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$72wIkiIvL9h6xftIfTE7Zw$nDOKuizPNPD41hUY4sLbJ5FfzA/ISzPPabaBLRw1Kbc",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$gR01t1bLfQL4YVJ7MkHgFA$mSybzf5zvfsbNNdy9U6YLmx70gxN0SpSpiSJvepogF4",
];

#[test]
fn what_dovecot_made_is_matched_and_nothing_else_is() {
    for stored in DOVECOT {
        assert_eq!(matches(stored, Scheme::CRYPT, WORD), Ok(true), "{stored}");
        for said in ["", " ", "pâss wör", "pâss wördd", "PÂSS WÖRD", "pâss wörd\u{0}"] {
            assert_eq!(matches(stored, Scheme::CRYPT, said), Ok(false), "{stored} {said:?}");
        }
    }
}

/// From the SHA-crypt specification, `openssl passwd` and glibc's crypt(3).
#[test]
fn what_other_tools_made_is_matched() {
    let long = "x".repeat(72) + "tail";
    let longer = "x".repeat(300);
    for (stored, said) in [
        ("$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!"),
        ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
        ("$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", "Hello world!"),
        (
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        ),
        ("$2b$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "Hello world!"),
        ("$2a$06$abcdefghijklmnopqrstuuCKbUef3jNRJlrU6Qmjn.YsMAu5Q70qK", "Hello world!"),
        // bcrypt looks at 72 octets, everywhere.
        ("$2b$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q", &long),
        ("$5$rounds=1000$s$NMXyMwRPKiNz7CiHr41.MjmwTapwRIaUpNLpt1nWyb.", &longer),
    ] {
        assert_eq!(matches(stored, Scheme::CRYPT, said), Ok(true), "{stored}");
        assert_eq!(matches(&format!("{{CRYPT}}{stored}"), Scheme::PLAIN, said), Ok(true), "{stored}");
        assert_eq!(matches(stored, Scheme::CRYPT, "Hello world"), Ok(false), "{stored}");
    }
}

#[test]
fn an_empty_password_matches_nothing() {
    for stored in ["{PLAIN}", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "{SHA.HEX}da39a3ee5e6b4b0d3255bfef95601890afd80709"] {
        assert_eq!(matches(stored, Scheme::PLAIN, ""), Ok(false), "{stored}");
    }
}

#[test]
fn what_cannot_be_used_is_said_and_is_no_wrong_password() {
    let million = "a".repeat(1 << 20);
    let hostile_plain = format!("{{PLAIN}}{million}");
    let hostile_crypt = format!("$6${million}$x");
    let kibibytes = format!("$6${}$x", "a".repeat(2000));
    let argon =
        |costs: &str| format!("$argon2id$v=19${costs}$gR01t1bLfQL4YVJ7MkHgFA$mSybzf5zvfsbNNdy9U6YLmx70gxN0SpSpiSJvepogF4");
    let hash86 = "s".repeat(86);
    let cases: Vec<(String, &str)> = vec![
        ("{MD5}x".into(), "scheme MD5 is not in this version"),
        ("{MD5-CRYPT}$1$a$b".into(), "scheme MD5-CRYPT is not in this version"),
        ("{pbkdf2}$1$a$b".into(), "scheme PBKDF2 is not in this version"),
        ("{SCRAM-SHA-256}4096,a,b,c".into(), "scheme SCRAM-SHA-256 is not in this version"),
        ("$1$salt$qJH7.N4xYta3aEG/dfqo/0".into(), "MD5-CRYPT ($1$) is not in this version"),
        ("$y$j9T$abc$def".into(), "yescrypt ($y$) is not in this version"),
        ("$2x$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW".into(), "$2x$ is not in this version"),
        ("ab1DyLzcRkIJs".into(), "DES-CRYPT is not in this version"),
        ("plainly".into(), "no scheme"),
        ("{NOSUCH}x".into(), "unknown password scheme"),
        ("{SHA256.ROT13}x".into(), "none of HEX, B64, BASE64"),
        ("$nosuch$x".into(), "no known scheme"),
        (hostile_plain, "1048576 octets, more than 4096"),
        (hostile_crypt, "more than 4096"),
        (kibibytes, "more than 1024 for a crypt string"),
        ("{SHA256}AAAA".into(), "not 32 octets long"),
        ("{SHA256}****".into(), "not base64"),
        ("{SHA256.HEX}zz".into(), "not hex"),
        ("{SHA256.HEX}abc".into(), "not hex"),
        ("{SSHA}/E55djk4mixTQXKjo3bU9S7UrEo=".into(), "too short to hold a salt"),
        ("$2b$31$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW".into(), "cost is not between 04 and 15"),
        ("$2b$03$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW".into(), "cost is not between 04 and 15"),
        ("$2b$5$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW".into(), "cost is not"),
        ("$2b$05$abcdefghijklmnopqrstuu".into(), "BLF-CRYPT verifier is malformed"),
        ("$2b$xx$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW".into(), "BLF-CRYPT verifier is malformed"),
        ("{BLF-CRYPT}$2b$05$äbcdefghijklmnopqrstu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW".into(), "not a crypt string"),
        (format!("$6$rounds=999999999$salt${hash86}"), "rounds are not between 1000 and 1000000"),
        (format!("$6$rounds=99999999999999999999$salt${hash86}"), "rounds are not"),
        (format!("$6$rounds=10$salt${hash86}"), "rounds are not"),
        ("$6$salt$".into(), "SHA512-CRYPT verifier is malformed"),
        ("$6$salt".into(), "SHA512-CRYPT verifier is malformed"),
        ("$5$salt$abc".into(), "SHA256-CRYPT verifier is malformed"),
        (argon("m=4194304,t=3,p=1"), "m=4194304 KiB of memory, more than 262144"),
        (argon("m=262144,t=4000000000,p=1"), "more than 2097152 KiB in all"),
        (argon("m=65536,t=1,p=255"), "p=255 lanes"),
        (argon("m=65536,t=1"), "ARGON2 verifier is malformed"),
        (argon("m=1,t=1,p=1"), "ARGON2 verifier is malformed"),
        (argon("m=65536,t=0,p=1"), "ARGON2 verifier is malformed"),
        (argon("m=65536,t=1,p=1,keyid=AAAA"), "keyid or data"),
        (argon("m=99999999999,t=1,p=1"), "ARGON2 verifier is malformed"),
        ("$argon2id$v=20$m=64,t=1,p=1$gR01t1bLfQL4YVJ7MkHgFA$mSybzf5z".into(), "version is neither"),
        ("$argon2id$v=19$m=64,t=1,p=1$gR01t1bLfQL4YVJ7MkHgFA$".into(), "ARGON2 verifier is malformed"),
        ("$argon2id$v=19$m=64,t=1,p=1$AAAA$mSybzf5zvfsbNNdy9U6YLmx70gxN0SpSpiSJvepogF4".into(), "ARGON2 verifier is malformed"),
        ("$argon2d$v=19$m=64,t=1,p=1$a$b".into(), "ARGON2D is not in this version"),
    ];
    for (stored, wanted) in cases {
        // Reading computes nothing: what is refused there has cost no work.
        let Err(Unusable(why)) = Verifier::read(&stored, Scheme::CRYPT) else { panic!("{wanted}: {stored:.100} is usable") };
        assert!(why.contains(wanted), "{why} / {wanted}");
        assert!(why.len() < 200, "{why}");
    }
}

#[test]
fn a_long_password_cannot_buy_more_work() {
    let stored = format!("$6$rounds=1000000$salt${}", "s".repeat(86));
    let why = matches(&stored, Scheme::CRYPT, &"x".repeat(4096)).unwrap_err();
    assert!(why.contains("too much work"), "{why}");
}

#[test]
fn messages_repeat_nothing_of_a_verifier() {
    for stored in
        ["{hunter2}x", "hunter2", "$hunter2$x", "{SHA}hunter2", "{SSHA512}hunter2", "$5$hunter2", "{ARGON2ID}$argon2id$hunter2"]
    {
        let why = matches(stored, Scheme::CRYPT, WORD).unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }
    let verifier = Verifier::read("{PLAIN}hunter2", Scheme::CRYPT).unwrap();
    assert_eq!(format!("{verifier:?}"), "Verifier(PLAIN ***)");
}

#[test]
fn a_default_scheme_is_for_what_has_none() {
    assert_eq!(matches("secret", Scheme::PLAIN, "secret"), Ok(true));
    assert_eq!(matches("{PLAIN}secret", Scheme::CRYPT, "secret"), Ok(true));
    let sha256 = Scheme::named("sha256").unwrap();
    assert_eq!(matches("GHln6GZxyblGhlv88EaUVj9QKyaHHYQ4tF+1cFXbcvs=", sha256, WORD), Ok(true));
    // No closing brace, so it is no scheme.
    assert_eq!(matches("{secret", Scheme::PLAIN, "{secret"), Ok(true));
    assert!(matches("{secret}", Scheme::PLAIN, "{secret}").is_err());
    let bare = Verifier::of(Scheme::PLAIN, "{secret}").unwrap();
    assert_eq!(bare.matches(&Secret::new(b"{secret}".to_vec())), Ok(true));
}

#[test]
fn a_decoy_lets_nobody_in_and_costs_the_same() {
    for stored in DOVECOT {
        let verifier = Verifier::read(stored, Scheme::CRYPT).unwrap();
        let decoy = verifier.decoy();
        assert_eq!(decoy.matches(&Secret::new(WORD.as_bytes().to_vec())), Ok(false), "{stored}");
        let spent = |verifier: &Verifier| {
            let time = |_| {
                let begin = Instant::now();
                verifier.matches(&Secret::new(b"wrong".to_vec())).unwrap();
                begin.elapsed()
            };
            (0..3).map(time).min().unwrap()
        };
        let (real, fake) = (spent(&verifier), spent(&decoy));
        // Far from exact: other tests run beside this one. A decoy that does no work would be a thousand times faster.
        assert!(
            fake * 4 + Duration::from_millis(2) > real && real * 4 + Duration::from_millis(2) > fake,
            "{stored}: {real:?} {fake:?}"
        );
    }
}

#[test]
fn every_name_of_the_table_is_found_or_refused_by_name() {
    for (name, family) in SCHEMES {
        match (Scheme::named(&name.to_lowercase()), family) {
            (Ok(scheme), Some(family)) => assert_eq!(scheme.family, *family),
            (Err(why), None) => assert!(why.0.contains(name)),
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_pool_compares_refuses_when_full_and_keeps_its_deadline() {
    let pool = std::sync::Arc::new(Pool::start(Duration::from_secs(20)).unwrap());
    let right = Secret::new(WORD.as_bytes().to_vec());
    let cheap = Verifier::read(DOVECOT[0], Scheme::CRYPT).unwrap();
    assert!(pool.matches(&cheap, &right).await.unwrap());
    assert!(!pool.matches(&cheap, &Secret::new(b"x".to_vec())).await.unwrap());

    let slow = Verifier::read("$2b$11$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", Scheme::CRYPT).unwrap();
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..pool::QUEUE + 200 {
        let (pool, slow) = (std::sync::Arc::clone(&pool), slow.clone());
        set.spawn(async move { pool.matches(&slow, &Secret::new(b"x".to_vec())).await });
    }
    // The first answers are the refusals; leaving then must free the queue for others.
    let mut full = 0;
    while let Ok(Some(outcome)) = tokio::time::timeout(Duration::from_millis(50), set.join_next()).await {
        match outcome.unwrap() {
            Err(failure) if failure.kind == crate::failure::Kind::Lookup => full += 1,
            Ok(false) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(full >= 100, "{full} were refused");
    drop(set);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(pool.matches(&cheap, &right).await.unwrap());

    let hasty = Pool::start(Duration::from_millis(1)).unwrap();
    let failure = hasty.matches(&slow, &right).await.unwrap_err();
    assert_eq!(failure.kind, crate::failure::Kind::Lookup);
    assert!(failure.detail.contains("longer than 1ms"), "{}", failure.detail);
}
