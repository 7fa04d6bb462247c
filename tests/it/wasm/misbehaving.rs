//! Plugins that loop, allocate without end, or trap: they harm nobody else, and are named.

use serde_json::json;

use super::guests::{Modules, plugin, route};
use crate::support::{Client, Server, wait_until};

/// A guest that does this with each request.
fn put(modules: &Modules, name: &str, body: &str) {
    let body = format!(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body})"#);
    modules.put(name, "", &body);
}

fn serve(modules: &Modules) -> Server {
    put(modules, "loop", "(loop $l (br $l)) i32.const 0");
    put(modules, "trap", "unreachable");
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    put(modules, "grow", grow);
    let named = |path: &str, module: &str, on_failure: &str| route(path, plugin(module, on_failure));
    let routes = json!([
        named("/loop", "loop", "closed"),
        named("/loop/open", "loop", "open"),
        named("/trap", "trap", "closed"),
        named("/trap/open", "trap", "open"),
        named("/grow", "grow", "closed"),
        { "match": { "path": "/calm" }, "respond": { "text": "calm" } },
    ]);
    modules.start(routes).workers(1).serve()
}

#[test]
fn each_failure_is_that_of_one_request_and_names_the_plugin() {
    let modules = Modules::new();
    let server = serve(&modules);
    let mut client = server.client();
    let cases = [
        ("/loop", 500, "loop", "of CPU time"),
        ("/loop/open", 200, "loop", "of CPU time"),
        ("/trap", 500, "trap", "unreachable"),
        ("/trap/open", 200, "trap", "unreachable"),
        ("/grow", 500, "grow", "was refused more memory"),
    ];
    for (path, status, module, reason) in cases {
        assert_eq!(client.get(path).status, status, "{path}");
        assert_eq!(client.get("/calm").text(), "calm", "the connection goes on");
        wait_until("it is named", || {
            let is_said = |line: &String| {
                line.contains("a WASM plugin failed: it ")
                    && line.contains(&format!("\"module\":\"{module}\""))
                    && line.contains(reason)
            };
            server.log().iter().any(is_said)
        });
    }
}

#[test]
fn more_fields_than_find_room_are_a_failure_and_none_of_them_goes_on() {
    let (modules, echo) = (Modules::new(), super::echo());
    for (name, hook, map) in [("asks", "request", 0), ("tells", "response", 2)] {
        let body = format!(
            r#"(data (i32.const 0) "x-more")
            (func (export "proxy_on_{hook}_headers") (param i32 i32 i32) (result i32)
              (loop $more (br_if $more
                (i32.eqz (call $add (i32.const {map}) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 1)))))
              i32.const 0)"#
        );
        let imports =
            r#"(import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))"#;
        modules.put(name, imports, &body);
    }
    let case = |module: &'static str| ["closed", "open"].map(|way| (module, way));
    let cases: Vec<_> = ["asks", "tells"].into_iter().flat_map(case).collect();
    let routes = cases.iter().map(|(module, way)| {
        json!({ "match": { "path": format!("/{module}/{way}") }, "proxy": { "upstream": "echo" }, "plugins": [plugin(module, way)] })
    });
    let server = modules.start(routes.collect()).upstream("echo", super::calls::servers(&echo)).workers(1).serve();
    let mut client = server.client();
    for (module, way) in cases {
        let response = client.get(&format!("/{module}/{way}"));
        assert_eq!(response.status, if way == "open" { 200 } else { 500 }, "{module} {way}");
        assert_eq!(response.field("x-more"), None, "{module} {way}");
        assert!(!response.text().contains("x-more"), "{module} {way}");
        let fate = if way == "open" { "goes on without it" } else { "a handler failed" };
        let is_said = |line: &String| {
            line.contains(module) && line.contains(fate) && line.contains("it adds more fields to a message than")
        };
        wait_until("it is named", || server.log().iter().any(is_said));
    }
}

#[test]
fn a_body_goes_on_whole_without_a_plugin_that_failed_over_it() {
    let modules = Modules::new();
    let imports = r#"(import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;
    // It empties the body, and traps then.
    let body = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (drop (call $set (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0))) unreachable)"#;
    modules.put("spoils", imports, body);
    let upstream = super::echo();
    let plugins = |on_failure| json!([plugin("spoils", on_failure)]);
    let proxy = json!({ "upstream": "echo" });
    let routes = json!([
        { "match": { "path": "/open" }, "proxy": proxy, "plugins": plugins("open") },
        { "match": { "path": "/closed" }, "proxy": proxy, "plugins": plugins("closed") },
    ]);
    let servers = json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let server = modules.start(routes).upstream("echo", servers).serve();
    let mut client = server.client();
    client.send("POST /open HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.text().ends_with("\r\n\r\nhello"), "{}", response.text());
    client.send("POST /closed HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().status, 500);
}

#[test]
fn requests_of_an_instance_that_failed_for_another_end_with_it() {
    let modules = Modules::new();
    let imports = r#"
        (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_tick_period_milliseconds" (func $every (param i32) (result i32)))
        (import "env" "proxy_set_effective_context" (func $turn_to (param i32) (result i32)))
        (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))"#;
    // Requests wait until one of them has trapped.
    let body = r#"(data (i32.const 0) "x-trap")
        (global $paused (mut i32) (i32.const 0)) (global $trapped (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $every (i32.const 10))) i32.const 1)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.eqz (call $get (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 16) (i32.const 20)))
            (then (global.set $trapped (i32.const 1)) unreachable))
          (global.set $paused (local.get 0))
          i32.const 1)
        (func (export "proxy_on_tick") (param i32)
          (if (i32.and (global.get $trapped) (i32.ne (global.get $paused) (i32.const 0))) (then
            (drop (call $turn_to (global.get $paused)))
            (drop (call $resume (i32.const 0))))))"#;
    modules.put("waits", imports, body);
    let server = modules.start(json!([route("/", plugin("waits", "closed"))])).workers(1).serve();
    let mut waiting = server.client();
    waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    server.wait_metric("ringfort_requests_in_flight", "", 1.0);
    let mut other = server.client();
    other.send("GET / HTTP/1.1\r\nHost: test\r\nX-Trap: 1\r\n\r\n");
    assert_eq!(other.response().status, 500);
    assert_eq!(waiting.response().status, 200);
}

#[test]
fn others_are_answered_while_a_plugin_loops_until_it_is_switched_off() {
    let modules = Modules::new();
    let mut server = serve(&modules);
    let address = server.address;
    let attackers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                (0..10).all(|_| client.get("/loop").status == 500)
            })
        })
        .collect();
    let mut client = server.client();
    while attackers.iter().any(|attacker| !attacker.is_finished()) {
        assert_eq!(client.get("/calm").text(), "calm");
        assert_eq!(client.get("/trap/open").status, 200);
    }
    assert!(attackers.into_iter().all(|attacker| attacker.join().unwrap()));
    let line = server.log_line("a WASM plugin is switched off: it failed 10 times in a row").unwrap();
    assert_eq!((&line["level"], &line["plugin"]), (&json!("ERROR"), &json!("loop")));
    assert_eq!(client.get("/loop").status, 500);
    // Another module in its place is tried again.
    modules.put("loop", "", "");
    wait_until("the new module is in force", || client.get("/loop").status == 200);
}
