//! The life of a program: initializers run in order, services start level by level of what they depend on, and stop in
//! reverse. The server's own parts are services of the same [`Launcher`] as those that a user's program adds.
//!
//! - A service is ready only when it says so ([`Handle::ready`]). One that ends, drops its handle, panics or takes too long
//!   before that has failed: what had started is stopped in reverse, and the error names it and what waited for it.
//! - Time to stop is counted from the stop. A service that does not stop in time, or panics, holds nobody up.
//! - A signal stops it; the second one at once. A signal before everything is ready takes the start back, and is an error.
//!
//! All of it runs on one thread, the master's, which never stands on a request's path. Futures need not be `Send`; what
//! blocks belongs into [`crate::rt::blocking`], or it holds up every other service, the admin listener and the signals.
//!
//! `graph.rs` orders services, `course.rs` decides; both are pure. `run.rs` polls futures and minds time.

mod contained;
mod course;
mod failure;
mod graph;
mod handle;
mod health;
mod launcher;
mod overview;
mod run;

pub use course::{Phase, ServiceState};
pub use failure::{During, Error, Failure, LaunchError, Outcome, Reason};
pub use graph::GraphError;
pub use handle::{Handle, Stop, Stopping};
pub use health::{CheckOptions, CheckView, Checking, Finding, Health, HealthCheck, Weight};
pub use launcher::{Initializer, Launcher, Running, Service, ServiceOptions};
pub use overview::{Overview, ServiceView};

/// A signal that reached the process, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub &'static str);

/// Another process has taken over, and this one may leave. Never a second signal: whoever stops already has nothing more to
/// do for it.
pub const REPLACED: Signal = Signal("upgrade");

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
