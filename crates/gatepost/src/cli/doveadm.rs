//! `gatepost doveadm`: the few commands of Dovecot's tool that scripts use, with its columns, words and exit codes.
//!
//! `who`, `kick`, `proxy list` and `proxy kick` as 2.3.19 has them, observed; where 2.4 differs in a way that takes nothing from
//! old scripts, as there: masks with `*` and `?`, several users, `who` and `kick` see proxied sessions. 2.3 repeats the titles
//! of `proxy list` for every login process; here they come once.
//!
//! Exit codes are Dovecot's: 0 done, 64 wrong usage, 68 `kick` found nobody, 75 nobody answers.

use super::ask::{At, Whom, shown};
use super::kick::kick;
use super::sessions::{field, list};
use super::table::Table;
use crate::protocol;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `kick` found nobody, as sysexits(3) EX_NOHOST, which Dovecot takes for "not found".
const NOT_FOUND: u8 = 68;
/// Wrong usage.
pub const USAGE: u8 = 64;
/// Nobody answers.
const TEMPFAIL: u8 = 75;

#[derive(Args)]
pub struct Doveadm {
    /// How to print: table, tab, flow, pager, json
    #[arg(short = 'f', value_name = "FORMATTER", default_value = "table")]
    formatter: Formatter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Formatter {
    Table,
    Tab,
    Flow,
    Pager,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Who is on
    Who(Who),
    /// End the sessions of users
    Kick(KickUsers),
    /// Sessions that are relayed
    Proxy(Proxy),
}

#[derive(Args)]
struct Socket {
    /// The admin socket, in the place of Dovecot's own sockets
    #[arg(short = 'a', value_name = "SOCKET")]
    socket: Option<PathBuf>,
}

#[derive(Args)]
struct Who {
    #[command(flatten)]
    socket: Socket,
    /// A line for each session
    #[arg(short = '1', action = ArgAction::SetTrue)]
    separate: bool,
    /// Users (with * and ?), addresses or networks
    #[arg(value_name = "USER|IP/BITS")]
    whom: Vec<String>,
}

#[derive(Args)]
#[command(disable_help_flag = true)]
struct KickUsers {
    #[command(flatten)]
    socket: Socket,
    /// The user_NAME column that the masks are about
    #[arg(short = 'f', value_name = "FIELD")]
    field: Option<String>,
    /// The backend
    #[arg(short = 'h', value_name = "HOST")]
    hosts: Vec<String>,
    /// Users (with * and ?), addresses or networks
    #[arg(value_name = "USER|IP/BITS")]
    whom: Vec<String>,
}

#[derive(Args)]
struct Proxy {
    #[command(subcommand)]
    command: ProxyCommand,
}

#[derive(Subcommand)]
enum ProxyCommand {
    /// The sessions
    List(Socket),
    /// End sessions
    Kick(KickUsers),
}

/// The words of a command line are for this verb.
pub fn is_meant(words: impl IntoIterator<Item = OsString>) -> bool {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-c" | "--config") => drop(words.next()),
            Some(word) if word.starts_with('-') => {}
            word => return word == Some("doveadm"),
        }
    }
    false
}

impl Doveadm {
    /// Does it.
    pub fn go(&self, config: &Path) -> ExitCode {
        let done = match &self.command {
            Command::Who(who) => self.who(who, config),
            Command::Kick(kick) => kick_users(kick, config),
            Command::Proxy(Proxy { command: ProxyCommand::List(socket) }) => self.proxy_list(socket, config),
            Command::Proxy(Proxy { command: ProxyCommand::Kick(kick) }) => proxy_kick(kick, config),
        };
        done.unwrap_or_else(|code| code)
    }

    fn print(&self, titles: &[(String, String)], rows: &[Vec<String>]) {
        super::tell_whole(&self.formatter.text(titles, rows));
    }

    fn who(&self, who: &Who, config: &Path) -> Result<ExitCode, ExitCode> {
        let (_, sessions) = signed_in(&who.socket, config, &masks(&who.whom))?;
        let text = |session: &Value, name: &str| field(session, name);
        if who.separate {
            let titles = titles(&[("username", "username"), ("service", "proto"), ("pid", "pid"), ("ip", "ip")]);
            let rows = sessions
                .iter()
                .map(|session| vec![text(session, "user"), service(session), text(session, "pid"), ip(&text(session, "client"))]);
            self.print(&titles, &rows.collect::<Vec<_>>());
            return Ok(ExitCode::SUCCESS);
        }
        // One line for each user and service.
        let mut lines: BTreeMap<(String, String), Line> = BTreeMap::new();
        for session in &sessions {
            let line = lines.entry((text(session, "user"), service(session))).or_default();
            line.count += 1;
            line.pids.insert(text(session, "pid"));
            line.ips.insert(ip(&text(session, "client")));
        }
        let titles =
            titles(&[("username", "username"), ("connections", "#"), ("service", "proto"), ("pids", "(pids)"), ("ips", "(ips)")]);
        let among = |set: BTreeSet<String>| format!("({})", set.into_iter().collect::<Vec<_>>().join(" "));
        let rows = lines
            .into_iter()
            .map(|((user, service), line)| vec![user, line.count.to_string(), service, among(line.pids), among(line.ips)]);
        self.print(&titles, &rows.collect::<Vec<_>>());
        Ok(ExitCode::SUCCESS)
    }

    fn proxy_list(&self, socket: &Socket, config: &Path) -> Result<ExitCode, ExitCode> {
        let (_, sessions) = signed_in(socket, config, &[])?;
        let names: BTreeSet<&str> = sessions
            .iter()
            .filter_map(|session| session.get("fields").and_then(Value::as_object))
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        let mut all = vec![("username".to_owned(), "username".to_owned())];
        all.extend(names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())));
        all.extend(titles(&[("service", "proto"), ("src-ip", "src ip"), ("dest-ip", "dest ip"), ("dest-port", "port")]));
        let rows = sessions.iter().map(|session| {
            let backend = field(session, "backend");
            let mut row = vec![field(session, "user")];
            row.extend(names.iter().map(|name| session.get("fields").map(|fields| field(fields, name)).unwrap_or_default()));
            row.extend([service(session), ip(&field(session, "client")), ip(&backend), port(&backend)]);
            row
        });
        self.print(&all, &rows.collect::<Vec<_>>());
        Ok(ExitCode::SUCCESS)
    }
}

/// A user's sessions of one service.
#[derive(Default)]
struct Line {
    count: usize,
    pids: BTreeSet<String>,
    ips: BTreeSet<String>,
}

fn titles(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, title)| ((*key).to_owned(), (*title).to_owned())).collect()
}

impl Formatter {
    /// Titles are pairs: the key, for JSON, and what people read.
    fn text(self, titles: &[(String, String)], rows: &[Vec<String>]) -> String {
        let named = || titles.iter().map(|(_, title)| title.clone());
        match self {
            Formatter::Table | Formatter::Tab => {
                let mut table = Table::new(named());
                rows.iter().for_each(|row| table.row(row.clone()));
                if matches!(self, Formatter::Tab) { table.tabs() } else { table.columns() }
            }
            Formatter::Flow => {
                let line = |row: &Vec<String>| {
                    let pairs = titles.iter().zip(row).map(|((_, title), cell)| format!("{title}={}", shown(cell)));
                    pairs.collect::<Vec<_>>().join(" ") + "\n"
                };
                rows.iter().map(line).collect()
            }
            Formatter::Pager => {
                let page = |row: &Vec<String>| -> String {
                    titles.iter().zip(row).map(|((_, title), cell)| format!("{title}: {}\n", shown(cell))).collect()
                };
                rows.iter().map(page).collect::<Vec<_>>().join("\u{c}\n")
            }
            Formatter::Json => {
                let object = |row: &Vec<String>| -> Value {
                    titles.iter().zip(row).map(|((key, _), cell)| (key.clone(), Value::from(cell.as_str()))).collect()
                };
                Value::Array(rows.iter().map(object).collect()).to_string()
            }
        }
    }
}

/// Addresses and networks are about clients, all else about users; as doveadm tells them apart.
fn masks(whom: &[String]) -> Vec<(&'static str, String)> {
    whom.iter().map(|mask| (if crate::login::roll::net(mask).is_ok() { "client" } else { "user" }, mask.clone())).collect()
}

fn everywhere(socket: &Socket, config: &Path) -> Result<Vec<At>, ExitCode> {
    Whom::at(socket.socket.clone()).all(config).map_err(|_| ExitCode::from(TEMPFAIL))
}

/// Those who are signed in, and who was asked.
fn signed_in(socket: &Socket, config: &Path, pairs: &[(&'static str, String)]) -> Result<(Vec<At>, Vec<Value>), ExitCode> {
    let at = everywhere(socket, config)?;
    let mut pairs = pairs.to_vec();
    pairs.push(("state", "relayed".to_owned()));
    let sessions = list("doveadm", &at, &pairs).map_err(|_| ExitCode::from(TEMPFAIL))?;
    Ok((at, sessions))
}

/// `doveadm kick`.
fn kick_users(command: &KickUsers, config: &Path) -> Result<ExitCode, ExitCode> {
    let pairs = kick_pairs("kick", command)?;
    let (at, sessions) = signed_in(&command.socket, config, &pairs)?;
    let users: BTreeSet<String> = sessions.iter().map(|session| shown(&field(session, "user"))).collect();
    let kicked = kick("doveadm kick", &at, &pairs).map_err(|_| ExitCode::from(TEMPFAIL))?;
    if kicked == 0 {
        tell!("no users kicked");
        return Err(ExitCode::from(NOT_FOUND));
    }
    tell!("kicked connections from the following users:");
    tell!("{} ", users.into_iter().collect::<Vec<_>>().join(" "));
    Ok(ExitCode::SUCCESS)
}

/// `doveadm proxy kick`.
fn proxy_kick(command: &KickUsers, config: &Path) -> Result<ExitCode, ExitCode> {
    let pairs = kick_pairs("proxy kick", command)?;
    let at = everywhere(&command.socket, config)?;
    let kicked = kick("doveadm proxy kick", &at, &pairs).map_err(|_| ExitCode::from(TEMPFAIL))?;
    tell!("{kicked} connections kicked");
    Ok(ExitCode::SUCCESS)
}

fn kick_pairs(name: &str, command: &KickUsers) -> Result<Vec<(&'static str, String)>, ExitCode> {
    let mut pairs = masks(&command.whom);
    pairs.extend(command.hosts.iter().map(|host| ("backend", host.clone())));
    if pairs.is_empty() {
        eprintln!("doveadm {name} [-a <socket>] [-f <passdb field>] [-h <host> [...]] [<user mask>|<ip/bits> ...]");
        return Err(ExitCode::from(USAGE));
    }
    if let Some(field) = &command.field {
        pairs.push(("field", field.clone()));
    }
    Ok(pairs)
}

/// The protocol, as Dovecot calls it.
fn service(session: &Value) -> String {
    let name = field(session, "protocol");
    protocol::find(&name).map_or(name, |protocol| protocol.service.to_owned())
}

fn ip(at: &str) -> String {
    at.parse::<std::net::SocketAddr>().map_or_else(|_| at.to_owned(), |at| at.ip().to_string())
}

fn port(at: &str) -> String {
    at.parse::<std::net::SocketAddr>().map_or_else(|_| String::new(), |at| at.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_usage_is_told_from_that_of_other_verbs() {
        for (line, meant) in [
            ("doveadm who -x", true),
            ("-c gatepost.toml doveadm frob", true),
            ("--config=gatepost.toml doveadm", true),
            ("-c doveadm sessions", false),
            ("kick doveadm", false),
            ("", false),
        ] {
            assert_eq!(is_meant(line.split_whitespace().map(OsString::from)), meant, "{line}");
        }
    }

    #[test]
    fn the_formatters_of_doveadm() {
        let titles = titles(&[("service", "proto"), ("src-ip", "src ip")]);
        let rows = [vec!["imap".to_owned(), "192.0.2.1".to_owned()], vec!["pop3".to_owned(), "::1".to_owned()]];
        let text = |formatter: Formatter| formatter.text(&titles, &rows);
        assert_eq!(text(Formatter::Tab), "proto\tsrc ip\nimap\t192.0.2.1\npop3\t::1\n");
        assert_eq!(text(Formatter::Flow), "proto=imap src ip=192.0.2.1\nproto=pop3 src ip=::1\n");
        assert_eq!(text(Formatter::Pager), "proto: imap\nsrc ip: 192.0.2.1\n\u{c}\nproto: pop3\nsrc ip: ::1\n");
        assert_eq!(text(Formatter::Json), r#"[{"service":"imap","src-ip":"192.0.2.1"},{"service":"pop3","src-ip":"::1"}]"#);
    }
}
