//! One short answer from somewhere that is no upstream: a connection of its own, with TLS or without, for one request. On the
//! master's thread.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use super::collect::{CollectError, Collector};
use crate::clock::Moment;
use crate::http::{
    HeadLimits, Parse, RequestKind, ResponseError, ResponseFraming, ResponseHead, Status, parse_response_head,
};
use crate::limits::{FETCH_OVERHEAD_BYTES_MAX, PROBE_BYTES_MAX};
use crate::rt::{self, RecvHalf, Remote, SendHalf};
use crate::tls::{self, Received, TlsError};

/// Why there is no answer.
#[derive(Debug)]
pub enum FetchError {
    /// It could not be connected to, or broke off.
    Io(io::Error),
    /// There is no connection with TLS to whom it should be.
    Tls(TlsError),
    /// It took too long.
    Timeout,
    /// What came is no response.
    Head(ResponseError),
    /// The body is too long, or not whole.
    Body(String),
    /// It sent far more than its body.
    TooLarge,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Timeout => f.write_str("it took too long"),
            Self::Head(error) => write!(f, "invalid response head: {}", error.detail()),
            Self::Body(error) => f.write_str(error),
            Self::TooLarge => f.write_str("what it sent is far longer than its body"),
        }
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<TlsError> for FetchError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => Self::Io(error),
            other => Self::Tls(other),
        }
    }
}

impl From<CollectError> for FetchError {
    fn from(error: CollectError) -> Self {
        Self::Body(error.to_string())
    }
}

/// What carries the request and its answer.
enum Channel {
    Plain { recv: RecvHalf, send: SendHalf, received: u64 },
    Tls(tls::Stream),
}

impl Channel {
    async fn open(remote: &Remote, tls: Option<(&tls::Client, &tls::Name)>, until: Moment) -> Result<Self, FetchError> {
        let socket = rt::connect(remote, until).await?;
        Ok(match tls {
            Some((client, name)) => Self::Tls(tls::Stream::connect(client, name, socket).await?),
            None => {
                let (recv, send) = rt::from_socket(socket);
                Self::Plain { recv, send, received: 0 }
            }
        })
    }

    async fn send_all(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < bytes.len() {
                sent += match self {
                    Self::Plain { send, .. } => ready!(send.poll_send(cx, &bytes[sent..]))?,
                    Self::Tls(stream) => ready!(stream.poll_send(cx, &bytes[sent..]))?,
                };
            }
            match self {
                Self::Plain { .. } => Poll::Ready(Ok(())),
                Self::Tls(stream) => Ok(ready!(stream.poll_flush(cx))?).into(),
            }
        })
        .await
    }

    /// Puts what comes next behind `into`, as long as no more than `most` bytes have come on the whole.
    async fn recv(&mut self, into: &mut Vec<u8>, most: u64) -> Result<Received, FetchError> {
        let (came, received) = match self {
            Self::Plain { recv, received, .. } => {
                let lease = poll_fn(|cx| recv.poll_recv(cx)).await?;
                into.extend_from_slice(&lease);
                *received += lease.len() as u64;
                // Without TLS there is no other end than the connection's.
                (if lease.is_empty() { Received::End } else { Received::Bytes }, *received)
            }
            Self::Tls(stream) => (poll_fn(|cx| stream.poll_recv(cx, into)).await?, stream.received()),
        };
        if received > most { Err(FetchError::TooLarge) } else { Ok(came) }
    }

    /// Takes leave, as far as that goes without waiting.
    async fn close(self) {
        match self {
            Self::Plain { .. } => {}
            Self::Tls(mut stream) => {
                stream.end();
                poll_fn(|cx| Poll::Ready(_ = stream.poll_flush(cx))).await;
            }
        }
    }
}

/// Sends a request, whole with its head, that asks for the connection to be closed behind the response: the status and a body
/// of at most `body_max` bytes, by `until` at the latest. With `tls`, to a server that is shown to be the one of that name,
/// and never otherwise.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(
    remote: &Remote,
    tls: Option<(&tls::Client, &tls::Name)>,
    request: &[u8],
    body_max: usize,
    until: Moment,
) -> Result<(Status, Vec<u8>), FetchError> {
    rt::timeout(until, fetch_whole(remote, tls, request, body_max, until)).await.unwrap_or(Err(FetchError::Timeout))
}

async fn fetch_whole(
    remote: &Remote,
    tls: Option<(&tls::Client, &tls::Name)>,
    request: &[u8],
    body_max: usize,
    until: Moment,
) -> Result<(Status, Vec<u8>), FetchError> {
    let mut channel = Channel::open(remote, tls, until).await?;
    channel.send_all(request).await?;
    let most = body_max as u64 + FETCH_OVERHEAD_BYTES_MAX;
    let limits = HeadLimits { head: PROBE_BYTES_MAX, ..HeadLimits::default() };
    let (mut bytes, mut head) = (Vec::new(), ResponseHead::new());
    loop {
        match parse_response_head(&bytes, &limits, RequestKind::Other, &mut head).map_err(FetchError::Head)? {
            Parse::Complete if head.is_interim() => drop(bytes.drain(..head.len)),
            Parse::Complete => break,
            Parse::Partial => match channel.recv(&mut bytes, most).await? {
                Received::Bytes => {}
                Received::End | Received::Cut => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            },
        }
    }
    let mut body = Collector::new(head.framing, body_max)?;
    body.push(&bytes[head.len..])?;
    while !body.is_whole() {
        bytes.clear();
        match channel.recv(&mut bytes, most).await? {
            Received::Bytes => _ = body.push(&bytes)?,
            Received::End => break,
            // Anybody on the way can end it: of a body that the connection's end ends, the rest may be missing.
            Received::Cut if head.framing == ResponseFraming::UntilClose => {
                return Err(FetchError::Body(
                    "the connection was closed within the response body: TLS's own end (close_notify) is missing"
                        .to_owned(),
                ));
            }
            Received::Cut => break,
        }
    }
    channel.close().await;
    Ok((head.status, body.finish()?))
}

#[cfg(test)]
mod tests;
