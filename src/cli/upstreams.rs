//! What a `proxy` route forwards to, in words and as JSON: for `ringfort explain`.

use serde_json::{Value, json};

use crate::config::model::Proxy;
use crate::proxy::{ServerSpec, UpstreamSpec};

/// The upstreams that a route names, each with its weight, and the sum of the weights.
fn targets<'c>(proxy: &'c Proxy, upstreams: &'c [UpstreamSpec]) -> (Vec<(&'c UpstreamSpec, u32)>, u32) {
    let single = proxy.upstream.iter().map(|name| (name, 1));
    let named = single.chain(proxy.split.iter().map(|split| (&split.upstream, split.weight)));
    let found: Vec<_> = named
        .filter_map(|(name, weight)| Some((upstreams.iter().find(|upstream| upstream.name == *name)?, weight)))
        .collect();
    let sum = found.iter().map(|(_, weight)| weight).sum();
    (found, sum)
}

/// `proxy to api`, `proxy to api or canary`.
pub(super) fn describe_proxy(proxy: &Proxy) -> String {
    let names = proxy.upstream.iter().chain(proxy.split.iter().map(|split| &split.upstream));
    format!("proxy to {}", names.cloned().collect::<Vec<_>>().join(" or "))
}

/// A line for each upstream and for each of its servers.
pub(super) fn upstream_lines(proxy: &Proxy, upstreams: &[UpstreamSpec]) -> Vec<String> {
    let (found, sum) = targets(proxy, upstreams);
    let mut lines = Vec::new();
    for (upstream, weight) in &found {
        let share = if found.len() == 1 { String::new() } else { format!(" for {weight} of {sum} requests") };
        lines.push(format!("  to      {}{share}, by {}", upstream.name, upstream.balance));
        lines.extend(upstream.servers.iter().map(|server| format!("  server  {}", describe_server(server))));
    }
    lines.extend(
        proxy
            .mirror
            .as_ref()
            .map(|mirror| format!("  mirror  {}% of requests to {}", mirror.share * 100.0, mirror.upstream)),
    );
    lines
}

/// As [`upstream_lines`], for scripts.
pub(super) fn upstreams_json(proxy: &Proxy, upstreams: &[UpstreamSpec]) -> Value {
    let (found, sum) = targets(proxy, upstreams);
    let list = found.iter().map(|(upstream, weight)| {
        let servers = upstream.servers.iter().map(|server| {
            json!({
                "address": server.address.to_string(),
                "weight": server.weight,
                "backup": server.backup,
                "drain": server.drain,
            })
        });
        json!({
            "name": upstream.name,
            "weight": weight,
            "of": sum,
            "balance": upstream.balance.to_string(),
            "servers": servers.collect::<Vec<_>>(),
        })
    });
    list.collect()
}

fn describe_server(server: &ServerSpec) -> String {
    let backup = if server.backup { ", backup" } else { "" };
    let drain = if server.drain { ", draining" } else { "" };
    format!("{} (weight {}{backup}{drain})", server.address, server.weight)
}
