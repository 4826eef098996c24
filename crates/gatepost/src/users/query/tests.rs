use super::*;
use crate::users::{Fields, testing};
use proptest::prelude::*;

/// The SQL, and what is bound for user Jo@Ex.com with password pw.
fn bound(query: &str) -> (String, Vec<String>) {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    (query.sql(|number| format!("?{number}")), values(&query, "Jo@Ex.com"))
}

fn values(query: &Query, user: &str) -> Vec<String> {
    let (origin, password, so_far) = (testing::origin(), testing::secret("pw"), Fields::default());
    let question = testing::question(user, Some(&password), &origin);
    let values = query.values(&Asked { question: &question, user, so_far: &so_far });
    values.iter().map(|value| String::from_utf8(value.expose().clone()).unwrap()).collect()
}

#[test]
fn variables_become_bound_values() {
    for (query, sql, wanted) in [
        ("SELECT 1", "SELECT 1", &[][..]),
        ("WHERE user = '%u'", "WHERE user = ?1", &["Jo@Ex.com"]),
        ("WHERE user='%n' AND domain='%d'", "WHERE user=?1 AND domain=?2", &["Jo", "Ex.com"]),
        ("WHERE user = \"%u\"", "WHERE user = ?1", &["Jo@Ex.com"]),
        ("WHERE user = %u", "WHERE user = ?1", &["Jo@Ex.com"]),
        ("WHERE user=%u;", "WHERE user=?1;", &["Jo@Ex.com"]),
        ("f(%u,%d)", "f(?1,?2)", &["Jo@Ex.com", "Ex.com"]),
        ("concat('%n', '@', '%d')", "concat(?1, '@', ?2)", &["Jo", "Ex.com"]),
        ("'%n@%d'", "?1", &["Jo@Ex.com"]),
        ("'pre-%Ln/%{user | domain | lower}-post'", "?1", &["pre-jo/ex.com-post"]),
        ("'it''s %n''s'", "?1", &["it's Jo's"]),
        ("\"say \"\"%n\"\"\"", "?1", &["say \"Jo\""]),
        ("'%{user | default('it')}'", "?1", &["Jo@Ex.com"]),
        ("'%w' = %{password}", "?1 = ?2", &["pw", "pw"]),
        ("'50%%' 'it''s' \"a\"\"b\"", "'50%' 'it''s' \"a\"\"b\"", &[]),
        ("'%%%u'", "?1", &["%Jo@Ex.com"]),
        ("'a\\' || '%u'", "'a\\' || ?1", &["Jo@Ex.com"]),
        ("5 % 2, 5 %% 2", "5 % 2, 5 % 2", &[]),
        ("-- don't touch %u\n'%u'", "-- don't touch %u\n?1", &["Jo@Ex.com"]),
        ("/* don't %u */ '%u' -- end", "/* don't %u */ ?1 -- end", &["Jo@Ex.com"]),
        ("/*/ '%u' */ 1", "/*/ '%u' */ 1", &[]),
        ("/* open '%u'", "/* open '%u'", &[]),
        ("`a b` [c d] \"e\" '%u'", "`a b` [c d] \"e\" ?1", &["Jo@Ex.com"]),
        ("SELECT a \\\n  FROM b\\\r\n WHERE c", "SELECT a  \n  FROM b \r\n WHERE c", &[]),
        ("x::text = '?' AND '@a' <> '$b :c'", "x::text = '?' AND '@a' <> '$b :c'", &[]),
    ] {
        let wanted: Vec<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(bound(query), (sql.to_owned(), wanted), "{query}");
    }
}

#[test]
fn placeholders_are_the_drivers() {
    let query = Query::parse("a = '%n' AND b = '%d'").unwrap();
    assert_eq!(query.sql(|_| "?".to_owned()), "a = ? AND b = ?");
    assert_eq!(query.sql(|number| format!("${number}")), "a = $1 AND b = $2");
}

#[test]
fn what_would_have_to_be_pasted_is_refused_with_its_place() {
    for (query, wanted) in [
        ("SELECT * FROM %d", "column 15: a variable where SQL wants the name"),
        ("SELECT * FROM '%d'", "column 15: a variable where SQL wants the name"),
        ("SELECT * FROM /* x */ %d", "a variable where SQL wants the name"),
        ("SELECT a\nFROM x\nJOIN %d", "line 3, column 6: a variable where SQL wants the name"),
        ("SELECT host AS %u", "wants the name"),
        ("ORDER BY '%u'", "wants the name"),
        ("SELECT %d.host", "wants the name"),
        ("SELECT users.%d", "wants the name"),
        ("SELECT * FROM `%d`", "column 16: a variable inside a quoted name"),
        ("SELECT * FROM [%d]", "a variable inside a quoted name"),
        ("users_%d", "glued"),
        ("%d_users", "glued"),
        ("%n%d", "glued"),
        ("%u(1)", "glued"),
        ("x'%u'", "string with a prefix"),
        ("E'%u'", "string with a prefix"),
        ("_utf8'%u'", "string with a prefix"),
        ("'%u", "column 1: this quote is never closed"),
        ("a \"b", "column 3: this quote is never closed"),
        ("`a", "this quoted name is never closed"),
        ("[a", "this quoted name is never closed"),
        ("user = ?", "column 8: the query has a parameter of its own"),
        ("user = ?1", "parameter of its own"),
        ("user = :name", "parameter of its own"),
        ("user = @name", "parameter of its own"),
        ("user = $name", "parameter of its own"),
        ("user = '%k'", "column 9: unknown variable %k"),
        ("user = %x", "column 8: unknown variable %x"),
        ("user LIKE '%foo'", "column 12: unknown variable %f"),
        ("user = '%{nope}'", "unknown variable %{nope}"),
    ] {
        let error = Query::parse(query).expect_err(query);
        assert!(error.to_string().contains(wanted), "{query}: {error}");
        assert!(!error.fix.is_empty(), "{query}");
    }
}

#[test]
fn a_pattern_with_a_variable_is_worth_a_word() {
    let query = Query::parse("SELECT host FROM x WHERE user LIKE '%u'").unwrap();
    assert_eq!(query.cautions.len(), 1);
    assert!(query.cautions[0].contains("column 36: LIKE with a variable"), "{:?}", query.cautions);
    assert!(Query::parse("SELECT 'LIKE', '%u'").unwrap().cautions.is_empty());
}

/// A name that no query of these tests contains.
const SENTINEL: &str = "zq'; DROP TABLE zq; --";

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_nothing_is_pasted(text in "(%[undswr%]|%\\{user\\}|'|''|\"|`|\\[|\\]|--|/\\*|\\*/|\\\\\n|\n| |[a-z.,()=?:@$%\\\\]|é|FROM |LIKE ){0,24}") {
        if let Ok(query) = Query::parse(&text) {
            let sql = query.sql(|number| format!("?{number}"));
            let values = values(&query, SENTINEL);
            prop_assert!(!sql.contains("zq"));
            // Every value that holds the user's name is one place in the SQL, outside any quotes.
            let other = query.sql(|_| "\u{1}".to_owned());
            prop_assert_eq!(other.matches('\u{1}').count(), values.len());
            let again = lexed_outside_quotes(&other);
            prop_assert_eq!(again, values.len(), "{} -> {}", text, other);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(text in "\\PC{0,80}") {
        let _ = Query::parse(&text);
    }
}

/// Counts the marks that a plain reader of SQL finds outside strings, names and comments.
fn lexed_outside_quotes(sql: &str) -> usize {
    let chars: Vec<char> = sql.chars().collect();
    let (mut at, mut count) = (0, 0);
    while at < chars.len() {
        let rest: String = chars[at..].iter().take(2).collect();
        let end = match (chars[at], rest.as_str()) {
            ('\u{1}', _) => {
                count += 1;
                at + 1
            }
            (quote @ ('\'' | '"' | '`'), _) => skip(&chars, at + 1, &quote.to_string()),
            ('[', _) => skip(&chars, at + 1, "]"),
            (_, "--") => skip(&chars, at + 2, "\n"),
            (_, "/*") => skip(&chars, at + 2, "*/"),
            _ => at + 1,
        };
        at = end;
    }
    count
}

fn skip(chars: &[char], from: usize, end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    (from..chars.len()).find(|at| chars[*at..].starts_with(&end)).map_or(chars.len(), |at| at + end.len())
}
