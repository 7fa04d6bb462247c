//! Ringfort: an HTTP gateway and application server for Linux. Thread-per-core, shared-nothing, io_uring underneath.
//!
//! The list of modules below is the map: each names only what stands above it (`tests/it/tidy.rs` holds the table).
//! Reading path for a newcomer: `main` -> `master` -> `worker` -> `conn` -> `http::parse` -> `router::lookup` ->
//! `handler` -> `http::encode` -> `rt`.
//!
//! A build with `--cfg loom` has only what crosses threads, and its models: see [`sync`].

pub mod limits;
pub mod clock;
pub mod sync;
#[cfg(not(loom))]
pub mod units;
#[cfg(not(loom))]
pub mod secret;
#[cfg(not(loom))]
pub mod sys;
#[cfg(not(loom))]
pub mod rt;
#[cfg(not(loom))]
pub mod pool;
pub mod metrics;
#[cfg(not(loom))]
pub mod log;
#[cfg(not(loom))]
pub mod lifecycle;
#[cfg(not(loom))]
pub mod tls;
#[cfg(not(loom))]
pub mod http;
#[cfg(not(loom))]
pub mod router;
#[cfg(not(loom))]
pub mod handler;
pub mod proxy;
#[cfg_attr(loom, path = "plugin/loom.rs")]
pub mod plugin;
#[cfg(not(loom))]
pub mod conn;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod admin;
#[cfg(not(loom))]
pub mod worker;
#[cfg(not(loom))]
pub mod master;
#[cfg(not(loom))]
pub mod cli;
