//! nginx's mail proxy in front of Gatepost: what it says of its clients arrives at real servers behind.

use std::net::{IpAddr, Ipv4Addr};

use testkit::dovecot::{self, Backend};
use testkit::nginx::{Nginx, Question, Verdict, Way};
use testkit::peer::{Sasl, SmtpClient};
use testkit::postfix::{self, Options, Postfix};
use testkit::{Dir, Protocol, real};

use crate::gate::{Gate, Want};
use crate::sending::{HELLO, alice, delivered, send, unchecked};

/// Where the client of these tests stands.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 42));

/// As it stands in the documents: nginx speaks in clear to what is behind it.
const LISTENER: &str =
    "[[listen]]\nprotocol = \"submission\"\naddress = \"127.0.0.1:0\"\ntls = \"none\"\ncleartext_auth = \"trusted\"\n";

/// nginx signs in at Gatepost, or says who has signed in.
const SIGNS_IN: usize = 0;
const VOUCHES: usize = 1;

/// nginx in front of a Gatepost. nginx lets in whoever has this password.
struct House {
    gate: Gate,
    nginx: Nginx,
}

impl House {
    #[track_caller]
    fn start(users: &str, trust: &str) -> House {
        House::start_in(Dir::new(), users, trust)
    }

    #[track_caller]
    fn start_in(dir: Dir, users: &str, trust: &str) -> House {
        let gate = Gate::start_in(dir, &Want { users, trust, more: LISTENER, ..Default::default() });
        let to = gate.at(Protocol::Submission);
        let check = move |asked: &Question| match asked.password.as_str() {
            "alice-secret" => Verdict::At(to),
            _ => Verdict::No("No such luck".into()),
        };
        let nginx = Nginx::start(&[Way::submission(), Way { auth: false, ..Way::submission() }], check);
        House { gate, nginx }
    }

    /// A client that has said EHLO.
    #[track_caller]
    fn client(&self, way: usize) -> SmtpClient {
        let mut client = SmtpClient::connect_from(CLIENT, self.nginx.addr(way));
        client.greeting();
        client.ehlo(HELLO);
        client
    }

    /// One that has signed in as alice at nginx.
    #[track_caller]
    fn signed_in(&self, way: usize) -> SmtpClient {
        let mut client = self.client(way);
        let reply = client.authenticate(&alice());
        assert!(reply.is_ok(), "{reply:?}\n{}\n{}", self.nginx.log().tail(), self.gate.gatepost.log().tail());
        client
    }

    #[track_caller]
    fn login_line(&self, n: usize) -> String {
        self.gate.gatepost.log().wait_for_count(" info login ", n).swap_remove(n - 1)
    }
}

const TRUSTED: &str = "networks = [\"127.0.0.1\"]";
const VOUCHING: &str = "networks = [\"127.0.0.1\"]\nlogin = [\"127.0.0.1\"]";

fn usable() -> bool {
    postfix::require().is_some() && real::require("nginx").is_some()
}

#[test]
fn with_auth_its_clients_reach_postfix_as_themselves() {
    if !usable() {
        return;
    }
    let postfix = Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), ..Options::default() });
    let house = House::start(&unchecked(postfix.addr().port(), ""), TRUSTED);
    send(house.signed_in(SIGNS_IN), "signed in");
    let received = delivered(&postfix, "signed in").received();
    assert!(received.starts_with(&format!("from {HELLO} (unknown [127.0.0.42]) (Authenticated sender: alice)")), "{received}");
    postfix.log().wait_for("client=unknown[127.0.0.42], sasl_method=PLAIN, sasl_username=alice");
    let ours = house.login_line(1);
    for piece in
        ["protocol=submission user=alice client=127.0.0.42:0 ", " via=127.0.0.1:", " mechanism=PLAIN ", " identity=told "]
    {
        assert!(ours.contains(piece), "no {piece:?} in {ours}");
    }

    // Over IPv6 in front.
    let mut client = SmtpClient::connect(house.nginx.addr6(SIGNS_IN));
    client.greeting();
    client.ehlo(HELLO);
    assert!(client.authenticate(&Sasl::login("alice", "alice-secret")).is_ok());
    send(client, "by IPv6");
    let received = delivered(&postfix, "by IPv6").received();
    assert!(received.starts_with(&format!("from {HELLO} (unknown [IPv6:::1]) (Authenticated sender: alice)")), "{received}");

    // Whom nginx lets in and Postfix does not.
    let mut client = house.client(SIGNS_IN);
    let reply = client.authenticate(&Sasl::plain("", "mallory", "alice-secret"));
    assert_eq!(reply.text(), "535 5.7.8 Authentication failed.");

    // Where LOGIN is not believed of it, it is not listed, and nginx says it all the same.
    let mut client = house.client(VOUCHES);
    let reply = client.authenticate(&alice());
    assert!(!reply.is_ok(), "{reply:?}");
    assert_eq!(house.gate.gatepost.log().count(" info login "), 2);
    assert_eq!(postfix.delivered().messages().len(), 2);
}

#[test]
fn without_auth_its_word_signs_in_at_postfix() {
    if !usable() {
        return;
    }
    let postfix = Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), ..Options::default() });
    let house = House::start(&unchecked(postfix.addr().port(), r#", proxy_noauth = "y""#), VOUCHING);
    send(house.signed_in(VOUCHES), "vouched");
    let received = delivered(&postfix, "vouched").received();
    assert!(received.starts_with(&format!("from {HELLO} (unknown [127.0.0.42]) (Authenticated sender: alice)")), "{received}");
    postfix.log().wait_for("client=unknown[127.0.0.42], sasl_method=XCLIENT, sasl_username=alice");
    let ours = house.login_line(1);
    for piece in
        ["protocol=submission user=alice client=127.0.0.42:0 ", " via=127.0.0.1:", " mechanism=XCLIENT ", " identity=told "]
    {
        assert!(ours.contains(piece), "no {piece:?} in {ours}");
    }
    assert_eq!(postfix.dovecot().log().count("service=smtp"), 0, "nobody was asked for a password");
}

#[test]
fn without_auth_its_word_signs_in_at_dovecot_with_a_master_password() {
    let (Some(_), Some(_)) = (real::require("dovecot"), real::require("nginx")) else { return };
    let dovecot = Backend::start(dovecot::Options { trusted: "127.0.0.1".into(), ..Default::default() });
    let port = dovecot.addresses().submission.port();
    let house = House::start(&unchecked(port, r#", master = "master", pass = "master-secret""#), VOUCHING);
    send(house.signed_in(VOUCHES), "vouched");
    let letter = dovecot.letters().wait_for(1).remove(0);
    assert!(letter.text().contains(&format!("from {HELLO} ([127.0.0.42])")), "{}", letter.text());
    let theirs = dovecot.login_line_of(Protocol::Submission, 1);
    for piece in ["user=<alice>, method=PLAIN, rip=127.0.0.42, ", "real_rip=127.0.0.1"] {
        assert!(theirs.contains(piece), "no {piece:?} in {theirs}");
    }
    let ours = house.login_line(1);
    for piece in [" mechanism=XCLIENT ", " master=master ", " identity=told "] {
        assert!(ours.contains(piece), "no {piece:?} in {ours}");
    }
    let session = ours.rsplit_once("session=").unwrap().1;
    assert!(theirs.contains(&format!("session=<{session}>")), "{ours}\n{theirs}");
}

/// nginx writes a user's name into its XCLIENT as it is.
#[test]
fn a_name_with_a_blank_is_refused_and_injects_nothing() {
    if !usable() {
        return;
    }
    let postfix = Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), ..Options::default() });
    let house = House::start(&unchecked(postfix.addr().port(), r#", proxy_noauth = "y""#), VOUCHING);
    for name in ["joe smith", "eve ADDR=192.0.2.66", "eve LOGIN=root", "eve NAME=inside.example", "a+b"] {
        let mut client = house.client(VOUCHES);
        let reply = client.authenticate(&Sasl::plain("", name, "alice-secret"));
        assert!(!reply.is_ok() && reply.code / 100 != 2, "{name:?}: {reply:?}");
        house.nginx.log().wait_for("upstream sent invalid response");
    }
    assert_eq!(house.gate.gatepost.log().count(" info login "), 0);
    assert_eq!(house.gate.gatepost.log().count("192.0.2.66"), 0);
    assert_eq!(postfix.delivered().messages().len(), 0);
    // It is the names that are refused.
    send(house.signed_in(VOUCHES), "alice");
    delivered(&postfix, "alice");
}

#[test]
fn whom_it_vouches_for_must_be_known() {
    if !usable() {
        return;
    }
    let postfix = Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), ..Options::default() });
    let dir = Dir::new();
    let port = postfix.addr().port();
    dir.write("users", format!("alice:{{PLAIN}}mine::::::proxy=y host=127.0.0.1 port={port} proxy_noauth=y\n"));
    let users = "[[users]]\ndriver = \"passwd-file\"\npath = \"users\"\n";
    let house = House::start_in(dir, users, VOUCHING);
    for name in ["carol", "bob"] {
        let mut client = house.client(VOUCHES);
        // nginx lets it in, and the first MAIL is where Gatepost has its say.
        assert!(client.authenticate(&Sasl::plain("", name, "alice-secret")).is_ok());
        let reply = client.command("MAIL FROM:<x@example.com>");
        assert!(reply.text().starts_with("535 5.7.8 "), "{reply:?}");
        let refused = house.gate.gatepost.wait_for(&format!(" user={name} "));
        assert!(refused.contains("reason=credentials") && refused.contains("client=127.0.0.42:0 "), "{refused}");
        assert!(!client.command("RCPT TO:<carol@example.org>").is_ok());
    }
    // Its password is nginx's business.
    send(house.signed_in(VOUCHES), "known");
    delivered(&postfix, "known");
    assert_eq!(postfix.log().count("sasl_username=carol"), 0);
}
