//! `upstreams`: servers that do the same work, and how they are used.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::grammar::StatusRange;
use crate::limits::{UPSTREAM_SERVERS_MAX, WEIGHT_MAX};
use crate::proxy::{
    Balance, BreakerSpec, EjectionSpec, HashAlgorithm, HashKey, HealthSpec, PoolSpec, Probe, RetrySpec, ServerAddress,
    UpstreamLimits as LimitsSpec, UpstreamTimeouts as TimeoutsSpec,
};
use crate::units::{self, TimeSpan};

/// Servers that do the same work, and how requests are shared out among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its servers, each once.
    #[schemars(extend("minItems" = 1, "maxItems" = UPSTREAM_SERVERS_MAX))]
    pub servers: Vec<UpstreamServer>,
    /// How a server is chosen for a request: `"round_robin"` in turn, smoothly weighted; `"random"` by weighted chance;
    /// `"least_conn"` with the fewest requests in flight for its weight; `"p2c"` the faster and less busy of two drawn by
    /// chance; `"hash"` always the same one for the same key, the client's address unless `{ "hash": .. }` names another.
    #[serde(default, with = "balance_form")]
    #[schemars(with = "BalanceForm")]
    pub balance: Balance,
    /// For so long a server that has come back gets less than its share, rising; `"0s"`: its whole share at once.
    #[serde(default, with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub slow_start: Duration,
    /// Connections between requests.
    #[serde(default)]
    pub pool: Pool,
    /// How long a server may take for what.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// When a request is sent a second time.
    #[serde(default)]
    pub retry: Retry,
    /// After so long without a response head a second server is asked too, for requests that may be sent twice. Shorter
    /// than `timeouts.response`. Never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub hedge_after: Option<TimeSpan>,
    /// Active checks. None when left out: every server counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Health")]
    pub health: Option<Health>,
    /// A server that fails requests gets none for a while. Never when left out; `{}` has it with its defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Ejection")]
    pub ejection: Option<Ejection>,
    /// A server that cannot be reached is not tried until one probing request has come through. No such breaker when left
    /// out; `{}` has it with its defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Breaker")]
    pub breaker: Option<Breaker>,
    /// Bounds, for the whole process; each core gets its share.
    #[serde(default)]
    pub limits: UpstreamLimits,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamServer {
    /// `127.0.0.1:3000`, `[::1]:3000`, `name.example:3000` (see `resolver`) or
    /// `unix:/run/app.sock`.
    pub address: ServerAddress,
    /// Its share relative to the others'.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = WEIGHT_MAX))]
    pub weight: u32,
    /// Whether it is asked only when no other server is available.
    #[serde(default)]
    pub backup: bool,
    /// Whether it gets no new requests.
    #[serde(default)]
    pub drain: bool,
}

pub(super) fn one() -> u32 {
    1
}

/// `balance`: a word, or `{ "hash": { .. } }`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum BalanceForm {
    Word(BalanceWord),
    Hash(HashForm),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum BalanceWord {
    RoundRobin,
    Random,
    LeastConn,
    #[serde(rename = "p2c")]
    P2c,
    Hash,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct HashForm {
    /// Always the same server for the same key.
    hash: Hash,
}

/// Always the same server for the same key, as long as it is available.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Hash {
    /// The key: `"client_address"`, `"path"`, `"header:NAME"` or `"cookie:NAME"`. A request without that field or cookie is
    /// balanced by its client's address.
    over: HashKey,
    /// How keys are mapped to servers: `"rendezvous"` by exact weights, with the least movement when servers come and go;
    /// `"maglev"` by one look into a table, for many servers.
    #[serde(with = "AlgorithmForm")]
    #[schemars(with = "AlgorithmForm")]
    algorithm: HashAlgorithm,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "HashAlgorithm", rename_all = "lowercase")]
#[schemars(inline)]
enum AlgorithmForm {
    Rendezvous,
    Maglev,
}

/// `#[serde(with)]` for [`Balance`].
mod balance_form {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Balance, BalanceForm, BalanceWord, Hash, HashForm};

    pub(super) fn serialize<S: Serializer>(balance: &Balance, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match balance {
            Balance::RoundRobin => BalanceForm::Word(BalanceWord::RoundRobin),
            Balance::Random => BalanceForm::Word(BalanceWord::Random),
            Balance::LeastConn => BalanceForm::Word(BalanceWord::LeastConn),
            Balance::P2c => BalanceForm::Word(BalanceWord::P2c),
            Balance::Hash { algorithm, key } => {
                BalanceForm::Hash(HashForm { hash: Hash { over: key.clone(), algorithm: *algorithm } })
            }
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Balance, D::Error> {
        let hash = |Hash { over, algorithm }| Balance::Hash { algorithm, key: over };
        Ok(match BalanceForm::deserialize(deserializer)? {
            BalanceForm::Word(BalanceWord::RoundRobin) => Balance::RoundRobin,
            BalanceForm::Word(BalanceWord::Random) => Balance::Random,
            BalanceForm::Word(BalanceWord::LeastConn) => Balance::LeastConn,
            BalanceForm::Word(BalanceWord::P2c) => Balance::P2c,
            BalanceForm::Word(BalanceWord::Hash) => hash(Hash::default()),
            BalanceForm::Hash(form) => hash(form.hash),
        })
    }
}

/// Connections between requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Idle connections that one core keeps, to all servers of the upstream together; 0: none is used twice.
    #[schemars(range(min = 0, max = 65536))]
    pub idle_per_core: usize,
    /// How long a connection may be idle. Shorter than the servers' own time-out, or requests meet closed connections.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub idle_timeout: Duration,
    /// How long a connection is used.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub age: Duration,
    /// Requests that one connection carries.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u64,
}

impl Default for Pool {
    fn default() -> Self {
        let PoolSpec { idle_per_core, idle_timeout, age, requests } = PoolSpec::default();
        Self { idle_per_core, idle_timeout, age, requests }
    }
}

/// How long a server may take for what. None is infinite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTimeouts {
    /// For a connection to be established. Not more than `total`. Longer: 504. A packet that is lost meanwhile is sent again
    /// after one second and after three; a time-out below that makes each an error.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub connect: Duration,
    /// From the request's last byte to the response head's last. Not more than `total`. Longer: 504.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub response: Duration,
    /// Between bytes: of a response body, of a request that the server takes, and in a tunnel, both ways.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub idle: Duration,
    /// For an exchange in all, with its retries. Not for tunnels.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub total: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        let TimeoutsSpec { connect, response, idle, total } = TimeoutsSpec::default();
        Self { connect, response, idle, total }
    }
}

/// When a request is sent a second time. Only where that is safe: nothing of it was sent, or its method is idempotent and
/// all of it is still there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first one included; 1: no retry.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// Retries for each request, at most, over the last ten seconds: 0.2 adds a fifth to the load of servers that fail.
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub budget: f64,
    /// Statuses that are taken for a failure of the server, with idempotent methods.
    #[schemars(with = "Vec<FailureStatus>", extend("uniqueItems" = true))]
    pub statuses: Vec<u16>,
}

/// A status that says of itself that the request failed.
#[derive(JsonSchema)]
#[schemars(inline)]
#[allow(dead_code, reason = "stands for `u16` in the schema, with its bounds")]
struct FailureStatus(#[schemars(range(min = 400, max = 599))] u16);

impl Default for Retry {
    fn default() -> Self {
        let RetrySpec { attempts, budget, statuses } = RetrySpec::default();
        Self { attempts, budget, statuses }
    }
}

/// Active checks, made once for the whole process: `path` (with `GET`) or `tcp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["path"] }, { "required": ["tcp"] }]))]
pub struct Health {
    /// Path and query that are asked for with `GET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub path: Option<String>,
    /// A connection alone is good enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("const" = true))]
    pub tcp: Option<bool>,
    /// With `path`: the `Host` field of the check; the server's address when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub host: Option<String>,
    /// From the end of a check to the next.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "10ms", "x-maximum" = "24h"))]
    pub interval: Duration,
    /// Up to this share of the interval is added by chance, so that checks do not keep step.
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub jitter: f64,
    /// For a check in all. Longer: it has failed.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub timeout: Duration,
    /// Failures in a row that make a healthy server unhealthy.
    #[schemars(range(min = 1, max = 100))]
    pub fall: u32,
    /// Successes in a row that make it healthy again. A server starts healthy.
    #[schemars(range(min = 1, max = 100))]
    pub rise: u32,
    /// With `path`: statuses that pass, `200` or `"200-399"`; 200 to 299 when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = 100))]
    pub statuses: Vec<StatusRange>,
}

impl Default for Health {
    fn default() -> Self {
        let HealthSpec { probe, interval, jitter, timeout, fall, rise } = HealthSpec::default();
        let (path, host, statuses) = match probe {
            // Which of the two it is has to be said.
            Probe::Tcp => (None, None, Vec::new()),
            Probe::Http { path, host, statuses } => {
                (Some(path), host, statuses.into_iter().map(StatusRange::new).collect())
            }
        };
        Self { path, tcp: None, host, interval, jitter, timeout, fall, rise, statuses }
    }
}

/// A server that fails requests gets none for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row (no connection, no response, status 5xx) after which it is ejected.
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_failures: u32,
    /// How long the first time; each time in a row adds as much. Not more than `duration_max`.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub duration: Duration,
    /// The most that this adds up to.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub duration_max: Duration,
    /// At most so many of a hundred servers are ejected at once; one may be in any case where there are several.
    #[schemars(range(min = 1, max = 100))]
    pub percent_max: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        let EjectionSpec { consecutive_failures, duration, duration_max, percent_max } = EjectionSpec::default();
        Self { consecutive_failures, duration, duration_max, percent_max }
    }
}

/// A server that cannot be reached is not tried until one probing request has come through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row (no connection, no response) that open it.
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_failures: u32,
    /// How long it stays open before one request may probe.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub open: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        let BreakerSpec { consecutive_failures, open } = BreakerSpec::default();
        Self { consecutive_failures, open }
    }
}

/// Bounds of one upstream, for the whole process; each core gets its share, at least one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamLimits {
    /// Connections, idle ones included.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: usize,
    /// Requests that wait for a connection; 0: none waits. More: 503 at once.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub pending: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        let LimitsSpec { connections, pending } = LimitsSpec::default();
        Self { connections, pending }
    }
}
