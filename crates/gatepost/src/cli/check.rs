//! `gatepost check`: everything that `run` would stumble over, without binding a port.

use crate::login::house::Live;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Checks the configuration, the certificates and the user databases.
pub fn go(path: &Path) -> ExitCode {
    let loaded = match super::load(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&warnings);
    let warn: crate::users::Warn = Arc::new(move |text: String| heard.lock().unwrap_or_else(PoisonError::into_inner).push(text));
    let (listeners, databases) = (loaded.meant.listen.len(), loaded.meant.users.len());
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    if let Err(problems) = Live::build(loaded.meant, Vec::new(), &warn) {
        for problem in problems {
            eprintln!("{problem}");
        }
        return ExitCode::from(super::BAD_CONFIG);
    }
    let more = warnings.lock().unwrap_or_else(PoisonError::into_inner);
    for warning in more.iter() {
        eprintln!("warning: {warning}");
    }
    tell!("{}: fine: {listeners} listening addresses, {databases} user databases", path.display());
    if loaded.warnings.is_empty() && more.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::WARNINGS) }
}
