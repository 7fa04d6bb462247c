//! One client connection from accept to close.
//!
//! `connection.rs` is the way of a connection through its states, `exchange.rs` one request that takes time or has a
//! body, `body.rs` and `output.rs` its bytes, `pace.rs` how slow they may move, `core.rs` what all connections
//! of a core share. `observe.rs` and `access.rs`: how requests are called, and the line that each leaves in the access log.
//! `oracle.rs` holds a whole connection against what its bytes ask for.

mod accept;
mod access;
mod body;
mod connection;
mod core;
mod exchange;
mod held;
mod observe;
mod output;
mod pace;
mod repeat;
mod turn;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod oracle;
#[cfg(test)]
mod tests;

pub use accept::{Door, accept};
pub use access::hand_over_access_log;
pub use core::{Core, Settings, Timeouts};
pub use observe::{Observing, RequestIds};
pub use pace::Rates;
pub use repeat::make_repeats;
