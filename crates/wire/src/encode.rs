//! The small spellings.
