//! Five files that operators write first, whole: each yields exactly the errors about what this version lacks; and four of them
//! cut down to what it has, which are taken as they are.

use super::*;

const EXAMPLE_1: &str = r#"version = 1
[server]
name = "mail.example.com"
[tls]
certificates = [{ cert = "tls/mail.pem", key = "tls/mail.key" }]
[trust]
networks = ["192.0.2.40", "10.1.0.25"]

[[listen]]
protocols = ["imap", "imaps", "pop3", "pop3s", "managesieve", "submission", "submissions"]
[[listen]]
protocol = "lmtp"
address = ["10.1.0.5:24"]
tls = "none"

[[users]]
driver = "mysql"
connect = "host=db1.example.net host=db2.example.net dbname=mail user=gatepost"
password_file = "secrets/db"
query = '''
SELECT NULL AS password, 'Y' AS nopassword, 'Y' AS proxy, host, NULLIF(destuser, '') AS destuser
FROM proxy WHERE user = '%u'
'''

[backend]
tls = "starttls"
tls_ca = "tls/backends-ca.pem"
proxy_timeout = "30s"
"#;

const EXAMPLE_2: &str = r#"version = 1
server.name = "edge.example.com"
[tls]
certificates = [{ cert = "tls/mail.pem", key = "tls/mail.key" }]
[trust]
proxy_protocol = ["10.2.0.4", "2001:db8:2::4"]

[[listen]]
protocols = ["imaps", "pop3s", "submissions"]
proxy_protocol = "required"
tls = "offloaded"
[[listen]]
protocols = ["submission"]
proxy_protocol = "required"

[[users]]
driver = "auth_http"
url = "http://10.2.0.20:9000/auth"
headers = { "X-Auth-Key-Id" = "edge" }
timeout = "10s"

[backend]
tls = "none"
submission_login = "xclient"
"#;

const EXAMPLE_3: &str = r#"version = 1
server.name = "edge.example.com"
[tls]
certificates = [{ cert = "tls/mail.pem", key = "tls/mail.key" }]

[[listen]]
protocols = ["imap", "imaps", "pop3", "pop3s", "managesieve"]

[[users]]
name = "popmap"
driver = "popmap"
path = "popmap"
username_format = "%Lu"
[[users]]
name = "default"
driver = "static"
fields = { proxy = "y", nopassword = "y", host = "mail-old.example.net" }

[backend]
tls = "starttls"
"#;

const EXAMPLE_4: &str = r#"version = 1
server.name = "edge.example.com"
[tls]
certificates = [{ cert = "tls/mail.pem", key = "tls/mail.key" }]
[trust]
networks = ["10.1.0.25"]

[[listen]]
protocols = ["imap", "imaps", "pop3", "pop3s", "managesieve", "submission", "submissions"]
[[listen]]
protocol = "lmtp"
address = ["10.1.0.5:24"]
tls = "none"

[[users]]
name = "moved"
driver = "sqlite"
path = "moves.db"
query = '''
SELECT NULL AS password, 'y' AS nopassword, 'y' AS proxy, host, delay_until FROM moved WHERE user = '%u'
'''
[[users]]
name = "not-moved"
driver = "static"
fields = { proxy = "y", nopassword = "y", host = "old.example.net" }
[protocol.imap]
capability = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE"
[backend]
tls = "starttls"
"#;

const EXAMPLE_5: &str = r#"version = 1
server.name = "edge.example.com"
[tls]
certificates = [{ cert = "tls/mail.pem", key = "tls/mail.key" }]

[[listen]]
protocols = ["imap", "imaps", "pop3s", "submission"]

[connection.ad]
driver = "ldap"
uris = ["ldaps://dc1.corp.example.com", "ldaps://dc2.corp.example.com"]
dn = "CN=gatepost,OU=Services,DC=corp,DC=example,DC=com"
dnpass_file = "secrets/ad"
base = "DC=corp,DC=example,DC=com"

[[users]]
name = "exchange"
connection = "ad"
filter = "(&(objectClass=user)(userPrincipalName=%u)(msExchRecipientTypeDetails=1))"
fields = { proxy = "y", nopassword = "y", host = "exchange.corp.example.com", starttls = "yes", proxy_not_trusted = "y" }
[[users]]
name = "cloud"
connection = "ad"
protocols = ["imap", "pop3"]
filter = "(&(objectClass=user)(userPrincipalName=%u)(msExchRecipientTypeDetails=2147483648))"
auth_bind = true
[users.fields]
proxy = "y"
host = "outlook.office365.com"
ssl = "yes"
destuser = "%{ldap:userPrincipalName}"
proxy_not_trusted = "y"
proxy_mech = "XOAUTH2"
pass = "%{oauth2_app:m365}"
[oauth2_app.m365]
token_url = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token"
client_id = "APPLICATION-ID"
client_secret_file = "secrets/m365"
scope = "https://outlook.office365.com/.default"
"#;

#[test]
fn dovecot_proxy_with_sql() {
    check(EXAMPLE_1, &["17:10: error[later]: the driver `mysql` is not in this version"]);
}

#[test]
fn nginx_mail_with_auth_http() {
    check(EXAMPLE_2, &["17:10: error[later]: the driver `auth_http`"]);
}

#[test]
fn perdition_popmap() {
    check(EXAMPLE_3, &["11:10: error[later]: the driver `popmap`"]);
}

#[test]
fn migration() {
    check(EXAMPLE_4, &[]);
}

#[test]
fn exchange_and_microsoft_365() {
    check(
        EXAMPLE_5,
        &[
            "9:2: error[later]: [connection] is not in this version",
            "18:1: error[later]: `users.connection` is not in this version",
            "23:1: error[later]: `users.connection`",
            "35:2: error[later]: [oauth2_app] is not in this version",
        ],
    );
}

/// Each listener once, though it is bound for both families.
fn listeners(meant: &Meant) -> Vec<(&'static str, u16, ListenTls, meant::ListenProxy)> {
    let all = meant.listen.iter().filter(|listen| listen.address.tcp().is_some_and(|at| at.is_ipv4()));
    all.map(|listen| (listen.protocol, listen.address.port().unwrap(), listen.tls, listen.proxy_protocol)).collect()
}

#[test]
fn cut_down_to_what_there_is() {
    use ListenTls::{Implicit, Offloaded, StartTls};
    use meant::ListenProxy::{Off, Required};
    let one = EXAMPLE_1.replace("\"mysql\"", "\"sqlite\"").replace(
        "connect = \"host=db1.example.net host=db2.example.net dbname=mail user=gatepost\"\npassword_file = \"secrets/db\"",
        "path = \"users.db\"",
    );
    let meant = clean(&one);
    assert_eq!(meant.server.name, "mail.example.com");
    assert_eq!(
        listeners(&meant),
        [
            ("imap", 143, StartTls, Off),
            ("imap", 993, Implicit, Off),
            ("pop3", 110, StartTls, Off),
            ("pop3", 995, Implicit, Off),
            ("managesieve", 4190, StartTls, Off),
            ("submission", 587, StartTls, Off),
            ("submission", 465, Implicit, Off),
            ("lmtp", 24, ListenTls::None, Off),
        ]
    );
    assert!(matches!(&meant.users[0].own["query"].value, meant::Own::Text(query) if query.starts_with("SELECT NULL")));

    let (before, rest) = EXAMPLE_2.split_once("driver = \"auth_http\"").unwrap();
    let (_, after) = rest.split_once("[backend]").unwrap();
    let two = format!("{before}driver = \"passwd-file\"\npath = \"passwd\"\n[backend]{after}");
    let meant = clean(&two);
    assert_eq!(
        listeners(&meant),
        [
            ("imap", 993, Offloaded, Required),
            ("pop3", 995, Offloaded, Required),
            ("submission", 465, Offloaded, Required),
            ("submission", 587, StartTls, Required),
        ]
    );
    assert_eq!(meant.backend.submission_login, meant::SubmissionLogin::Xclient);
    let balancers: Vec<String> = meant.trust.proxy_protocol.iter().map(ToString::to_string).collect();
    assert_eq!(balancers, ["10.2.0.4/32", "2001:db8:2::4/128"]);
    assert!(meant.trust.networks.is_empty(), "a balancer may not speak for clients in any other way");

    let three = EXAMPLE_3.replace("driver = \"popmap\"\npath = \"popmap\"", "driver = \"passwd-file\"\npath = \"passwd\"");
    let meant = clean(&three);
    let names: Vec<&str> = meant.users.iter().map(|users| users.name.as_str()).collect();
    assert_eq!(names, ["popmap", "default"]);

    let meant = clean(EXAMPLE_4);
    assert_eq!(meant.imap.capability.as_deref(), Some("IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE"));
    assert_eq!(meant.users[0].result_internalfail, meant::Then::ReturnFail);
}

#[test]
fn the_example_that_is_delivered() {
    let text = include_str!("../../../../../packaging/gatepost.example.toml");
    // As it is, and with everything that it suggests in comments.
    let suggested = |line: &str| {
        let bare = line.strip_prefix("# ")?;
        let key = bare.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        (key || bare.starts_with('[')).then(|| bare.to_owned())
    };
    let all: Vec<String> = text.lines().map(|line| suggested(line).unwrap_or_else(|| line.to_owned())).collect();
    for text in [text.to_owned(), all.join("\n")] {
        let dir = Dir::furnished();
        dir.put("tls/fullchain.pem", b"x").put("tls/key.pem", b"x");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.0.join("tls/key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
        dir.put("gatepost.toml", text.as_bytes());
        compare(&text, &dir.problems(), &[]);
    }
    assert!(all.iter().any(|line| line.starts_with("source_ips = ")), "the suggestions were found");
}
