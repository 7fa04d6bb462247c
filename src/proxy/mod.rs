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
//!
//! A build with `--cfg loom` has only these; what does I/O is left out there.

mod balance;
mod budget;
mod chance;
mod checks;
mod limit;
mod spec;
mod standing;

pub use balance::{Balancer, PeakEwma, Servers, hash_key};
pub use budget::RetryBudget;
pub use chance::Chance;
pub use checks::{CheckSchedule, Health, HealthChange};
pub use limit::share;
pub use spec::{
    Balance, BreakerSpec, EjectionSpec, FieldEdit, HashAlgorithm, HashKey, HealthSpec, HostRewrite, MirrorSpec,
    Network, PathRewrite, PoolSpec, Probe, ProxySpec, RetrySpec, ServerAddress, ServerSpec, Target, UpstreamLimits,
    UpstreamSpec, UpstreamTimeouts,
};
pub use standing::{Admission, Availability, BreakerState, FailureKind, StandingSet, StandingSnapshot};
