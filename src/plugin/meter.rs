//! What plugins cost and how they fare: calls, errors and times, by plugin and hook. One writer a core, read by the master.
//!
//! Calls and errors are counted exactly. Times are taken of one request in [`PLUGIN_TIMED_EVERY`]: reading the clock around
//! each hook of each request would cost more than most hooks do.

use std::sync::{Arc, Mutex, PoisonError};

use super::Hook;
use crate::limits::PLUGIN_TIMED_EVERY;
use crate::metrics::histogram::{COMPACT, SteadyHistogram};
use crate::metrics::plugins::{HookSample, PluginSample};
use crate::metrics::snapshot::Snapshot;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many hooks there are.
const HOOKS: usize = Hook::ALL.len();

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
        let hooks = Hook::ALL.into_iter().map(|hook| {
            let (mut calls, mut errors, mut times) = (0, 0, Snapshot::empty(COMPACT));
            for cells in cores.iter().flatten() {
                calls += cells.calls[hook as usize].load(Relaxed);
                errors += cells.errors[hook as usize].load(Relaxed);
                times.merge(&cells.times[hook as usize].read());
            }
            let nanos = times.sum.saturating_mul(PLUGIN_TIMED_EVERY);
            HookSample { hook: hook.name(), calls, errors, times, nanos }
        });
        PluginSample { name: self.name.clone(), hooks: hooks.collect() }
    }
}
