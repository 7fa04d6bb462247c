//! Faults from outside: strace has the kernel's io_uring calls fail, and nobody but the log and the metrics notices.
//!
//! Ignored by default, for they need strace and take some seconds: `cargo test --test it faults:: -- --ignored`, which
//! `scripts/check --deep` runs. `fallback` shows refusals as containers make them, by a filter that stays for good; here
//! single calls fail, by number and thread.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::json;

use crate::support::{Client, PATIENCE, Server, Start};

/// Has strace run the command, failing calls as its option `inject` says, and note each call in a file.
fn inject(command: &mut Command, record: &Path, what: &str) {
    let (call, _) = what.split_once(':').unwrap();
    let mut traced = Command::new("strace");
    // -D: the server stays the child that is waited for and signalled, and strace is its grandchild.
    traced.args(["-D", "-f", "-qq", "-e", &format!("trace={call}"), "-e", "signal=none"]);
    traced.args(["-e", &format!("inject={what}"), "-o"]).arg(record);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    *command = traced;
}

/// What strace saw of one server.
struct Record(PathBuf);

impl Record {
    fn new(what: &str) -> Self {
        let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Self(env::temp_dir().join(format!("ringfort-faults-{}-{name}", std::process::id())))
    }

    /// Calls in all, and those that were failed. To be read when the server has ended.
    fn calls(&self) -> (usize, usize) {
        let text = fs::read_to_string(&self.0).unwrap();
        let calls = text.lines().filter(|line| line.contains("io_uring_") && !line.contains(" resumed>"));
        (calls.count(), text.matches("(INJECTED)").count())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn start(driver: &'static str, what: &'static str, record: &Record) -> Start {
    let installed = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
    assert!(installed.is_ok_and(|status| status.success()), "this test needs strace: apt-get install strace");
    let record = record.0.clone();
    let routes = json!([{"match": {"path": "/users/:id"}, "respond": {"text": "user {id}"}}]);
    Start::command(driver, routes).prepare(move |command| inject(command, &record, what))
}

/// Each refusal of io_uring_setup, and a part of the cause that is told.
const REFUSALS: [(&str, &str); 5] = [
    ("io_uring_setup:error=EPERM", "io_uring"),
    ("io_uring_setup:error=ENOSYS", "io_uring"),
    ("io_uring_setup:error=ENOMEM", "no memory for a ring"),
    // The first call of each thread is a probe, which passes here; the second is compio's.
    ("io_uring_setup:error=ENOMEM:when=2+", ""),
    ("io_uring_setup:error=EPERM:when=2+", ""),
];

#[test]
#[ignore = "needs strace; scripts/check --deep runs it"]
fn a_refused_ring_is_answered_by_epoll_whichever_call_is_refused() {
    for (what, cause) in REFUSALS {
        let record = Record::new(what);
        let mut server = start("auto", what, &record).serve();
        assert_eq!(server.get("/users/1").text(), "user 1", "{what}");
        let line = server.log_line("io_uring cannot be used").unwrap();
        assert_eq!(line["level"], "WARN");
        assert!(line["cause"].as_str().unwrap().contains(cause), "{what}: {line}");
        assert!(line["fix"].as_str().unwrap().len() > 20, "{what}: {line}");
        server.wait_metric("ringfort_driver_info", "driver=\"epoll\"", 2.0);
        server.wait_metric("ringfort_driver_info", "driver=\"io_uring\"", 0.0);
        server.wait_metric("ringfort_driver_fallbacks_total", "", 2.0);
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0), "{what}");
        assert!(record.calls().1 >= 3, "{what}: the master and two workers were refused");
    }
}

#[test]
#[ignore = "needs strace; scripts/check --deep runs it"]
fn a_refused_ring_that_was_asked_for_by_name_ends_the_start_and_is_explained() {
    for (what, cause) in REFUSALS {
        let record = Record::new(&format!("{what} by name"));
        let mut process = start("io_uring", what, &record).spawn();
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(1), "{what}");
        let log = process.log().join("\n");
        assert!(log.contains("driver io_uring: ") && log.contains("to fix: ") && log.contains(cause), "{what}: {log}");
        assert!(!log.contains("\"listening\"") && !log.contains("panicked"), "{what}: {log}");
    }
}

/// compio asks the kernel for its operations with a third ring. When that came after the start and was refused, the server
/// said that it listened and refused every connection.
#[test]
#[ignore = "needs strace; scripts/check --deep runs it"]
fn a_server_that_says_it_listens_serves_whichever_ring_is_refused_late() {
    for what in ["io_uring_setup:error=ENOMEM:when=3+", "io_uring_setup:error=ENOMEM:when=3"] {
        let record = Record::new(what);
        let mut server = start("auto", what, &record).serve();
        for number in 0..8 {
            assert_eq!(server.get(&format!("/users/{number}")).text(), format!("user {number}"), "{what}");
        }
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0), "{what}");
        assert!(!server.log().iter().any(|line| line.contains("panicked")), "{what}: {:?}", server.log());
    }
}

/// Requests that one client sends one by one on a connection, and then in batches on the same.
const REQUESTS: usize = 200;
const BATCH: usize = 16;
const CLIENTS: usize = 4;
/// Connections with one request each.
const CONNECTIONS: usize = 60;

fn ask_in_all_ways(server: &Server) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.client();
                for number in 0..REQUESTS {
                    assert_eq!(client.get(&format!("/users/{number}")).text(), format!("user {number}"));
                }
                for number in (0..REQUESTS).step_by(BATCH) {
                    let batch = (number..number + BATCH)
                        .map(|number| format!("GET /users/{number} HTTP/1.1\r\nHost: t\r\n\r\n"));
                    client.send(batch.collect::<String>());
                    for number in number..number + BATCH {
                        assert_eq!(client.response().text(), format!("user {number}"));
                    }
                }
            });
        }
        for number in 0..CONNECTIONS {
            assert_eq!(
                Client::connect(server.address).get(&format!("/users/{number}")).text(),
                format!("user {number}")
            );
        }
    });
}

/// Failing calls of io_uring_enter, counted on each thread: now and then, every other one, and many in a row.
const FAILURES: [&str; 7] = [
    "io_uring_enter:error=EINTR:when=5+7",
    "io_uring_enter:error=EAGAIN:when=5+7",
    "io_uring_enter:error=EBUSY:when=5+7",
    "io_uring_enter:error=EAGAIN:when=2+2",
    "io_uring_enter:error=EINTR:when=20..300",
    "io_uring_enter:error=EAGAIN:when=20..300",
    "io_uring_enter:error=EBUSY:when=20..300",
];

#[test]
#[ignore = "needs strace; scripts/check --deep runs it"]
fn a_call_into_the_ring_that_fails_harms_no_request_no_connection_and_no_drain() {
    if let Err(refusal) = ringfort::sys::probe::io_uring() {
        eprintln!("io_uring is not tested on this host: {refusal}");
        return;
    }
    for what in FAILURES {
        let record = Record::new(what);
        let mut server = start("io_uring", what, &record).serve();
        ask_in_all_ways(&server);
        let asked = CLIENTS * (REQUESTS + REQUESTS.div_ceil(BATCH) * BATCH) + CONNECTIONS;
        server.wait_metric("ringfort_requests_total", "class=\"2xx\"", asked as f64);
        // A connection that waits while the server leaves is told so.
        let mut idle = server.client();
        assert_eq!(idle.get("/users/1").text(), "user 1");
        server.signal(libc::SIGTERM);
        idle.expect_end();
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0), "{what}");
        let log = server.log().join("\n");
        assert!(log.contains("\"stopped\"") && !log.contains("panicked") && !log.contains("cut connections"), "{log}");
        let (calls, failed) = record.calls();
        assert!(failed > 20, "{what}: only {failed} of {calls} calls were failed");
        // Someone who spins while there is nothing to do makes tens of thousands in the second or two of this test.
        assert!(calls - failed < 4 * asked, "{what}: {calls} calls, {failed} of them failed, for {asked} requests");
        eprintln!("{what}: {failed} of {calls} calls failed, {asked} requests answered");
    }
}
