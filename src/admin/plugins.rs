//! `plugins` of `/status`: what plugins cost and how they fare.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Snapshot;
use crate::metrics::plugins::{HookSample, PluginSample};

/// One object for each plugin that was in force since the start.
pub(super) fn describe(snapshot: &Snapshot, uptime: Duration) -> Value {
    snapshot.plugins.sample().iter().map(|sample| describe_one(snapshot, sample, uptime)).collect()
}

fn describe_one(snapshot: &Snapshot, sample: &PluginSample, uptime: Duration) -> Value {
    let instances = snapshot.plugins.iter().filter(|instance| instance.name() == sample.name);
    let nanos: u64 = sample.hooks.iter().map(|hook| hook.nanos).sum();
    let hooks =
        sample.hooks.iter().filter(|hook| hook.calls > 0).map(|hook| (hook.hook.to_owned(), describe_hook(hook)));
    json!({
        "name": sample.name,
        "in_force": instances.count(),
        "busy_seconds": nanos as f64 / 1e9,
        // Of one core, since the start.
        "busy_share": nanos as f64 / (uptime.as_nanos() as f64).max(1.0),
        "hooks": hooks.collect::<serde_json::Map<_, _>>(),
    })
}

fn describe_hook(hook: &HookSample) -> Value {
    json!({ "calls": hook.calls, "errors": hook.errors, "timed": hook.times.percentiles() })
}
