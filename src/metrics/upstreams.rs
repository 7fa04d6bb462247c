//! The numbers of upstreams and their servers in the exposition: plain data, summed over cores by whoever has them, for
//! this module knows no upstream.

use std::fmt;

use super::defs::{BreakerState, Definition, ServerCounter, ServerFigure, ServerState, Source, UpstreamCounter};
use super::exposition::{ROUTE_BOUND_STEP, Seconds, sample, unique_labels, write_histogram};
use super::histogram::COMPACT;
use super::snapshot::Snapshot;
use crate::limits::UPSTREAM_LABEL_BYTES_MAX;

/// One upstream at one moment.
#[derive(Clone, Debug)]
pub struct UpstreamSample {
    /// As the config calls it; no two have the same name.
    pub name: String,
    /// By [`UpstreamCounter`], all cores together.
    pub counters: [u64; UpstreamCounter::COUNT],
    /// How requests ended, by the code that says so.
    pub terminations: Vec<(&'static str, u64)>,
    /// Requests that wait for a connection.
    pub pending: u64,
    /// Its servers, in the order of the config.
    pub servers: Vec<ServerSample>,
}

/// One server at one moment.
#[derive(Clone, Debug)]
pub struct ServerSample {
    /// Its address, as the config writes it. Two servers may have the same.
    pub name: String,
    /// Whether it gets requests.
    pub state: ServerState,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// By [`ServerCounter`], all cores together.
    pub counters: [u64; ServerCounter::COUNT],
    /// Requests in flight.
    pub in_flight: u64,
    /// Connections open, idle ones included.
    pub open: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// How often its breaker opened.
    pub breaker_opens: u64,
    /// How often its health changed.
    pub health_changes: u64,
    /// Times to the response head.
    pub latency: Snapshot,
    /// The moving average of these that the balance goes by, in nanoseconds, of the core that has the highest; 0 before any.
    pub latency_ewma: u64,
}

impl ServerSample {
    /// A server that is available and was never asked.
    pub fn new(name: String) -> Self {
        Self {
            name,
            state: ServerState::Available,
            breaker: BreakerState::Closed,
            counters: [0; ServerCounter::COUNT],
            in_flight: 0,
            open: 0,
            ejections: 0,
            breaker_opens: 0,
            health_changes: 0,
            latency: Snapshot::empty(COMPACT),
            latency_ewma: 0,
        }
    }

    fn figure(&self, figure: ServerFigure) -> u64 {
        match figure {
            ServerFigure::InFlight => self.in_flight,
            ServerFigure::Open => self.open,
            ServerFigure::Ejections => self.ejections,
            ServerFigure::BreakerOpens => self.breaker_opens,
            ServerFigure::HealthChanges => self.health_changes,
        }
    }
}

/// Writes the samples of one upstream, of a metric that is about upstreams.
pub(super) fn write_upstream(out: &mut String, definition: &Definition, upstream: &UpstreamSample) -> fmt::Result {
    let label = cut(&upstream.name);
    match definition.source {
        Source::Upstream(counter) => sample(out, definition, &[label], upstream.counters[counter as usize]),
        Source::UpstreamTerminations => {
            let seen = upstream.terminations.iter().filter(|(_, count)| *count > 0);
            seen.into_iter().try_for_each(|(code, count)| sample(out, definition, &[label, code], count))
        }
        Source::UpstreamPending => sample(out, definition, &[label], upstream.pending),
        _ => Ok(()),
    }
}

/// Writes the samples of all servers of one upstream, of a metric that is about servers.
pub(super) fn write_servers(out: &mut String, definition: &Definition, upstream: &UpstreamSample) -> fmt::Result {
    let names = upstream.servers.iter().map(|server| server.name.as_str()).enumerate();
    let labels = unique_labels(names, UPSTREAM_LABEL_BYTES_MAX);
    let servers = upstream.servers.iter().zip(&labels);
    servers
        .into_iter()
        .try_for_each(|(server, (_, label))| write_server(out, definition, server, [cut(&upstream.name), label]))
}

fn write_server(
    out: &mut String,
    definition: &Definition,
    server: &ServerSample,
    [upstream, name]: [&str; 2],
) -> fmt::Result {
    let count = |counter: ServerCounter| server.counters[counter as usize];
    match definition.source {
        Source::Server(counter) => sample(out, definition, &[upstream, name], count(counter)),
        Source::ServerBy(rows) => rows
            .iter()
            .try_for_each(|(counter, label)| sample(out, definition, &[upstream, name, label], count(*counter))),
        Source::ServerFigure(figure) => sample(out, definition, &[upstream, name], server.figure(figure)),
        Source::ServerStates => ServerState::ALL.into_iter().try_for_each(|state| {
            sample(out, definition, &[upstream, name, state.name()], u8::from(state == server.state))
        }),
        Source::ServerBreakers => BreakerState::ALL.into_iter().try_for_each(|state| {
            sample(out, definition, &[upstream, name, state.name()], u8::from(state == server.breaker))
        }),
        Source::ServerLatencyEwma => sample(out, definition, &[upstream, name], Seconds(server.latency_ewma)),
        Source::ServerLatency => write_histogram(out, definition, &[upstream, name], &server.latency, ROUTE_BOUND_STEP),
        _ => Ok(()),
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(UPSTREAM_LABEL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::aggregate::Aggregator;
    use crate::metrics::exposition::{ConfigSample, Facts, write_prometheus};
    use crate::metrics::process::ProcessSample;
    use crate::metrics::report::RouteNames;
    use crate::metrics::validator;
    use std::time::Duration;

    fn exposed(upstreams: &[UpstreamSample]) -> String {
        let facts = Facts {
            version: "0.1.0",
            executor: "compio",
            uptime: Duration::ZERO,
            log_lines_dropped: 0,
            config: ConfigSample::default(),
            life: Default::default(),
            upgrades: [0; 3],
            process: ProcessSample::default(),
            routes: RouteNames { generation: 1, patterns: &[] },
            workers: &[],
            upstreams,
            plugins: &[],
            guests: &[],
        };
        let mut out = String::new();
        write_prometheus(&mut out, &Aggregator::new(Duration::ZERO), &facts);
        out
    }

    fn upstream(name: &str, servers: &[&str]) -> UpstreamSample {
        let servers = servers.iter().map(|name| ServerSample::new((*name).to_owned())).collect();
        let counters = [0; UpstreamCounter::COUNT];
        UpstreamSample { name: name.to_owned(), counters, terminations: Vec::new(), pending: 0, servers }
    }

    #[test]
    fn every_number_of_an_upstream_and_its_servers_is_shown_under_its_own_name() {
        let mut api = upstream("api", &["10.0.0.1:80"]);
        api.counters = std::array::from_fn(|index| 100 + index as u64);
        api.pending = 7;
        api.terminations = vec![("--", 9), ("SH-closed", 0)];
        let server = &mut api.servers[0];
        server.counters = std::array::from_fn(|index| 200 + index as u64);
        (server.in_flight, server.open, server.ejections, server.breaker_opens, server.health_changes) =
            (1, 2, 3, 4, 5);
        (server.state, server.breaker) = (ServerState::Ejected, BreakerState::HalfOpen);
        server.latency.record(5_000_000);
        server.latency.record(50_000_000);
        let out = exposed(&[api]);
        let samples = validator::check(&out).unwrap();
        let of = |name: &str, more: &str| samples[&format!("ringfort_upstream_{name}{{upstream=\"api\"{more}}}")];
        let server = r#",server="10.0.0.1:80""#;
        let count = |counter: ServerCounter| 200.0 + counter as usize as f64;
        assert_eq!(of("server_requests_total", server), count(ServerCounter::Requests));
        assert_eq!(of("server_retries_total", server), count(ServerCounter::Retries));
        assert_eq!(of("server_failures_total", &format!("{server},kind=\"timeout\"")), count(ServerCounter::Timeouts));
        assert_eq!(of("server_responses_total", &format!("{server},class=\"5xx\"")), count(ServerCounter::Status5xx));
        let figures = [
            "requests_in_flight",
            "connections_open",
            "ejections_total",
            "breaker_opens_total",
            "health_changes_total",
        ];
        for (value, name) in figures.into_iter().enumerate() {
            assert_eq!(of(&format!("server_{name}"), server), 1.0 + value as f64, "{name}");
        }
        assert_eq!(of("requests_pending", ""), 7.0);
        assert_eq!(of("terminations_total", ",code=\"--\""), 9.0);
        assert!(!out.contains("SH-closed"), "codes that no request had are left out");
        assert_eq!(of("hedges_total", ""), 100.0 + UpstreamCounter::Hedges as usize as f64);
        for state in ServerState::ALL {
            let shown = of("server_state", &format!("{server},state=\"{}\"", state.name()));
            assert_eq!(shown == 1.0, state == ServerState::Ejected, "{state:?}");
        }
        assert_eq!(of("server_breaker_state", &format!("{server},state=\"half_open\"")), 1.0);
        assert_eq!(of("server_breaker_state", &format!("{server},state=\"closed\"")), 0.0);
        assert_eq!(of("server_response_head_seconds_count", server), 2.0);
        assert_eq!(of("server_response_head_seconds_sum", server), 0.055);
        assert_eq!(of("server_response_head_seconds_bucket", &format!("{server},le=\"0.008388608\"")), 1.0);
    }

    #[test]
    fn names_are_escaped_bounded_and_unique_within_their_upstream() {
        let long = "unix:/".to_owned() + &"ü".repeat(UPSTREAM_LABEL_BYTES_MAX);
        let servers = ["a:1", "a:1", "unix:/a\"b\\c", long.as_str()];
        let out = exposed(&[upstream("one", &servers), upstream("two", &servers)]);
        let samples = validator::check(&out).unwrap();
        for upstream in ["one", "two"] {
            for server in ["a:1", "a:1#1", r#"unix:/a\"b\\c"#] {
                let series =
                    format!("ringfort_upstream_server_requests_total{{upstream=\"{upstream}\",server=\"{server}\"}}");
                assert!(samples.contains_key(&series), "{series}");
            }
        }
        assert!(!out.contains(&"ü".repeat(UPSTREAM_LABEL_BYTES_MAX / 2)));
    }
}
