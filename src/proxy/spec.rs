//! What the config says of upstreams, and of the routes that forward to them: checked, with everything resolved that does
//! not change while the process runs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Servers that do the same work, and how requests are shared out among them.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSpec {
    /// Its key in the config; a label in metrics and logs.
    pub name: String,
    /// Its servers; at least one.
    pub servers: Vec<ServerSpec>,
    /// How a server is chosen.
    pub balance: Balance,
    /// For so long a server that has come back gets less than its share, rising; zero: at once.
    pub slow_start: Duration,
    /// Connections between requests.
    pub pool: PoolSpec,
    /// How long an upstream may take for what.
    pub timeouts: UpstreamTimeouts,
    /// When a request is sent a second time.
    pub retry: RetrySpec,
    /// After so long without a response head a second server is asked, for requests that may be sent twice.
    pub hedge_after: Option<Duration>,
    /// Active checks; `None`: every server counts as healthy.
    pub health: Option<HealthSpec>,
    /// Passive ejection; `None`: off.
    pub ejection: Option<EjectionSpec>,
    /// The circuit breaker of each server; `None`: off.
    pub breaker: Option<BreakerSpec>,
    /// Bounds, for the whole process; each core gets its share, at least one.
    pub limits: UpstreamLimits,
}

/// One server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Where it is.
    pub address: ServerAddress,
    /// Its share relative to the others', from 1 on.
    pub weight: u32,
    /// Only asked when no other server is available.
    pub backup: bool,
    /// Gets no new requests.
    pub drain: bool,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// A name and a port: looked up in the host's table and by DNS, again when the answer's TTL is over. All its addresses
    /// are one server, asked in turn.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for ServerAddress {
    /// As the config writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How a server is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, smoothly weighted.
    RoundRobin,
    /// By weighted chance.
    Random,
    /// The one with the fewest requests in flight for its weight.
    LeastConn,
    /// The better of two drawn by weighted chance, judged by peak-EWMA latency times requests in flight.
    #[default]
    P2c,
    /// Always the same one for the same key, as long as it is available.
    Hash {
        /// How keys are mapped to servers.
        algorithm: HashAlgorithm,
        /// The key.
        key: HashKey,
    },
}

impl fmt::Display for Balance {
    /// As the config calls it; for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round_robin"),
            Self::Random => f.write_str("random"),
            Self::LeastConn => f.write_str("least_conn"),
            Self::P2c => f.write_str("p2c"),
            Self::Hash { algorithm: HashAlgorithm::Rendezvous, key } => write!(f, "hash over {key} (rendezvous)"),
            Self::Hash { algorithm: HashAlgorithm::Maglev, key } => write!(f, "hash over {key} (maglev)"),
        }
    }
}

/// How keys are mapped to servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// Highest random weight: exact weights, least movement, time in proportion to the servers.
    #[default]
    Rendezvous,
    /// A table that is looked up once; nearly as little movement.
    Maglev,
}

/// What of a request is its key. A request that has none of it is balanced by its client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a header field.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The client's address, without the port.
    #[default]
    ClientAddress,
    /// The normalised path.
    Path,
}

impl fmt::Display for HashKey {
    /// As the config writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::ClientAddress => f.write_str("client_address"),
            Self::Path => f.write_str("path"),
        }
    }
}

/// Connections between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpec {
    /// Idle connections that one core keeps to all servers of the upstream together.
    pub idle_per_core: usize,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long a connection is used.
    pub age: Duration,
    /// Requests that one connection carries.
    pub requests: u64,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            // As many as there may be: fewer than there are servers would have most requests open a connection.
            idle_per_core: UpstreamLimits::default().connections,
            idle_timeout: Duration::from_secs(60),
            age: Duration::from_secs(3600),
            requests: 100_000,
        }
    }
}

/// How long an upstream may take for what. None is infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// For a connection to be established.
    pub connect: Duration,
    /// From the request's last byte to the response head's last.
    pub response: Duration,
    /// Between bytes: of the response body, of a request that it takes, and in a tunnel.
    pub idle: Duration,
    /// For an exchange in all, with its retries; not for tunnels.
    pub total: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            // A SYN that is lost, or that a full listening queue drops, is sent again after one second and after three:
            // with a shorter time-out each of them would be an error.
            connect: Duration::from_secs(5),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(3600),
        }
    }
}

/// When a request is sent a second time. Only where that is safe: nothing of it was sent, or its method is idempotent
/// and all of it is still there.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrySpec {
    /// Attempts in all, the first one included; 1: no retry.
    pub attempts: u32,
    /// Retries for each request, at most, over the last ten seconds.
    pub budget: f64,
    /// Statuses that are taken for a failure of the server, with idempotent methods.
    pub statuses: Vec<u16>,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { attempts: 2, budget: 0.2, statuses: Vec::new() }
    }
}

/// Active checks, made once for the whole process.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSpec {
    /// What is asked.
    pub probe: Probe,
    /// From the end of a check to the next.
    pub interval: Duration,
    /// Up to this share of the interval is added by chance.
    pub jitter: f64,
    /// For a check in all.
    pub timeout: Duration,
    /// Failures in a row that make a healthy server unhealthy.
    pub fall: u32,
    /// Successes in a row that make it healthy again. A server starts healthy.
    pub rise: u32,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            interval: Duration::from_secs(2),
            jitter: 0.1,
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        }
    }
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A connection, and no more.
    Tcp,
    /// `GET` for a path.
    Http {
        /// Path and query.
        path: String,
        /// The `Host` field; the server's address where there is none.
        host: Option<String>,
        /// Statuses that pass.
        statuses: Vec<RangeInclusive<u16>>,
    },
}

impl Probe {
    /// The statuses that pass where the config names none.
    pub const SUCCESS: RangeInclusive<u16> = 200..=299;
}

/// Passive ejection: a server that fails requests gets none for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionSpec {
    /// Failures in a row (no connection, no response, status 5xx) after which it is ejected.
    pub consecutive_failures: u32,
    /// How long it stays ejected the first time; each time in a row adds as much.
    pub duration: Duration,
    /// The most that this adds up to.
    pub duration_max: Duration,
    /// At most so many of a hundred servers are ejected at once; one may be in any case where there are several.
    pub percent_max: u32,
}

impl Default for EjectionSpec {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            duration: Duration::from_secs(10),
            duration_max: Duration::from_secs(300),
            percent_max: 50,
        }
    }
}

/// A circuit breaker: a server that cannot be reached is not tried until one probing request has come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSpec {
    /// Failures in a row (no connection, no response) that open it.
    pub consecutive_failures: u32,
    /// How long it stays open before one request may probe.
    pub open: Duration,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self { consecutive_failures: 5, open: Duration::from_secs(10) }
    }
}

/// Bounds of one upstream, for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Connections, idle ones included.
    pub connections: usize,
    /// Requests that wait for a connection. More are answered with 503 at once.
    pub pending: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self { connections: 1024, pending: 1024 }
    }
}

/// What a route that forwards does.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxySpec {
    /// Where requests go, by weight; at least one.
    pub targets: Vec<Target>,
    /// What becomes of the path.
    pub path: PathRewrite,
    /// What becomes of `Host`.
    pub host: HostRewrite,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are taken over; from others they are replaced.
    pub trust: Vec<Network>,
    /// Whether `X-Forwarded-For`, `-Proto` and `-Host` are sent.
    pub x_forwarded: bool,
    /// Whether `Forwarded` (RFC 7239) is sent.
    pub forwarded: bool,
    /// The name in `Via`; `None` leaves it out.
    pub via: Option<String>,
    /// The field that tells servers the request's id, whatever the client sent in it; `None`: it goes on as it came.
    pub request_id: Option<String>,
    /// Edits of the request's fields, in order.
    pub request_fields: Vec<FieldEdit>,
    /// Edits of the response's fields, in order.
    pub response_fields: Vec<FieldEdit>,
    /// Whether an `Upgrade` goes through, and becomes a tunnel.
    pub upgrade: bool,
    /// Where copies of requests go.
    pub mirror: Option<MirrorSpec>,
}

/// One of several upstreams of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Index among the upstreams.
    pub upstream: usize,
    /// Its share relative to the others', from 1 on.
    pub weight: u32,
}

/// What becomes of the path; the query stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// Forwarded as it was routed.
    Keep,
    /// Without this prefix, behind the other one. A path that has not the prefix keeps what it has.
    Prefix {
        /// Taken away, at a segment's end; empty: nothing.
        strip: String,
        /// Put in front; empty: nothing.
        add: String,
    },
    /// Made anew: a text with `{name}` for the route's parameters.
    Template(String),
}

/// What becomes of `Host`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// Forwarded as it came.
    #[default]
    Keep,
    /// The server's address, as the config names it.
    Server,
    /// This.
    Set(String),
}

/// An edit of a message's fields. Never of those that frame it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldEdit {
    /// Replaces all fields of the name by one.
    Set(String, String),
    /// Adds one.
    Add(String, String),
    /// Removes all of the name.
    Remove(String),
}

/// Copies of requests, whose answers are thrown away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MirrorSpec {
    /// Index among the upstreams.
    pub upstream: usize,
    /// The share of requests that is copied, from 0 to 1.
    pub share: f64,
}

/// Addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// Bits that they share: at most 32 or 128.
    pub prefix: u8,
}

impl Network {
    /// Of IPv4 addresses that are mapped into IPv6 the same as what they are: as addresses are looked at.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self.address.to_canonical() {
            // All bits before the last 32 are the mapping's.
            address @ IpAddr::V4(_) if self.address.is_ipv6() => {
                Self { address, prefix: self.prefix.saturating_sub(96) }
            }
            _ => self,
        }
    }

    /// From its first address to its last, IPv4 addresses that are mapped into IPv6 as what they are.
    pub fn range(&self) -> RangeInclusive<IpAddr> {
        match self.address.to_canonical() {
            IpAddr::V4(own) => {
                let rest = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                let first = own.to_bits() & !rest;
                Ipv4Addr::from_bits(first).into()..=Ipv4Addr::from_bits(first | rest).into()
            }
            IpAddr::V6(own) => {
                let rest = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                let first = own.to_bits() & !rest;
                Ipv6Addr::from_bits(first).into()..=Ipv6Addr::from_bits(first | rest).into()
            }
        }
    }

    /// Whether `address` is one of them. An IPv4 address mapped into IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32_u32.saturating_sub(self.prefix.into());
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128_u32.saturating_sub(self.prefix.into());
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let network = |text: &str| {
            let (address, prefix) = text.split_once('/').unwrap();
            Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
        };
        let contains = |net: &str, address: &str| {
            let (net, address): (_, IpAddr) = (network(net), address.parse().unwrap());
            let contains = net.contains(address);
            assert_eq!(net.range().contains(&address.to_canonical()), contains, "{net} {address}");
            contains
        };
        assert!(contains("10.0.0.0/8", "10.255.1.2"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("192.0.2.1/32", "192.0.2.1"));
        assert!(!contains("192.0.2.1/32", "192.0.2.2"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "2001:db9::1"));
    }
}
