//! The metrics as a serialisable structure, for the `/status` page: windows, and in each the cores, classes and routes.
//!
//! Rates are per second over the time that the window really covers (`seconds`), durations are in nanoseconds.

use std::time::Duration;

use serde::Serialize;

use super::aggregate::{Aggregator, CoreStatus, CoreSum, Window, WindowSums};
use super::defs::{Class, Counter, Driver, Gauge};
use super::route_history::RouteSum;
use super::snapshot::Percentiles;

/// The text that stands for a route, by its index in the routes of a config generation.
#[derive(Clone, Copy, Debug)]
pub struct RouteNames<'a> {
    /// The config generation; routes are not named, and not shown, while the aggregator is at another one.
    pub generation: u64,
    /// Pattern texts in the order of the routes, e.g. `/users/:id`.
    pub patterns: &'a [String],
}

impl<'a> RouteNames<'a> {
    /// The name of a route's cell; `other` for the last cell and for an index without a pattern.
    pub(super) fn of(&self, index: usize, other: usize) -> &'a str {
        let pattern = if index == other { None } else { self.patterns.get(index) };
        pattern.map_or("other", String::as_str)
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct MetricsReport {
    /// Each core's state.
    pub cores: Vec<CoreReport>,
    /// 1 s, 10 s, 60 s and lifetime.
    pub windows: Vec<WindowReport>,
}

/// A core's state at the last tick.
#[derive(Clone, Debug, Serialize)]
pub struct CoreReport {
    /// The core's id.
    pub core: u32,
    /// Whether its worker reports.
    pub up: bool,
    /// Times that its worker was replaced.
    pub restarts: u64,
    /// What drives its I/O.
    pub driver: &'static str,
    /// Whether it drains.
    pub draining: bool,
    /// Client connections open.
    pub connections_open: u64,
    /// Requests in flight.
    pub requests_in_flight: u64,
    /// Receive buffers that hold data.
    pub buffers_in_use: u64,
    /// The most of them at once since the worker started.
    pub buffers_high_water: u64,
    /// Receive buffers that the core has.
    pub buffers_total: u64,
}

/// Rates and percentiles over one window.
#[derive(Clone, Debug, Serialize)]
pub struct WindowReport {
    /// `1s`, `10s`, `60s` or `lifetime`.
    pub window: &'static str,
    /// The time that it covers, in seconds; 0 before the first tick, and all rates are then 0.
    pub seconds: f64,
    /// All cores together.
    pub total: Traffic,
    /// Each core.
    pub cores: Vec<CoreTraffic>,
    /// Each status class that had a request.
    pub classes: Vec<ClassTraffic>,
    /// The time that the routes' numbers cover, in seconds: back to the start of a ten-second slot.
    pub route_seconds: f64,
    /// Each route that had a request.
    pub routes: Vec<RouteTraffic>,
}

/// The traffic of a core, or of all.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Requests answered with 5xx per second.
    pub errors_per_second: f64,
    /// Connections accepted per second.
    pub connections_per_second: f64,
    /// Bytes received per second.
    pub request_bytes_per_second: f64,
    /// Bytes sent per second.
    pub response_bytes_per_second: f64,
    /// Durations of requests.
    pub latency: Percentiles,
}

/// The traffic of one core.
#[derive(Clone, Debug, Serialize)]
pub struct CoreTraffic {
    /// The core's id.
    pub core: u32,
    /// Its traffic.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// The traffic of one status class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassTraffic {
    /// `1xx` to `5xx`.
    pub class: &'static str,
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Durations of requests.
    pub latency: Percentiles,
}

/// The traffic of one route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteTraffic {
    /// Its index; two routes may have the same pattern (and differ in host or method).
    pub index: usize,
    /// Its pattern.
    pub route: String,
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Requests answered with 5xx per second.
    pub errors_per_second: f64,
    /// Durations of requests, within 6.25 %.
    pub latency: Percentiles,
}

/// Builds the report from the aggregator's numbers at its last tick.
pub fn build(aggregator: &Aggregator, names: RouteNames<'_>) -> MetricsReport {
    MetricsReport {
        cores: aggregator.cores().map(core_report).collect(),
        windows: Window::ALL.iter().map(|window| window_report(aggregator, *window, names)).collect(),
    }
}

fn core_report(status: CoreStatus<'_>) -> CoreReport {
    let gauge = |gauge: Gauge| status.gauges[gauge as usize];
    CoreReport {
        core: status.core,
        up: status.up,
        restarts: status.restarts,
        driver: Driver::from_code(gauge(Gauge::DriverCode)).name(),
        draining: gauge(Gauge::Draining) > 0,
        connections_open: gauge(Gauge::ConnectionsOpen),
        requests_in_flight: gauge(Gauge::RequestsInFlight),
        buffers_in_use: gauge(Gauge::BuffersInUse),
        buffers_high_water: gauge(Gauge::BuffersHighWater),
        buffers_total: gauge(Gauge::BuffersTotal),
    }
}

fn window_report(aggregator: &Aggregator, window: Window, names: RouteNames<'_>) -> WindowReport {
    let sums = aggregator.sums(window);
    let (route_span, routes) = aggregator.route_sums(window);
    let named = aggregator.routes_generation() == Some(names.generation);
    let other = aggregator.other_route();
    WindowReport {
        window: window.name(),
        seconds: sums.span.as_secs_f64(),
        total: traffic(&total(&sums), sums.span),
        cores: sums
            .cores
            .iter()
            .map(|(core, sum)| CoreTraffic { core: *core, traffic: traffic(sum, sums.span) })
            .collect(),
        classes: Class::ALL.iter().filter_map(|class| class_traffic(*class, &sums)).collect(),
        route_seconds: route_span.as_secs_f64(),
        routes: routes
            .filter(|(_, sum)| named && sum.requests.iter().any(|count| *count > 0))
            .map(|(index, sum)| route_traffic(index, names.of(index, other), &sum, route_span))
            .collect(),
    }
}

/// All cores' sums as one.
pub(super) fn total(sums: &WindowSums) -> CoreSum {
    let mut total = CoreSum::empty();
    sums.cores.values().for_each(|core| total.merge(core));
    total
}

fn per_second(count: u64, span: Duration) -> f64 {
    // Before the first tick nothing is covered; 0/0 would be NaN, which is not JSON.
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}

fn traffic(sum: &CoreSum, span: Duration) -> Traffic {
    let count = |counter: Counter| sum.counters[counter as usize];
    let requests = Class::ALL.iter().map(|class| count(class.requests())).sum();
    Traffic {
        requests_per_second: per_second(requests, span),
        errors_per_second: per_second(count(Counter::Requests5xx), span),
        connections_per_second: per_second(count(Counter::ConnectionsAccepted), span),
        request_bytes_per_second: per_second(count(Counter::RequestBytes), span),
        response_bytes_per_second: per_second(count(Counter::ResponseBytes), span),
        latency: sum.latency.percentiles(),
    }
}

fn class_traffic(class: Class, sums: &WindowSums) -> Option<ClassTraffic> {
    let latency = sums.classes[class as usize].percentiles();
    (latency.count > 0).then(|| ClassTraffic {
        class: class.name(),
        requests_per_second: per_second(latency.count, sums.span),
        latency,
    })
}

fn route_traffic(index: usize, route: &str, sum: &RouteSum, span: Duration) -> RouteTraffic {
    RouteTraffic {
        index,
        route: route.to_owned(),
        requests_per_second: per_second(sum.requests.iter().sum(), span),
        errors_per_second: per_second(sum.requests[Class::ServerError as usize], span),
        latency: sum.latency.percentiles(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::shard::{OTHER_ROUTE, ShardWriter};

    fn names() -> Vec<String> {
        vec!["/users/:id".to_owned()]
    }

    #[test]
    fn report_shows_rates_and_percentiles_of_every_window() {
        let writer = ShardWriter::create(2, 5, 1);
        let mut aggregator = Aggregator::new(Duration::ZERO);
        (0..30).for_each(|_| writer.record_request(0, Class::Success, 8_000));
        (0..10).for_each(|_| writer.record_request(OTHER_ROUTE, Class::ServerError, 1_000_000));
        writer.add(Counter::ResponseBytes, 500);
        writer.set(Gauge::DriverCode, Driver::Epoll as u64);
        aggregator.tick(Duration::from_secs(2), vec![writer.shard().read()]);
        let report = build(&aggregator, RouteNames { generation: 5, patterns: &names() });
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["cores"][0]["driver"], "epoll");
        for window in json["windows"].as_array().unwrap() {
            assert_eq!(window["total"]["requests_per_second"], 20.0);
            assert_eq!(window["cores"][0]["core"], 2);
            assert_eq!(window["cores"][0]["errors_per_second"], 5.0);
            assert_eq!(window["total"]["response_bytes_per_second"], 250.0);
            assert_eq!(window["total"]["latency"]["max_ns"], 1_000_000);
            assert_eq!(window["classes"][1]["class"], "5xx");
            assert_eq!(window["routes"][0]["route"], "/users/:id");
            assert_eq!(window["routes"][1]["route"], "other");
            assert_eq!(window["routes"][0]["latency"]["count"], 30);
        }
    }

    #[test]
    fn report_before_the_first_tick_holds_zeros_and_no_null() {
        let report = build(&Aggregator::new(Duration::ZERO), RouteNames { generation: 0, patterns: &[] });
        assert!(!serde_json::to_string(&report).unwrap().contains("null"));
    }

    #[test]
    fn routes_of_another_generation_are_not_shown_under_wrong_names() {
        let writer = ShardWriter::create(0, 6, 1);
        let mut aggregator = Aggregator::new(Duration::ZERO);
        writer.record_request(0, Class::Success, 8_000);
        aggregator.tick(Duration::from_secs(1), vec![writer.shard().read()]);
        let report = build(&aggregator, RouteNames { generation: 5, patterns: &names() });
        assert!(report.windows.iter().all(|window| window.routes.is_empty()));
    }
}
