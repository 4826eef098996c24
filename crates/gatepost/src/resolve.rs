//! Names to addresses, behind a small trait: the rest of the program knows no resolver library.

use crate::failure::{Failure, Kind, Retry, Side};
use hickory_resolver::TokioResolver;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

/// The most addresses of one name that are used.
const ADDRESSES_MAX: usize = 16;
/// One query, and how often it is asked.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
const QUERY_TRIES: usize = 2;

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// All addresses of the name, in the order to try them; never empty.
    fn addresses<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Failure>> + Send + 'a>>;
}

/// The system's name servers and hosts file, with a cache that honours times to live.
///
/// Where the configuration cannot be read only those logins fail whose `host` is a name.
pub struct SystemDns(Result<TokioResolver, String>);

impl SystemDns {
    /// Reads the system's resolver configuration.
    pub fn new() -> SystemDns {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = QUERY_TIMEOUT;
            options.attempts = QUERY_TRIES;
            options.negative_max_ttl = Some(Duration::from_secs(10));
            builder.build()
        });
        SystemDns(resolver.map_err(|e| format!("the system's resolver configuration: {e}")))
    }
}

impl Default for SystemDns {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for SystemDns {
    fn addresses<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let failed = |e: &dyn std::fmt::Display| {
                Failure::new(Side::Backend, Kind::Dns, format!("host {name}: {e}")).retry(Retry::Never)
            };
            let resolver = self.0.as_ref().map_err(|e| failed(e))?;
            let found = resolver.lookup_ip(name).await.map_err(|e| match () {
                () if e.is_nx_domain() => failed(&"there is no such name"),
                () if e.is_no_records_found() => failed(&"the name has no address (neither A nor AAAA)"),
                () => failed(&e),
            })?;
            let mut addresses = Vec::new();
            for ip in found.iter().map(|ip| ip.to_canonical()) {
                if !addresses.contains(&ip) && addresses.len() < ADDRESSES_MAX {
                    addresses.push(ip);
                }
            }
            if addresses.is_empty() { Err(failed(&"the name has no address")) } else { Ok(addresses) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_cannot_be_is_told_in_words() {
        // RFC 6761 section 6.4: nobody is asked for it.
        let failure = SystemDns::new().addresses("nope.invalid").await.unwrap_err();
        assert_eq!(failure.kind, Kind::Dns);
        assert!(failure.detail.starts_with("host nope.invalid: ") && !failure.detail.contains("Query"), "{failure}");
    }
}
