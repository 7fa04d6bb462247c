//! What crosses threads: the atomics and locks that such code is built on, and the structures that are no metrics.
//!
//! Code that two threads touch takes its atomics, `Mutex`, `OnceLock` and channel from here. They are those of std and
//! crossbeam, under other names and at no cost, except in a build with `--cfg loom`: there they are loom's, and the models
//! (`loom_models` here, in `metrics` and in `proxy::standing`) run that same code in every order of its steps that the memory model allows.
//! `scripts/loom` runs them.
//!
//! What is deliberately not from here: reference counts (`std::sync::Arc`; no order of ours hangs on them), one-off
//! numbers like [`crate::metrics::shard`]'s instances, and what one thread alone uses.

mod farewell;
mod flow;
mod mailbox;
#[cfg(loom)]
mod stand_ins;
mod wake;

pub use farewell::Farewell;
pub use flow::Flow;
pub use mailbox::{Mailbox, Postbox, mailbox};
pub use wake::{MainWaker, drive};

#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, OnceLock, atomic};

#[cfg(not(loom))]
pub(crate) use crossbeam_channel as channel;

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, atomic};
#[cfg(loom)]
use stand_ins::channel;
#[cfg(loom)]
pub(crate) use stand_ins::{Bug, OnceLock, planted};

#[cfg(all(test, loom))]
pub(crate) use stand_ins::{check, check_fails};

#[cfg(test)]
#[cfg(loom)]
mod loom_models;
