//! crypt(3) and PHC strings: read, bounded, compared.
//!
//! Such a string says itself how much work it is, and it comes from a database row: whoever can write one row must not be
//! able to occupy the machine. The limits are far above what anybody sets on purpose.

use super::Unusable;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use subtle::ConstantTimeEq as _;
use wire::secret::Secret;
use zeroize::Zeroizing;

/// bcrypt cost: 15 takes about two seconds of a core.
pub(super) const MAX_BCRYPT_COST: u32 = 15;
/// Rounds of SHA256-CRYPT and SHA512-CRYPT.
pub(super) const MAX_SHA_CRYPT_ROUNDS: u32 = 1_000_000;
/// Rounds times octets of the password: each round hashes the password again, and the client chooses its length.
pub(super) const MAX_SHA_CRYPT_OCTETS: u64 = 128_000_000;
/// Argon2 memory in KiB: 256 MiB for each thread of the pool.
pub(super) const MAX_ARGON2_KIB: u32 = 256 * 1024;
/// Argon2 memory times passes, in KiB.
pub(super) const MAX_ARGON2_WORK: u64 = 2 * 1024 * 1024;
/// Argon2 lanes.
pub(super) const MAX_ARGON2_LANES: u32 = 16;
/// The longest crypt string.
pub(super) const MAX_CRYPT: usize = 1024;

/// A string of this family, checked for form and for the work it asks.
#[derive(Clone)]
pub(super) enum Crypt {
    Sha { text: Secret<String>, rounds: u32 },
    Bcrypt(Secret<String>),
    Argon2 { algorithm: Algorithm, version: Version, memory: u32, passes: u32, lanes: u32, salt: Vec<u8>, hash: Secret<Vec<u8>> },
}

impl Crypt {
    /// Finds out by its prefix what it is.
    pub(super) fn read(text: &[u8]) -> Result<Crypt, Unusable> {
        if text.len() > MAX_CRYPT {
            return Err(Unusable(format!(
                "the password field has {} octets, more than {MAX_CRYPT} for a crypt string",
                text.len()
            )));
        }
        let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_graphic()));
        let text = text.ok_or_else(|| Unusable("the password field is not a crypt string".to_owned()))?;
        let Some((id, rest)) = text.strip_prefix('$').and_then(|rest| rest.split_once('$')) else {
            return Err(Unusable(
                "the password field has no scheme: neither {SCHEME} nor a $ prefix (DES-CRYPT is not in this version)".to_owned(),
            ));
        };
        match id {
            "5" => sha_crypt(text, rest, "SHA256-CRYPT", 43),
            "6" => sha_crypt(text, rest, "SHA512-CRYPT", 86),
            "2a" | "2b" | "2y" => bcrypt(text, rest),
            "argon2i" => argon2(Algorithm::Argon2i, rest),
            "argon2id" => argon2(Algorithm::Argon2id, rest),
            "1" => missing("MD5-CRYPT ($1$)"),
            "2x" => missing("the broken bcrypt $2x$"),
            "argon2d" => missing("ARGON2D"),
            "y" | "gy" => missing("yescrypt ($y$)"),
            "7" => missing("scrypt ($7$)"),
            "3" => missing("NT hash ($3$)"),
            "sha1" => missing("SHA1-CRYPT ($sha1$)"),
            _ => Err(Unusable("the $ prefix of the password field is of no known scheme".to_owned())),
        }
    }

    pub(super) fn decoy(&self) -> Crypt {
        // The work depends on the whole string, and the comparison with a string of our own making fails by itself: the last
        // characters, which are the digest, are replaced.
        let blank = |text: &Secret<String>, digest: usize| {
            let kept = text.expose().len().saturating_sub(digest);
            Secret::new(text.expose().chars().take(kept).chain(std::iter::repeat_n('.', digest)).collect::<String>())
        };
        match self {
            Crypt::Sha { text, rounds } => {
                let digest = if text.expose().starts_with("$5$") { 43 } else { 86 };
                Crypt::Sha { text: blank(text, digest), rounds: *rounds }
            }
            Crypt::Bcrypt(text) => Crypt::Bcrypt(blank(text, 31)),
            Crypt::Argon2 { algorithm, version, memory, passes, lanes, salt, hash } => Crypt::Argon2 {
                algorithm: *algorithm,
                version: *version,
                memory: *memory,
                passes: *passes,
                lanes: *lanes,
                salt: salt.clone(),
                hash: Secret::new(vec![0; hash.expose().len()]),
            },
        }
    }

    pub(super) fn matches(&self, said: &[u8]) -> Result<bool, Unusable> {
        match self {
            Crypt::Sha { text, rounds } => {
                let octets = u64::from(*rounds).saturating_mul(said.len() as u64);
                if octets > MAX_SHA_CRYPT_OCTETS {
                    return Err(Unusable(format!("{rounds} rounds over a password of {} octets are too much work", said.len())));
                }
                match ShaCrypt::default().verify_password(said, text.expose().as_str()) {
                    Ok(()) => Ok(true),
                    Err(sha_crypt::password_hash::Error::PasswordInvalid) => Ok(false),
                    Err(_) => Err(malformed("SHA-crypt")),
                }
            }
            Crypt::Bcrypt(text) => bcrypt::verify(said, text.expose()).map_err(|_| malformed("BLF-CRYPT")),
            Crypt::Argon2 { algorithm, version, memory, passes, lanes, salt, hash } => {
                let bad = |_| malformed("ARGON2");
                let params = Params::new(*memory, *passes, *lanes, Some(hash.expose().len())).map_err(bad)?;
                let mut digest = Zeroizing::new(vec![0; hash.expose().len()]);
                Argon2::new(*algorithm, *version, params).hash_password_into(said, salt, &mut digest).map_err(
                    |error| match error {
                        argon2::Error::OutOfMemory => Unusable(format!("no memory for ARGON2 with m={memory}")),
                        _ => malformed("ARGON2"),
                    },
                )?;
                Ok(digest.ct_eq(hash.expose()).into())
            }
        }
    }
}

fn sha_crypt(text: &str, rest: &str, name: &str, digest: usize) -> Result<Crypt, Unusable> {
    let (rounds, rest) = match rest.strip_prefix("rounds=").and_then(|rest| rest.split_once('$')) {
        // What is no number is over every limit, too.
        Some((rounds, rest)) => (rounds.parse().unwrap_or(u32::MAX), rest),
        None => (5000, rest),
    };
    if !(1000..=MAX_SHA_CRYPT_ROUNDS).contains(&rounds) {
        return Err(Unusable(format!("{name} rounds are not between 1000 and {MAX_SHA_CRYPT_ROUNDS}")));
    }
    match rest.split_once('$') {
        Some((_, hash))
            if hash.len() == digest && hash.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/')) =>
        {
            Ok(Crypt::Sha { text: Secret::new(text.to_owned()), rounds })
        }
        _ => Err(malformed(name)),
    }
}

fn bcrypt(text: &str, rest: &str) -> Result<Crypt, Unusable> {
    let Some((cost, hash)) = rest.split_once('$') else { return Err(malformed("BLF-CRYPT")) };
    match cost.parse::<u32>() {
        Ok(4..=MAX_BCRYPT_COST) if cost.len() == 2 => {}
        Ok(_) => return Err(Unusable(format!("BLF-CRYPT cost is not between 04 and {MAX_BCRYPT_COST}"))),
        Err(_) => return Err(malformed("BLF-CRYPT")),
    }
    if hash.len() != 53 || !hash.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/')) {
        return Err(malformed("BLF-CRYPT"));
    }
    Ok(Crypt::Bcrypt(Secret::new(text.to_owned())))
}

/// `v=19$m=65536,t=3,p=1$SALT$HASH`; without `v=` it is version 16 (PHC string format, Argon2).
fn argon2(algorithm: Algorithm, rest: &str) -> Result<Crypt, Unusable> {
    let bad = || malformed("ARGON2");
    let (version, rest) = match rest.strip_prefix("v=") {
        None => (Version::V0x10, rest),
        Some(rest) => match rest.split_once('$').ok_or_else(bad)? {
            ("19", rest) => (Version::V0x13, rest),
            ("16", rest) => (Version::V0x10, rest),
            _ => return Err(Unusable("the ARGON2 version is neither 16 nor 19".to_owned())),
        },
    };
    let mut parts = rest.split('$');
    let (Some(costs), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    let mut numbers = costs.split(',');
    let mut cost = |key: &str| -> Result<u32, Unusable> {
        let digits = numbers.next().and_then(|pair| pair.strip_prefix(key)).and_then(|pair| pair.strip_prefix('='));
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(bad)
    };
    let (memory, passes, lanes) = (cost("m")?, cost("t")?, cost("p")?);
    if numbers.next().is_some() {
        return Err(Unusable("ARGON2 with keyid or data is not in this version".to_owned()));
    }
    if memory > MAX_ARGON2_KIB {
        return Err(Unusable(format!("ARGON2 asks for m={memory} KiB of memory, more than {MAX_ARGON2_KIB}")));
    }
    if lanes > MAX_ARGON2_LANES {
        return Err(Unusable(format!("ARGON2 asks for p={lanes} lanes, more than {MAX_ARGON2_LANES}")));
    }
    if u64::from(memory) * u64::from(passes) > MAX_ARGON2_WORK {
        return Err(Unusable(format!("ARGON2 asks for m={memory} times t={passes}, more than {MAX_ARGON2_WORK} KiB in all")));
    }
    let salt = STANDARD_NO_PAD.decode(salt).map_err(|_| bad())?;
    let hash = STANDARD_NO_PAD.decode(hash).map_err(|_| bad())?;
    if !(8..=64).contains(&salt.len()) || !(16..=128).contains(&hash.len()) {
        return Err(bad());
    }
    Params::new(memory, passes, lanes, Some(hash.len())).map_err(|_| bad())?;
    Ok(Crypt::Argon2 { algorithm, version, memory, passes, lanes, salt, hash: Secret::new(hash) })
}

fn malformed(name: &str) -> Unusable {
    Unusable(format!("the {name} verifier is malformed"))
}

fn missing<T>(name: &str) -> Result<T, Unusable> {
    Err(Unusable(format!("scheme {name} is not in this version")))
}
