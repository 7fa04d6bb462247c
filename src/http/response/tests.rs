//! Response heads: every refusal and every fact, each under every split.

use super::*;
use crate::http::Method;
use crate::http::oracle::{check_response_head, check_response_head_and_body};
use proptest::prelude::*;

fn parse_for(kind: RequestKind, raw: impl AsRef<[u8]>) -> Result<(Parse, ResponseHead), ResponseError> {
    let limits = HeadLimits::default();
    check_response_head(raw.as_ref(), &limits, kind);
    let mut head = ResponseHead::new();
    parse_response_head(raw.as_ref(), &limits, kind, &mut head).map(|parse| (parse, head))
}

fn head_for(kind: RequestKind, raw: impl AsRef<[u8]>) -> ResponseHead {
    let raw = raw.as_ref();
    match parse_for(kind, raw) {
        Ok((Parse::Complete, head)) => head,
        other => panic!("{:?}: {other:?}", raw.escape_ascii().to_string()),
    }
}

fn head_of(raw: impl AsRef<[u8]>) -> ResponseHead {
    head_for(RequestKind::Other, raw)
}

/// A 1.1 response with these further field lines.
fn with(status: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}{}\r\n", if fields.is_empty() { "" } else { "\r\n" })
}

#[track_caller]
fn assert_each(want: ResponseError, inputs: &[&str]) {
    for raw in inputs {
        let error = parse_for(RequestKind::Other, raw).map(|(parse, _)| parse).expect_err(raw);
        assert_eq!(error, want, "{raw:?}");
        assert!(!error.detail().is_empty() && error.to_string() == error.detail());
    }
}

#[test]
fn response_gives_its_parts_and_leaves_the_body_alone() {
    let raw = b"HTTP/1.1 404 Not \xe9 Found \r\nServer: x\r\nA:\r\nb-C: \t1, \xe92 \t\r\na: z\r\ndate: y\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1";
    let head = head_of(raw);
    let view = head.view(raw);
    assert_eq!(&raw[head.len..], b"abcHTTP/1.1");
    assert_eq!(
        (view.status(), view.version(), view.reason()),
        (Status::NOT_FOUND, Version::Http11, &b"Not \xe9 Found"[..])
    );
    assert_eq!(view.header("B-c"), Some(&b"1, \xe92"[..]));
    assert_eq!((view.header("A"), view.header("x")), (Some(&b""[..]), None));
    assert_eq!(view.header_values("A").collect::<Vec<_>>(), [&b""[..], b"z"]);
    let names: Vec<&str> = view.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["Server", "A", "b-C", "a", "date", "Content-Length"]);
    assert_eq!(head.fields().len(), 6);
    assert_eq!((head.framing, head.content_length, head.persistent), (ResponseFraming::Length(3), Some(3), true));
    assert!(head.has_date() && head.has_server() && !head.upgrade && !head.is_interim());
}

#[test]
fn response_storage_is_reused_without_a_trace_of_the_last_one() {
    let mut head = head_of(with(
        "200 OK",
        "Date: a\r\nServer: b\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\nD: e",
    ));
    let capacity = head.fields.capacity();
    let raw = b"HTTP/1.0 204\r\n\r\n";
    assert_eq!(parse_response_head(raw, &HeadLimits::default(), RequestKind::Other, &mut head), Ok(Parse::Complete));
    assert_eq!(head, head_of(raw));
    assert!(!head.has_date() && !head.has_server());
    assert_eq!(head.fields.capacity(), capacity);
}

#[test]
fn response_has_no_empty_line_before_it() {
    assert_each(
        ResponseError::LeadingLine,
        &["\r", "\n", "\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n", "\nHTTP/1.1 200 OK\r\n\r\n"],
    );
}

#[test]
fn response_version_is_1_0_or_1_1() {
    assert_each(ResponseError::VersionUnsupported, &["HTTP/2.0 200 OK\r\n\r\n", "HTTP/0.9 200 OK\r\n", "HTTP/1.2 "]);
    assert_each(
        ResponseError::VersionMalformed,
        &[
            "http/1.1 200 OK\r\n",
            " HTTP/1.1 200 OK\r\n",
            "HTTP/1 200 OK\r\n",
            "HTTP/11 200\r\n",
            "HTTP/1.1\r\n",
            "HTTP/1.1\t200 OK\r\n",
            "HTTP/1.10 200 OK\r\n",
            "HTTP/-1.1 200 OK\r\n",
            "HTTP/1,1 200",
            "ICY 200 OK\r\n",
            "SSH-2.0",
            "<html>",
            "GET / HTTP/1.1\r\n",
            "hello",
            "\0",
            "5\r\nhello\r\n",
        ],
    );
}

#[test]
fn response_status_is_three_digits_from_100_to_999() {
    assert_each(
        ResponseError::Status,
        &[
            "HTTP/1.1 099 Low\r\n",
            "HTTP/1.1 000 Low\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1 1000\r\n",
            "HTTP/1.1  200 OK\r\n",
            "HTTP/1.1 \t200 OK\r\n",
            "HTTP/1.1 +20 OK\r\n",
            "HTTP/1.1 -20 OK\r\n",
            "HTTP/1.1 2x0 OK\r\n",
            "HTTP/1.1 200\tOK\r\n",
            "HTTP/1.1 200OK\r\n",
            "HTTP/1.1 200;\r\n",
            "HTTP/1.1 OK\r\n",
            "HTTP/1.1 \r\n",
            "HTTP/1.1 20\r\n",
            "HTTP/1.1 ٢٠٠ OK\r\n",
        ],
    );
    for code in 100..=999 {
        assert_eq!(head_of(with(&format!("{code} X"), "")).status.code(), code);
    }
}

#[test]
fn response_reason_may_be_missing_with_the_space_before_it_and_has_no_control_bytes() {
    for (line, reason) in [
        ("200", &b""[..]),
        ("200 ", b""),
        ("200  \t ", b""),
        ("200 OK", b"OK"),
        ("200  Fine,\tthank you: 1/2 ", b"Fine,\tthank you: 1/2"),
        ("200 \u{e9}", "\u{e9}".as_bytes()),
    ] {
        let raw = with(line, "");
        let head = head_of(&raw);
        assert_eq!(head.view(raw.as_bytes()).reason(), reason, "{raw:?}");
    }
    let reasons =
        ["HTTP/1.1 200 O\0K\r\n", "HTTP/1.1 200 \u{b}\r\n", "HTTP/1.1 200 OK\u{7f}", "HTTP/1.1 200 \u{1b}[0m"];
    assert_each(ResponseError::Reason, &reasons);
}

#[test]
fn response_lines_end_with_crlf() {
    assert_each(
        ResponseError::BareLf,
        &[
            "HTTP/1.1 200 OK\nA: b\r\n\r\n",
            "HTTP/1.1 200\n\n",
            "HTTP/1.1 200 \n",
            "HTTP/1.1 200 OK\r\n\n",
            "HTTP/1.1 200 OK\r\nA: b\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n\n",
            "HTTP/1.1 200 OK\r\nA:\n",
        ],
    );
    assert_each(
        ResponseError::BareCr,
        &[
            "HTTP/1.1 200 OK\rX",
            "HTTP/1.1 200\r\r\n",
            "HTTP/1.1 200 O\rK\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\r\n",
            "HTTP/1.1 200 OK\r\n\rX",
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\r\n",
        ],
    );
}

#[test]
fn response_field_lines_are_as_strict_as_those_of_requests() {
    let line = |want, lines: &[&str]| {
        for line in lines {
            assert_each(want, &[&with("200 OK", line)]);
        }
    };
    line(ResponseError::SpaceBeforeColon, &["Transfer-Encoding : chunked", "A\t: b", "A b: c", "A "]);
    line(ResponseError::ObsFold, &[" folded", "\tfolded", "A: b\r\n c", "A: b\r\n\tContent-Length: 5"]);
    line(ResponseError::FieldNameEmpty, &[": b", ":"]);
    line(
        ResponseError::FieldName,
        &["A", "A(b): c", "A\0: b", "A\u{e9}: b", "A/b: c", "\u{b}A: b", "A\r: b", "HTTP/1.1 200 OK"],
    );
    line(ResponseError::FieldValue, &["A: \0", "A: b\0c", "A: b\u{b}c", "A:\u{c}", "A: \u{7f}", "A: \u{1b}[0m"]);
    head_of(with("200 OK", "A: tab\tand obs-text \u{e9}"));
}

#[test]
fn response_limits_are_decided_alike_for_every_split() {
    let limits = HeadLimits { head: 48, headers: 2, target: 0 };
    let check = |raw: &str, want: Result<Parse, ResponseError>| {
        check_response_head(raw.as_bytes(), &limits, RequestKind::Other);
        let verdict = parse_response_head(raw.as_bytes(), &limits, RequestKind::Other, &mut ResponseHead::new());
        assert_eq!(verdict, want, "{raw:?}");
    };
    check("HTTP/1.1 200 OK\r\na: b\r\nc: d\r\n\r\n", Ok(Parse::Complete));
    check("HTTP/1.1 200 OK\r\na: b\r\nc: d\r\ne: f\r\n\r\n", Err(ResponseError::TooManyFields));
    check("HTTP/1.1 200 OK\r\na: b\r\nc: d\r\ne", Err(ResponseError::TooManyFields));
    let pad = |len: usize| format!("HTTP/1.1 200 OK\r\nb: {}\r\n\r\nbody", "c".repeat(len));
    check(&pad(24), Ok(Parse::Complete));
    check(&pad(25), Err(ResponseError::HeadTooLarge));
    let filled = &pad(25)[..48];
    check(filled, Err(ResponseError::HeadTooLarge));
    check(&filled[..47], Ok(Parse::Partial));
    // What is wrong behind the bound is not looked at.
    check(&format!("HTTP/1.1 200 {}\0", "a".repeat(35)), Err(ResponseError::HeadTooLarge));
    check(&format!("HTTP/1.1 200 {}\0", "a".repeat(34)), Err(ResponseError::Reason));
    check("HTTP/1.1 200 OK\r\nServer: a", Ok(Parse::Partial));
}

#[test]
fn response_limits_beyond_the_compiled_bounds_are_capped() {
    let limits = HeadLimits { head: usize::MAX, headers: usize::MAX, target: usize::MAX };
    let parse =
        |raw: String| parse_response_head(raw.as_bytes(), &limits, RequestKind::Other, &mut ResponseHead::new());
    let bomb = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(parse(bomb), Err(ResponseError::HeadTooLarge));
    let bomb = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:b\r\n".repeat(HEADERS_MAX + 1));
    assert_eq!(parse(bomb), Err(ResponseError::TooManyFields));
}

#[test]
fn response_with_ambiguous_framing_is_refused_with_and_without_a_body() {
    use FramingError as E;
    for (fields, want) in [
        ("Content-Length: +5", E::LengthMalformed),
        ("Content-Length: -1", E::LengthMalformed),
        ("Content-Length:", E::LengthMalformed),
        ("Content-Length: 5, 5", E::LengthMalformed),
        ("Content-Length: 18446744073709551616", E::LengthMalformed),
        ("Content-Length: 5\r\nContent-Length: 5", E::LengthRepeated),
        ("Content-Length: 5\r\ncontent-length: 6", E::LengthRepeated),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", E::EncodingAndLength),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", E::EncodingAndLength),
        ("Transfer-Encoding: gzip", E::EncodingUnsupported),
        ("Transfer-Encoding: gzip, chunked", E::EncodingUnsupported),
        ("Transfer-Encoding: identity", E::EncodingUnsupported),
        ("Transfer-Encoding:", E::EncodingUnsupported),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", E::EncodingRepeated),
    ] {
        for status in ["100 A", "200 A", "204 A", "304 A", "500 A"] {
            for kind in [RequestKind::Head, RequestKind::Other] {
                let error = parse_for(kind, with(status, fields)).expect_err(fields);
                assert_eq!(error, ResponseError::Framing(want), "{status} {fields:?}");
            }
        }
    }
    assert_each(
        ResponseError::Framing(E::EncodingInHttp10),
        &["HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
    );
    for fields in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
        for status in ["100 A", "101 A", "103 A", "199 A"] {
            assert_each(ResponseError::Framing(E::BodyInInterim), &[&with(status, fields)]);
        }
    }
}

#[test]
fn response_body_ends_as_status_request_and_fields_say() {
    use RequestKind::{Head, Other};
    use ResponseFraming as F;
    for (kind, status, fields, framing, length, persistent) in [
        (Other, "200", "", F::UntilClose, None, false),
        (Other, "200", "Connection: keep-alive", F::UntilClose, None, false),
        (Other, "200", "Content-Length: 0", F::Length(0), Some(0), true),
        (Other, "500", "content-length:\t12 ", F::Length(12), Some(12), true),
        (Other, "200", "Content-Length: 12\r\nConnection: x, Close", F::Length(12), Some(12), false),
        (Other, "200", "tRANSFER-eNCODING: CHUNKED", F::Chunked, None, true),
        (Other, "205", "Content-Length: 1", F::Length(1), Some(1), true),
        (Other, "204", "", F::None, None, true),
        (Other, "204", "Content-Length: 0", F::None, None, true),
        (Other, "204", "Content-Length: 5", F::None, None, false),
        (Other, "204", "Transfer-Encoding: chunked", F::None, None, false),
        (Head, "204", "Content-Length: 5", F::None, None, false),
        (Other, "304", "Content-Length: 5", F::None, Some(5), true),
        (Other, "304", "Transfer-Encoding: chunked", F::None, None, true),
        (Other, "304", "", F::None, None, true),
        (Head, "200", "Content-Length: 5", F::None, Some(5), true),
        (Head, "200", "Transfer-Encoding: chunked", F::None, None, true),
        (Head, "200", "", F::None, None, true),
        (Head, "404", "Connection: close", F::None, None, false),
        (Other, "100", "", F::None, None, true),
        (Other, "103", "Content-Length: 0", F::None, None, true),
        (Other, "299", "", F::UntilClose, None, false),
        (Other, "999", "Content-Length: 1", F::Length(1), Some(1), true),
    ] {
        let head = head_for(kind, with(status, fields));
        let found = (head.framing, head.content_length, head.persistent);
        assert_eq!(found, (framing, length, persistent), "{kind:?} {status} {fields:?}");
    }
}

#[test]
fn http_1_0_upstream_stays_only_if_it_says_so_and_how_long_its_body_is() {
    let persistent = |fields: &str| head_of(format!("HTTP/1.0 200 OK\r\n{fields}\r\n")).persistent;
    assert!(!persistent(""));
    assert!(!persistent("Content-Length: 1\r\n"));
    assert!(!persistent("Connection: keep-alive\r\n"));
    assert!(persistent("Content-Length: 1\r\nConnection: Keep-Alive\r\n"));
    assert!(!persistent("Content-Length: 1\r\nConnection: Keep-Alive, close\r\n"));
    let raw = with("200 OK", "Connection: close , X-Hop\r\nConnection: te");
    let head = head_of(&raw);
    assert!(head.view(raw.as_bytes()).connection_options().eq([&b"close"[..], b"X-Hop", b"te"]));
}

#[test]
fn response_upgrade_needs_both_fields_and_http_1_1() {
    let head = head_of(with("101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: websocket"));
    assert!(head.upgrade && head.is_interim());
    assert_eq!(head.framing, ResponseFraming::None);
    assert!(!head_of(with("101 A", "Upgrade: websocket")).upgrade);
    assert!(!head_of(with("101 A", "Connection: upgrade")).upgrade);
    assert!(!head_of("HTTP/1.0 101 A\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").upgrade);
}

#[test]
fn bytes_behind_a_response_head_never_matter() {
    let raw = with("200 OK", "A: b");
    for tail in ["\0", "\n\n", " x", "HTTP/9.9 200"] {
        assert_eq!(head_of(format!("{raw}{tail}")), head_of(&raw));
    }
}

#[test]
fn responses_one_behind_the_other_are_told_apart() {
    let stream = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Hop\r\n\r\n\
        5\r\nhello\r\n0;last\r\nX-Sum: 1\r\nHost: evil\r\nX-Hop: 1\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.0 200 OK\r\n\r\nuntil close";
    for first in ["G", "H", "z", "\u{7f}"] {
        check_response_head_and_body(format!("{first}{stream}").as_bytes());
    }
    assert_eq!(RequestKind::of(Method::Head), Some(RequestKind::Head));
}

/// Pieces that make nearly valid streams of responses, so that random ones come to every check.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100\r\n\r\n",
        "HTTP/1.1 204 \r\n",
        "HTTP/1.1 304 \u{e9}\r\n",
        "HTTP/1.1 ",
        "HTTP/2.0 200\r\n",
        "101 A\r\n",
        "Content-Length: 1\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, x\r\n",
        "Connection: upgrade\r\nUpgrade: y\r\n",
        "Date: a\r\n",
        "Server: b\r\n",
        "A: b\n",
        "A : b\r\n",
        " fold\r\n",
        "A: ",
        "\u{e9}",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        "\0",
        ":",
        "1\r\na\r\n",
        "0\r\n",
        "x: y\r\n\r\n",
        "Host: y\r\n",
    ]);
    let streams = prop_oneof![
        prop::collection::vec(piece.clone(), 0..14).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(piece.clone(), 0..8)
            .prop_map(|pieces| format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", pieces.concat())),
        prop::collection::vec(piece, 0..8).prop_map(|pieces| format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n{}0\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n",
            pieces.concat()
        )),
    ];
    (any::<u8>(), streams).prop_map(|(first, stream)| [&[first][..], stream.as_bytes()].concat())
}

proptest! {
    #[test]
    fn responses_on_nearly_valid_streams_are_split_invariant(raw in pieces()) {
        check_response_head_and_body(&raw);
    }

    #[test]
    fn responses_on_random_bytes_are_split_invariant(raw in prop::collection::vec(any::<u8>(), 0..100)) {
        check_response_head_and_body(&raw);
    }

    #[test]
    fn responses_with_one_byte_changed_are_split_invariant(at in any::<prop::sample::Index>(), b: u8) {
        let mut raw = b"GHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX:  y \r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\nHTTP/1.1 204 \r\n\r\n".to_vec();
        let at = at.index(raw.len());
        raw[at] = b;
        check_response_head_and_body(&raw);
    }
}
