//! What RFC 9111 asks of a shared cache, as a table: the cases that the public suite (http-tests/cache-tests) calls
//! required, and some that it calls optimal.

use super::{ask, gateway, get, is_hit, origin, respond};
use serde_json::json;

/// A response that may or may not serve the request after it.
struct Case {
    /// Fields of the first request, each with CRLF.
    asked: &'static str,
    status: &'static str,
    /// Fields of its response.
    answered: &'static str,
    /// Fields of the second request.
    asked_again: &'static str,
    /// The origin sees the second one, too.
    is_asked_again: bool,
}

const fn reused(answered: &'static str) -> Case {
    Case { asked: "", status: "200 OK", answered, asked_again: "", is_asked_again: false }
}

const fn not_reused(answered: &'static str) -> Case {
    Case { is_asked_again: true, ..reused(answered) }
}

const fn of_status(status: &'static str, case: Case) -> Case {
    Case { status, ..case }
}

const fn between(asked: &'static str, case: Case, asked_again: &'static str) -> Case {
    Case { asked, asked_again, ..case }
}

const FRESH: &str = "Cache-Control: max-age=3600\r\n";
const AUTHORIZED: &str = "Authorization: Basic YTpi\r\n";

const CASES: &[Case] = &[
    // Freshness by Cache-Control (sections 4.2.1 and 5.2.2)
    reused(FRESH),
    not_reused(""),
    not_reused("Cache-Control: max-age=0\r\n"),
    not_reused("Cache-Control: max-age=-3600\r\n"),
    not_reused("Cache-Control: max-age='3600'\r\n"),
    reused("Cache-Control: max-age=99999999999\r\n"),
    reused("Cache-Control: foobar, MaX-aGe=3600\r\n"),
    not_reused("Cache-Control: max-age=3600\r\nAge: 7200\r\n"),
    not_reused("Cache-Control: max-age=3600\r\nAge: 7200, 0\r\n"),
    reused("Cache-Control: max-age=3600\r\nAge: 0, 7200\r\n"),
    reused("Cache-Control: max-age=3600\r\nAge: abc\r\n"),
    not_reused("Cache-Control: max-age=3600\r\nAge: 2147483648\r\n"),
    not_reused("Cache-Control: extension=\"max-age=3600\", max-age=0\r\n"),
    not_reused("Cache-Control: max-age=0, extension=\"max-age=3600\"\r\n"),
    not_reused("Cache-Control: max-age=3600, s-maxage=0\r\n"),
    not_reused("Cache-Control: max-age=3600\r\nCache-Control: s-maxage=0\r\n"),
    reused("Cache-Control: max-age=0, s-maxage=3600\r\nExpires: 0\r\n"),
    reused("Cache-Control: max-age=3600\r\nExpires: 0\r\n"),
    not_reused("Cache-Control: max-age=0\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\n"),
    // By Expires (section 5.3)
    reused("Expires: Thu, 01 Jan 2099 00:00:00 GMT\r\n"),
    not_reused("Expires: Thu, 01 Jan 1998 00:00:00 GMT\r\n"),
    not_reused("Expires: 0\r\n"),
    not_reused("Expires: Thu, 01 Jan 2099 00:00:00 UTC\r\n"),
    not_reused("Date: Thu, 01 Jan 2099 00:00:01 GMT\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\n"),
    // By heuristics (section 4.2.2)
    reused("Last-Modified: Thu, 01 Jan 1998 00:00:00 GMT\r\n"),
    of_status("404 Not Found", reused("Last-Modified: Thu, 01 Jan 1998 00:00:00 GMT\r\n")),
    of_status("201 Created", not_reused("Last-Modified: Thu, 01 Jan 1998 00:00:00 GMT\r\n")),
    of_status("403 Forbidden", not_reused("Last-Modified: Thu, 01 Jan 1998 00:00:00 GMT\r\n")),
    of_status("503 Service Unavailable", not_reused("Last-Modified: Thu, 01 Jan 1998 00:00:00 GMT\r\n")),
    // Directives of responses (section 5.2.2)
    not_reused("Cache-Control: max-age=3600, no-store\r\n"),
    not_reused("Cache-Control: max-age=3600, no-cache\r\n"),
    not_reused("Cache-Control: max-age=3600, no-cache\r\nETag: \"a\"\r\n"),
    not_reused("Cache-Control: max-age=3600, private\r\n"),
    not_reused("Cache-Control: max-age=3600, No-StOrE\r\n"),
    not_reused("Cache-Control: no-store\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\n"),
    reused("Cache-Control: max-age=3600, must-revalidate\r\n"),
    // Statuses (section 3)
    of_status("299 Whatever", reused(FRESH)),
    of_status("500 Internal Server Error", reused(FRESH)),
    of_status("599 Whatever", reused(FRESH)),
    of_status("599 Whatever", not_reused("Cache-Control: max-age=3600, must-understand\r\n")),
    of_status("301 Moved Permanently", reused(FRESH)),
    of_status("206 Partial Content", not_reused("Cache-Control: max-age=3600\r\nContent-Range: bytes 0-3/9\r\n")),
    // Requests (section 5.2.1)
    between("", not_reused(FRESH), "Cache-Control: no-cache\r\n"),
    between("", not_reused(FRESH), "Cache-Control: max-age=0\r\n"),
    between("", not_reused("Cache-Control: max-age=3600\r\nAge: 1800\r\n"), "Cache-Control: max-age=600\r\n"),
    between("", not_reused("Cache-Control: max-age=1500\r\n"), "Cache-Control: min-fresh=2000\r\n"),
    between(
        "",
        reused("Cache-Control: max-age=1500\r\nAge: 2000\r\nETag: \"a\"\r\n"),
        "Cache-Control: max-stale=1000\r\n",
    ),
    between("Cache-Control: no-store\r\n", not_reused(FRESH), ""),
    between("", reused(FRESH), "Pragma: no-cache\r\n"),
    // Authorization (section 3.5)
    between(AUTHORIZED, not_reused(FRESH), ""),
    between(AUTHORIZED, not_reused(FRESH), AUTHORIZED),
    between(AUTHORIZED, reused("Cache-Control: max-age=3600, public\r\n"), ""),
    between(AUTHORIZED, reused("Cache-Control: max-age=3600, must-revalidate\r\n"), ""),
    between(AUTHORIZED, reused("Cache-Control: s-maxage=3600\r\n"), ""),
    // Vary (section 4.1)
    between("Foo: 1\r\n", reused("Cache-Control: max-age=3600\r\nVary: Foo\r\n"), "Foo: 1\r\n"),
    between("Foo: 1\r\n", not_reused("Cache-Control: max-age=3600\r\nVary: foo\r\n"), "Foo: 2\r\n"),
    between("Foo: 1\r\n", not_reused("Cache-Control: max-age=3600\r\nVary: Foo\r\n"), ""),
    between("", not_reused("Cache-Control: max-age=3600\r\nVary: Foo\r\n"), "Foo: 2\r\n"),
    between(
        "Foo: 1\r\nBar: 1\r\n",
        not_reused("Cache-Control: max-age=3600\r\nVary: Foo\r\nVary: Bar\r\n"),
        "Foo: 1\r\n",
    ),
    between("Foo: 1\r\n", reused(FRESH), "Foo: 2\r\n"),
    not_reused("Cache-Control: max-age=3600\r\nVary: *\r\n"),
    not_reused("Cache-Control: max-age=3600\r\nVary: Foo, *\r\n"),
    // What a shared cache should be careful with
    not_reused("Cache-Control: max-age=3600\r\nSet-Cookie: a=b\r\n"),
    between("Cookie: a=b\r\n", reused(FRESH), ""),
];

#[test]
fn responses_are_reused_exactly_where_the_rfc_lets_them() {
    let origin = origin(|path, count, _| {
        let case: usize = path.trim_start_matches('/').parse().unwrap();
        respond(CASES[case].status, count, CASES[case].answered, "body")
    });
    let server = gateway(&origin, json!({}));
    for (number, case) in CASES.iter().enumerate() {
        let path = format!("/{number}");
        let first = get(&server, &path, case.asked);
        assert_eq!((first.field("x-count"), first.text()), (Some("1"), "body"));
        let second = get(&server, &path, case.asked_again);
        let told = format!("{:?} {:?} {:?}: {second:?}", case.asked, case.answered, case.asked_again);
        assert_eq!(second.field("x-count") == Some("2"), case.is_asked_again, "{told}");
        assert_eq!((second.status, second.text()), (first.status, "body"), "{told}");
        assert_eq!(is_hit(&second), !case.is_asked_again, "{told}");
        assert_eq!(second.field("age").is_some_and(|_| is_hit(&second)), !case.is_asked_again, "{told}");
    }
}

#[test]
fn methods_that_change_things_have_what_is_stored_forgotten() {
    let origin = origin(|path, count, request| {
        let lines = match request.head.split(' ').next().unwrap() {
            "GET" => FRESH,
            "PUT" => "Location: /a\r\n",
            "PATCH" => "Content-Location: http://test/a?x\r\n",
            _ => "",
        };
        let status = if path == "/fails" && request.head.starts_with("POST") { "500 No" } else { "200 OK" };
        respond(status, count, lines, "body")
    });
    let server = gateway(&origin, json!({}));
    let is_stored = |path: &str| is_hit(&get(&server, path, ""));
    for (method, target, path, is_forgotten) in [
        ("POST", "/a", "/a", true),
        ("DELETE", "/a", "/a", true),
        ("M-SEARCH", "/a", "/a", true),
        ("PUT", "/other", "/a", true),
        ("PATCH", "/other", "/a?x", true),
        ("PATCH", "/other", "/b", false),
        ("POST", "/a?x", "/a", false),
        ("POST", "/fails", "/fails", false),
        ("OPTIONS", "/a", "/a", false),
    ] {
        get(&server, path, "");
        assert!(is_stored(path), "{method} {target}");
        ask(&server, method, target, "Content-Length: 0\r\n");
        assert_eq!(is_stored(path), !is_forgotten, "{method} {target} {path}");
    }
}

#[test]
fn the_key_and_the_options_say_what_is_told_apart() {
    let origin = origin(|_, count, _| respond("200 OK", count, "Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n", ""));
    let options = json!({
        "key": { "host": false, "ignore": ["utm"] },
        "vary": ["X-Beta"],
        "client_directives": false,
        "set_cookie": "store",
        "status_name": "edge",
    });
    let server = gateway(&origin, options);
    let told = |path: &str, lines: &str| get(&server, path, lines).field("cache-status").unwrap().to_owned();
    assert_eq!(told("/a?utm=1&x=1", ""), "edge; fwd=uri-miss; stored; ttl=60");
    assert!(told("/a?x=1&utm=2", "").starts_with("edge; hit; ttl="));
    assert!(told("/a?x=1", "Cache-Control: no-cache\r\n").starts_with("edge; hit"));
    assert_eq!(told("/a?x=1", "X-Beta: yes\r\n"), "edge; fwd=vary-miss; stored; ttl=60");
    assert!(told("/a?x=1", "X-Beta: yes\r\n").starts_with("edge; hit"));
    assert!(told("/a?x=1", "").starts_with("edge; hit"));
    assert_eq!(told("/a?x=2", ""), "edge; fwd=uri-miss; stored; ttl=60");
}
