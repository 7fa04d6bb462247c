//! What changes while the process runs, in the table of metrics: configs and programs.

use super::defs::{Definition, Kind, ProcessValue, Source, Unit, process};

pub(super) const CONFIG_GENERATION: Definition = process(
    "ringfort_config_generation",
    Kind::Gauge,
    Unit::Count,
    ProcessValue::ConfigGeneration,
    "Which config is in force: counts from 1 with each that was.",
);

pub(super) const CONFIG_GENERATIONS_LIVE: Definition = process(
    "ringfort_config_generations_live",
    Kind::Gauge,
    Unit::Count,
    ProcessValue::ConfigGenerationsLive,
    "Configs in use: the one in force, and those that requests began with before it was.",
);

pub(super) const CONFIG_LAST_RELOAD_SUCCESSFUL: Definition = process(
    "ringfort_config_last_reload_successful",
    Kind::Gauge,
    Unit::Count,
    ProcessValue::ConfigLastReloadSuccessful,
    "Whether the last reload succeeded (1) or left the config before it in force (0).",
);

pub(super) const CONFIG_LAST_RELOAD_TIME: Definition = process(
    "ringfort_config_last_reload_success_timestamp_seconds",
    Kind::Gauge,
    Unit::Seconds,
    ProcessValue::ConfigLastReloadTime,
    "When a config was last put in force, in seconds since the Unix epoch.",
);

pub(super) const CONFIG_RELOADS: Definition = Definition {
    name: "ringfort_config_reloads_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    help: "Reloads by what came of them; all but success changed nothing.",
    labels: &["result"],
    source: Source::Reloads,
};

pub(super) const UPGRADES: Definition = Definition {
    name: "ringfort_upgrades_total",
    kind: Kind::Counter,
    unit: Unit::Count,
    help: "Binary upgrades by what came of them; success is counted by the successor, all else left this process serving.",
    labels: &["result"],
    source: Source::Upgrades,
};
