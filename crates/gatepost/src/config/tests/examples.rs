//! Five files that operators write first, whole: each yields exactly the errors about what this version lacks; and three of them
//! cut down to IMAP, which are taken as they are.

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
    check(
        EXAMPLE_1,
        &[
            "10:31: error[later]: the protocol `pop3` is not in this version",
            "10:39: error[later]: the protocol `pop3s`",
            "10:48: error[later]: the protocol `managesieve`",
            "10:63: error[later]: the protocol `submission`",
            "10:77: error[later]: the protocol `submissions`",
            "12:12: error[later]: the protocol `lmtp`",
            "17:10: error[later]: the driver `mysql` is not in this version",
        ],
    );
}

#[test]
fn nginx_mail_with_auth_http() {
    check(
        EXAMPLE_2,
        &[
            "6:1: error[later]: `trust.proxy_protocol` is not in this version",
            "9:23: error[later]: the protocol `pop3s`",
            "9:32: error[later]: the protocol `submissions`",
            "10:18: error[later]: `listen.proxy_protocol = \"required\"` is not in this version",
            "11:7: error[later]: `listen.tls = \"offloaded\"` is not in this version",
            "13:14: error[later]: the protocol `submission`",
            "14:18: error[later]: `listen.proxy_protocol = \"required\"`",
            "17:10: error[later]: the driver `auth_http`",
            "24:1: error[later]: `backend.submission_login` is not in this version",
        ],
    );
}

#[test]
fn perdition_popmap() {
    check(
        EXAMPLE_3,
        &[
            "7:31: error[later]: the protocol `pop3`",
            "7:39: error[later]: the protocol `pop3s`",
            "7:48: error[later]: the protocol `managesieve`",
            "11:10: error[later]: the driver `popmap`",
        ],
    );
}

#[test]
fn migration() {
    check(
        EXAMPLE_4,
        &[
            "9:31: error[later]: the protocol `pop3`",
            "9:39: error[later]: the protocol `pop3s`",
            "9:48: error[later]: the protocol `managesieve`",
            "9:63: error[later]: the protocol `submission`",
            "9:77: error[later]: the protocol `submissions`",
            "11:12: error[later]: the protocol `lmtp`",
        ],
    );
}

#[test]
fn exchange_and_microsoft_365() {
    check(
        EXAMPLE_5,
        &[
            "7:31: error[later]: the protocol `pop3s`",
            "7:40: error[later]: the protocol `submission`",
            "9:2: error[later]: [connection] is not in this version",
            "18:1: error[later]: `users.connection` is not in this version",
            "23:1: error[later]: `users.connection`",
            "24:22: error[later]: the protocol `pop3`",
            "35:2: error[later]: [oauth2_app] is not in this version",
        ],
    );
}

const ALL: &str = r#"["imap", "imaps", "pop3", "pop3s", "managesieve", "submission", "submissions"]"#;
const IMAP: &str = r#"["imap", "imaps"]"#;
const LMTP: &str = "[[listen]]\nprotocol = \"lmtp\"\naddress = [\"10.1.0.5:24\"]\ntls = \"none\"\n";

#[test]
fn cut_down_to_imap() {
    let one = EXAMPLE_1.replace(ALL, IMAP).replace(LMTP, "").replace("\"mysql\"", "\"sqlite\"").replace(
        "connect = \"host=db1.example.net host=db2.example.net dbname=mail user=gatepost\"\npassword_file = \"secrets/db\"",
        "path = \"users.db\"",
    );
    let meant = clean(&one);
    assert_eq!(meant.server.name, "mail.example.com");
    let ports: Vec<(u16, ListenTls)> = meant.listen.iter().map(|listen| (listen.address.port(), listen.tls)).collect();
    assert_eq!(
        ports,
        [(143, ListenTls::StartTls), (143, ListenTls::StartTls), (993, ListenTls::Implicit), (993, ListenTls::Implicit)]
    );
    assert!(matches!(&meant.users[0].own["query"].value, meant::Own::Text(query) if query.starts_with("SELECT NULL")));

    let three = EXAMPLE_3
        .replace(r#"["imap", "imaps", "pop3", "pop3s", "managesieve"]"#, IMAP)
        .replace("driver = \"popmap\"\npath = \"popmap\"", "driver = \"passwd-file\"\npath = \"passwd\"");
    let meant = clean(&three);
    let names: Vec<&str> = meant.users.iter().map(|users| users.name.as_str()).collect();
    assert_eq!(names, ["popmap", "default"]);

    let meant = clean(&EXAMPLE_4.replace(ALL, IMAP).replace(LMTP, ""));
    assert_eq!(meant.imap.capability.as_deref(), Some("IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE"));
    assert_eq!(meant.users[0].result_internalfail, meant::Then::ReturnFail);
}
