//! Changes to a header. A letter itself never changes: [`Edits`] are collected, and applied once.
//!
//! All of them are about the letter as it came: what is removed is counted there, and never among what was prepended. Whoever
//! prepends later stands further up, as with trace fields. Where nothing is removed there is no need for a new header: what
//! [`Edits::ahead`] gives is sent first, and then the letter as it lies, however big.
//!
//! One letter in a million begins with a blank, so that its first line would continue whatever is put above it: an empty line
//! goes between then, as Postfix does it.

use crate::field::Field;
use crate::letter::{Head, Part};
use bytes::{Bytes, BytesMut};
use std::num::NonZeroUsize;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Puts a field above all others.
    Prepend(Field),
    /// Takes fields away; none, where there is no such field.
    Remove {
        /// Their name, in any case.
        name: Box<str>,
        /// Which of them.
        which: Which,
    },
}

/// Which of the fields that have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    Every,
    /// This one, counted from the top: 1 is the first.
    Nth(NonZeroUsize),
}

/// Changes to one header, in the order in which they were wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits(Vec<Edit>);

impl Edits {
    /// One more.
    pub fn add(&mut self, edit: Edit) {
        self.0.push(edit);
    }

    /// The letter stays as it is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to send ahead of the untouched letter; `None` where something is removed. Of the letter its first octet is enough.
    pub fn ahead(&self, letter: &[u8]) -> Option<Bytes> {
        let only_more = self.0.iter().all(|edit| matches!(edit, Edit::Prepend(_)));
        only_more.then(|| self.prepended(letter).freeze())
    }

    /// The changed header, with the empty line where there was one: to be followed by the body.
    pub fn apply(&self, head: &Head) -> Bytes {
        let kept = self.kept(head);
        let first = kept.first().map_or_else(|| head.empty_line(), |part| part.raw().clone());
        let mut raw = self.prepended(&first);
        raw.reserve(head.raw().len());
        for part in kept {
            raw.extend_from_slice(part.raw());
        }
        raw.extend_from_slice(&head.empty_line());
        raw.freeze()
    }

    fn prepended(&self, letter: &[u8]) -> BytesMut {
        let mut raw = BytesMut::new();
        for edit in self.0.iter().rev() {
            let Edit::Prepend(field) = edit else { continue };
            raw.extend_from_slice(field.raw());
            if !field.raw().ends_with(b"\n") {
                // It was the last of a letter that ended with it.
                raw.extend_from_slice(b"\r\n");
            }
        }
        if !raw.is_empty() && (letter.starts_with(b" ") || letter.starts_with(b"\t")) {
            raw.extend_from_slice(b"\r\n");
        }
        raw
    }

    fn kept<'a>(&self, head: &'a Head) -> Vec<&'a Part> {
        let mut goes = vec![false; head.parts().len()];
        for edit in &self.0 {
            let Edit::Remove { name, which } = edit else { continue };
            let named =
                head.parts().iter().zip(&mut goes).filter(|(part, _)| matches!(part, Part::Field(field) if field.is(name)));
            for (_, goes) in named.zip(1..).filter(|(_, nth)| which.is(*nth)).map(|(found, _)| found) {
                *goes = true;
            }
        }
        head.parts().iter().zip(goes).filter(|(_, goes)| !goes).map(|(part, _)| part).collect()
    }
}

impl Which {
    fn is(self, nth: usize) -> bool {
        match self {
            Which::Every => true,
            Which::Nth(wanted) => wanted.get() == nth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prepend(name: &str, value: &str) -> Edit {
        Edit::Prepend(Field::new(name, value).unwrap())
    }

    fn remove(name: &str, nth: usize) -> Edit {
        Edit::Remove { name: name.into(), which: NonZeroUsize::new(nth).map_or(Which::Every, Which::Nth) }
    }

    fn edits(all: &[Edit]) -> Edits {
        let mut edits = Edits::default();
        all.iter().for_each(|edit| edits.add(edit.clone()));
        edits
    }

    fn applied(letter: &str, all: &[Edit]) -> String {
        let head = Head::parse(Bytes::copy_from_slice(letter.as_bytes())).unwrap();
        String::from_utf8(edits(all).apply(&head).to_vec()).unwrap()
    }

    const LETTER: &str = "X: 1\r\nstray\r\n X: 0\r\nY: 1\nx : 2\r\n\tfolded\nX: 3\n\nbody\r\nX: 4\r\n";

    #[test]
    fn fields_go_and_the_others_stay_as_they_are() {
        for (all, expected) in [
            (&[][..], "X: 1\r\nstray\r\n X: 0\r\nY: 1\nx : 2\r\n\tfolded\nX: 3\n\n"),
            (&[remove("X", 0)], "stray\r\n X: 0\r\nY: 1\n\n"),
            (&[remove("x", 2)], "X: 1\r\nstray\r\n X: 0\r\nY: 1\nX: 3\n\n"),
            (&[remove("X", 4), remove("stray", 0), remove("", 0), remove("Z", 1)], LETTER.split("body").next().unwrap()),
            (&[remove("X", 1), remove("X", 1)], "stray\r\n X: 0\r\nY: 1\nx : 2\r\n\tfolded\nX: 3\n\n"),
            (&[remove("X", 1), remove("X", 3), remove("Y", 0)], "stray\r\n X: 0\r\nx : 2\r\n\tfolded\n\n"),
            (&[prepend("X", "new"), remove("X", 0)], "X: new\r\nstray\r\n X: 0\r\nY: 1\n\n"),
            (&[remove("X", 0), prepend("A", "1"), remove("Y", 1), prepend("B", "2")], "B: 2\r\nA: 1\r\nstray\r\n X: 0\r\n\n"),
        ] {
            assert_eq!(applied(LETTER, all), expected, "{all:?}");
        }
    }

    #[test]
    fn a_big_letter_need_not_be_copied() {
        let two = edits(&[prepend("A", "1\r\n\t1"), prepend("B", "2")]);
        assert_eq!(two.ahead(LETTER.as_bytes()).as_deref(), Some(&b"B: 2\r\nA: 1\r\n\t1\r\n"[..]));
        assert_eq!(two.ahead(b"").as_deref(), Some(&b"B: 2\r\nA: 1\r\n\t1\r\n"[..]));
        assert_eq!(Edits::default().ahead(b" x").as_deref(), Some(&b""[..]));
        assert!(Edits::default().is_empty() && !two.is_empty());
        assert_eq!(edits(&[prepend("A", "1"), remove("Z", 0)]).ahead(LETTER.as_bytes()), None);
    }

    #[test]
    fn no_letter_continues_what_is_put_above_it() {
        for letter in [" evil\r\n\r\nbody", "\t\r\nA: 1\r\n\r\n"] {
            let expected = format!("X: 1\r\n\r\n{letter}");
            assert_eq!(edits(&[prepend("X", "1")]).ahead(letter.as_bytes()).unwrap(), "X: 1\r\n\r\n");
            assert!(expected.starts_with(&applied(letter, &[prepend("X", "1")])));
            assert!(letter.starts_with(&applied(letter, &[])));
        }
        let last = Head::parse("A: 1\r\nB: no line end".into()).unwrap();
        let moved = edits(&[Edit::Prepend(last.fields().next_back().unwrap().clone()), remove("B", 0)]);
        assert_eq!(moved.apply(&last), "B: no line end\r\nA: 1\r\n");
    }

    fn any_letter() -> impl Strategy<Value = String> {
        let line = prop_oneof![4 => "[ABab] ?: ?[a-z]{0,3}", 1 => "[ \t][a-z:]{0,3}", 1 => "[a-z\r ]{0,5}"];
        (proptest::collection::vec((line, "\r?\n"), 0..8), "(\r?\n[ -~\r\n]{0,10})?")
            .prop_map(|(lines, rest)| lines.into_iter().map(|(line, end)| line + &end).collect::<String>() + &rest)
    }

    fn any_edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            ("[ABC]", "[a-z]{0,3}(\r\n\t[a-z]{1,3})?").prop_map(|(name, value)| prepend(&name, &value)),
            ("[ABCabc]", 0usize..4).prop_map(|(name, nth)| remove(&name, nth)),
        ]
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same_letter(letter in any_letter(), all in proptest::collection::vec(any_edit(), 0..6)) {
            let head = Head::parse(letter.clone().into()).unwrap();
            let edits = edits(&all);
            if let Some(ahead) = edits.ahead(letter.as_bytes()) {
                prop_assert_eq!([&ahead[..], head.raw()].concat(), edits.apply(&head).to_vec());
            }
        }

        #[test]
        fn what_was_wanted_is_what_is_read(letter in any_letter(), all in proptest::collection::vec(any_edit(), 0..6)) {
            let head = Head::parse(letter.into()).unwrap();
            let mut expected = Vec::new();
            for edit in all.iter().rev() {
                if let Edit::Prepend(field) = edit {
                    expected.push(field.clone());
                }
            }
            let more = expected.len();
            let first = &head.raw().first().copied();
            for (index, field) in head.fields().enumerate() {
                let nth = head.fields().take(index + 1).filter(|other| other.is(field.name())).count();
                let goes = |edit: &Edit| matches!(edit, Edit::Remove { name, which } if field.is(name) && which.is(nth));
                if !all.iter().any(goes) {
                    expected.push(field.clone());
                }
            }
            let changed = Head::parse(edits(&all).apply(&head)).unwrap();
            let found: Vec<_> = changed.fields().cloned().collect();
            if more > 0 && matches!(first, Some(b' ' | b'\t')) {
                prop_assert_eq!(&found[..], &expected[..more], "an empty line went between");
            } else {
                prop_assert_eq!(found, expected);
            }
        }
    }
}
