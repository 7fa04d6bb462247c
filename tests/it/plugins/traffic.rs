//! Plugins that decide which requests get through: `ip-filter`, `cors`, `rate-limit`, `concurrency`, `mirror-log`.

use serde_json::{Value, json};

use super::application;
use crate::support::upstream::Upstream;
use crate::support::{Response, Server, Start, on_hand};

fn plugin(name: &str, options: Value) -> Value {
    json!({ "use": name, "options": options })
}

/// Sends a request with these further lines in its head.
#[track_caller]
fn ask(server: &Server, line: &str, fields: &str) -> Response {
    server.client().send(format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).response()
}

#[test]
fn requests_of_networks_that_are_not_allowed_are_refused() {
    for (options, forwarded, expected) in [
        (json!({ "deny": ["127.0.0.0/8"] }), "", 403),
        (json!({ "deny": ["127.0.0.0/8"], "allow": ["127.0.0.1"] }), "", 200),
        (json!({ "allow": ["10.0.0.0/8", "::1"] }), "", 403),
        // A stranger's word counts for nothing.
        (json!({ "allow": ["10.0.0.0/8"] }), "10.0.0.1", 403),
        (json!({ "allow": ["10.0.0.0/8"], "trust": ["127.0.0.1"] }), "10.0.0.1", 200),
        (json!({ "allow": ["10.0.0.0/8"], "trust": ["127.0.0.1"] }), "10.0.0.1, 192.0.2.1", 403),
        (json!({ "deny": ["192.0.2.0/24"], "trust": ["127.0.0.1", "10.0.0.0/8"] }), "192.0.2.1, 10.0.0.1", 403),
    ] {
        let server = application(json!([plugin("ip-filter", options.clone())])).serve();
        let fields = if forwarded.is_empty() { String::new() } else { format!("X-Forwarded-For: {forwarded}\r\n") };
        let answer = ask(&server, "GET /", &fields);
        assert_eq!(answer.status, expected, "{options} {forwarded}");
        if expected == 403 {
            assert_eq!(answer.json()["detail"], "requests from this address are refused");
        }
    }
}

fn cors(options: Value) -> Server {
    application(json!([plugin("cors", options)])).serve()
}

#[test]
fn pages_of_allowed_origins_may_read_what_is_answered_whoever_answers() {
    let origins = json!(["https://a.test", "https://*.b.test"]);
    let server = cors(json!({ "origins": origins, "credentials": true, "expose": ["X-One", "X-Two"] }));
    for path in ["/", "/nowhere", "/fail", "/stream"] {
        for origin in ["https://a.test", "https://x.b.test"] {
            let answer = ask(&server, &format!("GET {path}"), &format!("Origin: {origin}\r\n"));
            assert_eq!(answer.field("access-control-allow-origin"), Some(origin), "{path}");
            assert_eq!(answer.field("access-control-allow-credentials"), Some("true"), "{path}");
            assert_eq!(answer.field("access-control-expose-headers"), Some("X-One, X-Two"), "{path}");
            assert_eq!(answer.field("vary"), Some("Origin"), "{path}");
        }
        for other in ["", "Origin: https://evil.test\r\n", "Origin: https://a.test\r\nOrigin: https://a.test\r\n"] {
            let answer = ask(&server, &format!("GET {path}"), other);
            assert_eq!(answer.field("access-control-allow-origin"), None, "{path} {other}");
            assert_eq!(answer.field("vary"), Some("Origin"), "{path} {other}");
        }
    }
}

#[test]
fn preflights_are_answered_before_the_handler() {
    let server = cors(json!({
        "origins": ["https://a.test"], "methods": ["PUT"], "headers": ["*"], "max_age": "5m", "private_network": true,
    }));
    let preflight = "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a,x-b\r\n";
    let fields = format!("Origin: https://a.test\r\n{preflight}Access-Control-Request-Private-Network: true\r\n");
    for path in ["/slow/60000", "/nowhere"] {
        let answer = ask(&server, &format!("OPTIONS {path}"), &fields);
        assert_eq!((answer.status, answer.text()), (204, ""));
        for (name, value) in [
            ("origin", Some("https://a.test")),
            ("methods", Some("PUT")),
            ("headers", Some("x-a,x-b")),
            ("private-network", Some("true")),
            ("credentials", None),
        ] {
            assert_eq!(answer.field(&format!("access-control-allow-{name}")), value, "{name}");
        }
        assert_eq!(answer.field("access-control-max-age"), Some("300"));
        assert_eq!(answer.field("vary"), Some("Origin, Access-Control-Request-Headers"));
    }
    let other = ask(&server, "OPTIONS /", &format!("Origin: https://evil.test\r\n{preflight}"));
    assert_eq!((other.status, other.field("access-control-allow-origin")), (204, None));
    assert_eq!(other.field("access-control-allow-methods"), None);
    // Without what it asks for it is no preflight, and the server answers.
    let no_preflight = ask(&server, "OPTIONS /", "Origin: https://a.test\r\n");
    assert_eq!(no_preflight.field("access-control-allow-methods"), None);
    assert!(no_preflight.field("allow").is_some(), "{no_preflight:?}");
}

#[test]
fn every_origin_is_one_answer_and_what_the_upstream_says_of_it_does_not_count() {
    let upstream = Upstream::answering(|_| {
        let fields = "Access-Control-Allow-Origin: https://evil.test\r\nAccess-Control-Allow-Credentials: true\r\n";
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nVary: Accept\r\n{fields}\r\n").into()
    });
    let routes = json!([{ "match": { "path": "/" }, "proxy": { "upstream": "api" }, "plugins": [plugin("cors", json!({}))] }]);
    let server = Start::command(on_hand("epoll"), routes)
        .upstream("api", json!({ "servers": [{ "address": upstream.address.to_string() }] }))
        .serve();
    for fields in ["", "Origin: https://a.test\r\n"] {
        let answer = ask(&server, "GET /", fields);
        assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
        assert_eq!((answer.field("access-control-allow-credentials"), answer.field("vary")), (None, Some("Accept")));
    }
}
