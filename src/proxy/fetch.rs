//! One short answer from somewhere that is no upstream: a connection of its own, for one request. On the master's thread.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use super::collect::{CollectError, Collector};
use crate::clock::Moment;
use crate::http::{HeadLimits, Parse, RequestKind, ResponseError, ResponseHead, Status, parse_response_head};
use crate::limits::PROBE_BYTES_MAX;
use crate::rt::{self, Remote};

/// Why there is no answer.
#[derive(Debug)]
pub enum FetchError {
    /// It could not be connected to, or broke off.
    Io(io::Error),
    /// It took too long.
    Timeout,
    /// What came is no response.
    Head(ResponseError),
    /// The body is too long, or not whole.
    Body(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Timeout => f.write_str("it took too long"),
            Self::Head(error) => write!(f, "invalid response head: {}", error.detail()),
            Self::Body(error) => f.write_str(error),
        }
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<CollectError> for FetchError {
    fn from(error: CollectError) -> Self {
        Self::Body(error.to_string())
    }
}

/// Sends a request, whole with its head, that asks for the connection to be closed behind the response: the status and a body
/// of at most `body_max` bytes, by `until` at the latest.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(
    remote: &Remote,
    request: &[u8],
    body_max: usize,
    until: Moment,
) -> Result<(Status, Vec<u8>), FetchError> {
    rt::timeout(until, fetch_whole(remote, request, body_max, until)).await.unwrap_or(Err(FetchError::Timeout))
}

async fn fetch_whole(
    remote: &Remote,
    request: &[u8],
    body_max: usize,
    until: Moment,
) -> Result<(Status, Vec<u8>), FetchError> {
    let (mut recv, mut send) = rt::from_socket(rt::connect(remote, until).await?);
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < request.len() {
            sent += ready!(send.poll_send(cx, &request[sent..]))?;
        }
        Poll::Ready(Ok::<_, io::Error>(()))
    })
    .await?;
    let limits = HeadLimits { head: PROBE_BYTES_MAX, ..HeadLimits::default() };
    let (mut bytes, mut head) = (Vec::new(), ResponseHead::new());
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    loop {
        match parse_response_head(&bytes, &limits, RequestKind::Other, &mut head).map_err(FetchError::Head)? {
            Parse::Complete if head.is_interim() => drop(bytes.drain(..head.len)),
            Parse::Complete => break,
            Parse::Partial => {
                let lease = poll_fn(|cx| recv.poll_recv(cx)).await?;
                if lease.is_empty() {
                    return Err(cut().into());
                }
                bytes.extend_from_slice(&lease);
            }
        }
    }
    let mut body = Collector::new(head.framing, body_max)?;
    body.push(&bytes[head.len..])?;
    while !body.is_whole() {
        let lease = poll_fn(|cx| recv.poll_recv(cx)).await?;
        if lease.is_empty() {
            break;
        }
        body.push(&lease)?;
    }
    Ok((head.status, body.finish()?))
}
