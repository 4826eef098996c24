use super::*;
use crate::users::Checked;
use crate::users::testing::{self, Dir, chain, problems, refused, sign_in, sqlite};
use std::time::Instant;

/// The two schemas and queries of Dovecot's proxy page, as they stand there.
const PROXY: &str = "
CREATE TABLE proxy (
  user varchar(255) NOT NULL,
  host varchar(16) default NULL,
  destuser varchar(255) NOT NULL default '',
  PRIMARY KEY  (user)
);
INSERT INTO proxy VALUES ('john', '192.168.0.1', ''), ('joe', '192.168.0.2', 'joe@example.com'), ('nohost', NULL, '');
";
const PROXY_QUERY: &str = "SELECT NULL AS password, 'Y' as nopassword, host, destuser,
'Y' AS proxy FROM proxy WHERE user = '%u'
";
const MAYBE: &str = "
CREATE TABLE users (
  user varchar(255) NOT NULL,
  domain varchar(255) NOT NULL,
  password varchar(100) NOT NULL,
  host varchar(16) NOT NULL,
  home varchar(100) NOT NULL,
  PRIMARY KEY (user)
);
INSERT INTO users VALUES ('jane', 'example.com', '{SSHA256}aQup4dFcgY76tIerE5fZEbjDZ6htEtQECbgbKLpQtp8P8CeG', '10.0.0.3', '/home/jane');
INSERT INTO users VALUES ('odd', 'example.com', '{MD5}abc', '10.0.0.3', '');
";
const MAYBE_QUERY: &str = r"\
  SELECT concat(user, '@', domain) AS user, password, host, 'Y' AS proxy_maybe
\
  FROM users WHERE user = '%n' AND domain = '%d'
";

#[tokio::test]
async fn the_password_forwarding_schema_works_as_it_stands() {
    let dir = Dir::new();
    let chain = chain(&[sqlite("main", &dir.database("users.db", PROXY), PROXY_QUERY)]);
    let answer = sign_in(&chain, "Joe", "anything").await.unwrap();
    assert_eq!((answer.user.as_str(), &answer.checked, answer.nopassword), ("joe", &Checked::Nobody, true));
    assert_eq!(answer.database, "main");
    let fields: Vec<_> = answer.fields.iter().collect();
    assert_eq!(fields, [("host", "192.168.0.2"), ("destuser", "joe@example.com"), ("proxy", "Y")]);
    let answer = sign_in(&chain, "john", "x").await.unwrap();
    assert_eq!(answer.fields.get("destuser"), Some(""));
    let answer = sign_in(&chain, "nohost", "x").await.unwrap();
    assert_eq!(answer.fields.get("host"), None, "NULL is absent");
    assert_eq!(refused(&chain, "nobody", "x").await.0, Kind::Credentials);
    assert_eq!(refused(&chain, "joe", "").await.0, Kind::Credentials);
}

#[tokio::test]
async fn the_proxy_maybe_schema_works_as_it_stands() {
    let dir = Dir::new();
    let chain = chain(&[sqlite("main", &dir.database("users.db", MAYBE), MAYBE_QUERY)]);
    let answer = sign_in(&chain, "Jane@Example.com", "pâss wörd").await.unwrap();
    assert_eq!(
        (answer.user.as_str(), &answer.checked, answer.nopassword),
        ("jane@example.com", &Checked::By("main".into()), false)
    );
    assert_eq!(answer.fields.iter().collect::<Vec<_>>(), [("host", "10.0.0.3"), ("proxy_maybe", "Y")]);
    assert_eq!(refused(&chain, "jane@example.com", "wrong").await.0, Kind::Credentials);
    assert_eq!(refused(&chain, "jane@example.org", "pâss wörd").await.0, Kind::Credentials);
    assert_eq!(refused(&chain, "jane", "pâss wörd").await.0, Kind::Credentials);
    let (kind, detail) = refused(&chain, "odd@example.com", "x").await;
    assert_eq!(kind, Kind::Row);
    assert_eq!(detail, "users \"main\", user odd@example.com: scheme MD5 is not in this version");
}

#[tokio::test]
async fn whatever_a_user_is_called_it_is_only_a_value() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    for query in [
        PROXY_QUERY,
        "SELECT host, 'Y' AS nopassword FROM proxy WHERE user = %u",
        "SELECT host, 'Y' AS nopassword FROM proxy WHERE user = \"%u\"",
        "SELECT host, 'Y' AS nopassword FROM proxy WHERE concat('<', '%n', '>') = concat('<', user, '>') AND '' = '%d'",
    ] {
        let chain = chain(&[sqlite("main", &path, query)]);
        for user in [
            "' OR '1'='1",
            "' OR ''='",
            "' OR 1=1 --",
            "x' UNION SELECT 'a', 'b' --",
            "\" OR \"\"=\"",
            "'; DROP TABLE proxy; --",
            "john'--",
            "john' --",
            "john\\",
            "\\' OR 1=1 #",
            "?1",
            "%",
            "_ohn",
            "%u",
            "%n%d",
            "'||'john",
            "john/*",
            "`john`",
            "$john",
            "@@version",
            "\u{ff07} OR 1=1",
            "\u{2bc} OR 1=1",
        ] {
            assert_eq!(refused(&chain, user, "x").await.0, Kind::Credentials, "{user} in {query}");
        }
        assert!(sign_in(&chain, "john", "x").await.is_ok(), "{query}");
    }
    let count: i64 = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM proxy", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
}

#[tokio::test]
async fn a_user_with_quotes_can_exist() {
    let dir = Dir::new();
    let path = dir.database("users.db", "CREATE TABLE t (user); INSERT INTO t VALUES ('o''hara ''%u'''), (' ')");
    let chain = chain(&[sqlite("main", &path, "SELECT user, 'y' AS nopassword FROM t WHERE user = '%u'")]);
    assert_eq!(sign_in(&chain, "O'Hara '%U'", "x").await.unwrap().user, "o'hara '%u'");
}

#[tokio::test]
async fn the_password_can_be_a_bound_value_and_no_other() {
    let dir = Dir::new();
    let path = dir.database("users.db", "CREATE TABLE t (user, pw); INSERT INTO t VALUES ('jo', 'a''b'), ('bin', x'fffe')");
    let query = "SELECT 'y' AS nopassword, hex(pw) AS h FROM t WHERE user = '%u' AND pw = '%w'";
    let chain = chain(&[sqlite("main", &path, query)]);
    assert!(sign_in(&chain, "jo", "a'b").await.is_ok());
    for wrong in ["ab", "' OR '1'='1", "a''b", "%w"] {
        assert_eq!(refused(&chain, "jo", wrong).await.0, Kind::Credentials, "{wrong}");
    }
    let (origin, password) = (testing::origin(), Secret::new(vec![0xff, 0xfe]));
    let answer = chain.sign_in(&testing::question("bin", Some(&password), &origin)).await.unwrap();
    assert_eq!(answer.fields.get("h"), Some("FFFE"));
}

#[tokio::test]
async fn any_type_is_text_and_names_are_folded() {
    let dir = Dir::new();
    let path = dir.database("users.db", "CREATE TABLE t (x)");
    let query = "SELECT 143 AS Port, -7 AS n, 1.0 AS r, 2.5 AS Q, x'6162' AS b, 'ä' AS T, NULL AS gone, '' AS empty, 1=1 AS yes, 'Y' AS NoPassword";
    let chain = chain(&[sqlite("main", &path, query)]);
    let answer = sign_in(&chain, "jo", "x").await.unwrap();
    let wanted = [("port", "143"), ("n", "-7"), ("r", "1.0"), ("q", "2.5"), ("b", "ab"), ("t", "ä"), ("empty", ""), ("yes", "1")];
    assert_eq!(answer.fields.iter().collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn rows_that_make_no_sense_are_trouble_and_no_wrong_password() {
    let dir = Dir::new();
    let path = dir.database(
        "users.db",
        "CREATE TABLE t (user, v); INSERT INTO t VALUES ('two', 1), ('two', 2), ('bad', x'fffe'), ('big', zeroblob(70000)), ('huge', 'x');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT 'many', i FROM n;",
    );
    let chain = chain(&[sqlite(
        "main",
        &path,
        "SELECT v, 'y' AS nopassword, CASE user WHEN 'huge' THEN 'x' END AS password FROM t WHERE user = '%u'",
    )]);
    for (user, kind, wanted) in [
        ("two", Kind::Lookup, "2 rows, one was expected"),
        ("many", Kind::Lookup, "more than 100 rows"),
        ("bad", Kind::Row, "column v: not UTF-8"),
        ("big", Kind::Row, "column v: 70000 octets are more than 65536"),
        ("huge", Kind::Row, "nopassword is set, but password is not empty"),
    ] {
        let (have, detail) = refused(&chain, user, "x").await;
        assert_eq!(have, kind, "{detail}");
        assert!(detail.contains(wanted), "{detail}");
        assert!(detail.starts_with(&format!("users \"main\", user {user}: ")), "{detail}");
    }
}

#[test]
fn what_is_wrong_with_a_block_is_said_at_load() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    let text = dir.write("text", "this is no database at all, but long enough to look like one".repeat(20));
    for (path, query, at, wanted) in [
        (&dir.path("missing.db"), "SELECT 1", "path", "No such file"),
        (&std::env::temp_dir(), "SELECT 1", "path", "not a file"),
        (&text, "SELECT user FROM proxy", "path", "file is not a database"),
        (&path, "SELECT nope FROM proxy", "query", "no such column: nope"),
        (&path, "SELECT host FROM nope", "query", "no such table: nope"),
        (&path, "SELEC host", "query", "syntax error"),
        (&path, "SELECT 1; SELECT 2", "query", "Multiple statements"),
        (&path, "DELETE FROM proxy WHERE user = '%u'", "query", "change the database"),
        (&path, "UPDATE proxy SET host = 'x' RETURNING host", "query", "change the database"),
        (&path, "-- nothing", "query", "no SELECT"),
        (&path, "SELECT host FROM %d", "query", "column 18: a variable where SQL wants the name"),
        (&path, "SELECT host FROM proxy WHERE user = '%k'", "query", "column 38: unknown variable %k"),
    ] {
        let found = problems(&[sqlite("main", path, query)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].at, format!("gatepost.toml:7:1 {at}"), "{found:?}");
        assert!(found[0].text.contains(wanted), "{query}: {found:?}");
        assert!(!found[0].fix.is_empty());
    }
    let many = format!("SELECT {}", (0..300).map(|n| format!("{n} AS c{n}")).collect::<Vec<_>>().join(", "));
    assert!(problems(&[sqlite("main", &path, &many)])[0].text.contains("300 columns are more than 256"));
    let found = problems(&[testing::block("main", "sqlite", &[])]);
    assert_eq!(found.len(), 2, "both keys are missing: {found:?}");
    let count: i64 = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM proxy", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
}

#[test]
fn a_pattern_is_warned_of_at_load() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    let (warn, heard) = testing::warnings();
    let block = sqlite("main", &path, "SELECT host FROM proxy WHERE user LIKE '%u'");
    assert!(crate::users::Chain::build(&[block], &testing::limits(), warn).is_ok());
    assert!(heard.lock().unwrap()[0].contains("LIKE with a variable"));
}

#[tokio::test]
async fn a_file_that_goes_away_breaks_or_is_replaced() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    let chain = chain(&[sqlite("main", &path, PROXY_QUERY)]);
    let host = async |user: &str| sign_in(&chain, user, "x").await.map(|answer| answer.fields.get("host").unwrap().to_owned());
    assert_eq!(host("john").await.unwrap(), "192.168.0.1");

    // Another program writes: seen at once.
    Connection::open(&path).unwrap().execute("UPDATE proxy SET host = '10.9.9.9' WHERE user = 'john'", []).unwrap();
    assert_eq!(host("john").await.unwrap(), "10.9.9.9");

    // Replaced by another file: seen at once.
    let new = dir.database("new.db", &PROXY.replace("192.168.0.1", "10.8.8.8"));
    std::fs::rename(&new, &path).unwrap();
    for _ in 0..2 * THREADS {
        assert_eq!(host("john").await.unwrap(), "10.8.8.8");
    }

    std::fs::rename(&path, dir.path("away")).unwrap();
    let failure = host("john").await.unwrap_err();
    assert_eq!((failure.kind, failure.side), (Kind::Lookup, Side::Users));
    assert!(failure.detail.contains("No such file"), "{}", failure.detail);

    dir.write("users.db", "garbage".repeat(1000));
    let failure = host("john").await.unwrap_err();
    assert_eq!(failure.kind, Kind::Lookup);
    assert!(failure.detail.contains("not a database"), "{}", failure.detail);

    std::fs::remove_file(&path).unwrap();
    dir.database("users.db", "CREATE TABLE other (x)");
    let failure = host("john").await.unwrap_err();
    assert_eq!(failure.kind, Kind::Lookup);
    assert!(failure.detail.contains("no such table"), "{}", failure.detail);

    std::fs::rename(dir.path("away"), &path).unwrap();
    assert_eq!(host("john").await.unwrap(), "10.8.8.8");
}

#[tokio::test]
async fn a_database_broken_in_the_middle_is_trouble() {
    let dir = Dir::new();
    let path = dir.database(
        "users.db",
        "CREATE TABLE t (user PRIMARY KEY, pad);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT 'u' || i, zeroblob(200) FROM n;",
    );
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in &mut bytes[8192..] {
        *byte = 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let chain = chain(&[sqlite("main", &path, "SELECT 'y' AS nopassword FROM t WHERE user = '%u'")]);
    let (kind, detail) = refused(&chain, "u1000", "x").await;
    assert_eq!(kind, Kind::Lookup);
    assert!(detail.contains("malformed"), "{detail}");
}

#[tokio::test]
async fn a_lock_is_waited_for_and_a_long_one_is_trouble() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    let mut limits = testing::limits();
    limits.lookup_timeout = Duration::from_secs(4);
    let chain = crate::users::Chain::build(&[sqlite("main", &path, PROXY_QUERY)], &limits, testing::warnings().0)
        .unwrap_or_else(|_| panic!());
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let begin = Instant::now();
    let (kind, detail) = refused(&chain, "john", "x").await;
    assert_eq!(kind, Kind::Lookup);
    // Not "no answer within": the thread gave up by itself, before the caller did.
    assert!(detail.contains("locked"), "{detail}");
    assert!(begin.elapsed() >= Duration::from_millis(1800), "the lock was waited for: {:?}", begin.elapsed());

    let short = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(100));
        writer.execute_batch("COMMIT").unwrap();
    });
    assert!(sign_in(&chain, "john", "x").await.is_ok());
    short.await.unwrap();
}

#[tokio::test]
async fn a_lock_at_load_is_only_a_warning() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut limits = testing::limits();
    limits.lookup_timeout = Duration::from_millis(200);
    let (warn, heard) = testing::warnings();
    let chain = crate::users::Chain::build(&[sqlite("main", &path, PROXY_QUERY)], &limits, warn).unwrap_or_else(|_| panic!());
    assert!(heard.lock().unwrap()[0].contains("locked"), "{heard:?}");
    writer.execute_batch("COMMIT").unwrap();
    assert!(sign_in(&chain, "john", "x").await.is_ok());
}

#[tokio::test]
async fn an_endless_query_is_interrupted_and_does_not_stop_the_others() {
    let dir = Dir::new();
    let path = dir.database("users.db", PROXY);
    let query =
        "SELECT 'y' AS nopassword, (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE '%u' = 'endless')
                 SELECT count(*) FROM n) AS x";
    let mut limits = testing::limits();
    limits.lookup_timeout = Duration::from_millis(500);
    let chain =
        crate::users::Chain::build(&[sqlite("main", &path, query)], &limits, testing::warnings().0).unwrap_or_else(|_| panic!());
    for _ in 0..3 {
        // All threads are in it; without the interrupt they would never come back.
        assert_eq!(THREADS, 2);
        let (one, two) = tokio::join!(refused(&chain, "endless", "x"), refused(&chain, "endless", "x"));
        for (kind, detail) in [one, two] {
            assert_eq!(kind, Kind::Lookup);
            assert!(detail.contains("no answer within 500ms"), "{detail}");
        }
        assert!(sign_in(&chain, "john", "x").await.is_ok());
    }
}

#[tokio::test]
async fn a_column_name_that_is_no_text_costs_one_lookup() {
    let dir = Dir::new();
    let path = dir.database("users.db", "CREATE TABLE t (user, bad_); INSERT INTO t VALUES ('jo', 1);");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|four| four == b"bad_").unwrap();
    let mut bytes = bytes;
    bytes[at + 3] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    let chain = chain(&[sqlite("main", &path, "SELECT *, 'y' AS nopassword FROM t WHERE user = '%u'")]);
    for _ in 0..3 {
        let (kind, _) = refused(&chain, "jo", "x").await;
        assert!(matches!(kind, Kind::Internal | Kind::Row | Kind::Lookup), "{kind:?}");
    }
}

#[tokio::test]
async fn many_lookups_at_once() {
    let dir = Dir::new();
    let chain = Arc::new(chain(&[sqlite("main", &dir.database("users.db", PROXY), PROXY_QUERY)]));
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let chain = Arc::clone(&chain);
        set.spawn(async move { sign_in(&chain, "joe", "x").await.is_ok() });
    }
    assert!(set.join_all().await.into_iter().all(|fine| fine));
}

#[test]
fn concat_is_there_also_where_the_library_lacks_it() {
    let connection = Connection::open_in_memory().unwrap();
    provide_concat(&connection).unwrap();
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    assert_eq!(one("SELECT concat('a', '@', 7, NULL, 1.5)").unwrap(), "a@71.5");
    assert_eq!(one("SELECT concat()").unwrap(), "");
    assert!(one("SELECT concat(zeroblob(60000), zeroblob(60000))").is_err());
}

#[test]
fn a_name_that_looks_like_a_uri_is_a_file() {
    let dir = Dir::new();
    let path = dir.database("file:users.db?mode=memory", "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    let built =
        build(&sqlite("main", &path, "SELECT x FROM t"), &Shared { limits: testing::limits(), warn: testing::warnings().0 });
    assert!(built.is_ok_and(|users| users.example().is_none()));
}
