//! What can be done to a variable's value: modifiers and filters, one set for both languages.

use super::variable::{domain, username};
use std::borrow::Cow;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Lower,
    Upper,
    Reverse,
    TrimEnd,
    Hex,
    Username,
    Domain,
    /// Negative numbers count from the end, as in both languages.
    Substr {
        offset: i64,
        length: Option<i64>,
    },
    /// `%05u`: not cut, filled with zeros in front.
    ZeroFill(usize),
    Default(String),
}

impl Filter {
    pub(super) fn apply<'a>(&self, value: Cow<'a, str>) -> Cow<'a, str> {
        match self {
            // Full Unicode, not ASCII: two spellings of one name must not be two users (RFC 8265, 3.3.2).
            Filter::Lower => value.to_lowercase().into(),
            Filter::Upper => value.to_uppercase().into(),
            Filter::Reverse => value.chars().rev().collect::<String>().into(),
            Filter::TrimEnd => value.trim_end().to_owned().into(),
            Filter::Hex => value.parse::<u64>().map_or(value, |number| format!("{number:x}").into()),
            Filter::Username => username(&value).to_owned().into(),
            Filter::Domain => domain(&value).to_owned().into(),
            Filter::Substr { offset, length } => substr(&value, *offset, *length).into(),
            Filter::ZeroFill(width) => {
                let missing = width.saturating_sub(value.chars().count());
                format!("{}{value}", "0".repeat(missing)).into()
            }
            Filter::Default(text) if value.is_empty() => text.clone().into(),
            Filter::Default(_) => value,
        }
    }
}

/// An offset before the beginning is the beginning; a negative length leaves off that many at the end.
pub(super) fn substr(value: &str, offset: i64, length: Option<i64>) -> String {
    let count = i64::try_from(value.chars().count()).unwrap_or(i64::MAX);
    let start = if offset < 0 { (count.saturating_add(offset)).max(0) } else { offset.min(count) };
    let end = match length {
        None => count,
        Some(length) if length < 0 => count.saturating_add(length),
        Some(length) => start.saturating_add(length).min(count),
    };
    let clamp = |n: i64| usize::try_from(n).unwrap_or(0);
    value.chars().skip(clamp(start)).take(clamp(end.saturating_sub(start))).collect()
}
