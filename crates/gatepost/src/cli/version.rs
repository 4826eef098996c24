//! `gatepost version`.

use std::process::ExitCode;

/// Says which version this is.
pub fn go() -> ExitCode {
    tell!("gatepost {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}
