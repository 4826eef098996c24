//! CRC32C (Castagnoli), as RFC 3720 B.4 and the PROXY protocol use it: reflected, inverted at both ends.
//!
//! Bit by bit and without a table: a header has at most 536 octets and comes once in the life of a connection.

/// The polynomial 0x1EDC6F41, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of all pieces, as if they were one.
pub(super) fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for octet in pieces.iter().copied().flatten() {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values() {
        let rising: Vec<u8> = (0..32).collect();
        for (octets, crc) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (b"", 0),
        ] {
            assert_eq!(crc32c(&[octets]), crc);
            assert_eq!(crc32c(&[&octets[..octets.len() / 3], b"", &octets[octets.len() / 3..]]), crc);
        }
    }
}
