//! Values that cannot be printed and are wiped when dropped.

use std::fmt;
use zeroize::Zeroize;

/// A value that prints as `***` and is overwritten when it is dropped.
///
/// There is no `Display`, no serialisation and no comparison: whoever needs the value says [`Secret::expose`], which is
/// easy to find in a review.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

/// A password or token as the bytes the client sent.
pub type Password = Secret<Vec<u8>>;

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value itself. Never hand it to anything that formats, logs or keeps it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_stars() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), b"hunter2");
    }
}
