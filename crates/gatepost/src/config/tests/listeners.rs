//! `[[listen]]`: what is written, and what must be said.

use super::*;

/// Listeners instead of the usual one, from line 3 on.
#[track_caller]
fn listening(blocks: &str, expected: &[&str]) {
    check(&format!("{TOP}{blocks}\n{USERS}"), expected);
}

#[test]
fn listeners() {
    listening("[[listen]]", &["3:1: error[missing]: this listener has no `protocol`"]);
    listening("[[listen]]\nprotocols = []\ntls = \"none\"", &["4:13: error[value]: `listen.protocols` names no protocol"]);
    listening(
        "[[listen]]\nprotocol = \"imap\"\nprotocols = [\"imap\"]\ntls = \"none\"\naddress = \"127.0.0.1\"",
        &["3:1: error[conflict]: this listener has both", "5:14: error[twice]: `imap` is named twice"],
    );
    listening(
        "[[listen]]\nprotocol = \"imap4\"",
        &["4:12: error[value]: `listen.protocol` cannot be `imap4`|did you mean `imap`?"],
    );
    listening(
        "[[listen]]\nprotocols = [\"smtp\", \"IMAP\", \"http\"]",
        &[
            "4:14: error[later]: the protocol `smtp` is not in this version",
            "4:22: error[value]: `listen.protocol` cannot be `IMAP`|did you mean `imap`?",
            "4:30: error[value]: `listen.protocol` cannot be `http`",
        ],
    );
    listening(
        "[[listen]]\nprotocol = \"imap\"",
        &["4:12: error[tls]: `imap` offers TLS here, and [tls] has no certificate|or tls = \"none\" in this listener"],
    );
    listening("[[listen]]\nprotocol = \"imaps\"", &["4:12: error[tls]: `imaps` offers TLS here|or take `imaps` out"]);
    listening("[[listen]]\nprotocol = \"imap\"\ntls = \"implicit\"", &["5:7: error[tls]: `imap` offers TLS here"]);
    // An entry that is wrong is told once, not at each listener.
    listening(
        "[[listen]]\nprotocol = \"imap\"\n[tls]\ncertificates = [{ cert = \"none\", key = \"tls/mail.key\" }]",
        &["6:26: error[file]"],
    );
    listening(
        "[[listen]]\nprotocol = \"imaps\"\ntls = \"none\"\naddress = \"127.0.0.1\"",
        &["5:7: error[conflict]: `imaps` means TLS from the first byte|write `imap` instead"],
    );
    listening(
        "[[listen]]\nprotocol = \"imap\"\ntls = \"ssl\"",
        &["5:7: error[value]: `listen.tls` cannot be `ssl`|`none`, `starttls`, `implicit`"],
    );
    listening(
        "[[listen]]\nprotocol = \"imap\"\ntls = \"offloaded\"\nproxy_protocol = \"mixed\"\nxclient = \"exim\"",
        &[
            "5:7: error[later]: `listen.tls = \"offloaded\"`",
            "6:18: error[later]: `listen.proxy_protocol = \"mixed\"`",
            "7:1: error[later]: `listen.xclient`",
        ],
    );
    listening(
        "[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\nproxy_protocol = \"on\"\naddress = \"127.0.0.1\"",
        &["6:18: error[value]: `listen.proxy_protocol` cannot be `on`"],
    );
}

#[test]
fn listening_addresses() {
    let block = |address: &str| {
        format!("[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\ncleartext_auth = \"always\"\naddress = {address}")
    };
    for good in ["\"10.1.0.5:24\"", "[\"10.1.0.5\", \"[::1]:143\"]", "\":1143\"", "\"*:143\"", "[\"0.0.0.0:143\", \"[::]:143\"]"]
    {
        clean(&format!("{TOP}{}\n{USERS}", block(good)));
    }
    listening(
        &block("[\"::1:143\", \"localhost:143\", \"10.1.0.5:imap\", 143]"),
        &[
            "7:12: error[value]: `listen.address`: `::1:143` could be read with or without a port|write \"[::1]:143\", or \"[::1:143]\" if",
            "7:23: error[value]: `listen.address`: `localhost:143` is a name|\"127.0.0.1\" and \"[::1]\"",
            "7:40: error[value]: `listen.address`: `10.1.0.5:imap` has no number as its port",
            "7:57: error[kind]: `listen.address` is a number",
        ],
    );
    listening(&block("\"unix:/run/x\""), &["7:11: error[later]: listening on a unix socket is not in this version"]);
    listening(&block("[]"), &["7:11: error[value]: `listen.address` names no address"]);
    listening(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.key\" }]\n[[listen]]\nprotocols = [\"imap\", \"imaps\"]\naddress = [\"10.1.0.5:143\", \"10.1.0.6\"]",
        &["7:12: error[conflict]: an address with a port serves one protocol"],
    );
}

#[test]
fn two_listeners_on_one_address() {
    let one = "[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\ncleartext_auth = \"always\"\n";
    listening(&format!("{one}{one}"), &["7:1: error[twice]: 0.0.0.0:143 is taken already by the listener at |gatepost.toml:3:1"]);
    listening(
        &format!("{one}{one}address = [\"10.0.0.1\", \"[::]:143\"]"),
        &["11:24: error[twice]: [::]:143 is taken already by the listener at |gatepost.toml:3:1"],
    );
    listening(
        &format!("{one}address = [\"10.0.0.1\", \"10.0.0.1:143\", \"[::ffff:10.0.0.1]:143\"]"),
        &[
            "7:24: error[twice]: 10.0.0.1:143 is taken already by the listener at |gatepost.toml:7:12",
            "7:40: error[twice]: 10.0.0.1:143 is taken already",
        ],
    );
    clean(&format!("{TOP}{one}{one}address = \"*:1143\"\n{USERS}"));
}

#[test]
fn listeners_where_nobody_can_sign_in() {
    let block = |rest: &str| format!("[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\n{rest}");
    listening(
        &block(""),
        &["3:1: warning[cleartext]: without TLS |only clients on this host can sign in|cleartext_auth = \"always\""],
    );
    listening(&block("cleartext_auth = \"trusted\""), &["3:1: warning[cleartext]: |only clients on this host"]);
    listening(&block("cleartext_auth = \"trusted\"\n[trust]\nnetworks = [\"10.0.0.0/8\"]"), &[]);
    listening(&block("cleartext_auth = \"never\"\naddress = \"127.0.0.1\""), &["3:1: warning[cleartext]: |nobody can sign in"]);
    listening(&block("cleartext_auth = \"always\""), &[]);
    listening(&block("address = [\"127.0.0.1\", \"[::1]\"]"), &[]);
    listening(
        &block("cleartext_auth = \"yes\"\naddress = \"[::1]\""),
        &["6:18: error[value]: `listen.cleartext_auth` cannot be `yes`|`never`, `loopback`, `trusted`, `always`"],
    );
}
