//! Another config without a restart: what changes takes effect, what does not is not touched, and what is wrong changes
//! nothing.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::upstream::{Upstream, ok};
use crate::support::{Client, Server, Start, on_each_driver, on_hand, wait_until};

fn text_route(path: &str, text: &str) -> Value {
    json!({ "match": { "path": path }, "respond": { "text": text } })
}

fn proxy_route(path: &str, upstream: &str) -> Value {
    json!({ "match": { "path": path }, "proxy": { "upstream": upstream } })
}

/// A server that takes up another config only when it is asked to.
fn start(driver: &'static str, routes: Value) -> Start {
    Start::command(on_hand(driver), routes).watch(false)
}

#[track_caller]
fn expect_reloaded(server: &Server, generation: u64) -> Value {
    let answer = server.reload();
    let value = answer.json();
    assert_eq!(
        (answer.status, &value["result"], &value["generation"]),
        (200, &json!("success"), &json!(generation)),
        "{value}"
    );
    assert_eq!(value["workers_late"], json!([]));
    value
}

fn servers(upstreams: &[&Upstream]) -> Value {
    upstreams.iter().map(|server| json!({ "address": server.address.to_string() })).collect()
}

#[test]
fn routes_change_under_connections_that_stay_open() {
    on_each_driver(|driver| {
        let mut server = start(driver, json!([text_route("/a", "old"), text_route("/b", "b")])).serve();
        let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/a").text(), "old");
        }
        server.edit(|config| config["routes"] = json!([text_route("/a", "new"), text_route("/c", "c")]));
        let value = expect_reloaded(&server, 2);
        let routes = json!({ "added": ["/c"], "removed": ["/b"], "changed": ["/a"] });
        assert_eq!(value["changes"]["routes"], routes);
        for client in &mut clients {
            assert_eq!(client.get("/a").text(), "new");
            assert_eq!((client.get("/b").status, client.get("/c").text()), (404, "c"));
        }
        assert_eq!(
            server.metric("ringfort_connections_accepted_total", ""),
            server.metric("ringfort_connections_open", "")
        );
    });
}

#[test]
fn a_request_in_flight_ends_with_the_config_that_it_began_with() {
    let mut server = Start::app(on_hand("epoll")).watch(false).serve();
    let mut in_flight = server.client();
    in_flight.send("POST /collect HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(in_flight.response().status, 100);
    server.edit(|config| config["server"]["limits"]["body"] = json!(3));
    expect_reloaded(&server, 2);
    assert_eq!(server.metric("ringfort_config_generations_live", ""), 2.0);
    assert_eq!(
        server
            .client()
            .send("POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello")
            .response()
            .status,
        413
    );
    assert_eq!(in_flight.send("hello").response().text(), "5 bytes, sum 532");
    server.wait_metric("ringfort_config_generations_live", "", 1.0);
    assert_eq!(server.metric("ringfort_config_generation", ""), 2.0);
}

#[test]
fn requests_are_counted_under_the_routes_of_their_own_config() {
    let mut server = start("epoll", json!([text_route("/one", "1"), text_route("/two", "2")])).workers(1).serve();
    assert_eq!(server.get("/two").status, 200);
    server.wait_metric("ringfort_route_requests_total", "/two", 1.0);
    server.edit(|config| config["routes"] = json!([text_route("/three", "3"), text_route("/four", "4")]));
    expect_reloaded(&server, 2);
    assert_eq!(server.get("/three").status, 200);
    server.wait_metric("ringfort_route_requests_total", "/three", 1.0);
    assert_eq!(server.metric("ringfort_route_requests_total", "/four"), 0.0);
}

#[test]
fn a_config_that_is_wrong_changes_nothing_and_says_why() {
    let mut server = start("epoll", json!([text_route("/a", "old")])).serve();
    let route = json!({ "match": { "path": "a" }, "respond": { "text": "new" } });
    server.edit(|config| config["routes"] = json!([route]));
    let answer = server.reload();
    let value = answer.json();
    assert_eq!((answer.status, &value["result"]), (422, &json!("invalid")), "{value}");
    let error = value["errors"][0].as_str().unwrap();
    assert!(error.starts_with("routes[0].match.path: expected ") && error.contains("did you mean \"/a\"?"), "{error}");
    assert_eq!(server.get("/a").text(), "old");
    let line = server.log_line("the config is wrong").unwrap();
    assert_eq!(line["error"].as_str(), Some(error));
    assert_eq!(server.metric("ringfort_config_reloads_total", "invalid"), 1.0);
    assert_eq!(server.metric("ringfort_config_last_reload_successful", ""), 0.0);
    let status = server.admin_get("/status").json();
    assert_eq!((&status["generation"], &status["reloads"]["last"]["result"]), (&json!(1), &json!("invalid")));
    server.edit(|config| config["routes"] = json!([text_route("/a", "new")]));
    expect_reloaded(&server, 2);
    assert_eq!(server.metric("ringfort_config_last_reload_successful", ""), 1.0);
}

#[test]
fn every_broken_file_is_refused_with_its_places_and_serving_goes_on() {
    // Without flags, which would stand above what a file says.
    let server = Start::app(on_hand("epoll")).watch(false).serve();
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config/bad");
    let mut client = server.client();
    let mut count = 0;
    for file in fs::read_dir(bad).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // As bytes: not all of them are text.
        fs::write(server.config_file(), fs::read(&file).unwrap()).unwrap();
        let answer = server.reload();
        assert_eq!(answer.status, 422, "{}: {}", file.display(), answer.text());
        let value = answer.json();
        let told: Vec<_> = value["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
        for place in fs::read_to_string(file.with_extension("paths")).unwrap().lines() {
            assert!(told.iter().any(|error| error.starts_with(place)), "{}: {place}: {told:?}", file.display());
        }
        assert_eq!(client.get("/").text(), "hello");
        count += 1;
    }
    assert!(count >= 40, "{count} broken files");
    assert_eq!(server.metric("ringfort_config_generation", ""), 1.0);
}

#[test]
fn what_a_reload_cannot_change_is_refused_with_the_reason() {
    let mut server = Start::app(on_hand("epoll")).watch(false).serve();
    server.edit(|config| {
        config["cores"]["ring"]["buffers"] = json!(64);
        config["server"]["timeouts"]["idle"] = json!("1s");
    });
    let answer = server.reload();
    let value = answer.json();
    assert_eq!((answer.status, &value["result"]), (409, &json!("refused")));
    assert_eq!(value["changes"]["fixed"][0]["path"], "cores.ring.buffers");
    assert!(value["detail"].as_str().unwrap().contains("made at the start"), "{value}");
    assert_eq!(server.admin_get("/config").json()["server"]["timeouts"]["idle"], "75s", "nor is the rest");
}

#[test]
fn a_hangup_reads_the_config_again_and_stops_nothing() {
    let mut server = start("epoll", json!([text_route("/a", "old")])).serve();
    server.edit(|config| config["routes"] = json!([text_route("/a", "new")]));
    server.signal(libc::SIGHUP);
    let line = server.log_line("the config was reloaded").unwrap();
    assert_eq!((&line["cause"], &line["generation"]), (&json!("signal"), &json!(2)));
    assert_eq!(server.get("/a").text(), "new");
}

#[test]
fn a_file_that_changes_is_taken_up_by_itself_however_it_is_replaced() {
    let mut server = Start::command(on_hand("epoll"), json!([text_route("/a", "0")])).serve();
    let mut known = Vec::new();
    let expect = |server: &Server, text: &str| wait_until(text, || server.get("/a").text() == text);
    // As an editor does.
    server.edit(|config| config["routes"] = json!([text_route("/a", "renamed")]));
    expect(&server, "renamed");
    // In place.
    server.edit(|config| {
        config["routes"] = json!([text_route("/a", "written")]);
        known = config.to_string().into_bytes();
    });
    fs::write(server.config_file(), &known).unwrap();
    expect(&server, "written");
    // A config map.
    let directory = server.config_file().parent().unwrap().to_owned();
    for text in ["map 1", "map 2", "map 3"] {
        let version = directory.join(format!("..{text}"));
        fs::create_dir(&version).unwrap();
        let config = String::from_utf8(known.clone()).unwrap().replace("written", text);
        fs::write(version.join("ringfort.json"), config).unwrap();
        symlink(version.file_name().unwrap(), directory.join("..next")).unwrap();
        fs::rename(directory.join("..next"), directory.join("..data")).unwrap();
        if text == "map 1" {
            symlink("..data/ringfort.json", directory.join("link")).unwrap();
            fs::rename(directory.join("link"), server.config_file()).unwrap();
        }
        expect(&server, text);
    }
    // One that is gone, and one that is broken, change nothing.
    fs::remove_file(server.config_file()).unwrap();
    wait_until("it is missed", || server.metric("ringfort_config_reloads_total", "invalid") == 1.0);
    server.write_config("{");
    wait_until("it is refused", || server.metric("ringfort_config_reloads_total", "invalid") == 2.0);
    expect(&server, "map 3");
    // The same content is no change.
    let generation = server.metric("ringfort_config_generation", "");
    server.edit(|config| config["routes"] = json!([text_route("/a", "last")]));
    expect(&server, "last");
    server.edit(|_| {});
    server.edit(|config| config["server"]["timeouts"]["idle"] = json!("5s"));
    wait_until("the next change", || server.admin_get("/config").json()["server"]["timeouts"]["idle"] == "5s");
    assert_eq!(server.metric("ringfort_config_generation", ""), generation + 2.0);
}

#[test]
fn addresses_are_opened_and_closed_without_touching_the_others() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).watch(false).serve();
        let mut stays = server.client();
        assert_eq!(stays.get("/").text(), "hello");
        server.edit(|config| config["server"]["listen"] = json!(["127.0.0.1:0", "[::1]:0"]));
        expect_reloaded(&server, 2);
        let listening: Vec<SocketAddr> =
            serde_json::from_value(server.admin_get("/status").json()["listen"].clone()).unwrap();
        assert_eq!(listening[0], server.address, "it was not opened anew");
        let mut second: Vec<Client> = (0..8).map(|_| Client::connect(listening[1])).collect();
        for client in &mut second {
            assert_eq!(client.get("/").text(), "hello");
        }
        server.edit(|config| config["server"]["listen"] = json!(["[::1]:0"]));
        expect_reloaded(&server, 3);
        wait_until("new connections are refused", || Client::try_connect(server.address).is_err());
        assert_eq!(stays.get("/").text(), "hello", "connections of a closed address go on");
        assert_eq!(Client::connect(listening[1]).get("/").text(), "hello");
    });
}

#[test]
fn an_address_that_is_taken_refuses_the_whole_reload() {
    let other = Upstream::answering(|_| ok(""));
    let taken = other.address;
    let mut server = Start::app(on_hand("epoll")).watch(false).serve();
    server.edit(|config| {
        config["server"]["listen"] = json!(["127.0.0.1:0", taken.to_string()]);
        config["server"]["timeouts"]["idle"] = json!("1s");
    });
    let answer = server.reload();
    assert_eq!((answer.status, &answer.json()["result"]), (503, &json!("failed")));
    assert!(answer.json()["detail"].as_str().unwrap().contains(&taken.to_string()));
    assert_eq!(server.admin_get("/config").json()["server"]["timeouts"]["idle"], "75s");
    assert_eq!(server.get("/").text(), "hello");
}

#[test]
fn connections_to_an_upstream_that_does_not_change_are_kept() {
    let (kept, other) = (Upstream::answering(|_| ok("kept")), Upstream::answering(|_| ok("other")));
    let routes = json!([proxy_route("/kept", "kept"), proxy_route("/other", "other")]);
    let mut server = start("epoll", routes)
        .upstream("kept", json!({ "servers": servers(&[&kept]) }))
        .upstream("other", json!({ "servers": servers(&[&other]) }))
        .workers(1)
        .serve();
    let mut client = server.client();
    for generation in 2..6 {
        assert_eq!((client.get("/kept").text(), client.get("/other").text()), ("kept", "other"));
        server.edit(|config| config["upstreams"]["other"]["timeouts"] = json!({ "idle": format!("{generation}s") }));
        expect_reloaded(&server, generation);
    }
    assert_eq!((client.get("/kept").text(), client.get("/other").text()), ("kept", "other"));
    assert_eq!(kept.connections(), 1);
    assert_eq!(other.connections(), 1, "a server that stays keeps its connections though its upstream changed");
}

#[test]
fn an_upstream_or_server_that_is_gone_gets_no_request_and_loses_its_connections() {
    let upstreams = [Upstream::answering(|_| ok("first")), Upstream::answering(|_| ok("second"))];
    let mut server = start("epoll", json!([proxy_route("/", "api")]))
        .upstream("api", json!({ "servers": servers(&[&upstreams[0], &upstreams[1]]), "balance": "round_robin" }))
        .workers(1)
        .serve();
    let mut client = server.client();
    for _ in 0..4 {
        client.get("/");
    }
    assert_eq!(server.metric("ringfort_upstream_server_connections_open", ""), 2.0);
    server.edit(|config| config["upstreams"]["api"]["servers"] = servers(&[&upstreams[1]]));
    expect_reloaded(&server, 2);
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "second");
    }
    assert_eq!(server.metric("ringfort_upstream_server_connections_open", ""), 1.0);
    server.edit(|config| {
        config["upstreams"] = json!({});
        config["routes"] = json!([text_route("/", "none")]);
    });
    expect_reloaded(&server, 3);
    assert_eq!(client.get("/").text(), "none");
    assert_eq!([upstreams[0].connections(), upstreams[1].connections()], [1, 1]);
}

#[test]
fn a_server_that_the_operator_drained_stays_drained_when_its_upstream_changes() {
    let upstreams = [Upstream::answering(|_| ok("first")), Upstream::answering(|_| ok("second"))];
    let mut server = start("epoll", json!([proxy_route("/", "api")]))
        .upstream("api", json!({ "servers": servers(&[&upstreams[0], &upstreams[1]]), "balance": "round_robin" }))
        .serve();
    let drain = "POST /upstreams/api/servers/0/drain HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Client::connect(server.admin).send(drain).response().status, 200);
    server.edit(|config| config["upstreams"]["api"]["balance"] = json!("random"));
    expect_reloaded(&server, 2);
    for _ in 0..8 {
        assert_eq!(server.get("/").text(), "second");
    }
    assert_eq!(server.admin_get("/upstreams").json()["upstreams"][0]["servers"][0]["drained"], true);
}

#[test]
fn a_tunnel_lives_through_reloads_even_when_its_upstream_goes() {
    let upstream = Upstream::start(|peer| {
        peer.head().unwrap();
        peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        while let Some(byte) = peer.take(1) {
            peer.write(byte);
        }
    });
    let mut server = start("epoll", json!([proxy_route("/", "api")]))
        .upstream("api", json!({ "servers": servers(&[&upstream]) }))
        .serve();
    let mut tunnel = server.client();
    tunnel.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").wait_for(b"\r\n\r\n");
    server.edit(|config| {
        config["upstreams"] = json!({});
        config["routes"] = json!([text_route("/", "none")]);
    });
    expect_reloaded(&server, 2);
    assert_eq!(server.get("/").text(), "none");
    server.wait_metric("ringfort_config_generations_live", "", 1.0);
    tunnel.send("still here").wait_for(b"still here");
}

#[test]
fn a_web_page_cannot_reload() {
    let server = start("epoll", json!([])).serve();
    let ask = "POST /reload HTTP/1.1\r\nHost: admin\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Client::connect(server.admin).send(ask).response().status, 403);
    assert_eq!(server.admin_get("/reload").status, 405);
    assert_eq!(server.metric("ringfort_config_generation", ""), 1.0);
}
