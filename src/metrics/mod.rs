//! Counters, gauges and latency histograms: written by one core each without a lock or a read-modify-write, read and
//! aggregated by the master once a second.
//!
//! The way of a number: a worker's [`shard::ShardWriter`] -> [`shard::Shard::read`] -> [`aggregate::Aggregator::tick`]
//! -> [`exposition::write_prometheus`] (for scrapers) or [`report`] (for `/status`). [`defs::TABLE`] names every metric.
//! Nothing in here reads a clock: the time of a tick and the duration of a request are passed in.

pub mod keys;
mod changes;
pub mod defs;
pub mod histogram;
pub mod snapshot;
pub mod pulse;
pub mod shard;
pub mod window;
pub mod route_history;
pub mod aggregate;
pub mod report;
pub mod upstreams;
pub mod plugins;
pub mod guests;
pub mod life;
pub mod exposition;
pub mod process;

pub use defs::{Class, Counter, Gauge};
pub use pulse::{Activity, WorkerSample, beat_every, stalled_after};
pub use shard::{FreshCells, OTHER_ROUTE, Shard, ShardWriter};

#[cfg(test)]
#[cfg(loom)]
mod loom_models;
#[cfg(test)]
mod validator;
