//! `basic-auth`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Directory, echo, get, status};
use crate::support::{Start, on_each_driver, on_hand};

/// Passwords `abc` and `password`, of small costs.
const FILE: &str = "# users\n\
    ann:$2b$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i\n\
    bea:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n";

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn options(file: &str) -> Value {
    json!({ "file": file, "realm": "the shop", "name_header": "X-User", "strip": true })
}

#[test]
fn a_known_user_passes_with_the_right_password_alone() {
    on_each_driver(|driver| {
        let (directory, upstream) = (Directory::new(), echo());
        let options = options(&directory.file("users", FILE));
        let routes = json!([{ "match": { "path": "/" }, "proxy": { "upstream": "api" },
            "plugins": [{ "use": "basic-auth", "options": options }] }]);
        let spec = json!({ "servers": [{ "address": upstream.address.to_string() }] });
        let server = Start::command(driver, routes).upstream("api", spec).workers(1).serve();
        let mut client = server.client();
        // The first time it is hashed, the second time it is known.
        for _ in 0..2 {
            for (user, password) in [("ann", "abc"), ("bea", "password")] {
                let passed = get(&mut client, "/", &(basic(user, password) + "X-User: root\r\n"));
                assert_eq!(passed.status, 200, "{user}");
                assert!(passed.text().contains(&format!("x-user: {user}\r\n")), "{}", passed.text());
                assert!(!passed.text().contains("authorization") && !passed.text().contains("root"));
            }
            let wrong = [("ann", "password"), ("bea", "abc"), ("ann", ""), ("ann", "abcd"), ("", ""), ("eve", "abc")];
            for (user, password) in wrong {
                let refused = get(&mut client, "/", &basic(user, password));
                let challenge = refused.field("www-authenticate");
                assert_eq!((refused.status, challenge), (401, Some("Basic realm=\"the shop\", charset=\"UTF-8\"")));
            }
        }
        let twice = basic("ann", "abc") + &basic("ann", "abc");
        for fields in ["", "Authorization: Basic !\r\n", "Authorization: Bearer YTpi\r\n", &twice] {
            assert_eq!(get(&mut client, "/", fields).status, 401, "{fields}");
        }
    });
}

#[test]
fn other_requests_are_answered_while_passwords_are_hashed_and_too_many_are_refused() {
    let directory = Directory::new();
    // Slow enough for a debug build that a crowd comes together.
    let slow = FILE.replace("ann:$2b$06", "ann:$2b$10");
    let options = options(&directory.file("users", &slow));
    let routes = json!([
        { "match": { "path": "/" }, "respond": { "text": "in" }, "plugins": [{ "use": "basic-auth", "options": options }] },
        { "match": { "path": "/free" }, "respond": { "text": "free" } },
    ]);
    let server = Start::command(on_hand("epoll"), routes).workers(1).serve();
    let mut crowd: Vec<_> = (0..200).map(|_| server.client()).collect();
    for (index, client) in crowd.iter_mut().enumerate() {
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", basic("ann", &index.to_string())));
    }
    assert_eq!(server.client().get("/free").text(), "free");
    // 2 are hashed and 128 wait; as all come before one has been hashed, the others are refused at once.
    let busy = crowd.iter_mut().rev().map(|client| client.response()).find(|response| response.status == 503);
    assert_eq!(busy.expect("a refusal").field("retry-after"), Some("1"));
    drop(crowd);
    assert_eq!(server.client().get("/free").text(), "free");
}

#[test]
fn the_file_is_read_again_on_a_reload_and_weak_hashes_are_refused_with_their_line() {
    let directory = Directory::new();
    let file = directory.file("users", FILE);
    let routes = json!([{ "match": { "path": "/" }, "respond": { "text": "in" },
        "plugins": [{ "use": "basic-auth", "options": { "file": file } }] }]);
    let server = Start::command(on_hand("epoll"), routes).workers(1).watch(false).serve();
    assert_eq!(status(&server, "/", &basic("ann", "abc")), 200);
    for weak in ["ann:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "ann:{SHA}qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "ann:abc", "ann"]
    {
        directory.file("users", &format!("# users\n\n{weak}\n"));
        let refused = server.reload();
        assert!(refused.text().contains("line 3 of") && !refused.text().contains("abc"), "{}", refused.text());
        assert_eq!(status(&server, "/", &basic("ann", "abc")), 200);
    }
    // What was right under the file before is not remembered.
    directory.file("users", FILE.lines().last().unwrap());
    server.reload();
    assert_eq!(status(&server, "/", &basic("ann", "abc")), 401);
    assert_eq!(status(&server, "/", &basic("bea", "password")), 200);
}
