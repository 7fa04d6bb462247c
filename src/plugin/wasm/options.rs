//! What a config says about WASM plugins: the settings of all of them, and the options of one. Known to every build, so that
//! one without WebAssembly can say so.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::WASM_MEMORY_BYTES_MAX;
use crate::plugin::Registration;
use crate::units::{ByteSize, TimeSpan};

/// The plugin `wasm`.
pub const REGISTRATION: Registration = Registration::new(
    "wasm",
    "a plugin in WebAssembly, by the ABI that Envoy's have (proxy-wasm 0.2.1)",
    PhantomData::<(Options, super::Filter)>,
);

/// What one WASM plugin is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The module: `NAME` is `NAME.wasm` in `wasm.dir`, and `NAME.json` there, if any, its manifest.
    pub module: String,
    /// What the plugin is configured with: a text as it is, anything else as JSON. Without it the manifest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Value>,
    /// Which of the module's plugins, for modules that hold several (Envoy's `root_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub root_id: Option<String>,
    /// Memory of one instance, instead of `wasm.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByteSize", extend("minimum" = 65_536, "maximum" = WASM_MEMORY_BYTES_MAX))]
    pub memory: Option<ByteSize>,
    /// CPU time of one call, instead of `wasm.time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "10s"))]
    pub time: Option<TimeSpan>,
}

/// The settings of all WASM plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the modules are.
    pub dir: PathBuf,
    /// Bytes of memory that one instance may have.
    pub memory: u64,
    /// CPU time that one call may take.
    pub time: Duration,
    /// Bytes of a body that are kept while a plugin pauses it.
    pub body: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dir: PathBuf::from("plugins"), memory: 16 << 20, time: Duration::from_millis(10), body: 1 << 20 }
    }
}
