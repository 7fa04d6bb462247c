//! The request's body on its way to the server: held whole where it is short, so that it can be sent again, otherwise
//! streamed.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use super::failure::AttemptError;
use super::head::edited_names;
use super::spec::FieldEdit;
use crate::clock::{self, Moment};
use crate::handler::{Body, BodyError, Request};
use crate::http::{BodyFraming, Trailers, encode};
use crate::limits::PROXY_HELD_BYTES_MAX;
use crate::rt::{Deadline, SendHalf};

/// How a body goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// All of it is there, or there is none: it can be sent more than once.
    Held,
    /// As it comes, once.
    Streamed,
}

/// Reads a short body to its end into `held`; leaves a long one, or one of unknown length, where it is.
///
/// # Errors
/// As [`Body::next`].
pub(super) async fn hold(
    body: &mut Body<'_>,
    framing: BodyFraming,
    held: &mut Vec<u8>,
) -> Result<(Plan, BodyFraming), BodyError> {
    match framing {
        BodyFraming::None => Ok((Plan::Held, BodyFraming::None)),
        BodyFraming::Length(length) if length <= PROXY_HELD_BYTES_MAX as u64 => {
            while let Some(piece) = body.next().await? {
                held.extend_from_slice(piece);
            }
            Ok((Plan::Held, framing))
        }
        BodyFraming::Length(_) | BodyFraming::Chunked => Ok((Plan::Streamed, framing)),
    }
}

/// Why an upload ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadError {
    /// The client's body could not be read.
    Client(BodyError),
    /// The server took no more of it.
    Server(AttemptError),
}

/// What is known of an upload, while it runs and afterwards.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Something of the body was taken from the client: it cannot be sent again.
    pub(super) begun: Cell<bool>,
    /// When it ended: the last byte was sent, or the server took no more.
    pub(super) done: Cell<Option<Moment>>,
    /// The server took no more.
    pub(super) refused: Cell<bool>,
}

/// Which of a request's trailers stay behind, besides those that none may forward.
pub(super) struct TrailerRules<'r> {
    /// `Connection` names fields that concern the client's connection alone.
    pub(super) request: Request<'r>,
    /// What the operator removes or sets in the head must not come in behind it.
    pub(super) edits: &'r [FieldEdit],
    /// Nor what plugins have removed or set.
    pub(super) withheld: Vec<String>,
}

impl TrailerRules<'_> {
    /// Appends the end of a chunked body, with the trailers that go on.
    fn write_end(&self, out: &mut Vec<u8>, trailers: Option<&mut Trailers>) {
        let options = self.request.connection_options();
        #[cfg(feature = "sim")]
        let options = options.filter(|_| !crate::rt::sim::planted(crate::rt::sim::Bug::HopTrailers));
        out.extend_from_slice(LAST_CHUNK_LINE);
        if let Some(trailers) = trailers {
            let withheld = self.withheld.iter().map(String::as_bytes);
            trailers.forwardable(options.chain(edited_names(self.edits)).chain(withheld)).write_to(out);
        }
        out.extend_from_slice(encode::CHUNK_END);
    }
}

/// The size line of the last chunk: trailers follow it.
const LAST_CHUNK_LINE: &[u8] = b"0\r\n";

/// Sends the head, then the body as it comes, and its trailers.
///
/// # Errors
/// See [`UploadError`].
pub(super) async fn upload(
    send: &mut SendHalf,
    head: &[u8],
    body: &mut Body<'_>,
    framing: BodyFraming,
    trailers: TrailerRules<'_>,
    idle: Duration,
    progress: &Progress,
) -> Result<(), UploadError> {
    let deadline = Deadline::new();
    body.keep_trailers();
    // Before the body is asked for: a server may refuse by the head alone.
    send_parts(send, &deadline, [head, b"", b""], idle).await.map_err(UploadError::Server)?;
    progress.begun.set(true);
    let mut size = Vec::with_capacity(20);
    while let Some(piece) = body.next().await.map_err(UploadError::Client)? {
        size.clear();
        let end: &[u8] = match framing {
            BodyFraming::Chunked => {
                encode::write_chunk_head(&mut size, piece.len() as u64);
                encode::CHUNK_END
            }
            BodyFraming::None | BodyFraming::Length(_) => b"",
        };
        send_parts(send, &deadline, [&size, piece, end], idle).await.map_err(UploadError::Server)?;
    }
    if framing == BodyFraming::Chunked {
        size.clear();
        trailers.write_end(&mut size, body.trailers());
        send_parts(send, &deadline, [&size, b"", b""], idle).await.map_err(UploadError::Server)?;
    }
    progress.done.set(Some(clock::turn()));
    Ok(())
}

/// Sends all of the parts; `idle` is how long the server may take none of it.
///
/// # Errors
/// [`AttemptError::Send`], [`AttemptError::SendTimeout`].
pub(super) async fn send_parts(
    send: &mut SendHalf,
    deadline: &Deadline,
    parts: [&[u8]; 3],
    idle: Duration,
) -> Result<(), AttemptError> {
    let [first, second, third] = parts;
    let (second_at, third_at) = (first.len(), first.len() + second.len());
    let total = third_at + third.len();
    let mut sent = 0;
    let mut waiting = false;
    poll_fn(|cx| {
        while sent < total {
            let result = if third_at <= first.len() && third.is_empty() {
                send.poll_send(cx, &first[sent..])
            } else {
                let slices = [
                    IoSlice::new(&first[sent.min(second_at)..]),
                    IoSlice::new(&second[sent.saturating_sub(second_at).min(second.len())..]),
                    IoSlice::new(&third[sent.saturating_sub(third_at)..]),
                ];
                send.poll_send_vectored(cx, &slices)
            };
            match result {
                Poll::Ready(Ok(taken)) => {
                    sent += taken;
                    waiting = false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(AttemptError::Send(error.kind()))),
                Poll::Pending => {
                    if !std::mem::replace(&mut waiting, true) {
                        deadline.set(clock::turn() + idle);
                    }
                    ready!(deadline.poll_due(cx));
                    return Poll::Ready(Err(AttemptError::SendTimeout));
                }
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

type Uploading<'u> = Pin<Box<dyn Future<Output = Result<(), UploadError>> + 'u>>;

/// An upload that runs beside whatever else is done, if there is one.
pub(super) struct Beside<'u> {
    upload: Option<Uploading<'u>>,
    progress: &'u Progress,
}

impl<'u> Beside<'u> {
    pub(super) fn new(upload: impl Future<Output = Result<(), UploadError>> + 'u, progress: &'u Progress) -> Self {
        Self { upload: Some(Box::pin(upload)), progress }
    }

    /// Waits for `main`, and lets the upload go on meanwhile. That the server takes no more is for `main` to find out: it
    /// may have answered already.
    ///
    /// # Errors
    /// When the client's body cannot be read.
    pub(super) async fn run<T>(&mut self, main: impl Future<Output = T>) -> Result<T, BodyError> {
        let mut main = pin!(main);
        poll_fn(|cx| {
            if let Some(upload) = &mut self.upload
                && let Poll::Ready(result) = upload.as_mut().poll(cx)
            {
                self.upload = None;
                match result {
                    Ok(()) => {}
                    Err(UploadError::Client(error)) => return Poll::Ready(Err(error)),
                    Err(UploadError::Server(_)) => {
                        self.progress.refused.set(true);
                        // What the server said before that is all there will be.
                        self.progress.done.set(Some(clock::turn()));
                    }
                }
            }
            main.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}
