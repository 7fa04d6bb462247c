//! Chunked bodies: every refusal of the table, round trips and split invariance.

use super::*;
use crate::http::encode;
use crate::http::oracle::{check_chunked_split_invariance, decode_chunked};
use proptest::prelude::*;

fn decode(input: &[u8]) -> (Vec<u8>, Result<ChunkStep, ChunkError>) {
    check_chunked_split_invariance(input);
    decode_chunked(&[input])
}

fn error(input: &[u8]) -> ChunkError {
    decode(input).1.expect_err("refused")
}

fn body(input: &[u8]) -> Vec<u8> {
    let (body, end) = decode(input);
    assert_eq!(end, Ok(ChunkStep::Done { consumed: input.len() }), "{:?}", input.escape_ascii().to_string());
    body
}

#[test]
fn chunked_body_is_decoded_in_place_and_leaves_the_next_message_alone() {
    assert_eq!(body(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), b"hello world");
    assert_eq!(body(b"0\r\n\r\n"), b"");
    assert_eq!(body(b"A\r\n0123456789\r\n0a\r\n0123456789\r\n000\r\n\r\n"), b"01234567890123456789");
    let (_, end) = decode(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n");
    assert_eq!(end, Ok(ChunkStep::Done { consumed: 11 }));
}

#[test]
fn chunked_steps_name_the_data_within_the_input() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.decode(b"5\r\nhe"), Ok(ChunkStep::Data { skip: 3, len: 2 }));
    assert_eq!(decoder.decode(b""), Ok(ChunkStep::NeedMore { consumed: 0 }));
    assert_eq!(decoder.decode(b"llo\r"), Ok(ChunkStep::Data { skip: 0, len: 3 }));
    assert_eq!(decoder.decode(b"\r"), Ok(ChunkStep::NeedMore { consumed: 1 }));
    assert!(!decoder.is_done());
    assert_eq!(decoder.decode(b"\n0\r\n\r\nX"), Ok(ChunkStep::Done { consumed: 6 }));
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(b"X"), Ok(ChunkStep::Done { consumed: 0 }));
    assert_eq!(decoder.decode(b""), Ok(ChunkStep::Done { consumed: 0 }));
}

#[test]
fn chunked_body_rejects_empty_signed_prefixed_and_spaced_sizes() {
    for bad in [&b"\r\n"[..], b"+5\r\n", b"-5\r\n", b"0x5\r\n", b" 5\r\n", b"5 \r\n", b"5\t;a\r\n", b"g\r\n", b";a\r\n"]
    {
        assert_eq!(error(bad), ChunkError::Size, "{:?}", bad.escape_ascii().to_string());
    }
    assert_eq!(error(b"5_0\r\n"), ChunkError::Size);
    assert_eq!(error(b"\xef\xbc\x95\r\n"), ChunkError::Size);
}

#[test]
fn chunked_body_rejects_overflowing_size() {
    assert_eq!(error(b"10000000000000000\r\n"), ChunkError::SizeOverflow);
    assert_eq!(error(b"FFFFFFFFFFFFFFFFF\r\n"), ChunkError::SizeOverflow);
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.decode(b"FFFFFFFFFFFFFFFF\r\nab"), Ok(ChunkStep::Data { skip: 18, len: 2 }));
}

#[test]
fn chunked_body_bounds_leading_zeros_by_the_line() {
    assert_eq!(body(b"00000000000000000000001\r\na\r\n0\r\n\r\n"), b"a");
    assert_eq!(error(&[b'0'; CHUNK_LINE_BYTES_MAX + 1]), ChunkError::LineTooLong);
}

#[test]
fn chunked_body_bounds_the_needless_zeros_of_all_chunks_together() {
    let padded = |digits: usize| [&vec![b'0'; digits - 1], b"1\r\nx\r\n".as_slice()].concat();
    let (body, end) = decode_chunked(&[&padded(1016).repeat(100)]);
    assert_eq!((body.len(), end), (CHUNK_EXTENSIONS_BYTES_MAX / 1000, Err(ChunkError::ExtensionsTooLong)));
    // A size of fixed width is no abuse, however long the body is.
    let (body, end) = decode_chunked(&[&padded(16).repeat(100_000)]);
    assert_eq!((body.len(), end.is_ok()), (100_000, true));
}

#[test]
fn chunked_body_rejects_bare_line_ends() {
    for bad in
        [&b"1\na\r\n"[..], b"1;a\n", b"1\rX", b"0\r\n\n", b"0\r\nA: b\n", b"0\r\n\rX", b"0\r\nA: b\rX", b"1;a=b\r\r\n"]
    {
        assert_eq!(error(bad), ChunkError::LineEnd, "{:?}", bad.escape_ascii().to_string());
    }
}

#[test]
fn chunked_body_rejects_bad_chunk_terminator() {
    for bad in [&b"1\r\nab\r\n"[..], b"1\r\na\n0\r\n\r\n", b"1\r\na\rX", b"1\r\na0\r\n\r\n", b"2\r\na\r\n0\r\n\r\n"] {
        assert_eq!(error(bad), ChunkError::Terminator, "{:?}", bad.escape_ascii().to_string());
    }
}

#[test]
fn chunked_body_ignores_well_formed_extensions() {
    assert_eq!(body(b"1;a\r\nx\r\n1;a=b;c=\"d;e \\\" f\"\r\ny\r\n0; last\r\n\r\n"), b"xy");
}

#[test]
fn chunked_body_rejects_malformed_extensions() {
    for bad in [&b"1;\r\n"[..], b"1;=b\r\n", b"1;;a\r\n", b"1; \r\n", b"1;a\0\r\n", b"1;a\x7f\r\n", b"1;a=\"\x80\"\r\n"]
    {
        assert_eq!(error(bad), ChunkError::Extension, "{:?}", bad.escape_ascii().to_string());
    }
}

#[test]
fn chunked_body_rejects_oversized_extension() {
    let mut line = b"1;".to_vec();
    line.resize(CHUNK_LINE_BYTES_MAX, b'a');
    let fits = [&line[..], b"\r\nx\r\n0\r\n\r\n"].concat();
    assert_eq!(body(&fits), b"x");
    line.push(b'a');
    assert_eq!(error(&line), ChunkError::LineTooLong);
}

#[test]
fn chunked_body_bounds_the_extensions_of_all_chunks_together() {
    let chunk = [b"1;".as_slice(), &[b'a'; 999], b"\r\nx\r\n"].concat();
    let (body, end) = decode_chunked(&[&chunk.repeat(100)]);
    assert_eq!(end, Err(ChunkError::ExtensionsTooLong));
    assert_eq!(body.len(), CHUNK_EXTENSIONS_BYTES_MAX / 1000);
}

#[test]
fn chunked_trailers_are_checked_and_dropped() {
    let input =
        b"1\r\na\r\n0\r\nDigest: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nEmpty:\r\nO: \xe9\r\n\r\n";
    assert_eq!(body(input), b"a");
}

#[test]
fn chunked_body_rejects_malformed_trailers() {
    for bad in [
        &b"0\r\n: b\r\n"[..],
        b"0\r\nA : b\r\n",
        b"0\r\n A: b\r\n",
        b"0\r\nA\r\n",
        b"0\r\nA: b\r\n c\r\n",
        b"0\r\nA: \0\r\n",
    ] {
        assert_eq!(error(bad), ChunkError::Trailer, "{:?}", bad.escape_ascii().to_string());
    }
}

#[test]
fn chunked_body_rejects_oversized_trailers() {
    let mut many = b"0\r\n".to_vec();
    many.extend(b"a:b\r\n".repeat(TRAILERS_MAX));
    assert_eq!(body(&[&many[..], b"\r\n"].concat()), b"");
    many.push(b'a');
    assert_eq!(error(&many), ChunkError::TooManyTrailers);
    let mut large = b"0\r\na:".to_vec();
    large.resize(3 + TRAILERS_BYTES_MAX, b'x');
    assert_eq!(decode_chunked(&[&large]).1, Ok(ChunkStep::NeedMore { consumed: large.len() }));
    large.push(b'x');
    assert_eq!(decode_chunked(&[&large]).1, Err(ChunkError::TrailersTooLarge));
}

#[test]
fn chunked_error_is_final() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.decode(b"x"), Err(ChunkError::Size));
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(ChunkError::Size));
    assert_eq!(decoder.decode(b""), Err(ChunkError::Size));
}

proptest! {
    #[test]
    fn chunked_round_trip_under_random_splits(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            encode::write_chunk_head(&mut wire, chunk.len() as u64);
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(encode::CHUNK_END);
        }
        wire.extend_from_slice(encode::LAST_CHUNK);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        at.extend([0, wire.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
        let (body, end) = decode_chunked(&parts);
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(end, Ok(ChunkStep::Done { consumed: wire.len() }));
    }

    #[test]
    fn chunked_verdict_on_random_bytes_is_split_invariant(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            prop::collection::vec(prop::sample::select(b"01aF;=\"\r\n\r\n :x\t\x80\0".as_slice()), 0..48),
            prop::collection::vec(
                prop::sample::select(vec!["0\r\n", "\r\n", "1\r\n", "a", "2;x=y\r\n", "ab\r\n", "A: b\r\n", "\n", " "]), 0..12,
            ).prop_map(|parts| parts.concat().into_bytes()),
        ],
    ) {
        check_chunked_split_invariance(&input);
    }
}
