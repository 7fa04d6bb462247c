//! The gateway seen from outside: its metrics, what the admin listener says of it, and what it changes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringfort::proxy::Termination;
use serde_json::{Value, json};

use super::gateway;
use crate::support::upstream::{Upstream, ok};
use crate::support::{Client, Response, Server, on_each_driver, wait_until};

fn labels(upstream: &str, server: &Upstream) -> String {
    format!("{{upstream=\"{upstream}\",server=\"{}\"", server.address)
}

#[test]
fn what_each_server_was_asked_and_how_it_answered_is_counted_over_all_cores() {
    on_each_driver(|driver| {
        let upstream = Upstream::answering(|request| match request.head.starts_with("GET /bad ") {
            true => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec(),
            false => ok("good"),
        });
        let server = gateway(driver, &[&upstream], json!({})).workers(2).serve();
        for _ in 0..3 {
            let mut client = server.client();
            client.get("/");
            client.get("/bad");
        }
        let of = labels("api", &upstream);
        for (name, more, expected) in [
            ("requests_total", "", 6.0),
            ("responses_total", ",class=\"below_500\"", 3.0),
            ("responses_total", ",class=\"5xx\"", 3.0),
            ("failures_total", "", 0.0),
            ("response_head_seconds_count", "", 6.0),
            ("requests_in_flight", "", 0.0),
            ("state", ",state=\"available\"", 1.0),
            ("state", "", 1.0),
            ("breaker_state", ",state=\"closed\"", 1.0),
        ] {
            server.wait_metric(&format!("ringfort_upstream_server_{name}"), &format!("{of}{more}"), expected);
        }
        assert!(server.metric("ringfort_upstream_server_latency_ewma_seconds", &of) > 0.0);
        let opened = server.metric("ringfort_upstream_server_connections_opened_total", &of);
        let reused = server.metric("ringfort_upstream_server_connection_reuses_total", &of);
        assert_eq!(opened + reused, 6.0);
        assert_eq!(opened, upstream.connections() as f64);
        assert_eq!(server.metric("ringfort_upstream_server_connections_open", &of), opened);
    });
}

#[test]
fn attempts_that_fail_are_counted_by_kind_and_those_after_them_as_retries() {
    let rude = Upstream::start(|peer| drop(peer.request()));
    let good = Upstream::answering(|_| ok("good"));
    let spec = json!({ "balance": "round_robin", "retry": { "budget": 1.0 } });
    let server = gateway("epoll", &[&rude, &good], spec).serve();
    let mut client = server.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    let (of_rude, of_good) = (labels("api", &rude), labels("api", &good));
    let failures = server.metric("ringfort_upstream_server_failures_total", &format!("{of_rude},kind=\"no_response\""));
    assert!(failures >= 2.0, "{failures}");
    assert_eq!(server.metric("ringfort_upstream_server_failures_total", &of_rude), failures);
    assert_eq!(server.metric("ringfort_upstream_server_retries_total", &of_good), failures);
    assert_eq!(server.metric("ringfort_upstream_server_retries_total", &of_rude), 0.0);
}

/// Sends one `POST` to the admin listener, as `curl -X POST` does, with these field lines.
fn post(server: &Server, path: &str, lines: &str) -> Response {
    let text = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", server.admin);
    Client::connect(server.admin).send(text).response()
}

fn of_server(server: &Server, index: usize) -> Value {
    server.admin_get("/upstreams").json()["upstreams"][0]["servers"][index].clone()
}

#[test]
fn a_server_that_is_drained_gets_no_request_until_it_is_undrained_and_none_fails() {
    on_each_driver(|driver| {
        let (one, two) = (Upstream::answering(|_| ok("one")), Upstream::answering(|_| ok("two")));
        let server = gateway(driver, &[&one, &two], json!({ "balance": "round_robin" })).workers(2).serve();
        let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
        let mut ask = || clients.iter_mut().map(|client| client.get("/").text().to_owned()).collect::<HashSet<_>>();
        let both = HashSet::from(["one".to_owned(), "two".to_owned()]);
        wait_until("both are asked", || ask() == both);
        for named in [one.address.to_string(), one.address.to_string().replace(':', "%3A"), "0".to_owned()] {
            let answer = post(&server, &format!("/upstreams/api/servers/{named}/drain"), "");
            assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")), "{answer:?}");
            let drained = &answer.json()["server"];
            assert_eq!((&drained["state"], &drained["drained"]), (&"drained".into(), &true.into()), "{drained}");
            assert_eq!(drained["why"], "the operator drained it");
            let before = one.requests();
            for _ in 0..10 {
                assert_eq!(ask(), HashSet::from(["two".to_owned()]));
            }
            assert_eq!(one.requests(), before);
            let of = format!("{},state=\"drained\"", labels("api", &one));
            assert_eq!(server.metric("ringfort_upstream_server_state", &of), 1.0);
            let again = post(&server, &format!("/upstreams/api/servers/{named}/drain"), "").json();
            assert_eq!(again["changed"], false);
            let undrained = post(&server, &format!("/upstreams/api/servers/{named}/undrain"), "").json();
            assert_eq!((&undrained["changed"], &undrained["server"]["state"]), (&true.into(), &"available".into()));
            wait_until("both are asked again", || ask() == both);
        }
    });
}

/// Ends the load that a test makes, also when the test fails.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn no_request_fails_while_one_server_after_another_is_drained_and_undrained() {
    on_each_driver(|driver| {
        let upstreams = [(); 3].map(|()| Upstream::answering(|_| ok("good")));
        let server = gateway(driver, &upstreams.each_ref(), json!({})).workers(2).serve();
        let (is_over, answered) = (AtomicBool::new(false), [(); 4].map(|()| AtomicUsize::new(0)));
        thread::scope(|scope| {
            let _end = EndOfLoad(&is_over);
            for count in &answered {
                let mut client = server.client();
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::SeqCst) {
                        assert_eq!(client.get("/").text(), "good");
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            // What was under way has then ended, and some more.
            let let_pass = |more: usize| {
                let before = answered.each_ref().map(|count| count.load(Ordering::SeqCst));
                wait_until("all clients are answered", || {
                    answered.iter().zip(before).all(|(count, before)| count.load(Ordering::SeqCst) >= before + more)
                });
            };
            for _ in 0..3 {
                for (index, upstream) in upstreams.iter().enumerate() {
                    post(&server, &format!("/upstreams/api/servers/{index}/drain"), "");
                    let_pass(1);
                    let before = upstream.requests();
                    let_pass(10);
                    assert_eq!(upstream.requests(), before, "a drained server is not asked");
                    post(&server, &format!("/upstreams/api/servers/{index}/undrain"), "");
                    wait_until("it is asked again", || upstream.requests() > before);
                }
            }
        });
        let asked: usize = upstreams.iter().map(Upstream::requests).sum();
        let answers: usize = answered.iter().map(|count| count.load(Ordering::SeqCst)).sum();
        assert_eq!(asked, answers, "and each was sent once");
    });
}

#[test]
fn upstreams_are_listed_with_how_their_servers_stand_and_what_they_did() {
    let (good, other) = (Upstream::answering(|_| ok("good")), Upstream::answering(|_| ok("good")));
    let spec = json!({ "balance": { "hash": { "over": "cookie:sid" } }, "ejection": {}, "health": { "tcp": true } });
    let server = gateway("epoll", &[&good, &other], spec).serve();
    let mut client = server.client();
    (0..5).for_each(|_| assert_eq!(client.get("/").status, 200));
    let list = server.admin_get("/upstreams").json();
    let upstream = &list["upstreams"][0];
    assert_eq!((&upstream["name"], &upstream["balance"]), (&"api".into(), &"hash over cookie:sid (rendezvous)".into()));
    assert_eq!((&upstream["pending"], &upstream["counters"]["unavailable"]), (&0.into(), &0.into()));
    let servers = upstream["servers"].as_array().unwrap();
    let asked = servers.iter().find(|server| server["counters"]["requests"] == 5).unwrap();
    let address = &asked["address"];
    assert!(*address == good.address.to_string() || *address == other.address.to_string(), "{address}");
    assert_eq!(
        (&asked["state"], &asked["why"], &asked["health"]),
        (&"available".into(), &Value::Null, &"healthy".into())
    );
    assert_eq!((&asked["breaker"], &asked["ejected_for_seconds"]), (&"closed".into(), &Value::Null));
    assert_eq!((&asked["weight"], &asked["in_flight"], &asked["connections_open"]), (&1.into(), &0.into(), &1.into()));
    assert_eq!((&asked["counters"]["responses_below_500"], &asked["latency"]["count"]), (&5.into(), &5.into()));
    assert!(asked["latency_ewma_ns"].as_u64().unwrap() > 0);
    assert!(asked["latency"]["p50_ns"].as_u64().unwrap() <= asked["latency"]["p99_ns"].as_u64().unwrap());
}

#[test]
fn an_ejected_server_says_so_and_for_how_long() {
    let bad = Upstream::answering(|_| b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec());
    let good = Upstream::answering(|_| ok("good"));
    let ejection = json!({ "consecutive_failures": 2, "duration": "1h", "duration_max": "1h" });
    let spec = json!({ "balance": "round_robin", "ejection": ejection });
    let server = gateway("epoll", &[&bad, &good], spec).serve();
    let mut client = server.client();
    (0..8).for_each(|_| drop(client.get("/")));
    let ejected = of_server(&server, 0);
    assert_eq!((&ejected["state"], &ejected["counters"]["ejections"]), (&"ejected".into(), &1.into()));
    assert!((3000.0..=3600.0).contains(&ejected["ejected_for_seconds"].as_f64().unwrap()), "{ejected}");
    assert_eq!(server.metric("ringfort_upstream_server_ejections_total", &labels("api", &bad)), 1.0);
}

#[test]
fn an_upstream_or_server_that_is_not_there_is_answered_with_those_that_are() {
    let upstream = Upstream::answering(|_| ok("good"));
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let of_upstream = post(&server, "/upstreams/apo/servers/0/drain", "");
    assert_eq!((of_upstream.status, of_upstream.field("content-type")), (404, Some("application/problem+json")));
    assert_eq!(of_upstream.json()["known"], json!(["api"]));
    for wrong in ["1", "-1", "127.0.0.1", "%00x", "99999999999999999999"] {
        let answer = post(&server, &format!("/upstreams/api/servers/{wrong}/drain"), "");
        if wrong == "%00x" {
            assert_eq!(answer.status, 400);
            continue;
        }
        assert_eq!(answer.status, 404, "{wrong}");
        assert_eq!(answer.json()["known"], json!([upstream.address.to_string()]), "{wrong}");
        assert!(!answer.text().contains(&format!("\"{wrong}\"")), "nothing of the request is echoed");
    }
    assert_eq!(server.admin_get("/upstreams/api/servers/0/drain").status, 405);
    assert_eq!(of_server(&server, 0)["drained"], false);
}

#[test]
fn what_a_web_page_asks_for_changes_nothing() {
    let upstream = Upstream::answering(|_| ok("good"));
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let own = format!("Origin: http://{}\r\n", server.admin);
    for lines in ["Origin: http://evil.example\r\n", "Origin: null\r\n", &own, "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(post(&server, "/upstreams/api/servers/0/drain", lines).status, 403, "{lines}");
        assert_eq!(of_server(&server, 0)["drained"], false, "{lines}");
    }
    assert_eq!(server.client().get("/").text(), "good");
}

/// Does to each request what its path says.
fn moody() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            match request.head.split(' ').nth(1).unwrap() {
                "/close" => return,
                "/junk" => return peer.write("BAD\r\n\r\n"),
                "/cut" => return peer.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"),
                "/chunk" => return peer.write(format!("{chunked}2\r\nhi\r\nno size\r\n")),
                "/silent" => return peer.wait_end(),
                "/pause" => {
                    peer.write(format!("{chunked}2\r\nhi\r\n"));
                    return peer.wait_end();
                }
                "/tunnel" => {
                    peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello");
                    return peer.wait_end();
                }
                _ => peer.write(ok("good")),
            }
        }
    })
}

const ENDS: &str = "ringfort_upstream_terminations_total";

/// Leaves for good: a client that only closes its side may still read.
fn reset(client: Client) {
    rustix::net::sockopt::set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
}

/// Waits until so many requests of the upstream ended with this code.
#[track_caller]
fn wait_ends(server: &Server, code: &str, expected: f64) {
    server.wait_metric(ENDS, &format!("{{upstream=\"api\",code=\"{code}\"}}"), expected);
}

#[test]
fn every_request_has_one_code_that_says_who_ended_it_and_when() {
    on_each_driver(|driver| {
        let upstream = moody();
        let spec = json!({ "retry": { "attempts": 1 }, "timeouts": { "response": "200ms", "idle": "200ms" } });
        let server = gateway(driver, &[&upstream], spec).serve();
        let ways = [
            ("/", "--"),
            ("/close", "SH-closed"),
            ("/junk", "SH-invalid"),
            ("/cut", "SB-closed"),
            ("/chunk", "SB-invalid"),
            ("/silent", "SH-timeout"),
            ("/pause", "SB-timeout"),
        ];
        for (path, code) in ways {
            server.client().send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).rest();
            wait_ends(&server, code, 1.0);
        }
        assert_eq!(server.metric(ENDS, ""), ways.len() as f64, "none has two");
        post(&server, "/upstreams/api/servers/0/drain", "");
        assert_eq!(server.client().get("/").status, 503);
        wait_ends(&server, "GC-unavailable", 1.0);
        let terminations = server.admin_get("/upstreams").json()["upstreams"][0]["terminations"].clone();
        assert_eq!((&terminations["--"], &terminations["GC-unavailable"]), (&1.into(), &1.into()));
    });
}

#[test]
fn a_client_that_leaves_is_told_from_a_server_that_does() {
    on_each_driver(|driver| {
        let upstream = moody();
        let server = gateway(driver, &[&upstream], json!({ "retry": { "attempts": 1 } })).serve();
        server.client().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ncut");
        wait_ends(&server, "CQ-gone", 1.0);
        let mut early = server.client();
        early.send("GET /silent HTTP/1.1\r\nHost: x\r\n\r\n");
        wait_until("it is under way", || upstream.requests() == 1);
        reset(early);
        wait_ends(&server, "CH-gone", 1.0);
        let mut late = server.client();
        late.send("GET /pause HTTP/1.1\r\nHost: x\r\n\r\n").wait_for(b"hi");
        reset(late);
        wait_ends(&server, "CB-gone", 1.0);
        assert_eq!(server.metric(ENDS, ""), 3.0);
    });
}

#[test]
fn a_tunnel_has_a_code_of_its_own_when_it_ends() {
    on_each_driver(|driver| {
        let upstream = moody();
        let server = gateway(driver, &[&upstream], json!({ "timeouts": { "idle": "300ms" } })).serve();
        let offer = "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let mut idle = server.client();
        idle.send(offer).wait_for(b"hello");
        assert_eq!(server.metric(ENDS, ""), 0.0, "it goes on");
        wait_ends(&server, "GT-idle", 1.0);
        let mut whole = server.client();
        whole.send(offer).wait_for(b"hello");
        whole.finish_sending();
        whole.rest();
        wait_ends(&server, "-T", 1.0);
        assert_eq!(server.metric(ENDS, ""), 2.0);
    });
}

#[test]
fn a_failed_attempt_is_logged_with_its_code() {
    let (bad, good) = (Upstream::start(|peer| drop(peer.request())), Upstream::answering(|_| ok("good")));
    let spec = json!({ "balance": "round_robin", "retry": { "budget": 1.0 } });
    let start = gateway("epoll", &[&bad, &good], spec).prepare(|command| {
        command.env("RINGFORT__LOG__LEVEL", "debug");
    });
    let mut server = start.serve();
    let mut client = server.client();
    (0..4).for_each(|_| assert_eq!(client.get("/").text(), "good"));
    let line = server.log_line("an attempt failed").unwrap();
    assert_eq!((&line["code"], &line["upstream"]), (&"SH-closed".into(), &"api".into()), "{line}");
    assert_eq!((&line["server"], &line["attempt"]), (&bad.address.to_string().into(), &1.into()), "{line}");
}

#[test]
fn the_readme_names_every_termination_code_and_no_other() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let table = text.split_once("| codes | |").unwrap().1.split_once("\n\n").unwrap().0;
    let named: HashSet<_> = table.split('`').skip(1).step_by(2).collect();
    let real: HashSet<_> = Termination::ALL.iter().map(|termination| termination.code()).collect();
    assert_eq!(named, real);
}
