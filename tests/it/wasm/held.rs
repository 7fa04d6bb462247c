//! Plugins that pause responses: for a call, for the body, at its end.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use super::calls::{IMPORTS, asking, judge, patient, servers};
use super::guests::{Modules, plugin};
use crate::support::upstream::{Received, Upstream};
use crate::support::{Client, Response, Server, on_each_driver, wait_until};

/// Puts the context of a call by its number, and finds it again.
const CONTEXTS: &str = r#"
    (func $keep (param $context i32)
      (if (i32.load (i32.const 1008)) (then unreachable))
      (i32.store (i32.add (i32.const 2048) (i32.mul (i32.const 4) (i32.load (i32.const 1012)))) (local.get $context)))
    (func $find (param $call i32)
      (if (call $turn_to (i32.load (i32.add (i32.const 2048) (i32.mul (i32.const 4) (local.get $call))))) (then unreachable)))
    (func $ask_for (param $context i32)
      (if (i32.eqz (call $get (i32.const 0) (i32.const 512) (i32.const 6) (i32.const 1016) (i32.const 1020)))
        (then (i32.store (i32.const 1000) (i32.load (i32.load (i32.const 1016))))))
      (call $ask_it)
      (call $keep (local.get $context)))"#;

/// With 200 the response goes on with the answer's `x-verdict`, with another status the answer's body is given to the client
/// with 403, and no answer is 503. The head of the response can be read meanwhile.
const ON_ANSWER: &str = r#"
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
      (call $find (local.get 1))
      (if (i32.eqz (local.get 2)) (then
        (drop (call $answer (i32.const 503) (i32.const 0) (i32.const 0) (i32.const 539) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const -1)))
        return))
      (if (call $get (i32.const 2) (i32.const 527) (i32.const 7) (i32.const 1016) (i32.const 1020)) (then unreachable))
      (if (i32.ne (i32.load (i32.const 1020)) (i32.const 3)) (then unreachable))
      (if (call $get (i32.const 6) (i32.const 527) (i32.const 7) (i32.const 1016) (i32.const 1020)) (then unreachable))
      (if (i32.eq (i32.load8_u (i32.load (i32.const 1016))) (i32.const 50)) (then
        (if (call $get (i32.const 6) (i32.const 518) (i32.const 9) (i32.const 1016) (i32.const 1020)) (then unreachable))
        (drop (call $add (i32.const 2) (i32.const 518) (i32.const 9) (i32.load (i32.const 1016)) (i32.load (i32.const 1020))))
        (if (call $resume (i32.const 1)) (then unreachable)))
      (else
        (if (call $bytes (i32.const 4) (i32.const 0) (local.get 3) (i32.const 1016) (i32.const 1020)) (then unreachable))
        (drop (call $answer (i32.const 403) (i32.const 0) (i32.const 0) (i32.load (i32.const 1016)) (i32.load (i32.const 1020))
          (i32.const 0) (i32.const 0) (i32.const -1))))))"#;

/// Its heads wait for the answer to a call. What it is shown of bodies it lets go on, as most SDKs do.
pub(super) fn put_judge(modules: &Modules, name: &str) {
    let body = format!(
        r#"{}{CONTEXTS}{ON_ANSWER}
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $ask_for (local.get 0)) i32.const 1)
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) i32.const 0)"#,
        asking("asked", 20_000)
    );
    modules.put(name, IMPORTS, &body);
}

const SET: &str = r#"
    (import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))"#;

/// Holds the head until all of the body is there, then puts `<` and `>` around that and adds `x-seen: yes` to the head.
fn put_wrap(modules: &Modules, name: &str) {
    let body = r#"(data (i32.const 0) "<>x-seenyes")
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
          (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
          (if (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)) (then unreachable))
          (if (call $set (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 1)) (then unreachable))
          (if (call $add (i32.const 2) (i32.const 2) (i32.const 6) (i32.const 8) (i32.const 3)) (then unreachable))
          i32.const 0)"#;
    modules.put(name, SET, body);
}

/// Holds the end of the body for the answer to a call.
fn put_closer(modules: &Modules, name: &str, imports: &str) {
    let body = format!(
        r#"{}{CONTEXTS}
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (call $find (local.get 1))
          (if (call $get (i32.const 6) (i32.const 527) (i32.const 7) (i32.const 1016) (i32.const 1020)) (then unreachable))
          (if (i32.eq (i32.load8_u (i32.load (i32.const 1016))) (i32.const 50)) (then
            (if (call $resume (i32.const 1)) (then unreachable)))
          (else (drop (call $answer (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const -1))))))
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
          (if (local.get 2) (then (call $ask_for (local.get 0))))
          i32.const 1)"#,
        asking("asked", 20_000)
    );
    modules.put(name, &format!("{imports}{IMPORTS}"), &body);
}

const SET_ALONE: &str =
    r#"(import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;

fn long() -> String {
    "0123456789abcdef".repeat(10_000)
}

/// Answers in all the ways that there are, by the path's last segment.
pub(super) fn origin() -> Upstream {
    Upstream::answering(|request| {
        let is_head = request.head.starts_with("HEAD ");
        let path = request.head.split(' ').nth(1).unwrap();
        let chunk = |body: &str| format!("{:x}\r\n{body}\r\n", body.len());
        let sized = |status: &str, body: &str| {
            let sent = if is_head { "" } else { body };
            format!("HTTP/1.1 {status}\r\nX-Kind: sized\r\nContent-Length: {}\r\n\r\n{sent}", body.len())
        };
        let text = match path.rsplit('/').next().unwrap() {
            "short" => sized("200 OK", "short"),
            "stale" => sized("200 OK\r\nCache-Control: max-age=0, stale-while-revalidate=60", "stale"),
            "fresh" => sized("200 OK\r\nCache-Control: max-age=60", "fresh"),
            "empty" => sized("201 Created", ""),
            "long" => sized("200 OK", &long()),
            "none" => "HTTP/1.1 204 No Content\r\nX-Kind: none\r\n\r\n".to_owned(),
            "known" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n".to_owned(),
            "early" => format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}", sized("200 OK", "late")),
            "chunks" if is_head => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "chunks" => {
                let chunks = chunk("one ") + &chunk("two ") + &chunk(&long());
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
            }
            "trailers" => {
                let chunks = chunk("one ") + &chunk("two");
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\nX-Sum: 7\r\n\r\n")
            }
            _ => sized("404 Not Found", "nothing"),
        };
        text.into_bytes()
    })
}

/// Paths of `proxy` routes, and those of other handlers.
const PATHS: [&str; 13] = [
    "up/short",
    "up/empty",
    "up/long",
    "up/none",
    "up/known",
    "up/chunks",
    "up/missing",
    "text",
    "page",
    "away",
    "file/small",
    "file/large",
    "file/absent",
];

/// The same routes below each prefix, each with these plugins.
pub(super) fn routes(files: &Modules, prefixes: &[(&str, Vec<Value>)]) -> Value {
    fs::write(files.path().join("small"), "a small file").unwrap();
    fs::write(files.path().join("large"), long()).unwrap();
    let mut routes = Vec::new();
    for (prefix, plugins) in prefixes {
        let mut add = |path: &str, kind: &str, handler: Value| {
            let path = format!("/{prefix}/{path}");
            routes.push(json!({ "match": { "path": path }, kind: handler, "plugins": plugins }));
        };
        add("up/*rest", "proxy", json!({ "upstream": "origin", "upgrade": true }));
        add("text", "respond", json!({ "text": "text" }));
        add("away", "redirect", json!({ "to": "/elsewhere" }));
        add("page", "respond", json!({ "text": long() }));
        add("file/*file", "files", json!({ "root": files.path() }));
    }
    json!(routes)
}

pub(super) fn get(client: &mut Client, method: &str, path: &str, user: &str) -> Response {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nX-User: {user}\r\n\r\n"));
    if method == "HEAD" { client.response_to_head() } else { client.response() }
}

pub(super) fn start(modules: &Modules, routes: Value, origin: &Upstream, asked: &Upstream) -> crate::support::Start {
    modules.start(routes).workers(1).upstream("origin", servers(origin)).upstream("asked", servers(asked))
}

fn serve(modules: &Modules, plugins: Vec<Value>, origin: &Upstream, asked: &Upstream) -> Server {
    let routes = routes(modules, &[("plain", vec![]), ("held", plugins)]);
    start(modules, routes, origin, asked).serve()
}

/// Without what a plugin may change, and what differs from answer to answer.
fn bare(response: Response, names: &[&str]) -> Response {
    let mut response = if response.body.is_empty() { response } else { response.without_noise() };
    let names: Vec<_> = names.iter().chain(&["date"]).collect();
    response.fields.retain(|(name, _)| !names.iter().any(|other| name.eq_ignore_ascii_case(other)));
    response
}

#[test]
fn responses_of_every_kind_wait_for_a_call_and_go_on_as_they_are_or_are_replaced() {
    on_each_driver(|driver| {
        let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
        put_judge(&modules, "judge");
        let routes = routes(&modules, &[("plain", vec![]), ("held", vec![plugin("judge", "closed")])]);
        let server = crate::support::Start::command(driver, routes)
            .key("wasm", json!({ "dir": modules.path() }))
            .workers(1)
            .upstream("origin", servers(&origin))
            .upstream("asked", servers(&asked))
            .serve();
        let mut client = server.client();
        for (path, method) in PATHS.iter().flat_map(|path| [(path, "GET"), (path, "HEAD")]) {
            let expected = get(&mut client, method, &format!("/plain/{path}"), "ada0");
            let held = get(&mut client, method, &format!("/held/{path}"), "ada0");
            assert_eq!(held.field("x-verdict"), Some("ada0 may"), "{method} {path}");
            assert_eq!(bare(held, &["x-verdict"]), bare(expected, &[]), "{method} {path}");
            let refused = get(&mut client, method, &format!("/held/{path}"), "eve0");
            let expected = if method == "HEAD" { "" } else { "not you" };
            assert_eq!((refused.status, refused.text()), (403, expected), "{method} {path}");
            assert_eq!(
                (refused.field("content-length"), refused.field("x-kind")),
                (Some("7"), None),
                "{method} {path}"
            );
        }
        assert_eq!(asked.requests(), 4 * PATHS.len());
    });
}

#[test]
fn a_head_is_held_until_the_plugin_has_looked_at_the_body() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_wrap(&modules, "wrap");
    let server = serve(&modules, vec![plugin("wrap", "closed")], &origin, &asked);
    let mut client = server.client();
    for path in PATHS.iter().filter(|path| **path != "file/absent") {
        let expected = get(&mut client, "GET", &format!("/plain/{path}"), "none");
        let wrapped = get(&mut client, "GET", &format!("/held/{path}"), "none");
        assert_eq!((wrapped.status, wrapped.field("x-seen")), (expected.status, Some("yes")), "{path}");
        if [204, 304].contains(&expected.status) {
            assert!(wrapped.body.is_empty());
            continue;
        }
        assert_eq!(wrapped.text(), format!("<{}>", expected.text()), "{path}");
        assert_eq!(wrapped.field("transfer-encoding"), None, "all of it is known: {path}");
    }
    for path in PATHS {
        let wrapped = get(&mut client, "HEAD", &format!("/held/{path}"), "none");
        assert_eq!(wrapped.field("x-seen"), Some("yes"), "{path}");
    }
}

#[test]
fn the_end_of_a_body_waits_for_a_call() {
    for imports in ["", SET_ALONE] {
        let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
        put_closer(&modules, "closer", imports);
        let server = serve(&modules, vec![plugin("closer", "closed")], &origin, &asked);
        let mut client = server.client();
        for path in PATHS {
            let expected = get(&mut client, "GET", &format!("/plain/{path}"), "ada0");
            let held = get(&mut client, "GET", &format!("/held/{path}"), "ada0");
            let framing = ["content-length", "transfer-encoding"];
            assert_eq!(bare(held, &framing), bare(expected, &framing), "{path}");
        }
        assert_eq!(asked.requests(), PATHS.len());
        // Its head is out, as far as the plugin goes.
        let refused = get(&mut client, "GET", "/held/up/short", "eve0");
        assert_eq!(refused.status, 500);
        assert_eq!(get(&mut client, "GET", "/held/up/short", "ada0").text(), "short");
    }
}

#[test]
fn trailers_follow_a_body_that_was_held() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    put_wrap(&modules, "wrap");
    put_closer(&modules, "closer", "");
    let prefixes = ["judge", "wrap", "closer"].map(|name| (name, vec![plugin(name, "closed")]));
    let server = start(&modules, routes(&modules, &prefixes), &origin, &asked).serve();
    for (name, chunks) in
        [("judge", "4\r\none \r\n3\r\ntwo\r\n"), ("wrap", "9\r\n<one two>\r\n"), ("closer", "7\r\none two\r\n")]
    {
        let text = get_with_trailers(&server, &format!("/{name}/up/trailers"));
        assert!(text.ends_with(&format!("\r\n\r\n{chunks}0\r\nX-Sum: 7\r\n\r\n")), "{name}: {text}");
    }
}

/// A whole response to a client that takes trailers, as it came.
fn get_with_trailers(server: &Server, path: &str) -> String {
    let mut client = server.client();
    let lines = "Host: test\r\nX-User: ada0\r\nTE: trailers\r\nConnection: TE, close\r\n";
    client.send(format!("GET {path} HTTP/1.1\r\n{lines}\r\n"));
    String::from_utf8(client.rest()).unwrap()
}

#[test]
fn a_plugin_reads_and_edits_the_trailers_of_a_response_and_may_hold_them() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    let replace =
        r#"(import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))"#;
    let (imports, data) = (format!("{replace}{IMPORTS}"), r#"(data (i32.const 1200) "x-sum" "x-more" "te" "8")"#);
    let edit = r#"
        (if (i32.ne (local.get 1) (i32.const 1)) (then unreachable))
        (if (call $get (i32.const 3) (i32.const 1200) (i32.const 5) (i32.const 1016) (i32.const 1020)) (then unreachable))
        (if (i32.ne (i32.load8_u (i32.load (i32.const 1016))) (i32.const 55)) (then unreachable))
        (drop (call $replace (i32.const 3) (i32.const 1200) (i32.const 5) (i32.const 1213) (i32.const 1)))
        (drop (call $add (i32.const 3) (i32.const 1205) (i32.const 6) (i32.const 1213) (i32.const 1)))
        ;; None that may be a trailer.
        (drop (call $add (i32.const 3) (i32.const 1211) (i32.const 2) (i32.const 1213) (i32.const 1)))"#;
    let export = r#"(func (export "proxy_on_response_trailers") (param i32 i32) (result i32)"#;
    modules.put("edits", &imports, &format!("{data}{export}{edit} i32.const 0)"));
    let ask = asking("asked", 20_000);
    let holds = format!(
        r#"{ask}{CONTEXTS}{data}{export}{edit} (call $ask_for (local.get 0)) i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (call $find (local.get 1)) (if (call $resume (i32.const 1)) (then unreachable)))"#
    );
    modules.put("holds", &imports, &holds);
    let prefixes = ["edits", "holds"].map(|name| (name, vec![plugin(name, "closed")]));
    let server = start(&modules, routes(&modules, &prefixes), &origin, &asked).serve();
    for (name, body) in [("edits", "4\r\none \r\n3\r\ntwo\r\n"), ("holds", "4\r\none \r\n3\r\ntwo\r\n")] {
        let text = get_with_trailers(&server, &format!("/{name}/up/trailers"));
        let end = format!("\r\n\r\n{body}0\r\nx-sum: 8\r\nx-more: 8\r\n\r\n");
        assert!(text.ends_with(&end), "{name}: {text}");
        assert_eq!(server.get(&format!("/{name}/up/chunks")).status, 200, "without trailers it is not asked");
    }
    assert_eq!(asked.requests(), 1);
}

#[test]
fn requests_behind_one_whose_response_is_held_are_answered_in_their_order() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    let server = serve(&modules, vec![plugin("judge", "closed")], &origin, &asked);
    let mut client = server.client();
    let line = |path: &str, user: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-User: {user}\r\n\r\n");
    let pipelined = [
        line("/held/up/chunks", "ada0"),
        line("/plain/text", "none"),
        line("/held/text", "eve0"),
        line("/held/up/short", "bob0"),
    ];
    client.send(pipelined.concat());
    assert_eq!(client.response().text(), format!("one two {}", long()));
    assert_eq!(client.response().text(), "text");
    assert_eq!(client.response().text(), "not you");
    let last = client.response();
    assert_eq!((last.text(), last.field("x-verdict")), ("short", Some("bob0 may")));
}

#[test]
fn several_plugins_hold_a_response_one_after_the_other() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    put_wrap(&modules, "wrap");
    put_wrap(&modules, "outer");
    put_closer(&modules, "closer", SET_ALONE);
    let names = ["outer", "closer", "judge", "wrap"];
    let plugins = names.iter().map(|name| plugin(name, "closed")).collect();
    let server = serve(&modules, plugins, &origin, &asked);
    let mut client = server.client();
    for path in ["up/short", "up/chunks", "text", "page", "file/large"] {
        let expected = get(&mut client, "GET", &format!("/plain/{path}"), "ada0");
        let held = get(&mut client, "GET", &format!("/held/{path}"), "ada0");
        assert_eq!((held.status, held.field("x-verdict")), (200, Some("ada0 may")), "{path}");
        assert_eq!(held.text(), format!("<<{}>>", expected.text()), "{path}");
        let seen = held.fields.iter().filter(|(name, _)| name == "x-seen").count();
        assert_eq!(seen, 2, "{path}");
    }
    // What the third answers instead, those before it see.
    let refused = get(&mut client, "GET", "/held/up/long", "eve0");
    assert_eq!(refused.status, 500, "the second refuses the end of that");
}

#[test]
fn failures_of_the_handler_wait_as_well() {
    let (modules, asked) = (Modules::new(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    let lies = Upstream::answering(|_| b"hello\r\n\r\n".to_vec());
    let server = serve(&modules, vec![plugin("judge", "closed")], &lies, &asked);
    let mut client = server.client();
    let failed = get(&mut client, "GET", "/held/up/nonsense", "ada0");
    assert_eq!((failed.status, failed.field("x-verdict")), (502, Some("ada0 may")));
    let refused = get(&mut client, "GET", "/held/up/nonsense", "eve0");
    assert_eq!((refused.status, refused.text()), (403, "not you"));
}

#[test]
fn a_body_of_which_a_plugin_keeps_too_much_is_a_failure_of_the_plugin() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_wrap(&modules, "wrap");
    let prefixes = [("closed", vec![plugin("wrap", "closed")]), ("open", vec![plugin("wrap", "open")])];
    let wasm = json!({ "dir": modules.path(), "body": "20KiB" });
    let server = start(&modules, routes(&modules, &prefixes), &origin, &asked).key("wasm", wasm).serve();
    let mut client = server.client();
    for path in ["up/long", "up/chunks", "page", "file/large"] {
        assert_eq!(get(&mut client, "GET", &format!("/closed/{path}"), "none").status, 500, "{path}");
        let given_back = get(&mut client, "GET", &format!("/open/{path}"), "none");
        assert_eq!((given_back.status, given_back.field("x-seen")), (200, None), "{path}");
        assert!(given_back.text().ends_with(&long()), "{path}");
    }
    assert_eq!(get(&mut client, "GET", "/closed/up/short", "none").text(), "<short>", "others are not harmed");
}

#[test]
fn a_guest_that_traps_while_it_holds_a_response_fails_it_and_may_let_it_go() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    let body = format!(
        r#"{}{CONTEXTS}
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $ask_for (local.get 0)) i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) unreachable)"#,
        asking("asked", 20_000)
    );
    modules.put("traps", IMPORTS, &body);
    let prefixes = [("closed", vec![plugin("traps", "closed")]), ("open", vec![plugin("traps", "open")])];
    let server = start(&modules, routes(&modules, &prefixes), &origin, &asked).serve();
    let mut client = server.client();
    for path in ["up/short", "up/chunks", "text"] {
        assert_eq!(get(&mut client, "GET", &format!("/closed/{path}"), "none").status, 500, "{path}");
        let open = get(&mut client, "GET", &format!("/open/{path}"), "none");
        assert_eq!(open.status, 200, "{path}");
        assert!(open.text().contains('t'), "{path}");
    }
    assert_eq!(asked.requests(), 6);
}

#[test]
fn a_pause_that_nothing_would_end_is_a_failure_and_is_named() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    modules.put(
        "stuck",
        "",
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 1)"#,
    );
    let server = serve(&modules, vec![plugin("stuck", "closed")], &origin, &asked);
    assert_eq!(server.get("/held/text").status, 500);
    wait_until("it is named", || {
        server
            .log()
            .iter()
            .any(|line| line.contains("it paused the head of a response, and nothing would have that go on"))
    });
}

#[test]
fn a_response_waits_no_longer_than_its_request_may_take() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::start(|peer| peer.wait_end()));
    put_judge(&modules, "judge");
    let late = json!({ "use": "time-out", "options": { "after": "100ms" } });
    let server = serve(&modules, vec![late, plugin("judge", "closed")], &origin, &asked);
    let mut client = server.client();
    for path in ["text", "up/short", "file/large"] {
        assert_eq!(get(&mut client, "GET", &format!("/held/{path}"), "none").status, 504, "{path}");
        assert_eq!(get(&mut client, "GET", "/plain/text", "none").text(), "text");
    }
}

#[test]
fn a_timer_has_a_response_go_on_and_its_body_is_not_shown_before() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    let imports = r#"
        (import "env" "proxy_set_tick_period_milliseconds" (func $every (param i32) (result i32)))
        (import "env" "proxy_set_effective_context" (func $turn_to (param i32) (result i32)))
        (import "env" "proxy_continue_response" (func $resume (result i32)))"#;
    let body = r#"(global $paused (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $every (i32.const 10))) i32.const 1)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (global.set $paused (local.get 0)) i32.const 1)
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
          (if (global.get $paused) (then unreachable)) i32.const 0)
        (func (export "proxy_on_tick") (param i32)
          (if (global.get $paused) (then
            (drop (call $turn_to (global.get $paused)))
            (global.set $paused (i32.const 0))
            (drop (call $resume)))))"#;
    modules.put("timer", imports, body);
    let server = serve(&modules, vec![plugin("timer", "closed")], &origin, &asked);
    let mut client = server.client();
    for path in ["text", "up/short", "up/chunks", "file/large"] {
        let expected = get(&mut client, "GET", &format!("/plain/{path}"), "none");
        let held = get(&mut client, "GET", &format!("/held/{path}"), "none");
        assert_eq!((held.status, held.body), (200, expected.body), "{path}");
    }
}

#[test]
fn interim_responses_go_ahead_of_one_that_is_held_and_a_tunnel_is_not_held() {
    let (modules, asked) = (Modules::new(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    let origin = Upstream::start(|peer| {
        while let Some(Received { head, .. }) = peer.request() {
            if head.to_ascii_lowercase().contains("\r\nupgrade: echo\r\n") {
                peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
                let said = peer.take(4).unwrap();
                peer.write(said);
                return;
            }
            peer.write(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate",
            );
        }
    });
    let server = serve(&modules, vec![plugin("judge", "closed")], &origin, &asked);
    let mut client = server.client();
    client.send("GET /held/up/early HTTP/1.1\r\nHost: test\r\nX-User: ada0\r\n\r\n");
    let early = client.response();
    assert_eq!((early.status, early.field("link"), early.field("x-verdict")), (103, Some("</a>"), None));
    let late = client.response();
    assert_eq!((late.text(), late.field("x-verdict")), ("late", Some("ada0 may")));
    let asked_before = asked.requests();
    client.send("GET /held/up/a HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping");
    client.wait_for(b"\r\n\r\nping");
    assert!(client.rest().starts_with(b"HTTP/1.1 101 "));
    assert_eq!(asked.requests(), asked_before, "it is not shown");
}

#[test]
fn a_client_that_leaves_takes_what_its_response_waits_for_along() {
    let (modules, origin) = (Modules::new(), origin());
    put_judge(&modules, "judge");
    let (asked, ended) = patient();
    let server = serve(&modules, vec![plugin("judge", "closed")], &origin, &asked);
    for (count, path) in ["text", "up/long", "up/chunks", "file/large"].iter().enumerate() {
        let mut leaving = server.client();
        leaving.send(format!("GET /held/{path} HTTP/1.1\r\nHost: test\r\nX-User: gone\r\n\r\n"));
        wait_until("it is asked", || asked.requests() == 2 * count + 1);
        rustix::net::sockopt::set_socket_linger(leaving.stream(), Some(Duration::ZERO)).unwrap();
        drop(leaving);
        wait_until("the call has ended", || ended.load(Ordering::SeqCst) == count + 1);
        let mut client = server.client();
        let held = get(&mut client, "GET", &format!("/held/{path}"), "ada0");
        assert_eq!((held.status, held.field("x-verdict")), (200, Some("ada0 may")), "{path}");
    }
    server.wait_metric("ringfort_requests_in_flight", "", 0.0);
    assert!(!server.log().iter().any(|line| line.contains("a WASM plugin failed")));
}

#[test]
fn an_answer_in_the_place_of_a_body_without_end_does_not_wait_for_it() {
    let (modules, asked) = (Modules::new(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    let closed = Arc::new(AtomicUsize::new(0));
    let of_origin = closed.clone();
    let origin = Upstream::start(move |peer| {
        peer.request();
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntick\r\n");
        peer.wait_end();
        of_origin.fetch_add(1, Ordering::SeqCst);
    });
    let server = serve(&modules, vec![plugin("judge", "closed")], &origin, &asked);
    let mut client = server.client();
    for count in 1..=3 {
        let refused = get(&mut client, "GET", "/held/up/ticks", "eve0");
        assert_eq!((refused.status, refused.text(), refused.closes()), (403, "not you", false));
        wait_until("the upstream is let go", || closed.load(Ordering::SeqCst) == count);
    }
    assert_eq!(get(&mut client, "GET", "/plain/text", "none").text(), "text");
}

#[test]
fn a_response_that_has_begun_is_cut_where_a_plugin_refuses_its_end() {
    let (modules, asked) = (Modules::new(), Upstream::answering(judge));
    put_closer(&modules, "closer", SET_ALONE);
    let begun = Arc::new(Barrier::new(2));
    let of_origin = begun.clone();
    let origin = Upstream::start(move |peer| {
        while peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            of_origin.wait();
            peer.write("0\r\n\r\n");
        }
    });
    let server = serve(&modules, vec![plugin("closer", "closed")], &origin, &asked);
    for (user, end) in [("ada0", "\r\n\r\n4\r\nhalf\r\n0\r\n\r\n"), ("eve0", "\r\n\r\n")] {
        let mut client = server.client();
        client.send(format!("GET /held/up/a HTTP/1.1\r\nHost: test\r\nX-User: {user}\r\nConnection: close\r\n\r\n"));
        client.wait_for(b"\r\n\r\n");
        begun.wait();
        let text = String::from_utf8(client.rest()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(end), "{text}");
    }
}
