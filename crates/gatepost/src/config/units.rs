//! Durations and sizes with their units, read and written.

use std::time::Duration;

const DURATIONS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: &[(&str, usize)] = &[("MiB", 1024 * 1024), ("KiB", 1024), ("B", 1)];

/// `30s`, `500ms`: a whole number and a unit. `None` also where it does not fit.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, millis) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// `8KiB`: a whole number and a unit.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let (_, octets) = SIZES.iter().find(|(name, _)| *name == unit)?;
    usize::try_from(number).ok()?.checked_mul(*octets)
}

/// In the largest unit that divides it. Parts of a millisecond, which cannot be written, are left off.
pub(super) fn write_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    DURATIONS
        .iter()
        .find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)))
        .map_or_else(String::new, |(name, unit)| format!("{}{name}", millis / u128::from(*unit)))
}

/// In the largest unit that divides it.
pub(super) fn write_size(size: usize) -> String {
    if size == 0 {
        return "0B".to_owned();
    }
    SIZES
        .iter()
        .find(|(_, unit)| size.is_multiple_of(*unit))
        .map_or_else(String::new, |(name, unit)| format!("{}{name}", size / unit))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in [("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("500ms", 500), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "30",
            "30 s",
            "-1s",
            "+1s",
            "1.5s",
            "30S",
            "1h30m",
            "30sec",
            "99999999999999999999s",
            "18446744073709551615d",
            "３s",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, octets) in [("4096B", 4096), ("8KiB", 8192), ("1MiB", 1_048_576), ("0B", 0)] {
            assert_eq!(size(text), Some(octets), "{text}");
        }
        for text in ["", "8", "8K", "8KB", "8kib", "8 KiB", "-8KiB", "18446744073709551615KiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(millis in 0..10_000_000_000_u64, octets in 0..1_usize << 40, text in ".*") {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&write_duration(time)), Some(time));
            prop_assert_eq!(size(&write_size(octets)), Some(octets));
            // Whatever it is: no panic.
            let _ = (duration(&text), size(&text));
        }
    }
}
