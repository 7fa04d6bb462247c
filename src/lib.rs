//! Ringfort: an HTTP gateway and application server for Linux. Thread-per-core, shared-nothing, io_uring underneath.
//!
//! The list of modules below is the map: each names only what stands above it (`tests/it/tidy.rs` holds the table).
//! Reading path for a newcomer: `main` -> `master` -> `worker` -> `conn` -> `http::parse` -> `router::lookup` ->
//! `handler` -> `http::encode` -> `rt`.

pub mod limits;
pub mod clock;
pub mod sys;
pub mod rt;
pub mod pool;
pub mod metrics;
pub mod log;
pub mod http;
pub mod router;
pub mod handler;
pub mod conn;
pub mod config;
pub mod admin;
pub mod worker;
pub mod master;
pub mod cli;
