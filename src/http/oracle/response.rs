//! The promise of upstream responses: heads, bodies and trailers are the same however the stream was split, and are what a
//! naive reader finds.

use super::INPUT_BYTES_MAX;
use super::naive_response::{NaiveMessage, NaiveResponse, StreamEnd, read_response_head, read_responses};
use crate::http::response::{ResponseError, ResponseHead, ResponseView, parse_response_head};
use crate::http::{ChunkError, ChunkStep, ChunkedDecoder, HeadLimits, Parse, RequestKind, ResponseFraming, Trailers};

/// Places at which a stream is split in two; a longer one is split at some of its bytes. Heads are tried at every byte.
const SPLITS_MAX: usize = 128;

/// The first byte of `data` says what the responses behind it answer, and how they are split: its lowest bit is set for
/// any method but `HEAD` (so that `G` is `GET` and `H` is `HEAD`), the others choose pieces. Panics where a promise of
/// this module's header is broken.
pub fn check_response_head_and_body(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let stream = &stream[..stream.len().min(INPUT_BYTES_MAX)];
    let kind = if choice & 1 == 1 { RequestKind::Other } else { RequestKind::Head };
    // The second is small enough for short inputs to meet each bound.
    let generous = HeadLimits { head: 2048, headers: 64, target: 0 };
    let narrow = HeadLimits { head: 96, headers: 3, target: 0 };
    for limits in [generous, narrow] {
        check_head(stream, &limits, kind);
        check_stream(stream, &limits, kind, u32::from(choice >> 1));
    }
}

/// Parses every prefix. Each is `Partial` up to one deciding byte, with the verdict and the facts of the whole from there
/// on; a complete head is what a naive reading of its lines gives.
pub fn check_head(data: &[u8], limits: &HeadLimits, kind: RequestKind) {
    // Reused for every prefix, so that what an earlier parse left behind would show.
    let mut head = ResponseHead::new();
    let mut decided: Option<(Result<Parse, ResponseError>, ResponseHead)> = None;
    for len in 0..=data.len() {
        let verdict = parse_response_head(&data[..len], limits, kind, &mut head);
        if let Some((first, first_head)) = &decided {
            assert_eq!(verdict, *first, "the verdict changed at byte {len}");
            assert!(verdict.is_err() || head == *first_head, "the facts changed at byte {len}");
        } else if verdict != Ok(Parse::Partial) {
            if verdict == Ok(Parse::Complete) {
                assert_eq!(head.len, len, "a head is complete with its last byte");
            }
            if verdict == Err(ResponseError::HeadTooLarge) {
                assert_eq!(len, limits.head, "a head is too large with the byte that fills it");
            }
            decided = Some((verdict, head.clone()));
        }
    }
    assert!(decided.is_some() || data.len() < limits.head, "undecided at the bound");
    let naive = read_response_head(data, limits, kind);
    match decided {
        Some((Ok(_), head)) => {
            let view = ResponseView::new(data, &head);
            assert_eq!(Some(retell(&view)), naive);
            #[cfg(feature = "oracle")]
            check_against_httparse(&data[..head.len], &view);
        }
        Some((Err(error), _)) => assert!(naive.is_none(), "refused ({error:?}): {naive:?}"),
        None => assert!(naive.is_none(), "not complete: {naive:?}"),
    }
}

/// What was parsed, in the naive reader's terms.
fn retell(view: &ResponseView<'_>) -> NaiveResponse {
    let head = view.head();
    NaiveResponse {
        len: head.len,
        version: view.version(),
        code: view.status().code(),
        reason: view.reason().to_vec(),
        fields: view.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        framing: view.framing(),
        content_length: head.content_length,
        persistent: head.persistent,
        upgrade: head.upgrade,
        has_date: head.has_date(),
        has_server: head.has_server(),
    }
}

/// Panics unless `httparse`, which is more lenient, takes the head too and finds the same parts in it.
#[cfg(feature = "oracle")]
fn check_against_httparse(bytes: &[u8], view: &ResponseView<'_>) {
    let mut slots = [httparse::EMPTY_HEADER; crate::limits::HEADERS_MAX];
    let mut response = httparse::Response::new(&mut slots);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(response.code, Some(view.status().code()));
    assert_eq!(response.version, Some(u8::from(view.version() == crate::http::Version::Http11)));
    // It leaves out a reason that is not ASCII.
    if view.reason().is_ascii() {
        let reason = response.reason.map(|reason| reason.trim_matches([' ', '\t']).as_bytes());
        assert_eq!(reason, Some(view.reason()));
    }
    assert!(response.headers.iter().map(|header| (header.name, header.value)).eq(view.headers()));
}

/// Where a [`Reader`] stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    BadHead(ResponseError),
    BadChunk(ChunkError),
    /// Nothing can follow what ended after so many bytes.
    Last(usize),
}

/// Reads responses as a connection to an upstream does: from pieces, by what each head says of its body.
struct Reader {
    limits: HeadLimits,
    kind: RequestKind,
    head: ResponseHead,
    trailers: Trailers,
    /// The members of `Connection` in the head of the body that is being read.
    options: Vec<Vec<u8>>,
    pending: Vec<u8>,
    consumed: usize,
    phase: Phase,
    messages: Vec<NaiveMessage>,
}

impl Reader {
    fn new(limits: &HeadLimits, kind: RequestKind) -> Reader {
        Reader {
            limits: *limits,
            kind,
            head: ResponseHead::new(),
            trailers: Trailers::new(),
            options: Vec::new(),
            pending: Vec::new(),
            consumed: 0,
            phase: Phase::Head,
            messages: Vec::new(),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
        while self.step() {}
    }

    /// Whether there was something to do.
    fn step(&mut self) -> bool {
        match &mut self.phase {
            Phase::Head => self.read_head(),
            Phase::Length(left) => {
                let len = usize::try_from(*left).map_or(self.pending.len(), |left| left.min(self.pending.len()));
                *left -= len as u64;
                let is_whole = *left == 0;
                self.take_body(0, len);
                if is_whole {
                    self.end_message();
                }
                is_whole
            }
            Phase::Chunked(_) => self.read_chunks(),
            Phase::UntilClose => {
                self.take_body(0, self.pending.len());
                false
            }
            Phase::BadHead(_) | Phase::BadChunk(_) | Phase::Last(_) => false,
        }
    }

    fn read_head(&mut self) -> bool {
        match parse_response_head(&self.pending, &self.limits, self.kind, &mut self.head) {
            Ok(Parse::Partial) => return false,
            Err(error) => self.phase = Phase::BadHead(error),
            Ok(Parse::Complete) => {
                let view = self.head.view(&self.pending);
                self.options = view.connection_options().map(<[u8]>::to_vec).collect();
                self.messages.push(NaiveMessage { head: retell(&view), body: Vec::new(), trailers: Vec::new() });
                self.trailers.clear();
                self.skip(self.head.len);
                match self.head.framing {
                    ResponseFraming::None => self.end_message(),
                    ResponseFraming::Length(n) => self.phase = Phase::Length(n),
                    ResponseFraming::Chunked => self.phase = Phase::Chunked(ChunkedDecoder::new()),
                    ResponseFraming::UntilClose => self.phase = Phase::UntilClose,
                }
            }
        }
        true
    }

    fn read_chunks(&mut self) -> bool {
        let Phase::Chunked(decoder) = &mut self.phase else { return false };
        let mut plain = decoder.clone();
        let step = decoder.decode_with(&self.pending, &mut self.trailers);
        assert_eq!(plain.decode(&self.pending), step, "keeping the trailers changes what is found");
        assert_eq!(plain, *decoder);
        match step {
            Ok(ChunkStep::Data { skip, len }) => self.take_body(skip, len),
            Ok(ChunkStep::NeedMore { consumed }) => {
                self.skip(consumed);
                return false;
            }
            Ok(ChunkStep::Done { consumed }) => {
                self.skip(consumed);
                let kept = self.trailers.forwardable(self.options.iter().map(Vec::as_slice)).encoded().to_vec();
                self.message().trailers = kept;
                self.end_message();
            }
            Err(error) => self.phase = Phase::BadChunk(error),
        }
        true
    }

    fn end_message(&mut self) {
        let (is_interim, is_switch) = (self.head.is_interim(), self.head.status.code() == 101);
        if !is_interim {
            self.kind = RequestKind::Other;
        }
        let is_last = is_switch || (!is_interim && !self.head.persistent);
        self.phase = if is_last { Phase::Last(self.consumed) } else { Phase::Head };
    }

    fn take_body(&mut self, skip: usize, len: usize) {
        let data = self.pending[skip..skip + len].to_vec();
        self.message().body.extend_from_slice(&data);
        self.skip(skip + len);
    }

    fn message(&mut self) -> &mut NaiveMessage {
        self.messages.last_mut().expect("a body has a head")
    }

    fn skip(&mut self, len: usize) {
        self.pending.drain(..len);
        self.consumed += len;
    }
}

/// What was read, and where reading stands.
fn read_pieces<'d>(
    pieces: impl IntoIterator<Item = &'d [u8]>,
    limits: &HeadLimits,
    kind: RequestKind,
) -> (Vec<NaiveMessage>, Phase) {
    let mut reader = Reader::new(limits, kind);
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    (reader.messages, reader.phase)
}

/// Reads responses one behind the other: whole, in every two parts (where it is long, in some), byte by byte, and in the
/// pieces of `seed`. Every reading finds the same, which is what the naive reader finds.
fn check_stream(data: &[u8], limits: &HeadLimits, kind: RequestKind, seed: u32) {
    let whole = read_pieces([data], limits, kind);
    for at in (0..=data.len()).step_by(data.len() / SPLITS_MAX + 1) {
        let (first, second) = data.split_at(at);
        assert_eq!(read_pieces([first, second], limits, kind), whole, "split at byte {at}");
    }
    assert_eq!(read_pieces(data.chunks(1), limits, kind), whole, "byte by byte");
    assert_eq!(read_pieces(pieces(data, seed), limits, kind), whole, "in the pieces of seed {seed}");
    let end = match whole.1 {
        Phase::Head | Phase::BadHead(_) => StreamEnd::NoHead,
        Phase::Length(_) | Phase::Chunked(_) | Phase::UntilClose => StreamEnd::BodyOpen,
        Phase::BadChunk(_) => StreamEnd::BodyBad,
        Phase::Last(at) => StreamEnd::Last(at),
    };
    assert_eq!((whole.0, end), read_responses(data, limits, kind), "the naive reader finds something else");
}

/// `data` in pieces of 1 to 32 bytes, drawn by a linear congruence (Knuth's, of 32 bits).
fn pieces(mut data: &[u8], seed: u32) -> Vec<&[u8]> {
    let (mut pieces, mut state) = (Vec::new(), seed);
    while !data.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, rest) = data.split_at(data.len().min((state >> 27) as usize + 1));
        pieces.push(piece);
        data = rest;
    }
    pieces
}
