//! Checks that hold for every input, beside the code they check: bodies for property tests and fuzz targets.
//!
//! They panic where a promise is broken and say nothing otherwise.

use super::error::{ChunkError, HeadError};
use super::head::Head;
use super::parse::{EncodedSlash, HeadLimits, Parse, parse_head_with};
use super::{ChunkStep, ChunkedDecoder, RequestHead};

/// Longest input of which every prefix is tried; the effort is quadratic.
const INPUT_BYTES_MAX: usize = 4096;

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
                    check_head(prefix, &head, &limits);
                }
                decided = Some((verdict, head.clone()));
            }
        }
        assert!(decided.is_some() || data.len() < limits.head, "undecided at the bound");
    }
}

/// Reads a complete head again, line by line and naively, and panics where it differs from what was parsed.
fn check_head(bytes: &[u8], head: &Head, limits: &HeadLimits) {
    let text = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let text = text.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let lines: Vec<&[u8]> = split_crlf(text);
    assert!(lines.iter().all(|line| !line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))), "bare CR, LF or NUL");
    let view = RequestHead::new(bytes, head);
    let version = match view.version() {
        super::Version::Http10 => "HTTP/1.0",
        super::Version::Http11 => "HTTP/1.1",
    };
    assert_eq!(lines[0], format!("{} {} {version}", view.method_str(), view.target()).as_bytes());
    assert_eq!(lines.len() - 1, view.headers().count());
    for (line, (name, value)) in lines[1..].iter().zip(view.headers()) {
        let colon = line.iter().position(|&b| b == b':').expect("a field has a colon");
        assert_eq!(&line[..colon], name.as_bytes());
        assert!(
            line[colon + 1..].iter().filter(|b| !b" \t".contains(b)).eq(value.iter().filter(|b| !b" \t".contains(b)))
        );
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':'));
    }
    assert!(lines.len() - 1 <= limits.headers && bytes.len() <= limits.head && view.target().len() <= limits.target);
    assert!(view.header_values("host").count() <= 1 && view.header_values("content-length").count() <= 1);
    assert!(view.header("transfer-encoding").is_none() || view.framing() == super::BodyFraming::Chunked);
    assert!(!view.path().split('/').any(|segment| matches!(segment, "." | "..")));
    assert!(view.host().is_some() || view.version() == super::Version::Http10);
    #[cfg(feature = "oracle")]
    check_against_httparse(bytes, &view);
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

fn split_crlf(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(at) = text.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&text[..at]);
        text = &text[at + 2..];
    }
    lines.push(text);
    lines
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

/// Decodes `data` whole, in every two parts, and byte by byte. Panics unless body and end are the same each time.
pub fn check_chunked_split_invariance(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let whole = decode_chunked(&[data]);
    for at in 0..=data.len() {
        let (first, second) = data.split_at(at);
        assert_eq!(decode_chunked(&[first, second]), whole, "split at byte {at}");
    }
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(decode_chunked(&bytes), whole, "byte by byte");
}
