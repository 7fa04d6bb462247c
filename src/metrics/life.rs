//! The process's life in the exposition: its phase, its services, its health checks. Plain data, handed in by who knows it.

use std::fmt;

use super::defs::{Definition, Kind, LifeSeries, Source, Unit};
use super::exposition::sample;

/// What is shown of a process's life. Names are unique within their list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life<'a> {
    /// Every phase, and whether it is the one that the process is in.
    pub phases: &'a [(&'a str, bool)],
    /// Every service with every state, and whether it is the one that the service is in.
    pub services: &'a [(&'a str, &'a str, bool)],
    /// Every health check, and whether it passes.
    pub checks: &'a [(&'a str, bool)],
}

pub(super) const PHASE: Definition = gauge(
    "ringfort_phase",
    LifeSeries::Phases,
    "1 for the phase that the process is in, 0 for all others; it gets traffic while it is serving.",
    &["phase"],
);

pub(super) const SERVICE_STATE: Definition = gauge(
    "ringfort_service_state",
    LifeSeries::Services,
    "1 for the state that the service is in, 0 for all others.",
    &["service", "state"],
);

pub(super) const CHECK_PASSED: Definition = gauge(
    "ringfort_health_check_passed",
    LifeSeries::Checks,
    "1 while the health check passes, 0 while it fails, has not run yet or its result is too old.",
    &["check"],
);

const fn gauge(
    name: &'static str,
    series: LifeSeries,
    help: &'static str,
    labels: &'static [&'static str],
) -> Definition {
    Definition { name, kind: Kind::Gauge, unit: Unit::Count, help, labels, source: Source::Life(series) }
}

pub(super) fn write_life(
    out: &mut String,
    definition: &Definition,
    series: LifeSeries,
    life: &Life<'_>,
) -> fmt::Result {
    match series {
        LifeSeries::Phases => {
            life.phases.iter().try_for_each(|(phase, is_in)| sample(out, definition, &[phase], u8::from(*is_in)))
        }
        LifeSeries::Services => life
            .services
            .iter()
            .try_for_each(|(service, state, is_in)| sample(out, definition, &[service, state], u8::from(*is_in))),
        LifeSeries::Checks => {
            life.checks.iter().try_for_each(|(check, passes)| sample(out, definition, &[check], u8::from(*passes)))
        }
    }
}
