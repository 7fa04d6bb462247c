//! One client connection from accept to close.
//!
//! `connection.rs` is the way of a connection through its states, `exchange.rs` one request that takes time or has a
//! body, `body.rs` and `output.rs` its bytes, `pace.rs` how slow they may move, `core.rs` what all connections
//! of a core share.
//! `oracle.rs` holds a whole connection against what its bytes ask for.

mod accept;
mod body;
mod connection;
mod core;
mod exchange;
mod output;
mod pace;
mod turn;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod oracle;
#[cfg(test)]
mod tests;

pub use accept::{Door, accept};
pub use core::{Core, Settings, Timeouts};
pub use pace::Rates;
