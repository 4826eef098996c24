//! `%u`, `%{user | domain}` and their kin: parsed once at load, expanded in one pass.
//!
//! Both languages that operators have in their files are understood: one-letter variables with modifiers and offsets
//! (`%Lu`, `%2.3n`, as Dovecot up to 2.3) and long names with filters (`%{user | lower | substr(0,1)}`, as Dovecot 2.4).
//!
//! What a variable yields is never looked at again: a `%` in a user name is a percent sign (security rule: client data is
//! never template text). A name or filter that does not exist is an error at load, with its place, and never an empty text
//! at login.
//!
//! | short | long | value |
//! | --- | --- | --- |
//! | `%u` | `user` | the name being looked up |
//! | `%n` `%d` | `username` `domain` | before and behind its first `@`; no `@`: all of it, and nothing |
//! | `%s` | `service` `protocol` | `imap`, ... |
//! | `%r` `%b` | `rip` `remote_ip`, `rport` `remote_port` | the client, as far as is believed |
//! | `%l` `%a` | `lip` `local_ip`, `lport` `local_port` | what the client reached |
//! | | `real_rip` `real_remote_ip`, `real_lip` ..., `real_rport` ..., `real_lport` ... | both ends of our own socket |
//! | `%m` | `mech` `mechanism` | `PLAIN`, ... |
//! | `%c` | `secured` | `secured` or nothing |
//! | `%w` | `password` | as the client said it; takes no modifier and no filter |
//! | | `session` `client_id` `local_name` | nothing where there is none |
//! | | `orig_user` `original_user` `orig_username` `orig_domain` | the name as the client said it |
//! | | `login_user` `login_username` `login_domain` | nothing: there are no master logins in this version |
//! | | `passdb:NAME`, `passdb:NAME:DEFAULT` | a field that a database asked earlier gave, or a forwarded `forward_...` pair |
//!
//! Modifiers `L U R T X`; filters `lower upper reverse rtrim username domain substr(offset[, length]) default('text')
//! hex`. Offsets count characters. Hashes (`M N H`, `md5`, ...) are refused as "not in this version"; `E` (escape) is
//! refused because nothing here is ever pasted.

mod filter;
mod variable;

use super::Asked;
use crate::failure::{Failure, Kind, Side};
use crate::witness::is_secret;
use filter::Filter;
use std::fmt;
use variable::{SHORT, Variable, named};
use wire::secret::Secret;

/// Text with variables in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    parts: Vec<Part>,
}

/// Why a template is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TemplateError {
    /// Line and column in the template, from 1.
    pub(super) place: (usize, usize),
    pub(super) text: String,
    pub(super) fix: String,
}

impl TemplateError {
    pub(super) fn new(template: &str, at: usize, text: impl Into<String>, fix: impl Into<String>) -> Self {
        let before = template.get(..at).unwrap_or(template);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        TemplateError { place: (line, column), text: text.into(), fix: fix.into() }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            (1, column) => write!(f, "column {column}: {}", self.text),
            (line, column) => write!(f, "line {line}, column {column}: {}", self.text),
        }
    }
}

impl Text {
    /// Reads a template.
    ///
    /// # Errors
    /// For what does not exist, with its place.
    pub(super) fn parse(template: &str) -> Result<Text, TemplateError> {
        let mut text = Text::default();
        let mut at = 0;
        while let Some(c) = template.get(at..).and_then(|rest| rest.chars().next()) {
            if c == '%' {
                at = text.push_percent(template, at)?;
            } else {
                text.push(c);
                at += c.len_utf8();
            }
        }
        Ok(text)
    }

    /// Takes one character of fixed text.
    pub(super) fn push(&mut self, c: char) {
        match self.parts.last_mut() {
            Some(Part::Fixed(fixed)) => fixed.push(c),
            _ => self.parts.push(Part::Fixed(c.to_string())),
        }
    }

    /// Takes what begins with the percent sign at `at` and says where it ends.
    pub(super) fn push_percent(&mut self, template: &str, at: usize) -> Result<usize, TemplateError> {
        let (percent, end) = Percent::read(template, at)?;
        match percent {
            Percent::Sign => self.push('%'),
            Percent::Value(expression) => self.parts.push(Part::Value(expression)),
        }
        Ok(end)
    }

    /// There is a variable in it.
    pub(super) fn varies(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(_)))
    }

    /// There is the password in it.
    pub(super) fn uses_password(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Value(Expression { variable: Variable::Password, .. })))
    }

    /// There is a secret in it: the password, or a field of a database asked earlier whose name says so.
    pub(super) fn is_secret(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Value(Expression { variable: Variable::Password, .. }) => true,
            Part::Value(Expression { variable: Variable::Passdb { name, .. }, .. }) => is_secret(name),
            _ => false,
        })
    }

    /// The fixed text, where nothing varies.
    pub(super) fn fixed(&self) -> String {
        self.parts.iter().map(|part| if let Part::Fixed(fixed) = part { fixed.as_str() } else { "" }).collect()
    }

    /// Expands. The result may hold the password; otherwise it is UTF-8.
    pub(super) fn expand(&self, asked: &Asked<'_>) -> Secret<Vec<u8>> {
        // Room for everything at once: a vector that grows leaves copies of the password behind.
        let mut room = 0;
        for part in &self.parts {
            room += match part {
                Part::Fixed(fixed) => fixed.len(),
                Part::Value(Expression { variable: Variable::Password, .. }) => password(asked).len(),
                Part::Value(_) => 256,
            };
        }
        let mut out = Vec::with_capacity(room);
        for part in &self.parts {
            match part {
                Part::Fixed(fixed) => out.extend_from_slice(fixed.as_bytes()),
                Part::Value(expression) => expression.append(asked, &mut out),
            }
        }
        Secret::new(out)
    }

    /// Expands to text for a field.
    ///
    /// # Errors
    /// When it would hold a password that is no text.
    pub(super) fn expand_text(&self, asked: &Asked<'_>) -> Result<String, Failure> {
        match std::str::from_utf8(self.expand(asked).expose()) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => {
                Err(Failure::new(Side::Users, Kind::Row, "a field is made of %w, and the password that was said is not UTF-8"))
            }
        }
    }
}

/// What a percent sign turned out to begin.
#[derive(Debug, PartialEq, Eq)]
enum Percent {
    Sign,
    Value(Expression),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Fixed(String),
    Value(Expression),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expression {
    variable: Variable,
    filters: Vec<Filter>,
}

impl Expression {
    fn append(&self, asked: &Asked<'_>, out: &mut Vec<u8>) {
        if self.variable == Variable::Password {
            out.extend_from_slice(password(asked));
            return;
        }
        let value = self.filters.iter().fold(self.variable.value(asked), |value, filter| filter.apply(value));
        out.extend_from_slice(value.as_bytes());
    }
}

fn password<'a>(asked: &Asked<'a>) -> &'a [u8] {
    asked.question.password.map_or(&[], |password| password.expose().as_slice())
}

/// The longest text that numbers of a template may ask for.
const MAX_WIDTH: usize = 1024;

impl Percent {
    /// Reads what begins with the percent sign at `at`, and says where it ends.
    fn read(template: &str, at: usize) -> Result<(Percent, usize), TemplateError> {
        let mut cursor = Cursor { template, at: at + 1 };
        match cursor.peek() {
            Some('%') => {
                cursor.take();
                return Ok((Percent::Sign, cursor.at));
            }
            // `5 % 2` in a query, `100 % sure` in a text.
            None => return Ok((Percent::Sign, cursor.at)),
            Some(c) if c.is_whitespace() => return Ok((Percent::Sign, cursor.at)),
            Some(_) => {}
        }
        let (cut, fill) = cursor.numbers(at)?;
        let mut filters = Vec::new();
        while let Some(letter) = cursor.peek().filter(char::is_ascii_uppercase) {
            let place = cursor.at;
            cursor.take();
            filters.push(modifier(letter).map_err(|(text, fix)| TemplateError::new(template, place, text, fix))?);
        }
        let place = cursor.at;
        let variable = match cursor.take() {
            Some('{') => cursor.long(at, &mut filters)?,
            Some(letter) => match SHORT.iter().find(|(short, _)| *short == letter) {
                Some((_, long)) => named(long).ok_or_else(|| unknown(template, at, &format!("%{letter}")))?,
                None => return Err(unknown(template, at, &format!("%{}", letter.escape_default()))),
            },
            None => return Err(TemplateError::new(template, place, "a variable's name is missing", PERCENT)),
        };
        filters.extend(cut);
        filters.extend(fill);
        if variable == Variable::Password && !filters.is_empty() {
            let text = "the password takes no modifier and no filter";
            return Err(TemplateError::new(template, at, text, "write %w or %{password}"));
        }
        Ok((Percent::Value(Expression { variable, filters }), cursor.at))
    }
}

struct Cursor<'a> {
    template: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.template.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.take();
        }
        there
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// `[[-]offset.][0]width` behind the percent sign.
    fn numbers(&mut self, percent: usize) -> Result<(Option<Filter>, Option<Filter>), TemplateError> {
        let wrong =
            |at| TemplateError::new(self.template, at, "bad offset or width", "write %OFFSET.WIDTHx, as in %0.1n or %-2.2u");
        if !self.peek().is_some_and(|c| c == '-' || c.is_ascii_digit()) {
            return Ok((None, None));
        }
        let mut cursor = Cursor { template: self.template, at: self.at };
        let number = |cursor: &mut Cursor<'_>| -> Result<(i64, bool), TemplateError> {
            let negative = cursor.eat('-');
            let digits = cursor.take_while(|c| c.is_ascii_digit());
            let value: i64 = digits.parse().map_err(|_| wrong(percent))?;
            if value > i64::try_from(MAX_WIDTH).unwrap_or(i64::MAX) {
                return Err(wrong(percent));
            }
            Ok((if negative { -value } else { value }, digits.len() > 1 && digits.starts_with('0')))
        };
        let (first, first_zero) = number(&mut cursor)?;
        let (offset, width, zero) =
            if cursor.eat('.') { number(&mut cursor).map(|(width, zero)| (first, width, zero))? } else { (0, first, first_zero) };
        if width < 0 {
            return Err(wrong(percent));
        }
        self.at = cursor.at;
        if zero {
            let fill = usize::try_from(width).map_err(|_| wrong(percent))?;
            let cut = (offset != 0).then_some(Filter::Substr { offset, length: None });
            return Ok((cut, Some(Filter::ZeroFill(fill))));
        }
        Ok((Some(Filter::Substr { offset, length: (width != 0).then_some(width) }), None))
    }

    /// `name [: argument] {| filter}}`, behind the opening brace.
    fn long(&mut self, percent: usize, filters: &mut Vec<Filter>) -> Result<Variable, TemplateError> {
        self.skip_blanks();
        let name = self.take_while(|c| !matches!(c, '}' | '|')).trim();
        let variable = named(name).ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            unknown(self.template, percent, &format!("%{{{}}}", shown.escape_debug()))
        })?;
        loop {
            self.skip_blanks();
            match self.take() {
                Some('}') => return Ok(variable),
                Some('|') => filters.push(self.filter()?),
                _ => return Err(TemplateError::new(self.template, percent, "%{ without }", PERCENT)),
            }
        }
    }

    fn filter(&mut self) -> Result<Filter, TemplateError> {
        self.skip_blanks();
        let place = self.at;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        self.skip_blanks();
        let arguments = if self.eat('(') { self.arguments(place)? } else { Vec::new() };
        let number = |text: &String| text.parse::<i64>().ok().filter(|number| number.unsigned_abs() <= MAX_WIDTH as u64);
        let filter = match (name, arguments.as_slice()) {
            ("lower", []) => Some(Filter::Lower),
            ("upper", []) => Some(Filter::Upper),
            ("reverse", []) => Some(Filter::Reverse),
            ("rtrim", []) => Some(Filter::TrimEnd),
            ("hex", []) => Some(Filter::Hex),
            ("username", []) => Some(Filter::Username),
            ("domain", []) => Some(Filter::Domain),
            ("default", []) => Some(Filter::Default(String::new())),
            ("default", [text]) => Some(Filter::Default(text.clone())),
            ("substr", [offset]) => number(offset).map(|offset| Filter::Substr { offset, length: None }),
            ("substr", [offset, length]) => match (number(offset), number(length)) {
                (Some(offset), Some(length)) => Some(Filter::Substr { offset, length: Some(length) }),
                _ => None,
            },
            _ => None,
        };
        filter.ok_or_else(|| {
            let known = FILTERS.iter().find(|(known, _)| *known == name);
            match known {
                Some((_, usage)) => TemplateError::new(
                    self.template,
                    place,
                    format!("wrong arguments of the filter {name}"),
                    format!("write {usage}"),
                ),
                None => TemplateError::new(
                    self.template,
                    place,
                    format!("unknown filter \"{name}\" (or not in this version)"),
                    format!("known are {}", FILTERS.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ")),
                ),
            }
        })
    }

    /// Numbers and quoted texts, behind the opening parenthesis.
    fn arguments(&mut self, place: usize) -> Result<Vec<String>, TemplateError> {
        let wrong =
            || TemplateError::new(self.template, place, "a filter's arguments do not end", "write name(argument, argument)");
        let mut cursor = Cursor { template: self.template, at: self.at };
        let mut arguments = Vec::new();
        loop {
            cursor.skip_blanks();
            match cursor.peek() {
                Some(')') => {
                    cursor.take();
                    break;
                }
                Some(',') => {
                    cursor.take();
                }
                Some(quote @ ('\'' | '"')) => {
                    cursor.take();
                    arguments.push(cursor.take_while(|c| c != quote).to_owned());
                    if !cursor.eat(quote) {
                        return Err(wrong());
                    }
                }
                Some(c) if c == '-' || c.is_ascii_alphanumeric() => {
                    arguments.push(cursor.take_while(|c| c == '-' || c.is_ascii_alphanumeric()).to_owned());
                }
                _ => return Err(wrong()),
            }
        }
        self.at = cursor.at;
        Ok(arguments)
    }
}

fn modifier(letter: char) -> Result<Filter, (String, &'static str)> {
    match letter {
        'L' => Ok(Filter::Lower),
        'U' => Ok(Filter::Upper),
        'R' => Ok(Filter::Reverse),
        'T' => Ok(Filter::TrimEnd),
        'X' => Ok(Filter::Hex),
        'E' => {
            Err(("the modifier E (escape) has no place here".to_owned(), "leave it out: values are never pasted into other text"))
        }
        'M' | 'N' | 'H' | 'D' => Err((format!("the modifier {letter} is not in this version"), "known are L, U, R, T, X")),
        _ => Err((format!("unknown modifier {letter}"), "known are L, U, R, T, X")),
    }
}

fn unknown(template: &str, at: usize, name: &str) -> TemplateError {
    TemplateError::new(template, at, format!("unknown variable {name}"), PERCENT)
}

const PERCENT: &str =
    "variables are %u %n %d %s %r %l %a %b %m %c %w and %{user} %{passdb:...} and so on; write %% for a percent sign";

/// Filters and how they are written.
static FILTERS: &[(&str, &str)] = &[
    ("username", "| username"),
    ("domain", "| domain"),
    ("lower", "| lower"),
    ("upper", "| upper"),
    ("reverse", "| reverse"),
    ("rtrim", "| rtrim"),
    ("hex", "| hex"),
    ("substr", "| substr(offset) or | substr(offset, length)"),
    ("default", "| default('text')"),
];

#[cfg(test)]
mod tests;
