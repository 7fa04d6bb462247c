//! Plugins in WebAssembly, by the ABI that Envoy's have: proxy-wasm 0.2.1, its parts for HTTP.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what a config says about them; the only file of a build without the feature `wasm`, with `absent` |
//! | `abi` | the numbers of the ABI |
//! | `calls/` | the functions that guests import |
//! | `engine` | the machine that runs guests, and the ticks that stop slow ones |
//! | `filter`, `messages` | a WASM plugin in the pipeline |
//! | `fields`, `pairs` | header fields as guests see, edit and pass them |
//! | `host`, `stream` | what the host keeps for an instance, and for each of its requests |
//! | `instance` | a guest that runs |
//! | `manifest` | a module's file, and what is said about it |
//! | `memory` | what guests point at, checked |
//! | `program` | a compiled module |
//! | `seat` | what one core keeps for a plugin |
//! | `shared` | what all instances of a module share |
//!
//! A module is compiled off the data path; each core has an instance of its own. What a guest does wrong ends the call that
//! it was in, and fails the request that this was about; the instance is replaced, and requests that it had already end with
//! it.

#[cfg(not(feature = "wasm"))]
mod absent;
mod options;
#[cfg(feature = "wasm")]
mod abi;
#[cfg(feature = "wasm")]
mod calls;
#[cfg(feature = "wasm")]
#[doc(hidden)]
pub mod drive;
#[cfg(feature = "wasm")]
mod engine;
#[cfg(feature = "wasm")]
mod fields;
#[cfg(feature = "wasm")]
mod filter;
#[cfg(feature = "wasm")]
mod host;
#[cfg(feature = "wasm")]
mod instance;
#[cfg(feature = "wasm")]
mod manifest;
#[cfg(feature = "wasm")]
mod memory;
#[cfg(feature = "wasm")]
mod messages;
#[cfg(feature = "wasm")]
mod pairs;
#[cfg(feature = "wasm")]
mod program;
#[cfg(feature = "wasm")]
mod seat;
#[cfg(feature = "wasm")]
mod shared;
#[cfg(feature = "wasm")]
mod stream;

#[cfg(all(test, feature = "wasm"))]
mod random_tests;
#[cfg(all(test, feature = "wasm"))]
mod testing;
#[cfg(all(test, feature = "wasm"))]
mod tests;

pub use options::{REGISTRATION, Settings};

#[cfg(not(feature = "wasm"))]
use absent::Filter;
#[cfg(feature = "wasm")]
use filter::Filter;

#[cfg(not(feature = "wasm"))]
pub(crate) use absent::start;
#[cfg(feature = "wasm")]
pub(crate) use engine::start;
