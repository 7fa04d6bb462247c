//! How an attempt at a server fails, and what that means for the client.

use std::fmt;
use std::io;

use super::counters::ServerCounter;
use super::standing::FailureKind;
use crate::handler::Failure;
use crate::http::{ChunkError, ResponseError, Status};

/// Why one attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptError {
    /// No connection.
    Connect(io::ErrorKind),
    /// The name of the server has no address.
    Unresolved,
    /// As many requests as may wait for a connection.
    Full,
    /// The request could not be sent.
    Send(io::ErrorKind),
    /// The server took nothing of the request for too long.
    SendTimeout,
    /// The connection failed before the response head ended.
    Receive(io::ErrorKind),
    /// The server closed the connection before it said anything.
    Closed,
    /// The server closed the connection within the response head.
    HeadCut,
    /// The response, or more of it, did not come in time.
    ResponseTimeout,
    /// What came is no response.
    Protocol(ResponseError),
    /// The response's body breaks the rules of its framing.
    Chunk(ChunkError),
    /// The connection ended within the response's body.
    BodyCut,
    /// The server switched protocols, though nobody asked for it.
    Upgrade,
}

impl AttemptError {
    /// Whether nothing of the request can have reached the server.
    pub(super) fn is_before_sending(self) -> bool {
        matches!(self, Self::Connect(_) | Self::Unresolved | Self::Full)
    }

    /// Whether a connection that was idle before may have been closed by then.
    pub(super) fn is_stale(self) -> bool {
        matches!(self, Self::Send(_) | Self::Receive(_) | Self::Closed)
    }

    /// What it counts as, for the server's standing; `None` where the server is not to blame.
    pub(super) fn kind(self) -> Option<FailureKind> {
        match self {
            Self::Full => None,
            Self::Connect(_) | Self::Unresolved => Some(FailureKind::Connect),
            Self::Protocol(_) | Self::Chunk(_) | Self::Upgrade => Some(FailureKind::Protocol),
            Self::Send(_)
            | Self::SendTimeout
            | Self::Receive(_)
            | Self::Closed
            | Self::HeadCut
            | Self::ResponseTimeout
            | Self::BodyCut => Some(FailureKind::NoResponse),
        }
    }

    /// What it is counted as.
    pub(super) fn counter(self) -> Option<ServerCounter> {
        match self {
            Self::Full => None,
            Self::Connect(_) | Self::Unresolved => Some(ServerCounter::ConnectFailures),
            Self::SendTimeout | Self::ResponseTimeout => Some(ServerCounter::Timeouts),
            Self::Protocol(_) | Self::Chunk(_) | Self::Upgrade => Some(ServerCounter::Invalid),
            Self::Send(_) | Self::Receive(_) | Self::Closed | Self::HeadCut | Self::BodyCut => {
                Some(ServerCounter::Failures)
            }
        }
    }

    /// What the client is told.
    pub(super) fn failure(self) -> Failure {
        let (status, detail) = match self {
            Self::Connect(io::ErrorKind::TimedOut) => {
                (Status::GATEWAY_TIMEOUT, "the upstream could not be reached in time")
            }
            Self::Connect(_) | Self::Unresolved => (Status::BAD_GATEWAY, "the upstream could not be reached"),
            Self::Full => (Status::SERVICE_UNAVAILABLE, "the upstream is busy"),
            Self::SendTimeout | Self::ResponseTimeout => {
                (Status::GATEWAY_TIMEOUT, "the upstream did not answer in time")
            }
            Self::Send(_) | Self::Receive(_) | Self::Closed | Self::HeadCut | Self::BodyCut => {
                (Status::BAD_GATEWAY, "the upstream closed the connection")
            }
            Self::Protocol(_) | Self::Chunk(_) | Self::Upgrade => {
                (Status::BAD_GATEWAY, "the upstream sent an invalid response")
            }
        };
        Failure::Status(status, detail)
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(kind) => write!(f, "cannot connect: {kind}"),
            Self::Unresolved => f.write_str("its name has no address"),
            Self::Full => f.write_str("no connection is free"),
            Self::Send(kind) => write!(f, "cannot send the request: {kind}"),
            Self::SendTimeout => f.write_str("it did not take the request in time"),
            Self::Receive(kind) => write!(f, "cannot receive the response: {kind}"),
            Self::Closed => f.write_str("it closed the connection without a response"),
            Self::HeadCut => f.write_str("it closed the connection within the response head"),
            Self::ResponseTimeout => f.write_str("the response did not come in time"),
            Self::Protocol(error) => write!(f, "invalid response head: {error}"),
            Self::Chunk(error) => write!(f, "invalid response body: {error}"),
            Self::BodyCut => f.write_str("it closed the connection within the response body"),
            Self::Upgrade => f.write_str("it switched protocols unasked"),
        }
    }
}
