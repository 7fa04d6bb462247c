//! Hooks are called in their order, and what they decide is what happens.

use serde_json::{Value, json};

use super::{application, probe};
use crate::support::{Server, Start, on_hand};

fn through(answer: &crate::support::Response) -> String {
    let tags = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-through"));
    tags.map(|(_, tag)| tag.as_str()).collect::<Vec<_>>().join(",")
}

fn ended(server: &Server) -> String {
    server.get("/ended").text().to_owned()
}

/// The route of the config that all tests have: a fixed response with plugins of its own.
fn route(plugins: Value) -> Value {
    json!([{ "match": { "path": "/route" }, "respond": { "text": "route" }, "plugins": plugins }])
}

#[test]
fn requests_go_through_plugins_in_order_and_responses_the_other_way_round() {
    for waits in [false, true] {
        let plugins = json!([probe("a", json!({})), probe("b", json!({ "waits": waits })), probe("c", json!({}))]);
        let server = application(plugins).serve();
        let answer = server.get("/seen");
        assert_eq!((answer.text(), through(&answer).as_str()), ("a,b,c", "c,b,a"), "waits: {waits}");
        assert_eq!(ended(&server), "c:200 b:200 a:200");
    }
}

#[test]
fn a_plugin_that_answers_is_the_last_that_is_asked_and_its_answer_goes_through_all() {
    for waits in [false, true] {
        let answers = json!({ "answers": true, "waits": waits });
        let server = application(json!([probe("a", json!({})), probe("b", answers), probe("c", json!({}))])).serve();
        let answer = server.get("/slow/60000");
        assert_eq!((answer.status, answer.text(), through(&answer).as_str()), (202, "b", "c,b,a"));
        assert_eq!(ended(&server), "c:202-new b:202 a:202");
    }
}

#[test]
fn a_plugin_that_fails_answers_500_or_is_left_out() {
    for (hook, waits) in [("pre_handler", false), ("pre_handler", true), ("post_handler", false)] {
        let mut failing = probe("b", json!({ "fails": hook, "waits": waits }));
        let server = application(json!([probe("a", json!({})), failing])).serve();
        let answer = server.get("/seen");
        assert_eq!(answer.status, 500, "{hook}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        server.wait_metric("ringfort_plugin_errors_total", "plugin=\"b\"", 1.0);
        failing = probe("b", json!({ "fails": hook, "waits": waits }));
        failing["on_failure"] = "open".into();
        let server = application(json!([probe("a", json!({})), failing])).serve();
        let answer = server.get("/seen");
        assert_eq!(answer.status, 200, "{hook}");
        assert!(answer.text().starts_with('a'), "{hook}: {}", answer.text());
    }
}

#[test]
fn bodies_are_changed_watched_and_replaced_however_they_are_sent() {
    for (body, path, expected) in [
        ("upper", "/", "HELLO!"),
        ("upper", "/stream", "ONE TWO THREE!"),
        ("watch", "/", "hello"),
        ("watch", "/stream", "one two three"),
        ("replace", "/", "replaced by a"),
        ("replace", "/stream", "replaced by a"),
        ("replace", "/fail", "replaced by a"),
        ("upper", "/route", "ROUTE!"),
    ] {
        let plugins = json!([probe("a", json!({ "body": body }))]);
        let server = application(plugins).set("routes", route(json!([]))).serve();
        let mut client = server.client();
        for _ in 0..2 {
            let answer = client.get(path);
            assert_eq!((answer.status, answer.text()), (200, expected), "{body} {path}");
        }
        let head = client.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n")).response_to_head();
        assert_eq!((head.status, head.text()), (200, ""), "{body} {path}");
        assert_eq!(client.get(path).text(), expected, "the connection goes on");
    }
    let changed = json!([probe("outer", json!({ "body": "upper" })), probe("inner", json!({ "body": "replace" }))]);
    assert_eq!(application(changed).serve().get("/stream").text(), "REPLACED BY INNER!");
}

#[test]
fn a_body_that_a_plugin_cannot_finish_is_cut() {
    let server = application(json!([probe("a", json!({ "body": "late" }))])).serve();
    let mut client = server.client();
    client.send("GET /stream HTTP/1.1\r\nHost: test\r\n\r\n");
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it looks complete: {}", String::from_utf8_lossy(&rest));
    assert_eq!(ended(&server), "a:cut-200");
}

#[test]
fn a_plugin_can_answer_in_place_of_a_failure() {
    let server = application(json!([probe("a", json!({ "rescues": true }))])).serve();
    let answer = server.get("/fail");
    assert_eq!((answer.status, answer.text()), (200, "a rescues from 500"));
    assert_eq!(ended(&server), "a:200");
    // Nothing can be answered any more.
    assert!(server.client().send("GET /cut HTTP/1.1\r\nHost: test\r\n\r\n").rest().ends_with(b"half"));
    assert_eq!(ended(&server), "a:cut-200");
}

#[test]
fn a_request_can_be_changed_before_its_route_is_found() {
    let server = application(json!([probe("a", json!({ "target": "/users/7?x=1" }))])).serve();
    let answer = server.get("/nowhere");
    assert_eq!((answer.status, answer.text(), through(&answer).as_str()), (200, "user 7", "a"));
    let server = application(json!([probe("a", json!({ "target": "answer" })), probe("b", json!({}))])).serve();
    let answer = server.get("/users/7");
    assert_eq!((answer.status, through(&answer).as_str()), (403, "b,a"));
    let server = application(json!([probe("a", json!({ "target": "not a target" }))])).serve();
    assert_eq!(server.get("/users/7").status, 400);
}

#[test]
fn what_the_server_answers_itself_goes_through_global_plugins() {
    let server = application(json!([probe("a", json!({}))])).serve();
    let answer = server.get("/nowhere");
    assert_eq!((answer.status, through(&answer).as_str()), (404, "a"));
}

#[test]
fn a_client_that_leaves_ends_its_request_for_the_plugins_too() {
    let server = application(json!([probe("a", json!({}))])).serve();
    let mut client = server.client();
    client.send("GET /slow/60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    crate::support::wait_until("the request is under way", || server.metric("ringfort_requests_in_flight", "") == 1.0);
    rustix::net::sockopt::set_socket_linger(client.stream(), Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    let mut last = String::new();
    crate::support::wait_until("the plugin is told", || {
        last = ended(&server);
        last == "a:unanswered"
    });
}

#[test]
fn a_route_has_its_own_plugins_behind_the_global_ones_and_may_take_those_out() {
    let own = json!([probe("own", json!({})), { "use": "probe", "name": "b", "enabled": false }]);
    let plugins = json!([probe("a", json!({})), probe("b", json!({})), probe("c", json!({}))]);
    let server = application(plugins).set("routes", route(own)).serve();
    assert_eq!(through(&server.get("/route")), "own,c,a");
    assert_eq!(through(&server.get("/seen")), "c,b,a");
    assert_eq!(ended(&server), "own:200 c:200 a:200 c:200 b:200 a:200");
}

#[test]
fn a_reload_adds_changes_and_removes_plugins_under_open_connections() {
    let mut server = application(json!([probe("a", json!({}))])).serve();
    let mut client = server.client();
    assert_eq!(through(&client.get("/")), "a");
    for (plugins, expected) in [
        (json!([probe("a", json!({})), probe("b", json!({}))]), "b,a"),
        (json!([probe("b", json!({ "body": "upper" }))]), "b"),
        (json!([]), ""),
    ] {
        server.edit(|config| config["plugins"] = plugins);
        assert_eq!(server.reload().status, 200);
        assert_eq!(through(&client.get("/")), expected);
    }
    for bad in [
        probe("bad", json!({})),
        probe("a", json!({ "tags": 1 })),
        json!({ "use": "prob" }),
        probe("a", json!({ "refuses": true })),
    ] {
        server.edit(|config| config["plugins"] = json!([bad]));
        let answer = server.reload();
        assert_ne!(answer.status, 200, "{}", answer.text());
        assert_eq!((client.get("/").status, through(&client.get("/"))), (200, String::new()));
    }
}

#[test]
fn what_plugins_cost_is_shown() {
    let server = application(json!([probe("a", json!({}))])).serve();
    let mut client = server.client();
    for _ in 0..160 {
        client.get("/");
    }
    server.wait_metric("ringfort_plugin_calls_total", "plugin=\"a\",hook=\"pre_handler\"", 160.0);
    let status = server.admin_get("/status").json();
    let shown = &status["plugins"][0];
    assert_eq!((&shown["name"], &shown["hooks"]["post_response"]["calls"]), (&json!("a"), &json!(160)));
    assert!(shown["hooks"]["pre_handler"]["timed"]["count"].as_u64() >= Some(2), "{shown}");
}

#[test]
fn a_plugin_that_refuses_its_config_keeps_the_server_from_starting() {
    let mut process =
        Start::app(on_hand("epoll")).set("plugins", json!([probe("a", json!({ "refuses": true }))])).spawn();
    assert_eq!(process.wait_exit(std::time::Duration::from_secs(20)).code(), Some(1));
}
