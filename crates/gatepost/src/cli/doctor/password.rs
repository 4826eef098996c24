//! Where the password comes from: a file, standard input, or a question on the terminal that does not echo.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use wire::sasl::PASSWORD_MAX;
use wire::secret::{Password, Secret};
use zeroize::Zeroizing;

/// Reads it.
///
/// # Errors
/// There is none.
pub fn read(file: Option<&Path>, stdin: bool) -> Result<Password, String> {
    let input = std::io::stdin();
    if let Some(file) = file {
        let opened = std::fs::File::open(file).map_err(|e| format!("{}: {e}", file.display()))?;
        return first_line(opened).map_err(|why| format!("{}: {why}", file.display()));
    }
    if input.is_terminal() {
        return asked();
    }
    if stdin {
        return first_line(input.lock()).map_err(|why| format!("standard input: {why}"));
    }
    Err("a password is needed: --password-file FILE, or --password-stdin".to_owned())
}

fn first_line(input: impl Read) -> Result<Password, String> {
    let most = u64::try_from(PASSWORD_MAX).unwrap_or(u64::MAX).saturating_add(3);
    // Room for all of it at once: what a buffer leaves behind when it grows is not wiped.
    let mut text = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX + 64));
    input.take(most).read_to_end(&mut text).map_err(|e| e.to_string())?;
    let line = text.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.len() {
        0 => Err("there is no password in its first line".to_owned()),
        length if length > PASSWORD_MAX => Err(format!("the password is longer than {PASSWORD_MAX} octets")),
        _ => Ok(Secret::new(line.to_vec())),
    }
}

/// The terminal as it was, put back at the end.
struct Quiet(Termios);

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
        eprintln!("");
    }
}

fn asked() -> Result<Password, String> {
    let input = std::io::stdin();
    let before = tcgetattr(&input).map_err(|e| e.to_string())?;
    let mut quiet = before.clone();
    // Signals, too: one that ended us here would leave the terminal silent. Control-C is a character then.
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    eprint!("Password: ");
    let _ = std::io::stderr().flush();
    tcsetattr(&input, OptionalActions::Flush, &quiet).map_err(|e| e.to_string())?;
    let restored = Quiet(before);
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX + 64));
    let read = input.lock().take(PASSWORD_MAX as u64 + 2).read_until(b'\n', &mut line);
    drop(restored);
    read.map_err(|e| e.to_string())?;
    if line.contains(&3) {
        return Err("interrupted".to_owned());
    }
    first_line(line.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_and_nothing_else() {
        for (text, password) in [
            (&b"secret\n"[..], Some(&b"secret"[..])),
            (b"secret", Some(b"secret")),
            (b" se cret \r\nmore\n", Some(b" se cret ")),
            (b"\nsecret\n", None),
            (b"", None),
        ] {
            assert_eq!(first_line(text).ok().map(|password| password.expose().clone()).as_deref(), password);
        }
        assert!(first_line(vec![b'x'; PASSWORD_MAX].as_slice()).is_ok());
        assert!(first_line(vec![b'x'; PASSWORD_MAX + 1].as_slice()).is_err());
    }
}
