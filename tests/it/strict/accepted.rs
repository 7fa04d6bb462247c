//! Requests that are answered: forms of targets and methods, and that their splits change nothing.

use super::{SMUGGLED, send_split, serve, splits};
use crate::support::{Client, Response, Server, on_each_driver};

/// Sends one request and reads its answer; the connection goes on after it.
#[track_caller]
fn ask(server: &Server, request: &str) -> Response {
    let mut client = server.client();
    let response = client.send(request).response();
    assert!(!response.closes(), "{request:?}: {response:?}");
    assert_eq!(client.get("/users/next").text(), "user next", "after {request:?}");
    response
}

#[test]
fn unknown_paths_are_not_found_and_the_connection_goes_on() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for target in ["/none", "/users", "/users/1/2", "//", "/Users/1", "/none?a=b", "/%75sers"] {
            let response = ask(&server, &format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            assert_eq!(response.status, 404, "{target}");
            assert_eq!(response.field("content-type"), Some("application/problem+json"));
            assert!(!response.text().contains("none") && response.json()["request_id"].is_string());
        }
    });
}

#[test]
fn a_known_path_with_another_method_tells_which_are_allowed() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for (method, path, allow) in [
            ("POST", "/users/1", "GET, HEAD, OPTIONS"),
            ("DELETE", "/", "GET, HEAD, OPTIONS"),
            ("GET", "/echo", "OPTIONS, POST"),
            ("UNREGISTERED", "/echo", "OPTIONS, POST"),
            ("get", "/users/1", "GET, HEAD, OPTIONS"),
        ] {
            let response = ask(&server, &format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            assert_eq!(response.status, 405, "{method} {path}");
            let mut allowed: Vec<_> = response.field("allow").unwrap().split(", ").collect();
            allowed.sort_unstable();
            assert_eq!(allowed.join(", "), allow, "{method} {path}");
        }
    });
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for path in ["/", "/users/1", "/later/1", "/large/1", "/stream", "/none", "/fail"] {
            let mut client = server.client();
            let get = client.get(path).without_noise();
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let head = client.response_to_head();
            assert!(head.body.is_empty());
            let fields: Vec<_> = head.fields.iter().filter(|(name, _)| name != "Date").cloned().collect();
            assert_eq!((head.status, fields), (get.status, get.fields), "{path}");
            assert_eq!(client.get("/users/next").text(), "user next", "no byte of a body follows HEAD {path}");
        }
    });
}

#[test]
fn options_tells_what_a_path_takes_and_answers_for_the_server() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let of_path = ask(&server, "OPTIONS /users/1 HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(of_path.status, 204);
        assert!(of_path.field("allow").unwrap().split(", ").any(|method| method == "GET"), "{of_path:?}");
        assert_eq!(ask(&server, "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n").status, 204);
        assert_eq!(ask(&server, "OPTIONS http://test HTTP/1.1\r\nHost: test\r\n\r\n").status, 204);
        assert_eq!(ask(&server, "OPTIONS /none HTTP/1.1\r\nHost: test\r\n\r\n").status, 404);
    });
}

#[test]
fn connect_is_not_implemented() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let mut client = server.client();
        let response = client.send("CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n").response();
        assert_eq!(response.status, 501);
        assert!(!response.text().contains("test:443"));
    });
}

#[test]
fn http_1_0_is_closed_unless_it_asks_to_stay() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let mut client = server.client();
        let response = client.send("GET /users/1 HTTP/1.0\r\n\r\n").response();
        assert_eq!((response.text(), response.closes()), ("user 1", true));
        client.expect_end();
        let mut client = server.client();
        for id in 1..4 {
            client.send(format!("GET /users/{id} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
            let response = client.response();
            assert_eq!((response.text(), response.field("connection")), (&*format!("user {id}"), Some("keep-alive")));
        }
        // No chunks for 1.0: the end of the connection is the end of the body, whatever was asked for.
        let response = client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
        assert_eq!((response.text(), response.closes()), ("one two three", true));
        assert_eq!(response.field("transfer-encoding"), None);
        client.expect_end();
    });
}

#[test]
fn close_wins_over_keep_alive() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for fields in
            ["close", "Close", "keep-alive, close", "close, keep-alive", "x, CLOSE ,y", "x\r\nConnection: close"]
        {
            let mut client = server.client();
            client.send(format!("GET /users/1 HTTP/1.1\r\nHost: test\r\nConnection: {fields}\r\n\r\n{SMUGGLED}"));
            let response = client.response();
            assert_eq!((response.text(), response.closes()), ("user 1", true), "{fields:?}");
            client.expect_end();
        }
    });
}

#[test]
fn targets_in_other_forms_find_the_same_route() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for (target, text) in [
            ("http://test/users/1", "user 1"),
            ("HTTP://TEST/users/1", "user 1"),
            ("http://test:80/users/1", "user 1"),
            ("http://test:/users/1?q", "user 1"),
            ("http://test", "hello"),
            ("http://test?q", "hello"),
            ("/users/%31", "user 1"),
            ("/u%73ers/1", "user 1"),
            ("/x/../users/./1", "user 1"),
            ("/x/%2e%2E/users/1", "user 1"),
            ("/users/%7e%41%c3%a9", "user ~A%C3%A9"),
            ("/files/a/b//c", "file a/b//c"),
            ("/files/a/b/../c/", "file a/c/"),
            ("/users/%252e", "user %252e"),
            ("/users/a+b", "user a+b"),
            ("/users/1?a=%00%2f/../", "user 1"),
        ] {
            let response = ask(&server, &format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            assert_eq!((response.status, response.text()), (200, text), "{target}");
        }
        for host in ["test", "TEST:80", "test:", "127.0.0.1:1", "[::1]", "[::1]:8080", "a_b", "a.b.c."] {
            assert_eq!(ask(&server, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200, "{host}");
        }
    });
}

#[test]
fn lenient_cases_of_the_standard_are_answered() {
    on_each_driver(|driver| {
        let server = serve(driver);
        for request in [
            "\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \t test \t \r\n\r\n",
            "GET / HTTP/1.1\r\nhOST: test\r\nX:\r\n\r\n",
            "GET / HTTP/1.1\r\nX: \u{e9}\r\nHost: test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
            "POST /ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 005\r\n\r\nhello",
            "POST /ignore HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: CHUNKED\r\n\r\n005;a;b=\"c d\"\r\nhello\r\n00\r\nX: y\r\n\r\n",
        ] {
            let response = ask(&server, request);
            assert_eq!((response.status, response.text()), (200, "hello"), "{request:?}");
        }
    });
}

/// Everything that a connection may carry, one behind the other.
const STREAM: &str = "GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\n\
    POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world\
    GET /none?q HTTP/1.1\r\nHost: test\r\nX: y\r\n\r\n\
    POST /collect HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n6;ext=\"v\"\r\n world\r\n0\r\nTrailer: v\r\n\r\n\r\n\
    GET http://test/x/../later/2 HTTP/1.1\r\nHost: test\r\n\r\n\
    POST /ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc\
    POST /ignore HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
    OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n\
    GET /users/last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

fn expect_answers(client: &mut Client, how: &str) {
    let answers = client.responses();
    let texts: Vec<_> = answers.iter().map(|answer| if answer.status == 200 { answer.text() } else { "" }).collect();
    let collected = "11 bytes, sum 1116";
    let expected = ["user 1", collected, "", collected, "later 2", "hello", "hello", "", "user last"];
    assert_eq!(texts, expected, "{how}");
    assert_eq!(
        answers.iter().map(|answer| answer.status).filter(|status| *status != 200).collect::<Vec<_>>(),
        [404, 204]
    );
    assert!(answers.iter().rev().skip(1).all(|answer| !answer.closes()), "{how}");
}

#[test]
fn answers_do_not_depend_on_how_the_requests_were_split() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let request = STREAM.as_bytes();
        send_split(&server, request, &(1..request.len()).collect::<Vec<_>>(), |at, client| {
            expect_answers(client, &format!("split at {at}"));
        });
        assert!(splits(request).len() > 256);
    });
}

#[test]
fn answers_are_the_same_when_requests_come_byte_by_byte() {
    on_each_driver(|driver| {
        let server = serve(driver);
        let mut clients: Vec<_> = (0..16).map(|_| server.client()).collect();
        for byte in STREAM.as_bytes() {
            for client in &mut clients {
                client.send([*byte]);
            }
        }
        for client in &mut clients {
            expect_answers(client, "byte by byte");
        }
    });
}
