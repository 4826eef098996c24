//! `gatepost reload`: asks the running Gatepost, and waits for its answer.
//!
//! The control socket takes one line, `reload`, and answers with lines; the first is `ok` or `error`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long the running Gatepost may take to open databases and read certificates.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks the files, then has them put into force.
pub fn go(path: &Path) -> ExitCode {
    let loaded = match super::load(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let socket = &loaded.meant.server.control;
    match ask(socket) {
        Ok(answer) => {
            let (verdict, rest) = answer.split_once('\n').unwrap_or((&answer, ""));
            if verdict == "ok" {
                print!("{rest}");
                println!("the new configuration is in force");
                return if rest.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::WARNINGS) };
            }
            eprint!("{rest}");
            eprintln!("the old configuration stays in force");
            ExitCode::from(super::BAD_CONFIG)
        }
        Err(e) => {
            eprintln!(
                "gatepost reload: {}: {e}; is Gatepost running, with this server.control? SIGHUP to its process does the same",
                socket.display()
            );
            ExitCode::from(super::UNREACHABLE)
        }
    }
}

fn ask(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"reload\n")?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it closed without an answer"));
    }
    Ok(answer)
}
