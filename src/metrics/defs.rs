//! The one table of all metrics: name, kind, unit, help, labels, and where the value comes from.
//!
//! The exposition walks [`TABLE`] in order, so a metric that is not in the table cannot be exposed, and tests show that
//! each counter and gauge of a core (see [`super::keys`]) is in it exactly once.
//! Names follow Prometheus: base units (`_seconds`, `_bytes`), `_total` at the end of counters, and `process_*` for what
//! every process exports, so that existing dashboards fit.

use super::guests::GuestSeries;
use super::plugins::PluginSeries;
use super::{changes, guests, life, plugins};

pub use super::keys::{
    BreakerState, Class, Counter, Driver, Gauge, LifeSeries, ServerCounter, ServerFigure, ServerState, UpstreamCounter,
};

/// What a sample of a metric means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases, except to start again from 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

/// The unit of a metric's value, which its name shows too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds, with fractions.
    Seconds,
    /// Bytes.
    Bytes,
    /// Always 1: the labels are the information.
    Info,
}

/// Where the samples of a metric come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One counter of each core; label `core`.
    PerCore(Counter),
    /// Several counters of each core, each with its value of the second label; labels `core` and that.
    PerCoreBy(&'static [(Counter, &'static str)]),
    /// One gauge of each running core; label `core`.
    CoreGauge(Gauge),
    /// 1 for the driver of each running core; labels `core`, `driver`.
    CoreDriver,
    /// Whether the core's worker reports; label `core`.
    CoreUp,
    /// Replaced workers of a core; label `core`.
    CoreRestarts,
    /// Time since the worker's last sign of life; label `core`.
    HeartbeatAge,
    /// Times that the worker stalled; label `core`.
    Stalls,
    /// Durations by status class, all cores together.
    ClassDurations,
    /// Quantiles of the last 1, 10 and 60 s, per core and over all (`core="all"`).
    WindowQuantiles,
    /// Requests per route and status class, all cores together.
    RouteRequests,
    /// Durations per route, all cores together.
    RouteDurations,
    /// One counter of each upstream, all cores together; label `upstream`.
    Upstream(UpstreamCounter),
    /// Requests that wait for a connection to the upstream; label `upstream`.
    UpstreamPending,
    /// How the upstream's requests ended, by code, all cores together; only codes that some request had. Labels `upstream`,
    /// `code`.
    UpstreamTerminations,
    /// One counter of each server, all cores together; labels `upstream`, `server`.
    Server(ServerCounter),
    /// Several of them, each with its value of the third label.
    ServerBy(&'static [(ServerCounter, &'static str)]),
    /// Another number of each server; labels `upstream`, `server`.
    ServerFigure(ServerFigure),
    /// 1 for the state that the server is in, 0 for all others; third label `state`.
    ServerStates,
    /// The same for its breaker.
    ServerBreakers,
    /// Times to the response head, all cores together; labels `upstream`, `server`.
    ServerLatency,
    /// The moving average of those.
    ServerLatencyEwma,
    /// Plugins, all cores together.
    Plugins(PluginSeries),
    /// What plugins in WebAssembly have defined, all cores together; labels `module`, `metric`.
    Guests(GuestSeries),
    /// The process's phase, services and health checks.
    Life(LifeSeries),
    /// The version and how it was built.
    Build,
    /// Reloads by what came of them; label `result`.
    Reloads,
    /// Binary upgrades by what came of them; label `result`.
    Upgrades,
    /// A value of the whole process.
    Process(ProcessValue),
}

/// Values of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessValue {
    /// Resident set, in bytes.
    ResidentBytes,
    /// Virtual address space, in bytes.
    VirtualBytes,
    /// User and system CPU time, in seconds.
    CpuSeconds,
    /// Open file descriptors.
    OpenFds,
    /// The limit of file descriptors.
    MaxFds,
    /// Threads.
    Threads,
    /// Start, in seconds since the Unix epoch.
    StartTime,
    /// Time since the start, in seconds.
    Uptime,
    /// Log lines that were dropped because the writer was behind.
    LogLinesDropped,
    /// Which config is in force, counted from 1.
    ConfigGeneration,
    /// Configs that are still used: the one in force, and those of requests that began before.
    ConfigGenerationsLive,
    /// Whether the last reload succeeded: 1 or 0.
    ConfigLastReloadSuccessful,
    /// When a config was last put in force, in seconds since the Unix epoch.
    ConfigLastReloadTime,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Name, without the suffixes of a histogram's series.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Unit.
    pub unit: Unit,
    /// One sentence for the operator.
    pub help: &'static str,
    /// Label names, in the order in which they are written; `le` of histograms is not among them.
    pub labels: &'static [&'static str],
    /// Where its samples come from.
    pub source: Source,
}

const CORE: &[&str] = &["core"];
const UPSTREAM: &[&str] = &["upstream"];
const SERVER: &[&str] = &["upstream", "server"];

const fn per_core(name: &'static str, unit: Unit, counter: Counter, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Counter, unit, help, labels: CORE, source: Source::PerCore(counter) }
}

const fn core_gauge(name: &'static str, gauge: Gauge, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Gauge, unit: Unit::Count, help, labels: CORE, source: Source::CoreGauge(gauge) }
}

const fn worker(name: &'static str, kind: Kind, source: Source, help: &'static str) -> Definition {
    Definition { name, kind, unit: Unit::Count, help, labels: CORE, source }
}

pub(super) const fn process(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    value: ProcessValue,
    help: &'static str,
) -> Definition {
    Definition { name, kind, unit, help, labels: &[], source: Source::Process(value) }
}

const fn upstream(name: &'static str, counter: UpstreamCounter, help: &'static str) -> Definition {
    let source = Source::Upstream(counter);
    Definition { name, kind: Kind::Counter, unit: Unit::Count, help, labels: UPSTREAM, source }
}

const fn server(name: &'static str, counter: ServerCounter, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Counter, unit: Unit::Count, help, labels: SERVER, source: Source::Server(counter) }
}

const fn server_figure(name: &'static str, kind: Kind, figure: ServerFigure, help: &'static str) -> Definition {
    Definition { name, kind, unit: Unit::Count, help, labels: SERVER, source: Source::ServerFigure(figure) }
}

/// Every metric, in the order of the exposition.
pub const TABLE: &[Definition] = &[
    Definition {
        name: "ringfort_build_info",
        kind: Kind::Gauge,
        unit: Unit::Info,
        help: "Always 1; the labels say what was built.",
        labels: &["version", "executor"],
        source: Source::Build,
    },
    life::PHASE,
    life::SERVICE_STATE,
    life::CHECK_PASSED,
    Definition {
        name: "ringfort_driver_info",
        kind: Kind::Gauge,
        unit: Unit::Info,
        help: "Always 1; the driver of the core's I/O.",
        labels: &["core", "driver"],
        source: Source::CoreDriver,
    },
    worker("ringfort_worker_up", Kind::Gauge, Source::CoreUp, "1 while the core's worker reports, otherwise 0."),
    worker("ringfort_worker_restarts_total", Kind::Counter, Source::CoreRestarts, "Times that it was started again."),
    worker(
        "ringfort_worker_stalls_total",
        Kind::Counter,
        Source::Stalls,
        "Times that the core's worker turned to nobody else for longer than cores.stall.",
    ),
    Definition {
        name: "ringfort_worker_heartbeat_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Time since the core's worker last came round; above cores.stall it does nothing else.",
        labels: CORE,
        source: Source::HeartbeatAge,
    },
    per_core(
        "ringfort_connections_accepted_total",
        Unit::Count,
        Counter::ConnectionsAccepted,
        "Client connections accepted.",
    ),
    per_core(
        "ringfort_connections_closed_total",
        Unit::Count,
        Counter::ConnectionsClosed,
        "Client connections closed.",
    ),
    per_core(
        "ringfort_connections_backpressured_total",
        Unit::Count,
        Counter::ConnectionsBackpressured,
        "Times that accepting stopped because the limit of connections was reached.",
    ),
    per_core(
        "ringfort_keepalive_reuses_total",
        Unit::Count,
        Counter::KeepaliveReuses,
        "Requests on a connection that had served one before.",
    ),
    per_core(
        "ringfort_pipelined_batches_total",
        Unit::Count,
        Counter::PipelinedBatches,
        "Batches of pipelined requests that were answered in one send.",
    ),
    Definition {
        name: "ringfort_requests_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Requests answered, by class of the status.",
        labels: &["core", "class"],
        source: Source::PerCoreBy(&[
            (Counter::Requests1xx, "1xx"),
            (Counter::Requests2xx, "2xx"),
            (Counter::Requests3xx, "3xx"),
            (Counter::Requests4xx, "4xx"),
            (Counter::Requests5xx, "5xx"),
        ]),
    },
    Definition {
        name: "ringfort_bad_requests_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Requests refused before routing, by reason.",
        labels: &["core", "reason"],
        source: Source::PerCoreBy(&[
            (Counter::BadSyntax, "syntax"),
            (Counter::BadFraming, "framing"),
            (Counter::BadTooLarge, "too_large"),
            (Counter::BadUnsupported, "unsupported"),
        ]),
    },
    Definition {
        name: "ringfort_timeouts_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Client connections closed by a time-out, by the key of the config that it is (`head_rate`: rates.head).",
        labels: &["core", "phase"],
        source: Source::PerCoreBy(&[
            (Counter::HeadTimeouts, "head"),
            (Counter::HeadRateTimeouts, "head_rate"),
            (Counter::BodyTimeouts, "body"),
            (Counter::BodyTotalTimeouts, "body_total"),
            (Counter::IdleTimeouts, "idle"),
            (Counter::WriteTimeouts, "write"),
            (Counter::WriteTotalTimeouts, "write_total"),
        ]),
    },
    per_core("ringfort_request_bytes_total", Unit::Bytes, Counter::RequestBytes, "Bytes received from clients."),
    per_core("ringfort_response_bytes_total", Unit::Bytes, Counter::ResponseBytes, "Bytes sent to clients."),
    per_core(
        "ringfort_handler_panics_total",
        Unit::Count,
        Counter::HandlerPanics,
        "Handlers that panicked; each was answered with 500.",
    ),
    per_core(
        "ringfort_short_sends_total",
        Unit::Count,
        Counter::ShortSends,
        "Sends that the kernel took only in part, and that were continued.",
    ),
    per_core(
        "ringfort_waited_sends_total",
        Unit::Count,
        Counter::WaitedSends,
        "Sends that had to wait until the socket could take more.",
    ),
    per_core(
        "ringfort_pool_exhaustions_total",
        Unit::Count,
        Counter::PoolExhaustions,
        "Times that no receive buffer was free and a connection had to wait.",
    ),
    per_core(
        "ringfort_receive_rearms_total",
        Unit::Count,
        Counter::ReceiveRearms,
        "Times that a multishot receive ended and was started again.",
    ),
    per_core(
        "ringfort_spilled_bytes_total",
        Unit::Bytes,
        Counter::SpilledBytes,
        "Bytes copied because a message did not lie in one receive buffer.",
    ),
    per_core(
        "ringfort_driver_fallbacks_total",
        Unit::Count,
        Counter::DriverFallbacks,
        "Starts on epoll although io_uring was preferred.",
    ),
    Definition {
        name: "ringfort_access_log_lines_dropped_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Lines of the access log that were lost: the writer was behind (`queue`), or could not write (`write`).",
        labels: &["core", "reason"],
        source: Source::PerCoreBy(&[(Counter::AccessLinesDropped, "queue"), (Counter::AccessLinesUnwritten, "write")]),
    },
    core_gauge("ringfort_connections_open", Gauge::ConnectionsOpen, "Client connections open now."),
    core_gauge("ringfort_requests_in_flight", Gauge::RequestsInFlight, "Requests whose response is not complete."),
    core_gauge("ringfort_buffers_in_use", Gauge::BuffersInUse, "Receive buffers that hold data."),
    core_gauge(
        "ringfort_buffers_high_water",
        Gauge::BuffersHighWater,
        "The most receive buffers in use at once since the core started.",
    ),
    core_gauge("ringfort_buffers", Gauge::BuffersTotal, "Receive buffers that the core has."),
    core_gauge("ringfort_draining", Gauge::Draining, "1 while the core drains, otherwise 0."),
    Definition {
        name: "ringfort_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        help: "Time from the first byte of a request to the end of its response, by class of the status, all cores.",
        labels: &["class"],
        source: Source::ClassDurations,
    },
    Definition {
        name: "ringfort_request_duration_window_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Quantiles of the duration of requests in the last seconds, per core and for all; quantile 1 is the maximum.",
        labels: &["core", "window", "quantile"],
        source: Source::WindowQuantiles,
    },
    Definition {
        name: "ringfort_route_requests_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Requests answered since the routes were loaded, by route and class of the status, all cores.",
        labels: &["route", "class"],
        source: Source::RouteRequests,
    },
    Definition {
        name: "ringfort_route_duration_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        help: "Duration of requests since the routes were loaded, by route, all cores.",
        labels: &["route"],
        source: Source::RouteDurations,
    },
    server(
        "ringfort_upstream_server_requests_total",
        ServerCounter::Requests,
        "Requests sent to the server, retries, hedges and copies included.",
    ),
    Definition {
        name: "ringfort_upstream_server_responses_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Responses of the server, by class of the status.",
        labels: &["upstream", "server", "class"],
        source: Source::ServerBy(&[(ServerCounter::Passed, "below_500"), (ServerCounter::Status5xx, "5xx")]),
    },
    Definition {
        name: "ringfort_upstream_server_failures_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Attempts at the server that failed, by kind.",
        labels: &["upstream", "server", "kind"],
        source: Source::ServerBy(&[
            (ServerCounter::ConnectFailures, "connect"),
            (ServerCounter::Failures, "no_response"),
            (ServerCounter::Timeouts, "timeout"),
            (ServerCounter::Invalid, "invalid"),
        ]),
    },
    server(
        "ringfort_upstream_server_retries_total",
        ServerCounter::Retries,
        "Attempts at the server after one at another had failed.",
    ),
    server(
        "ringfort_upstream_server_connections_opened_total",
        ServerCounter::Connections,
        "Connections to the server that were begun.",
    ),
    server(
        "ringfort_upstream_server_connection_reuses_total",
        ServerCounter::Reused,
        "Requests over a connection that had carried one before.",
    ),
    server("ringfort_upstream_server_tunnels_total", ServerCounter::Tunnels, "Connections that became tunnels."),
    server_figure(
        "ringfort_upstream_server_requests_in_flight",
        Kind::Gauge,
        ServerFigure::InFlight,
        "Requests under way to the server, tunnels included.",
    ),
    server_figure(
        "ringfort_upstream_server_connections_open",
        Kind::Gauge,
        ServerFigure::Open,
        "Connections to the server that are open, idle ones included.",
    ),
    Definition {
        name: "ringfort_upstream_server_state",
        kind: Kind::Gauge,
        unit: Unit::Count,
        help: "1 for the state that the server is in, 0 for all others; it gets requests while it is available.",
        labels: &["upstream", "server", "state"],
        source: Source::ServerStates,
    },
    Definition {
        name: "ringfort_upstream_server_breaker_state",
        kind: Kind::Gauge,
        unit: Unit::Count,
        help: "1 for the state that the server's circuit breaker is in, 0 for all others.",
        labels: &["upstream", "server", "state"],
        source: Source::ServerBreakers,
    },
    server_figure(
        "ringfort_upstream_server_ejections_total",
        Kind::Counter,
        ServerFigure::Ejections,
        "Times that the server was ejected for failures in a row.",
    ),
    server_figure(
        "ringfort_upstream_server_breaker_opens_total",
        Kind::Counter,
        ServerFigure::BreakerOpens,
        "Times that the server's circuit breaker opened, by failed probes too.",
    ),
    server_figure(
        "ringfort_upstream_server_health_changes_total",
        Kind::Counter,
        ServerFigure::HealthChanges,
        "Times that active checks found the server healthy or unhealthy anew.",
    ),
    Definition {
        name: "ringfort_upstream_server_response_head_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        help: "Time from the request, with its body, to the server's response head.",
        labels: SERVER,
        source: Source::ServerLatency,
    },
    Definition {
        name: "ringfort_upstream_server_latency_ewma_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Moving average of the time to the server's response head, as the balance uses it; the highest of all cores.",
        labels: SERVER,
        source: Source::ServerLatencyEwma,
    },
    Definition {
        name: "ringfort_upstream_requests_pending",
        kind: Kind::Gauge,
        unit: Unit::Count,
        help: "Requests that wait for a connection to a server of the upstream.",
        labels: UPSTREAM,
        source: Source::UpstreamPending,
    },
    Definition {
        name: "ringfort_upstream_terminations_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        help: "Requests forwarded, by how they ended: who (C, S, G, - for none), in which phase (C, Q, H, B, T), and why.",
        labels: &["upstream", "code"],
        source: Source::UpstreamTerminations,
    },
    upstream(
        "ringfort_upstream_unavailable_total",
        UpstreamCounter::Unavailable,
        "Requests that no server of the upstream was available for.",
    ),
    upstream(
        "ringfort_upstream_overflows_total",
        UpstreamCounter::Overflows,
        "Requests refused because as many as may waited for a connection.",
    ),
    upstream(
        "ringfort_upstream_budget_exhausted_total",
        UpstreamCounter::BudgetExhausted,
        "Retries and hedges that the retry budget did not allow.",
    ),
    upstream(
        "ringfort_upstream_hedges_total",
        UpstreamCounter::Hedges,
        "Requests sent to a second server because the first took its time.",
    ),
    upstream("ringfort_upstream_mirrored_total", UpstreamCounter::Mirrored, "Copies of requests sent to the upstream."),
    upstream(
        "ringfort_upstream_mirrors_dropped_total",
        UpstreamCounter::MirrorsDropped,
        "Copies of requests that were not sent: too many under way, a long body, or no server available.",
    ),
    plugins::CALLS,
    plugins::ERRORS,
    plugins::TIME,
    plugins::DURATIONS,
    guests::COUNTERS,
    guests::GAUGES,
    guests::HISTOGRAMS,
    process(
        "ringfort_log_lines_dropped_total",
        Kind::Counter,
        Unit::Count,
        ProcessValue::LogLinesDropped,
        "Log lines dropped because the writer was behind.",
    ),
    changes::CONFIG_GENERATION,
    changes::CONFIG_GENERATIONS_LIVE,
    changes::CONFIG_LAST_RELOAD_SUCCESSFUL,
    changes::CONFIG_LAST_RELOAD_TIME,
    changes::CONFIG_RELOADS,
    changes::UPGRADES,
    process(
        "ringfort_uptime_seconds",
        Kind::Gauge,
        Unit::Seconds,
        ProcessValue::Uptime,
        "Time since the process started.",
    ),
    process(
        "process_start_time_seconds",
        Kind::Gauge,
        Unit::Seconds,
        ProcessValue::StartTime,
        "Start of the process, in seconds since the Unix epoch.",
    ),
    process(
        "process_cpu_seconds_total",
        Kind::Counter,
        Unit::Seconds,
        ProcessValue::CpuSeconds,
        "User and system CPU time.",
    ),
    process("process_resident_memory_bytes", Kind::Gauge, Unit::Bytes, ProcessValue::ResidentBytes, "Resident memory."),
    process("process_virtual_memory_bytes", Kind::Gauge, Unit::Bytes, ProcessValue::VirtualBytes, "Virtual memory."),
    process("process_open_fds", Kind::Gauge, Unit::Count, ProcessValue::OpenFds, "Open file descriptors."),
    process("process_max_fds", Kind::Gauge, Unit::Count, ProcessValue::MaxFds, "Limit of open file descriptors."),
    process("process_threads", Kind::Gauge, Unit::Count, ProcessValue::Threads, "Threads of the process."),
];

#[cfg(test)]
mod tests;
