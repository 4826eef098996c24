//! The tables of which there is one: what is written, and what must be said.

use super::*;

#[test]
fn server() {
    let with = |line: &str| format!("version = 1\n[server]\n{line}\n{LISTEN}{USERS}");
    for name in ["a", "edge.example.com", "xn--mnchen-3ya.example", "192-0-2-1.example"] {
        clean(&with(&format!("name = \"{name}\"")));
    }
    for (name, why) in [
        ("", "is empty"),
        ("a b", "other characters"),
        ("a_b.example", "other characters"),
        ("münchen", "other characters"),
        ("-a", "hyphen"),
        ("a.", "empty part"),
        ("a..b", "empty part"),
        ("a\\r\\nb", "control"),
        ("[192.0.2.1]", "other characters"),
    ] {
        check(&with(&format!("name = \"{name}\"")), &[&format!("3:8: error[value]: `server.name`|{why}")]);
    }
    check(&with(&format!("name = \"{}\"", "a.".repeat(127) + "a")), &["3:8: error[value]: |longer than 253"]);
    let named = |line: &str| with(&format!("name = \"a\"\n{line}"));
    check(&named("threads = 0"), &["4:11: error[range]: `server.threads` is 0; it must be from 1 to 1024"]);
    check(&named("user = \"root:x\""), &["4:8: error[value]: `server.user`: `root:x` is no name of a system user"]);
    check(
        &named(&format!("control = \"/{}\"", "x".repeat(107))),
        &["4:11: error[range]: `server.control` is longer than the 107 octets"],
    );
    clean(&named(&format!("control = \"/{}\"", "x".repeat(106))));
}

#[test]
fn admin() {
    let with = |line: &str| format!("[admin]\n{line}");
    behind(&with("address = [\"127.0.0.1:9143\"]\ntoken_file = \"tls/mail.key\""), &[]);
    behind(
        &with("address = [\"127.0.0.1:9143\"]"),
        &["12:11: error[missing]: `admin.address` without `admin.token_file`|openssl rand"],
    );
    behind(
        &with("address = [\"127.0.0.1\", \"*:9143\", \"localhost:9143\"]\ntoken_file = \"tls/none\""),
        &[
            "12:12: error[value]: `admin.address`: `127.0.0.1` has no port",
            "12:25: error[value]: `admin.address`: `*:9143` would be all addresses",
            "12:35: error[value]: `admin.address`: `localhost:9143` is a name",
            "13:14: error[file]: `admin.token_file`: cannot read |tls/none: No such file",
        ],
    );
    behind(&with("group = \"a:b\""), &["12:9: error[value]: `admin.group`: `a:b` is no name of a system user or group"]);
}

#[test]
fn tls() {
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/none.pem\", key = \"tls\" }]",
        &[
            "12:26: error[file]: `tls.certificates.cert`: cannot read |tls/none.pem: No such file",
            "12:48: error[file]: `tls.certificates.key`: cannot read |tls: it is a directory",
        ],
    );
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\" }, {}]",
        &[
            "12:17: error[missing]: this certificate has no `key`|{ cert = ",
            "12:44: error[missing]: this certificate has no `cert`",
            "12:44: error[missing]: this certificate has no `key`",
        ],
    );
    behind(
        "[tls]\ncertificates = \"tls/mail.pem\"",
        &["12:1: error[kind]: `tls.certificates` is text; it must be an array of tables|[{ ... }]"],
    );
    behind(
        "[tls]\ncertificates = [{ cert = \"/dev/null\", key = \"tls/mail.key\" }]",
        &["12:26: error[file]: |/dev/null: it is not a regular file"],
    );
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.pem\" }]",
        &["12:48: warning[file]: `tls.certificates.key`: everybody on this host can read"],
    );
    clean(&format!("{TOP}[[tls.certificates]]\ncert = \"tls/mail.pem\"\nkey = \"tls/mail.key\"\n{LISTEN}{USERS}"));
}

#[test]
fn trust() {
    behind(
        "[trust]\nnetworks = [\"10.0.0.0/33\", \"mx.example.com\", \"10.1.2.3/16\", \"\"]",
        &[
            "12:13: error[value]: `trust.networks`: `10.0.0.0/33` is neither an address nor a network",
            "12:28: error[value]: `trust.networks`: `mx.example.com` is neither|names are not taken",
            "12:46: error[value]: `trust.networks`: `10.1.2.3/16` has bits behind its prefix|\"10.1.0.0/16\" for the network or \"10.1.2.3\"",
            "12:61: error[value]: `trust.networks` is empty",
        ],
    );
    for world in [
        "\"0.0.0.0/0\"",
        "\"::/0\"",
        "\"10.0.0.0/8\", \"::/0\"",
        "\"0.0.0.0/1\", \"128.0.0.0/1\"",
        "\"::ffff:0.0.0.0/96\"",
        "\"8000::/1\", \"4000::/2\", \"::/2\"",
    ] {
        behind(
            &format!("[trust]\nnetworks = [{world}]"),
            &["12:12: error[trust]: `trust.networks` covers every address of a family"],
        );
    }
    // Another list, and the same care.
    let used = format!("{LISTEN}cleartext_auth = \"always\"\nproxy_protocol = \"mixed\"\n");
    let balancers = |list: &str, expected: &[&str]| {
        check(&format!("{TOP}{used}{USERS}[trust]\nproxy_protocol = {list}\n"), expected);
    };
    balancers("[\"10.2.0.4\", \"2001:db8:2::/64\", \"::ffff:192.0.2.1\"]", &[]);
    balancers("\"10.2.0.4\"", &["13:18: error[kind]: `trust.proxy_protocol` is text; it must be an array|[\"10.2.0.4\"]"]);
    balancers(
        "[\"10.2.0.4/16\", \"lb.example.com\"]",
        &[
            "13:19: error[value]: `trust.proxy_protocol`: `10.2.0.4/16` has bits behind its prefix|\"10.2.0.0/16\"",
            "13:34: error[value]: `trust.proxy_protocol`: `lb.example.com` is neither|names are not taken",
        ],
    );
    balancers(
        "[\"0.0.0.0/1\", \"128.0.0.0/1\"]",
        &["13:18: error[trust]: `trust.proxy_protocol` covers every address of a family|list only the balancers"],
    );
    behind(
        "[limits]\nexempt = [\"192.0.2.40/24\", \"webmail\"]",
        &["12:11: error[value]: `limits.exempt`: `192.0.2.40/24` has bits behind its prefix", "12:28: error[value]: |is neither"],
    );
    behind(
        "[limits]\nexempt = [\"::/0\"]",
        &["12:10: error[limit]: `limits.exempt` covers every address of a family: the limits per address|or raise the limits"],
    );
    behind(
        "[trust]\nnetworks = [\"10.1.0.0/16\"]\nlogin = [\"10.1.2.3\", \"10.2.0.0/24\"]\nidentity_before_tls = \"no\"",
        &[
            "13:9: error[trust]: `trust.login` names 10.2.0.0/24, which is not in `trust.networks`|add \"10.2.0.0/24\" to `networks`",
            "14:23: error[value]: `trust.identity_before_tls` cannot be `no`|`keep`, `drop`",
        ],
    );
}

#[test]
fn backend() {
    behind(
        "[backend]\ntls = \"yes\"",
        &["12:7: error[value]: `backend.tls` cannot be `yes`|a row's word; here it is tls = \"implicit\""],
    );
    behind("[backend]\ntls = \"any-cert\"", &["12:7: error[value]: |tls_verify = false"]);
    behind("[backend]\ntls = \"startls\"", &["12:7: error[value]: |did you mean `starttls`?"]);
    behind("[backend]\ntls_verify = false", &["12:14: warning[tls]: |can read passwords|tls_ca"]);
    behind("[backend]\ntls_ca = \"none.pem\"", &["12:10: error[file]: `backend.tls_ca`: cannot read |none.pem"]);
    behind(
        "[backend]\ntls_client_cert = \"tls/mail.pem\"",
        &["12:19: error[missing]: `backend.tls_client_cert` needs `backend.tls_client_key`"],
    );
    behind(
        "[backend]\ntls_client_key = \"tls/mail.key\"",
        &["12:18: error[missing]: `backend.tls_client_key` needs `backend.tls_client_cert`"],
    );
    behind(
        "[backend]\ntls_pin = [\"AAAA\", \"aa:bb\"]",
        &["12:12: error[value]: `backend.tls_pin`: `AAAA` is no SHA-256|openssl", "12:20: error[value]"],
    );
    behind(
        &format!("[backend]\ntls_pin = \"{}\"", "ab:".repeat(31) + "ab"),
        &["12:11: error[value]: |fingerprint in hexadecimal"],
    );
    behind(
        "[backend]\nproxy_timeout = \"0s\"",
        &["12:17: error[range]: `backend.proxy_timeout` is 0s; it must be from 1s to 10m"],
    );
    behind(
        "[backend]\nproxy_timeout = \"3s\"\nconnect_timeout = \"4s\"",
        &["13:19: error[conflict]: `backend.connect_timeout` is longer"],
    );
    behind("[backend]\nconnect_timeout = \"31s\"", &["12:19: error[conflict]"]);
    assert_eq!(clean(&format!("{TOP}{LISTEN}{USERS}[backend]\nproxy_timeout = \"3s\"")).backend.connect_timeout.as_secs(), 3);
    behind(
        "[backend]\nself_addresses = [\"192.0.2.1:143\", \"a\"]",
        &["12:19: error[value]: `backend.self_addresses`: `192.0.2.1:143` is no address|without a port", "12:36: error[value]"],
    );
    behind(
        "[backend]\nsubmission_login = \"none\"\nproxy_mech = \"PLAIN\"\nsource_ip = \"192.0.2.1\"",
        &[
            "12:20: error[value]: `backend.submission_login` cannot be `none`|`password`, `xclient`",
            "13:1: error[later]: `backend.proxy_mech`",
            "14:1: error[unknown]: there is no `source_ip` in [backend]|did you mean `source_ips`?",
        ],
    );
    behind(
        "[backend]\nproxy_protocol = \"v3\"\nidentity_refused = \"ignore\"\ndisconnect_spread = \"601s\"",
        &[
            "12:18: error[value]: `backend.proxy_protocol` cannot be `v3`|`off`, `v1`, `v2`",
            "13:20: error[value]: `backend.identity_refused` cannot be `ignore`|`fail`, `continue`",
            "14:21: error[range]: `backend.disconnect_spread` is 601s; it must be from 0s to 10m",
        ],
    );
    behind(
        "[backend]\nproxy_protocol = false\ndisconnect_spread = 10",
        &[
            "12:18: error[kind]: `backend.proxy_protocol` is true or false",
            "13:21: error[kind]: `backend.disconnect_spread` is a number without a unit|\"10s\"",
        ],
    );
}

#[test]
fn source_addresses() {
    let meant = |value: &str| {
        let meant = clean(&format!("{TOP}{LISTEN}{USERS}[backend]\nsource_ips = {value}\n"));
        let mark = |one: &meant::SourceIp| format!("{}{}", if one.if_here { "?" } else { "" }, one.host);
        meant.backend.source_ips.iter().map(mark).collect::<Vec<_>>()
    };
    for (value, expected) in [
        ("[]", &[] as &[&str]),
        ("[\"?10.0.0.8\", \"10.0.0.9\"]", &["?10.0.0.8", "10.0.0.9"]),
        ("[\"::ffff:10.0.0.8\", \"2001:DB8::8\", \"out.example.com\"]", &["10.0.0.8", "2001:db8::8", "out.example.com"]),
        ("\"10.0.0.8\"", &["10.0.0.8"]),
        ("\"10.0.0.8 10.0.0.9,out.example.com ,  2001:db8::8\"", &["10.0.0.8", "10.0.0.9", "out.example.com", "2001:db8::8"]),
        ("\"?out.example.com\"", &["?out.example.com"]),
        ("\"?10.0.0.8 10.0.0.9\"", &["?10.0.0.8", "?10.0.0.9"]),
        ("\"? 10.0.0.8, ?10.0.0.9\"", &["?10.0.0.8", "?10.0.0.9"]),
        ("\"10.0.0.8, ?10.0.0.9\"", &["10.0.0.8", "?10.0.0.9"]),
    ] {
        assert_eq!(meant(value), expected, "{value}");
    }
    behind(
        "[backend]\nsource_ips = [\"10.0.0.8:143\", \"10.0.0.256\", \"[::1]\", \"10.0.0.0/24\", \"0.0.0.0\", \"??a\", \"a, b\", \"\", \"?\", 1]",
        &[
            "12:15: error[value]: `backend.source_ips`: `10.0.0.8:143` holds other characters|without a port",
            "12:31: error[value]: `backend.source_ips`: `10.0.0.256` is neither an address nor a host name",
            "12:45: error[value]: ",
            "12:54: error[value]: ",
            "12:69: error[value]: `backend.source_ips`: `0.0.0.0` is no address of a host",
            "12:80: error[value]: `backend.source_ips`: `?a` holds other characters",
            "12:87: error[value]: `backend.source_ips`: `a, b` is more than one item|its own quotes",
            "12:95: error[value]: `backend.source_ips` is empty",
            "12:99: error[value]: `backend.source_ips`: `` is empty",
            "12:104: error[kind]: `backend.source_ips` is a number",
        ],
    );
    behind(
        "[backend]\nsource_ips = [\"10.0.0.8\", \"a.example\", \"?::ffff:10.0.0.8\", \"A.example\"]",
        &[
            "12:40: error[twice]: `backend.source_ips` has `10.0.0.8` twice|take one out",
            "12:60: error[twice]: `backend.source_ips` has `A.example` twice",
        ],
    );
    behind("[backend]\nsource_ips = \"a a\"", &["12:14: error[twice]"]);
    for none in ["?", "? ,", " ", ","] {
        behind(&format!("[backend]\nsource_ips = \"{none}\""), &["12:14: error[value]: `backend.source_ips` names no address"]);
    }
    behind("[backend]\nsource_ips = 1", &["12:14: error[kind]: `backend.source_ips` is a number; it must be a list such as"]);
    let list = |count: usize| (0..count).map(|n| format!("\"10.0.{}.{}\",", n / 250, n % 250 + 1)).collect::<String>();
    assert_eq!(meant(&format!("[{}]", list(256))).len(), 256);
    behind(&format!("[backend]\nsource_ips = [{}]", list(257)), &["12:14: error[range]: `backend.source_ips` has more than 256"]);
    let names: String = (0..257).map(|n| format!("a{n} ")).collect();
    behind(&format!("[backend]\nsource_ips = \"{names}\""), &["12:14: error[range]: `backend.source_ips` has more than 256"]);
}

#[test]
fn local_servers() {
    let local = |value: &str, expected: &[&str]| behind(&format!("[backend]\nlocal = {value}"), expected);
    local("{}", &[]);
    local("{ imap = \"127.0.0.1:10143\", pop3 = \"[::1]:10110\" }", &[]);
    local(
        "{ imp = \"a:1\", imaps = \"a:1\", smtp = \"a:1\", \"\\u001b\" = 1 }",
        &[
            "12:11: error[value]: `backend.local` cannot be `imp`|did you mean `imap`? it takes `imap`, `pop3`",
            "12:24: error[value]: `backend.local`: `imaps` is `imap` on another port|write \"imap\"",
            "12:39: error[later]: the protocol `smtp` is not in this version",
            "12:53: error[value]: `backend.local` cannot be `\\u{1b}`",
        ],
    );
    local(
        "{ imap = \"127.0.0.1\", pop3 = 110 }",
        &[
            "12:18: error[value]: `backend.local.imap`: `127.0.0.1` has no port|\"[::1]:10143\"",
            "12:38: error[kind]: `backend.local.pop3` is a number",
        ],
    );
    local("{ imap = \"::1:143\" }", &["12:18: error[value]: |could be read with or without a port"]);
    local("{ imap = \"localhost:0\" }", &["12:18: error[value]: |has no port from 1 to 65535"]);
    local("{ imap = \"a b:143\" }", &["12:18: error[value]: |other characters"]);
    local("[\"127.0.0.1:143\"]", &["12:9: error[kind]: `backend.local` is an array; it must be a table such as { imap"]);
    behind("[backend.local]\npop3 = \"mail.example.com:110\"", &[]);
}

#[test]
fn a_local_server_that_is_our_own_listener() {
    let to = |listen: &str, to: &str, expected: &[&str]| {
        let block =
            format!("[[listen]]\nprotocol = \"imap\"\ntls = \"none\"\ncleartext_auth = \"always\"\naddress = \"{listen}\"\n");
        check(&format!("{TOP}{block}{USERS}[backend]\nlocal = {{ pop3 = \"{to}\" }}\n"), expected);
    };
    let told = &[
        "12:18: warning[conflict]: `backend.local.pop3` is our own listener at |gatepost.toml:7:11: logins would come back here",
    ];
    to("127.0.0.1:1143", "127.0.0.1:1143", told);
    to("*:1143", "127.0.0.1:1143", told);
    to("*:1143", "[::1]:1143", told);
    to("*:1143", "LOCALHOST:1143", told);
    to("192.0.2.1:1143", "192.0.2.1:1143", told);
    to("192.0.2.1:1143", "127.0.0.1:1143", &[]);
    to("0.0.0.0:1143", "[::1]:1143", &[]);
    to("*:1143", "127.0.0.1:10143", &[]);
    to("*:1143", "192.0.2.1:1143", &[]);
}

#[test]
fn imap() {
    let imap = |line: &str, expected: &[&str]| behind(&format!("[protocol.imap]\n{line}"), expected);
    imap(
        "idle_timeout = \"30m\"",
        &["12:16: error[range]: `protocol.imap.idle_timeout` is 30m; it must be from 31m to 30d (RFC 9051 section 5.4"],
    );
    imap("greeting = \"a\\r\\n* BYE\"", &["12:12: error[value]: `protocol.imap.greeting` holds control characters"]);
    imap("greeting = \"[ALERT] x\"", &["12:12: error[value]: |response code"]);
    imap("greeting = \"Grüß Gott\"", &["12:12: error[value]: |beyond ASCII"]);
    imap("capability = \"IDLE\"", &["12:14: error[value]: `protocol.imap.capability` lacks IMAP4rev1"]);
    imap("capability = \"+XSPECIAL\"", &["12:14: error[value]: |it is the list itself"]);
    imap("capability = \"IMAP4rev1 auth=PLAIN\"", &["12:14: error[value]: |holds `auth=PLAIN`, which follows from"]);
    imap("capability = \"IMAP4rev1 STARTTLS\"", &["12:14: error[value]: |Gatepost adds it"]);
    imap("capability = \"IMAP4rev1 (x)\"", &["12:14: error[value]: |which is no atom"]);
    imap("capability = \"IMAP4rev1]\"", &["12:14: error[value]: |which is no atom"]);
    imap("imap_id_send = \"name\"", &["12:16: error[value]: `protocol.imap.imap_id_send` has a name without a value"]);
    imap("imap_id_send = { os = \"*\" }", &["12:16: error[value]: `protocol.imap.imap_id_send.os` is `*`"]);
    imap("imap_id_send = { name = \"ü\" }", &["12:16: error[value]: |is not ASCII"]);
    imap(&format!("imap_id_send = {{ {} = \"x\" }}", "n".repeat(31)), &["12:16: error[value]: |longer than RFC 2971 allows"]);
    imap(
        &format!("imap_id_send = \"{}\"", (0..31).map(|n| format!("k{n} v ")).collect::<String>()),
        &["12:16: error[range]: |30 pairs of RFC 2971"],
    );
    imap("imap_id_send = \"a 1 A 2\"", &["12:16: error[twice]"]);
    let meant = clean(&format!("{TOP}{LISTEN}{USERS}[protocol.imap]\nimap_id_send = {{}}"));
    assert_eq!(meant.imap.id_send, []);
}

#[test]
fn pop3() {
    let pop3 = |line: &str, expected: &[&str]| behind(&format!("[protocol.pop3]\n{line}"), expected);
    pop3(
        "idle_timeout = \"10m\"",
        &["12:16: error[range]: `protocol.pop3.idle_timeout` is 10m; it must be from 11m to 30d (RFC 1939 section 3"],
    );
    pop3("idle_timeout = \"30d\"", &[]);
    pop3("idle_timeout = \"31d\"", &["12:16: error[range]"]);
    pop3("greeting = \"a\\r\\n-ERR\"", &["12:12: error[value]: `protocol.pop3.greeting` holds control characters"]);
    pop3("greeting = \"[XCLIENT] x\"", &["12:12: error[value]: |response code"]);
    pop3("greeting = \"Grüß Gott\"", &["12:12: error[value]: |beyond ASCII"]);
    pop3("greeting = \"ready <1896.697170952@example.com>\"", &["12:12: error[value]: |offer of APOP"]);
    pop3("greeting = \"1 < 2\"", &[]);
    pop3(&format!("greeting = \"{}\"", "x".repeat(496)), &[]);
    pop3(&format!("greeting = \"{}\"", "x".repeat(497)), &["12:12: error[value]: |is longer than 496 octets"]);
    for own in ["USER", "sasl", "STLS"] {
        pop3(
            &format!("capability = \"TOP {own}\""),
            &[&format!("12:14: error[value]: |holds `{own}`, which follows from|adds it")],
        );
    }
    pop3("capability = \"TOP EXPIRE 60\"", &["12:14: error[value]: |holds `EXPIRE`, which needs an argument"]);
    pop3("capability = \"login-delay\"", &["12:14: error[value]: |holds `login-delay`, which needs an argument"]);
    pop3("capability = \"TOP .\"", &["12:14: error[value]: |holds `.`, which is no name"]);
    pop3("capability = \"TÖP\"", &["12:14: error[value]: |holds `TÖP`, which is no name"]);
    pop3("capability = \"+UTF8\"", &["12:14: error[value]: |it is the list itself"]);
    pop3("capability = \" \"", &["12:14: error[value]: `protocol.pop3.capability` names no capability"]);
    pop3("capability = \"\"", &["12:14: error[value]: `protocol.pop3.capability` is empty"]);
    pop3(&format!("capability = \"{}\"", "x".repeat(510)), &[]);
    pop3(&format!("capability = \"{}\"", "x".repeat(511)), &["12:14: error[value]: |is no name"]);
    pop3(&format!("capability = \"{}\"", "xxxx ".repeat(201)), &["12:14: error[value]: |is longer than 1000 octets"]);
    pop3("capability = [\"TOP\"]", &["12:14: error[kind]: `protocol.pop3.capability` is an array"]);
}

#[test]
fn managesieve() {
    let sieve = |line: &str, expected: &[&str]| behind(&format!("[protocol.managesieve]\n{line}"), expected);
    sieve("idle_timeout = \"30m\"", &["12:16: error[range]: |from 31m to 30d (RFC 5804 section 1.2"]);
    sieve("sieve = \"fileinto comparator-i;ascii-numeric\"", &[]);
    sieve("sieve = \" \"", &["12:9: error[value]: `protocol.managesieve.sieve` names nothing|learnt from the backends"]);
    sieve("sieve = \"+vacation\"", &["12:9: error[value]: |it is the list itself"]);
    sieve("notify = 'a\\b'", &["12:10: error[value]: |is no such name"]);
    sieve(&format!("sieve = \"{}\"", "xxxx ".repeat(201)), &["12:9: error[value]: |is longer than 1000 octets"]);
    sieve("implementation = 'a \"b\"'", &["12:18: error[value]: |without quotes"]);
    sieve("implementation = \"Grüß\"", &["12:18: error[value]: |printable ASCII"]);
    sieve("implementation = \"Cyrus timsieved v3\"", &[]);
}

#[test]
fn submission() {
    let submission = |line: &str, expected: &[&str]| behind(&format!("[protocol.submission]\n{line}"), expected);
    submission("idle_timeout = \"10m\"", &["12:16: error[range]: |from 11m to 30d (RFC 5321 section 4.5.3.2"]);
    submission("login_timeout = \"9s\"", &["12:17: error[range]: |from 10s to 1h (RFC 5321 section 4.5.3.2.7"]);
    submission("capability = \"8BITMIME SIZE=10 BURL=imap\"", &[]);
    for own in ["AUTH", "auth=PLAIN", "StartTLS", "XCLIENT", "XFORWARD"] {
        let expected = format!("12:14: error[value]: |holds `{own}`, which follows from|adds it");
        submission(&format!("capability = \"8BITMIME {own}\""), &[&expected]);
    }
    submission("capability = \"SIZE:10\"", &["12:14: error[value]: |holds `SIZE:10`, which is no keyword of EHLO"]);
    submission("capability = \"-X\"", &["12:14: error[value]: |holds `-X`, which is no keyword"]);
    submission("capability = \"\"", &["12:14: error[value]: `protocol.submission.capability` is empty"]);
    submission(&format!("capability = \"{}\"", "xxxx ".repeat(201)), &["12:14: error[value]: |is longer than 1000 octets"]);
    submission(&format!("greeting = \"{}\"", "x".repeat(241)), &["12:12: error[value]: |is longer than 240 octets"]);
}

#[test]
fn limits_and_descriptors() {
    // Where descriptors are unlimited, there is no number beyond them.
    let enough = default_limits().connections;
    if enough < 1_000_000 {
        let expected = "12:15: warning[limit]: `limits.connections` needs |descriptors|LimitNOFILE";
        behind(&format!("[limits]\nconnections = {}", enough + 1), &[expected]);
    }
    behind(&format!("[limits]\nconnections = {enough}"), &[]);
    behind(
        "[limits]\nconnections = 0\nlookups = 70000",
        &["12:15: error[range]: `limits.connections` is 0", "13:11: error[range]: `limits.lookups`"],
    );
}

#[test]
fn log() {
    behind(
        "[log]\nfile = \"none/log\"",
        &["12:8: error[file]: `log.file`: cannot write |none/log: its directory does not exist"],
    );
    behind("[log]\nfile = \"tls\"", &["12:8: error[file]: |it is a directory"]);
    behind("[log]\nformat = \"JSON\"", &["12:10: error[value]: |did you mean `json`?"]);
    behind("[log]\nformat = \"dovecot\"", &["12:10: error[value]: |`dovecot-2.3`, `dovecot-2.4`"]);
    behind("[log]\ntarget = \"syslogd\"", &["12:10: error[value]: |did you mean `syslog`?"]);
    behind("[log]\ntarget = \"file\"", &["12:10: error[missing]: `log.target` is \"file\", and there is no `log.file`"]);
    behind("[log]\ntarget = \"file\"\nfile = \"none/log\"", &["13:8: error[file]: "]);
    // What would have no effect is refused.
    for (keys, place) in [
        ("target = \"stderr\"\nfile = \"tls/log\"", "13:8: error[conflict]: `log.file`"),
        ("target = \"syslog\"\nfile = \"tls/log\"", "13:8: error[conflict]: `log.file`"),
        ("socket = \"/dev/log\"", "12:10: error[conflict]: `log.socket`"),
        ("file = \"tls/log\"\nfacility = \"mail\"", "13:12: error[conflict]: `log.facility`"),
    ] {
        behind(&format!("[log]\n{keys}"), &[place]);
    }
    let long = format!("[log]\ntarget = \"journald\"\nsocket = \"/{}\"", "x".repeat(107));
    behind(&long, &["13:10: error[range]: `log.socket` is longer than"]);
    behind("[log]\ntarget = \"syslog\"\nfacility = \"kern\"", &["13:12: error[value]: |it takes `mail`, `user`"]);
}
