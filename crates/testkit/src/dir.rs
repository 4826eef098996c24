//! A private directory for one fixture, removed when it is dropped.
//!
//! Created below `GATEPOST_TEST_RUN` (a directory that `make test` sets, so that it can look for leftovers), else
//! below the system's directory for temporary files. It is kept, and its path printed, when `GATEPOST_KEEP` is set or
//! when the test that owns it fails under `GATEPOST_KEEP=failed`.
//!
//! Dovecot's processes run as users of their own and must be able to walk to their files. So the directory has mode
//! 0755, and a base that others may not enter (a home directory) is passed over in favour of `/tmp`. Nothing secret
//! lives here: keys and passwords are made for the test.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that lives as long as this value.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    /// Creates an empty directory with a name nobody else uses.
    pub fn new() -> Dir {
        let base = base();
        // A name is not a lock: creating the directory is what claims it, so that two processes with one pid (in two
        // containers sharing /tmp) cannot share it.
        for _ in 0..10_000 {
            let path = base.join(format!("gp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => {
                    // The umask of the caller must not lock Dovecot's users out.
                    allow(&path, 0o755);
                    return Dir { path };
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("cannot create the test directory {}: {e}", path.display()),
            }
        }
        panic!("no free name for a test directory in {}", base.display());
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` inside.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file (readable by all users, see above) and returns its path.
    #[track_caller]
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        if let Err(e) = fs::write(&path, content) {
            panic!("cannot write {}: {e}", path.display());
        }
        allow(&path, 0o644);
        path
    }

    /// Creates a directory inside (readable by all users) and returns its path.
    #[track_caller]
    pub fn create(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(name);
        if let Err(e) = fs::create_dir_all(&path) {
            panic!("cannot create {}: {e}", path.display());
        }
        allow(&path, 0o755);
        path
    }

    /// A short name made from the run's and the directory's own, fit for process titles: `gatepost-test-aB3-gp-17-0`.
    pub fn label(&self) -> String {
        let tail: Vec<_> = self.path.components().rev().take(2).map(|c| c.as_os_str().to_string_lossy()).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("-").replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    }
}

impl Default for Dir {
    fn default() -> Dir {
        Dir::new()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let keep = match std::env::var("GATEPOST_KEEP").as_deref() {
            Err(_) | Ok("") => false,
            Ok("failed") => std::thread::panicking(),
            Ok(_) => true,
        };
        if keep {
            eprintln!("kept: {}", self.path.display());
        } else if let Err(e) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {e}", self.path.display());
        }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn base() -> PathBuf {
    if let Some(run) = std::env::var_os("GATEPOST_TEST_RUN").filter(|v| !v.is_empty()) {
        return PathBuf::from(run);
    }
    let usual = std::env::temp_dir();
    let open_to_all = |path: &Path| fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    if usual.is_absolute() && usual.ancestors().all(open_to_all) { usual } else { PathBuf::from("/tmp") }
}

fn allow(path: &Path, mode: u32) {
    if let Err(e) = fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        panic!("cannot set the mode of {}: {e}", path.display());
    }
}
