//! Forwarded requests in the access log: where they went, how often, how long it took, and who ended them.

use std::collections::HashSet;

use ringfort::proxy::Termination;
use serde_json::{Value, json};

use super::{Log, has};
use crate::support::upstream::{Upstream, ok};
use crate::support::{Start, on_each_driver, on_hand};

fn gateway(driver: &'static str, upstreams: &[&Upstream]) -> Start {
    let servers: Vec<_> = upstreams.iter().map(|upstream| json!({ "address": upstream.address.to_string() })).collect();
    let routes = json!([{ "match": { "path": "/*rest" }, "proxy": { "upstream": "api" } }]);
    let upstream = json!({
        "servers": servers,
        "balance": "round_robin",
        "retry": { "attempts": 2, "budget": 1 },
        "timeouts": { "response": "300ms", "idle": "300ms" },
    });
    Start::command(on_hand(driver), routes).upstream("api", upstream).workers(1)
}

#[test]
fn a_forwarded_request_has_its_upstream_server_attempts_times_and_termination() {
    on_each_driver(|driver| {
        let log = Log::new();
        let upstream = Upstream::answering(|_| ok("hello"));
        let server = log.of_all(gateway(driver, &[&upstream])).serve();
        let mut client = server.client();
        assert_eq!(client.get("/a?b").text(), "hello");
        assert_eq!(
            client.send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").response().text(),
            "hello"
        );
        let lines = log.wait(2);
        for (line, path) in lines.iter().zip(["/a", "/b"]) {
            assert!(has(line, "path", path) && has(line, "route", "/*rest"), "{line}");
            assert!(has(line, "upstream", "api") && has(line, "server", upstream.address.to_string()), "{line}");
            assert!(has(line, "attempts", 1) && has(line, "termination", "--") && has(line, "status", 200), "{line}");
            let [head, total, all] = ["upstream_head_us", "upstream_us", "duration_us"].map(|key| line[key].as_u64());
            assert!(head.is_some() && head <= total && total.is_some() && all.is_some(), "{line}");
        }
        // The second went over the connection of the first.
        let connects = lines.iter().map(|line| line["upstream_connect_us"].is_u64());
        assert!(connects.eq([true, false]), "{lines:?}");
    });
}

#[test]
fn a_second_attempt_is_counted_and_the_server_is_the_one_that_answered() {
    let log = Log::new();
    let broken = Upstream::start(|peer| drop(peer.head()));
    let good = Upstream::answering(|_| ok("hello"));
    let server = log.of_all(gateway("epoll", &[&broken, &good])).serve();
    let mut client = server.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "hello");
    }
    let lines = log.wait(4);
    assert!(lines.iter().all(|line| has(line, "server", good.address.to_string()) && has(line, "termination", "--")));
    let attempts: HashSet<_> = lines.iter().map(|line| line["attempts"].as_u64().unwrap()).collect();
    assert!(attempts.contains(&2), "{lines:?}");
}

#[test]
fn how_a_forwarded_request_failed_is_its_termination() {
    on_each_driver(|driver| {
        let log = Log::new();
        let upstream = Upstream::start(|peer| {
            while let Some(request) = peer.request() {
                match request.head.split(' ').nth(1).unwrap() {
                    "/close" => return,
                    "/silent" => return peer.wait_end(),
                    "/junk" => return peer.write("what?\r\n\r\n"),
                    "/half" => return peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
                    "/busy" => peer.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
                    _ => peer.write(ok("")),
                }
            }
        });
        let server = log.of_all(gateway(driver, &[&upstream])).serve();
        let cases = [
            ("/close", 502, "SH-closed"),
            ("/silent", 504, "SH-timeout"),
            ("/junk", 502, "SH-invalid"),
            ("/half", 200, "SB-closed"),
            ("/busy", 503, "--"),
        ];
        for (index, (path, status, code)) in cases.into_iter().enumerate() {
            server.client().send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).rest();
            let line = &log.wait(index + 1)[index];
            assert!(has(line, "status", status) && has(line, "termination", code), "{path}: {line}");
            assert!(has(line, "server", upstream.address.to_string()) && has(line, "attempts", 1), "{path}: {line}");
        }
    });
}

#[test]
fn a_server_that_takes_no_connection_is_named() {
    let log = Log::new();
    let upstream = Upstream::answering(|_| ok(""));
    let server = log.of_all(gateway("epoll", &[&upstream])).serve();
    let address = upstream.address.to_string();
    drop(upstream);
    server.client().send("GET /gone HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").rest();
    let line = &log.wait(1)[0];
    assert!(has(line, "status", 502) && has(line, "termination", "SC-refused"), "{line}");
    assert!(has(line, "server", address) && line.get("upstream_head_us").is_none(), "{line}");
}

#[test]
fn a_tunnel_is_logged_when_it_ends_with_the_bytes_of_both_ways() {
    on_each_driver(|driver| {
        let log = Log::new();
        let upstream = Upstream::start(|peer| {
            drop(peer.head());
            peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
            while let Some(byte) = peer.take(1) {
                peer.write([byte[0], byte[0]]);
            }
        });
        let server = log.of_all(gateway(driver, &[&upstream])).serve();
        let head = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let mut client = server.client();
        client.send(format!("{head}abc")).wait_for(b"aabbcc");
        assert_eq!(log.lines(), Vec::<Value>::new(), "it has not ended");
        client.finish_sending();
        let got = client.rest().len();
        let line = &log.wait(1)[0];
        assert!(has(line, "status", 101) && has(line, "termination", "-T") && has(line, "upstream", "api"), "{line}");
        assert!(has(line, "request_bytes", head.len() + 3) && has(line, "response_bytes", got), "{got}: {line}");
        assert!(line["upstream_us"].as_u64() >= line["upstream_head_us"].as_u64(), "{line}");
    });
}

#[test]
fn a_client_that_leaves_a_forwarded_request_ended_it() {
    let log = Log::new();
    let upstream = Upstream::start(|peer| {
        drop(peer.head());
        peer.wait_end();
    });
    let server = log.of_all(gateway("epoll", &[&upstream])).serve();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    crate::support::wait_until("it is forwarded", || upstream.requests() == 1);
    rustix::net::sockopt::set_socket_linger(client.stream(), Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    let line = &log.wait(1)[0];
    assert!(has(line, "status", 499) && has(line, "termination", "CH-gone"), "{line}");
    assert!(has(line, "server", upstream.address.to_string()), "{line}");
}

/// Other requests have codes of forwarded ones: none of its own making.
#[test]
fn codes_of_the_server_are_codes_of_the_gateway() {
    let codes: HashSet<_> = Termination::ALL.iter().map(|termination| termination.code()).collect();
    for code in ["--", "CQ-timeout", "CQ-invalid", "CQ-too_large", "CQ-gone", "CH-gone", "CB-gone", "-T", "GH-internal"]
    {
        assert!(codes.contains(code), "{code}");
    }
}
