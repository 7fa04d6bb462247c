//! What plugins cost and how they fare, in the exposition. Plain data, summed over cores by whoever has it.

use std::fmt;

use super::defs::{Definition, Kind, Source, Unit};
use super::exposition::{ROUTE_BOUND_STEP, Seconds, sample, write_histogram};
use super::snapshot::Snapshot;

/// One plugin at one moment.
#[derive(Clone, Debug)]
pub struct PluginSample {
    /// As the config calls it; no two have the same name.
    pub name: String,
    /// Its hooks, in the order of a request's life.
    pub hooks: Vec<HookSample>,
}

/// One hook of a plugin at one moment.
#[derive(Clone, Debug)]
pub struct HookSample {
    /// Its name.
    pub hook: &'static str,
    /// How often it was called.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// How long the calls took that were timed.
    pub times: Snapshot,
    /// Nanoseconds that all calls took, as far as those that were timed can tell.
    pub nanos: u64,
}

/// What is shown of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginSeries {
    /// Calls; labels `plugin`, `hook`.
    Calls,
    /// Failures; labels `plugin`, `hook`.
    Errors,
    /// Times of the calls that were timed; labels `plugin`, `hook`.
    Durations,
    /// Time in all; label `plugin`.
    Time,
}

const HOOK: &[&str] = &["plugin", "hook"];

pub(super) const CALLS: Definition = counter(
    "ringfort_plugin_calls_total",
    Unit::Count,
    PluginSeries::Calls,
    HOOK,
    "Calls of the plugin's hook. Only hooks that were called are shown.",
);

pub(super) const ERRORS: Definition = counter(
    "ringfort_plugin_errors_total",
    Unit::Count,
    PluginSeries::Errors,
    HOOK,
    "Calls of the plugin's hook that failed.",
);

pub(super) const TIME: Definition = counter(
    "ringfort_plugin_busy_seconds_total",
    Unit::Seconds,
    PluginSeries::Time,
    &["plugin"],
    "Time that the plugin's hooks took, waiting included, estimated from one request in 64.",
);

pub(super) const DURATIONS: Definition = Definition {
    name: "ringfort_plugin_hook_duration_seconds",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    help: "Time that a call of the plugin's hook took, of one request in 64.",
    labels: HOOK,
    source: Source::Plugins(PluginSeries::Durations),
};

const fn counter(
    name: &'static str,
    unit: Unit,
    series: PluginSeries,
    labels: &'static [&'static str],
    help: &'static str,
) -> Definition {
    Definition { name, kind: Kind::Counter, unit, help, labels, source: Source::Plugins(series) }
}

/// Writes the samples of one series, of all plugins that were called.
pub(super) fn write_plugins(
    out: &mut String,
    definition: &Definition,
    series: PluginSeries,
    plugins: &[PluginSample],
) -> fmt::Result {
    for plugin in plugins {
        let name = plugin.name.as_str();
        if series == PluginSeries::Time {
            let nanos = plugin.hooks.iter().map(|hook| hook.nanos).sum();
            sample(out, definition, &[name], Seconds(nanos))?;
            continue;
        }
        for hook in plugin.hooks.iter().filter(|hook| hook.calls > 0) {
            let labels = [name, hook.hook];
            match series {
                PluginSeries::Calls => sample(out, definition, &labels, hook.calls)?,
                PluginSeries::Errors => sample(out, definition, &labels, hook.errors)?,
                PluginSeries::Durations => write_histogram(out, definition, &labels, &hook.times, ROUTE_BOUND_STEP)?,
                PluginSeries::Time => {}
            }
        }
    }
    Ok(())
}
