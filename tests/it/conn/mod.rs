//! Connections: reuse, pipelining, bodies, time-outs, limits, and clients that leave.

mod body;
mod bounds;
mod files;

use std::io::Write;

use crate::support::{Start, on_each_driver, wait_until};

#[test]
fn a_connection_serves_one_request_after_another() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        for id in 0..100 {
            let response = client.get(&format!("/users/{id}"));
            assert_eq!((response.status, response.text()), (200, format!("user {id}").as_str()));
            assert!(!response.closes());
        }
    });
}

#[test]
fn a_connection_announces_the_last_request_that_it_serves() {
    on_each_driver(|driver| {
        let server = Start::app(driver).keepalive_requests(3).serve();
        for path in ["/users/1", "/later/1"] {
            let mut client = server.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").repeat(5));
            let closes: Vec<bool> = client.responses().iter().map(crate::support::Response::closes).collect();
            assert_eq!(closes, [false, false, true], "{path}");
        }
    });
}

/// The request with this number in a long pipeline, its status, and its answer where that is fixed.
fn numbered(id: usize) -> (String, u16, String) {
    let get = |path: String| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    match id % 7 {
        0 | 1 => (get(format!("/users/{id}")), 200, format!("user {id}")),
        2 => (get(format!("/files/{id}/x")), 200, format!("file {id}/x")),
        3 => (get(format!("/later/{id}")), 200, format!("later {id}")),
        4 => (get(format!("/none/{id}")), 404, String::new()),
        5 => {
            let body = "x".repeat(id);
            let head = format!("POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: {id}\r\n\r\n");
            (head + &body, 200, format!("{id} bytes, sum {}", id * usize::from(b'x')))
        }
        _ => {
            let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", id, "y".repeat(id));
            let head = "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
            (head.to_owned() + &chunk, 200, "y".repeat(id))
        }
    }
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        let mut sender = client.stream().try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let requests: String = (0..1000).map(|id| numbered(id).0).collect();
                sender.write_all(requests.as_bytes()).unwrap();
            });
            for id in 0..1000 {
                let (_, status, text) = numbered(id);
                let response = client.response();
                assert_eq!(response.status, status, "request {id}");
                assert!(status != 200 || response.text() == text, "request {id}: {}", response.text());
                assert!(!response.closes(), "request {id}");
            }
        });
        assert_eq!(client.get("/").text(), "hello");
    });
}

#[test]
fn pipelined_requests_are_answered_in_batches() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        client.send("GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10));
        for _ in 0..10 {
            assert_eq!(client.response().text(), "user 1");
        }
        server.wait_metric("ringfort_keepalive_reuses_total", "", 9.0);
        let batches = server.metric("ringfort_pipelined_batches_total", "");
        assert!((1.0..=5.0).contains(&batches), "ten requests in one segment made {batches} batches");
    });
}

#[test]
fn a_slow_request_delays_those_behind_it_on_its_connection_and_no_others() {
    on_each_driver(|driver| {
        let server = Start::app(driver).workers(1).serve();
        let mut stuck = server.client();
        stuck.send("GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\nGET /stuck HTTP/1.1\r\nHost: test\r\n\r\n");
        stuck.send("GET /users/2 HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(stuck.response().text(), "user 1", "an answer does not wait for the slow one behind it");
        stuck.wait_for(b"begun");
        for _ in 0..10 {
            assert_eq!(server.get("/").text(), "hello");
        }
    });
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        for (request, text) in [
            ("GET / HTTP/1.1\r\nHost: test\r\n\r\n", "hello"),
            ("GET /later/1 HTTP/1.1\r\nHost: test\r\n\r\n", "later 1"),
            ("GET /slow/100 HTTP/1.1\r\nHost: test\r\n\r\n", "slow"),
            ("GET /stream HTTP/1.1\r\nHost: test\r\n\r\n", "one two three"),
            ("POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab", "2 bytes, sum 195"),
            ("POST /ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab", "hello"),
        ] {
            let mut client = server.client();
            client.send(request).finish_sending();
            let responses = client.responses();
            assert_eq!(responses.len(), 1, "{request:?}");
            assert_eq!(responses[0].text(), text, "{request:?}");
            let mut client = server.client();
            client.send(request.repeat(20)).finish_sending();
            let responses = client.responses();
            assert_eq!(responses.iter().filter(|response| response.text() == text).count(), 20, "{request:?}");
        }
        server.wait_metric("ringfort_connections_open", "", 0.0);
    });
}

#[test]
fn a_client_that_leaves_midway_leaves_no_connection_behind() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let midway = [
            "",
            "G",
            "\r\n",
            "GET / HTTP/1.1\r\nHost: te",
            "GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\nGET /us",
            "GET /slow/1 HTTP/1.1\r\nHost: test\r\n\r\n",
            "GET /large/4 HTTP/1.1\r\nHost: test\r\n\r\n",
            "GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n",
            "POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf",
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf",
            "POST /ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf",
            "POST /collect HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
            "POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
        ];
        let mut accepted = 0;
        for request in midway {
            for reset in [false, true] {
                // A handler that waits for ever has no way to learn of an end that may be half a close only.
                if request.contains("/stuck") && !reset {
                    continue;
                }
                accepted += 1;
                let mut client = server.client();
                client.send(request);
                if reset {
                    let at_once = Some(std::time::Duration::ZERO);
                    rustix::net::sockopt::set_socket_linger(client.stream(), at_once).unwrap();
                }
            }
        }
        server.wait_metric("ringfort_connections_accepted_total", "", f64::from(accepted));
        server.wait_metric("ringfort_connections_open", "", 0.0);
        server.wait_metric("ringfort_requests_in_flight", "", 0.0);
        server.wait_metric("ringfort_buffers_in_use", "", 0.0);
        assert_eq!(server.get("/").text(), "hello");
    });
}

#[test]
fn a_panic_answers_500_and_ends_its_connection_alone() {
    on_each_driver(|driver| {
        let server = Start::app(driver).workers(1).serve();
        let mut bystander = server.client();
        assert_eq!(bystander.get("/").text(), "hello");
        for path in ["/panic", "/panic/later"] {
            let mut client = server.client();
            let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
            client.send(get("/users/1") + &get(path) + &get("/users/2"));
            let responses = client.responses();
            assert_eq!(responses.len(), 2, "{path}");
            assert_eq!(responses[0].text(), "user 1");
            assert_eq!((responses[1].status, responses[1].closes()), (500, true));
            assert!(!responses[1].text().contains("panic"), "{}", responses[1].text());
        }
        assert_eq!(bystander.get("/").text(), "hello");
        server.wait_metric("ringfort_handler_panics_total", "", 2.0);
    });
}

#[test]
fn a_failing_handler_answers_500_and_its_cause_is_logged_only() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).serve();
        let mut client = server.client();
        for path in ["/fail", "/silent"] {
            let response = client.get(path);
            assert_eq!((response.status, response.closes()), (500, false), "{path}");
            assert_eq!(response.field("content-type"), Some("application/problem+json"));
            assert!(!response.text().contains("secret"));
        }
        let id = client.get("/fail").json()["request_id"].as_str().unwrap().to_owned();
        assert!(server.log_line("a handler failed").is_some());
        let with_id = |line: &String| line.contains("a secret cause") && line.contains(&id);
        wait_until("the cause is logged with the request's number", || server.log().iter().any(with_id));
    });
}

#[test]
fn a_response_that_cannot_be_completed_is_cut_and_not_ended() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        client.send("GET /cut HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let error = client.next(false).unwrap_err();
        assert!(matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset));
        // A chunked body that turns out malformed after the response was begun: no last chunk.
        let mut client = server.client();
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        client.wait_for(b"ab\r\n");
        client.send("x\r\n");
        let rest = client.rest();
        assert!(memchr::memmem::find(&rest, b"0\r\n\r\n").is_none(), "{:?}", String::from_utf8_lossy(&rest));
    });
}
