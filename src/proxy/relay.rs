//! The response's way from the server to the client: as fast as the slower of the two, in a few buffers.

use std::future::poll_fn;
use std::time::Duration;

use super::connection::Reading;
use super::failure::AttemptError;
use crate::clock::{self, Moment};
use crate::handler::{Failure, Response};
use crate::http::{ChunkStep, ChunkedDecoder, Fields, ResponseFraming, ResponseView, Trailers};
use crate::limits::PROXY_HELD_BYTES_MAX;
use crate::rt;

/// Why a response did not get to its end.
#[derive(Debug)]
pub(super) enum RelayError {
    /// The server is to blame.
    Server(AttemptError),
    /// The client is, or the response could not be written.
    Client(Failure),
}

impl From<AttemptError> for RelayError {
    fn from(error: AttemptError) -> Self {
        Self::Server(error)
    }
}

impl From<Failure> for RelayError {
    fn from(failure: Failure) -> Self {
        Self::Client(failure)
    }
}

/// How long the server may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between bytes.
    pub(super) idle: Duration,
    /// In all, at the latest.
    pub(super) until: Moment,
}

impl Pace {
    fn due(self) -> Moment {
        (clock::turn() + self.idle).min(self.until)
    }
}

/// The trailers of a response, for a client that takes them.
pub(super) struct TrailerTerms {
    trailers: Trailers,
    /// Fields that concern the server's connection alone.
    options: Vec<Vec<u8>>,
}

impl TrailerTerms {
    pub(super) fn new(head: &ResponseView<'_>) -> Self {
        Self { trailers: Trailers::new(), options: head.connection_options().map(<[u8]>::to_vec).collect() }
    }

    fn fields(&mut self) -> Fields {
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::HopTrailers) {
            self.options.clear();
        }
        self.trailers.forwardable(self.options.iter().map(Vec::as_slice)).clone()
    }
}

/// Sends on the body of a response that was started.
///
/// # Errors
/// See [`RelayError`].
pub(super) async fn relay_body(
    reading: &mut Reading,
    response: &mut Response<'_>,
    framing: ResponseFraming,
    pace: Pace,
    trailers: Option<TrailerTerms>,
) -> Result<(), RelayError> {
    match framing {
        ResponseFraming::None => Ok(()),
        ResponseFraming::Length(length) => relay_length(reading, response, length, pace).await,
        ResponseFraming::Chunked => Box::pin(relay_chunked(reading, response, pace, trailers)).await,
        ResponseFraming::UntilClose => Box::pin(relay_until_close(reading, response, pace)).await,
    }
}

async fn relay_length(
    reading: &mut Reading,
    response: &mut Response<'_>,
    mut left: u64,
    pace: Pace,
) -> Result<(), RelayError> {
    if left.saturating_sub(reading.bytes().len() as u64) > PROXY_HELD_BYTES_MAX as u64 {
        reading.expect_body();
    }
    loop {
        let bytes = take_piece(reading, response);
        let piece = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if piece > 0 {
            response.gather(&bytes[..piece]).await?;
            reading.consume(piece);
            left -= piece as u64;
        }
        if left == 0 {
            return Ok(());
        }
        if !receive(reading, response, pace).await? {
            return Err(AttemptError::BodyCut.into());
        }
    }
}

async fn relay_chunked(
    reading: &mut Reading,
    response: &mut Response<'_>,
    pace: Pace,
    mut terms: Option<TrailerTerms>,
) -> Result<(), RelayError> {
    let mut decoder = ChunkedDecoder::new();
    let mut is_long = false;
    loop {
        let step = match &mut terms {
            Some(terms) => decoder.decode_with(reading.bytes(), &mut terms.trailers),
            None => decoder.decode(reading.bytes()),
        };
        match step.map_err(AttemptError::Chunk)? {
            ChunkStep::Data { skip, len } => {
                let bytes = take_piece(reading, response);
                response.gather(&bytes[skip..skip + len]).await?;
                reading.consume(skip + len);
            }
            ChunkStep::Done { consumed } => {
                reading.consume(consumed);
                if let Some(mut terms) = terms {
                    response.end_with_trailers(terms.fields()).await?;
                }
                return Ok(());
            }
            ChunkStep::NeedMore { consumed } => {
                reading.consume(consumed);
                if !std::mem::replace(&mut is_long, true) {
                    reading.expect_body();
                }
                if !receive(reading, response, pace).await? {
                    #[cfg(feature = "sim")]
                    if rt::sim::planted(rt::sim::Bug::CutTakenForWhole) {
                        return Ok(());
                    }
                    return Err(AttemptError::BodyCut.into());
                }
            }
        }
    }
}

async fn relay_until_close(reading: &mut Reading, response: &mut Response<'_>, pace: Pace) -> Result<(), RelayError> {
    reading.expect_body();
    loop {
        let length = reading.bytes().len();
        if length > 0 {
            let bytes = take_piece(reading, response);
            response.gather(bytes).await?;
            reading.consume(length);
        }
        if !receive(reading, response, pace).await? {
            return Ok(());
        }
    }
}

/// The bytes that came. How long the client takes over them nobody knows, and how long a plugin does that holds the response:
/// buffers that everybody needs do not wait with it.
fn take_piece<'r>(reading: &'r mut Reading, response: &Response<'_>) -> &'r [u8] {
    if rt::are_buffers_scarce() || response.is_held() {
        reading.settle();
    }
    reading.bytes()
}

/// Receives more, after what there is so far has gone to the client; false at the end.
async fn receive(reading: &mut Reading, response: &mut Response<'_>, pace: Pace) -> Result<bool, RelayError> {
    response.flush().await?;
    let due = pace.due();
    Ok(poll_fn(|cx| reading.poll_more(cx, due)).await?)
}
