//! The config file as types. Its JSON Schema is generated from them, and what the loader checks is that schema: a key, a
//! bound and the sentence that explains it stand here and nowhere else.
//!
//! Keywords beside those of JSON Schema: `x-unit` names a text's parser, `x-minimum` and `x-maximum` bound a duration,
//! `x-power-of-two` speaks for itself, and `x-secret` marks a text that is not shown.

mod cores;
mod log;
mod plugins;
mod predicates;
mod proxy;
mod routes;
mod upstreams;
mod wasm;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cores::{Auto, Cores, Driver, Executor, MasterCore, Pin, Ring, Steering, Workers};
pub use log::{AccessLog, Log, LogFormat};
pub use plugins::{OnFailure, PluginUse};
pub use predicates::{Condition, Conditions};
pub use proxy::{FieldEdits, Mirror, Proxy, Split};
pub use routes::{Action, Coding, Files, Match, Method, Redirect, Respond, Route};
pub use upstreams::{
    Breaker, Ejection, Health, Pool, Retry, Upstream, UpstreamLimits, UpstreamServer, UpstreamTimeouts,
};
pub use wasm::Wasm;

use super::grammar::NameServer;
use crate::conn;
use crate::http;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, NAME_SERVERS_MAX, PLUGINS_PER_ROUTE_MAX, TRUST_MAX};
use crate::proxy::Network;
use crate::units::{self, Address, ByteSize, TimeSpan};

/// Ringfort's config: one JSON file. Every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where this schema is, for editors; not used otherwise.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub schema: Option<String>,
    /// Listening, limits and time-outs.
    pub server: Server,
    /// Which cores do what, and the executor on them. README.md, "Tuning", says how to choose.
    pub cores: Cores,
    /// The admin listener: health, metrics, state. It has no authentication.
    pub admin: Admin,
    /// The process log and the access log.
    pub log: Log,
    /// How changes of this file take effect.
    pub reload: Reload,
    /// How the names of servers are resolved.
    pub resolver: Resolver,
    /// Upstreams by name (letters, digits, `-`, `_`, `.`), for `proxy` routes: servers that do the same work.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Plugins in WebAssembly: where their modules are, and what each may use. docs/plugins/wasm.md says more.
    pub wasm: Wasm,
    /// Plugins that all requests go through, in this order, whatever their route.
    #[schemars(extend("maxItems" = PLUGINS_PER_ROUTE_MAX))]
    pub plugins: Vec<PluginUse>,
    /// Routes. A static path wins over `:param`, and that over `*wildcard`. Their order matters only among routes of one
    /// path that conditions on headers, query or cookies tell apart: those are tried in order, before one without. Where
    /// none holds, the request has no route: 404.
    pub routes: Vec<Route>,
}

/// Listening, limits and time-outs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Addresses to listen on. `[::]` is IPv6 alone; list `0.0.0.0` too for both.
    #[schemars(with = "Vec<Address>", extend("minItems" = 1, "uniqueItems" = true))]
    pub listen: Vec<SocketAddr>,
    /// Bounds on requests and connections.
    pub limits: Limits,
    /// How long a client may take for what.
    pub timeouts: Timeouts,
    /// How slow a client may be over time.
    pub rates: Rates,
    /// How long connections are kept.
    pub keepalive: Keepalive,
    /// The `Server` field of responses; null leaves it out.
    pub name: Option<String>,
    /// How requests are called.
    pub request_id: RequestId,
    /// Whether requests belong to traces (W3C Trace Context): a valid `traceparent` goes on to upstreams with the gateway as
    /// the parent, others are replaced by a new trace, and its id is in the access log. Without it, upstreams get
    /// `traceparent` and `tracestate` as they came.
    pub trace: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            rates: Rates::default(),
            keepalive: Keepalive::default(),
            name: Some("ringfort".to_owned()),
            request_id: RequestId::default(),
            trace: false,
        }
    }
}

/// How requests are called: in error bodies, in every line of the logs that is about one, and towards others. The server makes an
/// id for each request, 16 hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestId {
    /// The field, as `"X-Request-Id"`, that tells upstreams the id, whatever the client sent in it. From peers in `trust`, an id is
    /// taken over from it. Null: it is a field like others.
    pub header: Option<String>,
    /// Proxies in front of this one, addresses and networks, whose ids are taken over: 1 to 128 letters, digits and `-_.:=+/@`.
    #[schemars(extend("maxItems" = TRUST_MAX))]
    pub trust: Vec<Network>,
    /// The field that tells clients the id; null: only error bodies do.
    pub respond: Option<String>,
}

/// Bounds on requests and connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request head. More: 431.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 256, "maximum" = HEAD_BYTES_MAX))]
    pub head: usize,
    /// Header fields of a request. More: 431.
    #[schemars(range(min = 1, max = HEADERS_MAX))]
    pub headers: usize,
    /// Bytes of a request target; not more than `head`. More: 414.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 64, "maximum" = HEAD_BYTES_MAX))]
    pub target: usize,
    /// Bytes of a request body. More: 413.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = 1_u64 << 40))]
    pub body: u64,
    /// Connections at once, in the whole process. More wait in the listen queue.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let head = http::HeadLimits::default();
        Self { head: head.head, headers: head.headers, target: head.target, body: 1 << 20, connections: 100_000 }
    }
}

/// How long a client may take for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From a request head's first byte to its last. Longer: 408.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub head: Duration,
    /// Without a byte of a request body; slower than `rates.body` counts as a part of it. Only time in which the server
    /// reads. Not more than `body_total`. Longer: 408.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub body: Duration,
    /// Waiting for a request body in all, however fast it comes. Longer: 408.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "168h"))]
    pub body_total: Duration,
    /// Between requests on one connection.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub idle: Duration,
    /// Without the client taking a byte of its response; slower than `rates.write` counts as a part of it. Only time in
    /// which the socket is full. Not more than `write_total`. Longer: the connection is reset.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub write: Duration,
    /// Waiting for a client to take its responses in all, over its connection, however fast it takes them. Longer: the
    /// connection is reset.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "168h"))]
    pub write_total: Duration,
    /// For requests in flight when the server stops; `"0s"` cuts them.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub drain: Duration,
    /// From a signal to stop until connections are refused: as long as load balancers may take to find out that `/readyz`
    /// answers 503.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub pre_stop_delay: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let conn::Timeouts { head, body, body_total, idle, write, write_total } = conn::Timeouts::default();
        let (drain, pre_stop_delay) = (Duration::from_secs(30), Duration::ZERO);
        Self { head, body, body_total, idle, write, write_total, drain, pre_stop_delay }
    }
}

/// How slow a client may be over time, in bytes a second (sizes, as `"500B"`). Faster than this costs none of a time-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// How long a request head may come at any rate: lost packets.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub grace: Duration,
    /// Of a request head, after `grace` and up to `timeouts.head`. Slower: 408.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 1, "maximum" = 1_u64 << 30))]
    pub head: NonZeroU64,
    /// Of a request body; at less than this `timeouts.body` runs down.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 1, "maximum" = 1_u64 << 30))]
    pub body: NonZeroU64,
    /// Of responses, as the client's system acknowledges them; at less than this `timeouts.write` runs down.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 1, "maximum" = 1_u64 << 30))]
    pub write: NonZeroU64,
}

impl Default for Rates {
    fn default() -> Self {
        let conn::Rates { grace, head, body, write } = conn::Rates::default();
        Self { grace, head, body, write }
    }
}

/// How long connections are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// Requests that one connection serves before it is closed.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u64,
    /// How long one connection is used before it is closed.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub age: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { requests: 100_000, age: Duration::from_secs(3600) }
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Its address, or `"off"`.
    #[serde(with = "units::as_address_or_off")]
    #[schemars(with = "AddressOrOff")]
    pub listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))) }
    }
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "stands for an optional address in the schema")]
enum AddressOrOff {
    Off(Off),
    Address(Address),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
#[allow(dead_code, reason = "stands for the word in the schema")]
enum Off {
    Off,
}

/// How changes of the config file take effect. SIGHUP and `POST /reload` of the admin listener work in any case. A config that
/// is wrong, or that changes what only a start can, changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// By themselves, as soon as the file's content has changed and then stayed as it is for a tenth of a second.
    pub watch: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true }
    }
}

/// How the names of servers are resolved: by `/etc/hosts`, then by DNS as `/etc/resolv.conf` says, again when the answer's
/// TTL is over (after a second at least and five minutes at most). What is known stays while nobody answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resolver {
    /// Name servers that are asked instead of those in `/etc/resolv.conf`, one after the other until one can tell:
    /// `10.0.0.2`, `127.0.0.1:5353`, `[::1]:53`.
    #[schemars(extend("maxItems" = NAME_SERVERS_MAX, "uniqueItems" = true))]
    pub nameservers: Vec<NameServer>,
}

impl Resolver {
    /// The name servers as addresses.
    pub fn name_servers(&self) -> Vec<SocketAddr> {
        self.nameservers.iter().map(|server| server.get()).collect()
    }
}
