//! What clients send, and what must come back.

use super::app;
use ringfort::rt::sim::Random;

/// One request, and the answer that it must get.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    pub(super) expected: Expected,
}

#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// One of these.
    pub(super) statuses: &'static [u16],
    /// `None`: any body.
    pub(super) body: Option<Vec<u8>>,
    pub(super) is_head: bool,
    /// The connection ends after it, as its answer says.
    pub(super) closes: bool,
    /// A failure of the disk excuses any other answer.
    pub(super) reads_disk: bool,
}

fn exactly(statuses: &'static [u16], body: impl Into<Vec<u8>>) -> Expected {
    Expected { statuses, body: Some(body.into()), is_head: false, closes: false, reads_disk: false }
}

fn some(statuses: &'static [u16]) -> Expected {
    Expected { statuses, body: None, is_head: false, closes: false, reads_disk: false }
}

pub(super) fn random_bytes(random: &mut Random, most: u64) -> Vec<u8> {
    // Mostly small; line ends are frequent, for a framing that slips would read them as such.
    let count = if random.chance(700) { random.below(100) } else { random.below(most) };
    (0..count).map(|_| *random.pick(b"abc\r\n0123 GET/\x00\xff")).collect()
}

/// A request head with the fields that clients send.
fn head(random: &mut Random, method: &str, target: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: sim\r\n");
    for _ in 0..random.below(4) {
        let length = if random.chance(950) { random.below(40) } else { random.below(1500) };
        text.push_str("X-Filler: ");
        text.extend((0..length).map(|_| 'f'));
        text.push_str("\r\n");
    }
    text
}

fn with_body(random: &mut Random, mut head: String, body: &[u8]) -> Vec<u8> {
    if random.chance(500) {
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        return [head.as_bytes(), body].concat();
    }
    head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.between(1, rest.len() as u64) as usize);
        let extension = if random.chance(100) { ";name=\"a b\"" } else { "" };
        bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(if random.chance(200) { b"0\r\nTrailer: t\r\n\r\n" } else { b"0\r\n\r\n" });
    bytes
}

/// A request after which the connection goes on. `most` bounds bodies, of request and answer.
pub(super) fn lasting(random: &mut Random, most: u64) -> Request {
    let plain = |random: &mut Random, method: &str, target: &str| head(random, method, target) + "\r\n";
    let (bytes, expected) = match random.below(15) {
        0 | 1 => (plain(random, "GET", "/fixed").into_bytes(), exactly(&[200], app::FIXED)),
        2 => {
            let expected = Expected { is_head: true, ..exactly(&[200], "") };
            (plain(random, "HEAD", "/fixed").into_bytes(), expected)
        }
        3 | 4 => {
            let id = random.below(1_000_000).to_string();
            (plain(random, "GET", &format!("/users/{id}")).into_bytes(), exactly(&[200], id))
        }
        5 => {
            let ms = random.below(100);
            (plain(random, "GET", &format!("/slow/{ms}")).into_bytes(), exactly(&[200], format!("after {ms} ms")))
        }
        6 | 7 => {
            let body = random_bytes(random, most);
            let head = head(random, "POST", "/echo");
            (with_body(random, head, &body), exactly(&[200], body))
        }
        8 => {
            let body = random_bytes(random, most);
            let head = head(random, "POST", "/sum");
            (with_body(random, head, &body), exactly(&[200], app::sum_of(&body)))
        }
        9 => {
            let body = random_bytes(random, most);
            let head = head(random, "POST", "/ignore");
            (with_body(random, head, &body), exactly(&[200], app::FIXED))
        }
        10 => {
            let bytes = random.below(most);
            let body: Vec<u8> = app::pattern(0..bytes as usize);
            (plain(random, "GET", &format!("/large/{bytes}")).into_bytes(), exactly(&[200], body))
        }
        11 => {
            let body = random_bytes(random, most);
            let head = head(random, "POST", "/late-sum");
            (with_body(random, head, &body), exactly(&[200], app::sum_of(&body)))
        }
        12 | 13 => file(random, most),
        _ => match random.below(3) {
            0 => (plain(random, "GET", "/nowhere").into_bytes(), some(&[404])),
            1 => (plain(random, "DELETE", "/fixed").into_bytes(), some(&[405])),
            _ => (plain(random, "OPTIONS", "/fixed").into_bytes(), some(&[204])),
        },
    };
    Request { bytes, expected }
}

/// A request for a file, or a part of one. `most` bounds its size.
fn file(random: &mut Random, most: u64) -> (Vec<u8>, Expected) {
    let fitting: Vec<&(&str, usize)> = app::FILES.iter().filter(|(_, size)| *size as u64 <= 2 * most).collect();
    let (path, size) = **random.pick(&fitting);
    let (method, target) = (*random.pick(&["GET", "GET", "GET", "HEAD"]), format!("/files/{path}"));
    let mut text = head(random, method, &target);
    let ranged = size > 10 && random.chance(200);
    if ranged {
        text.push_str("Range: bytes=3-9\r\n");
    }
    let is_head = method == "HEAD";
    let (statuses, part): (&'static [u16], _) = match ranged && !is_head {
        true => (&[206], 3..10),
        false => (&[200], 0..size),
    };
    let body: Vec<u8> = if is_head { Vec::new() } else { app::pattern(part) };
    (format!("{text}\r\n").into_bytes(), Expected { is_head, reads_disk: true, ..exactly(statuses, body) })
}

/// A request that is the last of its connection.
pub(super) fn last(random: &mut Random) -> Request {
    let (text, expected) = match random.below(4) {
        0 => ("GET /fixed HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n", exactly(&[200], app::FIXED)),
        1 => ("GET /fixed HTTP/1.0\r\n\r\n", exactly(&[200], app::FIXED)),
        2 => ("GET /panic HTTP/1.1\r\nHost: sim\r\n\r\n", some(&[500])),
        _ => ("GET /panic-later HTTP/1.1\r\nHost: sim\r\n\r\n", some(&[500])),
    };
    Request { bytes: text.as_bytes().to_vec(), expected: Expected { closes: true, ..expected } }
}

/// Bytes that are no acceptable request, and what must answer them before the connection closes.
pub(super) fn lie(random: &mut Random) -> Request {
    const LIES: &[(&str, &[u16])] = &[
        ("GARBAGE\r\n\r\n", &[400]),
        ("GET /fixed HTTP/2.0\r\nHost: sim\r\n\r\n", &[505]),
        ("GET /fixed HTTP/1.1\r\n\r\n", &[400]),
        ("GET /fixed HTTP/1.1\r\nHost: sim\r\nHost: sim\r\n\r\n", &[400]),
        ("GET /fixed HTTP/1.1\r\nHost: sim\r\nbad name: x\r\n\r\n", &[400]),
        ("GET /fixed HTTP/1.1\nHost: sim\n\n", &[400]),
        ("GET /fixed HTTP/1.1\r\nHost: sim\r\nA: b\r\n c\r\n\r\n", &[400]),
        ("GET /%2e%2e/%2e%2e HTTP/1.1\r\nHost: sim\r\n\r\n", &[400]),
        ("GET /a%00b HTTP/1.1\r\nHost: sim\r\n\r\n", &[400]),
        ("GET /fixed HTTP/1.1\r\nHost: sim\r\nExpect: miracles\r\n\r\n", &[417]),
        ("CONNECT sim:80 HTTP/1.1\r\nHost: sim:80\r\nContent-Length: 3, 4\r\n\r\n", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nContent-Length: -1\r\n\r\n", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nContent-Length: 99999999999999999999\r\n\r\n", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nContent-Length: 999999999\r\n\r\n", &[413]),
        ("POST /sum HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[400, 501]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", &[400]),
        ("POST /sum HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", &[400]),
        // Smuggling: what follows would be a second request, if the wrong one of two framings were believed.
        (
            "POST /sum HTTP/1.1\r\nHost: sim\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /fixed \
             HTTP/1.1\r\nHost: sim\r\n\r\n",
            &[400],
        ),
        (
            "POST /sum HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET /fixed HTTP/1.1\r\nHost: sim\r\n\r\n",
            &[400],
        ),
        (
            "POST /sum HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /fixed HTTP/1.1\r\nHost: \
             sim\r\n\r\n",
            &[400],
        ),
        (
            "GET /fixed HTTP/1.1\r\nHost: sim\r\nX: a\rTransfer-Encoding: chunked\r\n\r\nGET /fixed HTTP/1.1\r\nHost: \
             sim\r\n\r\n",
            &[400],
        ),
    ];
    // The long ones may be too slow before they are too long.
    let (bytes, statuses): (Vec<u8>, &[u16]) = match random.below(LIES.len() as u64 + 2) {
        0 => (format!("GET /{} HTTP/1.1\r\nHost: sim\r\n\r\n", "x".repeat(9000)).into_bytes(), &[414, 408]),
        1 => {
            (format!("GET /fixed HTTP/1.1\r\nHost: sim\r\nX: {}\r\n\r\n", "x".repeat(17_000)).into_bytes(), &[431, 408])
        }
        _ => {
            let (text, statuses) = *random.pick(LIES);
            (text.as_bytes().to_vec(), statuses)
        }
    };
    Request { bytes, expected: Expected { closes: true, ..some(statuses) } }
}
