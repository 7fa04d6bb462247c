//! Forwarding to upstreams: an ordinary handler, with connections, choices and protections of its own.
//!
//! Each core has its own connections and its own view of the load; what is known of a
//! server's health is the whole process's.
//!
//! | file | holds |
//! |---|---|
//! | `spec` | what the config says of upstreams and of routes that forward |
//! | `balance/` | which server gets a request: per core |
//! | `standing/` | which servers may get one (drained, unhealthy, ejected, broken): for the process, in atomics |
//! | `checks` | when a server is checked, and what the results say |
//! | `budget` | how many requests may be sent a second time: per core |
//! | `limit` | a process-wide bound, split over cores |
//! | `chance` | seeded numbers for all of these |
//! | `upstream` | upstreams as the process knows them, with the addresses of their servers |
//! | `local`, `connection`, `counters` | the same on one core: connections, load, numbers |
//! | `overview` | an upstream as metrics and the admin listener see it |
//! | `forward` | the handler: which server, how often, and what becomes of its answer |
//! | `outcome`, `termination` | what becomes of attempts, and the code that says who ended a request and when |
//! | `ask`, `hedge`, `failure` | one attempt, two at once, and how they fail |
//! | `head`, `rewrite`, `body`, `relay` | the request's and the response's parts on their way |
//! | `attend`, `health`, `resolve/` | active checks and names' addresses, on the master |
//! | `inquiry`, `fetch`, `collect` | short questions: to an upstream beside a request, to others on the master |
//! | `tunnel`, `mirror` | upgraded connections; copies |
//!
//! A build with `--cfg loom` has only what does no I/O.

#[cfg(not(loom))]
mod ask;
#[cfg(not(loom))]
mod attend;
mod balance;
#[cfg(not(loom))]
mod body;
mod budget;
mod chance;
mod checks;
#[cfg(not(loom))]
mod collect;
#[cfg(not(loom))]
mod connection;
#[cfg(not(loom))]
mod counters;
#[cfg(not(loom))]
mod failure;
#[cfg(not(loom))]
mod fetch;
#[cfg(not(loom))]
mod forward;
#[cfg(not(loom))]
mod head;
#[cfg(not(loom))]
mod health;
#[cfg(not(loom))]
mod hedge;
#[cfg(not(loom))]
mod inquiry;
mod limit;
#[cfg(not(loom))]
mod local;
#[cfg(not(loom))]
mod mirror;
#[cfg(not(loom))]
mod outcome;
#[cfg(not(loom))]
mod overview;
#[cfg(not(loom))]
mod relay;
#[cfg(not(loom))]
mod resolve;
#[cfg(not(loom))]
mod rewrite;
mod spec;
mod standing;
#[cfg(not(loom))]
mod termination;
#[cfg(not(loom))]
mod tunnel;
#[cfg(not(loom))]
mod upstream;

#[cfg(not(loom))]
pub use attend::Attendants;
pub use balance::{Balancer, PeakEwma, Servers, hash_key};
pub use budget::RetryBudget;
pub use chance::Chance;
pub use checks::{CheckSchedule, Health, HealthChange};
#[cfg(not(loom))]
pub use counters::{AllCounters, ServerCounter, ServerCounters, UpstreamCounter, UpstreamCounters};
#[cfg(not(loom))]
pub use fetch::{FetchError, fetch};
#[cfg(not(loom))]
pub use forward::Proxy;
#[cfg(not(loom))]
pub use inquiry::{InquiryError, Question, Told, inquire};
pub use limit::share;
#[cfg(not(loom))]
pub use local::Local;
pub use spec::{
    Balance, BreakerSpec, EjectionSpec, FieldEdit, HashAlgorithm, HashKey, HealthSpec, HostRewrite, MirrorSpec,
    Network, PathRewrite, PoolSpec, Probe, ProxySpec, RetrySpec, ServerAddress, ServerSpec, Target, UpstreamLimits,
    UpstreamSpec, UpstreamTimeouts,
};
pub use standing::{Admission, Availability, BreakerState, FailureKind, StandingSet, StandingSnapshot};
#[cfg(not(loom))]
pub use termination::Termination;
#[cfg(not(loom))]
pub use upstream::{Remotes, Server, Upstream, Upstreams};
