//! The fields that a line of the access log can have: a closed list, so that no secret gets into it by a name in a config.

macro_rules! fields {
    ($($(#[$doc:meta])+ $name:ident $text:literal;)+) => {
        /// A field of the access log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Field {
            $($(#[$doc])+ $name,)+
        }

        impl Field {
            /// All of them.
            pub const ALL: &[Field] = &[$(Field::$name),+];

            /// Its name, in the config and in the line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Field::$name => $text,)+
                }
            }
        }
    };
}

fields! {
    /// When the request had been answered: RFC 3339 in UTC, with microseconds.
    Time "time";
    /// The request's id: the one in error bodies, in the process log, and in what was forwarded.
    Id "id";
    /// The address and port at the other end of the connection.
    Peer "peer";
    /// The method, as it was sent.
    Method "method";
    /// The path, as it was sent; without the query.
    Path "path";
    /// The query, as it was sent. It may hold secrets (tokens in links): not among the default fields.
    Query "query";
    /// Host and port that were asked for.
    Host "host";
    /// `HTTP/1.0` or `HTTP/1.1`.
    Protocol "protocol";
    /// The status that was answered; 499 where the client left before there was one.
    Status "status";
    /// Bytes of the request that were read: head and body. Of a tunnel, also what its client sent through it.
    RequestBytes "request_bytes";
    /// Bytes of the response that the socket took: head and body. Of a tunnel, also what its client was sent through it.
    ResponseBytes "response_bytes";
    /// Microseconds from when the request, or the first of the batch that it came with, was received to the end of its response.
    DurationUs "duration_us";
    /// The route: host and pattern of the config.
    Route "route";
    /// `User-Agent`.
    UserAgent "user_agent";
    /// `Referer`, without its query, fragment and user: they may hold secrets.
    Referer "referer";
    /// Which worker answered it, counted from 0.
    Worker "worker";
    /// The upstream that it was forwarded to.
    Upstream "upstream";
    /// The upstream's server that answered, or failed last.
    Server "server";
    /// How many servers it was sent to, or would have been had they taken a connection.
    Attempts "attempts";
    /// Microseconds to connect to that server; left out where a connection was there already.
    UpstreamConnectUs "upstream_connect_us";
    /// Microseconds from the choice of the first server to the head of the response that was taken.
    UpstreamHeadUs "upstream_head_us";
    /// Microseconds from the choice of the first server to the end of the response, or of the tunnel.
    UpstreamUs "upstream_us";
    /// Who ended it, when and why: the codes of forwarded requests, which others have as far as they fit.
    Termination "termination";
    /// The trace's id, of `traceparent`.
    TraceId "trace_id";
}

impl Field {
    /// What a line has where the config names nothing else: no query, no referer, and what most requests have.
    pub const DEFAULT: &[Field] = &[
        Field::Time,
        Field::Id,
        Field::Peer,
        Field::Method,
        Field::Host,
        Field::Path,
        Field::Protocol,
        Field::Status,
        Field::RequestBytes,
        Field::ResponseBytes,
        Field::DurationUs,
        Field::Route,
        Field::UserAgent,
        Field::Upstream,
        Field::Server,
        Field::Attempts,
        Field::UpstreamConnectUs,
        Field::UpstreamHeadUs,
        Field::UpstreamUs,
        Field::Termination,
        Field::TraceId,
    ];
}
