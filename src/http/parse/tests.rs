//! Heads: every row of the strictness table, each under every split.

use super::*;
use crate::http::error::FramingError;
use crate::http::framing::BodyFraming;
use crate::http::head::RequestHead;
use crate::http::oracle::check_head_split_invariance;
use proptest::prelude::*;

/// Parses `raw` whole, after trying every prefix of it.
fn parse(raw: impl AsRef<[u8]>) -> Result<(Parse, Head), HeadError> {
    check_head_split_invariance(raw.as_ref());
    let mut head = Head::new();
    parse_head(raw.as_ref(), &HeadLimits::default(), &mut head).map(|parse| (parse, head))
}

fn head_of(raw: impl AsRef<[u8]>) -> Head {
    let raw = raw.as_ref();
    match parse(raw) {
        Ok((Parse::Complete, head)) => head,
        other => panic!("{:?}: {other:?}", raw.escape_ascii().to_string()),
    }
}

fn error_of(raw: impl AsRef<[u8]>) -> HeadError {
    let raw = raw.as_ref();
    parse(raw).map(|(parse, _)| parse).expect_err(&raw.escape_ascii().to_string())
}

/// A 1.1 request with these further field lines.
fn with_fields(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

#[track_caller]
fn assert_each(want: HeadError, inputs: &[&str]) {
    for raw in inputs {
        assert_eq!(error_of(raw), want, "{raw:?}");
    }
}

#[test]
fn head_gives_its_parts_and_leaves_the_body_alone() {
    let raw = b"POST /a/./b?x=%zz&y HTTP/1.1\r\nHost: Example.com:8080\r\nA:\r\nb-C: \t1, \xe92 \t\r\na: z\r\nContent-Length: 3\r\n\r\nabcGET";
    let head = head_of(raw);
    let view = RequestHead::new(raw, &head);
    assert_eq!(&raw[head.len..], b"abcGET");
    assert_eq!((view.method(), view.method_str(), view.version()), (Method::Post, "POST", Version::Http11));
    assert_eq!((view.target(), view.form()), ("/a/./b?x=%zz&y", TargetForm::Origin));
    assert_eq!((view.path(), view.raw_path(), view.query()), ("/a/b", "/a/./b", Some("x=%zz&y")));
    assert_eq!(
        (view.authority(), view.host(), view.port()),
        (Some("Example.com:8080"), Some("Example.com"), Some(8080))
    );
    assert_eq!(view.header("B-c"), Some(&b"1, \xe92"[..]));
    assert_eq!(view.header("A"), Some(&b""[..]));
    assert_eq!(view.header("x"), None);
    assert_eq!(view.header_values("A").collect::<Vec<_>>(), [&b""[..], b"z"]);
    let names: Vec<&str> = view.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "A", "b-C", "a", "Content-Length"]);
    assert_eq!(
        (head.framing, head.persistent, head.expect_continue, head.upgrade),
        (BodyFraming::Length(3), true, false, false)
    );
}

#[test]
fn head_storage_is_reused_without_a_trace_of_the_last_request() {
    let mut head = head_of(
        "PURGE /%41/../b?q HTTP/1.1\r\nHost: a:1\r\nConnection: close, upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    );
    let capacity = head.fields.capacity();
    let raw = b"GET / HTTP/1.0\r\n\r\n";
    assert_eq!(parse_head(raw, &HeadLimits::default(), &mut head), Ok(Parse::Complete));
    assert_eq!(head, head_of(raw));
    assert_eq!(head.fields.capacity(), capacity);
}

#[test]
fn extension_method_keeps_its_name() {
    let raw = "get / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = head_of(raw);
    assert_eq!(head.view(raw.as_bytes()).method_str(), "get");
    assert_eq!(head.method, Method::Extension);
}

#[test]
fn one_leading_empty_line_is_forgiven_and_two_are_not() {
    assert_eq!(head_of("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").len, 29);
    assert_each(HeadError::LeadingLines, &["\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n", "\r\n\n"]);
    assert_each(HeadError::BareLf, &["\n", "\nGET / HTTP/1.1\r\n"]);
    assert_each(HeadError::BareCr, &["\rGET", "\r\r\n"]);
}

#[test]
fn bare_lf_is_refused_at_the_end_of_every_line() {
    assert_each(
        HeadError::BareLf,
        &[
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a \n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nX:\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \n\r\n",
            "GET / HTTP/1.0\n\n",
            "GET / HTTP/1.0\r\n\n",
            "GET / HTTP/1.0\n\r\n",
            "GET / HTTP/1.2\n",
        ],
    );
}

#[test]
fn bare_cr_is_refused_everywhere() {
    assert_each(
        HeadError::BareCr,
        &[
            "GET / HTTP/1.1\rX",
            "GET / HTTP/1.2\rX",
            "GET / HTTP/1.1\r\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\r\n",
            "GET / HTTP/1.1\r\nHost:\rb\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\rX",
            "GET / HTTP/1.0\r\n\rX",
        ],
    );
}

#[test]
fn field_names_are_tokens_directly_before_their_colon() {
    let line = |line: &str| error_of(with_fields(line));
    for space in ["Transfer-Encoding : chunked", "A\t: b", "A b: c", "A "] {
        assert_eq!(line(space), HeadError::SpaceBeforeColon, "{space:?}");
    }
    for fold in [" folded", "\tfolded", "A: b\r\n c", "A: b\r\n\tTransfer-Encoding: chunked"] {
        assert_eq!(line(fold), HeadError::ObsFold, "{fold:?}");
    }
    assert_eq!(error_of("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), HeadError::ObsFold);
    for empty in [": b", ":"] {
        assert_eq!(line(empty), HeadError::FieldNameEmpty, "{empty:?}");
    }
    for name in ["A", "A(b): c", "A\0: b", "A\u{e9}: b", "A\"b\": c", "A/b: c", "{A}: b", "\u{b}A: b", "A\r: b"] {
        assert_eq!(line(name), HeadError::FieldName, "{name:?}");
    }
}

#[test]
fn field_values_have_no_control_bytes() {
    for value in
        ["A: \0", "A: b\0c", "A: b\u{b}c", "Transfer-Encoding:\u{b}chunked", "A:\u{c}", "A: \u{7f}", "A: \u{1b}[0m"]
    {
        assert_eq!(error_of(with_fields(value)), HeadError::FieldValue, "{value:?}");
    }
    head_of(with_fields("A: tab\tand obs-text \u{e9}"));
}

#[test]
fn request_line_is_three_words_with_single_spaces() {
    assert_each(
        HeadError::MethodInvalid,
        &[" GET", "G\0T", "GET\t/", "\u{16}\u{3}\u{1}", "GET\r\n", "{}", "G\u{e9}T / "],
    );
    assert_each(
        HeadError::RequestLine,
        &[
            "GET  / HTTP/1.1\r\n",
            "GET /\tHTTP/1.1",
            "GET /\r\n",
            "GET /\n",
            "GET / HTTP/1.1 x",
            "GET / HTTP/1.1X",
            "GET / HTTP/1.2 ",
            "GET /\u{7f} ",
        ],
    );
    assert_each(HeadError::VersionMalformed, &["GET / / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n", "GET / \r\n", "GET / x"]);
}

#[test]
fn method_is_a_bounded_token() {
    let longest = "M".repeat(METHOD_BYTES_MAX);
    head_of(format!("{longest} / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let error = error_of(format!("{longest}M / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!((error, error.status().code()), (HeadError::MethodTooLong, 501));
}

#[test]
fn version_other_than_1_0_and_1_1_is_505_and_anything_else_400() {
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/9.9"] {
        let error = error_of(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert_eq!((error, error.status().code()), (HeadError::VersionUnsupported, 505), "{version}");
    }
    for version in ["http/1.1", "HTTP/1", "HTTP/11", "HTTP/1,1", "HTTP/ 1.1", "HTTP/a.1", "HTCPCP/1.0", "HTTP/-1.1"] {
        let error = error_of(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert_eq!((error, error.status().code()), (HeadError::VersionMalformed, 400), "{version}");
    }
    assert_eq!(error_of("GET / HTTP/1.10\r\n"), HeadError::RequestLine);
    assert_eq!(error_of("GET / HTTP/2.00\r\n"), HeadError::RequestLine);
}

#[test]
fn head_limits_are_decided_alike_for_every_split() {
    let limits = HeadLimits { head: 64, headers: 2, target: 16 };
    let check = |raw: &str, want: Result<Parse, HeadError>| {
        for len in 0..=raw.len() {
            let verdict = parse_head(&raw.as_bytes()[..len], &limits, &mut Head::new());
            assert!(verdict == want || verdict == Ok(Parse::Partial), "{raw:?} at {len}: {verdict:?}");
        }
        assert_eq!(parse_head(raw.as_bytes(), &limits, &mut Head::new()), want, "{raw:?}");
    };
    check("GET /aaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Parse::Complete));
    check("GET /aaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\n", Err(HeadError::TargetTooLong));
    check("GET /aaaaaaaaaaaaaaaa\0\r\r\n\n", Err(HeadError::TargetTooLong));
    check("GET /aaaaaaaaaaaaaa\0aaaaaaaaaaaaa", Err(HeadError::RequestLine));
    check("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n\r\n", Ok(Parse::Complete));
    check("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\nd: e\r\n\r\n", Err(HeadError::TooManyFields));
    check("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n\0", Err(HeadError::FieldName));
    let pad = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nb: {}\r\n\r\nbody", "c".repeat(len));
    check(&pad(32), Ok(Parse::Complete));
    check(&pad(33), Err(HeadError::HeadTooLarge));
    check(&format!("{}\0", pad(60)), Err(HeadError::HeadTooLarge));
    // What is wrong behind the bound is not looked at.
    check(&format!("GET / HTTP/1.1\r\nHost: {}\0", "a".repeat(42)), Err(HeadError::HeadTooLarge));
}

#[test]
fn target_that_fills_the_head_is_414() {
    let limits = HeadLimits { head: 32, headers: 4, target: 1000 };
    let raw = format!("GET /{} HTTP/1.1\r\n", "a".repeat(40));
    assert_eq!(parse_head(&raw.as_bytes()[..31], &limits, &mut Head::new()), Ok(Parse::Partial));
    for len in 32..=raw.len() {
        assert_eq!(parse_head(&raw.as_bytes()[..len], &limits, &mut Head::new()), Err(HeadError::TargetTooLong));
    }
}

#[test]
fn limits_beyond_the_compiled_bounds_are_capped() {
    let limits = HeadLimits { head: usize::MAX, headers: usize::MAX, target: usize::MAX };
    let raw = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(parse_head(raw.as_bytes(), &limits, &mut Head::new()), Err(HeadError::TargetTooLong));
    let raw = format!("GET / HTTP/1.0\r\n{}\r\n", "a:b\r\n".repeat(HEADERS_MAX + 1));
    assert_eq!(parse_head(raw.as_bytes(), &limits, &mut Head::new()), Err(HeadError::TooManyFields));
}

#[test]
fn ambiguous_framing_is_refused() {
    use FramingError as E;
    for (fields, want) in [
        ("Content-Length: +5", E::LengthMalformed),
        ("Content-Length: -1", E::LengthMalformed),
        ("Content-Length:", E::LengthMalformed),
        ("Content-Length: ", E::LengthMalformed),
        ("Content-Length: 5, 5", E::LengthMalformed),
        ("Content-Length: 5 5", E::LengthMalformed),
        ("Content-Length: 18446744073709551616", E::LengthMalformed),
        ("Content-Length: 5\r\nContent-Length: 5", E::LengthRepeated),
        ("Content-Length: 5\r\ncontent-length: 6", E::LengthRepeated),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", E::EncodingAndLength),
        ("Content-Length: x\r\nTransfer-Encoding: gzip", E::EncodingAndLength),
        ("Transfer-Encoding: gzip", E::EncodingUnsupported),
        ("Transfer-Encoding: chunked, chunked", E::EncodingUnsupported),
        ("Transfer-Encoding: gzip, chunked", E::EncodingUnsupported),
        ("Transfer-Encoding: identity", E::EncodingUnsupported),
        ("Transfer-Encoding: xchunked", E::EncodingUnsupported),
        ("Transfer-Encoding: chunked;a=b", E::EncodingUnsupported),
        ("Transfer-Encoding: \"chunked\"", E::EncodingUnsupported),
        ("Transfer-Encoding:", E::EncodingUnsupported),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", E::EncodingRepeated),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", E::EncodingRepeated),
    ] {
        assert_eq!(error_of(with_fields(fields)), HeadError::Framing(want), "{fields:?}");
    }
    let in_http10 = error_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(in_http10, HeadError::Framing(E::EncodingInHttp10));
}

#[test]
fn framing_is_found_whatever_the_case_and_the_white_space_around_the_value() {
    assert_eq!(head_of(with_fields("tRANSFER-eNCODING:\t CHUNKED \t")).framing, BodyFraming::Chunked);
    assert_eq!(head_of(with_fields("content-LENGTH:7")).framing, BodyFraming::Length(7));
    assert_eq!(head_of(with_fields("A: b")).framing, BodyFraming::None);
    assert_eq!(head_of("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n").framing, BodyFraming::Length(1));
}

#[test]
fn host_is_needed_once_and_valid() {
    assert_each(HeadError::HostMissing, &["GET / HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n"]);
    assert_each(
        HeadError::HostRepeated,
        &["GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\nhost: a\r\nHOST: b\r\nHost: c\r\n\r\n"],
    );
    for host in ["", " ", "a b", "a, b", "a,b", "a/b", "u@a", "a:b", "a:99999", "[::1", ":80", "é", "a#", "a\tb"] {
        assert_eq!(error_of(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), HeadError::HostInvalid, "{host:?}");
        assert_eq!(error_of(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")), HeadError::HostInvalid, "{host:?}");
    }
    let raw = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(head_of(raw).view(raw.as_bytes()).host(), None);
    let raw = "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n";
    assert_eq!(head_of(raw).view(raw.as_bytes()).host(), Some("[::1]"));
}

#[test]
fn absolute_form_names_the_authority_that_host_names() {
    for (target, host, path, query) in [
        ("http://A.example/x?y", "a.example", "/x", Some("y")),
        ("http://a:80/x", "a", "/x", None),
        ("http://a/x", "a:80", "/x", None),
        ("HTTPS://a:443", "a", "/", None),
        ("http://a?q", "a:", "/", Some("q")),
        ("http://[::1]:81/../b", "[::1]:81", "", None),
    ] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        if path.is_empty() {
            assert_eq!(error_of(&raw), HeadError::Target(TargetError::AboveRoot));
            continue;
        }
        let head = head_of(&raw);
        let view = head.view(raw.as_bytes());
        assert_eq!((view.form(), view.path(), view.query()), (TargetForm::Absolute, path, query), "{raw:?}");
        assert!(view.host().is_some_and(|named| host.starts_with(&named.to_ascii_lowercase())));
    }
    for (target, host) in [("http://a/", "b"), ("http://a:81/", "a"), ("http://a/", "a:443"), ("https://a/", "a:80")] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(error_of(&raw), HeadError::HostMismatch, "{raw:?}");
    }
    let raw = "GET http://a/ HTTP/1.0\r\n\r\n";
    assert_eq!(head_of(raw).view(raw.as_bytes()).host(), Some("a"));
}

#[test]
fn target_form_fits_its_method() {
    let target = |method: &str, target: &str| parse(format!("{method} {target} HTTP/1.1\r\nHost: a:1\r\n\r\n"));
    let error = |method, raw| target(method, raw).map(|(parse, _)| parse).expect_err(raw);
    assert_eq!(target("OPTIONS", "*").unwrap().1.form, TargetForm::Asterisk);
    assert_eq!(target("CONNECT", "a:1").unwrap().1.form, TargetForm::Authority);
    for (method, raw, want) in [
        ("GET", "*", TargetError::Form),
        ("OPTIONS", "**", TargetError::Form),
        ("GET", "a:1", TargetError::Form),
        ("GET", "index.html", TargetError::Form),
        ("GET", "?q", TargetError::Form),
        ("GET", "ftp://a:1/", TargetError::Scheme),
        ("GET", "http:/a", TargetError::Form),
        ("GET", "http:///a", TargetError::Authority),
        ("GET", "http://u@a:1/", TargetError::Authority),
        ("GET", "http://a:1#f", TargetError::Authority),
        ("CONNECT", "a", TargetError::Authority),
        ("CONNECT", "/", TargetError::Authority),
        ("CONNECT", "http://a:1/", TargetError::Authority),
        ("GET", "/a#b", TargetError::Byte),
        ("GET", "/a?b#c", TargetError::Byte),
        ("GET", "/\u{e9}", TargetError::Byte),
        ("GET", "/?\u{e9}", TargetError::Byte),
        ("GET", "/%2f", TargetError::EncodedSlash),
        ("GET", "/%00", TargetError::EncodedNul),
        ("GET", "/%", TargetError::Escape),
        ("GET", "/../a", TargetError::AboveRoot),
    ] {
        assert_eq!(error(method, raw), HeadError::Target(want), "{method} {raw}");
    }
    assert_eq!(error_of(b"GET /\xe9 HTTP/1.1\r\n"), HeadError::Target(TargetError::Byte));
}

#[test]
fn options_on_an_absolute_form_without_a_path_is_about_the_server() {
    let raw = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(head_of(raw).view(raw.as_bytes()).path(), "*");
    let raw = "OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(head_of(raw).view(raw.as_bytes()).path(), "/");
}

#[test]
fn encoded_slash_is_kept_where_it_is_allowed() {
    let raw = b"GET /a%2fb HTTP/1.0\r\n\r\n";
    let mut head = Head::new();
    let verdict = parse_head_with(raw, &HeadLimits::default(), EncodedSlash::Allow, &mut head);
    assert_eq!((verdict, head.view(raw).path()), (Ok(Parse::Complete), "/a%2Fb"));
}

#[test]
fn connection_options_decide_persistence_and_close_wins() {
    let persistent =
        |version: &str, fields: &str| head_of(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")).persistent;
    for (fields, in_10, in_11) in [
        ("", false, true),
        ("Connection: close\r\n", false, false),
        ("Connection: CLOSE\r\n", false, false),
        ("Connection: Keep-Alive\r\n", true, true),
        ("Connection: keep-alive, close\r\n", false, false),
        ("Connection: close\r\nConnection: keep-alive\r\n", false, false),
        ("Connection: x,, \tkeep-alive ,\r\n", true, true),
        ("Connection: x\r\nconnection: close\r\n", false, false),
        ("Connection: closed, not-keep-alive\r\n", false, true),
        ("Connection:\r\n", false, true),
    ] {
        assert_eq!((persistent("1.0", fields), persistent("1.1", fields)), (in_10, in_11), "{fields:?}");
    }
    let raw = with_fields("Connection: close , X-Hop\r\nConnection: te");
    let head = head_of(&raw);
    assert!(head.view(raw.as_bytes()).connection_options().eq([&b"close"[..], b"X-Hop", b"te"]));
}

#[test]
fn upgrade_needs_both_fields_and_http_1_1() {
    assert!(head_of(with_fields("Connection: keep-alive, Upgrade\r\nUpgrade: websocket")).upgrade);
    assert!(!head_of(with_fields("Upgrade: websocket")).upgrade);
    assert!(!head_of(with_fields("Connection: upgrade")).upgrade);
    assert!(!head_of("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").upgrade);
}

#[test]
fn unknown_expectation_is_417_except_in_http_1_0() {
    assert!(head_of(with_fields("Expect: 100-Continue\r\nContent-Length: 1")).expect_continue);
    assert!(head_of(with_fields("Expect: 100-continue\r\nTransfer-Encoding: chunked")).expect_continue);
    assert!(!head_of(with_fields("Expect: 100-continue\r\nContent-Length: 0")).expect_continue);
    assert!(!head_of(with_fields("Expect: 100-continue")).expect_continue);
    for fields in [
        "Expect: 200-ok",
        "Expect:",
        "Expect: 100-continue, x",
        "Expect: 100-continue\r\nExpect: x",
        "Expect: x\r\nExpect: 100-continue",
    ] {
        let error = error_of(with_fields(fields));
        assert_eq!((error, error.status().code()), (HeadError::Expectation, 417), "{fields:?}");
    }
    assert!(!head_of("POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\n").expect_continue);
    assert!(!head_of("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expect_continue);
}

#[test]
fn first_of_several_faults_is_reported() {
    assert_eq!(error_of("GET /# HTTP/1.1\nHost: a\r\nHost: b\r\n\r\n"), HeadError::BareLf);
    assert_eq!(error_of("GET /# HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), HeadError::Target(TargetError::Byte));
    assert_eq!(error_of("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), HeadError::HostMissing);
    let fields = "Content-Length: x\r\nExpect: y";
    assert_eq!(error_of(with_fields(fields)), HeadError::Framing(FramingError::LengthMalformed));
}

#[test]
fn bytes_behind_the_head_never_matter() {
    let raw = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for tail in ["\0", "\n\n", " x", "GET / HTTP/9.9\r\n\r\n"] {
        assert_eq!(head_of(format!("{raw}{tail}")), head_of(raw));
    }
}

/// Pieces that make nearly valid heads, so that random ones come to every check.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET ",
        "OPTIONS ",
        "CONNECT ",
        "/",
        "*",
        "/a/../b",
        "%2f",
        "http://a",
        "?q",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        " HTTP/2.0\r\n",
        " HTTP/1.1\n",
        "Host: a\r\n",
        "Host: b:1\r\n",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
        "A: b\n",
        "A : b\r\n",
        " fold\r\n",
        "A: ",
        "\u{e9}",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        "\0",
        ":",
        "x: y\r\n\r\n",
    ]);
    prop_oneof![
        prop::collection::vec(piece.clone(), 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
        prop::collection::vec(piece, 0..8).prop_map(|pieces| format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
            pieces.concat()
        )
        .into_bytes()),
    ]
}

proptest! {
    #[test]
    fn head_verdict_on_nearly_valid_heads_is_split_invariant(raw in pieces()) {
        check_head_split_invariance(&raw);
    }

    #[test]
    fn head_verdict_on_random_bytes_is_split_invariant(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        check_head_split_invariance(&raw);
    }

    #[test]
    fn head_verdict_on_a_head_with_one_byte_changed_is_split_invariant(at in any::<prop::sample::Index>(), b: u8) {
        let mut raw = b"\r\nPOST /a/%41?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nX:  y \r\n\r\nabc".to_vec();
        let at = at.index(raw.len());
        raw[at] = b;
        check_head_split_invariance(&raw);
    }
}
