//! System calls that are not the executor's: sockets and steering, files beneath a root, cores, cgroups, limits, and
//! probes of what this kernel allows.
//!
//! The safe wrappers of `rustix` where it has them; the few raw calls are in `steering.rs` and `probe.rs`.

pub mod cpu;
pub mod file;
pub mod limits;
pub mod probe;
pub mod signal;
pub mod socket;
pub mod steering;
pub mod timer;
