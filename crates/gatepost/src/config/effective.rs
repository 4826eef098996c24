//! The configuration as it works, written as a file: every key that has a value, defaults marked as such.
//!
//! Promises: [`effective_with_secrets`] is valid TOML that `load` takes for the same [`Meant`] (but for the places, `at`),
//! whatever the texts hold; [`effective`] is the same with the values of secret fields replaced. Paths are absolute. A path that
//! is not UTF-8, which no file of ours can name, is written with replacement characters.
//!
//! `optional` listeners come in pairs of both families and are written `*:port`; a single one, which `load` never makes, is
//! written as if it were not optional.

use super::meant::{Listen, ListenProxy, ListenTls, LocalBackend, LogTarget, Meant, Own, SourceIp, UsersBlock, XclientAs};
use super::secret::is_secret;
use super::sections::words;
use super::spelling::word_of;
use super::{sections, units};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use wire::smtp::message::BareNewline;

/// The configuration in force as TOML, to be shown: what secret fields hold (`pass`, `password`, ...) is replaced by `***`.
pub fn effective(meant: &Meant) -> String {
    write(meant, Secrets::Hidden)
}

/// The same with secret fields in full, so that it can be loaded again. Not for a log or a report.
pub fn effective_with_secrets(meant: &Meant) -> String {
    write(meant, Secrets::Shown)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Hidden,
    Shown,
}

fn write(meant: &Meant, secrets: Secrets) -> String {
    let mut out = Out { text: "version = 1\n".to_owned(), secrets };
    out.server(meant);
    out.tls(meant);
    out.trust(meant);
    let mut rest = meant.listen.iter().peekable();
    while let Some(listen) = rest.next() {
        let all = rest.next_if(|next| is_pair(listen, next)).is_some();
        out.listen(listen, all);
    }
    for block in &meant.users {
        out.users(block);
    }
    out.backend(meant);
    out.imap(meant);
    out.pop3(meant);
    out.managesieve(meant);
    out.submission(meant);
    out.lmtp(meant);
    out.limits(meant);
    out.log(meant);
    out.admin(meant);
    out.text
}

/// Both families of one `*:port`.
fn is_pair(four: &Listen, six: &Listen) -> bool {
    let (Some(at), Some(then)) = (four.address.tcp(), six.address.tcp()) else { return false };
    let unspecified = |listen: &Listen, at: SocketAddr| listen.optional && at.ip().is_unspecified();
    unspecified(four, at)
        && unspecified(six, then)
        && at.is_ipv4()
        && then.is_ipv6()
        && at.port() == then.port()
        && (four.protocol, four.tls) == (six.protocol, six.tls)
        && (four.cleartext_auth, four.proxy_protocol) == (six.cleartext_auth, six.proxy_protocol)
        && (four.connections, four.xclient, four.bare_newline) == (six.connections, six.xclient, six.bare_newline)
}

struct Out {
    text: String,
    secrets: Secrets,
}

impl Out {
    fn server(&mut self, meant: &Meant) {
        let (server, default) = (&meant.server, sections::default_server());
        self.title("[server]");
        self.line("name", &quote(&server.name), server.name == default.name);
        self.option("user", server.user.as_deref().map(quote));
        self.line("control", &path(&server.control), server.control == default.control);
        self.line("threads", &server.threads.to_string(), server.threads == default.threads);
        self.line("temp_dir", &path(&server.temp_dir), server.temp_dir == default.temp_dir);
    }

    fn admin(&mut self, meant: &Meant) {
        let (admin, default) = (&meant.admin, sections::default_admin());
        self.title("[admin]");
        self.option("group", admin.group.as_deref().map(quote));
        let addresses = array(admin.address.iter().map(|address| quote(&address.to_string())));
        self.line("address", &addresses, admin.address == default.address);
        self.option("token_file", admin.token_file.as_deref().map(path));
    }

    fn tls(&mut self, meant: &Meant) {
        self.title("[tls]");
        let certificates = meant.tls.certificates.iter();
        let list = array(certificates.map(|one| format!("{{ cert = {}, key = {} }}", path(&one.cert), path(&one.key))));
        self.line("certificates", &list, meant.tls.certificates.is_empty());
        self.line("alpn_strict", &meant.tls.alpn_strict.to_string(), meant.tls.alpn_strict);
    }

    fn trust(&mut self, meant: &Meant) {
        let trust = &meant.trust;
        self.title("[trust]");
        let networks = array(trust.networks.iter().map(|net| quote(&net.to_string())));
        self.line("networks", &networks, trust.networks.is_empty());
        self.line("identity_before_tls", &word(words::BEFORE_TLS, trust.identity_before_tls), trust.identity_before_tls);
        let vouchers = array(trust.login.iter().map(|net| quote(&net.to_string())));
        self.line("login", &vouchers, trust.login.is_empty());
        let balancers = array(trust.proxy_protocol.iter().map(|net| quote(&net.to_string())));
        self.line("proxy_protocol", &balancers, trust.proxy_protocol.is_empty());
    }

    fn listen(&mut self, listen: &Listen, all: bool) {
        self.title("[[listen]]");
        self.line("protocol", &quote(listen.protocol), false);
        let port = listen.address.port().filter(|_| all);
        self.line("address", &quote(&port.map_or_else(|| listen.address.to_string(), |port| format!("*:{port}"))), false);
        if listen.address.path().is_some() {
            self.line("socket_mode", &quote(&format!("{:04o}", listen.socket_mode)), false);
            self.option("socket_group", listen.socket_group.as_deref().map(quote));
        }
        self.line("tls", &word(words::LISTEN_TLS, listen.tls), false);
        if listen.tls == ListenTls::Offloaded {
            // Beside it, the key would be an error.
            self.text.push_str("# cleartext_auth: not asked, TLS ends at the balancer\n");
        } else {
            self.line("cleartext_auth", &word(words::CLEARTEXT_AUTH, listen.cleartext_auth), false);
        }
        self.line("proxy_protocol", &word(words::LISTEN_PROXY, listen.proxy_protocol), listen.proxy_protocol == ListenProxy::Off);
        if listen.protocol == "submission" {
            self.line("xclient", &word(words::XCLIENT, listen.xclient), listen.xclient == XclientAs::Usual);
        }
        if listen.protocol == "lmtp" {
            let bare_newline = word(words::BARE_NEWLINE, listen.bare_newline);
            self.line("bare_newline", &bare_newline, listen.bare_newline == BareNewline::Normalize);
        }
        self.option("connections", listen.connections.map(|most| most.to_string()));
    }

    fn users(&mut self, block: &UsersBlock) {
        self.title("[[users]]");
        self.line("name", &quote(&block.name), false);
        self.line("driver", &quote(block.driver), false);
        for (key, own) in &block.own {
            let value = match &own.value {
                Own::Text(text) => quote_lines(text),
                Own::Path(file) => path(file),
                Own::Fields(fields) => self.fields(fields),
            };
            self.line(key, &value, false);
        }
        if block.protocols.is_empty() {
            // An empty array would mean "none".
            self.text.push_str("# protocols: all\n");
        } else {
            self.line("protocols", &array(block.protocols.iter().map(|name| quote(name))), false);
        }
        self.option("username_format", block.username_format.as_deref().map(quote));
        for (key, fields) in [("default_fields", &block.default_fields), ("override_fields", &block.override_fields)] {
            let value = self.fields(fields);
            self.line(key, &value, fields.is_empty());
        }
        use super::meant::{Skip, Then};
        for (key, then, default) in [
            ("result_success", block.result_success, Then::ReturnOk),
            ("result_failure", block.result_failure, Then::Continue),
            ("result_internalfail", block.result_internalfail, Then::ReturnFail),
        ] {
            self.line(key, &word(words::THEN, then), then == default);
        }
        self.line("skip", &word(words::SKIP, block.skip), block.skip == Skip::Never);
        self.line("deny", &block.deny.to_string(), !block.deny);
    }

    fn backend(&mut self, meant: &Meant) {
        let (backend, default) = (&meant.backend, sections::default_backend());
        self.title("[backend]");
        self.line("tls", &word(words::BACKEND_TLS, backend.tls), backend.tls == default.tls);
        self.line("tls_verify", &backend.tls_verify.to_string(), backend.tls_verify == default.tls_verify);
        self.option("tls_ca", backend.tls_ca.as_deref().map(path));
        let pins = array(backend.tls_pin.iter().map(|pin| quote(&STANDARD.encode(pin))));
        self.line("tls_pin", &pins, backend.tls_pin.is_empty());
        self.option("tls_client_cert", backend.tls_client.as_ref().map(|client| path(&client.cert)));
        self.option("tls_client_key", backend.tls_client.as_ref().map(|client| path(&client.key)));
        self.duration("proxy_timeout", backend.proxy_timeout, default.proxy_timeout);
        self.duration("connect_timeout", backend.connect_timeout, default.connect_timeout);
        let addresses = array(backend.self_addresses.iter().map(|address: &IpAddr| quote(&address.to_string())));
        self.line("self_addresses", &addresses, backend.self_addresses.is_empty());
        let mark = |source: &SourceIp| quote(&format!("{}{}", if source.if_here { "?" } else { "" }, source.host));
        self.line("source_ips", &array(backend.source_ips.iter().map(mark)), backend.source_ips.is_empty());
        let local: Vec<(&str, String)> = backend.local.iter().map(|(name, to)| (name.as_str(), host_port(to))).collect();
        let local = table(local.iter().map(|(name, to)| (*name, to.as_str())));
        self.line("local", &local, backend.local.is_empty());
        self.duration("disconnect_spread", backend.disconnect_spread, default.disconnect_spread);
        let proxy = word(words::BACKEND_PROXY, backend.proxy_protocol);
        self.line("proxy_protocol", &proxy, backend.proxy_protocol == default.proxy_protocol);
        let refused = word(words::REFUSED, backend.identity_refused);
        self.line("identity_refused", &refused, backend.identity_refused == default.identity_refused);
        let login = word(words::LOGIN, backend.submission_login);
        self.line("submission_login", &login, backend.submission_login == default.submission_login);
    }

    fn imap(&mut self, meant: &Meant) {
        let (imap, default) = (&meant.imap, sections::default_imap(&meant.server.name));
        self.title("[protocol.imap]");
        self.option("capability", imap.capability.as_deref().map(quote));
        let pairs = table(imap.id_send.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.line("imap_id_send", &pairs, imap.id_send == default.id_send);
        self.line("imap_id_retain", &imap.id_retain.to_string(), imap.id_retain == default.id_retain);
        self.line("greeting", &quote(&imap.greeting), imap.greeting == default.greeting);
        self.duration("idle_timeout", imap.idle_timeout, default.idle_timeout);
    }

    fn pop3(&mut self, meant: &Meant) {
        let (pop3, default) = (&meant.pop3, sections::default_pop3(&meant.server.name));
        self.title("[protocol.pop3]");
        self.line("capability", &quote(&pop3.capability), pop3.capability == default.capability);
        self.line("greeting", &quote(&pop3.greeting), pop3.greeting == default.greeting);
        self.duration("idle_timeout", pop3.idle_timeout, default.idle_timeout);
    }

    fn managesieve(&mut self, meant: &Meant) {
        let (sieve, default) = (&meant.managesieve, sections::default_managesieve(&meant.server.name));
        self.title("[protocol.managesieve]");
        self.option("sieve", sieve.sieve.as_deref().map(quote));
        self.option("notify", sieve.notify.as_deref().map(quote));
        self.line("implementation", &quote(&sieve.implementation), sieve.implementation == default.implementation);
        self.line("greeting", &quote(&sieve.greeting), sieve.greeting == default.greeting);
        self.duration("idle_timeout", sieve.idle_timeout, default.idle_timeout);
    }

    fn submission(&mut self, meant: &Meant) {
        let (submission, default) = (&meant.submission, sections::default_submission());
        self.title("[protocol.submission]");
        self.option("capability", submission.capability.as_deref().map(quote));
        self.line("greeting", &quote(&submission.greeting), submission.greeting == default.greeting);
        self.duration("login_timeout", submission.login_timeout, default.login_timeout);
        self.duration("idle_timeout", submission.idle_timeout, default.idle_timeout);
    }

    fn lmtp(&mut self, meant: &Meant) {
        let (lmtp, default) = (&meant.lmtp, sections::default_lmtp());
        self.title("[protocol.lmtp]");
        self.option("capability", lmtp.capability.as_deref().map(quote));
        self.line("greeting", &quote(&lmtp.greeting), lmtp.greeting == default.greeting);
        self.duration("idle_timeout", lmtp.idle_timeout, default.idle_timeout);
        let delimiter = quote(&lmtp.recipient_delimiter);
        self.line("recipient_delimiter", &delimiter, lmtp.recipient_delimiter == default.recipient_delimiter);
        self.line("soft_bounce", &lmtp.soft_bounce.to_string(), lmtp.soft_bounce == default.soft_bounce);
    }

    fn limits(&mut self, meant: &Meant) {
        let (limits, default) = (&meant.limits, sections::default_limits());
        self.title("[limits]");
        self.line("line", &size(limits.line), limits.line == default.line);
        self.line("literal", &size(limits.literal), limits.literal == default.literal);
        self.number("bad_commands", limits.bad_commands, default.bad_commands);
        self.number("commands", limits.commands, default.commands);
        self.number("failed_logins", limits.failed_logins, default.failed_logins);
        self.duration("failed_login_pause", limits.failed_login_pause, default.failed_login_pause);
        self.duration("login_timeout", limits.login_timeout, default.login_timeout);
        self.duration("tls_handshake_timeout", limits.tls_handshake_timeout, default.tls_handshake_timeout);
        self.number("connections", limits.connections, default.connections);
        self.number("connections_before_login", limits.connections_before_login, default.connections_before_login);
        self.number("user_connections", limits.user_connections, default.user_connections);
        let exempt = array(limits.exempt.iter().map(|net| quote(&net.to_string())));
        self.line("exempt", &exempt, limits.exempt.is_empty());
        self.number("guesses", limits.guesses, default.guesses);
        self.duration("lookup_timeout", limits.lookup_timeout, default.lookup_timeout);
        self.number("lookups", limits.lookups, default.lookups);
        self.line("message_size", &size(limits.message_size), limits.message_size == default.message_size);
        self.number("recipients", limits.recipients, default.recipients);
        self.duration("drain", limits.drain, default.drain);
        self.duration("upgrade_drain", limits.upgrade_drain, default.upgrade_drain);
    }

    fn log(&mut self, meant: &Meant) {
        let (log, default) = (&meant.log, sections::default_log());
        self.title("[log]");
        self.line("format", &word(words::FORMAT, log.format), log.format == default.format);
        self.line("level", &word(words::LEVEL, log.level), log.level == default.level);
        let target = words::TARGET.iter().find(|(_, kind)| kind.is_kind_of(&log.target)).map_or("", |(name, _)| *name);
        self.line("target", &quote(target), log.target == default.target);
        match &log.target {
            LogTarget::Stderr => {}
            LogTarget::File(file) => self.line("file", &path(file), false),
            LogTarget::Syslog { socket, facility } | LogTarget::Journald { socket, facility } => {
                self.line(
                    "socket",
                    &path(socket),
                    sections::default_socket(&log.target).is_some_and(|default| default == socket),
                );
                self.line("facility", &word(words::FACILITY, *facility), *facility == sections::DEFAULT_FACILITY);
            }
        }
    }

    fn fields(&self, fields: &[(String, String)]) -> String {
        table(fields.iter().map(|(name, value)| {
            let hidden = self.secrets == Secrets::Hidden && is_secret(name);
            (name.as_str(), if hidden { "***" } else { value.as_str() })
        }))
    }

    fn title(&mut self, title: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.text, "\n{title}\n");
    }

    fn line(&mut self, key: &str, value: &str, is_default: bool) {
        let _ = writeln!(self.text, "{} = {value}{}", bare(key), if is_default { "  # default" } else { "" });
    }

    fn number<T: PartialEq + std::fmt::Display>(&mut self, key: &str, value: T, default: T) {
        self.line(key, &value.to_string(), value == default);
    }

    fn duration(&mut self, key: &str, value: std::time::Duration, default: std::time::Duration) {
        self.line(key, &quote(&units::write_duration(value)), value == default);
    }

    /// A key without a default that can be written.
    fn option(&mut self, key: &str, value: Option<String>) {
        match value {
            Some(value) => self.line(key, &value, false),
            None => {
                let _ = writeln!(self.text, "# {key}: not set");
            }
        }
    }
}

fn size(octets: usize) -> String {
    quote(&units::write_size(octets))
}

/// IPv6 in brackets, as it is read.
fn host_port(to: &LocalBackend) -> String {
    if to.host.contains(':') { format!("[{}]:{}", to.host, to.port) } else { format!("{}:{}", to.host, to.port) }
}

fn path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> String {
    quote(word_of(words, value))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn table<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{} = {}", bare(name), quote(value))).collect();
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

/// A key, in quotes where it must be.
fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if plain { key.to_owned() } else { quote(key) }
}

/// A query is easier to read in lines.
fn quote_lines(text: &str) -> String {
    let literal = text.contains('\n')
        && !text.contains("'''")
        && !text.ends_with('\'')
        && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    if literal { format!("'''\n{text}'''") } else { quote(text) }
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use toml::de::{DeTable, DeValue};

    fn read(value: &str, key: &str) -> Option<String> {
        let text = format!("{} = {value}\n", bare(key));
        let table = DeTable::parse(&text).ok()?;
        let found = table.get_ref().iter().find(|(have, _)| have.get_ref() == key)?;
        match found.1.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        }
    }

    #[test]
    fn queries_stay_readable_where_they_can() {
        assert_eq!(quote_lines("SELECT \\\nFROM \"t\"\n"), "'''\nSELECT \\\nFROM \"t\"\n'''");
        // Each would end the literal early, lose an octet, or not be TOML.
        for text in ["one line", "a\n'''b", "a\nb'", "a\r\nb", "a\n\u{1b}b"] {
            assert!(quote_lines(text).starts_with('"'), "{text:?}");
            assert_eq!(read(&quote_lines(text), "k").as_deref(), Some(text));
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text in any::<String>(), key in any::<String>()) {
            prop_assert_eq!(read(&quote(&text), &key), Some(text.clone()));
            prop_assert_eq!(read(&quote_lines(&text), "k"), Some(text));
        }

        #[test]
        fn queries_survive(text in "[a'\"\\\\\n\r\t ]{0,40}") {
            prop_assert_eq!(read(&quote_lines(&text), "k"), Some(text));
        }
    }
}
