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
            "4:14: error[later]: the protocol `smtp` is not in this version|for users who sign in to send mail it is `submission`",
            "4:22: error[value]: `listen.protocol` cannot be `IMAP`|did you mean `imap`?",
            "4:30: error[value]: `listen.protocol` cannot be `http`",
        ],
    );
    listening(
        "[[listen]]\nprotocols = [\"sieve\", \"SMTPS\"]",
        &[
            "4:14: error[value]: `listen.protocol` cannot be `sieve`|here it is `managesieve`",
            "4:23: error[value]: `listen.protocol` cannot be `SMTPS`|here it is `submissions`",
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
        &["5:7: error[value]: `listen.tls` cannot be `ssl`|`none`, `starttls`, `implicit`, `offloaded`"],
    );
    listening(
        "[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\nxclient = \"exim\"\naddress = \"127.0.0.1\"",
        &["6:11: error[conflict]: `listen.xclient` has no effect here: only SMTP has more than one XCLIENT|take it out"],
    );
}

const BALANCERS: &str = "[trust]\nproxy_protocol = [\"10.2.0.4\"]\n";

#[test]
fn listeners_behind_balancers() {
    let block = |rest: &str| format!("[[listen]]\nprotocols = [\"imap\", \"pop3s\"]\n{rest}");
    let offloaded = |rest: &str| block(&format!("tls = \"offloaded\"\n{rest}"));
    // No certificate is needed where nothing is encrypted here.
    let meant = clean(&format!("{TOP}{}{BALANCERS}{USERS}", offloaded("proxy_protocol = \"required\"\n")));
    let told: Vec<_> = meant.listen.iter().map(|one| (one.address.port().unwrap(), one.tls, one.proxy_protocol)).collect();
    let expected = |port| (port, ListenTls::Offloaded, meant::ListenProxy::Required);
    assert_eq!(told, [expected(143), expected(143), expected(995), expected(995)]);

    for (proxy, told) in [
        ("", "5:7: error[conflict]: `listen.tls = \"offloaded\"` without |write proxy_protocol = \"required\""),
        ("proxy_protocol = \"mixed\"\n", "5:7: error[conflict]: "),
        ("proxy_protocol = \"off\"\n", "5:7: error[conflict]: "),
    ] {
        let mut expected = vec![told];
        // Only the one that hears headers is a use of the list.
        let unused = format!("{}:18: warning[trust]: `trust.proxy_protocol` names balancers, and no", 7 + proxy.lines().count());
        if !proxy.contains("mixed") {
            expected.push(&unused);
        }
        listening(&format!("{}{BALANCERS}", offloaded(proxy)), &expected);
    }
    // What is wrong in itself is told once.
    listening(
        &format!("{}{BALANCERS}", offloaded("proxy_protocol = \"requird\"\n")),
        &["6:18: error[value]: `listen.proxy_protocol` cannot be `requird`|did you mean `required`?|`off`, `required`, `mixed`"],
    );
    listening(
        &format!("{}[trust]\nproxy_protocol = [\"x\"]", offloaded("proxy_protocol = \"required\"\n")),
        &["8:19: error[value]"],
    );
    listening(
        &format!("{}{BALANCERS}", offloaded("proxy_protocol = \"required\"\ncleartext_auth = \"never\"\n")),
        &["7:18: error[conflict]: `listen.cleartext_auth` has no effect beside `tls = \"offloaded\"`|take it out"],
    );
    listening(
        &block("proxy_protocol = true\ntls = \"none\"\naddress = \"127.0.0.1\"\n"),
        &[
            "5:18: error[kind]: `listen.proxy_protocol` is true or false; it must be one of `off`, `required`, `mixed`",
            "6:7: error[conflict]: `pop3s` means TLS from the first byte",
        ],
    );
}

#[test]
fn connections_of_a_listener() {
    let block = |value: &str| {
        format!("[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\naddress = \"127.0.0.1\"\nconnections = {value}\n")
    };
    for (value, wrong) in [("0", "range]: `listen.connections` is 0; it must be from 1 to"), ("\"many\"", "kind]: ")] {
        listening(&block(value), &[&format!("7:15: error[{wrong}")]);
    }
}

#[test]
fn headers_that_nobody_may_send_or_nobody_hears() {
    let block = |rest: &str| format!("[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\ncleartext_auth = \"always\"\n{rest}\n");
    for trust in ["", "[trust]\nproxy_protocol = []", "[trust]\nnetworks = [\"10.2.0.4\"]"] {
        listening(
            &format!("{}{trust}", block("proxy_protocol = \"required\"")),
            &[
                "7:18: error[missing]: `listen.proxy_protocol` needs `trust.proxy_protocol`: |nobody could connect|fix: [trust] proxy",
            ],
        );
        listening(
            &format!("{}{trust}", block("proxy_protocol = \"mixed\"")),
            &["7:18: error[missing]: |nobody's header would be believed"],
        );
    }
    let unused = "9:18: warning[trust]: `trust.proxy_protocol` names balancers, and no listener |proxy_protocol = \"required\"";
    listening(&format!("{}{BALANCERS}", block("proxy_protocol = \"off\"")), &[unused]);
    listening(&format!("{}{BALANCERS}", block("proxy_protocol = \"mixed\"")), &[]);
    // One is enough.
    listening(&format!("{}{}{BALANCERS}", block("proxy_protocol = \"required\""), block("address = \"*:1143\"")), &[]);
    // Without a listener there is another thing to say.
    listening(BALANCERS, &["1:1: error[missing]: there is no [[listen]]"]);
}

#[test]
fn clients_of_a_balancer_on_this_host_are_not_of_this_host() {
    let block = |rest: &str| format!("[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.1\"\n{rest}\n{BALANCERS}");
    listening(
        &block("tls = \"none\"\nproxy_protocol = \"required\""),
        &[
            "3:1: warning[cleartext]: |only clients on this host can sign in|if it ends at the balancer, tls = \"offloaded\" and proxy_protocol = \"required\"",
        ],
    );
    listening(&block("tls = \"offloaded\"\nproxy_protocol = \"required\""), &[]);
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
    listening(&block("[]"), &["7:11: error[value]: `listen.address` names no address"]);
    listening(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.key\" }]\n[[listen]]\nprotocols = [\"imap\", \"imaps\"]\naddress = [\"10.1.0.5:143\", \"10.1.0.6\"]",
        &["7:12: error[conflict]: an address with a port serves one protocol"],
    );
}

#[test]
fn unix_sockets() {
    let block = |rest: &str| format!("[[listen]]\nprotocol = \"imap\"\n{rest}");
    // Without a word of TLS there is none, and no certificate is needed; a name that means it keeps its meaning.
    let dir = Dir::new();
    let own = dir.0.join("mail/imap");
    for (rest, at, tls, mode, group) in [
        ("address = \"unix:/run/gatepost/imap\"", "unix:/run/gatepost/imap", ListenTls::None, 0o660, None),
        ("address = \"/run/x\"\nsocket_mode = \"666\"", "unix:/run/x", ListenTls::None, 0o666, None),
        (
            "address = \"unix:/run/x\"\ntls = \"none\"\nsocket_mode = \"0620\"\nsocket_group = \"mail\"",
            "unix:/run/x",
            ListenTls::None,
            0o620,
            Some("mail"),
        ),
        ("address = \"unix:mail/imap\"", &*format!("unix:{}", own.display()), ListenTls::None, 0o660, None),
    ] {
        let meant = dir.put("gatepost.toml", format!("{TOP}{}\n{USERS}", block(rest)).as_bytes()).load().unwrap().meant;
        let [one] = &meant.listen[..] else { panic!("{:?}", meant.listen) };
        assert_eq!((&*one.address.to_string(), one.tls, one.socket_mode, one.socket_group.as_deref()), (at, tls, mode, group));
        assert!(!one.optional);
    }
    let certificates = "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.key\" }]\n";
    let both = "[[listen]]\nprotocol = \"imap\"\naddress = [\"unix:/run/x\", \"127.0.0.1\"]\n";
    for (listen, expected) in [
        (both.to_owned(), vec![ListenTls::None, ListenTls::StartTls]),
        (format!("{both}tls = \"starttls\"\n"), vec![ListenTls::StartTls; 2]),
        (both.replace("imap", "imaps"), vec![ListenTls::Implicit; 2]),
    ] {
        let meant = clean(&format!("{TOP}{certificates}{listen}{USERS}"));
        assert_eq!(meant.listen.iter().map(|one| one.tls).collect::<Vec<_>>(), expected, "{listen}");
    }
    listening(both, &["4:12: error[tls]: `imap` offers TLS here"]);
    listening(&block("address = \"/run/x\"\ntls = \"starttls\""), &["6:7: error[tls]: `imap` offers TLS here"]);
    listening(&block("address = \"/run/x\"\ncleartext_auth = \"never\""), &["3:1: warning[cleartext]: without TLS"]);

    let long = format!("address = \"unix:/run/{}\"", "x".repeat(103));
    clean(&format!("{TOP}{}\n{USERS}", block(&long.replace("/run/x", "/run/"))));
    listening(
        &block(&long),
        &["5:11: error[range]: `listen.address`: the path of a unix socket has at most 107 octets, this one has 108"],
    );
    for (text, why) in [
        ("unix:", "`` names no file"),
        ("unix:/", "`/` names no file"),
        ("unix:/run/", "`/run/` names a directory"),
        ("unix:@gatepost", "`@gatepost` is an abstract socket"),
    ] {
        let told = format!("5:11: error[value]: `listen.address`: {why}|address = \"unix:/run/gatepost/lmtp\"");
        listening(&block(&format!("address = \"{text}\"")), &[&told]);
    }
    for (mode, why) in [
        ("\"0440\"", "error[value]: `listen.socket_mode`: nobody could connect with `0440`|\"0660\""),
        ("\"rw\"", "error[value]: `listen.socket_mode` cannot be `rw`|an octal number in quotes"),
        ("\"0680\"", "error[value]: `listen.socket_mode` cannot be `0680`"),
        ("\"1777\"", "error[value]: `listen.socket_mode` cannot be `1777`"),
        ("\"+66\"", "error[value]: `listen.socket_mode` cannot be `+66`"),
        ("660", "error[kind]: `listen.socket_mode` is a number"),
    ] {
        listening(&block(&format!("address = \"/run/x\"\nsocket_mode = {mode}")), &[&format!("6:15: {why}")]);
    }
    listening(
        &block("address = \"127.0.0.1\"\ntls = \"none\"\nsocket_mode = \"0660\"\nsocket_group = \"mail\""),
        &[
            "7:15: error[conflict]: `listen.socket_mode` has no effect: no `address` of this listener is a unix socket|take it out",
            "8:16: error[conflict]: `listen.socket_group` has no effect",
        ],
    );
    listening(
        "[[listen]]\nprotocols = [\"imap\", \"pop3\"]\naddress = \"/run/x\"",
        &["5:11: error[conflict]: a unix socket serves one protocol, and this listener has several|a [[listen]] of its own"],
    );
    let pop3 = "[[listen]]\nprotocol = \"pop3\"\naddress = \"unix:/run/x\"";
    listening(
        &format!("{}\n{pop3}", block("address = \"/run/x\"")),
        &["8:11: error[twice]: unix:/run/x is taken already by the listener at |gatepost.toml:5:11"],
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
