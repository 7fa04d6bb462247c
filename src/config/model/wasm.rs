//! `wasm`: what plugins in WebAssembly are made of, and may use.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::WASM_MEMORY_BYTES_MAX;
use crate::plugin::wasm::Settings;
use crate::units::{self, ByteSize, TimeSpan};

/// Plugins in WebAssembly: where their modules are, and what each may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wasm {
    /// The directory of the modules, relative to the config's. It is watched like the config, while a module is used.
    pub dir: PathBuf,
    /// Memory of one instance, of which each plugin has one on each core.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 65_536, "maximum" = WASM_MEMORY_BYTES_MAX))]
    pub memory: u64,
    /// CPU time of one call into a plugin.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "10s"))]
    pub time: Duration,
    /// Bytes of a body that are kept for a plugin. A longer body of a request is answered with 413.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = 1_u64 << 30))]
    pub body: u64,
}

impl Default for Wasm {
    fn default() -> Self {
        let Settings { dir, memory, time, body } = Settings::default();
        Self { dir, memory, time, body }
    }
}

impl From<&Wasm> for Settings {
    fn from(wasm: &Wasm) -> Self {
        let Wasm { dir, memory, time, body } = wasm.clone();
        Self { dir, memory, time, body }
    }
}
