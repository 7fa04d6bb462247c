//! Requests that are refused, each with the status that answers it. Every one holds [`MARKER`] somewhere, which no answer
//! may repeat.

/// Stands in every request; an error body that echoes input would show it.
pub(super) const MARKER: &str = "mArKeR";

/// Bounds that the server of these tests is given, small so that a head beyond them is short.
pub(super) const HEAD_MAX: usize = 1024;
pub(super) const TARGET_MAX: usize = 256;
pub(super) const HEADERS_MAX: usize = 16;
pub(super) const BODY_MAX: usize = 64 * 1024;

/// A request that is refused.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Vec<u8>,
    pub(super) status: u16,
}

fn case(status: u16, name: impl Into<String>, request: impl Into<Vec<u8>>) -> Case {
    Case { name: name.into(), request: request.into(), status }
}

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let groups =
        [lengths(), codings(), lines(), names_and_values(), request_lines(), targets(), hosts(), chunks(), sizes()];
    groups.into_iter().flatten().collect()
}

/// A GET with these header lines besides `Host`.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("GET /{MARKER} HTTP/1.1\r\nHost: test\r\n{fields}\r\n").into_bytes()
}

fn lengths() -> Vec<Case> {
    let values = [
        "",
        "+3",
        "-3",
        "-0",
        "3,3",
        "3, 3",
        "3,4",
        "3 3",
        "3;",
        "0x3",
        "3.0",
        "1e1",
        "\"3\"",
        "three",
        "18446744073709551616",
        "99999999999999999999999999",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| case(400, format!("length {value:?}"), with_fields(&format!("Content-Length: {value}\r\n"))))
        .collect();
    for (name, fields) in [
        ("lengths that differ", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("lengths that repeat", "Content-Length: 3\r\nContent-Length: 3\r\n"),
        ("lengths in two cases", "content-length: 0\r\nX: y\r\nCONTENT-LENGTH: 0\r\n"),
        ("length and coding", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("coding and length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("coding and length zero", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
    ] {
        cases.push(case(400, name, with_fields(fields)));
    }
    cases
}

fn codings() -> Vec<Case> {
    let values = [
        "",
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked chunked",
        "chunke",
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|value| case(400, format!("coding {value:?}"), with_fields(&format!("Transfer-Encoding: {value}\r\n"))))
        .collect();
    for (name, fields) in [
        ("codings that repeat", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("codings that add up", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("coding behind a vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
        ("coding with a folded value", "Transfer-Encoding:\r\n chunked\r\n"),
        ("coding with space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("coding in a name with a tab", "Transfer-Encoding\t: chunked\r\n"),
    ] {
        cases.push(case(400, name, with_fields(fields)));
    }
    let in_1_0 = format!("GET /{MARKER} HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    cases.push(case(400, "coding in HTTP/1.0", in_1_0));
    cases
}

fn lines() -> Vec<Case> {
    let get = format!("GET /{MARKER} HTTP/1.1");
    [
        ("LF for every line end", format!("{get}\nHost: test\n\n")),
        ("LF after the request line", format!("{get}\nHost: test\r\n\r\n")),
        ("LF after a field", format!("{get}\r\nHost: test\nX: y\r\n\r\n")),
        ("LF for the empty line", format!("{get}\r\nHost: test\r\n\n")),
        ("LF after the last field", format!("{get}\r\nHost: test\r\nX: y\n\r\n")),
        ("CR within a value", format!("{get}\r\nHost: test\r\nX: a\rb\r\n\r\n")),
        ("CR after the request line", format!("{get}\rHost: test\r\n\r\n")),
        ("CR CR LF after a field", format!("{get}\r\nHost: test\r\nX: y\r\r\n\r\n")),
        ("CR for the empty line", format!("{get}\r\nHost: test\r\n\rX")),
        ("two empty lines first", format!("\r\n\r\n{get}\r\nHost: test\r\n\r\n")),
        ("LF first", format!("\n{get}\r\nHost: test\r\n\r\n")),
        ("CR first", format!("\r{get}\r\nHost: test\r\n\r\n")),
        ("fold with a space", format!("{get}\r\nHost: test\r\nX: a\r\n b\r\n\r\n")),
        ("fold with a tab", format!("{get}\r\nHost: test\r\nX: a\r\n\tb\r\n\r\n")),
        ("fold of the first field", format!("{get}\r\n Host: test\r\n\r\n")),
        ("fold that is empty", format!("{get}\r\nHost: test\r\n \r\n\r\n")),
    ]
    .map(|(name, request)| case(400, name, request))
    .into()
}

fn names_and_values() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, field) in [
        ("space before the colon", &b"X : y"[..]),
        ("tab before the colon", b"X\t: y"),
        ("no name", b": y"),
        ("no colon", b"Xy"),
        ("space in a name", b"X y: z"),
        ("parenthesis in a name", b"X(y): z"),
        ("control byte in a name", b"X\x01: y"),
        ("NUL in a name", b"X\0: y"),
        ("DEL in a name", b"X\x7f: y"),
        ("non-ASCII name", b"X\xc3\xa9: y"),
        ("quoted name", b"\"X\": y"),
        ("NUL in a value", b"X: a\0b"),
        ("control byte in a value", b"X: a\x01b"),
        ("escape in a value", b"X: \x1b[31m"),
        ("DEL in a value", b"X: a\x7fb"),
    ] {
        let mut request = format!("GET /{MARKER} HTTP/1.1\r\nHost: test\r\n").into_bytes();
        request.extend_from_slice(field);
        request.extend_from_slice(b"\r\n\r\n");
        cases.push(case(400, name, request));
    }
    cases
}

fn request_lines() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in [
        "GET  /M HTTP/1.1",
        "GET /M  HTTP/1.1",
        " GET /M HTTP/1.1",
        "GET /M HTTP/1.1 ",
        "GET /M HTTP/1.1 junk",
        "GET /M",
        "GET /M ",
        "GET\t/M HTTP/1.1",
        "GET /M\tHTTP/1.1",
        "GET  HTTP/1.1",
        "GE(T /M HTTP/1.1",
        "GET: /M HTTP/1.1",
        "G\0ET /M HTTP/1.1",
        "GET /M http/1.1",
        "GET /M HTTP/1.1.1",
        "GET /M HTTP/11",
        "GET /M HTTP/1",
        "GET /M HTTP/1.",
        "GET /M HTTP/.1",
        "GET /M HTTP 1.1",
        "GET /M HTTPS/1.1",
        "GET /M HTTP/1.a",
        "GET /M HTTP/01.1",
        "GET /M XTTP/1.1",
        "GET /M HTTP/1.10",
        "\u{feff}GET /M HTTP/1.1",
        "{\"M\": 1}",
        "\x16\x03\x01\x02 M",
    ] {
        let line = line.replace('M', MARKER);
        cases.push(case(400, format!("line {line:?}"), format!("{line}\r\nHost: test\r\n\r\n")));
    }
    for version in ["2.0", "1.2", "0.9", "3.0", "9.9", "1.9"] {
        let request = format!("GET /{MARKER} HTTP/{version}\r\nHost: test\r\n\r\n");
        cases.push(case(505, format!("version {version}"), request));
    }
    cases.push(case(505, "preface of HTTP/2", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{MARKER}")));
    cases
}

fn targets() -> Vec<Case> {
    let mut cases = Vec::new();
    for target in [
        "M",
        "*",
        "M:80",
        "//M#f",
        "/M#f",
        "/M%",
        "/M%4",
        "/M%zz",
        "/M%00",
        "/%00M",
        "/a%2FM",
        "/a%2fM",
        "/..",
        "/../M",
        "/a/../../M",
        "/%2e%2e/M",
        "/.%2E/M",
        "/a/%2e%2E/../M",
        "/M\\b",
        "/M\"b",
        "/M<b>",
        "/M`",
        "/M\u{e9}",
        "/M\x7f",
        "/M\x01",
        "/M?\u{e9}",
        "?M",
        "ftp://test/M",
        "file:///M",
        "http:/M",
        "http://",
        "http:///M",
        "http://u@test/M",
        "http://u:p@test/M",
        "http://other/M",
        "http://test:81/M",
        "http://test.evil/M",
        "https://test:80/M",
        "http://[::1/M",
        "http://te st/M",
        "HTTP//test/M",
    ] {
        let target = target.replace('M', MARKER);
        cases.push(case(400, format!("target {target:?}"), format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")));
    }
    let not_utf8 = [b"GET /\xff\xfe HTTP/1.1\r\nHost: test\r\nX: ", MARKER.as_bytes(), b"\r\n\r\n"].concat();
    cases.push(case(400, "target that is not UTF-8", not_utf8));
    for (status, target) in
        [(400, "/M"), (400, "test"), (400, "test:"), (400, "*"), (400, "other:80"), (400, "http://test/")]
    {
        let target = target.replace('M', MARKER);
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: test:80\r\nX: {MARKER}\r\n\r\n");
        cases.push(case(status, format!("CONNECT {target:?}"), request));
    }
    cases
}

fn hosts() -> Vec<Case> {
    let mut cases = vec![case(400, "no host", format!("GET /{MARKER} HTTP/1.1\r\nX: y\r\n\r\n"))];
    for (name, fields) in [
        ("two hosts", "Host: test\r\nHost: other\r\n"),
        ("the same host twice", "Host: test\r\nX: y\r\nhost: test\r\n"),
    ] {
        cases.push(case(400, name, format!("GET /{MARKER} HTTP/1.1\r\n{fields}\r\n")));
    }
    for host in [
        "",
        "a b",
        "a,b",
        "a, b",
        "u@test",
        "http://test",
        "te/st",
        "te?st",
        "te#st",
        "te\\st",
        "te%73t",
        "[::1",
        "::1]",
        "[::g]",
        "[::1%25lo]",
        "[]",
        "test:x",
        "test:99999",
        "test:000080",
        "test:-1",
        "test:80:80",
        ":80",
        "t\u{e9}st",
        "<test>",
    ] {
        let request = format!("GET /{MARKER} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(case(400, format!("host {host:?}"), request));
    }
    let in_1_0 = format!("GET /{MARKER} HTTP/1.0\r\nHost: a b\r\n\r\n");
    cases.push(case(400, "invalid host in HTTP/1.0", in_1_0));
    let long = "a".repeat(254);
    cases.push(case(400, "host too long", format!("GET /{MARKER} HTTP/1.1\r\nHost: {long}\r\n\r\n")));
    cases
}

fn chunks() -> Vec<Case> {
    let mut cases = Vec::new();
    let one_byte_each = "1;a=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nx\r\n";
    for (name, body) in [
        ("size empty", "\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size with plus", "+1\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size with minus", "-1\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size with prefix", "0x1\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size with space before", " 1\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size with space behind", "1 \r\nx\r\n0\r\n\r\n".to_owned()),
        ("size that is no number", "g\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size with underscore", "1_0\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size that overflows", "10000000000000001\r\nx\r\n0\r\n\r\n".to_owned()),
        ("size that overflows by far", format!("{}\r\nx\r\n0\r\n\r\n", "f".repeat(40))),
        ("size of endless zeros", format!("{}1\r\nx\r\n0\r\n\r\n", "0".repeat(1100))),
        ("size line with LF", "1\nx\r\n0\r\n\r\n".to_owned()),
        ("size line with CR", "1\rx\r\n0\r\n\r\n".to_owned()),
        ("data too long", "1\r\nxy\r\n0\r\n\r\n".to_owned()),
        ("data without CR", "1\r\nx\n0\r\n\r\n".to_owned()),
        ("data without line end", "1\r\nx0\r\n\r\n".to_owned()),
        ("data with CR only", "1\r\nx\r0\r\n\r\n".to_owned()),
        ("extension without name", "1;\r\nx\r\n0\r\n\r\n".to_owned()),
        ("extension with control byte", "1;a=\x01\r\nx\r\n0\r\n\r\n".to_owned()),
        ("extension with LF", "1;a\nx\r\n0\r\n\r\n".to_owned()),
        ("extension too long", format!("1;a={}\r\nx\r\n0\r\n\r\n", "b".repeat(1100))),
        ("extensions too long together", format!("{}0\r\n\r\n", one_byte_each.repeat(220))),
        ("trailer without colon", "0\r\nXy\r\n\r\n".to_owned()),
        ("trailer without name", "0\r\n: y\r\n\r\n".to_owned()),
        ("trailer with space before colon", "0\r\nX : y\r\n\r\n".to_owned()),
        ("trailer folded", "0\r\nX: y\r\n z\r\n\r\n".to_owned()),
        ("trailer with LF", "0\r\nX: y\n\r\n".to_owned()),
        ("trailer with NUL", "0\r\nX: \0\r\n\r\n".to_owned()),
        ("trailers with LF at the end", "0\r\nX: y\r\n\n".to_owned()),
        ("end with CR only", "0\r\n\rX".to_owned()),
        ("trailers too many", format!("0\r\n{}\r\n", "X: y\r\n".repeat(65))),
        ("trailers too large", format!("0\r\nX: {}\r\n\r\n", "y".repeat(8200))),
    ] {
        let head = format!("POST /collect HTTP/1.1\r\nHost: test\r\nX: {MARKER}\r\nTransfer-Encoding: chunked\r\n\r\n");
        cases.push(case(400, format!("chunk {name}"), head + &body));
    }
    cases
}

fn sizes() -> Vec<Case> {
    let filler = "f".repeat(HEAD_MAX);
    let many = "X: y\r\n".repeat(HEADERS_MAX);
    let long = "a".repeat(TARGET_MAX);
    let over = BODY_MAX + 1;
    let chunk = format!("{over:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(over));
    vec![
        case(431, "one field too large", with_fields(&format!("X: {filler}\r\n"))),
        case(431, "one name too large", with_fields(&format!("{filler}: y\r\n"))),
        case(431, "one field too many", with_fields(&many)),
        case(414, "target too long", format!("GET /{MARKER}{long} HTTP/1.1\r\nHost: test\r\n\r\n")),
        case(414, "query too long", format!("GET /{MARKER}?{long} HTTP/1.1\r\nHost: test\r\n\r\n")),
        case(414, "absolute-form too long", format!("GET http://test/{MARKER}{long} HTTP/1.1\r\nHost: test\r\n\r\n")),
        case(501, "method too long", format!("{} /{MARKER} HTTP/1.1\r\nHost: test\r\n\r\n", "M".repeat(40))),
        case(417, "unknown expectation", with_fields(&format!("Expect: {MARKER}\r\n"))),
        case(417, "one more expectation", with_fields("Expect: 100-continue, other\r\n")),
        case(417, "two expectations", with_fields("Expect: 100-continue\r\nExpect: other\r\n")),
        case(
            413,
            "length above the limit",
            format!("POST /collect HTTP/1.1\r\nHost: test\r\nX: {MARKER}\r\nContent-Length: {over}\r\n\r\n"),
        ),
        case(
            413,
            "length far above the limit",
            format!(
                "POST /collect HTTP/1.1\r\nHost: test\r\nX: {MARKER}\r\nContent-Length: 18446744073709551615\r\n\r\n"
            ),
        ),
        case(
            413,
            "chunks above the limit",
            format!("POST /collect HTTP/1.1\r\nHost: test\r\nX: {MARKER}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        ),
        case(
            413,
            "chunk that announces far more than the limit",
            format!(
                "POST /collect HTTP/1.1\r\nHost: test\r\nX: {MARKER}\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n{}",
                "x".repeat(over)
            ),
        ),
    ]
}
