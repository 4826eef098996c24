//! One generation of the configuration, made ready for use: databases opened, certificates read, names of our own addresses
//! resolved. All of it stands, or nothing has changed.

use crate::admin::read_token;
use crate::backend::source::Sources;
use crate::config::meant::{Certificate, Meant, Own, OwnValue};
use crate::login::house::Live;
use crate::protocol::PROTOCOLS;
use crate::route::{self, Asked};
use crate::users::chain::Chain;
use crate::users::{Answer, Checked, Fields};
use relay::tls::acceptor::{AcceptOptions, Acceptor, CertSource};
use relay::tls::connector::{ConnectPolicy, Connector};
use relay::{TlsError, dial};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use wire::login::Mechanism;
use wire::origin::trust::TrustedNets;

impl Live {
    /// Makes a generation ready for use: opens databases, reads certificates.
    ///
    /// # Errors
    /// All problems, each one line that names the place and the fix.
    pub fn build(meant: Meant, ports: Vec<u16>, warn: &crate::users::Warn) -> Result<Live, Vec<String>> {
        let mut problems = Vec::new();
        let chain = match Chain::build(&meant.users, &meant.limits, Arc::clone(warn)) {
            Ok(chain) => Some(chain),
            Err(found) => {
                problems.extend(found.iter().map(ToString::to_string));
                None
            }
        };
        let sources: Vec<CertSource> = meant.tls.certificates.iter().map(source).collect();
        let mut acceptors = Vec::new();
        if !sources.is_empty() {
            for protocol in PROTOCOLS.iter().filter(|p| meant.listen.iter().any(|l| l.protocol == p.name)) {
                let options = AcceptOptions {
                    alpn: protocol.alpn.iter().map(|id| id.as_bytes().to_vec()).collect(),
                    alpn_strict: meant.tls.alpn_strict,
                };
                match Acceptor::new(&sources, options) {
                    Ok(acceptor) => acceptors.push((protocol.name, Arc::new(acceptor))),
                    Err(e) => {
                        problems.push(format!("[tls] certificates: {e}"));
                        break; // the other protocols would only say the same
                    }
                }
            }
        }
        constant_rows(&meant, warn);
        if let Some(chain) = &chain {
            deaf_databases(&meant, chain, warn);
        }
        let verified = match connector(&meant, true) {
            // Without a list of CAs only those logins fail that need one.
            Err(e) if meant.backend.tls_ca.is_none() => {
                warn(format!("[backend] tls: {e}; routes that check certificates cannot be followed"));
                Err(e.to_string())
            }
            Err(e) => {
                problems.push(format!("[backend] tls: {e}"));
                Err(e.to_string())
            }
            Ok(connector) => Ok(connector),
        };
        let any_cert = connector(&meant, false).map_err(|e| {
            let text = format!("[backend] tls: {e}");
            if !problems.contains(&text) {
                problems.push(text);
            }
        });
        let sources = Sources::resolve(&meant.backend.source_ips, dial::exists_here, addresses_of);
        let sources = sources.map_err(|found| problems.extend(found)).map(|(sources, remarks)| {
            remarks.into_iter().for_each(|remark| warn(remark));
            sources
        });
        let admin_token = match meant.admin.token_file.as_deref().map(read_token).transpose() {
            Ok(token) => token,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        match (chain, any_cert, sources) {
            (Some(chain), Ok(any_cert), Ok(sources)) if problems.is_empty() => Ok(Live {
                trusted: TrustedNets::new(meant.trust.networks.clone()),
                vouchers: TrustedNets::new(meant.trust.login.clone()),
                proxies: TrustedNets::new(meant.trust.proxy_protocol.clone()),
                sources,
                chain,
                acceptors,
                verified,
                any_cert,
                ports,
                admin_token,
                meant,
            }),
            _ => Err(problems),
        }
    }
}

/// Rows that stand in the file itself need nobody to sign in to be judged. What other databases may add to them is assumed to
/// be there, and what depends on the login is left out.
fn constant_rows(meant: &Meant, warn: &crate::users::Warn) {
    for block in &meant.users {
        let Some(OwnValue { value: Own::Fields(fields), at }) = block.own.get("fields") else { continue };
        let constant = fields.iter().filter(|(name, value)| !value.contains('%') && !name.contains(':'));
        let mut row = Fields::new(constant.cloned());
        let checked = if row.get("nopassword").is_some() { Checked::Nobody } else { Checked::By(block.name.clone()) };
        if row.get("nologin").is_none() {
            for (name, value) in [("proxy", "y"), ("host", "host.invalid")] {
                if row.get(name).is_none() {
                    row.set(name, value);
                }
            }
        }
        let (user, database) = ("user".to_owned(), block.name.clone());
        let answer = Answer { user, fields: row, nopassword: checked == Checked::Nobody, checked, database };
        let mut remarks: Vec<String> = Vec::new();
        for (name, _) in fields {
            let name = name.split_once(':').map_or(name.as_str(), |(name, _)| name).to_ascii_lowercase();
            if !route::is_known(&name) {
                remarks.push(format!("{at}: users \"{}\": field {name} has no effect", block.name));
            }
        }
        let served = |name| block.protocols.is_empty() || block.protocols.iter().any(|known| known == name);
        for protocol in PROTOCOLS.iter().filter(|p| served(p.name) && meant.listen.iter().any(|l| l.protocol == p.name)) {
            let (ports, noauth) = (protocol.ports(), protocol.login().is_some_and(|way| way.noauth));
            let delivery = protocol.login().is_none();
            let mechanism = Mechanism::Command;
            let asked = Asked { backend: &meant.backend, protocol: protocol.name, ports, mechanism, noauth, delivery };
            let decided = route::decide(&answer, &asked, &mut |_| {});
            // Made for those who have signed in elsewhere, as it may be.
            let fine_if_vouched = || {
                let asked = Asked { mechanism: Mechanism::Xclient, ..asked };
                let answer = Answer { nopassword: false, checked: Checked::Peer, ..answer.clone() };
                noauth && !meant.trust.login.is_empty() && route::decide(&answer, &asked, &mut |_| {}).is_ok()
            };
            if let Err(failure) = decided
                && !fine_if_vouched()
            {
                let what = if delivery { "no mail is delivered by this row" } else { "whoever gets this row cannot sign in" };
                remarks.push(format!("{at}: {}; {what}", failure.detail));
            }
        }
        remarks.sort();
        remarks.dedup();
        remarks.into_iter().for_each(|remark| warn(remark));
    }
}

/// Databases that know a user only together with a password say nothing of recipients: who is only there has no mail here.
fn deaf_databases(meant: &Meant, chain: &Chain, warn: &crate::users::Warn) {
    for protocol in PROTOCOLS.iter().filter(|p| p.login().is_none() && meant.listen.iter().any(|l| l.protocol == p.name)) {
        for name in chain.deaf_to_recipients(protocol.name) {
            warn(format!(
                "users \"{name}\" is not asked for recipients ({}): its query looks at the password (%w); a user that only this \
                 database knows is refused with 550 unless another [[users]] block knows it",
                protocol.name
            ));
        }
    }
}

/// The system's own resolver: asked at start and reload, never while a login waits.
fn addresses_of(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|at| at.ip()).collect())
}

fn source(certificate: &Certificate) -> CertSource {
    CertSource { cert: certificate.cert.clone(), key: certificate.key.clone() }
}

/// TLS towards backends. A row's `any-cert` sets the CAs and pins aside.
fn connector(meant: &Meant, verify: bool) -> Result<Connector, TlsError> {
    let backend = &meant.backend;
    Connector::new(ConnectPolicy {
        verify,
        ca: backend.tls_ca.clone().filter(|_| verify),
        pins: if verify { backend.tls_pin.clone() } else { Vec::new() },
        client: backend.tls_client.as_ref().map(source),
        alpn: Vec::new(),
    })
}
