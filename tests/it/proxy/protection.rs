//! Servers that fail: retries, time-outs, ejection, breakers, active checks, limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::gateway;
use crate::support::upstream::{Upstream, ok};
use crate::support::{on_each_driver, wait_until};

/// Closes every connection that it gets as soon as a request has come.
fn rude() -> Upstream {
    Upstream::start(|peer| drop(peer.request()))
}

/// An address where nobody listens.
#[allow(clippy::disallowed_methods, reason = "an address that was free a moment ago")]
fn nowhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over_whatever_the_method() {
    on_each_driver(|driver| {
        let upstream = Upstream::answering(|_| ok("alive"));
        let servers = json!([{ "address": nowhere().to_string() }, { "address": upstream.address.to_string() }]);
        let mut start = gateway(driver, &[], json!({ "balance": "round_robin", "retry": { "budget": 1.0 } }));
        start =
            start.upstream("api", json!({ "servers": servers, "balance": "round_robin", "retry": { "budget": 1.0 } }));
        let server = start.serve();
        let mut client = server.client();
        for _ in 0..4 {
            assert_eq!(client.get("/").text(), "alive");
            client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
            assert_eq!(client.response().text(), "alive");
        }
    });
}

#[test]
fn only_idempotent_requests_are_sent_again_to_another_server() {
    let (rude, good) = (rude(), Upstream::answering(|_| ok("good")));
    let spec = json!({ "balance": "round_robin", "retry": { "budget": 1.0 } });
    let server = gateway("epoll", &[&rude, &good], spec).serve();
    let mut client = server.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
        statuses.push(client.response().status);
    }
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    let posts = statuses.len();
    assert!(good.requests() <= 4 + posts, "no POST was sent twice");
}

#[test]
fn statuses_that_the_config_names_are_tried_elsewhere() {
    let busy = Upstream::answering(|_| b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".to_vec());
    let good = Upstream::answering(|_| ok("good"));
    let spec = json!({ "balance": "round_robin", "retry": { "budget": 1.0, "statuses": [503] } });
    let server = gateway("epoll", &[&busy, &good], spec).serve();
    let mut client = server.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(busy.requests() >= 2);
}

#[test]
fn a_status_that_may_not_be_tried_elsewhere_reaches_the_client_as_it_came() {
    let busy =
        || Upstream::answering(|_| b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy".to_vec());
    let (one, two) = (busy(), busy());
    let spec = json!({ "balance": "round_robin", "retry": { "budget": 0.0, "statuses": [503] } });
    let server = gateway("epoll", &[&one, &two], spec).serve();
    let mut client = server.client();
    for _ in 0..4 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (503, "busy"));
    }
    assert_eq!(one.requests() + two.requests(), 4);
}

#[test]
fn a_connection_that_was_closed_while_idle_is_replaced_without_the_client_noticing() {
    on_each_driver(|driver| {
        let upstream = Upstream::start(|peer| {
            peer.request();
            peer.write(ok("once"));
        });
        let server = gateway(driver, &[&upstream], json!({ "retry": { "attempts": 1 } })).serve();
        let mut client = server.client();
        for _ in 0..5 {
            assert_eq!(client.get("/").text(), "once");
        }
        assert_eq!(upstream.connections(), 5);
    });
}

#[test]
fn a_silent_server_is_answered_for_with_504_at_the_response_time_out() {
    on_each_driver(|driver| {
        let upstream = Upstream::start(|peer| {
            peer.request();
            peer.wait_end();
        });
        let spec = json!({ "timeouts": { "response": "200ms" }, "retry": { "attempts": 1 } });
        let server = gateway(driver, &[&upstream], spec).serve();
        let mut client = server.client();
        assert_eq!(client.get("/").status, 504);
        assert_eq!(client.get("/").status, 504, "the client's connection goes on");
    });
}

#[test]
fn a_server_that_fails_is_ejected_and_comes_back_by_itself() {
    let fails = Arc::new(AtomicBool::new(true));
    let of_server = fails.clone();
    let wavering = Upstream::answering(move |_| match of_server.load(Ordering::SeqCst) {
        true => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad".to_vec(),
        false => ok("back"),
    });
    let steady = Upstream::answering(|_| ok("steady"));
    let spec = json!({ "balance": "round_robin", "ejection": { "consecutive_failures": 3, "duration": "500ms" } });
    let server = gateway("epoll", &[&wavering, &steady], spec).serve();
    let mut client = server.client();
    let bad = (0..20).filter(|_| client.get("/").status == 500).count();
    assert_eq!(bad, 3, "then it was ejected");
    fails.store(false, Ordering::SeqCst);
    wait_until("the server is asked again", || client.get("/").text() == "back");
}

#[test]
fn active_checks_take_a_server_out_and_bring_it_back() {
    let healthy = Arc::new(AtomicBool::new(true));
    let of_server = healthy.clone();
    let checked = Upstream::answering(move |request| match request.head.starts_with("GET /health ") {
        true if of_server.load(Ordering::SeqCst) => ok("fine"),
        true => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => ok("checked"),
    });
    let health = json!({ "path": "/health", "interval": "50ms", "timeout": "1s", "fall": 2, "rise": 2 });
    let server = gateway("epoll", &[&checked], json!({ "health": health })).serve();
    let mut client = server.client();
    assert_eq!(client.get("/").text(), "checked");
    healthy.store(false, Ordering::SeqCst);
    wait_until("the server is taken out", || client.get("/").status == 503);
    healthy.store(true, Ordering::SeqCst);
    wait_until("the server is back", || client.get("/").status == 200);
}

#[test]
fn more_requests_than_may_wait_are_refused_at_once() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |peer| {
        while peer.request().is_some() {
            let _ = released.lock().unwrap().recv_timeout(crate::support::PATIENCE);
            peer.write(ok("at last"));
        }
    });
    let spec = json!({ "limits": { "connections": 1, "pending": 1 }, "timeouts": { "connect": "20s" }, "retry": { "attempts": 1 } });
    let server = gateway("epoll", &[&upstream], spec).serve();
    let mut first = server.client();
    first.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the first is under way", || upstream.requests() == 1);
    let mut second = server.client();
    second.send("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut refused = None;
    wait_until("the third is refused", || {
        let mut third = server.client();
        third.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        third.send("GET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
        refused = third.next(false).ok().flatten();
        refused.is_some()
    });
    let refused = refused.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.field("retry-after").is_some());
    release.send(()).unwrap();
    assert_eq!(first.response().text(), "at last");
    release.send(()).unwrap();
    assert_eq!(second.response().text(), "at last");
}
