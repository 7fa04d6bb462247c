//! What a core counts: the indexes of its shard's arrays, and the label values that go with them.

/// Counters that each core keeps. Their order is that of the shard's array and means nothing else.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Client connections accepted.
    ConnectionsAccepted,
    /// Client connections closed, for whatever reason.
    ConnectionsClosed,
    /// Times that accepting stopped because `limits.connections` was reached.
    ConnectionsBackpressured,
    /// Requests on a connection that had served one before.
    KeepaliveReuses,
    /// Batches of at least two pipelined requests that were answered in one send.
    PipelinedBatches,
    /// Requests answered with 1xx (an upgrade).
    Requests1xx,
    /// Requests answered with 2xx.
    Requests2xx,
    /// Requests answered with 3xx.
    Requests3xx,
    /// Requests answered with 4xx.
    Requests4xx,
    /// Requests answered with 5xx.
    Requests5xx,
    /// Bytes received from clients: heads and bodies.
    RequestBytes,
    /// Bytes sent to clients: heads and bodies.
    ResponseBytes,
    /// Requests refused for their syntax: request line, header fields, `Host`.
    BadSyntax,
    /// Requests refused for ambiguous or invalid framing: lengths, transfer codings, chunks.
    BadFraming,
    /// Requests refused because head, target or body exceeds a limit.
    BadTooLarge,
    /// Requests refused for a version or an expectation that is not supported.
    BadUnsupported,
    /// Connections closed because a head took longer than `timeouts.head`.
    HeadTimeouts,
    /// Connections closed because a head came more slowly than `rates.head`.
    HeadRateTimeouts,
    /// Connections closed because a body paused for `timeouts.body`, or came more slowly than `rates.body` for that long.
    BodyTimeouts,
    /// Connections closed because a body was waited for longer than `timeouts.body_total`.
    BodyTotalTimeouts,
    /// Connections closed after `timeouts.idle` without a request; normal for clients that keep connections.
    IdleTimeouts,
    /// Connections closed because the client took nothing for `timeouts.write`, or took responses more slowly than
    /// `rates.write` for that long.
    WriteTimeouts,
    /// Connections closed because the client's taking its responses was waited for longer than `timeouts.write_total`.
    WriteTotalTimeouts,
    /// Handlers that panicked; each was answered with 500.
    HandlerPanics,
    /// Sends that the kernel took only in part, and that were continued.
    ShortSends,
    /// Sends that had to wait until the socket could take more.
    WaitedSends,
    /// Times that the buffer pool was empty and a connection had to wait.
    PoolExhaustions,
    /// Times that a multishot receive ended and was started again.
    ReceiveRearms,
    /// Bytes copied because a head or a body chunk did not lie in one receive buffer.
    SpilledBytes,
    /// Starts of the core on epoll although io_uring was preferred.
    DriverFallbacks,
    /// Lines of the access log that were dropped because the writer was behind.
    AccessLinesDropped,
    /// Lines of the access log that the writer could not write.
    AccessLinesUnwritten,
}

impl Counter {
    /// Number of counters.
    pub const COUNT: usize = Counter::AccessLinesUnwritten as usize + 1;
}

/// Gauges that each core keeps.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gauge {
    /// Client connections open now.
    ConnectionsOpen,
    /// Requests whose response is not complete.
    RequestsInFlight,
    /// Receive buffers that hold data.
    BuffersInUse,
    /// The most receive buffers that were in use at once since the core started.
    BuffersHighWater,
    /// Receive buffers that the core has.
    BuffersTotal,
    /// The driver that runs the core: a [`Driver`] as a number.
    DriverCode,
    /// 1 while the core drains, otherwise 0.
    Draining,
}

impl Gauge {
    /// Number of gauges.
    pub const COUNT: usize = Gauge::Draining as usize + 1;
}

/// What drives a core's I/O; the value of [`Gauge::DriverCode`].
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Not started yet.
    Unknown = 0,
    /// io_uring.
    IoUring = 1,
    /// epoll.
    Epoll = 2,
    /// The simulator.
    Simulated = 3,
}

impl Driver {
    /// The driver of a gauge's value.
    pub fn from_code(code: u64) -> Driver {
        match code {
            1 => Driver::IoUring,
            2 => Driver::Epoll,
            3 => Driver::Simulated,
            _ => Driver::Unknown,
        }
    }

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Unknown => "unknown",
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
            Driver::Simulated => "simulated",
        }
    }
}

/// The class of a response's status.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 1xx; as a final answer only 101.
    Informational,
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

impl Class {
    /// Number of classes.
    pub const COUNT: usize = 5;
    /// All classes, in order.
    pub const ALL: [Class; Class::COUNT] =
        [Class::Informational, Class::Success, Class::Redirection, Class::ClientError, Class::ServerError];

    /// The class of a status code; a code outside 100 to 599 counts as a server error, for no handler should give it.
    #[inline]
    pub const fn of_status(status: u16) -> Class {
        match status {
            100..=199 => Class::Informational,
            200..=299 => Class::Success,
            300..=399 => Class::Redirection,
            400..=499 => Class::ClientError,
            _ => Class::ServerError,
        }
    }

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Informational => "1xx",
            Class::Success => "2xx",
            Class::Redirection => "3xx",
            Class::ClientError => "4xx",
            Class::ServerError => "5xx",
        }
    }

    /// The core's counter of requests of this class.
    #[inline]
    pub const fn requests(self) -> Counter {
        match self {
            Class::Informational => Counter::Requests1xx,
            Class::Success => Counter::Requests2xx,
            Class::Redirection => Counter::Requests3xx,
            Class::ClientError => Counter::Requests4xx,
            Class::ServerError => Counter::Requests5xx,
        }
    }
}

/// A counter of one server.
#[repr(usize)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerCounter {
    /// Requests sent to it, retries, hedges and mirrored ones included.
    Requests,
    /// Responses with a status below 500.
    Passed,
    /// Responses with a status of 500 or more.
    Status5xx,
    /// Attempts without a connection.
    ConnectFailures,
    /// Attempts without a response, or without the whole of it.
    Failures,
    /// Attempts that ran out of time.
    Timeouts,
    /// Responses that break the rules.
    Invalid,
    /// Connections opened.
    Connections,
    /// Requests over a connection that had carried one before.
    Reused,
    /// Attempts at it after one at another server had failed.
    Retries,
    /// Connections that became tunnels.
    Tunnels,
}

impl ServerCounter {
    /// Number of counters.
    pub const COUNT: usize = Self::Tunnels as usize + 1;
}

/// A counter of one upstream.
#[repr(usize)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamCounter {
    /// Requests that no server was available for.
    Unavailable,
    /// Requests that were refused because too many waited for a connection.
    Overflows,
    /// Retries that the budget did not allow.
    BudgetExhausted,
    /// Requests that were sent to a second server because the first took its time.
    Hedges,
    /// Copies of requests that were sent.
    Mirrored,
    /// Copies that were not sent, because as many as may be were under way or the body was too long.
    MirrorsDropped,
}

impl UpstreamCounter {
    /// Number of counters.
    pub const COUNT: usize = Self::MirrorsDropped as usize + 1;
}

/// A number of one server that is no counter of the cores': a gauge, or what the process counts of its standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFigure {
    /// Requests in flight.
    InFlight,
    /// Connections open, idle ones included.
    Open,
    /// How often it was ejected.
    Ejections,
    /// How often its breaker opened.
    BreakerOpens,
    /// How often its health changed.
    HealthChanges,
}

/// Whether a server gets requests, and if not, why: the first of these that holds, from the second on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It gets requests.
    Available,
    /// The operator wants it to get none.
    Drained,
    /// Its active checks fail.
    Unhealthy,
    /// It failed too many requests in a row.
    Ejected,
    /// Its breaker is open, or half open with its one probe under way.
    BreakerOpen,
}

impl ServerState {
    /// All states.
    pub const ALL: [ServerState; 5] =
        [Self::Available, Self::Drained, Self::Unhealthy, Self::Ejected, Self::BreakerOpen];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Drained => "drained",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

/// A breaker, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests go through.
    Closed,
    /// None do.
    Open,
    /// One may, or is on its way.
    HalfOpen,
}

impl BreakerState {
    /// All states.
    pub const ALL: [BreakerState; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What came of a reload.
#[repr(usize)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// Another config is in force.
    Success,
    /// It was wrong.
    Invalid,
    /// It would change what no reload changes.
    Refused,
    /// It could not be done.
    Failed,
}

impl ReloadResult {
    /// All of them.
    pub const ALL: [ReloadResult; 4] = [Self::Success, Self::Invalid, Self::Refused, Self::Failed];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What is told of the process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeSeries {
    /// 1 for the phase that it is in, 0 for all others; label `phase`.
    Phases,
    /// 1 for the state that each service is in, 0 for all others; labels `service`, `state`.
    Services,
    /// Whether each health check passes; label `check`.
    Checks,
}

/// What came of a binary upgrade.
#[repr(usize)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeResult {
    /// The successor serves; it is the one that counts this.
    Success,
    /// No successor came to serve.
    Failed,
    /// It was not tried.
    Refused,
}

impl UpgradeResult {
    /// All of them.
    pub const ALL: [UpgradeResult; 3] = [Self::Success, Self::Failed, Self::Refused];

    /// Its name as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_of_a_status_is_its_first_digit() {
        for (status, name) in [(101, "1xx"), (200, "2xx"), (308, "3xx"), (499, "4xx"), (503, "5xx"), (0, "5xx")] {
            assert_eq!(Class::of_status(status).name(), name);
        }
        for driver in [Driver::Unknown, Driver::IoUring, Driver::Epoll, Driver::Simulated] {
            assert_eq!(Driver::from_code(driver as u64), driver);
        }
    }
}
