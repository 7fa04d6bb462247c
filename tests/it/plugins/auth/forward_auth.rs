//! `forward-auth`.

use serde_json::{Value, json};

use super::{echo, get};
use crate::support::upstream::{Received, Upstream, ok};
use crate::support::{Server, Start, on_each_driver, on_hand};

/// Lets requests with a cookie pass, and says what it was asked.
fn judge() -> Upstream {
    Upstream::answering(|question: &Received| {
        let head = question.head.to_lowercase();
        if head.contains("cookie: session=good\r\n") {
            let asked = head.replace("\r\n", "|");
            format!(
                "HTTP/1.1 200 OK\r\nX-User: ann\r\nX-Asked: {asked}\r\nX-Other: secret\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nok\r\n0\r\n\r\n"
            )
            .into_bytes()
        } else {
            let answer = "HTTP/1.1 302 Found\r\nLocation: /login\r\nX-Other: secret\r\nContent-Type: text/plain\r\n\
                          Content-Length: 8\r\n\r\nlog in !";
            answer.as_bytes().to_vec()
        }
    })
}

fn gateway(driver: &'static str, judge: &Upstream, api: &Upstream, options: Value, on_failure: &str) -> Server {
    let mut all = json!({ "upstream": "judge", "copy_to_request": ["X-User", "X-Asked"], "identity": "X-User" });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let routes = json!([{ "match": { "path": "/*rest" }, "proxy": { "upstream": "api" },
        "plugins": [{ "use": "forward-auth", "on_failure": on_failure, "options": all }] }]);
    let spec = |upstream: &Upstream| json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let start = Start::command(driver, routes).upstream("api", spec(api)).upstream("judge", spec(judge));
    start.workers(1).serve()
}

#[test]
fn a_request_goes_on_with_what_the_upstream_says_of_it_or_is_given_its_answer() {
    on_each_driver(|driver| {
        let (judge, api) = (judge(), echo());
        let server = gateway(driver, &judge, &api, json!({ "path": "/auth?v=1" }), "closed");
        let mut client = server.client();
        for _ in 0..3 {
            let forged = "X-User: root\r\nX-Forwarded-For: 10.9.8.7\r\nX-Forwarded-Uri: /forged\r\nX-Secret: 1\r\n";
            let passed = get(&mut client, "/a/../b%41?c=d", &format!("Cookie: session=good\r\n{forged}"));
            assert_eq!(passed.status, 200);
            let seen = passed.text();
            assert!(seen.contains("x-user: ann\r\n") && !seen.contains("root") && !seen.contains("x-other"), "{seen}");
            let asked = seen.lines().find_map(|line| line.strip_prefix("x-asked: ")).unwrap();
            assert!(asked.starts_with("get /auth?v=1 http/1.1|"), "{asked}");
            for field in [
                "x-forwarded-method: get",
                "x-forwarded-proto: http",
                "x-forwarded-host: x",
                "x-forwarded-uri: /ba?c=d",
                "x-forwarded-for: 127.0.0.1",
                "cookie: session=good",
            ] {
                assert_eq!(asked.split('|').filter(|line| *line == field).count(), 1, "{field}: {asked}");
            }
            assert!(!asked.contains("10.9.8.7") && !asked.contains("forged") && !asked.contains("x-secret"), "{asked}");
            let refused = get(&mut client, "/", "Cookie: session=bad\r\n");
            assert_eq!((refused.status, refused.text()), (302, "log in !"));
            assert_eq!(refused.field("location"), Some("/login"));
            assert_eq!(refused.field("content-type"), Some("text/plain"));
            assert_eq!(refused.field("x-other"), None);
        }
        assert_eq!(judge.connections(), 1, "connections are used again");
        assert_eq!(api.requests(), 3);
        let body = "Cookie: session=good\r\nContent-Length: 5\r\n\r\nhello";
        let posted = client.send(format!("POST /p HTTP/1.1\r\nHost: x\r\n{body}")).response();
        assert!(
            posted.text().starts_with("post /p ") && posted.text().contains("content-length: 5"),
            "{}",
            posted.text()
        );
    });
}

#[test]
fn the_original_method_is_asked_with_where_that_is_wanted() {
    let (judge, api) = (judge(), echo());
    let server =
        gateway(on_hand("epoll"), &judge, &api, json!({ "method": "original", "host": "judge.test" }), "closed");
    let mut client = server.client();
    let head = "DELETE /x HTTP/1.1\r\nHost: x\r\nCookie: session=good\r\n\r\n";
    let seen = client.send(head).response();
    let asked = seen.text().lines().find_map(|line| line.strip_prefix("x-asked: ")).unwrap();
    assert!(asked.starts_with("delete / http/1.1|host: judge.test|"), "{asked}");
    assert!(asked.contains("|content-length: 0|"), "{asked}");
}

#[test]
fn where_the_upstream_does_not_answer_the_plugins_way_to_fail_decides() {
    let silent = Upstream::start(|peer| while peer.request().is_some() {});
    let rude = Upstream::start(|peer| drop(peer.request()));
    let chatty = Upstream::answering(|_| ok("x".repeat(2000)));
    let cut = Upstream::start(|peer| {
        if peer.request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nX-User: ann\r\nContent-Length: 5\r\n\r\nabc");
        }
    });
    let api = echo();
    let options = json!({ "timeout": "300ms", "body": 1000 });
    for judge in [&silent, &rude, &chatty, &cut] {
        let closed = gateway(on_hand("epoll"), judge, &api, options.clone(), "closed");
        let refused = get(&mut closed.client(), "/", "X-User: root\r\n");
        assert_eq!(refused.status, 500);
        assert!(!refused.text().contains("judge"), "{}", refused.text());
        let open = gateway(on_hand("epoll"), judge, &api, options.clone(), "open");
        let passed = get(&mut open.client(), "/", "X-User: root\r\n");
        assert!(passed.status == 200 && !passed.text().contains("x-user"), "{}", passed.text());
    }
}
