//! Directories for servers that give up root: whose they are, and what others may do there.

use std::fs::{Permissions, read_to_string, set_permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

/// The number of `nobody` and of `nogroup`, who own mail.
pub(crate) const NOBODY: u32 = 65534;

/// The number of a user of this machine.
#[track_caller]
pub(crate) fn user(name: &str) -> u32 {
    number("/etc/passwd", name)
}

/// The number of a group of this machine.
#[track_caller]
pub(crate) fn group(name: &str) -> u32 {
    number("/etc/group", name)
}

/// Gives a file or directory to somebody.
#[track_caller]
pub(crate) fn give(path: &Path, user: u32, group: u32, mode: u32) {
    let done = chown(path, Some(user), Some(group)).and_then(|()| set_permissions(path, Permissions::from_mode(mode)));
    done.unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
}

/// Both files have the name first and the number third.
#[track_caller]
fn number(file: &str, name: &str) -> u32 {
    let text = read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.unwrap_or_else(|| panic!("{file} has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_zero() {
        assert_eq!((user("root"), group("root")), (0, 0));
    }
}
