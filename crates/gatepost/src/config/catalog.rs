//! What this program can do, as the configuration needs to know it: the rows are filled by the tables of protocols and drivers,
//! so a new protocol or database appears here without a change to the configuration's code.

use super::meant::ListenTls;

/// A protocol that a listener may name.
#[derive(Debug, Clone, Copy)]
pub struct ProtocolName {
    /// The word in the file, `imaps`.
    pub name: &'static str,
    /// The registered port.
    pub port: u16,
    /// When TLS begins unless `tls` says otherwise. A row with `Implicit` cannot be told otherwise, but for `Offloaded`.
    pub tls: ListenTls,
    /// The protocol that is spoken, `imap` for `imaps`.
    pub base: &'static str,
}

/// The kind of a driver's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Text, several lines allowed.
    Text,
    /// The path of a file that must exist and be readable; relative to the file it stands in.
    Path,
    /// A table of texts.
    Fields,
}

/// A key of a driver.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// The key.
    pub name: &'static str,
    /// What its value must be.
    pub kind: KeyKind,
    /// A block without it is an error.
    pub required: bool,
    /// What it is for, in a few words, told when it is missing.
    pub doc: &'static str,
}

/// A user database's driver.
#[derive(Debug, Clone, Copy)]
pub struct DriverName {
    /// The word after `driver =`.
    pub name: &'static str,
    /// Its own keys, besides those that every block has.
    pub keys: &'static [KeySpec],
}

/// All rows.
#[derive(Debug, Clone, Copy)]
pub struct Catalog {
    /// Protocols of this version.
    pub protocols: &'static [ProtocolName],
    /// Drivers of this version.
    pub drivers: &'static [DriverName],
    /// Protocols that are planned: an error that says so instead of "unknown".
    pub later_protocols: &'static [&'static str],
    /// Drivers that are planned.
    pub later_drivers: &'static [&'static str],
}
