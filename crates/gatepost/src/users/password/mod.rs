//! Password verifiers as they stand in user databases, and the comparison with what a client said.
//!
//! Spellings are those of Dovecot: `{SCHEME}text`, `{SCHEME.ENCODING}text`, or text alone under the database's default
//! scheme. Known are PLAIN (CLEAR, CLEARTEXT), SHA (SHA1), SHA256, SHA512, their salted forms SSHA, SSHA256, SSHA512, and
//! everything that is a crypt(3) or PHC string and says by its own prefix what it is: SHA256-CRYPT (`$5$`), SHA512-CRYPT
//! (`$6$`), BLF-CRYPT (`$2a$ $2b$ $2y$`), ARGON2I and ARGON2ID. Any of the names of the last group, and CRYPT, stands for
//! the whole group, as in Dovecot.
//!
//! Promises:
//! * a scheme that this version cannot do, a malformed verifier, and one that asks for absurd amounts of work (limits in
//!   `crypt.rs`) are [`Unusable`] and never "wrong password";
//! * digests are compared in constant time;
//! * an empty password matches nothing;
//! * no text of a verifier gets into a message.
//!
//! The work is done in [`Pool`], never on an I/O thread.

mod crypt;
mod pool;

pub use pool::Pool;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use crypt::Crypt;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use subtle::ConstantTimeEq as _;
use wire::secret::{Password, Secret};

/// A verifier, ready to be compared with.
#[derive(Clone)]
pub struct Verifier(Form);

/// How a verifier is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    family: Family,
    /// Given by the name (`.HEX`); otherwise the scheme's own.
    encoding: Option<Encoding>,
}

/// Why a verifier cannot be used. The text says which scheme or limit, and nothing of the verifier itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable(pub String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest verifier that is looked at.
pub const MAX_VERIFIER: usize = 4096;

impl Scheme {
    /// The password itself.
    pub const PLAIN: Scheme = Scheme { family: Family::Plain, encoding: None };
    /// Whatever its prefix says.
    pub const CRYPT: Scheme = Scheme { family: Family::Crypt, encoding: None };

    /// Finds a scheme by its name, in any case, with or without `.HEX`, `.B64`, `.BASE64`.
    ///
    /// # Errors
    /// For names this version does not know or cannot do.
    pub fn named(name: &str) -> Result<Scheme, Unusable> {
        let upper = name.to_ascii_uppercase();
        let (base, encoding) = match upper.split_once('.') {
            None => (upper.as_str(), None),
            Some((base, "HEX")) => (base, Some(Encoding::Hex)),
            Some((base, "B64" | "BASE64")) => (base, Some(Encoding::Base64)),
            Some(_) => return Err(Unusable("the encoding of the scheme is none of HEX, B64, BASE64".to_owned())),
        };
        match SCHEMES.iter().find(|(known, _)| *known == base) {
            Some((_, Some(family))) => Ok(Scheme { family: *family, encoding }),
            Some((known, None)) => Err(Unusable(format!("scheme {known} is not in this version"))),
            // The name is not repeated: `{` may be the beginning of a password in clear.
            None => Err(Unusable("unknown password scheme in { }".to_owned())),
        }
    }

    /// The verifiers of this scheme cost noticeable time.
    pub fn is_slow(self) -> bool {
        self.family == Family::Crypt
    }
}

impl Verifier {
    /// Reads what stands in a row's `password`.
    ///
    /// # Errors
    /// When it cannot or must not be used.
    pub fn read(text: &str, default: Scheme) -> Result<Verifier, Unusable> {
        match text.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((name, rest)) => Verifier::of(Scheme::named(name)?, rest),
            None => Verifier::of(default, text),
        }
    }

    /// Reads text that is known to be of this scheme and has no `{SCHEME}` in front.
    ///
    /// # Errors
    /// When it cannot or must not be used.
    pub fn of(scheme: Scheme, text: &str) -> Result<Verifier, Unusable> {
        if text.len() > MAX_VERIFIER {
            return Err(Unusable(format!("the password field has {} octets, more than {MAX_VERIFIER}", text.len())));
        }
        let encoding = scheme.encoding.unwrap_or(match scheme.family {
            // Tools write unsalted digests both ways; the length tells which.
            Family::Digest(hash) if text.len() == hash.len() * 2 => Encoding::Hex,
            Family::Digest(_) | Family::Salted(_) => Encoding::Base64,
            Family::Plain | Family::Crypt => Encoding::Raw,
        });
        let bytes = encoding.decode(text)?;
        let form = match scheme.family {
            Family::Plain => Form::Plain(bytes),
            Family::Digest(hash) if bytes.expose().len() == hash.len() => Form::Digest { hash, digest: bytes, salt: Vec::new() },
            Family::Salted(hash) => match bytes.expose().split_at_checked(hash.len()) {
                Some((digest, salt)) if !salt.is_empty() => {
                    Form::Digest { hash, digest: Secret::new(digest.to_vec()), salt: salt.to_vec() }
                }
                _ => return Err(Unusable(format!("the {} verifier is too short to hold a salt", hash.salted_name()))),
            },
            Family::Digest(hash) => {
                return Err(Unusable(format!("the {} verifier is not {} octets long", hash.name(), hash.len())));
            }
            Family::Crypt => Form::Crypt(Crypt::read(bytes.expose())?),
        };
        Ok(Verifier(form))
    }

    /// The same amount of work, with nothing in it that lets anybody in: for users that do not exist.
    #[must_use]
    pub fn decoy(&self) -> Verifier {
        Verifier(match &self.0 {
            Form::Plain(_) => Form::Plain(Secret::new(Vec::new())),
            Form::Digest { hash, digest, salt } => {
                Form::Digest { hash: *hash, digest: Secret::new(vec![0; digest.expose().len()]), salt: salt.clone() }
            }
            Form::Crypt(crypt) => Form::Crypt(crypt.decoy()),
        })
    }

    /// Compares. Takes its time: call it in the [`Pool`].
    ///
    /// # Errors
    /// When this password with this verifier would be too much work, or the machine lacks the memory for it.
    pub fn matches(&self, password: &Password) -> Result<bool, Unusable> {
        let said = password.expose().as_slice();
        let same = match &self.0 {
            Form::Plain(have) => have.expose().ct_eq(said).into(),
            Form::Digest { hash, digest, salt } => hash.of(said, salt).expose().ct_eq(digest.expose()).into(),
            Form::Crypt(crypt) => crypt.matches(said)?,
        };
        Ok(same && !said.is_empty())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Form::Plain(_) => "Verifier(PLAIN ***)",
            Form::Digest { .. } => "Verifier(digest ***)",
            Form::Crypt(_) => "Verifier(crypt ***)",
        })
    }
}

#[derive(Clone)]
enum Form {
    Plain(Secret<Vec<u8>>),
    Digest { hash: Hash, digest: Secret<Vec<u8>>, salt: Vec<u8> },
    Crypt(Crypt),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Plain,
    Digest(Hash),
    Salted(Hash),
    Crypt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    fn len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Hash::Sha1 => "SHA",
            Hash::Sha256 => "SHA256",
            Hash::Sha512 => "SHA512",
        }
    }

    fn salted_name(self) -> &'static str {
        match self {
            Hash::Sha1 => "SSHA",
            Hash::Sha256 => "SSHA256",
            Hash::Sha512 => "SSHA512",
        }
    }

    fn of(self, said: &[u8], salt: &[u8]) -> Secret<Vec<u8>> {
        Secret::new(match self {
            Hash::Sha1 => Sha1::new().chain_update(said).chain_update(salt).finalize().to_vec(),
            Hash::Sha256 => Sha256::new().chain_update(said).chain_update(salt).finalize().to_vec(),
            Hash::Sha512 => Sha512::new().chain_update(said).chain_update(salt).finalize().to_vec(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Raw,
    Hex,
    Base64,
}

impl Encoding {
    fn decode(self, text: &str) -> Result<Secret<Vec<u8>>, Unusable> {
        match self {
            Encoding::Raw => Some(text.as_bytes().to_vec()),
            Encoding::Hex => unhex(text.as_bytes()),
            Encoding::Base64 => BASE64.decode(text).ok(),
        }
        .map(Secret::new)
        .ok_or_else(|| Unusable(format!("the password field is not {}", if self == Encoding::Hex { "hex" } else { "base64" })))
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

/// LDAP exports and hand-made rows come with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The names. `None`: exists elsewhere and is missing here.
static SCHEMES: &[(&str, Option<Family>)] = &[
    ("PLAIN", Some(Family::Plain)),
    ("CLEAR", Some(Family::Plain)),
    ("CLEARTEXT", Some(Family::Plain)),
    ("SHA", Some(Family::Digest(Hash::Sha1))),
    ("SHA1", Some(Family::Digest(Hash::Sha1))),
    ("SHA256", Some(Family::Digest(Hash::Sha256))),
    ("SHA512", Some(Family::Digest(Hash::Sha512))),
    ("SSHA", Some(Family::Salted(Hash::Sha1))),
    ("SSHA256", Some(Family::Salted(Hash::Sha256))),
    ("SSHA512", Some(Family::Salted(Hash::Sha512))),
    ("CRYPT", Some(Family::Crypt)),
    ("SHA256-CRYPT", Some(Family::Crypt)),
    ("SHA512-CRYPT", Some(Family::Crypt)),
    ("BLF-CRYPT", Some(Family::Crypt)),
    ("ARGON2I", Some(Family::Crypt)),
    ("ARGON2ID", Some(Family::Crypt)),
    ("MD5", None),
    ("MD5-CRYPT", None),
    ("DES-CRYPT", None),
    ("PLAIN-MD4", None),
    ("PLAIN-MD5", None),
    ("PLAIN-TRUNC", None),
    ("LDAP-MD5", None),
    ("SMD5", None),
    ("HMAC-MD5", None),
    ("CRAM-MD5", None),
    ("DIGEST-MD5", None),
    ("PBKDF2", None),
    ("SCRYPT", None),
    ("SCRAM-SHA-1", None),
    ("SCRAM-SHA-256", None),
    ("LANMAN", None),
    ("NTLM", None),
    ("RPA", None),
    ("OTP", None),
    ("SKEY", None),
];

#[cfg(test)]
mod tests;
