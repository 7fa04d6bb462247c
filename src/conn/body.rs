//! The request body as it comes off the connection: framing undone, bounded, in time.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::core::{Core, Settings};
use super::pace::Patience;
use crate::clock;
use crate::handler::{BodyError, BodySource, BodyState};
use crate::http::chunked::{ChunkStep, ChunkedDecoder};
use crate::http::encode::CONTINUE_100;
use crate::http::{BodyFraming, ChunkError, RequestError, Trailers};
use crate::limits::DISCARD_BYTES_MAX;
use crate::metrics::Counter;
use crate::rt::{self, Deadline, Input, RecvHalf, SendHalf};

/// What is still to come.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
    Done,
    Failed(BodyError),
}

/// The body of the request that is being answered.
pub(super) struct Incoming<'c> {
    input: &'c mut Input,
    /// `None` when all of it is in `input`.
    recv: Option<&'c mut RecvHalf>,
    deadline: &'c Deadline,
    core: &'c Core,
    /// The most bytes of it.
    most: u64,
    rest: Rest,
    /// The trailers of a chunked body, for who asked to have them kept.
    trailers: Option<Box<Trailers>>,
    /// Bytes of the present piece: the first unread ones of `input`.
    piece: usize,
    /// Bytes of body so far, for the limit.
    received: u64,
    patience: Patience,
    /// The client waits for `100 Continue`: nothing of the body will come before it. Cleared by whoever sends first, this
    /// or the response.
    state: &'c BodyState,
    /// A way to send `100 Continue` while the response holds the connection's own.
    interim: Option<SendHalf>,
    /// Bytes of it that are sent.
    interim_sent: usize,
}

impl<'c> Incoming<'c> {
    pub(super) fn new(
        framing: BodyFraming,
        input: &'c mut Input,
        recv: Option<&'c mut RecvHalf>,
        deadline: &'c Deadline,
        core: &'c Core,
        settings: &'c Settings,
        state: &'c BodyState,
    ) -> Self {
        let rest = match framing {
            BodyFraming::None | BodyFraming::Length(0) => Rest::Done,
            BodyFraming::Length(length) => {
                state.unread.set(length);
                Rest::Length(length)
            }
            BodyFraming::Chunked => Rest::Chunked(ChunkedDecoder::new()),
        };
        let timeouts = &settings.timeouts;
        let patience = Patience::new(timeouts.body, timeouts.body_total, settings.rates.body);
        let most = settings.body;
        Self {
            input,
            recv,
            deadline,
            core,
            most,
            rest,
            trailers: None,
            piece: 0,
            received: 0,
            patience,
            state,
            interim: None,
            interim_sent: 0,
        }
    }

    /// With a way to send `100 Continue`.
    pub(super) fn with_interim(mut self, interim: Option<SendHalf>) -> Self {
        self.interim = interim;
        self
    }

    /// With another bound than the server's.
    pub(super) fn limited_to(mut self, most: u64) -> Self {
        self.most = most;
        self
    }

    /// Gives up the present piece, which would be taken for the next request otherwise, and says whether the whole body
    /// has been read.
    pub(super) fn finish(&mut self) -> bool {
        self.give_up_piece();
        matches!(self.rest, Rest::Done)
    }

    /// Gives the receive buffer back while the client takes no answer. Not within a piece: see [`Incoming::finish`].
    pub(super) fn put_aside(&mut self) {
        self.input.settle(&self.core.metrics);
    }

    /// Bytes of it that were read so far, without the framing of chunks.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether nothing of it has to be received any more.
    pub(super) fn is_in_hand(&self) -> bool {
        self.recv.is_none()
    }

    /// Reads the rest and throws it away, to keep the connection; false when that is not worth it or fails.
    pub(super) async fn discard(&mut self) -> bool {
        let mut thrown = 0;
        loop {
            if self.remaining().is_some_and(|left| thrown + left > DISCARD_BYTES_MAX) || thrown > DISCARD_BYTES_MAX {
                return false;
            }
            match poll_fn(|cx| self.poll_piece(cx)).await {
                Ok(true) => thrown += self.piece as u64,
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
    }

    fn give_up_piece(&mut self) {
        let used = std::mem::take(&mut self.piece);
        self.input.consume(used);
    }

    /// Takes the next piece out of the unread bytes; `None` when more have to be received.
    fn take_piece(&mut self) -> Option<Result<bool, BodyError>> {
        let bytes = self.input.bytes();
        let (skip, piece) = match &mut self.rest {
            Rest::Done => return Some(Ok(false)),
            Rest::Failed(error) => return Some(Err(*error)),
            _ if bytes.is_empty() => return None,
            Rest::Length(left) => {
                let piece = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= piece as u64;
                #[cfg(feature = "sim")]
                if *left == 1 && rt::sim::planted(rt::sim::Bug::ImpatientBody) {
                    *left = 0;
                }
                self.state.unread.set(*left);
                (0, piece)
            }
            Rest::Chunked(decoder) => match decode(decoder, bytes, self.trailers.as_deref_mut()) {
                Ok(ChunkStep::Data { skip, len }) => (skip, len),
                Ok(ChunkStep::NeedMore { consumed }) => {
                    self.input.consume(consumed);
                    return None;
                }
                Ok(ChunkStep::Done { consumed }) => {
                    self.input.consume(consumed);
                    self.rest = Rest::Done;
                    return Some(Ok(false));
                }
                Err(error) => return Some(Err(self.fail(BodyError::Malformed(RequestError::from(error))))),
            },
        };
        if matches!(self.rest, Rest::Length(0)) {
            self.rest = Rest::Done;
        }
        self.input.consume(skip);
        self.piece = piece;
        self.received += piece as u64;
        if self.received > self.most {
            return Some(Err(self.fail(BodyError::TooLarge)));
        }
        Some(Ok(true))
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        match error {
            BodyError::Timeout => self.core.metrics.add(
                match self.patience.is_spent_in_all(clock::turn()) {
                    true => Counter::BodyTotalTimeouts,
                    false => Counter::BodyTimeouts,
                },
                1,
            ),
            BodyError::Malformed(_) => self.core.metrics.add(Counter::BadFraming, 1),
            BodyError::TooLarge => self.core.metrics.add(Counter::BadTooLarge, 1),
            BodyError::Gone => {}
        }
        self.rest = Rest::Failed(error);
        self.piece = 0;
        error
    }

    /// Ready when the client has kept us waiting for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.deadline.set(self.patience.wait(clock::turn()));
        ready!(self.deadline.poll_due(cx));
        Poll::Ready(self.fail(BodyError::Timeout))
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if !self.state.awaited.get() {
            return Poll::Ready(Ok(()));
        }
        while let Some(interim) = self.interim.as_mut().filter(|_| self.interim_sent < CONTINUE_100.len()) {
            // Everything before it was sent, but may fill the socket still, which then takes a part of it or nothing: a
            // client that takes none of it must not be waited for without end.
            match interim.poll_send(cx, &CONTINUE_100[self.interim_sent..]) {
                Poll::Ready(Ok(sent)) => {
                    self.interim_sent += sent;
                    self.state.torn.set(self.interim_sent < CONTINUE_100.len());
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(self.fail(BodyError::Gone))),
                Poll::Pending => return self.poll_late(cx).map(Err),
            }
        }
        self.state.awaited.set(false);
        Poll::Ready(Ok(()))
    }
}

fn decode(
    decoder: &mut ChunkedDecoder,
    bytes: &[u8],
    trailers: Option<&mut Trailers>,
) -> Result<ChunkStep, ChunkError> {
    match trailers {
        Some(trailers) => decoder.decode_with(bytes, trailers),
        None => decoder.decode(bytes),
    }
}

/// Whether the piece that just came must not stay in its receive buffer.
fn is_to_be_copied() -> bool {
    #[cfg(feature = "sim")]
    if rt::sim::planted(rt::sim::Bug::HeldPiece) {
        return false;
    }
    rt::are_buffers_scarce()
}

impl BodySource for Incoming<'_> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        self.give_up_piece();
        loop {
            if let Some(result) = self.take_piece() {
                if result.is_ok() {
                    // The body comes unasked, so there is nothing to wait for any more (RFC 9110 section 10.1.1).
                    self.state.awaited.set(false);
                }
                return Poll::Ready(result);
            }
            ready!(self.poll_interim(cx))?;
            let Some(recv) = &mut self.recv else { return Poll::Ready(Err(self.fail(BodyError::Gone))) };
            match recv.poll_recv(cx) {
                Poll::Ready(Ok(lease)) if !lease.is_empty() => {
                    self.core.metrics.add(Counter::RequestBytes, lease.len() as u64);
                    self.patience.pause(clock::turn());
                    self.patience.earn(lease.len() as u64);
                    self.input.push(lease, &self.core.metrics);
                    // How long the handler keeps the piece nobody knows: it may be sending it to a client that takes
                    // nothing. Buffers that everybody needs must not wait with it.
                    if is_to_be_copied() {
                        self.input.settle(&self.core.metrics);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Err(self.fail(BodyError::Gone))),
                Poll::Pending => return self.poll_late(cx).map(Err),
            }
        }
    }

    fn pause(&mut self) {
        self.patience.pause(clock::turn());
    }

    fn piece(&self) -> &[u8] {
        &self.input.bytes()[..self.piece]
    }

    fn remaining(&self) -> Option<u64> {
        match &self.rest {
            Rest::Length(left) => Some(*left),
            Rest::Chunked(_) => None,
            Rest::Done | Rest::Failed(_) => Some(0),
        }
    }

    fn keep_trailers(&mut self) {
        if matches!(self.rest, Rest::Chunked(_)) {
            self.trailers.get_or_insert_default();
        }
    }

    fn trailers(&mut self) -> Option<&mut Trailers> {
        self.trailers.as_deref_mut()
    }
}
