//! SQL with variables: read once at load, every variable becomes a bound value.
//!
//! Operators bring the queries they have: `WHERE user = '%u' AND domain = '%d'`, written for a program that pasted escaped
//! text. Here nothing is pasted. The query is cut into tokens, and
//!
//! * a string in single or double quotes that holds a variable becomes, as a whole, one value (`'%n@%d'` is one, also as
//!   an argument of a function);
//! * a variable outside quotes is one value;
//! * comments, and strings and quoted identifiers without a variable, stay as they are (`%%` is a percent sign in strings);
//! * a backslash at the end of a line, from a file that continues lines that way, is white space;
//! * a variable that would have to be pasted is an error: in a quoted identifier, glued to a name, or where SQL wants a
//!   table or column name. So are the query's own parameters (`?`, `:name`, `@name`, `$name`), which would mix with ours.
//!
//! Quoting follows the SQL standard (a quote is doubled, a backslash is a backslash), which is SQLite's and PostgreSQL's way.

use super::Asked;
use super::template::{TemplateError, Text};
use crate::witness::MASK;
use wire::secret::Secret;

/// A query, cut at its values.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pieces: Vec<Piece>,
    /// What is allowed and hardly meant, in words for the operator.
    pub(super) cautions: Vec<String>,
}

#[derive(Debug, Clone)]
enum Piece {
    Sql(String),
    Value(Text),
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// See the list above; with the place.
    pub(super) fn parse(text: &str) -> Result<Query, TemplateError> {
        Reader { text, at: 0, query: Query::default(), word: String::new() }.read()
    }

    /// The SQL for the database; `placeholder` spells the place of value number n, from 1.
    pub(super) fn sql(&self, placeholder: impl Fn(usize) -> String) -> String {
        let mut number = 0;
        let mut sql = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Sql(text) => sql.push_str(text),
                Piece::Value(_) => {
                    number += 1;
                    sql.push_str(&placeholder(number));
                }
            }
        }
        sql
    }

    /// What to bind, in order. Text, unless the client's password is in it.
    pub(super) fn values(&self, asked: &Asked<'_>) -> Vec<Secret<Vec<u8>>> {
        let value = |piece: &Piece| match piece {
            Piece::Value(text) => Some(text.expand(asked)),
            Piece::Sql(_) => None,
        };
        self.pieces.iter().filter_map(value).collect()
    }

    /// The same for people: what holds a secret is masked.
    pub(super) fn shown_values(&self, asked: &Asked<'_>) -> Vec<String> {
        let shown = |piece: &Piece| match piece {
            Piece::Sql(_) => None,
            Piece::Value(text) if text.is_secret() => Some(MASK.to_owned()),
            Piece::Value(text) => Some(asked.question.witness.shown("", &String::from_utf8_lossy(text.expand(asked).expose()))),
        };
        self.pieces.iter().filter_map(shown).collect()
    }

    /// The query looks at the client's password itself.
    pub(super) fn uses_password(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Value(text) if text.uses_password()))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    query: Query,
    /// The last bare word, upper case, if only white space and comments came behind it.
    word: String,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Query, TemplateError> {
        while let Some(c) = self.peek() {
            let rest = self.rest();
            match c {
                '\'' | '"' => self.quoted(c)?,
                '`' => self.identifier('`')?,
                '[' => self.identifier(']')?,
                '%' => self.bare()?,
                '\\' if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") => {
                    self.sql(" ");
                    self.at += 1;
                }
                '-' if rest.starts_with("--") => self.copy_to("\n", 0),
                '/' if rest.starts_with("/*") => self.copy_to("*/", 2),
                '?' => return Err(self.parameter()),
                ':' if rest.starts_with("::") => {
                    self.sql("::");
                    self.at += 2;
                }
                ':' | '@' | '$' if self.behind(1).is_some_and(in_name) => return Err(self.parameter()),
                c if in_name(c) => self.bare_word(),
                c => {
                    self.sql(c.encode_utf8(&mut [0; 4]));
                    self.at += c.len_utf8();
                    if !c.is_whitespace() {
                        self.word.clear();
                    }
                }
            }
        }
        Ok(self.query)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn behind(&self, offset: usize) -> Option<char> {
        self.text.get(self.at + offset..)?.chars().next()
    }

    fn before(&self) -> Option<char> {
        self.text.get(..self.at)?.chars().next_back()
    }

    fn sql(&mut self, text: &str) {
        match self.query.pieces.last_mut() {
            Some(Piece::Sql(sql)) => sql.push_str(text),
            _ => self.query.pieces.push(Piece::Sql(text.to_owned())),
        }
    }

    fn bare_word(&mut self) {
        let rest = self.rest();
        let word = rest.get(..rest.find(|c| !in_name(c)).unwrap_or(rest.len())).unwrap_or_default();
        self.sql(word);
        self.at += word.len();
        self.word = word.to_ascii_uppercase();
    }

    /// Copies up to and with `end`, searched for behind `skip` octets; to the end of the text where it is missing.
    fn copy_to(&mut self, end: &str, skip: usize) {
        let rest = self.rest();
        let length = rest.get(skip..).and_then(|tail| tail.find(end)).map_or(rest.len(), |found| skip + found + end.len());
        self.sql(rest.get(..length).unwrap_or(rest));
        self.at += length;
    }

    /// A quoted string: one value if it varies, itself otherwise.
    fn quoted(&mut self, quote: char) -> Result<(), TemplateError> {
        let begin = self.at;
        let prefixed = self.before().is_some_and(in_name);
        let mut text = Text::default();
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.error(begin, "this quote is never closed", "close it")),
                Some(c) if c == quote => {
                    self.at += 1;
                    if self.peek() != Some(quote) {
                        break;
                    }
                    text.push(quote);
                    self.at += 1;
                }
                Some('%') => self.at = text.push_percent(self.text, self.at)?,
                Some(c) => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        if !text.varies() {
            let doubled = text.fixed().replace(quote, &format!("{quote}{quote}"));
            self.sql(&format!("{quote}{doubled}{quote}"));
            self.word.clear();
            return Ok(());
        }
        if prefixed {
            let fix = "write the quotes without a prefix, and use a function of SQL around them";
            return Err(self.error(begin, "a variable in a string with a prefix (x'..', e'..') cannot be bound", fix));
        }
        let followed = self.peek();
        self.value(text, begin, followed)
    }

    /// A variable outside quotes.
    fn bare(&mut self) -> Result<(), TemplateError> {
        let begin = self.at;
        let mut text = Text::default();
        let before = self.before();
        self.at = text.push_percent(self.text, self.at)?;
        if !text.varies() {
            self.sql("%");
            self.word.clear();
            return Ok(());
        }
        let after = self.peek();
        if before.is_some_and(|c| in_name(c) || c == '%') || after.is_some_and(|c| in_name(c) || matches!(c, '%' | '(')) {
            let fix = "put quotes around what is meant as one value, as in '%n@%d'";
            return Err(self.error(begin, "a variable glued to other text outside quotes", fix));
        }
        self.value(text, begin, after)
    }

    fn value(&mut self, text: Text, begin: usize, after: Option<char>) -> Result<(), TemplateError> {
        let dotted = after == Some('.') || self.text.get(..begin).is_some_and(|before| before.ends_with('.'));
        if dotted || NAME_FOLLOWS.contains(&self.word.as_str()) {
            let fix = "a variable can only stand for a value: write the name out, or choose rows by WHERE";
            return Err(self.error(begin, "a variable where SQL wants the name of a table or column", fix));
        }
        if PATTERN_FOLLOWS.contains(&self.word.as_str()) {
            let place = self.error(begin, format!("{} with a variable: % and _ in a user name match other users", self.word), "");
            self.query.cautions.push(format!("{place}; compare with = instead"));
        }
        self.query.pieces.push(Piece::Value(text));
        self.word.clear();
        Ok(())
    }

    /// A quoted identifier, copied; no variable may be in it.
    fn identifier(&mut self, end: char) -> Result<(), TemplateError> {
        let begin = self.at;
        let inside = self.text.get(begin + 1..).unwrap_or_default();
        let Some(length) = inside.find(end) else {
            return Err(self.error(begin, "this quoted name is never closed", "close it"));
        };
        let name = inside.get(..length).unwrap_or_default();
        if let Some(percent) = name.find('%') {
            let fix = "a variable can only stand for a value, in '...' or bare";
            return Err(self.error(begin + 1 + percent, "a variable inside a quoted name", fix));
        }
        self.at = begin + 1 + length + 1;
        let whole = self.text.get(begin..self.at).unwrap_or_default();
        self.sql(whole);
        self.word.clear();
        Ok(())
    }

    fn parameter(&self) -> TemplateError {
        self.error(
            self.at,
            "the query has a parameter of its own",
            "use variables such as %u; inside quotes these signs are free",
        )
    }

    fn error(&self, at: usize, text: impl Into<String>, fix: &str) -> TemplateError {
        TemplateError::new(self.text, at, text, fix)
    }
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Behind these words stands a name.
const NAME_FOLLOWS: &[&str] = &["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "AS", "BY", "COLLATE", "INDEXED", "SCHEMA"];

/// Behind these words stands a pattern.
const PATTERN_FOLLOWS: &[&str] = &["LIKE", "ILIKE", "GLOB", "REGEXP", "RLIKE", "MATCH", "SIMILAR"];

#[cfg(test)]
mod tests;
