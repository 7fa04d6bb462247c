//! What a hostile client tries against the plugins that keep others out, and against a shared cache.

use serde_json::{Value, json};

use super::application;
use crate::support::upstream::{Received, Upstream};
use crate::support::{Response, Server, Start, on_hand};

fn gateway(origin: &Upstream, plugins: Value) -> Server {
    let route = json!({ "match": { "path": "/*rest" }, "plugins": plugins, "proxy": { "upstream": "api" } });
    let upstream = json!({ "servers": [{ "address": origin.address.to_string() }], "retry": { "attempts": 1 } });
    Start::command(on_hand("epoll"), json!([route])).workers(1).upstream("api", upstream).serve()
}

#[track_caller]
fn ask(server: &Server, line: &str, fields: &str) -> Response {
    let mut client = server.client();
    client.send(format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    if line.starts_with("HEAD") { client.response_to_head() } else { client.response() }
}

/// The lines of a request that have this name.
fn lines<'r>(request: &'r Received, name: &str) -> Vec<&'r str> {
    let is_named = |line: &&str| line.split(':').next().is_some_and(|own| own.eq_ignore_ascii_case(name));
    request.head.lines().filter(is_named).collect()
}

/// An origin that says what it saw of these fields, and has it kept for an hour.
fn telling(names: &'static [&'static str], fields: &'static str) -> Upstream {
    Upstream::answering(move |request| {
        let seen: Vec<_> = names.iter().flat_map(|name| lines(request, name)).collect();
        let (seen, fields) = (seen.join("|"), format!("Cache-Control: max-age=3600\r\n{fields}"));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{seen}", seen.len()).into_bytes()
    })
}

fn is_hit(response: &Response) -> bool {
    response.field("cache-status").is_some_and(|status| status.contains("; hit"))
}

#[test]
fn a_client_cannot_have_the_fields_dropped_by_which_the_gateway_tells_who_it_is() {
    let origin = telling(&["X-User", "X-Own", "Connection"], "");
    let server =
        gateway(&origin, json!([{ "use": "headers", "options": { "request": { "set": { "X-User": "ann" } } } }]));
    for connection in
        ["", "Connection: X-User\r\n", "Connection: keep-alive, x-user\r\n", "Connection: x\r\nConnection: x-USER\r\n"]
    {
        let answer = ask(&server, "GET /", &format!("{connection}X-User: root\r\n"));
        assert_eq!(answer.text(), "X-User: ann", "{connection}");
    }
    // Its own fields it may name, as ever.
    assert_eq!(ask(&server, "GET /", "Connection: x-own, x-user\r\nX-Own: 1\r\n").text(), "X-User: ann");
    assert_eq!(ask(&server, "GET /", "X-Own: 1\r\n").text(), "X-User: ann|X-Own: 1");
}

#[test]
fn nothing_is_stored_for_all_that_was_answered_to_one_clients_hidden_or_unkeyed_fields() {
    let origin = telling(&["X-Lang", "X-Forwarded-Host", "X-Forwarded-Proto"], "Vary: X-Lang\r\n");
    let server = gateway(&origin, json!([{ "use": "cache" }]));
    // Kept from the origin, and yet what responses are told apart by.
    let hidden = ask(&server, "GET /", "X-Lang: de\r\nConnection: X-Lang\r\n");
    assert_eq!(hidden.field("cache-status"), Some("ringfort; fwd=bypass"));
    let fair = ask(&server, "GET /", "X-Lang: de\r\n");
    assert!(!is_hit(&fair) && fair.text().contains("X-Lang: de"), "{fair:?}");
    assert!(is_hit(&ask(&server, "GET /", "X-Lang: de\r\n")));
    // A stranger's word about the host goes no further.
    let forged = ask(&server, "GET /b", "X-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: evil\r\n");
    assert!(!forged.text().contains("evil"), "{forged:?}");
    assert_eq!(ask(&server, "GET /b", "").text(), forged.text());
}

#[test]
fn the_port_that_a_client_writes_is_part_of_what_is_stored_for_all() {
    let origin = telling(&["Host"], "");
    let server = gateway(&origin, json!([{ "use": "cache" }]));
    let of = |host: &str| server.client().send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
    let plain = of("shop.test");
    for host in ["shop.test:443", "shop.test:80", "shop.test:1234"] {
        assert!(!is_hit(&of(host)), "{host}");
    }
    assert_eq!((is_hit(&of("SHOP.test")), of("shop.test").text()), (true, plain.text()));
    // And yet one target: what changes it changes all that is stored of it.
    assert!(is_hit(&of("shop.test:80")) && is_hit(&of("shop.test:1234")));
    server.client().send("PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n").response();
    for (host, stays) in
        [("shop.test", false), ("shop.test:80", false), ("shop.test:443", false), ("shop.test:1234", true)]
    {
        assert_eq!(is_hit(&of(host)), stays, "{host}");
    }
}

#[test]
fn a_parameter_is_not_hidden_in_one_that_does_not_count() {
    let origin = Upstream::answering(|request| {
        let target = request.head.split(' ').nth(1).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n", target.len());
        format!("{head}{target}").into_bytes()
    });
    let server = gateway(&origin, json!([{ "use": "cache", "options": { "key": { "ignore": ["utm"] } } }]));
    assert_eq!(ask(&server, "GET /?a=1&utm=2;a=evil", "").text(), "/?a=1&utm=2;a=evil");
    let fair = ask(&server, "GET /?a=1&utm=3", "");
    assert_eq!((is_hit(&fair), fair.text()), (false, "/?a=1&utm=3"));
    assert!(is_hit(&ask(&server, "GET /?a=1&utm=4", "")));
}

#[test]
fn what_is_one_clients_own_is_not_stored_for_others() {
    let origin = telling(&["Authorization", "X-User"], "");
    let cache = json!({ "use": "cache" });
    let server = gateway(&origin, json!([cache]));
    ask(&server, "GET /", "Authorization: Basic YTpi\r\n");
    assert!(!is_hit(&ask(&server, "GET /", "")));
    // A plugin has told by another field who the client is, and taken the credential away.
    let headers = json!({ "request": { "remove": ["Authorization"], "set": { "X-User": "ann" } } });
    let server = gateway(&origin, json!([{ "use": "headers", "options": headers }, cache]));
    ask(&server, "GET /", "Authorization: Basic YTpi\r\n");
    let other = ask(&server, "GET /", "");
    assert!(!is_hit(&other), "{other:?}");
    // Of requests without one, what was answered is for all.
    assert!(is_hit(&ask(&server, "GET /", "")));
    // A plugin has let the client through by something else than `Authorization`.
    let by_cookie = json!({ "use": "forward-auth", "options": { "upstream": "api", "path": "/auth" } });
    let server = gateway(&origin, json!([by_cookie, cache]));
    for client in ["Cookie: s=ann\r\n", "Cookie: s=bob\r\n"] {
        assert!(!is_hit(&ask(&server, "GET /", client)), "{client}");
    }
    let keys = json!([{ "name": "ann", "key": "0123456789abcdef" }]);
    let by_field =
        json!({ "use": "api-key", "options": { "from": ["header:x-key"], "keys": keys, "required": false } });
    let server = gateway(&origin, json!([by_field, cache]));
    ask(&server, "GET /", "X-Key: 0123456789abcdef\r\n");
    assert!(!is_hit(&ask(&server, "GET /", "")));
    assert!(is_hit(&ask(&server, "GET /", "")), "without a key it is for all");
    let cookies = telling(&[], "Set-Cookie: session=secret\r\n");
    let server = gateway(&cookies, json!([cache]));
    for _ in 0..2 {
        assert!(!is_hit(&ask(&server, "GET /", "")));
    }
}

#[test]
fn a_part_of_a_response_is_never_taken_for_the_whole() {
    // An origin that answers with parts, asked for or not.
    let origin = Upstream::answering(|request| {
        let is_asked = !lines(request, "range").is_empty() || request.head.contains("/always");
        let (status, fields) =
            if is_asked { ("206 Partial Content", "Content-Range: bytes 0-1/10\r\n") } else { ("200 OK", "") };
        let body = if is_asked { "01" } else { "0123456789" };
        let head = format!("HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\nETag: \"e\"\r\n{fields}");
        let body = if request.head.starts_with("HEAD") { "" } else { body };
        let length = if is_asked { 2 } else { 10 };
        format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    });
    let server = gateway(&origin, json!([{ "use": "cache" }]));
    assert_eq!(ask(&server, "GET /", "Range: bytes=0-1\r\n").status, 206);
    let whole = ask(&server, "GET /", "");
    assert_eq!((whole.status, whole.text(), is_hit(&whole)), (200, "0123456789", false));
    for (range, status, text) in [
        ("bytes=2-3", 206, "23"),
        ("bytes=0-18446744073709551615", 206, "0123456789"),
        ("bytes=18446744073709551615-", 416, ""),
        ("bytes=99999999999999999999999-", 416, ""),
        ("bytes=5-2", 200, "0123456789"),
        ("bytes=--1", 200, "0123456789"),
        ("octets=0-1", 200, "0123456789"),
    ] {
        let part = ask(&server, "GET /", &format!("Range: {range}\r\n"));
        assert_eq!(part.status, status, "{range}");
        assert!(status == 416 || part.text() == text, "{range}: {part:?}");
    }
    let head = ask(&server, "HEAD /", "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.field("content-length"), head.text()), (200, Some("10"), ""));
    for _ in 0..2 {
        assert!(!is_hit(&ask(&server, "GET /always", "")));
    }
    // What HEAD gets is not what GET gets.
    ask(&server, "HEAD /head", "");
    assert_eq!(ask(&server, "GET /head", "").text(), "0123456789");
}

#[test]
fn tags_are_compared_weakly_and_whole() {
    for (own, asked, status) in [
        ("\"a\"", "\"a\"", 304),
        ("W/\"a\"", "\"a\"", 304),
        ("\"a\"", "W/\"a\"", 304),
        ("\"a\"", "\"b\", W/\"a\"", 304),
        ("\"a\"", "\"b,\"a\"", 200),
        ("\"a\"", "a", 200),
        ("\"a\"", "\"A\"", 200),
        ("\"a\"", "w/\"a\"", 200),
        ("\"a,b\"", "\"a,b\"", 304),
        ("\"a,b\"", "\"a\",\"b\"", 200),
    ] {
        let origin = Upstream::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: {own}\r\nContent-Length: 1\r\n\r\nx")
                .into_bytes()
        });
        let server = gateway(&origin, json!([{ "use": "cache" }]));
        ask(&server, "GET /", "");
        let answer = ask(&server, "GET /", &format!("If-None-Match: {asked}\r\n"));
        assert_eq!((answer.status, is_hit(&answer)), (status, true), "{own} {asked}");
        // `If-Range` wants the very bytes.
        let part = ask(&server, "GET /", &format!("Range: bytes=0-0\r\nIf-Range: {asked}\r\n"));
        assert_eq!(part.status, if own == asked && !own.starts_with('W') { 206 } else { 200 }, "{own} {asked}");
    }
}

#[test]
fn numbers_beyond_all_measure_make_nothing_fresh_or_old_that_is_not() {
    for (fields, is_stored) in [
        ("Cache-Control: max-age=99999999999999999999\r\n", true),
        ("Cache-Control: max-age=2147483648\r\nAge: 1\r\n", true),
        ("Cache-Control: max-age=60\r\nAge: 99999999999999999999\r\n", false),
        ("Cache-Control: max-age=60\r\nAge: 4294967296\r\n", false),
        ("Cache-Control: max-age=-1\r\n", false),
        ("Cache-Control: max-age=6e9\r\n", false),
        ("Cache-Control: max-age=60, max-age=0\r\n", false),
        ("Cache-Control: s-maxage=0, max-age=60\r\n", false),
        ("Cache-Control: max-age=60\r\nCache-Control: no-store\r\n", false),
        ("Cache-Control: max-age=60, NO-STORE\r\n", false),
        ("Cache-Control: x=\"a, max-age=60\"\r\n", false),
    ] {
        let origin =
            Upstream::answering(move |_| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 1\r\n\r\nx").into_bytes());
        let server = gateway(&origin, json!([{ "use": "cache" }]));
        ask(&server, "GET /", "");
        let again = ask(&server, "GET /", "");
        assert_eq!(is_hit(&again), is_stored, "{fields}");
        if is_stored {
            assert!(again.field("age").unwrap().parse::<u64>().unwrap() < 100, "{fields}: {again:?}");
        }
    }
}

#[test]
fn an_address_counts_as_what_it_is_however_it_is_written() {
    let mapped = json!({ "deny": ["::ffff:127.0.0.0/104"] });
    let behind = json!({ "deny": ["192.0.2.0/24", "2001:db8::/32"], "trust": ["::ffff:127.0.0.1"] });
    for (options, forwarded, expected) in [
        (&mapped, "", 403),
        (&mapped, "10.0.0.1", 403),
        (&behind, "", 200),
        (&behind, "::ffff:192.0.2.1", 403),
        (&behind, "[::ffff:c000:201]:80", 403),
        (&behind, "2001:DB8:0::1", 403),
        (&behind, "192.0.2.1, ", 403),
        // Octal and whole numbers are no addresses: who wrote that is hidden, and the proxy counts.
        (&behind, "0300.0.2.1", 200),
        (&behind, "3221225985", 200),
        (&behind, "10.0.0.1, 192.0.2.1", 403),
        (&behind, "192.0.2.1, 10.0.0.1", 200),
        (&behind, "10.0.0.1\r\nX-Forwarded-For: 192.0.2.1", 403),
        (&behind, "192.0.2.1\r\nX-Forwarded-For: 10.0.0.1", 200),
    ] {
        let server = application(json!([{ "use": "ip-filter", "options": options }])).serve();
        let fields = if forwarded.is_empty() { String::new() } else { format!("X-Forwarded-For: {forwarded}\r\n") };
        assert_eq!(ask(&server, "GET /", &fields).status, expected, "{options} {forwarded}");
    }
}

#[test]
fn a_client_does_not_get_a_new_budget_by_saying_the_same_in_other_ways() {
    let server =
        |key: &str| application(json!([{ "use": "rate-limit", "options": { "rate": "1/h", "key": key } }])).serve();
    let limited = server("header:X-Key");
    assert_eq!(ask(&limited, "GET /", "X-Key: a\r\n").status, 200);
    assert_eq!(ask(&limited, "GET /", "x-key:   a  \r\n").status, 429);
    // Of several nobody knows which counts: the address does.
    assert_eq!(ask(&limited, "GET /", "X-Key: 1\r\nX-Key: a\r\n").status, 200);
    assert_eq!(ask(&limited, "GET /", "X-Key: 2\r\nX-Key: a\r\n").status, 429);
    assert_eq!(ask(&limited, "GET /", "").status, 429);
    let limited = server("param:id");
    assert_eq!(ask(&limited, "GET /users/a!", "").status, 200);
    for same in ["/users/a%21", "/users/%61!", "/users/./a!", "//users/a!?x"] {
        let status = ask(&limited, &format!("GET {same}"), "").status;
        assert!(status == 429 || same.starts_with("//") && status == 404, "{same}: {status}");
    }
}

#[test]
fn pages_of_no_origin_at_all_do_not_get_what_is_the_users_alone() {
    for (origins, is_good) in
        [(json!(["null"]), false), (json!(["https://a.test", "null"]), false), (json!(["https://a.test"]), true)]
    {
        let options = json!({ "origins": origins, "credentials": true });
        let start = application(json!([{ "use": "cors", "options": options }]));
        if is_good {
            let answer = ask(&start.serve(), "GET /", "Origin: null\r\n");
            assert_eq!(answer.field("access-control-allow-origin"), None);
            continue;
        }
        let mut process = start.spawn();
        assert_ne!(process.wait_exit(std::time::Duration::from_secs(20)).code(), Some(0));
        let log = process.log().join("\n").replace("\\\"", "\"");
        assert!(log.contains("options.credentials: expected false where `origins` has \"null\""), "{log}");
    }
}

#[test]
fn credentials_are_taken_in_one_form_alone() {
    let directory = std::env::temp_dir().join(format!("ringfort-it-attacks-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let users = directory.join("users");
    // Of some password.
    std::fs::write(&users, "ann:$2b$04$abcdefghijklmnopqrstuu5DAj3kjjfbNyGWrEGtRcaYhqRsfmJ4a\n").unwrap();
    let key = "a key of many bytes";
    let plugins =
        json!([{ "use": "api-key", "options": { "keys": [{ "name": "ann", "key": key }], "name_header": "X-User" } }]);
    let origin = telling(&["X-User"], "");
    let server = gateway(&origin, plugins);
    for (fields, status) in [
        (format!("X-Api-Key: {key}\r\n"), 200),
        (format!("X-Api-Key:\t {key} \r\n"), 200),
        (String::new(), 401),
        ("X-Api-Key:\r\n".to_owned(), 401),
        (format!("X-Api-Key: {key},\r\n"), 401),
        (format!("X-Api-Key: {}\r\n", key.to_uppercase()), 401),
        (format!("X-Api_Key: {key}\r\n"), 401),
        (format!("X-Api-Key: wrong\r\nX-Api-Key: {key}\r\n"), 401),
        (format!("X-Api-Key: {key}\r\nConnection: X-Api-Key, X-User\r\n"), 200),
        (format!("X-Api-Key: {}\r\n", "x".repeat(8000)), 401),
    ] {
        let answer = ask(&server, "GET /", &format!("X-User: root\r\n{fields}"));
        assert_eq!(answer.status, status, "{fields:.60}");
        if status == 200 {
            assert_eq!(answer.text(), "X-User: ann", "{fields}");
        }
    }
    let server = gateway(&origin, json!([{ "use": "basic-auth", "options": { "file": users } }]));
    for fields in [
        "Authorization: Basic\r\n",
        "Authorization: Basic Og==\r\n",
        "Authorization: Basic YW5uOg==\r\n",
        "Authorization: Basic YW5u\r\n",
        "Authorization: Basic YW5uOnNlY3JldAB4\r\n",
        "Authorization: Basic =\r\n",
        "Authorization: Bearer YW5uOnNlY3JldA==\r\n",
        "Authorization: Basic YW5uOng=\r\nAuthorization: Basic YW5uOng=\r\n",
        "Authorization: BasicYW5uOng=\r\n",
        "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n",
    ] {
        let answer = ask(&server, "GET /", fields);
        assert_eq!(answer.status, 401, "{fields}");
        assert!(
            answer.field("www-authenticate").is_some_and(|challenge| challenge.starts_with("Basic realm=")),
            "{fields}"
        );
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
