//! The table: every field with a good value, with malformed ones, and where it meets others.
//!
//! Each protocol runs through all of it, but for cases that name theirs. A field that is read anywhere
//! in the program without a case here, or without a line in docs/fields.md, fails a test. A case that says nothing else lets
//! its user in at the row's backend; what it adds is what differs from that.

use super::case::{Case, Cert, Met, NULL, Peer, Place, Refused, Setup, case};
use super::spelling::Way;
use super::{lmtp, vouching};

use Refused::{Disabled, Looping, Refer, Unavailable};
use testkit::Protocol;

/// More than any field may hold that goes onto a wire.
const LONG: &str = match std::str::from_utf8(&[b'x'; 1100]) {
    Ok(text) => text,
    Err(_) => "",
};

/// What a row may say, and no carrier takes.
const BIG: &str = LONG.split_at(1010).0;

/// More than finds room beside anything else in a command of SMTP.
pub(super) const HALF: &str = LONG.split_at(330).0;

/// Every case.
pub fn table() -> Vec<Case> {
    [
        whether(),
        place(),
        tls(),
        times(),
        manners(),
        vouching::cases(),
        names(),
        passwords(),
        mechanisms(),
        nets(),
        closed(),
        referrals(),
        forwarded(),
        journalled(),
        suffixes(),
        lmtp::cases(),
    ]
    .concat()
}

/// `proxy`, `proxy_maybe`, `proxy_always`, and rows without any of them.
fn whether() -> Vec<Case> {
    vec![
        case("proxy", &[]).journal(&["database=rows", "host=127.0.0.1", "identity=told"]),
        case("proxy-true-when-present", &[("proxy", "no")]),
        case("proxy-to-ourselves", &[("port", "{gate}")]).refused(Looping, Met::Nobody, &["reason=loop", "loops to itself"]),
        case("maybe-elsewhere", &[("proxy", NULL), ("proxy_maybe", "y")]),
        case("maybe-elsewhere-local", &[("proxy", NULL), ("proxy_maybe", "y")]).setup(Setup::Local),
        case("maybe-us", &[("proxy", NULL), ("proxy_maybe", "y"), ("port", NULL)]).refused(
            Unavailable,
            Met::Nobody,
            &["reason=row", "field proxy_maybe", "no backend.local"],
        ),
        case("maybe-our-port", &[("proxy", NULL), ("proxy_maybe", "y"), ("port", "{gate}")]).refused(
            Unavailable,
            Met::Nobody,
            &["reason=row", "field proxy_maybe", "no backend.local"],
        ),
        case("maybe-us-local", &[("proxy", NULL), ("proxy_maybe", "y"), ("port", NULL), ("destuser", "bob")]).local(),
        case("maybe-our-port-local", &[("proxy_maybe", "y"), ("port", "{gate}"), ("forward_a", "1")])
            .local()
            .hears(|heard| heard.forward = vec![("a", "1")]),
        case("maybe-another-port-local", &[("proxy_maybe", "y")]).setup(Setup::Local),
        case("maybe-name-local", &[("proxy_maybe", "y"), ("host", "localhost"), ("port", NULL)]).local(),
        case("maybe-self-address-local", &[("proxy_maybe", "y"), ("host", "127.0.0.3"), ("port", NULL)]).local(),
        case("maybe-always", &[("proxy_maybe", "y"), ("proxy_always", "y"), ("port", NULL)]).setup(Setup::Local).refused(
            Unavailable,
            Met::Nobody,
            &["reason=row", "field proxy_maybe", "proxy_always forbids"],
        ),
        case("always-elsewhere", &[("proxy_maybe", "y"), ("proxy_always", "y")]),
        case("not-proxied", &[("proxy", NULL)]).bad("field proxy: is missing"),
        case("not-proxied-local", &[("proxy", NULL), ("destuser", "bob"), ("source_ip", "127.0.0.9"), ("ssl", "yes")]).local(),
        case("not-proxied-malformed", &[("proxy", NULL), ("port", "0")]).setup(Setup::Local).bad("field port"),
    ]
}

/// `host`, `hostip`, `port`, `source_ip`.
fn place() -> Vec<Case> {
    vec![
        case("host-name", &[("host", "localhost")]).journal(&["host=localhost"]),
        case("host-ipv6", &[("host", "[::1]")]).peer(Peer::Ipv6).hears(|heard| heard.from = "::1"),
        case("host-empty", &[("host", "")]).bad("field host"),
        case("host-null", &[("host", NULL)]).bad("field host"),
        case("host-control", &[("host", "127.0.0.1\u{1}")]).bad("field host"),
        case("host-line", &[("host", "127.0.0.1\r\n")]).bad("field host"),
        case("host-blank", &[("host", "127.0.0.1 ")]).bad("field host"),
        case("host-long", &[("host", LONG)]).bad("field host"),
        case("hostip", &[("host", "mail.example"), ("hostip", "127.0.0.1")]).journal(&["host=mail.example"]),
        case("hostip-same", &[("hostip", "127.0.0.1")]),
        case("hostip-bad", &[("hostip", "127.0.0")]).bad("field hostip"),
        case("hostip-empty", &[("hostip", "")]).bad("field hostip"),
        case("hostip-contradicts", &[("hostip", "127.0.0.2")]).bad("field hostip"),
        // Nobody listens there: the journal says where it was tried.
        case("port-empty", &[("host", "127.77.0.1"), ("port", ""), ("proxy_timeout", "500ms")]).refused(
            Unavailable,
            Met::Nobody,
            &["reason=connect", "backend 127.77.0.1:{clear} "],
        ),
        case("port-ssl", &[("host", "127.77.0.1"), ("port", NULL), ("ssl", "yes"), ("proxy_timeout", "500ms")]).refused(
            Unavailable,
            Met::Nobody,
            &["reason=connect", "backend 127.77.0.1:{tls} "],
        ),
        case("port-starttls", &[("host", "127.77.0.1"), ("port", NULL), ("starttls", "yes"), ("proxy_timeout", "500ms")])
            .refused(Unavailable, Met::Nobody, &["reason=connect", "backend 127.77.0.1:{clear} "]),
        case("port-0", &[("port", "0")]).bad("field port"),
        case("port-65536", &[("port", "65536")]).bad("field port"),
        case("port-imap", &[("port", "imap")]).bad("field port"),
        case("port-sign", &[("port", "+143")]).bad("field port"),
        // Nobody learns of a row who does not know the password.
        case("port-wrong-password", &[("port", "0")]).password("wrong").wrong_password(),
        case("source", &[("source_ip", "127.0.0.9")]).hears(|heard| heard.from = "127.0.0.9"),
        case("source-not-ours", &[("source_ip", "192.0.2.1")]).bad("field source_ip"),
        case("source-other-family", &[("source_ip", "2001:db8::1")]).bad("field source_ip"),
        case("source-other-family-of-name", &[("host", "mail.example"), ("hostip", "127.0.0.1"), ("source_ip", "::1")])
            .bad("field source_ip"),
        case("source-bad", &[("source_ip", "127.0.0")]).bad("field source_ip"),
        case("source-empty", &[("source_ip", "")]).bad("field source_ip"),
        case("protocol", &[("protocol", "smtp")]),
    ]
}

/// `ssl` and `starttls`.
fn tls() -> Vec<Case> {
    let implicit = |name, row: &[_], cert| case(name, row).peer(Peer::Implicit(cert));
    let starttls = |name, row: &[_], cert| case(name, row).peer(Peer::StartTls(cert)).hears(|heard| heard.starttls = true);
    let invalid = |case: Case, met| case.refused(Unavailable, met, &["reason=backend-tls", "other.example"]);
    vec![
        implicit("ssl", &[("ssl", "yes")], Cert::Good).journal(&["backend_tls=TLS"]),
        implicit("ssl-other-value", &[("ssl", "on")], Cert::Good),
        implicit("ssl-any-cert", &[("ssl", "any-cert")], Cert::Other),
        invalid(implicit("ssl-invalid", &[("ssl", "yes")], Cert::Other), Met::Mute),
        invalid(implicit("ssl-misspelt", &[("ssl", "anycert")], Cert::Other), Met::Mute),
        case("ssl-line", &[("ssl", "any-cert\n")]).bad("field ssl"),
        starttls("starttls", &[("starttls", "yes")], Cert::Good).journal(&["backend_tls=TLS"]),
        starttls("starttls-other-value", &[("starttls", "")], Cert::Good),
        starttls("starttls-any-cert", &[("starttls", "any-cert")], Cert::Other),
        invalid(starttls("starttls-invalid", &[("starttls", "yes")], Cert::Other), Met::StartTls),
        starttls("starttls-before-ssl", &[("ssl", "yes"), ("starttls", "yes")], Cert::Good),
        // The row's own starttls is the stricter one.
        invalid(starttls("starttls-checks", &[("ssl", "any-cert"), ("starttls", "yes")], Cert::Other), Met::StartTls),
    ]
}

/// `proxy_timeout`, `proxy_host_immediate_failure_after`, `delay_until`.
fn times() -> Vec<Case> {
    vec![
        case("timeout", &[("proxy_timeout", "500ms")]).peer(Peer::Silent).refused(
            Unavailable,
            Met::Mute,
            &["reason=timeout", "proxy_timeout (0.5 s)"],
        ),
        case("timeout-seconds", &[("proxy_timeout", "5")]).hears(|heard| heard.deadline = 5),
        case("timeout-bad", &[("proxy_timeout", "soon")]).bad("field proxy_timeout"),
        case("timeout-0", &[("proxy_timeout", "0")]).bad("field proxy_timeout"),
        case("give-up-0", &[("proxy_host_immediate_failure_after", "0")]),
        case("give-up", &[("proxy_host_immediate_failure_after", "2 mins")]),
        case("give-up-bad", &[("proxy_host_immediate_failure_after", "later")]).bad("field proxy_host_immediate_failure_after"),
        case("delay-past", &[("delay_until", "1")]),
        case("delay-moves", &[("delay_until", "{now+6}")])
            .meanwhile(&[("port", "{other}"), ("destuser", "moved")])
            .hears(|heard| (heard.at, heard.user) = (Place::Other, "moved")),
        case("delay-spread", &[("delay_until", "{now+1}+2")]),
        case("delay-then-closed", &[("delay_until", "{now+6}")])
            .meanwhile(&[("proxy", NULL), ("host", NULL), ("nologin", "y")])
            .refused(Disabled("Login disabled for this user."), Met::Nobody, &["reason=nologin"]),
        // Beside it, a wrong password is answered at once.
        case("delay-wrong-password", &[("delay_until", "{now+400}")]).password("wrong").wrong_password(),
        case("delay-too-long", &[("delay_until", "{now+400}")]).bad("field delay_until"),
        case("delay-bad", &[("delay_until", "tomorrow")]).bad("field delay_until"),
        case("delay-empty", &[("delay_until", "")]).bad("field delay_until"),
        case("delay-bad-spread", &[("delay_until", "1+x")]).bad("field delay_until"),
    ]
}

/// How a backend is spoken to, and what it is told.
fn manners() -> Vec<Case> {
    let untold = |name, row: &[_]| case(name, row).hears(|heard| heard.told = false).journal(&["identity=not-told"]);
    vec![
        case("pipelining", &[]).peer(Peer::LineByLine),
        case("no-pipelining", &[("proxy_nopipelining", "y")]).peer(Peer::LineByLine).hears(|heard| heard.together = false),
        untold("not-trusted", &[("proxy_not_trusted", "y"), ("forward_a", "1")]),
        case("header", &[]).setup(Setup::Header),
        untold("header-not-trusted", &[("proxy_not_trusted", "y")]).setup(Setup::Header),
        case("header-front", &[("forward_a", "1")])
            .front(&[("site", "west")])
            .setup(Setup::Header)
            .hears(|heard| heard.forward = vec![("a", "1")]),
        case("no-multiplex", &[("proxy_no_multiplex", "y")]),
        case("refresh", &[("proxy_refresh", "300")]).warned(&["proxy_refresh"]),
        case("director-tag", &[("director_tag", "a")]).warned(&["director_tag"]),
        case("redirect-reauth", &[("proxy_redirect_reauth", "y")]).warned(&["proxy_redirect_reauth"]),
        case("unknown-column", &[("colour", "red")]).warned(&["colour"]),
        case("unknown-column-again", &[("colour", "green")]).warned(&["colour"]),
    ]
}

/// `user`, `username`, `domain`, `destuser`, `master`.
fn names() -> Vec<Case> {
    vec![
        case("user", &[("user", "{me}@example.org")]).hears(|heard| heard.user = "{me}@example.org").journal(&["user={me}@"]),
        case("user-destuser", &[("user", "{me}@example.org"), ("destuser", "bob")])
            .hears(|heard| heard.user = "bob")
            .journal(&["user={me}@example.org", "destuser=bob"]),
        case("user-bad", &[("user", "a\nb")]).refused(Unavailable, Met::Nobody, &["reason=row", "no user name"]),
        case("username", &[("user", "x@example.org"), ("username", "{me}")]).hears(|heard| heard.user = "{me}@example.org"),
        case("domain", &[("domain", "example.org")]).hears(|heard| heard.user = "{me}@example.org"),
        case("destuser", &[("destuser", "bob@example.net")])
            .hears(|heard| heard.user = "bob@example.net")
            .journal(&["user={me} ", "destuser=bob@example.net"]),
        case("destuser-empty", &[("destuser", "")]),
        case("destuser-quotes", &[("destuser", "b\"o\\b")]).hears(|heard| heard.user = "b\"o\\b"),
        case("destuser-8-bit", &[("destuser", "j\u{f6}rg")]).hears(|heard| heard.user = "j\u{f6}rg"),
        case("destuser-line", &[("destuser", "bob\r\nX")]).bad("field destuser"),
        case("master", &[("master", "admin"), ("pass", "master-secret")])
            .hears(|heard| {
                (heard.way, heard.authzid, heard.user, heard.password) = (Way::Plain, "{me}", "admin", "master-secret");
            })
            .journal(&["master=admin"]),
        case("master-destuser", &[("master", "admin"), ("destuser", "bob")])
            .hears(|heard| (heard.way, heard.authzid, heard.user) = (Way::Plain, "bob", "admin")),
        case("master-empty", &[("master", "")]),
        case("master-line", &[("master", "admin\n")]).bad("field master"),
        case("others", &[("userdb_home", "/x"), ("original_user", "a"), ("auth_user", "b"), ("login_user", "c")]),
    ]
}

/// `password`, `password_noscheme`, `nopassword`, `noauthenticate`, `pass`.
fn passwords() -> Vec<Case> {
    let unchecked = [("nopassword", "y"), ("password", NULL)];
    let with = |field| [&unchecked[..], &[field]].concat();
    vec![
        case("password-wrong", &[]).password("wrong").refused(
            Refused::WrongPassword,
            Met::Nobody,
            &["reason=credentials", "wrong password"],
        ),
        case("password-none", &[("password", NULL)]).wrong_password(),
        case("password-bad", &[("password", "{NO-SUCH}x")]).refused(
            Unavailable,
            Met::Nobody,
            &["reason=row", "unknown password scheme"],
        ),
        case("noscheme", &[("password", NULL), ("password_noscheme", "{PLAIN}top-secret")])
            .password("{PLAIN}top-secret")
            .hears(|heard| heard.password = "{PLAIN}top-secret"),
        case("pass", &[("pass", "other-secret")]).hears(|heard| heard.password = "other-secret"),
        case("pass-8-bit", &[("pass", "p\u{e4}ss \"-secret")]).hears(|heard| heard.password = "p\u{e4}ss \"-secret"),
        case("pass-empty", &[("pass", "")]).bad("field pass"),
        case("pass-line", &[("pass", "a\r\nb")]).bad("field pass"),
        case("nopassword", &unchecked).password("any-secret").hears(|heard| heard.password = "any-secret"),
        case("nopassword-password", &[("nopassword", "y")]).bad("nopassword is set, but password is not empty"),
        case("nopassword-pass", &with(("pass", "other-secret"))).bad("field pass: together with nopassword"),
        case("nopassword-master", &with(("master", "admin"))).bad("field master: together with nopassword"),
        case("nopassword-pass-local", &[&with(("pass", "other-secret"))[..], &[("proxy", NULL)]].concat())
            .setup(Setup::Local)
            .bad("field pass: together with nopassword"),
        // The password in the later row is not looked at any more: nobody has checked one.
        case("nopassword-earlier", &[]).first(&[("nopassword", "y")]).password("any-secret").hears(|heard| {
            heard.password = "any-secret";
        }),
        case("nopassword-earlier-pass", &[("pass", "other-secret")])
            .first(&[("nopassword", "y")])
            .password("any-secret")
            .bad("field pass: together with nopassword"),
        case("password-earlier-pass", &[("pass", "other-secret"), ("password", NULL)])
            .first(&[("password", "{PLAIN}top-secret")])
            .hears(|heard| heard.password = "other-secret"),
        case("noauthenticate", &[]).first(&[("noauthenticate", "y"), ("destuser", "early")]).hears(|heard| heard.user = "early"),
        case("noauthenticate-wrong", &[]).first(&[("noauthenticate", "y")]).password("wrong").wrong_password(),
        case("noauthenticate-last", &[("noauthenticate", "y")]).refused(
            Unavailable,
            Met::Nobody,
            &["reason=lookup", "noauthenticate"],
        ),
    ]
}

/// `proxy_mech`, and `master` with it.
fn mechanisms() -> Vec<Case> {
    let (sasl_alone, pop3) = ([Protocol::ManageSieve, Protocol::Submission], [Protocol::Pop3]);
    let no_plain = |name, row: &[_], protocols: &[_]| case(name, row).peer(Peer::ListsNoPlain).by(protocols);
    let no_way = |case: Case, why| case.refused(Unavailable, Met::NoWay, &["reason=backend-config", why]);
    let (plain, master) = ([("proxy_mech", "PLAIN")], [("master", "admin")]);
    let mech = |name, value, client, backend| case(name, &[("proxy_mech", value)]).way(client).hears(|heard| heard.way = backend);
    vec![
        case("client-plain", &[]).way(Way::Plain),
        case("client-login", &[]).way(Way::Login),
        mech("mech-plain", "PLAIN", Way::Command, Way::Plain),
        mech("mech-plain-login", "plain", Way::Login, Way::Plain),
        mech("mech-login", "LOGIN", Way::Plain, Way::Login),
        mech("mech-mirror-command", "%m", Way::Command, Way::Plain),
        mech("mech-mirror-plain", "%m", Way::Plain, Way::Plain),
        mech("mech-mirror-login", "%m", Way::Login, Way::Login),
        mech("mech-mirror-long", "%{mechanism}", Way::Login, Way::Login),
        no_plain("no-plain", &[], &[Protocol::Imap, Protocol::Pop3]),
        no_plain("no-plain-sasl-alone", &[], &sasl_alone).hears(|heard| heard.way = Way::Login),
        no_plain("no-plain-mech-imap", &plain, &[Protocol::Imap]),
        no_way(no_plain("no-plain-mech", &plain, &sasl_alone), "PLAIN"),
        no_way(no_plain("no-plain-master", &master, &[&sasl_alone[..], &[Protocol::Imap]].concat()), "PLAIN"),
        // Not asked what it can do.
        no_plain("no-plain-mech-pop3", &plain, &pop3).hears(|heard| heard.way = Way::Plain),
        no_plain("no-plain-master-pop3", &master, &pop3)
            .hears(|heard| (heard.way, heard.authzid, heard.user) = (Way::Plain, "{me}", "admin")),
        case("mech-scram", &[("proxy_mech", "SCRAM-SHA-256")]).bad("later version"),
        case("mech-external", &[("proxy_mech", "EXTERNAL")]).bad("later version"),
        case("mech-empty", &[("proxy_mech", "")]).bad("field proxy_mech"),
        case("mech-nonsense", &[("proxy_mech", "PLAIN LOGIN")]).bad("field proxy_mech"),
        case("mech-login-master", &[("proxy_mech", "LOGIN"), ("master", "admin")]).bad("field proxy_mech"),
        case("mech-mirror-master", &[("proxy_mech", "%m"), ("master", "admin")]).way(Way::Login).bad("field proxy_mech"),
        case("mech-plain-master", &[("proxy_mech", "%m"), ("master", "admin")])
            .hears(|heard| (heard.way, heard.authzid, heard.user) = (Way::Plain, "{me}", "admin")),
    ]
}

/// `allow_nets`, `allow_real_nets`.
fn nets() -> Vec<Case> {
    vec![
        case("nets", &[("allow_nets", "192.0.2.0/24,127.0.0.0/8")]),
        case("nets-elsewhere", &[("allow_nets", "192.0.2.0/24")]).refused(
            Refused::WrongPassword,
            Met::Nobody,
            &["reason=credentials", "127.0.0.1 is not in allow_nets"],
        ),
        case("nets-local", &[("allow_nets", "local")]).wrong_password(),
        case("nets-local-too", &[("allow_nets", "local,127.0.0.1")]),
        case("nets-empty", &[("allow_nets", "")]).wrong_password(),
        case("nets-first-elsewhere", &[]).first(&[
            ("password", "{PLAIN}top-secret"),
            ("destuser", "early"),
            ("allow_nets", "192.0.2.1"),
        ]),
        case("nets-bad", &[("allow_nets", "127.0.0.1,everywhere")]).bad("allow_nets"),
        case("nets-forwarded", &[("allow_nets", "192.0.2.7")]).front(&[]),
        case("nets-front", &[("allow_nets", "127.0.0.0/8")]).front(&[]).wrong_password(),
        case("real-nets", &[("allow_real_nets", "127.0.0.1")]),
        case("real-nets-elsewhere", &[("allow_real_nets", "192.0.2.0/24")]).wrong_password(),
        case("real-nets-front", &[("allow_real_nets", "127.0.0.9"), ("allow_nets", "192.0.2.7")]).front(&[]),
        case("real-nets-forwarded", &[("allow_real_nets", "192.0.2.7")]).front(&[]).refused(
            Refused::WrongPassword,
            Met::Nobody,
            &["reason=credentials", "127.0.0.9 is not in allow_real_nets"],
        ),
        case("real-nets-bad", &[("allow_real_nets", "127.0.0.1/33")]).bad("allow_real_nets"),
    ]
}

/// `nologin`, `reason`, `nodelay`.
fn closed() -> Vec<Case> {
    let plain = "Login disabled for this user.";
    let nologin = |name, more: &[_]| case(name, &[&[("proxy", NULL), ("host", NULL), ("nologin", "y")], more].concat());
    vec![
        nologin("nologin", &[]).refused(Disabled(plain), Met::Nobody, &["reason=nologin"]),
        nologin("nologin-local", &[("host", "")]).setup(Setup::Local).refused(Disabled(plain), Met::Nobody, &["reason=nologin"]),
        nologin("nologin-reason", &[("reason", "Pay first")]).refused(Disabled("Pay first"), Met::Nobody, &["reason=nologin"]),
        nologin("nologin-reason-forged", &[("reason", "[ALERT] a\r\nb")]).refused(
            Disabled("ALERT] a??b"),
            Met::Nobody,
            &["reason=nologin"],
        ),
        nologin("nologin-wrong", &[]).password("wrong").wrong_password(),
        case("nologin-proxied", &[("nologin", "y"), ("reason", "Pay first")]),
        case("nodelay", &[("nodelay", "y")]).setup(Setup::Slow).password("wrong").wrong_password(),
        case("nodelay-backend", &[("nodelay", "y")]).setup(Setup::Slow).peer(Peer::Refusing).refused(
            Refused::WrongPassword,
            Met::SignIn,
            &["reason=backend-credentials"],
        ),
        case("nodelay-nets", &[("nodelay", "no"), ("allow_nets", "192.0.2.1")]).setup(Setup::Slow).wrong_password(),
    ]
}

/// `host` with `nologin`.
fn referrals() -> Vec<Case> {
    let base = [("proxy", NULL), ("host", "mail.example"), ("port", NULL), ("nologin", "y")];
    let refer = |name, more: &[_], user, host, port, text| {
        let to = Refer { user, host, port, text };
        case(name, &[&base[..], more].concat()).refused(to, Met::Nobody, &["reason=referral"])
    };
    let plain = "Try this server instead.";
    vec![
        refer("refer", &[], "{me}", "mail.example", "{clear}", plain),
        refer("refer-client-login", &[], "{me}", "mail.example", "{clear}", plain).way(Way::Login),
        refer("refer-ssl", &[("ssl", "yes")], "{me}", "mail.example", "{tls}", plain),
        refer("refer-starttls", &[("ssl", "yes"), ("starttls", "yes")], "{me}", "mail.example", "{clear}", plain),
        refer("refer-port", &[("port", "2000")], "{me}", "mail.example", "2000", plain),
        refer("refer-destuser", &[("destuser", "bob@x")], "bob%40x", "mail.example", "{clear}", plain),
        refer("refer-reason", &[("reason", "We moved")], "{me}", "mail.example", "{clear}", "We moved"),
        refer("refer-ipv6", &[("host", "[2001:db8::1]")], "{me}", "2001:db8::1", "{clear}", plain),
        refer("refer-local", &[], "{me}", "mail.example", "{clear}", plain).setup(Setup::Local),
        case("refer-wrong", &base).password("wrong").wrong_password(),
        case("refer-forged", &[&base[..], &[("host", "mail.example]/x")]].concat()).bad("field host"),
        case("refer-bad-port", &[&base[..], &[("port", "0")]].concat()).bad("field port"),
    ]
}

/// `forward_NAME`.
fn forwarded() -> Vec<Case> {
    let received = [("site", "west"), ("tier", "1")];
    vec![
        case("forward", &[("forward_b", "2"), ("forward_a", "1")]).hears(|heard| heard.forward = vec![("a", "1"), ("b", "2")]),
        case("forward-any-case", &[("Forward_Case", "A")]).hears(|heard| heard.forward = vec![("case", "A")]),
        case("forward-received-first", &[("forward_a", "1"), ("forward_tier", "2")])
            .front(&received)
            .hears(|heard| heard.forward = vec![("a", "1"), ("tier", "2")]),
        case("forward-received", &[]).front(&received),
        case("forward-received-not-trusted", &[("proxy_not_trusted", "y")]).front(&received).hears(|heard| heard.told = false),
        case("forward-long-name", &[("forward_a23456789b123456789c", "x"), ("forward_a", "1")])
            .hears(|heard| heard.forward = vec![("a", "1"), ("a23456789b123456789c", "x")]),
        case("forward-longest-name", &[("forward_a23456789b123456789", "x")])
            .hears(|heard| heard.forward = vec![("a23456789b123456789", "x")]),
        case("forward-quotes", &[("forward_a", "say \"a\\b\"")]).hears(|heard| heard.forward = vec![("a", "say \"a\\b\"")]),
        case("forward-tab", &[("forward_a", "a\tb"), ("forward_b", "2")])
            .hears(|heard| heard.forward = vec![("a", "a\tb"), ("b", "2")]),
        case("forward-8-bit", &[("forward_a", "J\u{f6}rg \u{65e5}")])
            .hears(|heard| heard.forward = vec![("a", "J\u{f6}rg \u{65e5}")]),
        case("forward-empty", &[("forward_a", "")]).hears(|heard| heard.forward = vec![("a", "")]),
        case("forward-big", &[("forward_a", BIG), ("forward_b", "2")])
            .hears(|heard| heard.forward = vec![("a", BIG), ("b", "2")]),
        case("forward-half", &[("forward_a", HALF), ("forward_b", "2")])
            .hears(|heard| heard.forward = vec![("a", HALF), ("b", "2")]),
        case("forward-too-big", &[("forward_a", LONG)]).bad("field forward_a"),
        case("forward-line", &[("forward_a", "x\r\ny")]).bad("field forward_a"),
        case("forward-bad-name", &[("forward_a b", "x")]).bad("field forward_a b"),
        case("forward-no-name", &[("forward_", "x")]).bad("field forward_"),
    ]
}

/// `user_NAME`, `event_NAME`.
fn journalled() -> Vec<Case> {
    vec![
        case("notes", &[("user_mail", "a@example.org"), ("event_plan", "gold")])
            .journal(&["user_mail=a@example.org", "event_plan=gold"]),
        case("notes-odd", &[("event_plan", "a b\nc=\"d\""), ("user_a b", "x")]).journal(&["event_plan="]),
    ]
}

/// `:default`, `:protected`, `:remove`.
fn suffixes() -> Vec<Case> {
    let first = [("password", "{PLAIN}top-secret"), ("destuser", "early")];
    vec![
        case("default-is-late", &[("destuser:default", "late")]).first(&first).hears(|heard| heard.user = "early"),
        case("default-is-alone", &[("destuser:default", "late")]).hears(|heard| heard.user = "late"),
        case("protected-is-late", &[("destuser:protected", "late")]).first(&first).hears(|heard| heard.user = "early"),
        case("protected-is-alone", &[("destuser:protected", "late")]).hears(|heard| heard.user = "late"),
        case("later-row-wins", &[("destuser", "late")]).first(&first).hears(|heard| heard.user = "late"),
        case("null-changes-nothing", &[("destuser", NULL)]).first(&first).hears(|heard| heard.user = "early"),
        case("remove", &[("destuser:remove", "")]).first(&first),
        case("remove-nothing", &[("destuser:remove", "y")]),
        case("remove-proxy", &[("proxy", NULL), ("proxy:remove", "y")])
            .first(&[("password", "{PLAIN}top-secret"), ("proxy", "y")])
            .bad("field proxy: is missing"),
        case("first-wrong", &[]).first(&first).password("wrong").wrong_password(),
        case("suffix-unknown", &[("destuser:maybe", "x")]).bad("field destuser:maybe"),
    ]
}
