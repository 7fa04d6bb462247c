//! `api-key`.

use serde_json::json;

use super::{Directory, echo, get, status};
use crate::support::{Start, on_hand};

const MOBILE: &str = "k3y-of-the-mobile-app";
/// The SHA-256 of `the key of a partner`.
const PARTNER: &str = "the key of a partner";

fn partner_line() -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, PARTNER.as_bytes());
    let digits: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("# partners\npartner {}\n", digits.concat())
}

#[test]
fn a_request_with_a_known_key_passes_and_its_owner_is_told_to_the_upstream() {
    let (directory, upstream) = (Directory::new(), echo());
    let options = json!({
        "from": ["header:X-Api-Key", "query:key", "cookie:key", "bearer"],
        "keys": [{ "name": "mobile", "key": MOBILE }],
        "file": directory.file("keys.txt", &partner_line()),
        "strip": true,
        "name_header": "X-Client",
    });
    let routes = json!([{ "match": { "path": "/*rest" }, "proxy": { "upstream": "api" },
        "plugins": [{ "use": "api-key", "options": options }] }]);
    let spec = json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let server = Start::command(on_hand("epoll"), routes).upstream("api", spec).workers(1).serve();
    let mut client = server.client();
    let header = get(&mut client, "/a?b=1", &format!("X-Api-Key: {MOBILE}\r\nX-Client: root\r\n"));
    assert_eq!(header.status, 200);
    assert!(header.text().starts_with("get /a?b=1 http"), "{}", header.text());
    assert!(header.text().contains("x-client: mobile\r\n") && !header.text().contains("root"), "{}", header.text());
    assert!(!header.text().contains(MOBILE), "{}", header.text());
    let query = get(&mut client, "/a?x=1&key=the+key%20of+a+partner&y=2", "X-Client: root\r\n");
    assert!(query.text().starts_with("get /a?x=1&y=2 http"), "{}", query.text());
    assert!(query.text().contains("x-client: partner\r\n"), "{}", query.text());
    let cookie = get(&mut client, "/a", &format!("Cookie: a=1; key={MOBILE}\r\nCookie: b=2\r\n"));
    assert!(cookie.text().contains("cookie: a=1; b=2\r\n"), "{}", cookie.text());
    let bearer = get(&mut client, "/a", &format!("Authorization: Bearer {MOBILE}\r\n"));
    assert!(bearer.status == 200 && !bearer.text().contains("authorization"), "{}", bearer.text());
    for (path, fields) in [
        ("/a", String::new()),
        ("/a", "X-Api-Key: wrong\r\n".to_owned()),
        ("/a", "X-Api-Key:\r\n".to_owned()),
        ("/a", format!("X-Api-Key: {MOBILE}x\r\n")),
        ("/a", format!("X-Api-Key: {MOBILE}\r\nX-Api-Key: {MOBILE}\r\n")),
        ("/a?key=1&key=2", String::new()),
    ] {
        let refused = get(&mut client, path, &fields);
        assert_eq!((refused.status, refused.field("www-authenticate")), (401, Some("ApiKey")), "{fields}");
        assert!(!refused.text().contains("wrong"));
    }
}

#[test]
fn a_file_of_keys_is_read_again_on_a_reload_and_a_mistake_in_it_is_named() {
    let directory = Directory::new();
    let file = directory.file("keys.txt", &partner_line());
    let routes = json!([{ "match": { "path": "/" }, "respond": { "text": "in" },
        "plugins": [{ "use": "api-key", "options": { "file": file } }] }]);
    let server = Start::command(on_hand("epoll"), routes).watch(false).serve();
    let new = format!("X-Api-Key: {MOBILE}\r\n");
    let old = format!("X-Api-Key: {PARTNER}\r\n");
    assert_eq!((status(&server, "/", &old), status(&server, "/", &new)), (200, 401));
    directory.file("keys.txt", "partner 12\n");
    let refused = server.reload();
    assert!(refused.text().contains("line 1 of"), "{}", refused.text());
    assert_eq!(status(&server, "/", &old), 200);
    let digest = ring::digest::digest(&ring::digest::SHA256, MOBILE.as_bytes());
    let digits: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    directory.file("keys.txt", &format!("mobile {}", digits.concat()));
    server.reload();
    assert_eq!((status(&server, "/", &old), status(&server, "/", &new)), (401, 200));
}
