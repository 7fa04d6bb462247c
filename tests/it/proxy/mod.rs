//! The gateway between a client and upstreams that do as they are told.

mod balance;
mod forwarding;
mod names;
mod protection;
mod seen;
mod tunnels;

use serde_json::{Value, json};

use crate::support::upstream::Upstream;
use crate::support::{Start, on_hand};

/// A gateway with one worker, that forwards all paths to these servers; `spec` has the upstream's other keys.
fn gateway(driver: &'static str, servers: &[&Upstream], spec: Value) -> Start {
    gateway_with(driver, servers, spec, json!({}))
}

/// The same with further keys of the route's `proxy`.
fn gateway_with(driver: &'static str, servers: &[&Upstream], mut spec: Value, mut proxy: Value) -> Start {
    spec["servers"] = servers.iter().map(|server| json!({ "address": server.address.to_string() })).collect();
    proxy["upstream"] = json!("api");
    Start::command(on_hand(driver), json!([{ "match": { "path": "/*rest" }, "proxy": proxy }]))
        .upstream("api", spec)
        .workers(1)
}
