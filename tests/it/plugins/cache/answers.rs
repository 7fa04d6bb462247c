//! What is made of a stored response: for HEAD, ranges and conditions; when it is stale; and how it is forgotten.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{ask, gateway, get, is_hit, origin, respond, start};
use crate::support::upstream::Upstream;
use crate::support::{Client, Response, Server, wait_until};

const DATED: &str = "Cache-Control: max-age=3600\r\nETag: \"a\"\r\nLast-Modified: Thu, 01 Jan 1998 00:00:00 GMT\r\n";

#[test]
fn head_conditions_and_ranges_are_answered_from_what_is_stored() {
    let origin = origin(|_, count, _| respond("200 OK", count, &format!("{DATED}Content-Type: a/b\r\n"), "0123456789"));
    let server = gateway(&origin, json!({}));
    get(&server, "/", "");
    let head = ask(&server, "HEAD", "/", "");
    assert_eq!((head.status, head.field("content-length"), is_hit(&head)), (200, Some("10"), true));
    for condition in
        ["If-None-Match: \"x\", W/\"a\"", "If-None-Match: *", "If-Modified-Since: Fri, 02 Jan 1998 00:00:00 GMT"]
    {
        let known = get(&server, "/", &format!("{condition}\r\n"));
        assert_eq!((known.status, known.field("etag"), known.field("content-type")), (304, Some("\"a\""), None));
        assert!(is_hit(&known) && known.field("date").is_some());
    }
    for (range, status, body, content_range) in [
        ("bytes=0-1", 206, "01", Some("bytes 0-1/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=0-1,3-4", 200, "0123456789", None),
        ("bytes=0-1\r\nIf-Range: \"a\"", 206, "01", Some("bytes 0-1/10")),
        ("bytes=0-1\r\nIf-Range: \"b\"", 200, "0123456789", None),
    ] {
        let part = get(&server, "/", &format!("Range: {range}\r\n"));
        assert_eq!((part.status, part.text(), part.field("content-range")), (status, body, content_range), "{range}");
    }
    let beyond = get(&server, "/", "Range: bytes=10-\r\n");
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */10")));
    assert_eq!(get(&server, "/", "If-Match: \"x\"\r\n").field("cache-status"), Some("ringfort; fwd=bypass"));
    assert_eq!(get(&server, "/none", "Cache-Control: only-if-cached\r\n").status, 504);
    assert!(is_hit(&get(&server, "/", "Cache-Control: only-if-cached\r\n")));
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_304_freshens_what_is_stored_and_the_client_gets_the_whole_of_it() {
    let origin = origin(|_, count, request| {
        let lines = format!("ETag: \"a\"\r\nCache-Control: max-age={}\r\nX-New: {count}\r\n", 3600 * (count - 1));
        if count == 1 {
            return respond("200 OK", count, &lines, "body");
        }
        assert!(request.head.contains("If-None-Match: \"a\"\r\n"), "{}", request.head);
        respond("304 Not Modified", count, &lines, "")
    });
    let server = gateway(&origin, json!({}));
    get(&server, "/", "");
    // The client's own condition is answered by the cache: the origin is asked about what is stored.
    let known = get(&server, "/", "If-None-Match: \"x\", \"a\"\r\n");
    assert_eq!((known.status, known.field("x-new")), (304, Some("2")), "{known:?}");
    let hit = get(&server, "/", "");
    assert_eq!((hit.status, hit.text(), hit.field("x-new"), is_hit(&hit)), (200, "body", Some("2"), true));
    let forced = get(&server, "/", "Cache-Control: no-cache\r\n");
    assert_eq!((forced.status, forced.text(), forced.field("x-new")), (200, "body", Some("3")));
    let told = forced.field("cache-status").unwrap();
    assert!(told.starts_with("ringfort; fwd=request; fwd-status=304; stored; ttl="), "{told}");
    assert_eq!(origin.requests(), 3);
}

#[test]
fn a_stale_response_is_sent_while_a_new_one_is_fetched_without_the_client() {
    let origin = origin(|_, count, request| {
        assert!(request.head.starts_with("GET ") && !request.head.contains("Range"), "{}", request.head);
        // The first is stale from the start.
        let age = if count == 1 { "Age: 11\r\n" } else { "" };
        let lines = format!("Cache-Control: max-age=10, stale-while-revalidate=3600\r\n{age}");
        respond("200 OK", count, &lines, &format!("body {count}"))
    });
    let server = gateway(&origin, json!({}));
    assert_eq!(get(&server, "/", "").text(), "body 1");
    let stale = get(&server, "/", "Range: bytes=0-0\r\n");
    assert_eq!((stale.status, stale.text()), (206, "b"));
    assert!(is_hit(&stale) && stale.field("cache-status").unwrap().contains("ttl=-"), "{stale:?}");
    wait_until("the new one is there", || get(&server, "/", "").text() == "body 2");
    assert!(is_hit(&get(&server, "/", "")));
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_stale_response_is_sent_instead_of_an_error_where_that_is_allowed() {
    let origin = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let path = request.head.split(' ').nth(1).unwrap().to_owned();
            let is_first = !request.head.contains("If-None-Match");
            let more = if path.ends_with("strict") { ", must-revalidate" } else { "" };
            let lines = format!("Cache-Control: max-age=10, stale-if-error=3600{more}\r\nAge: 11\r\nETag: \"a\"\r\n");
            match is_first {
                true => peer.write(respond("200 OK", 1, &lines, "body")),
                false if path.starts_with("/closed") => return,
                false => peer.write(respond("503 Service Unavailable", 2, "", "sorry")),
            }
        }
    });
    let server = gateway(&origin, json!({}));
    for path in ["/closed", "/503"] {
        assert_eq!(get(&server, path, "").status, 200);
        let stale = get(&server, path, "");
        assert_eq!((stale.status, stale.text()), (200, "body"), "{path}");
        assert!(stale.field("age").unwrap().parse::<u64>().unwrap() >= 11);
    }
    for (path, status) in [("/closed-strict", 502), ("/503-strict", 503)] {
        assert_eq!(get(&server, path, "").status, 200);
        assert_eq!(get(&server, path, "").status, status);
    }
}

#[test]
fn what_has_not_come_whole_or_is_too_long_is_not_stored() {
    let origin = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            if request.head.contains("/cut") {
                return peer.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nshort");
            }
            let length = if request.head.contains("/long") { 200 * 1024 } else { 100 * 1024 };
            let chunk = format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
            peer.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
            peer.write(chunk);
        }
    });
    let server = gateway(&origin, json!({ "max_body": "150KiB" }));
    for _ in 0..2 {
        let mut client = Client::connect(server.address);
        client.send("GET /cut HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(client.next(false).is_err(), "a response that was cut is no whole one");
        assert_eq!(get(&server, "/long", "").body.len(), 200 * 1024);
    }
    assert_eq!(origin.requests(), 4);
    for is_stored in [false, true, true] {
        let response = get(&server, "/fits", "");
        assert_eq!((response.body.len(), is_hit(&response)), (100 * 1024, is_stored));
    }
    assert_eq!(origin.requests(), 5);
}

#[test]
fn plugins_behind_the_cache_see_a_response_once_and_those_before_it_each_time() {
    let origin = origin(|_, count, _| respond("200 OK", count, "Cache-Control: max-age=60\r\n", "body"));
    let add =
        |name: &str| json!({ "use": "headers", "name": name, "options": { "response": { "add": { name: "1" } } } });
    let plugins = json!([add("X-Before"), { "use": "cache" }, add("X-Behind")]);
    let server = start(&origin, plugins).serve();
    for _ in 0..3 {
        let response = get(&server, "/", "");
        // `field` panics where there are two of a name.
        assert_eq!((response.field("x-before"), response.field("x-behind")), (Some("1"), Some("1")));
    }
    assert_eq!(origin.requests(), 1);
}

#[track_caller]
fn purge(server: &Server, query: &str, lines: &str) -> Response {
    let mut client = Client::connect(server.admin);
    client.send(format!("POST /cache/purge?{query} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 0\r\n\r\n")).response()
}

#[test]
fn the_operator_purges_what_is_stored_and_no_web_page_does() {
    let origin = origin(|_, count, _| respond("200 OK", count, "Cache-Control: max-age=60\r\n", "body"));
    let server = gateway(&origin, json!({}));
    let fill = || {
        for path in ["/a", "/a?x", "/b/1", "/b/2"] {
            get(&server, path, "");
        }
    };
    fill();
    assert_eq!(purge(&server, "all", "Origin: http://evil\r\n").status, 403);
    for (query, purged) in
        [("path=/a", 2), ("prefix=/b/", 2), ("all", 4), ("host=other", 0), ("host=TEST&plugin=cache", 4)]
    {
        fill();
        let told = purge(&server, query, "");
        assert_eq!((told.status, told.json()["purged"].as_u64()), (200, Some(purged)), "{query}");
    }
    assert_eq!(purge(&server, "", "").status, 400);
    assert_eq!(purge(&server, "all&plugin=none", "").json()["known"], json!(["cache"]));
    get(&server, "/a", "");
    get(&server, "/a", "");
    let caches = server.admin_get("/cache").json();
    let cache = &caches["caches"][0];
    assert_eq!((cache["entries"].as_u64(), cache["plugin"].as_str()), (Some(1), Some("cache")));
    assert!(cache["hits"].as_u64() >= Some(1) && cache["bytes"].as_u64() > Some(600), "{cache}");
}

#[test]
fn the_config_of_the_documentation_is_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plugins/cache.md");
    let text = fs::read_to_string(page).unwrap();
    let (_, rest) = text.split_once("```json\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    let file = std::env::temp_dir().join(format!("ringfort-cache-page-{}.json", std::process::id()));
    fs::write(&file, config).unwrap();
    let program = std::env::var_os("CARGO_BIN_EXE_ringfort").unwrap_or(env!("CARGO_BIN_EXE_ringfort").into());
    let output = Command::new(program).arg("check").arg("--config").arg(&file).output().unwrap();
    let _ = fs::remove_file(&file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
