//! Plugins that decide which requests get through: `ip-filter`, `cors`, `rate-limit`, `concurrency`, `mirror-log`.

use serde_json::{Value, json};

use super::application;
use crate::support::upstream::Upstream;
use crate::support::{Response, Server, Start, on_hand, wait_until};

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
    let routes =
        json!([{ "match": { "path": "/" }, "proxy": { "upstream": "api" }, "plugins": [plugin("cors", json!({}))] }]);
    let server = Start::command(on_hand("epoll"), routes)
        .upstream("api", json!({ "servers": [{ "address": upstream.address.to_string() }] }))
        .serve();
    for fields in ["", "Origin: https://a.test\r\n"] {
        let answer = ask(&server, "GET /", fields);
        assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
        assert_eq!((answer.field("access-control-allow-credentials"), answer.field("vary")), (None, Some("Accept")));
    }
}

fn left(answer: &Response) -> Option<u32> {
    let field = answer.field("ratelimit")?;
    field.split(';').find_map(|part| part.strip_prefix("r=")?.parse().ok())
}

#[test]
fn a_budget_is_used_up_and_the_answers_say_so() {
    let options = json!({ "rate": "1/h", "burst": 3 });
    let server = application(json!([{ "use": "rate-limit", "name": "few", "options": options }])).serve();
    let mut client = server.client();
    for expected in [2, 1, 0] {
        let answer = client.get("/");
        assert_eq!((answer.status, left(&answer)), (200, Some(expected)));
        assert_eq!(answer.field("ratelimit-policy"), Some("\"few\";q=3;w=10800"));
        assert!(answer.field("ratelimit").unwrap().starts_with("\"few\";r="), "{answer:?}");
        assert_eq!(answer.field("retry-after"), None);
    }
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status, left(&answer)), (429, Some(0)));
        let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=3600).contains(&after), "{after}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    }
}

#[test]
fn each_key_has_a_budget_of_its_own() {
    let limit = |key: &str| plugin("rate-limit", json!({ "rate": "1/h", "key": key, "trust": ["127.0.0.1"] }));
    let twice = |server: &Server, path: &str, fields: &str| {
        let line = format!("GET {path}");
        (ask(server, &line, fields).status, ask(server, &line, fields).status)
    };
    let server = application(json!([limit("header:X-Key")])).serve();
    assert_eq!(twice(&server, "/", "X-Key: a\r\n"), (200, 429));
    assert_eq!(twice(&server, "/", "X-Key: b\r\n"), (200, 429));
    // Without one it is the address that counts, and behind a proxy that is trusted the client's.
    assert_eq!(twice(&server, "/", ""), (200, 429));
    assert_eq!(twice(&server, "/", "X-Forwarded-For: 192.0.2.1\r\n"), (200, 429));
    assert_eq!(twice(&server, "/", "X-Forwarded-For: 2001:db8::1\r\n"), (200, 429));
    // The same network of 64 bits.
    assert_eq!(twice(&server, "/", "X-Forwarded-For: 2001:db8::2\r\n"), (429, 429));
    assert_eq!(twice(&server, "/", "X-Forwarded-For: 2001:db8:0:1::1\r\n"), (200, 429));
    let server = application(json!([limit("param:id")])).serve();
    assert_eq!(twice(&server, "/users/1", ""), (200, 429));
    assert_eq!(twice(&server, "/users/2", ""), (200, 429));
    let server = application(json!([limit("all")])).serve();
    assert_eq!(twice(&server, "/", "X-Forwarded-For: 192.0.2.1\r\n"), (200, 429));
    assert_eq!(twice(&server, "/", "X-Forwarded-For: 192.0.2.2\r\n"), (429, 429));
}

#[test]
fn budgets_survive_a_reload_that_does_not_change_them() {
    let limit = |rate: &str| json!([plugin("rate-limit", json!({ "rate": rate, "burst": 1 }))]);
    let mut server = application(limit("1/h")).serve();
    assert_eq!((server.get("/").status, server.get("/").status), (200, 429));
    server.edit(|config| config["log"] = json!({ "level": "debug" }));
    assert_eq!(server.reload().status, 200);
    assert_eq!(server.get("/").status, 429);
    server.edit(|config| config["plugins"] = limit("2/h"));
    assert_eq!(server.reload().status, 200);
    assert_eq!((server.get("/").status, server.get("/").status), (200, 429));
}

/// `RINGFORT_TEST_SECONDS` makes it last longer.
#[test]
fn two_workers_together_admit_no_more_than_the_documented_bound() {
    use ringfort::clock;
    use std::time::Duration;

    let seconds = std::env::var("RINGFORT_TEST_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    let server = application(json!([plugin("rate-limit", json!({ "rate": "100/s" }))])).workers(2).serve();
    let began = clock::now();
    let until = began + Duration::from_secs(seconds);
    let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let hammer = || {
            let (mut admitted, mut refused) = (0, 0);
            while clock::now() < until {
                // Connections of its own, so that both workers have some.
                let mut client = server.client();
                for _ in 0..10 {
                    match client.get("/").status {
                        200 => admitted += 1,
                        429 => refused += 1,
                        other => panic!("{other}"),
                    }
                }
            }
            (admitted, refused)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(hammer)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let took = clock::now().since(began);
    let (admitted, refused) = counts.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    // burst + w * rate + n * (batch - 1), with a batch of 100 / (8 * 2).
    let bound = 100 + (took.as_secs_f64() * 100.0).ceil() as u64 + 2 * 5;
    println!("{admitted} admitted and {refused} refused in {took:?}; the bound is {bound}");
    assert!(admitted <= bound, "{admitted} in {took:?}");
    assert!(refused == 0 || admitted >= 90, "{admitted} admitted, {refused} refused");
}

fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `RINGFORT_TEST_KEYS` makes them more.
#[test]
fn more_keys_than_there_is_room_for_get_a_clear_answer() {
    let count: u32 = std::env::var("RINGFORT_TEST_KEYS").map_or(4000, |count| count.parse().unwrap());
    for (when_full, expected) in [("allow", 200), ("refuse", 429)] {
        let options = json!({ "rate": "1/h", "key": "header:X-Key", "max_keys": 100, "when_full": when_full });
        let server = application(json!([plugin("rate-limit", options)])).serve();
        let send = |keys: std::ops::Range<u32>| {
            let mut client = server.client();
            let request = |key| format!("GET / HTTP/1.1\r\nHost: test\r\nX-Key: {key}\r\n\r\n");
            client.send(keys.clone().map(request).collect::<String>());
            keys.map(|_| client.response()).collect::<Vec<_>>()
        };
        assert_eq!(send(0..1)[0].status, 200);
        send(1..201);
        let before = resident_kib(&server);
        for first in (201..count).step_by(200) {
            send(first..first + 200);
        }
        let grown = resident_kib(&server).saturating_sub(before);
        println!("{count} keys, {when_full}: {grown} KiB more than with 200");
        assert!(grown < 16 * 1024, "{grown} KiB");
        let late = send(count + 1000..count + 1050);
        assert!(late.iter().all(|answer| answer.status == expected), "{when_full}");
        assert!(late.iter().all(|answer| answer.field("ratelimit").is_some() == (expected == 429)), "{when_full}");
        // It was there before them.
        assert_eq!(send(0..1)[0].status, 429, "{when_full}");
    }
}

/// Has the connection reset when it is dropped.
fn leave(client: &crate::support::Client) {
    rustix::net::sockopt::set_socket_linger(client.stream(), Some(std::time::Duration::ZERO)).unwrap();
}

#[test]
fn requests_beyond_the_limit_are_shed_at_once_and_places_come_back() {
    let options = json!({ "limit": 2, "retry_after": "7s" });
    let server = application(json!([plugin("concurrency", options)])).workers(2).serve();
    let hold = || {
        let mut client = server.client();
        client.send("GET /slow/60000 HTTP/1.1\r\nHost: test\r\n\r\n");
        leave(&client);
        client
    };
    let in_flight = |expected: f64| {
        wait_until("requests are under way", || server.metric("ringfort_requests_in_flight", "") == expected);
    };
    let (first, second) = (hold(), hold());
    in_flight(2.0);
    for _ in 0..20 {
        let answer = server.get("/");
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("7")));
    }
    // A client that leaves gives its place back.
    drop(first);
    in_flight(1.0);
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
    }
    assert_eq!(server.get("/fail").status, 500);
    assert_eq!(server.get("/nowhere").status, 404);
    let third = hold();
    in_flight(2.0);
    assert_eq!(server.get("/").status, 503);
    drop((second, third));
    in_flight(0.0);
    for _ in 0..20 {
        assert_eq!(server.get("/").status, 200);
    }
}

#[test]
fn an_adaptive_limit_keeps_to_its_bounds() {
    let options = json!({ "adaptive": { "min": 1, "max": 1 } });
    let server = application(json!([plugin("concurrency", options)])).serve();
    let mut client = server.client();
    client.send("GET /slow/60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    leave(&client);
    wait_until("it is under way", || server.metric("ringfort_requests_in_flight", "") == 1.0);
    assert_eq!(server.get("/").status, 503);
    drop(client);
    wait_until("it is over", || server.metric("ringfort_requests_in_flight", "") == 0.0);
    for _ in 0..100 {
        assert_eq!(server.get("/").status, 200);
    }
}

#[test]
fn a_sample_of_the_requests_is_written_without_secrets() {
    let directory = std::env::temp_dir().join(format!("ringfort-it-mirror-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("mirror.jsonl");
    let options = json!({ "file": file, "share": 1.0, "headers": ["*"], "hide": ["X-Mine"] });
    let server = application(json!([plugin("mirror-log", options)])).serve();
    let secret = "Authorization: Bearer geheim\r\nCookie: a=geheim\r\nX-Mine: geheim\r\n";
    let fields = format!("Accept: a/\"b\"\r\n{secret}");
    assert_eq!(ask(&server, "GET /users/7?q=1&access_token=geheim", &fields).status, 200);
    assert_eq!(ask(&server, "GET /nowhere", "").status, 404);
    let mut text = String::new();
    wait_until("two lines are written", || {
        text = std::fs::read_to_string(&file).unwrap();
        text.lines().count() == 2
    });
    assert!(!text.contains("geheim"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["target"], "/users/7?q=1&access_token=(hidden)");
    let headers = json!([
        ["Host", "test"],
        ["Accept", "a/\"b\""],
        ["Authorization", "(hidden)"],
        ["Cookie", "(hidden)"],
        ["X-Mine", "(hidden)"],
    ]);
    assert_eq!((&lines[0]["headers"], &lines[0]["method"]), (&headers, &json!("GET")));
    assert_eq!((&lines[0]["status"], &lines[1]["status"]), (&json!(200), &json!(404)));
    assert_eq!((&lines[0]["client"], &lines[0]["body_bytes"]), (&json!("127.0.0.1"), &json!(0)));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn options_that_make_no_sense_are_named() {
    for (name, options, expected) in [
        ("ip-filter", json!({}), "options.allow: expected a network, here or in `deny`, found none"),
        ("cors", json!({ "origins": ["a.test"] }), "options.origins[0]: expected an origin such as"),
        ("cors", json!({ "credentials": true }), "options.credentials: expected false where `origins` has \"*\""),
        ("rate-limit", json!({}), "options.rate: expected a rate such as \"100/s\""),
        ("rate-limit", json!({ "rate": "100" }), "did you mean \"100/s\""),
        ("rate-limit", json!({ "rate": "1/s", "key": "ip" }), "options.key: expected \"address\""),
        ("concurrency", json!({}), "options.limit: expected exactly one of \"limit\" and \"adaptive\", found neither"),
        ("concurrency", json!({ "adaptive": { "min": 9, "max": 3 } }), "options.adaptive.min: expected at most 3"),
        ("mirror-log", json!({ "file": "" }), "options.file: expected the path of a file"),
    ] {
        let mut process = application(json!([plugin(name, options.clone())])).spawn();
        assert_ne!(process.wait_exit(std::time::Duration::from_secs(20)).code(), Some(0), "{name} {options}");
        let log = process.log().join("\n").replace("\\\"", "\"");
        assert!(log.contains(expected), "{name} {options}: {log}");
    }
    // What only shows when it comes into force.
    let unwritable = application(json!([plugin("mirror-log", json!({ "file": "/nowhere/at/all" }))])).spawn();
    let mut unwritable = unwritable;
    assert_eq!(unwritable.wait_exit(std::time::Duration::from_secs(20)).code(), Some(1));
}
