//! The part of the table about users without a password: the one field that means something in one protocol only.

use super::case::{Case, Cert, Met, NULL, Peer, Refused, Setup, case};
use super::spelling::Way;
use super::table::HALF;
use testkit::Protocol;

use Refused::Unavailable;

/// `proxy_noauth`, and `backend.submission_login` with it.
pub fn cases() -> Vec<Case> {
    let submission = |name, row: &[_]| case(name, &[&[("proxy_noauth", "y")], row].concat()).by(&[Protocol::Submission]);
    let vouched = |name, row: &[_]| submission(name, row).hears(|heard| heard.way = Way::Vouched);
    let others = [Protocol::Imap, Protocol::Pop3, Protocol::ManageSieve];
    let unchecked = [("nopassword", "y"), ("password", NULL)];
    let unchecked_too = [&[("proxy_noauth", "y")], &unchecked[..]].concat();
    vec![
        vouched("noauth", &[]).journal(&["identity=told", "mechanism=PLAIN"]),
        vouched("noauth-login", &[]).way(Way::Login).journal(&["mechanism=LOGIN"]),
        vouched("noauth-starttls", &[("starttls", "yes")]).peer(Peer::StartTls(Cert::Good)).hears(|heard| heard.starttls = true),
        vouched("noauth-ssl", &[("ssl", "yes")]).peer(Peer::Implicit(Cert::Good)),
        vouched("noauth-destuser", &[("destuser", "bob+a=b c")]).hears(|heard| heard.user = "bob+a=b c"),
        vouched("noauth-8-bit", &[("destuser", "j\u{f6}rg")]).hears(|heard| heard.user = "j\u{f6}rg"),
        vouched("noauth-forward", &[("forward_a", "1")])
            .front(&[("site", "west")])
            .hears(|heard| heard.forward = vec![("a", "1")]),
        // What is named last says who has signed in.
        vouched("noauth-long", &[("forward_a", HALF)]).hears(|heard| heard.forward = vec![("a", HALF)]),
        submission("noauth-not-trusted", &[("proxy_not_trusted", "y")])
            .bad("field proxy_not_trusted: together with proxy_noauth"),
        vouched("noauth-header", &[]).setup(Setup::Header),
        vouched("noauth-local", &[("proxy", NULL)]).local(),
        // No password is said, whosever it is.
        vouched("noauth-pass", &[("pass", "other-secret")]),
        vouched("noauth-mech", &[("proxy_mech", "LOGIN")]),
        submission("noauth-wrong", &[]).password("wrong").wrong_password(),
        // Nobody is let in whom the backend has not been told.
        submission("noauth-not-listed", &[]).peer(Peer::TakesNoLogin).refused(
            Unavailable,
            Met::Greeted,
            &["reason=backend-config", "does not list LOGIN"],
        ),
        submission("noauth-unnameable", &[("destuser", "[UNAVAILABLE]")]).refused(
            Unavailable,
            Met::Greeted,
            &["reason=row", "XCLIENT cannot carry"],
        ),
        submission("noauth-master", &[("master", "admin")]).bad("field proxy_noauth"),
        case("noauth-unchecked", &unchecked_too).bad("field proxy_noauth: together with nopassword"),
        case("noauth-elsewhere", &[("proxy_noauth", "y")]).by(&others),
        case("noauth-elsewhere-master", &[("proxy_noauth", "y"), ("master", "admin")])
            .by(&others)
            .hears(|heard| (heard.way, heard.authzid, heard.user) = (Way::Plain, "{me}", "admin")),
        case("submission-login", &[]).by(&[Protocol::Submission]).setup(Setup::Vouching).hears(|heard| heard.way = Way::Vouched),
        case("submission-login-unchecked", &unchecked)
            .by(&[Protocol::Submission])
            .setup(Setup::Vouching)
            .bad("field proxy_noauth: together with nopassword"),
        case("submission-login-elsewhere", &[]).by(&others).setup(Setup::Vouching),
        case("submission-login-elsewhere-unchecked", &unchecked).by(&others).setup(Setup::Vouching),
    ]
}
