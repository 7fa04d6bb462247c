//! How the access log is written: beside the requests, into files that are rotated, and never with a secret.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::Log;
use crate::support::upstream::Upstream;
use crate::support::{Client, Start, on_each_driver, on_hand, wait_until};

fn fixed() -> Value {
    json!([{ "match": { "path": "/*rest" }, "respond": { "text": "hello" } }])
}

#[test]
fn after_a_rename_and_sighup_lines_go_to_a_new_file_and_none_is_lost() {
    on_each_driver(|driver| {
        let log = Log::new();
        let process_log = log.folder.join("process.log");
        let start = Start::command(driver, fixed()).log("file", process_log.to_str().unwrap());
        // Where it listens is told in a file, which only a test that knows it can read.
        let server = log.of_all(start).serve_from_log(&process_log);
        let (old, stop) = (log.folder.join("access.log.1"), AtomicBool::new(false));
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut client = server.client();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) || count < 50 {
                    assert_eq!(client.get(&format!("/{count}")).status, 200);
                    count += 1;
                }
                count
            });
            wait_until("the first lines", || !log.lines().is_empty());
            fs::rename(log.path(), &old).unwrap();
            fs::rename(&process_log, process_log.with_extension("1")).unwrap();
            server.signal(libc::SIGHUP);
            wait_until("a new file with lines", || log.path().exists() && !log.lines().is_empty());
            wait_until("the process log too", || process_log.exists());
            stop.store(true, Ordering::Relaxed);
            asking.join().unwrap()
        });
        let mut server = server;
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit(Duration::from_secs(20)).success(), "SIGHUP is no reason to stop");
        let text = fs::read_to_string(&old).unwrap() + &fs::read_to_string(log.path()).unwrap();
        let paths: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<_> = (0..asked).map(|number| format!("/{number}")).collect();
        assert_eq!(paths, expected);
        assert!(fs::read_to_string(&process_log).unwrap().contains("stopped"));
    });
}

#[test]
fn lines_that_nobody_reads_are_dropped_and_counted_and_no_request_waits() {
    const REQUESTS: usize = 3_000;
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Start::command(on_hand("epoll"), fixed())
        .workers(1)
        .log("access", "all")
        .prepare(move |command| {
            command.stdout(Stdio::from(writer));
        })
        .serve();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {}\r\n\r\n", "u".repeat(1500));
    let mut client = server.client();
    for _ in 0..REQUESTS / 10 {
        client.send(request.repeat(10));
        for _ in 0..10 {
            assert_eq!(client.response().status, 200);
        }
    }
    let dropped = || server.metric("ringfort_access_log_lines_dropped_total", "reason=\"queue\"") as usize;
    wait_until("lines are dropped", || dropped() > 0);
    // The rest is there once somebody reads, whole.
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in BufReader::new(reader).lines() {
                assert_eq!(serde_json::from_str::<Value>(&line.unwrap()).unwrap()["status"], 200);
                read.fetch_add(1, Ordering::SeqCst);
            }
        });
        wait_until("each line is read or counted", || read.load(Ordering::SeqCst) + dropped() == REQUESTS);
        server.signal(libc::SIGTERM);
    });
}

#[test]
fn the_logs_are_written_to_their_end_before_the_admin_listener_closes() {
    const REQUESTS: usize = 500;
    on_each_driver(|driver| {
        let log = Log::new();
        let process_log = log.folder.join("process.log");
        let start = Start::command(driver, fixed()).log("file", process_log.to_str().unwrap());
        let mut server = log.of_all(start).serve_from_log(&process_log);
        let mut client = server.client();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(REQUESTS));
        for _ in 0..REQUESTS {
            assert_eq!(client.response().status, 200);
        }
        server.signal(libc::SIGTERM);
        wait_until("the admin listener closes", || Client::try_connect(server.admin).is_err());
        assert_eq!(log.lines().len(), REQUESTS);
        assert!(fs::read_to_string(&process_log).unwrap().contains("draining"));
        assert!(server.wait_exit(Duration::from_secs(20)).success());
        assert!(fs::read_to_string(&process_log).unwrap().contains("stopped"), "and what comes after that");
    });
}

#[test]
fn a_full_disk_is_counted_and_survived() {
    let server = Start::command(on_hand("epoll"), fixed())
        .workers(1)
        .log("access", "all")
        .log("access_file", "/dev/full")
        .serve();
    let mut client = server.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    server.wait_metric("ringfort_access_log_lines_dropped_total", "reason=\"write\"", 20.0);
    assert!(server.log().iter().any(|line| line.contains("the access log cannot be written")), "{:?}", server.log());
}

#[test]
fn a_text_form_has_one_line_a_request_with_values_in_quotes() {
    let log = Log::new();
    let start = Start::app(on_hand("epoll")).log("format", "text");
    let server = log.of_all(start).log("fields", json!(["method", "path", "status", "user_agent"])).serve();
    server.client().send("GET /users/1 HTTP/1.1\r\nHost: x\r\nUser-Agent: a\" status=1\r\n\r\n").response();
    wait_until("the line", || fs::read_to_string(log.path()).unwrap().ends_with('\n'));
    let text = fs::read_to_string(log.path()).unwrap();
    assert_eq!(text, "method=\"GET\" path=\"/users/1\" status=200 user_agent=\"a\\\" status=1\"\n");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_told_at_the_start() {
    for key in ["file", "access_file"] {
        let log = Log::new();
        // A folder is there, but may not be written to: not even by root.
        let start = Start::command(on_hand("epoll"), fixed()).log("access", "all").log(key, "/proc/ringfort.log");
        let mut process = start.spawn();
        assert!(!process.wait_exit(Duration::from_secs(20)).success(), "{key}");
        assert!(process.log().iter().any(|line| line.contains("log")), "{:?}", process.log());
        drop(log);
    }
}

/// At the most talkative level, with every field, on ways that fail.
#[test]
fn credentials_stand_in_no_log() {
    let log = Log::new();
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            assert!(request.head.contains("hush-cookie"), "the server behind gets them");
            if request.head.starts_with("GET /fail") {
                return;
            }
            peer.write("HTTP/1.1 200 OK\r\nSet-Cookie: id=hush-set\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let routes = json!([
        { "match": { "path": "/*rest" }, "proxy": { "upstream": "api" } },
        { "match": { "path": "/fixed" }, "respond": { "text": "x" } },
    ]);
    let start = Start::command(on_hand("epoll"), routes)
        .upstream(
            "api",
            json!({ "servers": [{ "address": upstream.address.to_string() }], "retry": { "attempts": 3 } }),
        )
        .log("level", "trace");
    let server = log.of_all(start).serve();
    let secrets = "Authorization: Bearer hush-token\r\nCookie: session=hush-cookie\r\nProxy-Authorization: Basic \
                   hush-proxy\r\n";
    for line in ["GET /good", "GET /fail", "GET /fixed", "POST /fixed", "GET /none"] {
        server.client().send(format!("{line} HTTP/1.1\r\nHost: x\r\n{secrets}Connection: close\r\n\r\n")).rest();
    }
    // What cannot be parsed may be anything.
    for broken in [
        format!("{secrets}GET / HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{secrets}Host : x\r\n\r\n"),
        "hush-first-line HTTP/1.1\r\n\r\n".to_owned(),
        "GET hush-target HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        server.client().send(broken).rest();
    }
    log.wait(9);
    let mut server = server;
    server.signal(libc::SIGTERM);
    server.wait_exit(Duration::from_secs(20));
    let all = fs::read_to_string(log.path()).unwrap() + &server.log().join("\n");
    assert!(all.contains("\"path\":\"/good\"") && all.contains("DEBUG"), "the logs are there");
    let shown: Vec<_> = all.lines().filter(|line| line.contains("hush")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}
