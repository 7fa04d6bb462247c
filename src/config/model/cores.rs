//! `cores`: which cores do what, and the executor on them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::RING_BUFFERS_MAX;
use crate::rt;
use crate::units::{self, ByteSize, TimeSpan};

/// Which cores do what, and the executor on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cores {
    /// Cores that serve requests: `"auto"` takes those that affinity and cgroup quota allow, less the master's when there
    /// are more than two; a number that many; a list these core ids.
    pub workers: Workers,
    /// The core of the master, which aggregates metrics and serves the admin listener: `"auto"` or a core id.
    pub master: MasterCore,
    /// Whether threads are bound to their cores: `"auto"` does so in an exclusive cpuset or on a host without a CPU quota.
    pub pin: Pin,
    /// The executor: `"auto"` is compio, which every build has; the others are refused where they are not compiled in.
    pub executor: Executor,
    /// How the executor talks to the kernel: `"auto"` takes epoll, with a warning, where io_uring is missing or blocked.
    pub driver: Driver,
    /// Which worker gets a new connection: by a hash of its addresses, or by the CPU that handles its packets.
    pub steering: Steering,
    /// How long a worker may do one thing without turning to others, before it is reported as stalled and `/livez` fails:
    /// a handler that computes or blocks for longer holds up every connection of its core.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub stall: Duration,
    /// The ring of one core.
    pub ring: Ring,
}

impl Default for Cores {
    fn default() -> Self {
        Self {
            workers: Workers::default(),
            master: MasterCore::default(),
            pin: Pin::default(),
            executor: Executor::default(),
            driver: Driver::default(),
            steering: Steering::default(),
            // Far above what a busy or throttled host makes of a turn, and below most clients' patience.
            stall: Duration::from_secs(5),
            ring: Ring::default(),
        }
    }
}

/// The word `"auto"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Auto {
    /// Decided by what the host allows.
    #[default]
    Auto,
}

/// `cores.workers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Workers {
    /// What the host allows.
    Auto(Auto),
    /// So many.
    Count(#[schemars(range(min = 1, max = 1024))] usize),
    /// One on each of these cores.
    List(#[schemars(with = "Vec<CoreId>", extend("minItems" = 1, "maxItems" = 1024, "uniqueItems" = true))] Vec<usize>),
}

impl Default for Workers {
    fn default() -> Self {
        Self::Auto(Auto::Auto)
    }
}

/// The id of a core, as the kernel counts them.
#[derive(JsonSchema)]
#[schemars(inline)]
#[allow(dead_code, reason = "stands for `usize` in the schema, with its bound")]
struct CoreId(#[schemars(range(min = 0, max = 8191))] usize);

/// `cores.master`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum MasterCore {
    /// A core of its own where there are more than two.
    Auto(Auto),
    /// This one.
    Core(#[schemars(with = "CoreId")] usize),
}

impl Default for MasterCore {
    fn default() -> Self {
        Self::Auto(Auto::Auto)
    }
}

/// `cores.pin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Pin {
    /// In an exclusive cpuset, or without a CPU quota.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// `cores.executor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Executor {
    /// compio.
    #[default]
    Auto,
    /// compio.
    Compio,
    /// monoio, where it is compiled in.
    Monoio,
    /// glommio, where it is compiled in; on io_uring alone.
    Glommio,
}

impl From<Executor> for rt::ExecutorChoice {
    fn from(executor: Executor) -> Self {
        match executor {
            Executor::Auto => Self::Auto,
            Executor::Compio => Self::Compio,
            Executor::Monoio => Self::Monoio,
            Executor::Glommio => Self::Glommio,
        }
    }
}

/// `cores.driver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Driver {
    /// io_uring where it works, else epoll with a warning.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl From<Driver> for rt::DriverChoice {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Auto => Self::Auto,
            Driver::IoUring => Self::IoUring,
            Driver::Epoll => Self::Epoll,
        }
    }
}

/// `cores.steering`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Steering {
    /// By a hash of addresses and ports.
    #[default]
    Hash,
    /// By the CPU that handles the packet.
    Cpu,
}

/// The ring of one core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ring {
    /// Entries of the submission queue: a power of two.
    #[schemars(range(min = 64, max = 32768), extend("x-power-of-two" = true))]
    pub entries: u32,
    /// Receive buffers in the ring that the core's connections share: a power of two. As many more at most are taken from
    /// the heap, as they are needed: for the first bytes of connections, and for request bodies.
    #[schemars(range(min = 16, max = RING_BUFFERS_MAX), extend("x-power-of-two" = true))]
    pub buffers: u16,
    /// Bytes of one receive buffer.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 1024, "maximum" = 65536))]
    pub buffer_size: usize,
}

impl Default for Ring {
    fn default() -> Self {
        let options = rt::Options::default();
        Self { entries: options.ring_entries, buffers: options.ring_buffers, buffer_size: options.ring_buffer_bytes }
    }
}
