//! Workers that break down or stall: told of, alone in it, and soon back.

use std::io::ErrorKind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::app::BREAKS_AT_START;
use crate::support::{Client, PATIENCE, Server, Start, on_each_driver, wait_until};

/// A connection, and the number of the worker that serves it.
struct Served {
    client: Client,
    worker: usize,
}

impl Served {
    /// A new connection, to whichever worker gets it.
    fn connect(server: &Server) -> Self {
        let mut client = server.client();
        let worker = client.get("/worker").text().strip_prefix("ringfort-").unwrap().parse().unwrap();
        Self { client, worker }
    }

    /// A new connection to this worker.
    fn connect_to(server: &Server, worker: usize) -> Self {
        loop {
            let served = Self::connect(server);
            if served.worker == worker {
                return served;
            }
        }
    }
}

/// What `/status` says of a worker.
fn status(server: &Server, worker: usize) -> serde_json::Value {
    server.admin_get("/status").json()["workers"][worker].clone()
}

/// Has a worker break down, and waits until the master knows of it. It had broken down so often before.
fn break_down(server: &mut Server, worker: usize, before: usize) {
    let mut fatal = Served::connect_to(server, worker).client;
    fatal.send("GET /break-down HTTP/1.1\r\nHost: test\r\n\r\n").rest();
    wait_until("the master knows", || {
        server.log().iter().filter(|line| line.contains("a worker broke down")).count() > before
    });
}

#[test]
fn a_worker_that_breaks_down_loses_its_own_connections_alone_and_nobody_is_refused() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).timeout("drain", "60s").serve();
        let [mut own, mut other] = [0, 1].map(|worker| Served::connect_to(&server, worker).client);
        let mut uploading = Served::connect_to(&server, 1).client;
        uploading.send("POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe");
        for round in 0..3 {
            break_down(&mut server, 0, round);
            // Those of them that are in its queue wait there until it is back: longer each time.
            let mut waiting: Vec<Client> = (0..32).map(|_| server.client()).collect();
            for client in &mut waiting {
                assert_eq!(client.get("/").text(), "hello");
            }
            assert_eq!(other.get("/").text(), "hello", "round {round}");
        }
        assert!(own.rest().is_empty());
        for (worker, restarts) in [(0, 3), (1, 0)] {
            wait_until("it is back", || status(&server, worker)["state"] == "running");
            assert_eq!(status(&server, worker)["restarts"], restarts);
            assert_eq!(status(&server, worker)["stalls"], 0);
        }
        assert!(server.log_line("a worker that broke down accepts connections again").is_some());
        server.wait_metric("ringfort_worker_restarts_total", "", 3.0);
        server.wait_metric("ringfort_worker_up", "", 2.0);
        // Those of the worker that broke down are counted too, and closed: of its connections none is left but these.
        assert_eq!(Served::connect_to(&server, 0).client.get("/worker").text(), "ringfort-0");
        server.wait_metric("ringfort_requests_total", "class=\"5xx\"", 0.0);
        server.wait_metric("ringfort_connections_open", "", 2.0);
        assert_eq!(server.admin_get("/livez").status, 200);
        server.signal(libc::SIGTERM);
        // Nobody is left who holds the sockets: not the master, not what was left of the worker that broke down.
        wait_until("new connections are refused", || {
            Client::try_connect(server.address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        assert_eq!(
            uploading.send("llo").response().text(),
            "5 bytes, sum 532",
            "it was on the other worker all the time"
        );
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    });
}

#[test]
fn clients_that_connect_all_the_time_are_never_refused_while_workers_break_down() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).serve();
        let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (address, over, answered) = (server.address, &over, &answered);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        // One that a worker had taken when it broke down gets no answer.
                        let mut client = Client::try_connect(address).unwrap_or_else(|error| panic!("{error}"));
                        let asked = client.try_send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
                        if asked.is_ok() && client.next(false).is_ok_and(|response| response.is_some()) {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for (round, worker) in [0, 1, 0, 1].into_iter().enumerate() {
                break_down(&mut server, worker, round);
                let before = answered.load(Ordering::Relaxed);
                wait_until("they are served", || answered.load(Ordering::Relaxed) > before + 50);
            }
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_worker_that_stalls_is_named_with_what_it_was_at_and_goes_on() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).stall("1s").serve();
        let [mut blocked, mut free] = [0, 1].map(|worker| Served::connect_to(&server, worker).client);
        assert_eq!(server.admin_get("/livez").status, 200);
        for stalls in 1..3 {
            blocked.send("GET /block HTTP/1.1\r\nHost: test\r\n\r\n");
            wait_until("it is counted", || status(&server, 0)["stalls"] == stalls);
            let line = server.log_line("a worker has stalled").unwrap();
            assert_eq!((&line["worker"], &line["level"]), (&0.into(), &"WARN".into()), "{line}");
            assert_eq!(line["last_activity"], "request of route /block", "{line}");
            assert_eq!(server.admin_get("/livez").status, 503);
            let stalled = status(&server, 0);
            assert_eq!((&stalled["last_activity"], &stalled["state"]), (&line["last_activity"], &"running".into()));
            assert!(stalled["heartbeat_age_seconds"].as_f64().unwrap() > 1.0, "{stalled}");
            assert!(server.metric("ringfort_worker_heartbeat_age_seconds", "") > 1.0);
            assert_eq!(free.get("/").text(), "hello", "the other worker serves");
            assert_eq!(server.metric("ringfort_worker_stalls_total", ""), f64::from(stalls), "once, however long");
            free.get("/release");
            assert_eq!(blocked.response().text(), "released");
            wait_until("it is alive again", || server.admin_get("/livez").status == 200);
            wait_until("that is told", || {
                let goes_on = |line: &&String| line.contains("a worker that had stalled goes on");
                server.log().iter().filter(goes_on).count() == stalls as usize
            });
        }
        assert_eq!(status(&server, 0)["restarts"], 0);
    });
}

#[test]
fn a_worker_that_cannot_even_begin_ends_the_start() {
    on_each_driver(|driver| {
        let breaks = |command: &mut Command| _ = command.env(BREAKS_AT_START, "1");
        let mut process = Start::app(driver).prepare(breaks).spawn();
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(1));
        assert!(process.log().iter().any(|line| line.contains("ended: it panicked")), "{:?}", process.log());
    });
}
