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

use std::io;

use crate::metrics::guests::GuestSample;
use runtime::Filter;

pub use options::{REGISTRATION, Settings};
#[cfg(feature = "wasm")]
#[doc(hidden)]
pub use runtime::drive;

/// The metrics that plugins have defined, by module.
pub fn metrics() -> Vec<GuestSample> {
    runtime::metrics()
}

/// Has what guests run on be ready to be made. To be called on a thread that does not give way to others: its own must not
/// either.
///
/// # Errors
/// When there is no thread more.
pub(crate) fn start() -> io::Result<()> {
    runtime::start()
}
