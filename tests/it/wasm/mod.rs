//! Plugins in WebAssembly, in a running server.

mod calls;
mod guests;
mod held;
mod kept;
mod misbehaving;
mod replaced;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::on_each_driver;
use crate::support::upstream::Upstream;
use guests::{Modules, plugin, route};

/// Made by AssemblyScript with the SDK of `@solo-io/proxy-runtime`, for Envoy: see `tests/plugins/stamp`.
const STAMP: &[u8] = include_bytes!("../../plugins/stamp/stamp.wasm");

/// An upstream that answers with the head that it got.
fn echo() -> Upstream {
    Upstream::answering(|request| {
        let body = format!("{}{}", request.head, String::from_utf8_lossy(&request.body));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
}

#[test]
fn a_plugin_that_an_sdk_made_for_envoy_runs_unchanged() {
    on_each_driver(|driver| {
        let (modules, upstream) = (Modules::new(), echo());
        modules.put_bytes("stamp", STAMP);
        let options = json!({ "module": "stamp", "root_id": "stamp", "configuration": "sealed" });
        let routes = json!([{ "match": { "path": "/*rest" }, "proxy": { "upstream": "echo" } }]);
        let server = crate::support::Start::command(driver, routes)
            .key("wasm", json!({ "dir": modules.path() }))
            .key("plugins", json!([{ "use": "wasm", "options": options }]))
            .upstream("echo", json!({ "servers": [{ "address": upstream.address.to_string() }] }))
            .serve();
        let mut client = server.client();
        for _ in 0..100 {
            client.send("GET /open?a=b HTTP/1.1\r\nHost: test\r\nX-Secret: 1\r\nX-Other: 2\r\n\r\n");
            let response = client.response();
            let head = response.text().to_ascii_lowercase();
            assert_eq!(response.status, 200);
            assert_eq!(response.field("x-stamp"), Some("sealed 200"));
            assert!(head.contains("x-stamp: sealed\r\n") && head.contains("x-method: get\r\n"), "{head}");
            assert!(head.contains("x-other: 2\r\n") && !head.contains("x-secret"), "{head}");
            assert!(head.starts_with("get /open?a=b http/1.1\r\n"), "{head}");
        }
        let refused = client.get("/forbidden");
        assert_eq!((refused.status, refused.text()), (403, "stamped out\n"));
        let stamps = refused.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-stamp"));
        let stamps: Vec<_> = stamps.map(|(_, value)| value.as_str()).collect();
        assert_eq!(stamps, ["refused", "sealed 403"], "the answer goes through it as well");
    });
}

#[test]
fn bodies_are_rewritten_both_ways() {
    let (modules, upstream) = (Modules::new(), echo());
    let imports = r#"(import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;
    // `<` before and `>` behind a body, once all of it is there.
    let body = r#"(data (i32.const 0) "<>")
        (func $wrap (param $body i32) (param $end i32) (result i32)
          (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
          (drop (call $set (local.get $body) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)))
          (call $set (local.get $body) (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 1)))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $wrap (i32.const 0) (local.get 2)))
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $wrap (i32.const 1) (local.get 2)))"#;
    modules.put("wrap", imports, body);
    let routes =
        json!([{ "match": { "path": "/" }, "proxy": { "upstream": "echo" }, "plugins": [plugin("wrap", "closed")] }]);
    let servers = json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let server = modules.start(routes).upstream("echo", servers).serve();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
    let response = client.response();
    let text = response.text().to_owned();
    assert!(text.starts_with("<POST / HTTP/1.1\r\n") && text.ends_with("\r\n\r\n<hello>>"), "{text}");
    assert!(text.to_ascii_lowercase().contains("content-length: 7\r\n"), "{text}");
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    let text = client.response().text().to_owned();
    assert!(text.ends_with("\r\n\r\n<abc>>") && !text.to_ascii_lowercase().contains("transfer-encoding"), "{text}");
    let long = "x".repeat(100_000);
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{long}", long.len()));
    assert!(client.response().text().ends_with(&format!("<{long}>>")));
}

#[test]
fn a_paused_request_goes_on_when_the_plugin_says_so() {
    let modules = Modules::new();
    let imports = r#"
        (import "env" "proxy_set_tick_period_milliseconds" (func $every (param i32) (result i32)))
        (import "env" "proxy_set_effective_context" (func $turn_to (param i32) (result i32)))
        (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))"#;
    let body = r#"(global $paused (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $every (i32.const 10))) i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (global.set $paused (local.get 0)) i32.const 1)
        (func (export "proxy_on_tick") (param i32)
          (if (global.get $paused) (then
            (drop (call $turn_to (global.get $paused)))
            (drop (call $resume (i32.const 0)))
            (global.set $paused (i32.const 0)))))"#;
    modules.put("pause", imports, body);
    let server = modules.start(json!([route("/", plugin("pause", "closed"))])).workers(1).serve();
    let mut client = server.client();
    for _ in 0..5 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (200, "/"));
    }
}

#[test]
fn check_names_what_is_wrong_with_a_module() {
    let modules = Modules::new();
    modules.put("refuses", "", r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 0)"#);
    modules.put("flies", r#"(import "env" "proxy_fly" (func))"#, "");
    modules.put("other", "", "");
    std::fs::write(modules.path().join("other.json"), r#"{"sha256": "00"}"#).unwrap();
    std::fs::write(modules.path().join("junk.wasm"), "hello").unwrap();
    let names = ["refuses", "flies", "other", "junk", "absent", "../up"];
    let plugins: Vec<Value> = names.iter().map(|name| plugin(name, "open")).collect();
    let config = json!({ "wasm": { "dir": "." }, "plugins": plugins, "routes": [] });
    let file = modules.path().join("ringfort.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringfort")).arg("check").arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "{said}");
    let expected = [
        "proxy_on_configure gave back false",
        "env::proxy_fly",
        "other.json: the module's SHA-256 is ",
        "no WebAssembly module",
        "absent.wasm: No such file",
        "a module's name has letters",
    ];
    for (index, expected) in expected.iter().enumerate() {
        let line = said.lines().find(|line| line.contains(&format!("plugins[{index}].options.module: ")));
        assert!(line.is_some_and(|line| line.contains(expected)), "{index} {expected}: {said}");
    }
}

#[test]
fn shared_data_is_seen_on_all_cores() {
    let modules = Modules::new();
    let imports = r#"
        (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
        (import "env" "proxy_get_metric" (func $get (param i32 i32) (result i32)))
        (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 0) "count")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $define (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 16))) i32.const 1)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $increment (i32.load (i32.const 16)) (i64.const 1)))
          (drop (call $get (i32.load (i32.const 16)) (i32.const 24)))
          ;; Up to a hundred, in two digits.
          (i32.store8 (i32.const 32) (i32.add (i32.const 48) (i32.div_u (i32.load (i32.const 24)) (i32.const 10))))
          (i32.store8 (i32.const 33) (i32.add (i32.const 48) (i32.rem_u (i32.load (i32.const 24)) (i32.const 10))))
          (call $add (i32.const 2) (i32.const 0) (i32.const 5) (i32.const 32) (i32.const 2)))"#;
    modules.put("count", imports, body);
    let server = modules.start(json!([route("/", plugin("count", "closed"))])).serve();
    let counts: Vec<String> = (0..40).map(|_| server.get("/").field("count").unwrap().to_owned()).collect();
    let expected: Vec<String> = (1..=40).map(|count| format!("{count:02}")).collect();
    assert_eq!(counts, expected, "40 connections, on whichever core");
    server.wait_metric("ringfort_wasm_counter_total", r#"{module="count",metric="count"}"#, 40.0);
}

#[test]
fn a_plugin_that_cannot_look_at_fields_is_told_how_many_there_are() {
    let modules = Modules::new();
    let imports = r#"(import "env" "proxy_send_local_response"
        (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $answer (i32.add (i32.const 400) (local.get 1)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const -1)))"#;
    modules.put("counts", imports, body);
    let server = modules.start(json!([route("/", plugin("counts", "closed"))])).serve();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-One: 1\r\nX-Two: 2\r\n\r\n");
    assert_eq!(client.response().status, 406, "method, path, authority, scheme, and two");
}

#[test]
fn metrics_of_plugins_are_in_the_exposition() {
    let modules = Modules::new();
    let imports = r#"
        (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))"#;
    let body = r#"(data (i32.const 0) "a.gauge" "sizes \"b\"")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $define (i32.const 1) (i32.const 0) (i32.const 7) (i32.const 32)))
          (drop (call $define (i32.const 2) (i32.const 7) (i32.const 9) (i32.const 36)))
          i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $record (i32.load (i32.const 32)) (i64.const 7)))
          (drop (call $record (i32.load (i32.const 36)) (i64.const 30)))
          i32.const 0)"#;
    modules.put("meter", imports, body);
    let server = modules.start(json!([route("/", plugin("meter", "closed"))])).serve();
    for _ in 0..5 {
        assert_eq!(server.get("/").status, 200);
    }
    server.wait_metric("ringfort_wasm_gauge", r#"{module="meter",metric="a.gauge"}"#, 7.0);
    let of_histogram =
        [("_bucket", r#",le="25""#, 0.0), ("_bucket", r#",le="50""#, 5.0), ("_sum", "", 150.0), ("_count", "", 5.0)];
    for (suffix, bound, expected) in of_histogram {
        let labels = format!(r#"{{module="meter",metric="sizes \"b\""{bound}}}"#);
        server.wait_metric(&format!("ringfort_wasm_histogram{suffix}"), &labels, expected);
    }
}

#[test]
fn each_item_of_a_queue_has_an_instance_called_on_whichever_core() {
    const ITEMS: usize = 40;
    let modules = Modules::new();
    let imports = r#"
        (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
        (import "env" "proxy_enqueue_shared_queue" (func $put (param i32 i32 i32) (result i32)))
        (import "env" "proxy_dequeue_shared_queue" (func $take (param i32 i32 i32) (result i32)))
        (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))"#;
    let body = r#"(data (i32.const 0) "items" "taken")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $register (i32.const 0) (i32.const 5) (i32.const 16)))
          (drop (call $define (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 20)))
          i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $put (i32.load (i32.const 16)) (i32.const 0) (i32.const 5)))
        (func (export "proxy_on_queue_ready") (param i32 i32)
          (if (i32.ne (local.get 0) (i32.const 1)) (then unreachable))
          (if (i32.ne (local.get 1) (i32.load (i32.const 16))) (then unreachable))
          (if (call $take (local.get 1) (i32.const 24) (i32.const 28)) (then unreachable))
          (drop (call $increment (i32.load (i32.const 20)) (i64.const 1))))"#;
    modules.put("queue", imports, body);
    let server = modules.start(json!([route("/", plugin("queue", "closed"))])).serve();
    for _ in 0..ITEMS {
        assert_eq!(server.get("/").status, 200);
    }
    server.wait_metric("ringfort_wasm_counter_total", r#"{module="queue",metric="taken"}"#, ITEMS as f64);
}

#[test]
fn the_page_of_the_plugin_shows_a_config_that_is_good() {
    let page = include_str!("../../../docs/plugins/wasm.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let mut config: Value = serde_json::from_str(rest.split("\n```").next().unwrap()).unwrap();
    let modules = Modules::new();
    modules.put_bytes("stamp", STAMP);
    config["wasm"]["dir"] = json!(modules.path());
    // The plugin of the tests takes a text.
    config["plugins"][0]["options"]["configuration"] = json!("sealed");
    let file = modules.path().join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_ringfort")).arg("check").arg("--config").arg(&file).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
