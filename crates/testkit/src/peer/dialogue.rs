//! What was said on a connection, as far as a failed test needs to show it.

use std::fmt;

/// The turns of both sides, shortened.
#[derive(Debug, Default)]
pub(super) struct Dialogue(Vec<Turn>);

#[derive(Debug)]
struct Turn {
    mark: char,
    shown: Vec<u8>,
    total: usize,
}

/// Most bytes that are shown of one turn.
const TURN_SHOWN: usize = 1000;

/// Most turns; when there are more those in the middle go.
const TURNS_KEPT: usize = 400;

impl Dialogue {
    /// Adds a turn: `>` for what this end says, `<` for what it hears, `=` for other events.
    pub(super) fn note(&mut self, mark: char, bytes: &[u8]) {
        if self.0.len() == TURNS_KEPT {
            self.0.remove(TURNS_KEPT / 2);
        }
        let shown = bytes.get(..TURN_SHOWN).unwrap_or(bytes).to_vec();
        self.0.push(Turn { mark, shown, total: bytes.len() });
    }

    /// Adds bytes that were heard; those that were taken one by one are one turn.
    pub(super) fn note_received(&mut self, got: &[u8], join: bool) {
        match self.0.last_mut() {
            Some(Turn { mark: '<', shown, total }) if join && shown.len() < TURN_SHOWN => {
                shown.extend_from_slice(got);
                *total += got.len();
            }
            _ => self.note('<', got),
        }
    }
}

impl fmt::Display for Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Turn { mark, shown, total } in &self.0 {
            write!(f, "{mark} {}", shown.escape_ascii())?;
            if shown.len() < *total {
                write!(f, "... ({total} bytes)")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
