//! Plugins in WebAssembly, by the ABI that Envoy's have: proxy-wasm 0.2.1, its parts for HTTP.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what a config says about them |
//! | `runtime/` | what runs them, in builds with the feature `wasm` |
//! | `absent` | what stands for it in builds without |

mod options;

#[cfg(feature = "wasm")]
mod runtime;
#[cfg(not(feature = "wasm"))]
#[path = "absent.rs"]
mod runtime;

pub use options::{REGISTRATION, Settings};

use runtime::Filter;

use crate::metrics::guests::GuestSample;

/// The metrics that plugins have defined, by module.
pub fn metrics() -> Vec<GuestSample> {
    runtime::metrics()
}
#[cfg(feature = "wasm")]
#[doc(hidden)]
pub use runtime::drive;
