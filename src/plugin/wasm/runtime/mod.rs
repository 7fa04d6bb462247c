//! What runs plugins in WebAssembly.
//!
//! | file | holds |
//! |---|---|
//! | `abi` | the numbers of the ABI |
//! | `calls/` | the functions that guests import |
//! | `drive` | a guest without a server, for benchmarks |
//! | `engine` | the machine that runs guests, and the ticks that stop slow ones |
//! | `filter`, `messages`, `response` | a WASM plugin in the pipeline |
//! | `fields`, `pairs` | header fields as guests see, edit and pass them |
//! | `host`, `stream` | what the host keeps for an instance, and for each of its requests |
//! | `instance` | a guest that runs |
//! | `manifest` | a module's file, and what is said about it |
//! | `memory` | what guests point at, checked |
//! | `metric` | metrics that guests define |
//! | `outgoing` | requests of a guest's own |
//! | `program` | a compiled module |
//! | `queue` | queues that the instances of a module share |
//! | `seat` | what one core keeps for a plugin |
//! | `shared` | what all instances of a module share |
//!
//! A module is compiled off the data path; each core has an instance of its own. What a guest does wrong ends the call that
//! it was in, and fails the request that this was about; the instance is replaced, and requests that it had already end with
//! it.

mod abi;
mod calls;
pub mod drive;
mod engine;
mod fields;
mod filter;
mod host;
mod instance;
mod manifest;
mod memory;
mod messages;
mod metric;
mod outgoing;
mod pairs;
mod program;
mod queue;
mod response;
mod seat;
mod shared;
mod stream;

#[cfg(test)]
mod call_tests;
#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(super) use engine::start;
pub(super) use filter::Filter;

use crate::metrics::guests::GuestSample;

/// The metrics that the guests of all modules have defined.
pub(super) fn metrics() -> Vec<GuestSample> {
    shared::Shared::sample_metrics()
}
