//! The access log of a running server, and how its requests are called.

mod forwarded;
mod identity;
mod writing;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use ringfort::log::access::Field;
use serde_json::{Value, json};

use crate::support::{Server, Start, on_each_driver, on_hand, wait_until};

/// A file for an access log, in a folder that goes with it.
struct Log {
    folder: PathBuf,
}

impl Log {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ringfort-it-access-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// Has all fields of all requests logged in here.
    fn of_all(&self, start: Start) -> Start {
        let fields: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
        start.log("access", "all").log("access_file", self.path().to_str().unwrap()).log("fields", fields)
    }

    /// The lines so far, all of which are whole.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path()).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits for so many lines; more are a failure.
    #[track_caller]
    fn wait(&self, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        wait_until(&format!("{count} lines in the access log"), || {
            lines = self.lines();
            lines.len() >= count
        });
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sends `request` on a connection of its own, which the server closes: how many bytes came.
fn send(server: &Server, request: &str) -> usize {
    server.client().send(request).rest().len()
}

/// One thing that `key` of a line is.
fn has(line: &Value, key: &str, value: impl Into<Value>) -> bool {
    line[key] == value.into()
}

#[test]
fn each_request_has_one_line_with_what_it_was_and_what_became_of_it() {
    on_each_driver(|driver| {
        let log = Log::new();
        let server = log.of_all(Start::app(driver)).serve();
        let request = "GET /users/7?token=x HTTP/1.1\r\nHost: a.example:81\r\nUser-Agent: tester \"1\"\r\n\
                       Referer: http://b.example/from?q\r\nConnection: close\r\n\r\n";
        let got = send(&server, request);
        let line = &log.wait(1)[0];
        for (key, value) in [
            ("method", json!("GET")),
            ("path", json!("/users/7")),
            ("query", json!("token=x")),
            ("host", json!("a.example:81")),
            ("protocol", json!("HTTP/1.1")),
            ("status", json!(200)),
            ("request_bytes", json!(request.len())),
            ("response_bytes", json!(got)),
            ("route", json!("/users/:id")),
            ("user_agent", json!("tester \"1\"")),
            ("referer", json!("http://b.example/from")),
            ("termination", json!("--")),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert_eq!(line["id"].as_str().unwrap().len(), 16);
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["duration_us"].is_u64());
        assert!(line["worker"].as_u64().unwrap() < 2);
        for absent in ["upstream", "server", "attempts", "upstream_us", "trace_id"] {
            assert!(line.get(absent).is_none(), "{absent}: {line}");
        }
    });
}

#[test]
fn every_way_to_end_has_its_line() {
    on_each_driver(|driver| {
        let log = Log::new();
        let server = log.of_all(Start::app(driver).limit("body", "1KiB")).serve();
        let close = "Host: x\r\nConnection: close\r\n";
        let cases = [
            (format!("HEAD / HTTP/1.1\r\n{close}\r\n"), 200, "--", Some("/")),
            (format!("GET /later/1 HTTP/1.0\r\n{close}\r\n"), 200, "--", Some("/later/:id")),
            (format!("GET /nowhere HTTP/1.1\r\n{close}\r\n"), 404, "--", None),
            (format!("DELETE /stream HTTP/1.1\r\n{close}\r\n"), 405, "--", None),
            (format!("GET /stream HTTP/1.1\r\n{close}\r\n"), 200, "--", Some("/stream")),
            (format!("GET /panic HTTP/1.1\r\n{close}\r\n"), 500, "GH-internal", Some("/panic")),
            (format!("GET /panic/later HTTP/1.1\r\n{close}\r\n"), 500, "GH-internal", Some("/panic/later")),
            (format!("GET /silent HTTP/1.1\r\n{close}\r\n"), 500, "GH-internal", Some("/silent")),
            (format!("GET /cut HTTP/1.1\r\n{close}\r\n"), 200, "GH-internal", Some("/cut")),
            (format!("POST /collect HTTP/1.1\r\nContent-Length: 3\r\n{close}\r\nabc"), 200, "--", Some("/collect")),
            (
                format!("POST /collect HTTP/1.1\r\nContent-Length: 9999\r\n{close}\r\n"),
                413,
                "CQ-too_large",
                Some("/collect"),
            ),
            (
                format!("POST /collect HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{close}\r\nx\r\n"),
                400,
                "CQ-invalid",
                Some("/collect"),
            ),
            ("GET /bad?x HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), 400, "CQ-invalid", None),
        ];
        for (index, (request, status, code, route)) in cases.iter().enumerate() {
            let got = send(&server, request);
            let line = &log.wait(index + 1)[index];
            let is_right = has(line, "status", *status) && has(line, "termination", *code);
            let target = request.split(' ').nth(1).unwrap().split('?').next().unwrap();
            assert!(is_right && line["route"].as_str() == *route, "{request}: {line}");
            assert!(has(line, "path", target) && has(line, "response_bytes", got), "{request}: {got} {line}");
            if *status != 400 && *status != 413 {
                assert_eq!(line["request_bytes"], request.len(), "{request}");
            }
        }
    });
}

#[test]
fn a_head_that_comes_too_slowly_is_logged_as_far_as_it_came() {
    on_each_driver(|driver| {
        let log = Log::new();
        let server = log.of_all(Start::app(driver).timeout("head", "200ms")).serve();
        let head = "GET /slow/head HTTP/1.1\r\nHost:";
        let got = send(&server, head);
        let line = &log.wait(1)[0];
        assert!(has(line, "status", 408) && has(line, "termination", "CQ-timeout"), "{line}");
        assert!(has(line, "method", "GET") && has(line, "path", "/slow/head"), "{line}");
        assert!(has(line, "request_bytes", head.len()) && has(line, "response_bytes", got), "{line}");
    });
}

#[test]
fn pipelined_requests_have_a_line_each_in_their_order() {
    on_each_driver(|driver| {
        let log = Log::new();
        let server = log.of_all(Start::app(driver)).serve();
        let mut client = server.client();
        let paths: Vec<_> =
            (0..100).map(|n| if n % 7 == 0 { format!("/later/{n}") } else { format!("/users/{n}") }).collect();
        client.send(paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect::<String>());
        for _ in &paths {
            assert_eq!(client.response().status, 200);
        }
        let lines = log.wait(paths.len());
        assert!(lines.iter().map(|line| line["path"].as_str().unwrap()).eq(paths.iter().map(String::as_str)));
        let mut ids: Vec<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        ids.dedup();
        assert_eq!(ids.len(), paths.len());
    });
}

#[test]
fn a_client_that_leaves_is_told_by_status_or_termination() {
    on_each_driver(|driver| {
        let log = Log::new();
        let server = log.of_all(Start::app(driver)).serve();
        let mut waiting = server.client();
        waiting.send("GET /slow/600000 HTTP/1.1\r\nHost: x\r\n\r\n");
        server.wait_metric("ringfort_requests_in_flight", "", 1.0);
        // Unread bytes would make it a reset; this is one too.
        rustix::net::sockopt::set_socket_linger(waiting.stream(), Some(std::time::Duration::ZERO)).unwrap();
        drop(waiting);
        let line = &log.wait(1)[0];
        assert!(has(line, "status", 499) && has(line, "termination", "CH-gone"), "{line}");
        assert_eq!(line["response_bytes"], 0);
        let mut reading = server.client();
        reading.send("GET /large/64 HTTP/1.1\r\nHost: x\r\n\r\n").wait_for(b"\r\n\r\n");
        drop(reading);
        let line = &log.wait(2)[1];
        assert!(has(line, "status", 200) && has(line, "termination", "CB-gone"), "{line}");
        assert!(line["response_bytes"].as_u64().unwrap() < 64 << 20);
    });
}

#[test]
fn a_request_that_a_stop_cuts_has_its_line_too() {
    on_each_driver(|driver| {
        let log = Log::new();
        let mut server = log.of_all(Start::app(driver).timeout("drain", "100ms")).serve();
        let mut client = server.client();
        client.send("GET /slow/600000 HTTP/1.1\r\nHost: x\r\n\r\n");
        server.wait_metric("ringfort_requests_in_flight", "", 1.0);
        server.signal(libc::SIGTERM);
        server.wait_exit(std::time::Duration::from_secs(20));
        let line = &log.wait(1)[0];
        assert!(has(line, "status", 499) && has(line, "termination", "CH-gone"), "{line}");
        assert!(has(line, "path", "/slow/600000"), "{line}");
    });
}

#[test]
fn errors_are_logged_alone_or_beside_a_sample() {
    for (access, sample) in [("errors", 1.0), ("sampled", 0.2)] {
        let log = Log::new();
        let mut server = log.of_all(Start::app(on_hand("epoll"))).log("access", access).log("sample", sample).serve();
        let mut client = server.client();
        for _ in 0..1000 {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(client.get("/nowhere").status, 404);
        send(&server, "GET /cut HTTP/1.1\r\nHost: x\r\n\r\n");
        // Each core writes its own lines, and the last ones when it stops.
        drop(client);
        server.signal(libc::SIGTERM);
        server.wait_exit(std::time::Duration::from_secs(20));
        let lines = log.lines();
        let (good, bad): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["path"] == "/");
        assert_eq!(bad.len(), 2, "{bad:?}");
        // Five standard deviations.
        let expected = if access == "errors" { 0..=0 } else { 137..=263 };
        assert!(expected.contains(&good.len()), "{access}: {}", good.len());
    }
}

#[test]
fn nothing_is_made_and_nothing_written_while_it_is_off() {
    let log = Log::new();
    let server = log.of_all(Start::app(on_hand("epoll"))).log("access", "off").serve();
    assert_eq!(server.get("/").status, 200);
    assert!(!log.path().exists());
}
