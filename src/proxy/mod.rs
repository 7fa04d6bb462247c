//! Forwarding to upstreams: an ordinary handler, with connections, choices and protections of its own.
//!
//! Each core has its own connections and its own view of the load; what is known of a
//! server's health is the whole process's.

mod route;
mod spec;

pub use route::{Proxy, ProxyError};
pub use spec::{
    Balance, BreakerSpec, EjectionSpec, FieldEdit, HashAlgorithm, HashKey, HealthSpec, HostRewrite, MirrorSpec,
    Network, PathRewrite, PoolSpec, Probe, ProxySpec, RetrySpec, ServerAddress, ServerSpec, Target, UpstreamLimits,
    UpstreamSpec, UpstreamTimeouts,
};
