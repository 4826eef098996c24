//! Tables for a terminal, and for scripts that split at TAB.

use super::ask::shown;
use unicode_normalization::UnicodeNormalization;

/// Rows with a title each; all cells are text from anywhere.
pub struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns.
    pub fn new(titles: impl IntoIterator<Item = impl Into<String>>) -> Table {
        Table { titles: titles.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// One row more.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// There are only titles.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In columns: two blanks between them, numbers as they are, nothing cut.
    pub fn columns(&self) -> String {
        let mut widths: Vec<usize> = self.titles.iter().map(|title| width(title)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        for row in &rows {
            for (width_of, cell) in widths.iter_mut().zip(row) {
                *width_of = (*width_of).max(width(cell));
            }
        }
        let mut text = String::new();
        for row in std::iter::once(&self.titles).chain(&rows) {
            let mut line = String::new();
            for (cell, to) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', to + 2 - width(cell)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// As `doveadm -f tab`: titles and cells with TAB between them; TAB, LF, CR, NUL and \001 in a cell are escaped as Dovecot
    /// escapes them (`\001` and a character).
    pub fn tabs(&self) -> String {
        let mut text = self.titles.join("\t");
        text.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| tab_escaped(cell)).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }
}

/// Characters, with accents composed: near enough to columns for names.
fn width(text: &str) -> usize {
    text.nfc().count()
}

fn tab_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{1}' => out.push_str("\u{1}1"),
            '\t' => out.push_str("\u{1}t"),
            '\n' => out.push_str("\u{1}n"),
            '\r' => out.push_str("\u{1}r"),
            '\0' => out.push_str("\u{1}0"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_is_one_line_whatever_is_in_it() {
        let mut table = Table::new(["user", "ip"]);
        table.row(vec!["a\nb\x1b[2J\u{202e}\u{200b}".into(), "192.0.2.1".into()]);
        table.row(vec!["müller".into(), "x".into()]);
        let columns = table.columns();
        assert_eq!(columns.lines().count(), 3, "{columns:?}");
        assert!(!columns.contains('\x1b') && !columns.contains(['\u{202e}', '\u{200b}']));
        assert!(columns.starts_with("user"), "{columns}");
        assert_eq!(table.tabs().lines().nth(1).unwrap(), "a\u{1}nb\x1b[2J\u{202e}\u{200b}\t192.0.2.1");
    }
}
