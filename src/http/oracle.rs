//! Checks that hold for every input, beside the code they check: bodies for property tests and fuzz targets.
//!
//! They panic where a promise is broken and say nothing otherwise. `oracle/naive.rs` reads requests a second time, without
//! the parser's help, and `oracle/naive_response.rs` responses.

mod naive;
mod naive_response;
mod response;

pub use response::{check_head as check_response_head, check_response_head_and_body};

use super::error::{ChunkError, HeadError};
use super::head::Head;
use super::parse::{EncodedSlash, HeadLimits, Parse, parse_head_with};
use super::{ChunkStep, ChunkedDecoder, RequestHead};

/// Longest input of which every prefix is tried; the effort is quadratic.
const INPUT_BYTES_MAX: usize = 4096;
/// Places at which a chunked body is split in two; a longer one is split at some of its bytes.
const SPLITS_MAX: usize = 512;
/// Longest chunked body: longer than every bound on its framing.
const CHUNKED_BYTES_MAX: usize = 32 * 1024;

/// Parses every prefix of `data` under several limits. Panics unless each is `Partial` up to one deciding byte, with the
/// verdict and the facts of the whole from there on, and unless a complete head is what a naive reading of its lines gives.
pub fn check_head_split_invariance(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    // The second is small enough for short inputs to meet each bound.
    let generous = HeadLimits { head: 2048, headers: 64, target: 1024 };
    let narrow = HeadLimits { head: 96, headers: 3, target: 24 };
    let narrower_than_target = HeadLimits { head: 40, headers: 3, target: 64 };
    let policies = [
        (generous, EncodedSlash::Refuse),
        (generous, EncodedSlash::Allow),
        (narrow, EncodedSlash::Refuse),
        (narrower_than_target, EncodedSlash::Refuse),
    ];
    // Reused for every prefix, so that what an earlier parse left behind would show.
    let mut head = Head::new();
    for (limits, slash) in policies {
        let mut decided: Option<(Result<Parse, HeadError>, Head)> = None;
        for len in 0..=data.len() {
            let prefix = &data[..len];
            let verdict = parse_head_with(prefix, &limits, slash, &mut head);
            if let Some((first, first_head)) = &decided {
                assert_eq!(verdict, *first, "the verdict changed at byte {len}");
                assert!(verdict.is_err() || head == *first_head, "the facts changed at byte {len}");
            } else if verdict != Ok(Parse::Partial) {
                if verdict == Ok(Parse::Complete) {
                    assert_eq!(head.len, len, "a head is complete with its last byte");
                }
                decided = Some((verdict, head.clone()));
            }
        }
        assert!(decided.is_some() || data.len() < limits.head, "undecided at the bound");
        let verdict = decided.as_ref().map_or(Ok(Parse::Partial), |(verdict, _)| *verdict);
        let naive = naive::read_head(data, &limits, slash);
        match (verdict, decided) {
            (Ok(Parse::Complete), Some((_, head))) => {
                assert_eq!(Ok(retell(data, &head)), naive);
                #[cfg(feature = "oracle")]
                check_against_httparse(&data[..head.len], &RequestHead::new(data, &head));
            }
            _ => assert!(naive.is_err(), "refused ({verdict:?}): {naive:?}"),
        }
        if naive == Err(naive::NoHead::Expectation) {
            assert_eq!(verdict, Err(HeadError::Expectation));
        }
        if let Err(error) = verdict {
            check_blame(error, data, &limits);
        }
    }
}

/// What was parsed, in the naive reader's terms.
fn retell(bytes: &[u8], head: &Head) -> naive::NaiveHead {
    let view = RequestHead::new(bytes, head);
    let owned = |text: &str| text.to_owned();
    naive::NaiveHead {
        len: head.len,
        method: view.method_str().to_owned(),
        target: view.target().to_owned(),
        version: view.version(),
        fields: view.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        path: view.path().to_owned(),
        query: view.query().map(owned),
        authority: view.authority().map(owned),
        host: view.host().map(owned),
        port: view.port(),
        framing: view.framing(),
        persistent: head.persistent,
        expect_continue: head.expect_continue,
        upgrade: head.upgrade,
    }
}

/// Panics unless `httparse`, which is more lenient, takes the head too and finds the same parts in it.
#[cfg(feature = "oracle")]
fn check_against_httparse(bytes: &[u8], view: &RequestHead<'_>) {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let mut slots = [httparse::EMPTY_HEADER; crate::limits::HEADERS_MAX];
    let mut request = httparse::Request::new(&mut slots);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!((request.method, request.path), (Some(view.method_str()), Some(view.target())));
    assert_eq!(request.version, Some(u8::from(view.version() == super::Version::Http11)));
    assert!(request.headers.iter().map(|header| (header.name, header.value)).eq(view.headers()));
}

/// Panics when a refusal that is answered with another status than 400 has no such reason.
fn check_blame(error: HeadError, data: &[u8], limits: &HeadLimits) {
    let text = data.strip_prefix(b"\r\n").unwrap_or(data);
    let words: Vec<&[u8]> = text.split(|b| *b == b' ').collect();
    let holds = match error.status().code() {
        400 => true,
        501 => words[0].len() > crate::limits::METHOD_BYTES_MAX,
        414 => {
            let is_open = words.len() == 2 && data.len() >= limits.head;
            words.get(1).is_some_and(|target| target.len() > limits.target)
                || is_open
                || words[0].len() + 1 >= limits.head
                || words.get(1).is_some_and(|target| words[0].len() + 1 + target.len() >= limits.head.saturating_sub(2))
        }
        431 => {
            let lines = text.split(|b| *b == b'\n').count();
            data.len() >= limits.head || lines > limits.headers + 1
        }
        505 => {
            words.iter().any(|word| word.starts_with(b"HTTP/") && !word.starts_with(b"HTTP/1.1\r") && word.len() > 8)
        }
        417 => data.to_ascii_lowercase().windows(7).any(|name| name == b"expect:"),
        _ => false,
    };
    assert!(holds, "{error:?} is answered with {}, without a reason", error.status().code());
}

/// Decodes a chunked body that arrives in `parts`. Returns the body as far as it came and the end: `Done` or `NeedMore`
/// with the bytes consumed of all parts together, or the error.
pub fn decode_chunked(parts: &[&[u8]]) -> (Vec<u8>, Result<ChunkStep, ChunkError>) {
    let mut decoder = ChunkedDecoder::new();
    let (mut body, mut total) = (Vec::new(), 0);
    for part in parts {
        let mut rest = *part;
        loop {
            match decoder.decode(rest) {
                Ok(ChunkStep::Data { skip, len }) => {
                    assert!(len != 0, "a step without data");
                    body.extend_from_slice(&rest[skip..skip + len]);
                    rest = &rest[skip + len..];
                    total += skip + len;
                }
                Ok(ChunkStep::NeedMore { consumed }) => {
                    assert_eq!(consumed, rest.len(), "input left over");
                    total += consumed;
                    break;
                }
                Ok(ChunkStep::Done { consumed }) => {
                    return (body, Ok(ChunkStep::Done { consumed: total + consumed }));
                }
                Err(error) => return (body, Err(error)),
            }
        }
    }
    (body, Ok(ChunkStep::NeedMore { consumed: total }))
}

/// Decodes `data` whole, in every two parts (where it is long, in some), and byte by byte. Panics unless body and end are the same each time, and what
/// the naive reader finds.
pub fn check_chunked_split_invariance(data: &[u8]) {
    let data = &data[..data.len().min(CHUNKED_BYTES_MAX)];
    let whole = decode_chunked(&[data]);
    for at in (0..=data.len()).step_by(data.len() / SPLITS_MAX + 1) {
        let (first, second) = data.split_at(at);
        assert_eq!(decode_chunked(&[first, second]), whole, "split at byte {at}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(decode_chunked(&bytes), whole, "byte by byte");
    let (body, end) = naive::read_chunks(data);
    let told = match whole.1 {
        Ok(ChunkStep::Done { consumed }) => naive::ChunksEnd::Done(consumed),
        Ok(ChunkStep::NeedMore { .. } | ChunkStep::Data { .. }) => naive::ChunksEnd::NeedMore,
        Err(_) => naive::ChunksEnd::Bad,
    };
    assert_eq!((whole.0, told), (body, end), "the naive reader finds something else");
}

/// Takes `data` for a chunked body, and for a whole message: where its body ends must not depend on how it was split, and be
/// where the naive reader finds it.
pub fn check_framing_and_body(data: &[u8]) {
    check_chunked_split_invariance(data);
    let limits = HeadLimits::default();
    let mut head = Head::new();
    if parse_head_with(data, &limits, EncodedSlash::Refuse, &mut head) != Ok(Parse::Complete) {
        return;
    }
    let view = RequestHead::new(data, &head);
    let values = |name: &str| view.header_values(name).collect::<Vec<_>>();
    let framing = naive::read_framing(view.version(), &values("transfer-encoding"), &values("content-length"));
    assert_eq!(Some(view.framing()), framing);
    if view.framing() == super::BodyFraming::Chunked {
        check_chunked_split_invariance(&data[head.len..]);
    }
}
