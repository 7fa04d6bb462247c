//! Plugins.

#[cfg(feature = "wasm")]
pub(crate) mod wasm;
