//! The plugin `cache`, from outside: a client, two workers, and an origin that counts.

mod answers;
mod crowds;
mod rules;

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::upstream::{Received, Upstream};
use crate::support::{Client, Response, Server, Start, on_hand};

/// An origin that answers by the path and by how often it was asked for that; the count is in `X-Count`.
fn origin(answer: impl Fn(&str, usize, &Received) -> String + Send + Sync + 'static) -> Upstream {
    let counts = Mutex::new(HashMap::<String, usize>::new());
    Upstream::answering(move |request| {
        let path = request.head.split(' ').nth(1).unwrap().to_owned();
        let count = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(path.clone()).or_default();
            *count += 1;
            *count
        };
        answer(&path, count, request).into_bytes()
    })
}

/// A whole response: the status line's end, field lines of which each ends with CRLF, and the body.
fn respond(status: &str, count: usize, lines: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nX-Count: {count}\r\nContent-Length: {}\r\n{lines}\r\n{body}", body.len())
}

/// A gateway of two workers in front of this origin, with a cache of these options on its only route.
fn gateway(origin: &Upstream, options: Value) -> Server {
    start(origin, json!([{ "use": "cache", "options": options }])).serve()
}

fn start(origin: &Upstream, plugins: Value) -> Start {
    let route = json!({ "match": { "path": "/*rest" }, "plugins": plugins, "proxy": { "upstream": "api" } });
    let servers = json!([{ "address": origin.address.to_string() }]);
    let upstream =
        json!({ "servers": servers, "retry": { "attempts": 1 }, "breaker": { "consecutive_failures": 1000 } });
    Start::command(on_hand("epoll"), json!([route])).upstream("api", upstream)
}

/// Asks on a connection of its own; `lines` each end with CRLF.
#[track_caller]
fn ask(server: &Server, method: &str, path: &str, lines: &str) -> Response {
    let mut client = Client::connect(server.address);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"));
    if method == "HEAD" { client.response_to_head() } else { client.response() }
}

#[track_caller]
fn get(server: &Server, path: &str, lines: &str) -> Response {
    ask(server, "GET", path, lines)
}

/// Whether the cache says that the response came from the store.
#[track_caller]
fn is_hit(response: &Response) -> bool {
    response.field("cache-status").unwrap().starts_with("ringfort; hit")
}
