//! The names of servers made into addresses, off the data path: on the master's blocking pool, by the host's own resolver,
//! so that `/etc/hosts`, search domains and whatever else the host is told count.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use super::spec::ServerAddress;
use super::upstream::{Upstream, Upstreams};
use crate::clock;
use crate::limits::{ADDRESSES_MAX, RESOLVE_EVERY_MS};
use crate::rt::{self, Remote};

/// Begins to resolve the servers that have names, again and again; ends with the executor. The resolver of the C library
/// does not tell for how long an answer holds, so it is asked at a fixed pace.
pub fn resolve_names(upstreams: &Upstreams) {
    for upstream in upstreams.iter() {
        for (index, server) in upstream.servers.iter().enumerate() {
            if let ServerAddress::Name { host, port } = &server.spec.address {
                rt::spawn(resolve_server(upstream.clone(), index, host.clone(), *port));
            }
        }
    }
}

async fn resolve_server(upstream: Arc<Upstream>, index: usize, host: String, port: u16) {
    let server = &upstream.servers[index];
    let mut was_known = true;
    loop {
        let name = host.clone();
        let found =
            rt::blocking(move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)).await;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                was_known = true;
                let mut remotes: Vec<_> = addresses.into_iter().map(Remote::Tcp).take(ADDRESSES_MAX).collect();
                // Resolvers turn them round from one answer to the next; that is no change.
                remotes.sort_unstable();
                remotes.dedup();
                if server.remotes.replace(remotes) {
                    let addresses = server.remotes.known().len();
                    tracing::info!(upstream = upstream.spec.name, server = server.name, addresses, "resolved");
                }
            }
            // What was known before stays: a resolver that is down must not take the servers along.
            Ok(_) => {
                warn(&upstream, index, &mut was_known, &"no address");
            }
            Err(error) => warn(&upstream, index, &mut was_known, &error),
        }
        rt::sleep_until(clock::now() + Duration::from_millis(RESOLVE_EVERY_MS)).await;
    }
}

/// Tells of a failure once, not each time.
fn warn(upstream: &Upstream, index: usize, was_known: &mut bool, cause: &dyn std::fmt::Display) {
    if std::mem::replace(was_known, false) {
        let (upstream, server) = (&upstream.spec.name, &upstream.servers[index].name);
        tracing::warn!(upstream, server, %cause, "the name of a server cannot be resolved");
    }
}
