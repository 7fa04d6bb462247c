//! Too much of something: header lines, targets, trailers, chunk extensions, tiny chunks, pipelined requests.

use std::io::Write;

use super::{Strength, endure, on_threads};
use crate::support::{Client, Server};

/// Sends `start` and then `more` again and again, until the server answers or ends the connection; the answer's status.
fn flood(server: &Server, start: &str, more: &str) -> Option<u16> {
    let mut client = server.client();
    let mut sender = client.stream().try_clone().unwrap();
    let (start, more) = (start.to_owned(), more.repeat(8192_usize.div_ceil(more.len())));
    let sending = std::thread::spawn(move || {
        let mut result = sender.write_all(start.as_bytes());
        while result.is_ok() {
            result = sender.write_all(more.as_bytes());
        }
    });
    // A reset, for what is still being sent, may take the answer along.
    let status = client.next(false).ok().flatten().map(|response| response.status);
    client.stream().shutdown(std::net::Shutdown::Both).ok();
    sending.join().unwrap();
    status
}

/// Floods again and again; every answer that arrives is one of `statuses`, and some arrive.
fn flood_often(server: &Server, strength: Strength, floods: &[(&str, &str, &[u16])]) {
    let (rounds, told) = (strength.of(2, 40), std::sync::atomic::AtomicUsize::new(0));
    on_threads(4, floods.len() * rounds, |number| {
        let (start, more, statuses) = floods[number % floods.len()];
        if let Some(status) = flood(server, start, more) {
            assert!(statuses.contains(&status), "{status} to {start:?} and {more:?} without end");
            told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(told.into_inner() > 0, "no flood was answered");
}

#[test]
fn endless_heads_are_refused_at_their_bound_and_hold_nobody_up() {
    endure(
        "endless heads",
        |start| start,
        |server, strength| {
            let head = "GET / HTTP/1.1\r\nHost: test\r\n";
            flood_often(
                server,
                strength,
                &[
                    (head, "A: b\r\n", &[431]),
                    (head, "Long-Name-Of-A-Field: and a value that is not short either\r\n", &[431]),
                    (&format!("{head}X: "), "x", &[431]),
                    (head, "x", &[431]),
                    (head, ":", &[400]),
                    ("GET /", "a", &[414]),
                    ("GET /?", "%20", &[414]),
                    ("", "A", &[501]),
                    ("", "\r\n", &[400]),
                ],
            );
        },
    );
}

#[test]
fn endless_chunk_framing_is_refused_at_its_bound_and_holds_nobody_up() {
    endure(
        "endless chunk framing",
        |start| start,
        |server, strength| {
            let head = "POST /collect HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
            flood_often(
                server,
                strength,
                &[
                    (&format!("{head}1;"), "a", &[400]),
                    (&format!("{head}1;a="), "\"b\";a=", &[400]),
                    (head, "0", &[400]),
                    (head, "1;a=0123456789\r\nx\r\n", &[400]),
                    (head, "1;a\r\nx\r\n", &[400]),
                    // Zeros are no extension, and as much to read for nothing.
                    (head, "0000000000000000000000000000001\r\nx\r\n", &[400]),
                    (&format!("{head}0\r\n"), "A: b\r\n", &[400]),
                    (&format!("{head}0\r\nA: "), "b", &[400]),
                    (head, "1\r\nx\r\n", &[413]),
                ],
            );
        },
    );
}

#[test]
fn a_body_of_a_million_tiny_chunks_is_read_and_holds_nobody_up() {
    endure(
        "tiny chunks",
        |start| start,
        |server, strength| {
            let body = "1\r\nx\r\n".repeat(1 << 20);
            on_threads(2, strength.of(2, 16), |_| {
                let mut client = server.client();
                client.send("POST /collect HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
                client.send(&body).send("0\r\n\r\n");
                let expected = format!("{} bytes, sum {}", 1 << 20, (1 << 20) * u64::from(b'x'));
                assert_eq!(client.response().text(), expected);
            });
        },
    );
}

/// Requests of one pipeline.
const PIPELINED: usize = 10_000;

fn pipeline(path: impl Fn(usize) -> String) -> String {
    (0..PIPELINED).map(|id| format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", path(id))).collect()
}

#[test]
fn pipelines_of_ten_thousand_requests_are_answered_in_order_and_hold_nobody_up() {
    endure(
        "pipelines",
        |start| start,
        |server, strength| {
            on_threads(strength.of(2, 8), strength.of(2, 40), |number| {
                let mut client: Client = server.client();
                // One kind is answered at once, the other after others had their turn.
                let kind = if number % 2 == 0 { ("users", "user") } else { ("later", "later") };
                let requests = pipeline(|id| format!("/{}/{id}", kind.0));
                let mut sender = client.stream().try_clone().unwrap();
                let sending = std::thread::spawn(move || sender.write_all(requests.as_bytes()).unwrap());
                for id in 0..PIPELINED {
                    assert_eq!(client.response().text(), format!("{} {id}", kind.1));
                }
                sending.join().unwrap();
            });
        },
    );
}
