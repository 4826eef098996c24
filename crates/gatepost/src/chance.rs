//! Random numbers of the kernel, for identifiers and for spreading things in time. Nothing secret is made of them.

use std::time::Duration;

/// Random octets.
pub fn octets<const N: usize>() -> [u8; N] {
    let mut octets = [0u8; N];
    // The kernel's generator cannot fail once it is seeded; before that zeroes only make things less evenly spread.
    let _ = rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty());
    octets
}

/// A random number.
pub fn number() -> u64 {
    u64::from_ne_bytes(octets())
}

/// A time up to a quarter longer or shorter, so that what began together does not go on together.
pub fn around(time: Duration) -> Duration {
    let share = u32::from(u16::from_ne_bytes(octets()));
    // From 3/4 to 5/4.
    time.mul_f64(0.75 + f64::from(share) / f64::from(u16::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn around_stays_within_a_quarter_and_differs() {
        let times: Vec<Duration> = (0..100).map(|_| around(Duration::from_secs(1))).collect();
        assert!(times.iter().all(|time| (750..=1250).contains(&time.as_millis())), "{times:?}");
        assert!(times.iter().any(|time| *time != times[0]));
    }
}
