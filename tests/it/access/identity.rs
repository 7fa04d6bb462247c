//! Request ids and traces on their way from proxies in front to servers behind.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Log;
use crate::support::upstream::{Upstream, ok};
use crate::support::{Start, on_hand, wait_until};

/// An upstream that keeps the heads that it got.
fn listening() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    let upstream = Upstream::answering(move |request| {
        kept.lock().unwrap().push(request.head.clone());
        let mut response = ok("hello");
        let end = b"HTTP/1.1 200 OK\r\n".len();
        response.splice(end..end, *b"X-Request-Id: the-upstreams-own\r\n");
        response
    });
    (upstream, heads)
}

fn gateway(upstream: &Upstream) -> Start {
    let routes = json!([
        { "match": { "path": "/*rest" }, "proxy": { "upstream": "api" } },
        { "match": { "path": "/fixed" }, "respond": { "text": "fixed" } },
        { "match": { "path": "/own" }, "respond": { "text": "own", "headers": { "x-request-id": "mine" } } },
    ]);
    Start::command(on_hand("epoll"), routes)
        .upstream("api", json!({ "servers": [{ "address": upstream.address.to_string() }] }))
        .workers(1)
}

/// The values of the fields of this name, in any case.
fn fields(head: &str, name: &str) -> Vec<String> {
    let pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

fn request(path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

#[test]
fn an_id_of_a_trusted_proxy_is_the_requests_everywhere() {
    let (upstream, heads) = listening();
    let log = Log::new();
    let ids = json!({ "header": "X-Request-Id", "trust": ["127.0.0.0/8"], "respond": "X-Request-Id" });
    let server = log.of_all(gateway(&upstream)).server("request_id", ids).serve();
    let mut client = server.client();
    let given = "Root=1-67891233-abc/d:e";
    for path in ["/a", "/fixed"] {
        let response = client.send(request(path, &[&format!("x-request-id: {given}")])).response();
        assert_eq!(response.field("x-request-id"), Some(given), "{path}");
    }
    assert_eq!(fields(&heads.lock().unwrap()[0], "x-request-id"), [given]);
    // A route's own answer is the operator's to name.
    let response = client.send(request("/own", &[&format!("x-request-id: {given}")])).response();
    assert_eq!(response.field("x-request-id"), Some("mine"));
    assert!(log.wait(3).iter().all(|line| line["id"] == given));
    let long = "a".repeat(129);
    for bad in ["", "two words", "quote\"", "ümlaut", "a,b", &long] {
        let response = client.send(request("/a", &[&format!("X-Request-Id: {bad}")])).response();
        let made = response.field("x-request-id").unwrap().to_owned();
        assert!(made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{bad}: {made}");
        assert_eq!(fields(heads.lock().unwrap().last().unwrap(), "x-request-id"), [made.as_str()], "{bad}");
        wait_until("its line", || log.lines().last().is_some_and(|line| line["id"] == made.as_str()));
    }
}

#[test]
fn an_id_of_a_stranger_is_replaced_and_the_clients_problem_names_ours() {
    let (upstream, heads) = listening();
    let log = Log::new();
    let ids = json!({ "header": "X-Request-Id", "trust": ["192.0.2.0/24"] });
    let server = log.of_all(gateway(&upstream)).server("request_id", ids).serve();
    let mut client = server.client();
    let response = client.send(request("/a", &["X-Request-Id: forged", "X-REQUEST-ID: twice"])).response();
    assert_eq!(response.field("x-request-id"), Some("the-upstreams-own"), "nothing is told where nobody asked for it");
    let made = fields(&heads.lock().unwrap()[0], "x-request-id");
    assert_eq!(log.wait(1)[0]["id"], made[0].as_str());
    assert_eq!((made.len(), made[0].len()), (1, 16));
    drop(upstream);
    let problem = client.send(request("/b", &["X-Request-Id: forged"])).response();
    assert_eq!((problem.status, &problem.json()["request_id"]), (502, &log.wait(2)[1]["id"]));
}

#[test]
fn without_a_word_in_the_config_ids_and_traces_pass_as_they_came() {
    let (upstream, heads) = listening();
    let server = gateway(&upstream).serve();
    let lines = ["X-Request-Id: theirs", "traceparent: junk", "tracestate: a=b"];
    let response = server.client().send(request("/a", &lines)).response();
    assert_eq!(response.field("x-request-id"), Some("the-upstreams-own"));
    let head = heads.lock().unwrap()[0].clone();
    assert!(lines.iter().all(|line| head.contains(line)), "{head}");
    assert_eq!(server.get("/fixed").field("x-request-id"), None);
}

#[test]
fn a_valid_trace_goes_on_and_any_other_begins_anew() {
    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (upstream, heads) = listening();
    let log = Log::new();
    let server = log.of_all(gateway(&upstream)).server("trace", json!(true)).serve();
    let mut client = server.client();
    let valid = format!("traceparent: 00-{ID}-00f067aa0ba902b7-00");
    let head_of = |client: &mut crate::support::Client, lines: &[&str]| {
        assert_eq!(client.send(request("/a", lines)).response().status, 200);
        heads.lock().unwrap().last().unwrap().clone()
    };
    let head = head_of(&mut client, &[&valid, "tracestate: a=b", "TraceState: c=d"]);
    let passed = fields(&head, "traceparent");
    assert_eq!(passed.len(), 1, "{head}");
    assert!(passed[0].starts_with(&format!("00-{ID}-")) && passed[0].ends_with("-00"), "{passed:?}");
    assert!(!passed[0].contains("00f067aa0ba902b7"), "the gateway is the parent: {passed:?}");
    assert_eq!(fields(&head, "tracestate"), ["a=b", "c=d"]);
    assert_eq!(log.wait(1)[0]["trace_id"], ID);
    let valid = valid.as_str();
    let bad: [&[&str]; 3] = [&["traceparent: 00-xyz-1-01"], &[valid, valid], &[]];
    let mut seen: Vec<Value> = Vec::new();
    for (index, lines) in bad.into_iter().enumerate() {
        let head = head_of(&mut client, &[lines, &["tracestate: a=b"][..]].concat());
        let begun = fields(&head, "traceparent");
        let line = &log.wait(index + 2)[index + 1];
        let id = line["trace_id"].as_str().unwrap();
        assert_eq!((begun.len(), id.len()), (1, 32), "{head}");
        assert!(begun[0].starts_with(&format!("00-{id}-")) && begun[0].ends_with("-01"), "{begun:?}");
        assert_eq!(fields(&head, "tracestate"), Vec::<String>::new());
        assert!(id != ID && !seen.contains(&line["trace_id"]));
        seen.push(line["trace_id"].clone());
    }
    // What is answered here belongs to a trace too.
    client.send(request("/fixed", &[valid])).response();
    assert_eq!(log.wait(5)[4]["trace_id"], ID);
}

/// What the process says of a request names it: here of an attempt that failed, and of a handler that did.
#[test]
fn lines_of_the_process_log_that_are_about_a_request_name_it() {
    let (upstream, _) = listening();
    let ids = json!({ "header": "X-Request-Id", "trust": ["127.0.0.1"] });
    let mut server = gateway(&upstream).server("request_id", ids).log("level", "debug").serve();
    drop(upstream);
    server.client().send(request("/a", &["X-Request-Id: find-me-1"])).response();
    assert_eq!(server.log_line("an attempt failed").unwrap()["request"], "find-me-1");
}
