//! `gatepost show`: which files are read, or what they mean.

use clap::Args;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub struct Show {
    /// Show what is in force, defaults filled in, as a configuration file
    #[arg(long)]
    effective: bool,
}

impl Show {
    /// Shows the configuration.
    pub fn go(&self, path: &Path) -> ExitCode {
        if self.effective {
            return effective(path);
        }
        match super::load(path) {
            Ok(loaded) => {
                for file in &loaded.files {
                    tell!("{}", file.display());
                }
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }
}

/// Shows what is in force.
pub fn effective(path: &Path) -> ExitCode {
    match super::load(path) {
        Ok(loaded) => {
            super::tell_whole(&crate::config::effective(&loaded.meant));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
