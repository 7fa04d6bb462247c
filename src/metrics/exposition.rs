//! The metrics in Prometheus' text format 0.0.4, in the order of [`TABLE`].
//!
//! Bucket bounds are powers of two of nanoseconds, from 4.096 µs to 34 s: they are bucket boundaries of both layouts, so
//! the cumulative counts are exact and not interpolated. (A duration of exactly a bound, to the nanosecond, is counted in
//! the next bucket.) Routes have every second of them. Series for which there is nothing to say are left out: quantiles
//! of a window without requests, gauges of a core whose worker is missing, process values that cannot be read.
//!
//! Size: about 4 KiB for each core, 20 KiB in all besides, and for each route that had a request about 1.1 KiB and 19
//! times its label. Each server of an upstream takes about 4 KiB.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::time::Duration;

use super::aggregate::{Aggregator, CoreStatus, Window};
use super::defs::{Class, Definition, Driver, Gauge, Kind, ProcessValue, Source, TABLE};
use super::guests::{self, GuestSample};
use super::keys::{ReloadResult, UpgradeResult};
use super::life::{self, Life};
use super::plugins::{self, PluginSample};
use super::process::ProcessSample;
use super::pulse::WorkerSample;
use super::report::{self, RouteNames};
use super::snapshot::Snapshot;
use super::upstreams::{self, UpstreamSample};
use crate::limits::ROUTE_LABEL_BYTES_MAX;

/// The value of the header `Content-Type` for the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Binary logarithms of the bucket bounds, in nanoseconds. The last is below the layouts' range: what is above the range
/// is in the last bucket of all, and so only in `+Inf`.
const CLASS_BOUNDS: std::ops::RangeInclusive<u32> = 12..=35;
pub(super) const ROUTE_BOUND_STEP: u32 = 2;

/// The configs of the process so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfigSample {
    /// How many are in use.
    pub live: usize,
    /// Reloads, indexed by [`ReloadResult`].
    pub reloads: [u64; ReloadResult::ALL.len()],
    /// Whether the last one succeeded.
    pub last_succeeded: bool,
    /// When a config was last put in force, since the Unix epoch.
    pub put_in_force: Duration,
}

/// What the exposition shows besides the aggregator's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The version, e.g. `0.1.0`.
    pub version: &'a str,
    /// The executor that was built in and is used, e.g. `compio`.
    pub executor: &'a str,
    /// Time since the process started.
    pub uptime: Duration,
    /// Log lines dropped since then.
    pub log_lines_dropped: u64,
    /// The configs so far.
    pub config: ConfigSample,
    /// Its phase, services and health checks.
    pub life: Life<'a>,
    /// Binary upgrades, indexed by [`UpgradeResult`].
    pub upgrades: [u64; UpgradeResult::ALL.len()],
    /// The process's own numbers.
    pub process: ProcessSample,
    /// The routes' names.
    pub routes: RouteNames<'a>,
    /// The workers' signs of life.
    pub workers: &'a [WorkerSample],
    /// The upstreams.
    pub upstreams: &'a [UpstreamSample],
    /// The plugins.
    pub plugins: &'a [PluginSample],
    /// What those in WebAssembly have defined.
    pub guests: &'a [GuestSample],
}

/// Appends the text to `out`.
pub fn write_prometheus(out: &mut String, aggregator: &Aggregator, facts: &Facts<'_>) {
    let routes = route_labels(aggregator, facts.routes);
    for definition in TABLE {
        // Writing to a String cannot fail.
        let _ = write_metric(out, definition, aggregator, facts, &routes);
    }
}

fn write_metric(
    out: &mut String,
    definition: &Definition,
    aggregator: &Aggregator,
    facts: &Facts<'_>,
    routes: &[(usize, String)],
) -> fmt::Result {
    write_definition_header(out, definition)?;
    match definition.source {
        Source::Build => sample(out, definition, &[facts.version, facts.executor], 1),
        Source::Reloads => ReloadResult::ALL
            .iter()
            .try_for_each(|result| sample(out, definition, &[result.name()], facts.config.reloads[*result as usize])),
        Source::Life(series) => life::write_life(out, definition, series, &facts.life),
        Source::Upgrades => UpgradeResult::ALL
            .iter()
            .try_for_each(|result| sample(out, definition, &[result.name()], facts.upgrades[*result as usize])),
        Source::Process(value) => write_process(out, definition, value, facts),
        Source::ClassDurations => {
            for class in Class::ALL {
                let latency = &aggregator.class_latency()[class as usize];
                write_histogram(out, definition, &[class.name()], latency, 1)?;
            }
            Ok(())
        }
        Source::WindowQuantiles => write_quantiles(out, definition, aggregator),
        Source::RouteRequests | Source::RouteDurations => write_routes(out, definition, aggregator, routes),
        Source::Upstream(_) | Source::UpstreamPending | Source::UpstreamTerminations => {
            facts.upstreams.iter().try_for_each(|upstream| upstreams::write_upstream(out, definition, upstream))
        }
        Source::Plugins(series) => plugins::write_plugins(out, definition, series, facts.plugins),
        Source::Guests(series) => guests::write_guests(out, definition, series, facts.guests),
        Source::Server(_)
        | Source::ServerBy(_)
        | Source::ServerFigure(_)
        | Source::ServerStates
        | Source::ServerBreakers
        | Source::ServerLatency
        | Source::ServerLatencyEwma => {
            facts.upstreams.iter().try_for_each(|upstream| upstreams::write_servers(out, definition, upstream))
        }
        Source::HeartbeatAge => facts.workers.iter().try_for_each(|worker| {
            sample(out, definition, &[&worker.core.to_string()], worker.heartbeat_age.as_secs_f64())
        }),
        Source::Stalls => facts
            .workers
            .iter()
            .try_for_each(|worker| sample(out, definition, &[&worker.core.to_string()], worker.stalls)),
        Source::PerCore(_)
        | Source::PerCoreBy(_)
        | Source::CoreGauge(_)
        | Source::CoreDriver
        | Source::CoreUp
        | Source::CoreRestarts => aggregator.cores().try_for_each(|core| write_core(out, definition, &core)),
    }
}

pub(super) fn write_definition_header(out: &mut String, definition: &Definition) -> fmt::Result {
    let kind = match definition.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let help = definition.help.replace('\\', r"\\").replace('\n', r"\n");
    writeln!(out, "# HELP {} {help}\n# TYPE {} {kind}", definition.name, definition.name)
}

/// One sample; `values` belong to the definition's labels in order.
pub(super) fn sample(
    out: &mut String,
    definition: &Definition,
    values: &[&str],
    value: impl fmt::Display,
) -> fmt::Result {
    series(out, definition, "", values, None, value)
}

pub(super) fn series(
    out: &mut String,
    definition: &Definition,
    suffix: &str,
    values: &[&str],
    bound: Option<&str>,
    value: impl fmt::Display,
) -> fmt::Result {
    debug_assert_eq!(definition.labels.len(), values.len(), "{}", definition.name);
    write!(out, "{}{suffix}", definition.name)?;
    let labels = definition.labels.iter().zip(values).map(|(name, value)| (*name, *value));
    let mut separator = '{';
    for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        write!(out, "{separator}{name}=\"")?;
        write_escaped(out, value)?;
        out.write_char('"')?;
        separator = ',';
    }
    let end = if separator == ',' { "}" } else { "" };
    writeln!(out, "{end} {value}")
}

fn write_escaped(out: &mut String, value: &str) -> fmt::Result {
    value.chars().try_for_each(|c| match c {
        '\\' => out.write_str(r"\\"),
        '"' => out.write_str("\\\""),
        '\n' => out.write_str(r"\n"),
        c => out.write_char(c),
    })
}

fn write_core(out: &mut String, definition: &Definition, status: &CoreStatus<'_>) -> fmt::Result {
    let core = status.core.to_string();
    match definition.source {
        Source::PerCore(counter) => sample(out, definition, &[&core], status.counters[counter as usize]),
        Source::PerCoreBy(rows) => rows.iter().try_for_each(|(counter, label)| {
            sample(out, definition, &[&core, label], status.counters[*counter as usize])
        }),
        Source::CoreUp => sample(out, definition, &[&core], u8::from(status.up)),
        Source::CoreRestarts => sample(out, definition, &[&core], status.restarts),
        Source::CoreGauge(gauge) if status.up => sample(out, definition, &[&core], status.gauges[gauge as usize]),
        Source::CoreDriver if status.up => {
            let driver = Driver::from_code(status.gauges[Gauge::DriverCode as usize]);
            sample(out, definition, &[&core, driver.name()], 1)
        }
        _ => Ok(()),
    }
}

fn write_process(out: &mut String, definition: &Definition, value: ProcessValue, facts: &Facts<'_>) -> fmt::Result {
    let process = &facts.process;
    let number: Option<f64> = match value {
        ProcessValue::ResidentBytes => process.resident_bytes.map(|n| n as f64),
        ProcessValue::VirtualBytes => process.virtual_bytes.map(|n| n as f64),
        ProcessValue::CpuSeconds => process.cpu_seconds,
        ProcessValue::OpenFds => process.open_fds.map(|n| n as f64),
        ProcessValue::MaxFds => process.max_fds.map(|n| n as f64),
        ProcessValue::Threads => process.threads.map(|n| n as f64),
        ProcessValue::StartTime => process.start_time_seconds,
        ProcessValue::Uptime => Some(facts.uptime.as_secs_f64()),
        ProcessValue::LogLinesDropped => Some(facts.log_lines_dropped as f64),
        ProcessValue::ConfigGeneration => Some(facts.routes.generation as f64),
        ProcessValue::ConfigGenerationsLive => Some(facts.config.live as f64),
        ProcessValue::ConfigLastReloadSuccessful => Some(f64::from(u8::from(facts.config.last_succeeded))),
        ProcessValue::ConfigLastReloadTime => Some(facts.config.put_in_force.as_secs_f64()),
    };
    number.map_or(Ok(()), |number| sample(out, definition, &[], number))
}

/// A histogram's series with every `step`th bound.
pub(super) fn write_histogram(
    out: &mut String,
    definition: &Definition,
    labels: &[&str],
    latency: &Snapshot,
    step: u32,
) -> fmt::Result {
    for exponent in CLASS_BOUNDS.filter(|exponent| (CLASS_BOUNDS.end() - exponent).is_multiple_of(step)) {
        let bound = Seconds(1 << exponent).to_string();
        series(out, definition, "_bucket", labels, Some(&bound), latency.count_below_power(exponent))?;
    }
    let count = latency.count();
    series(out, definition, "_bucket", labels, Some("+Inf"), count)?;
    series(out, definition, "_sum", labels, None, Seconds(latency.sum))?;
    series(out, definition, "_count", labels, None, count)
}

fn write_quantiles(out: &mut String, definition: &Definition, aggregator: &Aggregator) -> fmt::Result {
    for window in [Window::Second, Window::TenSeconds, Window::Minute] {
        let sums = aggregator.sums(window);
        let total = report::total(&sums);
        let all = std::iter::once(("all".to_owned(), &total));
        for (core, sum) in all.chain(sums.cores.iter().map(|(core, sum)| (core.to_string(), sum))) {
            let found = sum.latency.percentiles();
            if found.count == 0 {
                continue;
            }
            for (quantile, nanos) in [
                ("0.5", found.p50_ns),
                ("0.9", found.p90_ns),
                ("0.99", found.p99_ns),
                ("0.999", found.p999_ns),
                ("1", found.max_ns),
            ] {
                sample(out, definition, &[&core, window.name(), quantile], Seconds(nanos))?;
            }
        }
    }
    Ok(())
}

fn write_routes(
    out: &mut String,
    definition: &Definition,
    aggregator: &Aggregator,
    labels: &[(usize, String)],
) -> fmt::Result {
    // Both go by ascending index, and `labels` is empty while the names are of another generation.
    for ((_, sum), (_, label)) in aggregator.route_lifetimes().zip(labels) {
        if definition.source == Source::RouteRequests {
            for class in Class::ALL.into_iter().filter(|class| sum.requests[*class as usize] > 0) {
                sample(out, definition, &[label, class.name()], sum.requests[class as usize])?;
            }
        } else {
            write_histogram(out, definition, &[label], &sum.latency, ROUTE_BOUND_STEP)?;
        }
    }
    Ok(())
}

/// The labels of the routes that have numbers: cut to their bound, and made unique, for a scraper refuses the whole
/// text if one series is in it twice.
fn route_labels(aggregator: &Aggregator, names: RouteNames<'_>) -> Vec<(usize, String)> {
    if aggregator.routes_generation() != Some(names.generation) {
        return Vec::new();
    }
    let names = aggregator.route_lifetimes().map(|(index, _)| (index, names.of(index, aggregator.other_route())));
    unique_labels(names, ROUTE_LABEL_BYTES_MAX)
}

/// Names as labels: cut to their bound in bytes, and made unique by their index.
pub(super) fn unique_labels<'n>(
    names: impl Iterator<Item = (usize, &'n str)>,
    bytes_max: usize,
) -> Vec<(usize, String)> {
    let mut used = HashSet::new();
    let labels = names.map(|(index, name)| {
        let mut label = name[..name.floor_char_boundary(bytes_max)].to_owned();
        while !used.insert(label.clone()) {
            let _ = write!(label, "#{index}");
        }
        (index, label)
    });
    labels.collect()
}

/// Nanoseconds, shown as seconds with all their digits and no more.
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if nanos == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{nanos:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::defs::Counter;
    use crate::metrics::histogram::{COMPACT, FULL};
    use crate::metrics::process;
    use crate::metrics::shard::{OTHER_ROUTE, ShardWriter};
    use crate::metrics::validator;

    fn patterns() -> Vec<String> {
        ["/a\"b\\c\nd", "/same", "/same", &"/ü".repeat(500)].map(str::to_owned).to_vec()
    }

    fn facts(patterns: &[String]) -> Facts<'_> {
        Facts {
            version: "0.1.0",
            executor: "compio",
            uptime: Duration::from_millis(12_500),
            log_lines_dropped: 3,
            config: ConfigSample::default(),
            life: Life {
                phases: &[("starting", false), ("serving", true)],
                services: &[("db", "ready", true), ("db", "failed", false)],
                checks: &[("disk", true)],
            },
            upgrades: [0; UpgradeResult::ALL.len()],
            process: process::read(),
            routes: RouteNames { generation: 1, patterns },
            workers: const { &[WorkerSample { core: 1, heartbeat_age: Duration::from_millis(250), stalls: 2 }] },
            upstreams: &[],
            plugins: &[],
            guests: &[],
        }
    }

    fn busy_aggregator() -> Aggregator {
        let (a, b) = (ShardWriter::create(0, 1, 4), ShardWriter::create(1, 1, 4));
        let mut aggregator = Aggregator::new(Duration::ZERO);
        for second in 1..=20 {
            for n in 0..200usize {
                a.record_request(n % 5, Class::ALL[n % 5], (n as u64).pow(4));
                b.record_request(OTHER_ROUTE, Class::Success, u64::MAX >> 20);
            }
            a.add(Counter::RequestBytes, 1000);
            a.set(Gauge::DriverCode, Driver::IoUring as u64);
            let both = vec![a.shard().read(), b.shard().read()];
            aggregator.tick(Duration::from_secs(second), both);
        }
        aggregator.tick(Duration::from_secs(21), vec![a.shard().read()]);
        aggregator
    }

    #[test]
    fn text_is_accepted_by_a_strict_validator_and_holds_what_was_recorded() {
        let (names, mut out) = (patterns(), String::new());
        write_prometheus(&mut out, &busy_aggregator(), &facts(&names));
        let samples = validator::check(&out).unwrap();
        let value = |series: &str| samples.get(series).copied();
        assert_eq!(value(r#"ringfort_requests_total{core="1",class="2xx"}"#), Some(4000.0));
        assert_eq!(value(r#"ringfort_request_bytes_total{core="0"}"#), Some(20_000.0));
        assert_eq!(value(r#"ringfort_driver_info{core="0",driver="io_uring"}"#), Some(1.0));
        assert_eq!(value(r#"ringfort_worker_up{core="1"}"#), Some(0.0));
        assert_eq!(value(r#"ringfort_draining{core="1"}"#), None);
        assert_eq!(value(r#"ringfort_build_info{version="0.1.0",executor="compio"}"#), Some(1.0));
        assert_eq!(value(r#"ringfort_request_duration_seconds_count{class="3xx"}"#), Some(800.0));
        assert_eq!(value(r#"ringfort_request_duration_seconds_bucket{class="2xx",le="+Inf"}"#), Some(4800.0));
        assert_eq!(value(r#"ringfort_route_requests_total{route="other",class="2xx"}"#), Some(4000.0));
        assert_eq!(value(r#"ringfort_route_requests_total{route="/a\"b\\c\nd",class="1xx"}"#), Some(800.0));
        assert!(value(r#"ringfort_route_duration_seconds_count{route="/same#2"}"#).is_some());
        assert!(
            value(r#"ringfort_request_duration_window_seconds{core="all",window="10s",quantile="0.99"}"#).is_some()
        );
        assert_eq!(value(r#"ringfort_phase{phase="serving"}"#), Some(1.0));
        assert_eq!(value(r#"ringfort_service_state{service="db",state="failed"}"#), Some(0.0));
        assert_eq!(value(r#"ringfort_health_check_passed{check="disk"}"#), Some(1.0));
        assert_eq!(value("ringfort_log_lines_dropped_total"), Some(3.0));
        assert_eq!(value("ringfort_uptime_seconds"), Some(12.5));
        assert!(value("process_resident_memory_bytes").unwrap() > 1.0e5);
        assert!(!out.contains("NaN") && !out.contains(&"ü".repeat(ROUTE_LABEL_BYTES_MAX)));
    }

    #[test]
    fn text_before_the_first_tick_is_valid() {
        let mut out = String::new();
        let unread = Facts { process: ProcessSample::default(), ..facts(&[]) };
        write_prometheus(&mut out, &Aggregator::new(Duration::ZERO), &unread);
        let samples = validator::check(&out).unwrap();
        assert!(!samples.contains_key("process_open_fds"));
    }

    #[test]
    fn bounds_are_bucket_boundaries_of_both_layouts() {
        for (layout, exponent) in CLASS_BOUNDS.flat_map(|exponent| [(FULL, exponent), (COMPACT, exponent)]) {
            assert_eq!(layout.lower_bound(layout.index_of(1 << exponent)), 1 << exponent);
        }
    }

    #[test]
    fn nanoseconds_are_shown_as_exact_seconds() {
        for (nanos, text) in [(0, "0"), (4096, "0.000004096"), (1_500_000_000, "1.5"), (3_000_000_000, "3")] {
            assert_eq!(Seconds(nanos).to_string(), text);
        }
    }

    #[test]
    fn validator_refuses_what_a_scraper_would() {
        for wrong in [
            "a_total 1\n",
            "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
            "# HELP a x\n# TYPE a gauge\na NaN\n",
            "# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n",
            "# HELP a x\n# TYPE a gauge\na{b=\"c\" 1\n",
            "# HELP a x\n# TYPE a gauge\na 1",
            "# HELP a x\n# TYPE a gauge\n# HELP a x\n# TYPE a gauge\n",
            "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
            "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 3\n",
            "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        ] {
            assert!(validator::check(wrong).is_err(), "{wrong}");
        }
    }
}
