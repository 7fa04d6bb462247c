//! HTTP/1.1, strictly, on raw sockets: what is malformed or ambiguous is refused, answered and ended, however its bytes
//! were split; what is not is answered alike in every split.

mod accepted;
mod cases;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use cases::{BODY_MAX, Case, HEAD_MAX, HEADERS_MAX, MARKER, TARGET_MAX};

use crate::support::upstream::Upstream;
use crate::support::{Client, Response, Server, Start, on_each_driver, wait_until};

/// What an attacker hides behind a request whose end is unclear.
const SMUGGLED: &str = "GET /users/smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

/// Connections that are open at once.
const CONNECTIONS: usize = 128;

fn serve(driver: &'static str) -> Server {
    Start::app(driver)
        .limit("head", HEAD_MAX)
        .limit("target", TARGET_MAX)
        .limit("headers", HEADERS_MAX)
        .limit("body", BODY_MAX)
        .serve()
}

/// The one response to a refused request, and the end of the connection after it.
#[track_caller]
fn expect_refusal(case: &Case, client: &mut Client) -> Response {
    let raw = client.rest();
    let text = String::from_utf8_lossy(&raw);
    let name = &case.name;
    assert!(!text.contains(MARKER) && !text.contains("smuggled"), "{name}: input is echoed or answered: {text}");
    let (response, length) = Response::parse(&raw).unwrap_or_else(|error| panic!("{name}: {error}: {text:?}"));
    assert_eq!(length, raw.len(), "{name}: more than one answer: {text}");
    assert_eq!(response.status, case.status, "{name}: {text}");
    assert!(response.closes(), "{name}: the close is not announced: {text}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{name}");
    let problem = response.json();
    assert_eq!(problem["status"], case.status, "{name}");
    assert_eq!(problem["type"], "about:blank", "{name}");
    assert!(
        !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty(),
        "{name}"
    );
    let id = problem["request_id"].as_str().unwrap();
    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {id}");
    response.without_noise()
}

/// Where a request is split: everywhere, or where it is long at its ends and in many places between.
fn splits(request: &[u8]) -> Vec<usize> {
    let length = request.len();
    let step = (length / 256).max(1);
    (1..length).filter(|at| *at < 128 || length - at < 32 || at % step == 0).collect()
}

/// Sends each request in two parts: the first parts of many on as many connections, then the second ones, so that the
/// server sees them apart.
fn send_split(server: &Server, request: &[u8], splits: &[usize], mut check: impl FnMut(usize, &mut Client)) {
    for batch in splits.chunks(CONNECTIONS) {
        let mut clients: Vec<_> = batch.iter().map(|_| server.client()).collect();
        for (client, at) in clients.iter_mut().zip(batch) {
            client.send(&request[..*at]);
        }
        for (client, at) in clients.iter_mut().zip(batch) {
            // The first part may have been enough for the server to answer and, after a while, to leave.
            let _ = client.stream().write_all(&request[*at..]);
        }
        for (client, at) in clients.iter_mut().zip(batch) {
            check(*at, client);
        }
    }
}

#[test]
fn a_malformed_request_is_refused_and_what_follows_it_is_never_answered() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let cases = cases::all();
        assert!(cases.len() >= 200, "{}", cases.len());
        for case in &cases {
            let mut client = server.client();
            client.send([&case.request, SMUGGLED.as_bytes()].concat());
            expect_refusal(case, &mut client);
        }
    });
}

#[test]
fn the_command_refuses_what_the_application_refuses() {
    on_each_driver(|driver| {
        let routes = serde_json::json!([
            {"match": {"path": "/users/:id"}, "respond": {"text": "user {id}"}},
            {"match": {"path": "/*all"}, "respond": {"text": "all"}},
        ]);
        let server = Start::command(driver, routes)
            .limit("head", HEAD_MAX)
            .limit("target", TARGET_MAX)
            .limit("headers", HEADERS_MAX)
            .limit("body", BODY_MAX)
            .serve();
        // Its routes read no bodies, so they do not see what is wrong with one.
        let cases = cases::all().into_iter().filter(|case| !case.name.starts_with("chunk"));
        for case in cases {
            let mut client = server.client();
            client.send([&case.request, SMUGGLED.as_bytes()].concat());
            expect_refusal(&case, &mut client);
        }
    });
}

/// What is wrong with a body shows when its beginning is on its way; all else keeps a request from being forwarded at all.
#[test]
fn a_gateway_sends_no_upstream_anything_of_a_malformed_head_nor_the_end_of_a_malformed_body() {
    on_each_driver(|driver| {
        let received: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let keep = received.clone();
        let upstream = Upstream::start(move |peer| {
            let mut bytes = Vec::new();
            let _ = peer.stream.read_to_end(&mut bytes);
            keep.lock().unwrap().push(bytes);
        });
        let routes = serde_json::json!([{ "match": { "path": "/*rest" }, "proxy": { "upstream": "api" } }]);
        let server = Start::command(driver, routes)
            .upstream("api", serde_json::json!({ "servers": [{ "address": upstream.address.to_string() }] }))
            .limit("head", HEAD_MAX)
            .limit("target", TARGET_MAX)
            .limit("headers", HEADERS_MAX)
            .limit("body", BODY_MAX)
            .serve();
        let (bodies, heads): (Vec<_>, Vec<_>) =
            cases::all().into_iter().partition(|case| case.name.starts_with("chunk"));
        let refuse = |case: &Case| {
            let mut client = server.client();
            client.send([&case.request, SMUGGLED.as_bytes()].concat());
            expect_refusal(case, &mut client);
        };
        heads.iter().for_each(refuse);
        assert_eq!(upstream.connections(), 0, "a malformed head was forwarded");
        bodies.iter().for_each(refuse);
        let connections = upstream.connections();
        wait_until("the upstream has seen the end of every connection", || {
            received.lock().unwrap().len() >= connections
        });
        assert!(connections > 0, "bodies are forwarded as they come");
        for bytes in &*received.lock().unwrap() {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(text.matches("HTTP/1.1\r\n").count(), 1, "one request at most: {text}");
            assert!(!text.contains("smuggled") && !text.ends_with("\r\n0\r\n\r\n"), "it has no end: {text}");
        }
    });
}

#[test]
fn a_malformed_request_behind_a_good_one_is_refused_alike() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for case in &cases::all() {
            let mut client = server.client();
            let first = "GET /users/first HTTP/1.1\r\nHost: test\r\n\r\n";
            client.send([first.as_bytes(), &case.request, SMUGGLED.as_bytes()].concat());
            assert_eq!(client.response().text(), "user first", "{}", case.name);
            expect_refusal(case, &mut client);
        }
    });
}

#[test]
fn a_refusal_does_not_depend_on_how_the_request_was_split() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for case in &cases::all() {
            let request = [&case.request, SMUGGLED.as_bytes()].concat();
            let mut whole = server.client();
            whole.send(&request);
            let expected = expect_refusal(case, &mut whole);
            send_split(&server, &request, &splits(&case.request), |at, client| {
                assert_eq!(expect_refusal(case, client), expected, "{} split at {at}", case.name);
            });
        }
    });
}

#[test]
fn a_refusal_does_not_change_when_the_request_comes_byte_by_byte() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let cases = cases::all();
        let sample: Vec<&Case> = cases.iter().filter(|case| case.request.len() < 300).step_by(3).collect();
        let mut clients: Vec<_> = sample.iter().map(|_| server.client()).collect();
        // In lockstep: between two bytes of one connection the server hears from all the others.
        for at in 0..300 {
            for (client, case) in clients.iter_mut().zip(&sample) {
                if let Some(byte) = case.request.get(at) {
                    // It may have been refused already.
                    let _ = client.stream().write_all(&[*byte]);
                }
            }
        }
        for (client, case) in clients.iter_mut().zip(&sample) {
            expect_refusal(case, client);
        }
    });
}
