use super::*;
use crate::dance::Introduction;
use crate::origin::trust::TrustedNets;
use crate::origin::xclient::{LINE_MAX, READ_MAX};
use crate::origin::{ForwardField, HopsLeft, MailProtocol, Origin, OriginUpdate, SessionId, Told, Transport, unmapped};
use bytes::BytesMut;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

mod properties;
mod reading;
mod writing;

const ALL: &str =
    "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD DESTNAME CLIENT-TRANSPORT";
const POSTFIX: &str = "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT";
const EXIM: &str = "ADDR NAME PORT LOGIN DESTADDR DESTPORT";
const KUMO: &str = "ADDR PORT DESTADDR DESTPORT";
const DOVECOT: &str = "ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT FORWARD";

const ALL_RIGHTS: Rules = Rules { may_vouch: true, as_exim: false };

fn origin() -> Origin {
    let session = SessionId::new("sVyHBLBg+LN/AAAB").unwrap();
    let mut origin = Origin::at_accept("192.0.2.10:4711".parse().unwrap(), "198.51.100.1:587".parse().unwrap(), session);
    origin.helo = Some(Told::Known("client.example".into()));
    origin.spoke = Some(MailProtocol::Esmtp);
    origin
}

fn forward(name: &str, value: &str) -> ForwardField {
    ForwardField { name: name.into(), value: value.into() }
}

fn introduction(origin: Origin, forward: Vec<ForwardField>) -> Introduction {
    Introduction { origin, client_id: Vec::new(), forward, patience: None }
}

/// The commands without XCLIENT and CRLF, and what else is told of them.
fn written(intro: Option<&Introduction>, login: Option<&str>, offered: &str) -> (Vec<String>, Written) {
    let mut out = BytesMut::new();
    let written = write(intro, login, &Offered::read(offered), &mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let lines: Vec<String> =
        text.split_terminator("\r\n").map(|line| line.strip_prefix("XCLIENT ").unwrap().to_owned()).collect();
    (lines, written)
}

/// By a peer whose word counts in everything.
fn read_all(attributes: &str) -> Result<OriginUpdate, Malformed> {
    read(attributes.as_bytes(), ALL_RIGHTS)
}

#[test]
fn all_that_is_listed_is_known() {
    assert_eq!(listed(true), ALL);
    let all = Offered::read(listed(true));
    for (attribute, name) in ATTRIBUTES {
        assert!(all.lists(attribute), "{name}");
        assert_eq!(Offered::read(listed(false)).lists(attribute), attribute != Attribute::Login, "{name}");
        assert_eq!(attribute.as_str(), name);
    }
    assert_eq!(Offered::read("  XFOO  name=x ="), Offered::default());
    assert!(Offered::read("nAme Xfoo\tLOGIN").takes_login());
}
