//! What variables there are, by both their names, and what each yields.

use crate::users::{Asked, Fields};
use std::borrow::Cow;

/// A value that is known when a question is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    User,
    Username,
    Domain,
    Protocol,
    RemoteIp,
    RemotePort,
    LocalIp,
    LocalPort,
    RealRemoteIp,
    RealRemotePort,
    RealLocalIp,
    RealLocalPort,
    Mechanism,
    Secured,
    Password,
    Session,
    ClientId,
    LocalName,
    OrigUser,
    OrigUsername,
    OrigDomain,
    LoginUser,
    Passdb { name: String, default: String },
}

impl Variable {
    pub(super) fn value<'a>(&'a self, asked: &Asked<'a>) -> Cow<'a, str> {
        let Asked { question, user, so_far } = *asked;
        let origin = question.origin;
        match self {
            Variable::User => user.into(),
            Variable::Username => username(user).into(),
            Variable::Domain => domain(user).into(),
            Variable::Protocol => question.service.into(),
            Variable::RemoteIp => origin.client.0.ip().to_string().into(),
            Variable::RemotePort => origin.client.0.port().to_string().into(),
            Variable::LocalIp => origin.reached.0.ip().to_string().into(),
            Variable::LocalPort => origin.reached.0.port().to_string().into(),
            Variable::RealRemoteIp => origin.real_client.0.ip().to_string().into(),
            Variable::RealRemotePort => origin.real_client.0.port().to_string().into(),
            Variable::RealLocalIp => origin.real_reached.0.ip().to_string().into(),
            Variable::RealLocalPort => origin.real_reached.0.port().to_string().into(),
            Variable::Mechanism => question.mechanism.into(),
            Variable::Secured => if question.protected { "secured" } else { "" }.into(),
            Variable::Session => origin.session.as_str().into(),
            Variable::ClientId => question.client_id.unwrap_or_default().into(),
            Variable::LocalName => origin.name.as_deref().unwrap_or_default().into(),
            Variable::OrigUser => question.user.into(),
            Variable::OrigUsername => username(question.user).into(),
            Variable::OrigDomain => domain(question.user).into(),
            Variable::LoginUser => "".into(),
            Variable::Passdb { name, default } => passdb(so_far, asked, name).unwrap_or(default).into(),
            // Only `Expression::append` hands it out: its bytes must not become a plain string on the way.
            Variable::Password => "".into(),
        }
    }
}

pub(super) fn username(user: &str) -> &str {
    user.split_once('@').map_or(user, |(username, _)| username)
}

pub(super) fn domain(user: &str) -> &str {
    user.split_once('@').map_or("", |(_, domain)| domain)
}

fn passdb<'a>(so_far: &'a Fields, asked: &Asked<'a>, name: &str) -> Option<&'a str> {
    so_far.get(name).or_else(|| {
        let forwarded = name.strip_prefix("forward_")?;
        let pair = asked.question.origin.forward.iter().find(|pair| pair.name.eq_ignore_ascii_case(forwarded))?;
        Some(&pair.value)
    })
}

/// One-letter names and the long names they stand for.
pub(super) static SHORT: &[(char, &str)] = &[
    ('u', "user"),
    ('n', "username"),
    ('d', "domain"),
    ('s', "service"),
    ('r', "rip"),
    ('l', "lip"),
    ('a', "lport"),
    ('b', "rport"),
    ('m', "mech"),
    ('c', "secured"),
    ('w', "password"),
];

pub(super) fn named(name: &str) -> Option<Variable> {
    Some(match name {
        "user" => Variable::User,
        "username" => Variable::Username,
        "domain" => Variable::Domain,
        "service" | "protocol" => Variable::Protocol,
        "rip" | "remote_ip" => Variable::RemoteIp,
        "rport" | "remote_port" => Variable::RemotePort,
        "lip" | "local_ip" => Variable::LocalIp,
        "lport" | "local_port" => Variable::LocalPort,
        "real_rip" | "real_remote_ip" => Variable::RealRemoteIp,
        "real_rport" | "real_remote_port" => Variable::RealRemotePort,
        "real_lip" | "real_local_ip" => Variable::RealLocalIp,
        "real_lport" | "real_local_port" => Variable::RealLocalPort,
        "mech" | "mechanism" => Variable::Mechanism,
        "secured" => Variable::Secured,
        "password" => Variable::Password,
        "session" => Variable::Session,
        "client_id" => Variable::ClientId,
        "local_name" => Variable::LocalName,
        "orig_user" | "original_user" => Variable::OrigUser,
        "orig_username" | "original_username" => Variable::OrigUsername,
        "orig_domain" | "original_domain" => Variable::OrigDomain,
        "login_user" | "login_username" | "login_domain" => Variable::LoginUser,
        _ => {
            let field = name.strip_prefix("passdb:")?;
            let (name, default) = field.split_once(':').unwrap_or((field, ""));
            let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            Variable::Passdb { name: fine.then(|| name.to_ascii_lowercase())?, default: default.to_owned() }
        }
    })
}
