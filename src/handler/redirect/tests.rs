//! Redirects: where they lead, and where they never do.

use super::super::testing::{ask, get, request};
use super::*;

fn located(to: &str, pattern: &str, params: &[&str], path: &str) -> String {
    let handler = Redirect::new(to, Status::PERMANENT_REDIRECT, true, params).unwrap();
    ask(&handler, pattern, &get(path, &[])).field("location").unwrap().to_owned()
}

fn refused(to: &str) -> RedirectError {
    Redirect::new(to, Status::FOUND, true, &["id"]).unwrap_err()
}

#[test]
fn every_redirect_status_has_a_location_and_a_short_body() {
    for code in [301, 302, 303, 307, 308] {
        let status = Status::new(code).unwrap();
        for to in ["/new", "/new/{id}"] {
            let handler = Redirect::new(to, status, true, &["id"]).unwrap();
            let answered = ask(&handler, "/:id", &get("/7", &[]));
            assert_eq!(answered.status, code);
            assert_eq!(answered.field("location"), Some(if to == "/new" { "/new" } else { "/new/7" }));
            assert_eq!(answered.text().trim_end(), status.reason());
            let head = ask(&handler, "/:id", &request("HEAD", "/7", &[]));
            assert_eq!((head.status, head.body.len()), (code, 0));
            assert_eq!(head.field("location"), answered.field("location"));
            assert_eq!(head.field("content-length"), answered.field("content-length"));
        }
    }
    for code in [200, 300, 304, 305, 306, 404] {
        let status = Status::new(code).unwrap();
        assert_eq!(Redirect::new("/", status, true, &[]).unwrap_err(), RedirectError::Status(status));
    }
}

#[test]
fn the_query_goes_along_unless_the_target_has_one() {
    assert_eq!(located("/new", "/old", &[], "/old?a=1&b"), "/new?a=1&b");
    assert_eq!(located("/new", "/old", &[], "/old?"), "/new");
    assert_eq!(located("/new#top", "/old", &[], "/old?a"), "/new?a#top");
    assert_eq!(located("/new?x=1", "/old", &[], "/old?a"), "/new?x=1");
    assert_eq!(located("/new?", "/old", &[], "/old?a"), "/new?");
    assert_eq!(located("https://host", "/old", &[], "/old?a"), "https://host?a");
    assert_eq!(located("/n/{id}", "/o/:id", &["id"], "/o/7?a"), "/n/7?a");
    let handler = Redirect::new("/new", Status::FOUND, false, &[]).unwrap();
    assert_eq!(ask(&handler, "/", &get("/?a=1", &[])).field("location"), Some("/new"));
}

#[test]
fn parameters_keep_their_encoding() {
    assert_eq!(located("/n/{id}", "/:id", &["id"], "/a%20b%C3%A9"), "/n/a%20b%C3%A9");
    assert_eq!(located("/n/{rest}", "/o/*rest", &["rest"], "/o/a/b/"), "/n/a/b/");
    assert_eq!(located("/n?id={id}#{id}", "/:id", &["id"], "/a&b=c+d"), "/n?id=a%26b%3Dc%2Bd#a%26b%3Dc%2Bd");
    assert_eq!(located("https://h:8/{id}", "/:id", &["id"], "/7"), "https://h:8/7");
}

#[test]
fn no_parameter_leads_to_another_host() {
    for path in ["/old//evil.example/x", "/old////evil.example/x"] {
        assert_eq!(located("/{rest}", "/old/*rest", &["rest"], path), "/evil.example/x");
    }
    // An empty wildcard in front of a fixed part does the same.
    assert_eq!(located("/{rest}/evil.example", "/old/*rest", &["rest"], "/old/"), "/evil.example");
    assert_eq!(located("/{rest}", "/*rest", &["rest"], "//evil.example/%2Fa"), "/evil.example/%2Fa");
    // Behind a fixed part, or a host, further slashes are only an odd path.
    assert_eq!(located("/a/{rest}", "/old/*rest", &["rest"], "/old//x"), "/a//x");
    assert_eq!(located("https://h/{rest}", "/old/*rest", &["rest"], "/old//x"), "https://h//x");
    assert_eq!(located("//cdn.example/{rest}", "/old/*rest", &["rest"], "/old//x"), "//cdn.example//x");
}

#[test]
fn a_parameter_in_the_authority_is_refused() {
    for to in ["https://{id}.example.com/", "https://{id}", "//{id}/x", "https://example.com{id}", "//h:{id}?a"] {
        assert_eq!(refused(to), RedirectError::ParamInAuthority("id".into()), "{to}");
    }
}

#[test]
fn what_is_no_target_is_refused() {
    for to in ["", "new", "{id}", "?a", "#a", "//", "https://", "https:///x", "1a://h/", "javascript:alert(1)"] {
        assert_eq!(refused(to), RedirectError::Form, "{to}");
    }
    for (to, byte) in
        [("/a b", b' '), ("/a\r\nb", b'\r'), ("/\\evil", b'\\'), ("/é", 0xc3), ("/%2", b'%'), ("/{ x }", b'{')]
    {
        assert_eq!(refused(to), RedirectError::Byte(byte), "{to}");
    }
    assert!(refused("/{nope}").to_string().contains("(id), found {nope}"));
}
