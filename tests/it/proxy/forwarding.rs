//! What goes on, what stays behind, and what is refused.

use serde_json::json;

use super::{gateway, gateway_with};
use crate::support::on_each_driver;
use crate::support::upstream::{Upstream, ok};

/// An upstream that answers with the head that it got.
fn mirror() -> Upstream {
    Upstream::answering(|request| ok(&request.head))
}

#[test]
fn a_request_goes_on_without_what_concerns_the_clients_connection_and_with_where_it_came_from() {
    on_each_driver(|driver| {
        let upstream = mirror();
        let server = gateway(driver, &[&upstream], json!({})).serve();
        let mut client = server.client();
        client.send(
            "GET /a/../b?q=1 HTTP/1.1\r\nHost: example.test\r\nConnection: keep-alive, X-Own\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
             X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nTE: gzip\r\nX-Kept: yes\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.field("via"), Some("1.1 ringfort"));
        let mut lines: Vec<_> = response.text().trim_end().lines().map(str::to_owned).collect();
        assert_eq!(lines.remove(0), "GET /b?q=1 HTTP/1.1");
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "Host: example.test",
                "Via: 1.1 ringfort",
                "X-Forwarded-For: 127.0.0.1",
                "X-Forwarded-Host: example.test",
                "X-Forwarded-Proto: http",
                "X-Kept: yes",
            ]
        );
    });
}

#[test]
fn a_trusted_peers_word_on_where_a_request_came_from_is_taken_over() {
    let upstream = mirror();
    let proxy = json!({ "trust": ["127.0.0.0/8"], "forwarded": true, "via": null });
    let server = gateway_with("epoll", &[&upstream], json!({}), proxy).serve();
    let mut client = server.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: inner.test\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.test\r\nForwarded: for=192.0.2.1\r\n\r\n",
    );
    let response = client.response();
    let text = response.text();
    for line in [
        "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: outer.test",
        "Forwarded: for=192.0.2.1, for=127.0.0.1;proto=http;host=\"inner.test\"",
    ] {
        assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
    }
    assert!(!text.contains("Via") && response.field("via").is_none());
}

#[test]
fn path_host_and_fields_are_changed_as_the_route_says() {
    let upstream = mirror();
    let proxy = json!({
        "strip_prefix": "/api", "add_prefix": "/v1", "host": { "set": "set.test" }, "x_forwarded": false,
        "request_headers": { "set": { "X-Set": "new" }, "remove": ["X-Gone"] },
        "response_headers": { "add": { "X-Added": "1" }, "remove": ["X-Secret"] },
    });
    let server = gateway_with("epoll", &[&upstream], json!({}), proxy).serve();
    let mut client = server.client();
    client.send("GET /api/users HTTP/1.1\r\nHost: x\r\nX-Set: old\r\nX-Gone: 1\r\n\r\n");
    let response = client.response();
    let text = response.text();
    assert!(text.starts_with("GET /v1/users HTTP/1.1\r\nHost: set.test\r\n"), "{text}");
    assert!(text.contains("X-Set: new\r\n") && !text.contains("old") && !text.contains("X-Gone"), "{text}");
    assert_eq!(response.field("x-added"), Some("1"));
}

#[test]
fn bodies_of_every_framing_come_through_both_ways_over_one_connection() {
    on_each_driver(|driver| {
        let upstream = Upstream::answering(|request| {
            let body = &request.body;
            if request.head.starts_with("POST /chunked") {
                let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for piece in body.chunks(1000) {
                    response.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    response.extend_from_slice(piece);
                    response.extend_from_slice(b"\r\n");
                }
                response.extend_from_slice(b"0\r\n\r\n");
                response
            } else {
                ok(body)
            }
        });
        let server = gateway(driver, &[&upstream], json!({})).limit("body", "8MiB").serve();
        let mut client = server.client();
        for size in [0, 1, 4096, 16 * 1024, 16 * 1024 + 1, 300_000, 3_000_000] {
            let body: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
            for path in ["/plain", "/chunked"] {
                client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"));
                client.send(&body);
                assert!(client.response().body == body, "{size} bytes with a length to {path}");
                client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
                for piece in body.chunks(100_000) {
                    client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
                }
                client.send("0\r\n\r\n");
                assert!(client.response().body == body, "{size} bytes in chunks to {path}");
            }
        }
        assert_eq!(upstream.connections(), 1, "every exchange ended cleanly, so there was no need for another");
    });
}

#[test]
fn responses_without_a_body_stay_without_one() {
    let upstream = Upstream::answering(|request| match request.head.split(' ').nth(1).unwrap() {
        "/204" => b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec(),
    });
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let mut client = server.client();
    assert_eq!((client.get("/204").status, client.get("/304").status), (204, 304));
    client.send("HEAD /head HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length"), Some("12345"));
    assert_eq!(client.get("/204").field("x-a"), Some("1"));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_until_the_connections_end_is_passed_on_with_an_end_that_can_be_told() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.write("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let mut client = server.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.text(), response.field("transfer-encoding")), ("until the end", Some("chunked")));
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn interim_responses_and_trailers_reach_those_who_take_them() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n"
            .to_vec()
    });
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    client.wait_for(b"0\r\nX-Sum: 7\r\n\r\n");
    let early = client.response();
    assert_eq!((early.status, early.field("link")), (103, Some("</a.css>")));
    let mut plain = server.client();
    plain.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    plain.wait_for(b"0\r\n\r\n");
}

#[test]
fn trailers_of_a_request_go_on_but_for_those_that_would_speak_for_its_head() {
    on_each_driver(|driver| {
        let upstream = Upstream::answering(|request| {
            let body = String::from_utf8_lossy(&request.body);
            ok(format!("{body}|{}|{}", request.trailers, request.head.to_ascii_lowercase().contains("trailer:")))
        });
        let edits = json!({ "request_headers": { "remove": ["X-Secret"], "set": { "X-Set": "head" } } });
        let server = gateway_with(driver, &[&upstream], json!({}), edits).serve();
        let head =
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: X-Hop\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let sections = [
            ("", ""),
            ("X-Sum: 7\r\nContent-Digest:x \r\n", "X-Sum: 7\r\nContent-Digest: x\r\n"),
            ("X-Hop: 1\r\nA: 1\r\na: 2\r\n", "A: 1\r\na: 2\r\n"),
            (
                "Host: evil\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nAuthorization: x\r\nX-Sum: 7\r\n",
                "X-Sum: 7\r\n",
            ),
            ("x-secret: 1\r\nX-SET: tail\r\nX-Forwarded-For: 192.0.2.1\r\n", ""),
        ];
        let mut client = server.client();
        for (section, goes) in sections {
            let expected = format!("hello|{goes}|false");
            let whole = format!("{head}2\r\nhe\r\n3\r\nllo\r\n0\r\n{section}\r\n");
            assert_eq!(client.send(&whole).response().text(), expected, "{section:?}");
            // However it was cut on its way: in any two, and byte by byte.
            for cut in head.len()..whole.len() {
                client.send(&whole[..cut]);
                assert_eq!(client.send(&whole[cut..]).response().text(), expected, "{section:?} cut at {cut}");
            }
            for byte in whole.as_bytes() {
                client.send([*byte]);
            }
            assert_eq!(client.response().text(), expected, "{section:?} byte by byte");
        }
    });
}

#[test]
fn trailers_that_break_their_rules_end_the_request_and_do_not_reach_the_server_as_whole() {
    let upstream = Upstream::start(|peer| {
        assert!(peer.request().is_none(), "a request without an end came to one");
    });
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    for section in ["X-A : 1\r\n", "X-A: 1\r\n folded\r\n", ": 1\r\n", "X-A: a\0b\r\n", "X-A: 1\n"] {
        let mut client = server.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{section}\r\n"
        ));
        let response = client.response();
        assert_eq!((response.status, response.closes()), (400, true), "{section:?}");
    }
}

#[test]
fn a_lying_upstream_is_answered_for_with_502_and_its_connection_closed() {
    for lie in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "SSH-2.0-x\r\n",
    ] {
        let upstream = Upstream::start(move |peer| {
            peer.request();
            peer.write(lie);
            peer.wait_end();
        });
        let server = gateway("epoll", &[&upstream], json!({ "retry": { "attempts": 1 } })).serve();
        let mut client = server.client();
        assert_eq!(client.get("/").status, 502, "{lie:?}");
        assert_eq!(client.get("/").status, 502, "the client's connection goes on after {lie:?}");
        assert_eq!(upstream.connections(), 2, "{lie:?}");
    }
}

#[test]
fn what_follows_a_response_is_never_taken_for_the_next_ones() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        peer.wait_end();
    });
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn a_response_that_breaks_off_breaks_off_for_the_client() {
    on_each_driver(|driver| {
        let upstream = Upstream::start(|peer| {
            let head = peer.request().unwrap().head;
            if head.starts_with("GET /length") {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            } else {
                peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            }
        });
        let server = gateway(driver, &[&upstream], json!({})).serve();
        for path in ["/length", "/chunked"] {
            let mut client = server.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let text = String::from_utf8(client.rest()).unwrap();
            assert!(text.contains("half") && !text.ends_with("0\r\n\r\n"), "{path}: {text}");
        }
    });
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_reaches_the_client() {
    on_each_driver(|driver| {
        let upstream = Upstream::start(|peer| {
            peer.head();
            peer.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            peer.wait_end();
        });
        let server = gateway(driver, &[&upstream], json!({})).limit("body", "1GiB").serve();
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nfirst bytes");
        let response = client.response();
        assert_eq!((response.status, response.text()), (413, "no"));
    });
}

#[test]
fn an_upstreams_exchange_ends_when_its_client_is_gone() {
    on_each_driver(|driver| {
        let (told, ended) = std::sync::mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let upstream = Upstream::start(move |peer| {
            peer.request();
            peer.wait_end();
            let _ = told.lock().unwrap().send(());
        });
        let server = gateway(driver, &[&upstream], json!({})).serve();
        let mut client = server.client();
        client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        crate::support::wait_until("the request arrives", || upstream.requests() == 1);
        rustix::net::sockopt::set_socket_linger(client.stream(), Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        ended.recv_timeout(crate::support::PATIENCE).expect("the gateway closes the upstream's connection");
    });
}
