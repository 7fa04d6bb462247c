//! What a client offers and checks.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};

use super::Roots;
use crate::clock;

/// The name by which a server is asked for (SNI), and which its certificate must have: of DNS, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub(super) ServerName<'static>);

impl Name {
    /// The name in this text, an IPv6 address without brackets; `None` where it can be none.
    pub fn read(text: &str) -> Option<Self> {
        ServerName::try_from(text).ok().map(|name| Self(name.to_owned()))
    }
}

/// The time by which certificates are judged: that of `clock`, so that a simulated world owns it too.
#[derive(Debug)]
struct Time;

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(clock::wall()))
    }
}

/// A client of servers that speak HTTP/1.1: TLS 1.3 and 1.2, certificates checked for name, time and issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(pub(super) Arc<ClientConfig>);

impl Client {
    /// One that trusts these authorities and nobody else.
    pub fn new(roots: &Roots) -> Self {
        let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(Time))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring has cipher suites for both versions");
        let mut config = builder.with_root_certificates(roots.0.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session has no certificate to check: one that has expired meanwhile would pass.
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }
}
