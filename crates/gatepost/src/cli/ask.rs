//! How the verbs ask the running Gatepost: HTTP on its admin socket, or over TCP with the token.
//!
//! After an upgrade the sessions of the old process are its own still; it goes on answering at `SOCKET.PID`. What is about
//! sessions is asked of all of them.

use super::{FAILED, UNREACHABLE};
use crate::journal::{escape_control, unprintable};
use bytes::{Bytes, BytesMut};
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long an answer may take: a reload opens databases and reads certificates.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest line of an answer that goes on.
const LINE_MAX: usize = 4 << 20;
/// The largest answer that is taken: a list of some hundred thousand sessions.
const ANSWER_MAX: usize = 256 << 20;

/// The answer to a token that is not the right one.
const DENIED: &str = "the token of --token-file is not the one of its admin.token_file";

/// Whom to ask.
#[derive(Args, Clone)]
pub struct Whom {
    /// The admin socket; by default server.control of the configuration file
    #[arg(long, value_name = "PATH", conflicts_with = "admin")]
    socket: Option<PathBuf>,
    /// Ask over TCP, at one of admin.address
    #[arg(long, value_name = "ADDRESS:PORT", requires = "token_file")]
    admin: Option<String>,
    /// A file with the token for --admin
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
}

/// One that can be asked.
#[derive(Clone)]
pub enum At {
    /// A unix socket.
    Socket(PathBuf),
    /// A TCP address and the token.
    Address(String, Zeroizing<String>),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Socket(path) => write!(f, "{}", path.display()),
            At::Address(address, _) => f.write_str(address),
        }
    }
}

/// What was answered.
pub struct Answer {
    /// HTTP's status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Whom {
    /// That socket, or the one of the configuration.
    pub fn at(socket: Option<PathBuf>) -> Whom {
        Whom { socket, admin: None, token_file: None }
    }

    /// Somebody was named who must answer.
    pub fn is_named(&self) -> bool {
        self.socket.is_some() || self.admin.is_some()
    }

    /// The one that serves now.
    ///
    /// # Errors
    /// The token cannot be read; told already.
    pub fn serving(&self, config: &Path) -> Result<At, ExitCode> {
        let Some(address) = &self.admin else {
            return Ok(At::Socket(self.socket.clone().unwrap_or_else(|| crate::config::control_socket(config))));
        };
        let file = self.token_file.clone().unwrap_or_default();
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                Ok(At::Address(address.clone(), Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned())))
            }
            Err(e) => {
                eprintln!("gatepost: {}: {e}", file.display());
                Err(ExitCode::from(FAILED))
            }
        }
    }

    /// That one, and those that only serve what sessions they have left.
    ///
    /// # Errors
    /// As [`Whom::serving`].
    pub fn all(&self, config: &Path) -> Result<Vec<At>, ExitCode> {
        let serving = self.serving(config)?;
        let mut all = vec![serving.clone()];
        if let At::Socket(path) = &serving
            && let (Some(dir), Some(name)) = (path.parent(), path.file_name())
        {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            let prefix = format!("{}.", name.to_string_lossy());
            let beside = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let mut old: Vec<PathBuf> = beside
                .filter(|entry| {
                    let name = entry.file_name();
                    let pid = name.to_string_lossy().strip_prefix(&prefix).map(str::to_owned);
                    pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
                })
                .map(|entry| entry.path())
                .collect();
            old.sort();
            all.extend(old.into_iter().map(At::Socket));
        }
        Ok(all)
    }
}

/// Asks one question. A runtime for this alone: the verbs are straight programs.
///
/// # Errors
/// Nobody answers, or not as an admin API does: told already, with the exit code.
pub fn ask(verb: &str, at: &At, method: Method, path: &str) -> Result<Answer, ExitCode> {
    try_ask(at, method, path).map_err(|e| {
        eprintln!("gatepost {verb}: {}", unanswered(at, &e));
        ExitCode::from(UNREACHABLE)
    })
}

/// Why nobody answered, and what to look at.
pub fn unanswered(at: &At, why: &str) -> String {
    match at {
        _ if why == DENIED => format!("{at}: {why}"),
        At::Socket(_) => format!("{at}: {why}; is Gatepost running, with this server.control, and may you use it?"),
        At::Address(..) => format!("{at}: {why}; is Gatepost running, with this admin.address?"),
    }
}

/// Asks all processes that have sessions, the one that serves first. That one must answer; an old one may be gone just now.
///
/// # Errors
/// It does not answer, or one refuses: told already, with the exit code.
pub fn ask_all<'a>(verb: &str, all: &'a [At], method: &Method, path: &str) -> Result<Vec<(&'a At, Answer)>, ExitCode> {
    let mut answers = Vec::new();
    for (number, at) in all.iter().enumerate() {
        let answer = match number {
            0 => ask(verb, at, method.clone(), path)?,
            _ => match try_ask(at, method.clone(), path) {
                Ok(answer) => answer,
                Err(_) => continue,
            },
        };
        if answer.status != StatusCode::OK {
            eprintln!("gatepost {verb}: {}", refusal(&answer));
            return Err(ExitCode::from(FAILED));
        }
        answers.push((at, answer));
    }
    Ok(answers)
}

/// The same without a word: for those that may be gone.
///
/// # Errors
/// Nobody answers.
pub fn try_ask(at: &At, method: Method, path: &str) -> Result<Answer, String> {
    try_say(at, method, path, Bytes::new())
}

/// The same with something to say.
///
/// # Errors
/// Nobody answers.
pub fn try_say(at: &At, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let asking = async {
        let (response, driving) = send(at, method, path, body).await?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(DENIED.to_owned());
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|e| e.to_string())?.to_bytes();
        driving.abort();
        Ok(Answer { status, body })
    };
    runtime.block_on(async { timeout(PATIENCE, asking).await }).map_err(|_| "no answer in time".to_owned())?
}

/// Sends a request: the head of its answer, and who drives the connection.
async fn send(at: &At, method: Method, path: &str, body: Bytes) -> Result<(Response<Incoming>, JoinHandle<()>), String> {
    match at {
        At::Socket(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
            exchange(TokioIo::new(stream), method, path, body, None).await
        }
        At::Address(address, token) => {
            let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
            exchange(TokioIo::new(stream), method, path, body, Some(token)).await
        }
    }
}

async fn exchange<S>(
    stream: TokioIo<S>,
    method: Method,
    path: &str,
    body: Bytes,
    token: Option<&str>,
) -> Result<(Response<Incoming>, JoinHandle<()>), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|e| e.to_string())?;
    let driving = tokio::spawn(async { drop(connection.await) });
    let mut request = Request::builder().method(method).uri(path).header(HOST, "gatepost");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    Ok((response, driving))
}

/// An answer that goes on, line by line. The connection ends with it.
pub struct Lines {
    body: Incoming,
    held: BytesMut,
    driving: JoinHandle<()>,
}

impl Lines {
    /// Asks for one. `Ok(Err(_))`: it was refused.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn ask(at: &At, path: &str) -> Result<Result<Lines, Answer>, String> {
        let asking = send(at, Method::GET, path, Bytes::new());
        let (response, driving) = timeout(PATIENCE, asking).await.map_err(|_| "no answer in time".to_owned())??;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(DENIED.to_owned());
        }
        if status == StatusCode::OK {
            return Ok(Ok(Lines { body: response.into_body(), held: BytesMut::new(), driving }));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Err(Answer { status, body }))
    }

    /// The next line that is not blank; `None` at the end. Nothing is lost where this is dropped while it waits.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.held) {
                let line = self.held.split_to(end + 1).freeze();
                if line.len() > 1 {
                    return Ok(Some(line.slice(..end)));
                }
                continue;
            }
            if self.held.len() > LINE_MAX {
                return Err("a line without an end".to_owned());
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(e.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// The words of a refusal.
pub fn refusal(answer: &Answer) -> String {
    let words = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let error = words.as_ref().and_then(|words| words.get("error")).and_then(|error| error.as_str());
    error.map_or_else(|| answer.status.to_string(), shown)
}

/// Text from an answer, fit for a terminal, as the journal spells it: names of users come from the Internet.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_control(&mut out, text);
    out
}

/// An answer as JSON on one line, for programs and fit for a terminal, too: what nobody sees is spelled `\u202e`.
pub fn json_line(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if unprintable(c) {
            // All of them are in the first plane, and none stands outside of a string.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Several lines of such text.
pub fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// A query from names and values.
pub fn query(pairs: &[(&str, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn json_cannot_write_on_a_terminal_either() {
        let value = json!({ "user": "a\u{9b}2J\u{202e}b\u{7f}\u{1b}\u{2028}\"\\ü" });
        let line = json_line(&value);
        assert_eq!(line, r#"{"user":"a\u009b2J\u202eb\u007f\u001b\u2028\"\\ü"}"#);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
