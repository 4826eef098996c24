//! The TLVs of version 2, and those inside the one about TLS (sections 2.2.1 to 2.2.8).
//!
//! Reading never looks beyond what a length says, and refuses a length beyond what is there. Writing never goes over the room
//! that it was given, and says what did not fit.

use super::{ClientTls, Protection};
use crate::machine::Fault;

/// The types that we know, of a header's own TLVs and of those inside SSL.
pub(super) struct Kind;

impl Kind {
    pub(super) const ALPN: u8 = 0x01;
    pub(super) const AUTHORITY: u8 = 0x02;
    pub(super) const CRC32C: u8 = 0x03;
    pub(super) const UNIQUE_ID: u8 = 0x05;
    pub(super) const SSL: u8 = 0x20;
    const SSL_VERSION: u8 = 0x21;
    const SSL_CN: u8 = 0x22;
    const SSL_CIPHER: u8 = 0x23;
}

/// Flags of the SSL TLV: the client came over TLS; with a certificate on this connection; with one in this session.
const OVER_TLS: u8 = 0x01;
const CERTIFICATE_HERE: u8 = 0x02;
const CERTIFICATE_IN_SESSION: u8 = 0x04;
/// Anything but 0 says that no certificate was verified.
const VERIFIED: u32 = 0;
const NOT_VERIFIED: u32 = 1;

/// The longest texts, in octets.
const COMMON_NAME_MAX: usize = 255;
const WORD_MAX: usize = 64;

/// Takes the next TLV; `None` at the end.
pub(super) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, Fault> {
    if rest.is_empty() {
        return Ok(None);
    }
    let taken = rest.split_first_chunk::<3>().and_then(|([kind, high, low], behind)| {
        let (value, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        *rest = behind;
        Some((*kind, value))
    });
    taken.map(Some).ok_or_else(|| Fault::peer("proxy-tlv-bounds", "a TLV of a PROXY header goes beyond its end"))
}

/// Sets what may be said once and must be well-formed.
pub(super) fn set<T>(field: &mut Option<T>, value: Option<T>, name: &str) -> Result<(), Fault> {
    if field.is_some() {
        return Err(Fault::peer("proxy-tlv-twice", format!("the TLV {name} of a PROXY header is there twice")));
    }
    *field = Some(value.ok_or_else(|| malformed(name))?);
    Ok(())
}

/// Reads the value of the SSL TLV; `None` where it is too short to be one. What stands inside is checked even if it does not
/// count: one half of a header is not more credible than the other.
pub(super) fn read_ssl(value: &[u8]) -> Result<Option<Protection>, Fault> {
    let Some(([flags, verify @ ..], mut rest)) = value.split_first_chunk::<5>() else { return Ok(None) };
    let (mut version, mut common_name, mut cipher) = (None, None, None);
    while let Some((kind, value)) = next(&mut rest)? {
        match kind {
            Kind::SSL_VERSION => set(&mut version, text(value, WORD_MAX), "SSL_VERSION")?,
            Kind::SSL_CN => set(&mut common_name, text(value, COMMON_NAME_MAX), "SSL_CN")?,
            Kind::SSL_CIPHER => set(&mut cipher, text(value, WORD_MAX), "SSL_CIPHER")?,
            _ => {}
        }
    }
    if flags & OVER_TLS == 0 {
        return Ok(Some(Protection::Clear));
    }
    let shown = flags & (CERTIFICATE_HERE | CERTIFICATE_IN_SESSION) != 0;
    let verified = shown && u32::from_be_bytes(*verify) == VERIFIED;
    let common_name = common_name.filter(|_| verified);
    // An empty text says nothing; above all it is nobody's name.
    let said = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Some(Protection::Tls(Box::new(ClientTls {
        version: said(version),
        cipher: said(cipher),
        common_name: said(common_name),
    }))))
}

fn malformed(name: &str) -> Fault {
    Fault::peer("proxy-tlv-value", format!("the TLV {name} of a PROXY header is malformed"))
}

fn text(value: &[u8], longest: usize) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (text.len() <= longest && !text.chars().any(char::is_control)).then_some(text)
}

/// TLVs under a cap.
pub(super) struct Room {
    octets: Vec<u8>,
    left: usize,
}

impl Room {
    pub(super) fn new(octets: usize) -> Room {
        Room { octets: Vec::with_capacity(octets), left: octets }
    }

    pub(super) fn into_octets(self) -> Vec<u8> {
        self.octets
    }

    /// Appends a TLV; false, and nothing is appended, where it does not fit.
    pub(super) fn put(&mut self, kind: u8, value: &[u8]) -> bool {
        let (Ok(length), Some(left)) = (u16::try_from(value.len()), self.left.checked_sub(3 + value.len())) else {
            return false;
        };
        self.left = left;
        self.octets.push(kind);
        self.octets.extend_from_slice(&length.to_be_bytes());
        self.octets.extend_from_slice(value);
        true
    }

    /// Appends the SSL TLV with as many of its own TLVs as fit: over TLS, of which something may be known, or `None`, in clear.
    pub(super) fn put_ssl(&mut self, over_tls: Option<Option<&ClientTls>>, left_out: &mut Vec<&'static str>) -> bool {
        // Its head, its flags and the verification.
        let Some(room) = self.left.checked_sub(3 + 5) else { return false };
        let mut inside = Room::new(room);
        let tls = over_tls.flatten();
        let mut put = |kind, value: Option<&String>, longest, name| {
            let Some(value) = value.filter(|value| !value.is_empty()) else { return false };
            let put = text(value.as_bytes(), longest).is_some() && inside.put(kind, value.as_bytes());
            if !put {
                left_out.push(name);
            }
            put
        };
        let named = put(Kind::SSL_CN, tls.and_then(|tls| tls.common_name.as_ref()), COMMON_NAME_MAX, "SSL_CN");
        put(Kind::SSL_VERSION, tls.and_then(|tls| tls.version.as_ref()), WORD_MAX, "SSL_VERSION");
        put(Kind::SSL_CIPHER, tls.and_then(|tls| tls.cipher.as_ref()), WORD_MAX, "SSL_CIPHER");
        let (certificate, verify) = if named { (CERTIFICATE_IN_SESSION, VERIFIED) } else { (0, NOT_VERIFIED) };
        let mut value = vec![certificate | if over_tls.is_some() { OVER_TLS } else { 0 }];
        value.extend_from_slice(&verify.to_be_bytes());
        value.extend_from_slice(&inside.into_octets());
        self.put(Kind::SSL, &value)
    }
}
