//! The admin listener: health, state, and metrics that a scraper takes and that move.

#[path = "../../src/metrics/validator.rs"]
mod validator;

use crate::support::{PATIENCE, Server, Start, executor, on_each_driver, wait_until};

#[test]
fn a_serving_process_is_alive_ready_and_healthy() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        for path in ["/livez", "/readyz"] {
            let response = server.admin_get(path);
            assert_eq!((response.status, response.text()), (200, "ok\n"), "{path}");
            assert_eq!(response.field("cache-control"), Some("no-store"), "{path}");
        }
        let health = server.admin_get("/healthz");
        assert_eq!(health.status, 200);
        assert_eq!(health.json()["status"], "ok");
        let checks = health.json()["checks"].as_array().unwrap().clone();
        assert!(!checks.is_empty() && checks.iter().all(|check| check["status"] == "ok"), "{checks:?}");
        assert!(server.admin_get("/").text().contains("/metrics"));
        assert_eq!(server.admin_get("/none").status, 404);
        assert_eq!(server.get("/metrics").status, 404, "the admin routes are not on the public listener");
    });
}

#[test]
fn the_state_of_the_process_is_shown() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let status = server.admin_get("/status").json();
        assert_eq!(status["phase"], "serving");
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["generation"], 1);
        assert_eq!(status["listen"][0], server.address.to_string());
        assert_eq!(status["admin"], server.admin.to_string());
        let workers = status["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2);
        assert!(workers.iter().all(|worker| worker["driver"] == driver && worker["ended"].is_null()), "{workers:?}");
        assert!(workers.iter().all(|worker| worker["executor"] == executor().name()), "{workers:?}");
        assert!(status["process"]["threads"].as_u64().unwrap() >= 3 && status["metrics"].is_object());

        let config = server.admin_get("/config").json();
        assert_eq!(config["server"]["listen"][0], "127.0.0.1:0");
        assert_eq!(config["cores"]["driver"], driver);
        assert!(config["server"]["timeouts"]["idle"].is_string(), "values that are not in the file are shown too");

        let routes = server.admin_get("/routes").json();
        let route =
            |path: &str| routes["routes"].as_array().unwrap().iter().find(|route| route["path"] == path).cloned();
        let echo = route("/echo").unwrap();
        assert_eq!((&echo["handler"], &echo["methods"][0]), (&"application".into(), &"POST".into()));
        assert!(route("/users/:id").is_some());
    });
}

#[test]
fn metrics_are_well_formed_and_count_what_was_asked() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        for _ in 0..7 {
            client.get("/users/1");
        }
        client.get("/none");
        client.get("/fail");
        server.client().send("BAD\r\n\r\n").response();
        for (name, labels, expected) in [
            ("ringfort_requests_total", "class=\"2xx\"", 7.0),
            ("ringfort_requests_total", "class=\"4xx\"", 2.0),
            ("ringfort_requests_total", "class=\"5xx\"", 1.0),
            ("ringfort_route_requests_total", "route=\"/users/:id\",class=\"2xx\"", 7.0),
            ("ringfort_route_requests_total", "route=\"/fail\",class=\"5xx\"", 1.0),
            ("ringfort_request_duration_seconds_count", "class=\"2xx\"", 7.0),
            ("ringfort_bad_requests_total", "reason=\"syntax\"", 1.0),
            ("ringfort_connections_accepted_total", "", 2.0),
            ("ringfort_connections_open", "", 1.0),
            ("ringfort_keepalive_reuses_total", "", 8.0),
            ("ringfort_worker_up", "", 2.0),
            ("ringfort_build_info", &format!("executor=\"{}\"", executor().name()), 1.0),
            ("ringfort_driver_info", &format!("driver=\"{driver}\""), 2.0),
        ] {
            server.wait_metric(name, labels, expected);
        }
        let exposition = server.admin_get("/metrics");
        assert!(exposition.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
        let samples = validator::check(exposition.text()).unwrap();
        assert!(samples.len() > 50 && samples.keys().any(|series| series.starts_with("process_open_fds")));
        assert!(samples.keys().all(|series| !series.contains("none")), "no label comes from a request");
    });
}

#[test]
fn percentiles_appear_in_the_windows_of_the_status() {
    on_each_driver(|driver| {
        let server = Start::app(driver).serve();
        let mut client = server.client();
        wait_until("a window has its percentiles", || {
            client.get("/");
            let labels = "core=\"all\",window=\"60s\",quantile=\"0.5\"";
            server.metric("ringfort_request_duration_window_seconds", labels) > 0.0
        });
        assert!(server.admin_get("/status").json()["metrics"].to_string().contains("p50"));
    });
}

fn phase(server: &Server) -> (u16, String) {
    let response = server.admin_get("/readyz");
    (response.status, response.text().to_owned())
}

#[test]
fn a_process_that_leaves_is_alive_and_not_ready() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).workers(1).timeout("drain", "10m").serve();
        let mut stuck = server.client();
        stuck.send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n").wait_for(b"begun");
        assert_eq!(phase(&server), (200, "ok\n".to_owned()));
        server.signal(libc::SIGTERM);
        wait_until("it is not ready", || phase(&server) == (503, "draining\n".to_owned()));
        assert_eq!(server.admin_get("/healthz").status, 503);
        assert_eq!(server.admin_get("/livez").status, 200);
        assert_eq!(server.admin_get("/status").json()["phase"], "draining");
        server.wait_metric("ringfort_draining", "", 1.0);
        server.signal(libc::SIGTERM);
        server.wait_exit(PATIENCE);
    });
}

#[test]
fn a_worker_that_has_drained_before_the_others_is_no_reason_to_kill_the_process() {
    on_each_driver(|driver| {
        let server = Start::app(driver).timeout("drain", "10m").serve();
        let mut stuck = server.client();
        stuck.send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n").wait_for(b"begun");
        server.signal(libc::SIGTERM);
        wait_until("the idle worker has left", || {
            let workers = server.admin_get("/status").json()["workers"].clone();
            workers.as_array().unwrap().iter().any(|worker| worker["ended"] == "stopped")
        });
        assert_eq!(server.admin_get("/livez").status, 200);
    });
}
