//! The small plugins that come with the server.

use serde_json::{Value, json};

use super::application;
use crate::support::upstream::{Upstream, ok};
use crate::support::{Start, on_each_driver, on_hand};

fn plugin(name: &str, options: Value) -> Value {
    json!({ "use": name, "options": options })
}

#[test]
fn fields_are_set_added_and_removed_on_both_ways() {
    on_each_driver(|driver| {
        let upstream = Upstream::answering(|request| {
            assert!(request.head.contains("X-New: 1\r\n"), "{}", request.head);
            assert!(!request.head.to_lowercase().contains("cookie"), "{}", request.head);
            assert!(request.head.contains("X-Set: ours\r\n") && !request.head.contains("theirs"), "{}", request.head);
            ok("body")
        });
        let edits = json!({
            "request": { "remove": ["Cookie"], "set": { "X-Set": "ours" }, "add": { "X-New": "1" } },
            "response": { "remove": ["X-Old"], "set": { "Content-Type": "a/b" }, "add": { "Vary": "X" } },
        });
        let routes = json!([{ "match": { "path": "/" }, "proxy": { "upstream": "api" }, "plugins": [plugin("headers", edits)] }]);
        let server = Start::command(on_hand(driver), routes)
            .upstream("api", json!({ "servers": [{ "address": upstream.address.to_string() }] }))
            .serve();
        let request = "GET / HTTP/1.1\r\nHost: test\r\nCookie: a=b\r\nX-Set: theirs\r\nx-set: theirs\r\n\r\n";
        let answer = server.client().send(request).response();
        assert_eq!((answer.status, answer.text()), (200, "body"));
        assert_eq!((answer.field("content-type"), answer.field("vary")), (Some("a/b"), Some("X")));
    });
}

#[test]
fn a_request_has_one_id_for_client_and_handler() {
    let server = application(json!([plugin("request-id", json!({ "header": "X-Seen" }))])).serve();
    let answer = server.client().send("GET /seen HTTP/1.1\r\nHost: test\r\nX-Seen: forged\r\n\r\n").response();
    assert_eq!(answer.field("x-seen"), Some(answer.text()));
    assert_eq!(answer.text().len(), 16);
}

#[test]
fn responses_of_all_kinds_have_security_fields_once() {
    let own = json!({ "remove": ["Content-Type"], "frame_options": null, "strict_transport_security": "max-age=60" });
    let server = application(json!([plugin("security-headers", own)])).serve();
    for path in ["/", "/nowhere", "/fail", "/stream"] {
        let answer = server.get(path);
        let all = |name: &str| answer.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).count();
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.field("strict-transport-security"), Some("max-age=60"), "{path}");
        assert_eq!((all("x-frame-options"), all("content-type"), all("referrer-policy")), (0, 0, 1), "{path}");
    }
}

#[test]
fn a_route_may_take_longer_or_shorter_bodies_than_the_server() {
    let limit = |path: &str, max: &str| json!({ "match": { "path": path }, "respond": { "text": "taken" }, "plugins": [plugin("body-limit", json!({ "max": max }))] });
    let server = Start::command(on_hand("epoll"), json!([limit("/long", "8KiB"), limit("/short", "10B")]))
        .limit("body", "1KiB")
        .serve();
    let post = |path: &str, length: usize| {
        let text =
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
        server.client().send(&text).response().status
    };
    assert_eq!((post("/long", 8192), post("/long", 8193)), (200, 413));
    assert_eq!((post("/short", 10), post("/short", 11)), (200, 413));
}

#[test]
fn an_answer_that_takes_too_long_is_504() {
    let server = application(json!([plugin("time-out", json!({ "after": "20ms" }))])).serve();
    assert_eq!(server.get("/slow/60000").status, 504);
    assert_eq!(server.get("/slow/0").status, 200);
    assert_eq!(server.get("/").status, 200);
}
