//! The one integration binary: each module is one area, named for what it shows.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it did not run")]

mod support;

mod abuse;
mod access;
mod admin;
mod allocations;
mod cli;
mod compile_fail;
mod config;
mod conn;
mod corpus;
mod deploy;
mod drain;
mod fallback;
mod faults;
mod lifecycle;
mod plugins;
mod proxy;
mod reload;
mod service;
mod sim;
mod strict;
mod supervision;
mod tidy;
mod upgrade;
#[cfg(feature = "wasm")]
mod wasm;
