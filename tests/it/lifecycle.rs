//! The life of a program: it is ready only when all of its parts are, whoever is to blame for an end is named, and a stop
//! loses nothing.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use ringfort::clock;
use ringfort::lifecycle::{Handle, Launcher, Outcome};
use serde_json::json;

use crate::support::{Client, PATIENCE, Server, Start, on_each_driver, on_hand, wait_until};

const PARTS: &str = "RINGFORT_TEST_PARTS";
const FILE: &str = "RINGFORT_TEST_FILE";

/// Declares the parts that the environment names, in the tests' own application: see `support::app`.
pub(crate) fn declare(launcher: &mut Launcher) {
    let Ok(parts) = std::env::var(PARTS) else { return };
    launcher.service("db", db);
    match parts.as_str() {
        "plain" => {}
        "never-ready" => {
            launcher.service("cache", stuck).after("db").start_within(Duration::from_millis(300));
        }
        "slow" => {
            launcher.service("cache", stuck).after("db").start_within(Duration::from_secs(600));
            launcher.start_within(Duration::from_secs(600));
        }
        "slow-initializer" => {
            launcher.initializer_within("schema", Duration::from_secs(100), || async {
                tracing::info!("the schema is made");
                std::future::pending().await
            });
        }
        "panics-in-stop" => {
            launcher.service("cache", panic_in_stop).after("db");
        }
        "cycle" => {
            launcher.service("cache", stuck).after("queue");
            launcher.service("queue", stuck).after("cache");
        }
        "outermost" => {
            launcher.service("beacon", db).after("workers");
        }
        "checks" => {
            let file = PathBuf::from(std::env::var_os(FILE).unwrap());
            let look = move || {
                let is_there = file.exists();
                async move { if is_there { Ok("it is there".to_owned()) } else { Err("no file".into()) } }
            };
            launcher.check("file", look).every(Duration::from_millis(20));
            let hang = || async { std::future::pending().await };
            launcher.check("far", hang).informative().within(Duration::from_millis(50));
        }
        parts => panic!("unknown parts {parts}"),
    }
}

async fn db(handle: Handle) -> Outcome {
    handle.ready();
    let name = handle.name();
    tracing::info!("{name} is up");
    handle.stopping().await;
    tracing::info!("{name} stops");
    Ok(())
}

async fn stuck(handle: Handle) -> Outcome {
    handle.stopping().await;
    tracing::info!("{} stops", handle.name());
    Ok(())
}

async fn panic_in_stop(handle: Handle) -> Outcome {
    handle.ready();
    handle.stopping().await;
    panic!("the cache is not well");
}

fn start(driver: &'static str, parts: &'static str) -> Start {
    Start::app(driver).prepare(move |command| _ = command.env(PARTS, parts))
}

/// The whole log of a process that ended with a failure.
fn log_of_failure(start: Start) -> Vec<String> {
    let mut process = start.spawn();
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(1));
    process.log()
}

#[track_caller]
fn assert_told(log: &[String], expected: &str) {
    assert!(log.iter().any(|line| line.contains(expected)), "{expected}\n{}", log.join("\n"));
}

fn position(log: &[String], text: &str) -> usize {
    log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}\n{}", log.join("\n")))
}

#[test]
fn a_service_that_never_becomes_ready_is_named_and_nothing_is_served() {
    let log = log_of_failure(start(on_hand("epoll"), "never-ready"));
    let told =
        r#"ringfort: service "cache" did not start: it took longer than 300ms (waiting for it: workers, config)"#;
    assert_told(&log, told);
    assert!(position(&log, "cache stops") < position(&log, "db stops"));
    assert!(!log.iter().any(|line| line.contains(r#""message":"listening""#)));
}

#[test]
fn a_cycle_of_services_is_named_by_its_path_and_nothing_starts() {
    let log = log_of_failure(start(on_hand("epoll"), "cycle"));
    let told = r#"ringfort: services wait for each other: "cache" after "queue" after "cache""#;
    assert_told(&log, told);
    assert!(!log.iter().any(|line| line.contains("db is up")));
}

#[test]
fn a_service_that_panics_in_stop_is_named_and_the_others_are_stopped() {
    let mut server = start(on_hand("epoll"), "panics-in-stop").serve();
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(1));
    let log = server.log();
    let told = r#"ringfort: service "cache" did not stop well: it panicked: the cache is not well"#;
    assert_told(&log, told);
    assert_told(&log, "db stops");
}

#[test]
fn a_signal_during_the_start_takes_it_back_and_the_exit_is_a_failure() {
    let mut process = start(on_hand("epoll"), "slow").spawn();
    let line = process.log_line("admin listening").unwrap();
    let admin = line["address"].as_str().unwrap().parse().unwrap();
    let ready = || Client::connect(admin).get("/readyz");
    wait_until("the cache starts", || ready().text().contains("service cache: starting"));
    let expected = "starting\nservice cache: starting\nservice workers: waiting\nservice config: waiting\n";
    assert_eq!((ready().status, ready().text()), (503, expected));
    assert_eq!(Client::connect(admin).get("/livez").status, 200);
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(1));
    let log = process.log();
    assert_told(&log, "ringfort: SIGTERM came before the start was done; what had started was stopped");
    assert!(position(&log, "cache stops") < position(&log, "db stops"));

    let mut process = start(on_hand("epoll"), "slow-initializer").spawn();
    assert!(process.log_line("the schema is made").is_some());
    process.signal(libc::SIGINT);
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(1));
    assert_told(&process.log(), "ringfort: SIGINT came before the start was done");
}

/// A request whose handler waits for the rest of its body.
fn begin(server: &Server) -> Client {
    let mut client = server.client();
    client.send("POST /collect HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client
}

#[test]
fn a_stop_finishes_every_request_and_ends_soon_after_the_last() {
    // For the clients' side of two servers' connections.
    ringfort::sys::limits::raise_open_files();
    on_each_driver(|driver| {
        let mut server = start(driver, "plain").timeout("drain", "60s").serve();
        let mut idle: Vec<Client> = (0..1000).map(|_| server.client()).collect();
        for client in &mut idle {
            assert_eq!(client.get("/").text(), "hello");
        }
        let in_flight: Vec<Client> = (0..50).map(|_| begin(&server)).collect();
        server.signal(libc::SIGTERM);
        assert!(server.log_line("draining").is_some());
        idle.iter_mut().for_each(Client::expect_end);
        for mut client in in_flight {
            // Told that the connection closes, a client closes its end.
            let response = client.send("hello").response();
            assert_eq!((response.text(), response.closes()), ("5 bytes, sum 532", true));
        }
        let answered = clock::now();
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
        // What is said, and not asserted, for a host may be busy: the figure that is promised is 100 ms.
        eprintln!("{driver}: it ended {:?} after the last of 50 requests", clock::now().since(answered));
        let log = server.log();
        assert!(position(&log, "draining") < position(&log, "db stops"), "handlers may need it until the end");
        assert!(position(&log, "db stops") < position(&log, r#""message":"stopped""#));
    });
}

#[test]
fn before_it_refuses_connections_it_serves_on_and_says_that_it_is_not_ready() {
    on_each_driver(|driver| {
        let mut server = start(driver, "plain").timeout("pre_stop_delay", "10m").serve();
        server.signal(libc::SIGTERM);
        wait_until("it is not ready", || server.admin_get("/readyz").status == 503);
        assert_eq!(server.admin_get("/readyz").text(), "draining\n");
        let mut client = server.client();
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!((response.text(), response.closes()), ("hello", false));
        }
        assert_eq!(server.admin_get("/status").json()["phase"], "draining");
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(1), "it was cut short");
        assert_told(
            &server.log(),
            "ringfort: a second signal (SIGTERM) ended it at once; still running: config, workers, ",
        );

        let mut server = start(driver, "plain").timeout("pre_stop_delay", "300ms").serve();
        let mut client = begin(&server);
        server.signal(libc::SIGTERM);
        let refused =
            || Client::try_connect(server.address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        wait_until("new connections are refused", refused);
        assert_eq!(client.send("hello").response().text(), "5 bytes, sum 532");
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    });
}

#[test]
fn a_service_after_the_workers_starts_last_and_stops_first() {
    let mut server = start(on_hand("epoll"), "outermost").serve();
    let log = server.log();
    assert!(position(&log, "db is up") < position(&log, "beacon is up"));
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    let log = server.log();
    assert!(position(&log, "beacon stops") < position(&log, r#""message":"draining""#));
}

#[test]
fn a_required_check_decides_readiness_and_each_check_is_shown() {
    let file = std::env::temp_dir().join(format!("ringfort-check-{}", std::process::id()));
    let (named, driver) = (file.clone(), on_hand("epoll"));
    let start = Start::app(driver).prepare(move |command| _ = command.env(PARTS, "checks").env(FILE, named));
    let server = start.serve();
    let ready = || server.admin_get("/readyz").text().to_owned();
    wait_until("it is not ready for want of the file", || ready() == "not ready\ncheck file: no file\n");
    let health = server.admin_get("/healthz");
    assert_eq!((health.status, &health.json()["status"]), (503, &"failed".into()));
    std::fs::write(&file, "").unwrap();
    wait_until("it is ready", || ready() == "ok\n");
    let health = || server.admin_get("/healthz");
    wait_until("the other check has hung", || health().text().contains("it took longer than 50ms"));
    assert_eq!((health().status, &health().json()["status"]), (200, &"degraded".into()));
    let checks = health().json()["checks"].as_array().unwrap().clone();
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["phase", "workers", "file", "far"]);
    assert_eq!((&checks[2]["detail"], &checks[2]["weight"]), (&"it is there".into(), &"required".into()));
    assert!(checks.iter().all(|check| check["duration_seconds"].is_number() && check["age_seconds"].is_number()));
    assert_eq!((&checks[3]["status"], &checks[3]["weight"]), (&"failed".into(), &"informative".into()));
    assert_eq!(server.metric("ringfort_health_check_passed", "check=\"file\""), 1.0);
    assert_eq!(server.metric("ringfort_health_check_passed", "check=\"far\""), 0.0);
    std::fs::remove_file(&file).unwrap();
    wait_until("it is ready no more", || server.admin_get("/readyz").status == 503);
}

#[test]
fn an_upstream_without_a_server_is_shown_and_takes_nobody_out_of_traffic() {
    let routes = json!([{ "match": { "path": "/" }, "proxy": { "upstream": "api" } }]);
    let upstream = |is_drained: bool| json!({ "servers": [{ "address": "127.0.0.1:9", "drain": is_drained }] });
    let start =
        Start::command(on_hand("epoll"), routes).upstream("api", upstream(true)).upstream("web", upstream(false));
    let server = start.serve();
    wait_until("the check has run", || server.admin_get("/healthz").json()["status"] == "degraded");
    let health = server.admin_get("/healthz");
    let check = health.json()["checks"][2].clone();
    assert_eq!((health.status, &check["name"]), (200, &"upstreams".into()));
    assert_eq!(check["detail"], "no server is available in api");
    assert_eq!(server.admin_get("/readyz").text(), "ok\n");
}

#[test]
fn phases_and_services_are_shown() {
    let server = start(on_hand("epoll"), "plain").serve();
    let status = server.admin_get("/status").json();
    assert!(status["phase_seconds"].is_number());
    let services = status["services"].as_array().unwrap();
    let names: Vec<_> = services.iter().map(|service| service["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["db", "admin", "log", "metrics", "upstreams", "workers", "config"]);
    for service in services {
        assert!(service["state"] == "ready" && service["failure"].is_null(), "{service}");
        assert!(service["since_seconds"].is_number());
    }
    let after = |at: usize| services[at]["after"][0].as_str();
    assert_eq!([0, 2, 3, 4].map(after), [Some("log"), Some("admin"), Some("log"), Some("log")]);
    assert_eq!(server.metric("ringfort_phase", "phase=\"serving\""), 1.0);
    assert_eq!(server.metric("ringfort_phase", ""), 1.0);
    assert_eq!(server.metric("ringfort_service_state", "service=\"workers\",state=\"ready\""), 1.0);
    assert_eq!(server.metric("ringfort_service_state", "state=\"ready\""), 7.0);
}
