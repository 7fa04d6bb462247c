//! Request bodies: both framings, their limit, bodies that nobody reads, and `Expect: 100-continue`.

use std::fmt::Write as _;
use std::io::Write;

use crate::support::{Client, Start, on_each_driver};

const LIMIT: usize = 1 << 20;

/// Sizes around what the server reads at once, and its limit.
const SIZES: [usize; 9] = [1, 2, 4095, 4096, 4097, 65_535, 65_537, LIMIT - 1, LIMIT];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// A request with this body, in chunks of growing sizes or of known length.
fn request(path: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: test\r\n").into_bytes();
    if !chunked {
        write!(request, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        request.extend_from_slice(body);
        return request;
    }
    request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    let (mut rest, mut size) = (body, 1);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(size.min(rest.len()));
        write!(request, "{:x}\r\n", chunk.len()).unwrap();
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
        (rest, size) = (behind, size * 3);
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// Sends from another thread: an echo must be read while it is sent.
fn send_aside(client: &Client, request: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut sender = client.stream().try_clone().unwrap();
    std::thread::spawn(move || {
        // The server may have refused and left.
        let _ = sender.write_all(&request);
    })
}

#[test]
fn bodies_up_to_the_limit_arrive_whole_in_either_framing() {
    on_each_driver(|driver| {
        let server = Start::app(driver).limit("body", LIMIT).serve();
        let mut client = server.client();
        for chunked in [false, true] {
            for size in SIZES {
                let body = pattern(size);
                let sum: u64 = body.iter().map(|&b| u64::from(b)).sum();
                let sending = send_aside(&client, request("/collect", &body, chunked));
                let response = client.response();
                assert_eq!(response.text(), format!("{size} bytes, sum {sum}"), "chunked: {chunked}");
                sending.join().unwrap();
                let sending = send_aside(&client, request("/echo", &body, chunked));
                assert!(client.response().body == body, "{size} bytes, chunked: {chunked}");
                sending.join().unwrap();
            }
        }
    });
}

#[test]
fn a_body_beyond_the_limit_is_refused_while_it_streams() {
    on_each_driver(|driver| {
        let server = Start::app(driver).limit("body", LIMIT).serve();
        for chunked in [false, true] {
            for size in [LIMIT + 1, LIMIT + 100_000] {
                let mut client = server.client();
                let sending = send_aside(&client, request("/collect", &pattern(size), chunked));
                let response = client.response();
                assert_eq!((response.status, response.closes()), (413, true), "{size} bytes, chunked: {chunked}");
                client.expect_end();
                sending.join().unwrap();
            }
        }
    });
}

#[test]
fn an_empty_body_is_no_obstacle() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        for path in ["/collect", "/echo", "/ignore", "/peek"] {
            for request in [request(path, b"", false), request(path, b"", true), request(path, b"", false)] {
                let response = client.send(request).response();
                assert_eq!((response.status, response.closes()), (200, false), "{path}");
            }
        }
    });
}

#[test]
fn a_small_body_that_nobody_reads_does_not_end_the_connection() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        for path in ["/ignore", "/peek", "/none"] {
            for (size, chunked) in
                [(1, false), (1, true), (10_000, false), (10_000, true), (100_000, false), (100_000, true)]
            {
                let sending = send_aside(&client, request(path, &pattern(size), chunked));
                let response = client.response();
                assert!([200, 404].contains(&response.status));
                assert!(!response.closes(), "{path}, {size} bytes, chunked: {chunked}");
                sending.join().unwrap();
                assert_eq!(client.get("/users/next").text(), "user next", "{path}, {size} bytes, chunked: {chunked}");
            }
        }
    });
}

#[test]
fn a_body_of_which_too_much_is_unread_ends_the_connection_after_the_answer() {
    on_each_driver(|driver| {
        let server = Start::app(driver).limit("body", 16 << 20).serve();
        for chunked in [false, true] {
            let mut client = server.client();
            let sending = send_aside(&client, request("/ignore", &pattern(900_000), chunked));
            let response = client.response();
            assert_eq!(response.text(), "hello");
            // How much of a chunked body is still to come is not known when the answer is written.
            assert!(chunked || response.closes());
            client.rest();
            sending.join().unwrap();
        }
        server.wait_metric("ringfort_connections_open", "", 0.0);
    });
}

#[test]
fn a_client_that_expects_100_gets_it_when_the_body_is_first_wanted() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        for framing in ["Content-Length: 5\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
            let body = if framing.starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" };
            for path in ["/collect", "/peek"] {
                client.send("GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\n");
                client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nExpect: 100-Continue\r\n{framing}"));
                assert_eq!(client.response().text(), "user 1", "an earlier answer comes first");
                let interim = client.response();
                assert_eq!((interim.status, interim.fields), (100, Vec::new()), "{path}");
                let response = client.send(body).response();
                assert_eq!((response.status, response.closes()), (200, false), "{path}");
            }
        }
    });
}

#[test]
fn a_response_that_is_started_before_the_body_is_wanted_does_not_keep_100_back() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.response().status, 100);
        let response = client.send("hello").response();
        assert_eq!((response.status, response.text()), (200, "hello"));
        assert!(response.closes(), "when its head was written, nobody knew whether the body would come");
    });
}

#[test]
fn a_client_that_expects_100_and_sends_its_body_anyway_is_answered_once() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        for _ in 0..20 {
            client
                .send("POST /collect HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
            let mut response = client.response();
            if response.status == 100 {
                response = client.response();
            }
            assert_eq!(response.text(), "5 bytes, sum 532");
        }
        assert_eq!(client.get("/").text(), "hello");
    });
}

#[test]
fn a_refused_request_never_gets_100() {
    on_each_driver(|driver| {
        let server = Start::app(driver).limit("body", LIMIT).serve();
        for (start, fields, status) in [
            ("POST /none", "Content-Length: 5", 404),
            ("PUT /echo", "Content-Length: 5", 405),
            ("POST /ignore", "Content-Length: 5", 200),
            ("POST /ignore", "Transfer-Encoding: chunked", 200),
            ("POST /collect", "Content-Length: 1048577", 413),
            ("POST /collect", "Content-Length: 5\r\nContent-Length: 5", 400),
            ("POST /collect", "Content-Length: 5\r\nExpect: else", 417),
            ("POST /%00", "Content-Length: 5", 400),
        ] {
            let mut client = server.client();
            client.send(format!("{start} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n{fields}\r\n\r\n"));
            let response = client.response();
            // Whether the body still comes is the client's choice, so the connection cannot go on.
            assert_eq!((response.status, response.closes()), (status, true), "{start} {fields}");
            client.expect_end();
        }
        let mut client = server.client();
        client.send("POST /collect HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").send("hello");
        assert_eq!(client.response().text(), "5 bytes, sum 532", "1.0 knows no 100");
    });
}

#[test]
fn interleaved_bodies_of_many_connections_do_not_mix() {
    on_each_driver(|driver| {
        let server = Start::app(driver).limit("body", LIMIT).serve();
        let mut clients: Vec<_> = (0..32).map(|_| server.client()).collect();
        let mut heads = String::new();
        for (id, client) in clients.iter_mut().enumerate() {
            heads.clear();
            write!(heads, "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", 100 * (id + 1)).unwrap();
            client.send(&heads);
        }
        for round in 0..100 {
            for (id, client) in clients.iter_mut().enumerate() {
                client.send(vec![(round * 32 + id) as u8; id + 1]);
            }
        }
        for (id, client) in clients.iter_mut().enumerate() {
            let expected: Vec<u8> = (0..100).flat_map(|round| vec![(round * 32 + id) as u8; id + 1]).collect();
            assert!(client.response().body == expected, "connection {id}");
        }
    });
}
