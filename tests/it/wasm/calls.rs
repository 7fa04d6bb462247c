//! Plugins that ask upstreams: requests wait for the answers, each for its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use super::echo;
use super::guests::{Modules, plugin, put_version};
use crate::support::upstream::{Received, Upstream, ok};
use crate::support::{Server, on_each_driver, wait_until};

/// Made by AssemblyScript with the SDK of `@solo-io/proxy-runtime`, for Envoy: see `tests/plugins/ask`.
const ASK: &[u8] = include_bytes!("../../plugins/ask/ask.wasm");

pub(super) const IMPORTS: &str = r#"
    (import "env" "proxy_http_call" (func $ask (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $turn_to (param i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))
    (import "env" "proxy_send_local_response" (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $bytes (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $every (param i32) (result i32)))"#;

/// A list of fields as guests pass them.
fn pairs(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = (fields.len() as u32).to_le_bytes().to_vec();
    for (name, value) in fields {
        out.extend((name.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in fields {
        out.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    out
}

/// A guest's `$ask_it`, which asks `upstream` with the user of four letters at 1000 as a field and as the body; what it was
/// told is at 1008, the number of the call at 1012.
pub(super) fn asking(upstream: &str, timeout_ms: u32) -> String {
    let fields = pairs(&[(":method", "POST"), (":path", "/may?it"), (":authority", "ask.test"), ("x-user", "none")]);
    let (size, user_at) = (fields.len(), 64 + fields.len() - 5);
    let data: String = fields.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let name_size = upstream.len();
    format!(
        r#"(data (i32.const 0) "{upstream}") (data (i32.const 64) "{data}") (data (i32.const 1000) "none")
        (data (i32.const 512) "x-user" "x-verdict" ":status" "x-sum" "nobody")
        (func $ask_it
          (i32.store (i32.const {user_at}) (i32.load (i32.const 1000)))
          (i32.store (i32.const 1008) (call $ask (i32.const 0) (i32.const {name_size}) (i32.const 64) (i32.const {size})
            (i32.const 1000) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const {timeout_ms}) (i32.const 1012))))"#
    )
}

/// A guest that lets a request wait for the answer: with 200 it goes on with the answer's `x-verdict` and the trailer `x-sum`,
/// any other is given to the client with its body, and no answer is 503.
fn put_gate(modules: &Modules, upstream: &str, timeout_ms: u32) {
    let ask = asking(upstream, timeout_ms);
    let body = format!(
        r#"{ask}
        (func $copy (param $from i32) (param $name i32) (param $size i32)
          (if (i32.eqz (call $get (local.get $from) (local.get $name) (local.get $size) (i32.const 1016) (i32.const 1020)))
            (then (drop (call $add (i32.const 0) (local.get $name) (local.get $size) (i32.load (i32.const 1016)) (i32.load (i32.const 1020)))))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.eqz (call $get (i32.const 0) (i32.const 512) (i32.const 6) (i32.const 1016) (i32.const 1020)))
            (then (i32.store (i32.const 1000) (i32.load (i32.load (i32.const 1016))))))
          (call $ask_it)
          (if (i32.load (i32.const 1008)) (then
            ;; What it was told, as a status.
            (drop (call $answer (i32.add (i32.const 500) (i32.load (i32.const 1008))) (i32.const 0) (i32.const 0)
              (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))))
          (else (i32.store (i32.add (i32.const 2048) (i32.mul (i32.const 4) (i32.load (i32.const 1012)))) (local.get 0))))
          i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (if (i32.ne (local.get 0) (i32.const 1)) (then unreachable))
          (if (call $turn_to (i32.load (i32.add (i32.const 2048) (i32.mul (i32.const 4) (local.get 1))))) (then unreachable))
          (if (i32.eqz (local.get 2)) (then
            (drop (call $answer (i32.const 503) (i32.const 0) (i32.const 0) (i32.const 539) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const -1)))
            return))
          (if (call $get (i32.const 6) (i32.const 527) (i32.const 7) (i32.const 1016) (i32.const 1020)) (then unreachable))
          (if (i32.eq (i32.load8_u (i32.load (i32.const 1016))) (i32.const 50)) (then
            (call $copy (i32.const 6) (i32.const 518) (i32.const 9))
            (call $copy (i32.const 7) (i32.const 534) (i32.const 5))
            (if (call $resume (i32.const 0)) (then unreachable)))
          (else
            (if (call $bytes (i32.const 4) (i32.const 0) (local.get 3) (i32.const 1016) (i32.const 1020)) (then unreachable))
            (drop (call $answer (i32.const 403) (i32.const 0) (i32.const 0) (i32.load (i32.const 1016)) (i32.load (i32.const 1020))
              (i32.const 0) (i32.const 0) (i32.const -1))))))"#
    );
    modules.put("gate", IMPORTS, &body);
}

pub(super) fn servers(upstream: &Upstream) -> Value {
    json!({ "servers": [{ "address": upstream.address.to_string() }] })
}

fn serve(modules: &Modules, asked: Value, echo: &Upstream) -> Server {
    let route =
        json!({ "match": { "path": "/" }, "proxy": { "upstream": "echo" }, "plugins": [plugin("gate", "closed")] });
    modules.start(json!([route])).upstream("asked", asked).upstream("echo", servers(echo)).workers(1).serve()
}

pub(super) fn user(request: &Received) -> String {
    let line = request.head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-user: "));
    line.map(|line| line["x-user: ".len()..].to_owned()).unwrap_or_default()
}

/// Lets all pass but `eve0`, with a verdict, and a trailer.
pub(super) fn judge(request: &Received) -> Vec<u8> {
    let name = user(request);
    if name == "eve0" {
        return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\nnot you".to_vec();
    }
    format!("HTTP/1.1 200 OK\r\nX-Verdict: {name} may\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: {name}\r\n\r\n")
        .into_bytes()
}

/// One that judges, but lets `gone` wait until whoever asks has left; and how many have.
pub(super) fn patient() -> (Upstream, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(0));
    let count = left.clone();
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            if user(&request) == "gone" {
                // Far earlier than any time-out.
                peer.wait_end();
                count.fetch_add(1, Ordering::SeqCst);
                return;
            }
            peer.write(judge(&request));
        }
    });
    (upstream, left)
}

pub(super) fn request(name: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: test\r\nX-User: {name}\r\n\r\n")
}

#[test]
fn a_request_waits_for_the_answer_to_a_call_and_goes_on_with_it_or_is_refused() {
    let (modules, echo) = (Modules::new(), echo());
    put_gate(&modules, "asked", 5000);
    let asked = Upstream::answering(|request| {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("post /may?it http/1.1\r\n") && head.contains("\r\nhost: ask.test\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: 4\r\n"), "{head}");
        assert_eq!(request.body, user(request).as_bytes());
        judge(request)
    });
    let server = serve(&modules, servers(&asked), &echo);
    let mut client = server.client();
    for name in ["ada0", "bob0"] {
        client.send(request(name));
        let response = client.response();
        let seen = response.text().to_ascii_lowercase();
        assert_eq!(response.status, 200, "{seen}");
        assert!(seen.contains(&format!("x-verdict: {name} may\r\n")), "{seen}");
        assert!(seen.contains(&format!("x-sum: {name}\r\n")), "{seen}");
        client.send(request("eve0"));
        let refused = client.response();
        assert_eq!((refused.status, refused.text()), (403, "not you"));
    }
    assert_eq!((asked.requests(), asked.connections(), echo.requests()), (4, 1, 2));
}

#[test]
fn a_plugin_of_an_sdk_asks_and_lets_requests_wait() {
    on_each_driver(|driver| {
        let (modules, echo, asked) = (Modules::new(), echo(), Upstream::answering(judge));
        modules.put_bytes("ask", ASK);
        let ask = |name: &str, upstream: &str| {
            let options = json!({ "module": "ask", "root_id": "ask", "configuration": upstream });
            json!([{ "use": "wasm", "name": name, "options": options }])
        };
        let proxy = json!({ "upstream": "echo" });
        let routes = json!([
            { "match": { "path": "/" }, "proxy": proxy, "plugins": ask("ask", "asked") },
            { "match": { "path": "/nobody" }, "proxy": proxy, "plugins": ask("ask-nobody", "nobody") },
        ]);
        let server = crate::support::Start::command(driver, routes)
            .key("wasm", json!({ "dir": modules.path() }))
            .upstream("asked", servers(&asked))
            .upstream("echo", servers(&echo))
            .serve();
        let mut client = server.client();
        for _ in 0..20 {
            client.send(request("ada0"));
            let response = client.response();
            assert_eq!(response.status, 200, "{}", response.text());
            assert!(response.text().to_ascii_lowercase().contains("x-verdict: ada0 may\r\n"), "{}", response.text());
            client.send(request("eve0"));
            let refused = client.response();
            assert_eq!((refused.status, refused.text()), (403, "the answer was 401"));
        }
        let unknown = client.get("/nobody");
        assert_eq!((unknown.status, unknown.text()), (500, "not asked: 2"), "a bad argument");
    });
}

#[test]
fn requests_that_wait_at_once_each_get_the_answer_to_their_own_call() {
    const AT_ONCE: usize = 8;
    let (modules, echo) = (Modules::new(), echo());
    put_gate(&modules, "asked", 20_000);
    // Nobody is answered before all have asked.
    let all = Barrier::new(AT_ONCE);
    let asked = Upstream::answering(move |request| {
        all.wait();
        judge(request)
    });
    let server = serve(&modules, servers(&asked), &echo);
    for round in 0..3 {
        let names: Vec<String> = (0..AT_ONCE).map(|index| format!("u{round}{index:02}")).collect();
        let mut clients: Vec<_> = names.iter().map(|_| server.client()).collect();
        for (client, name) in clients.iter_mut().zip(&names) {
            client.send(request(name));
        }
        for (client, name) in clients.iter_mut().zip(&names) {
            let response = client.response();
            let seen = response.text().to_ascii_lowercase();
            assert_eq!(response.status, 200);
            assert!(
                seen.contains(&format!("x-verdict: {name} may\r\n")) && seen.contains(&format!("x-user: {name}\r\n")),
                "{seen}"
            );
        }
    }
}

#[test]
fn a_call_that_fails_is_told_without_an_answer() {
    let (modules, echo) = (Modules::new(), echo());
    put_gate(&modules, "asked", 50);
    // One that never answers, one that says nonsense, one that nobody listens at.
    let silent = Upstream::start(|peer| {
        peer.request();
        peer.wait_end();
    });
    let nonsense = Upstream::answering(|_| b"hello\r\n\r\n".to_vec());
    let deaf = Upstream::answering(|_| ok(""));
    let gone = servers(&deaf);
    drop(deaf);
    for asked in [servers(&silent), servers(&nonsense), gone] {
        let server = serve(&modules, asked, &echo);
        let response = server.get("/");
        assert_eq!((response.status, response.text()), (503, "nobody"));
    }
    assert_eq!(echo.requests(), 0);
}

#[test]
fn an_upstream_that_there_is_not_is_a_bad_argument() {
    let (modules, echo) = (Modules::new(), echo());
    put_gate(&modules, "somebody", 50);
    let server = serve(&modules, servers(&echo), &echo);
    assert_eq!(server.get("/").status, 502, "500 and what the plugin was told");
}

#[test]
fn a_client_that_leaves_takes_the_call_of_its_request_along() {
    let (modules, echo) = (Modules::new(), echo());
    put_gate(&modules, "asked", 0);
    let (asked, ended) = patient();
    let server = serve(&modules, servers(&asked), &echo);
    let mut leaving = server.client();
    leaving.send(request("gone"));
    wait_until("it is asked", || asked.requests() == 1);
    // A reset, and no end of its side alone: then it would still read.
    rustix::net::sockopt::set_socket_linger(leaving.stream(), Some(Duration::ZERO)).unwrap();
    drop(leaving);
    wait_until("the call has ended", || ended.load(Ordering::SeqCst) == 1);
    let mut client = server.client();
    client.send(request("ada0"));
    assert!(client.response().text().to_ascii_lowercase().contains("x-verdict: ada0 may\r\n"));
    assert!(!server.log().iter().any(|line| line.contains("a WASM plugin failed")));
}

#[test]
fn a_request_that_waits_for_a_call_ends_with_the_module_that_it_began_with() {
    let (modules, echo) = (Modules::new(), echo());
    put_gate(&modules, "asked", 20_000);
    let replaced = Arc::new(Barrier::new(2));
    let of_upstream = replaced.clone();
    let asked = Upstream::answering(move |request| {
        if user(request) == "ada0" {
            of_upstream.wait();
        }
        judge(request)
    });
    let server = serve(&modules, servers(&asked), &echo);
    let mut waiting = server.client();
    waiting.send(request("ada0"));
    wait_until("it is asked", || asked.requests() == 1);
    // The one in its place asks nobody.
    put_version(&modules, "gate", "2");
    let mut client = server.client();
    wait_until("the new module is in force", || {
        client.send(request("bob0"));
        client.response().field("x-version") == Some("2")
    });
    replaced.wait();
    let response = waiting.response();
    assert!(response.text().to_ascii_lowercase().contains("x-verdict: ada0 may\r\n"), "{}", response.text());
    assert_eq!((response.status, response.field("x-version")), (200, None));
}

#[test]
fn a_guest_that_traps_over_an_answer_fails_the_request_that_waits() {
    let (modules, echo, asked) = (Modules::new(), echo(), Upstream::answering(judge));
    let body = format!(
        r#"{}
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $ask_it) i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) unreachable)"#,
        asking("asked", 5000)
    );
    modules.put("gate", IMPORTS, &body);
    let server = serve(&modules, servers(&asked), &echo);
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 500);
    }
    assert_eq!((asked.requests(), echo.requests()), (3, 0));
}

#[test]
fn a_plugin_asks_from_its_timer() {
    let (modules, echo, asked) = (Modules::new(), echo(), Upstream::answering(judge));
    let body = format!(
        r#"{}
        (global $answers (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $every (i32.const 10))) i32.const 1)
        (func (export "proxy_on_tick") (param i32) (call $ask_it))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (global.set $answers (i32.add (global.get $answers) (i32.ne (local.get 2) (i32.const 0)))))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (i32.store8 (i32.const 1016) (i32.add (i32.const 48) (i32.gt_u (global.get $answers) (i32.const 2))))
          (call $add (i32.const 2) (i32.const 512) (i32.const 6) (i32.const 1016) (i32.const 1)))"#,
        asking("asked", 5000)
    );
    modules.put("gate", IMPORTS, &body);
    let server = serve(&modules, servers(&asked), &echo);
    let mut client = server.client();
    wait_until("it has three answers", || client.get("/").field("x-user") == Some("1"));
    assert!(asked.requests() >= 3);
}
