//! Plugins in WebAssembly, by the ABI that Envoy's have: proxy-wasm 0.2.1, its parts for HTTP.
//!
//! | file | holds |
//! |---|---|
//! | `abi` | the numbers of the ABI |
//! | `calls/` | the functions that guests import |
//! | `engine` | the machine that runs guests, and the ticks that stop slow ones |
//! | `fields`, `pairs` | header fields as guests see, edit and pass them |
//! | `host`, `stream` | what the host keeps for an instance, and for each of its requests |
//! | `instance` | a guest that runs |
//! | `memory` | what guests point at, checked |
//! | `program` | a compiled module |
//! | `shared` | what all instances of a module share |
//!
//! A module is compiled off the data path; each core has an instance of its own. What a guest does wrong ends the call that
//! it was in, and fails the request that this was about; the instance is replaced, and requests that it had already end with
//! it.

mod abi;
mod calls;
mod engine;
mod fields;
mod host;
mod instance;
mod memory;
mod pairs;
mod program;
mod shared;
mod stream;

/// Bytes of a body's buffer that are kept for the next request.
const BODY_KEPT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
