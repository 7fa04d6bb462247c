//! What plugins cost and how they fare: calls, errors and times, by plugin and hook. One writer a core, read by the master.
//!
//! Calls and errors are counted exactly. Times are taken of one request in [`PLUGIN_TIMED_EVERY`]: reading the clock around
//! each hook of each request would cost more than most hooks do.

use std::sync::{Arc, Mutex, PoisonError};

use super::Hook;
use crate::limits::PLUGIN_TIMED_EVERY;
use crate::metrics::histogram::{COMPACT, SteadyHistogram};
use crate::metrics::snapshot::Snapshot;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many hooks there are.
pub const HOOKS: usize = Hook::ALL.len();

/// One plugin's numbers on one core.
#[derive(Default)]
pub(super) struct HookCells {
    calls: [AtomicU64; HOOKS],
    errors: [AtomicU64; HOOKS],
    times: [SteadyHistogram; HOOKS],
}

fn step(cell: &AtomicU64) {
    cell.store(cell.load(Relaxed) + 1, Relaxed);
}

impl HookCells {
    pub(super) fn note_call(&self, hook: Hook) {
        step(&self.calls[hook as usize]);
    }

    pub(super) fn note_error(&self, hook: Hook) {
        step(&self.errors[hook as usize]);
    }

    /// A call that was timed took so many nanoseconds.
    pub(super) fn note_time(&self, hook: Hook, nanos: u64) {
        self.times[hook as usize].record(nanos);
    }
}

/// The numbers of all plugins of one name, over all configs that a process has had.
pub(super) struct NameMeter {
    name: String,
    /// By core. Locked when a core first meets the plugin, and by the reader.
    cores: Mutex<Vec<Option<Arc<HookCells>>>>,
}

impl NameMeter {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), cores: Mutex::default() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A core's counters; a worker that takes another one's place goes on with its numbers.
    pub(super) fn cells(&self, core: usize) -> Arc<HookCells> {
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        if cores.len() <= core {
            cores.resize_with(core + 1, || None);
        }
        cores[core].get_or_insert_default().clone()
    }

    /// All cores together.
    pub(super) fn sample(&self) -> PluginSample {
        let cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sample = PluginSample { name: self.name.clone(), hooks: std::array::from_fn(|_| HookSample::new()) };
        for cells in cores.iter().flatten() {
            for (at, hook) in sample.hooks.iter_mut().enumerate() {
                hook.calls += cells.calls[at].load(Relaxed);
                hook.errors += cells.errors[at].load(Relaxed);
                hook.times.merge(&cells.times[at].read());
            }
        }
        sample
    }
}

/// One plugin at one moment.
#[derive(Clone, Debug)]
pub struct PluginSample {
    /// As the config calls it.
    pub name: String,
    /// By [`Hook`].
    pub hooks: [HookSample; HOOKS],
}

/// One hook of a plugin at one moment.
#[derive(Clone, Debug)]
pub struct HookSample {
    /// How often it was called.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// How long the calls took that were timed.
    pub times: Snapshot,
}

impl HookSample {
    fn new() -> Self {
        Self { calls: 0, errors: 0, times: Snapshot::empty(COMPACT) }
    }

    /// Nanoseconds that all calls took, as far as those that were timed can tell.
    pub fn nanos(&self) -> u64 {
        self.times.sum.saturating_mul(PLUGIN_TIMED_EVERY)
    }
}
