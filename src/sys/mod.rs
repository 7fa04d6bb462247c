//! System calls that are not the executor's: sockets and steering, files beneath a root, cores, cgroups, limits, and
//! probes of what this kernel allows.
//!
//! The safe wrappers of `rustix` where it has them; the few raw calls are in `handover.rs`, `memory.rs`,
//! `priority.rs`, `probe.rs`, `send_queue.rs` and `steering.rs`.

pub mod cpu;
pub mod file;
pub mod handover;
pub mod limits;
pub mod memory;
pub mod notify;
pub mod priority;
pub mod probe;
#[cfg(feature = "wasm")]
pub mod random;
pub mod send_queue;
pub mod signal;
pub mod socket;
pub mod steering;
pub mod timer;
