//! Conditions in `match`: mistakes by their text, conflicts, and which route a request gets.

use serde_json::{Value, json};

use super::{errors_of, folder, only_error_of};
use crate::config::{compile, load_text};
use crate::http::{Head, HeadLimits, parse_head};
use crate::router::Spans;

fn route(matcher: Value, text: &str) -> Value {
    let mut full = json!({ "path": "/a" });
    full.as_object_mut().unwrap().extend(matcher.as_object().unwrap().clone());
    json!({ "match": full, "respond": { "text": text } })
}

#[test]
fn each_mistake_in_a_condition_is_told() {
    let value = "expected a header field's value, without control characters and white space at its ends, found";
    let cookie = "expected a cookie's value, without control characters, \";\" and white space at its ends, found";
    let begin = "expected some text that the value begins with ({ \"present\": true } takes any value), found none";
    for (matcher, error) in [
        (json!({ "headers": { "a b": "x" } }), "headers[\"a b\"]: expected the name of a header field, found \"a b\"".into()),
        (json!({ "cookies": { "a;b": "x" } }), "cookies[\"a;b\"]: expected the name of a cookie, found \"a;b\"".into()),
        (json!({ "query": { "": "x" } }), "query[\"\"]: expected the name of a field, found none".to_owned()),
        (json!({ "headers": { "X": " x" } }), format!("headers.X: {value} \" x\"")),
        (json!({ "headers": { "X": "a\nb" } }), format!("headers.X: {value} \"a\\u{{a}}b\"")),
        (json!({ "cookies": { "x": { "prefix": "a;" } } }), format!("cookies.x: {cookie} \"a;\"")),
        (json!({ "query": { "x": { "prefix": "" } } }), format!("query.x: {begin}")),
        (
            json!({ "headers": { "X-A": "1", "x-a": "2" } }),
            "headers.x-a: expected each name once, in any case, found \"X-A\" again".to_owned(),
        ),
        (
            json!({ "headers": { "X": { "exact": "a", "prefix": "b" } } }),
            "headers.X: expected exactly one of \"exact\", \"prefix\" or \"present\", found \"exact\" and \"prefix\"".into(),
        ),
        (
            json!({ "headers": { "X": { "regex": "a" } } }),
            "headers.X.regex: expected one of the keys \"exact\", \"prefix\" or \"present\", found the unknown key \"regex\""
                .to_owned(),
        ),
        (json!({ "headers": { "X": 1 } }), "headers.X: expected a text or an object, found 1".to_owned()),
        (
            json!({ "headers": { "X": { "present": "yes" } } }),
            "headers.X.present: expected true or false, found \"yes\"".to_owned(),
        ),
        (json!({ "query": ["x"] }), "query: expected an object, found a list".to_owned()),
    ] {
        let error = format!("routes[0].match.{error}");
        assert_eq!(only_error_of(&json!({ "routes": [route(matcher, "x")] })), error);
    }
    let many: Value = (0..33).map(|at| (format!("q{at}"), "x".into())).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(
        only_error_of(&json!({ "routes": [route(json!({ "query": many }), "x")] })),
        "routes[0].match: expected at most 32 conditions in headers, query and cookies, found 33 of them"
    );
}

#[test]
fn equal_conditions_are_a_conflict_however_they_are_written() {
    let same = [
        json!({ "headers": { "X-A": "1" }, "cookies": { "b": { "present": true } } }),
        json!({ "cookies": { "b": { "present": true } }, "headers": { "x-a": { "exact": "1" } } }),
    ];
    let config = json!({ "routes": [route(same[0].clone(), "x"), route(same[1].clone(), "y")] });
    assert_eq!(
        only_error_of(&config),
        "routes[1].match.path: expected a route that can be told apart from routes[0] (\"/a\"), found \"/a\": the same \
         host, shape of path, headers, query and cookies, and a method in common"
    );
    for other in [
        json!({}),
        json!({ "headers": { "X-A": "1" } }),
        json!({ "headers": { "X-A": "1" }, "cookies": { "B": { "present": true } } }),
        json!({ "headers": { "X-A": "1" }, "cookies": { "b": { "present": false } } }),
        json!({ "query": { "X-A": "1" }, "cookies": { "b": { "present": true } } }),
    ] {
        let config = json!({ "routes": [route(same[0].clone(), "x"), route(other.clone(), "y")] });
        assert_eq!(errors_of(&config), Vec::<String>::new(), "{other}");
    }
    let empty = json!({ "headers": {}, "query": {}, "cookies": {} });
    let config = json!({ "routes": [route(json!({}), "x"), route(empty, "y")] });
    assert!(only_error_of(&config).ends_with("the same host, the same shape of path and a method in common"));
}

#[test]
fn a_request_falls_through_to_the_next_route_whose_conditions_hold() {
    let config = json!({ "routes": [
        route(json!({}), "plain"),
        route(json!({ "headers": { "X-A": "1" }, "query": { "q": { "prefix": "v" } } }), "both"),
        route(json!({ "headers": { "X-A": "1" } }), "header"),
        route(json!({ "methods": ["POST"], "cookies": { "c": "d" } }), "cookie"),
        { "match": { "path": "/only/:id", "headers": { "X-A": { "present": false } } }, "respond": {} },
        { "match": { "path": "/only/:name", "methods": ["GET"], "headers": { "X-A": "2" } }, "respond": {} },
    ] });
    let Ok(snapshot) = compile(load_text(config.to_string().as_bytes()).unwrap(), &folder(), &[]) else {
        panic!("it is valid")
    };
    for (request, index, params) in [
        ("GET /a", Some(0), &[][..]),
        ("GET /a?q=v1\r\nX-A: 1", Some(1), &[]),
        ("GET /a?q=w1\r\nX-A: 1", Some(2), &[]),
        ("GET /a?q=v1\r\nX-A: 2", Some(0), &[]),
        ("POST /a\r\nCookie: c=d", Some(3), &[]),
        ("GET /a\r\nCookie: c=d", Some(0), &[]),
        ("POST /a\r\nCookie: c=e", Some(0), &[]),
        ("GET /only/7", Some(4), &[("id", "7")]),
        ("HEAD /only/7\r\nX-A: 2", Some(5), &[("name", "7")]),
        ("GET /only/7\r\nX-A: 1", None, &[]),
        ("POST /only/7\r\nX-A: 2", None, &[]),
    ] {
        let (line, fields) = request.split_once("\r\n").unwrap_or((request, ""));
        let end = if fields.is_empty() { "\r\n" } else { "\r\n\r\n" };
        let bytes = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}{end}");
        let mut head = Head::new();
        parse_head(bytes.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        let mut spans = Spans::NONE;
        let found = snapshot.routes.find(&head.view(bytes.as_bytes()), &mut spans);
        let expected = index.unwrap_or(usize::MAX);
        assert_eq!(found.index().get(), expected, "{request}");
        let path = line.split([' ', '?']).nth(1).unwrap();
        assert_eq!(found.params().iter(path).collect::<Vec<_>>(), params, "{request}");
    }
}

#[test]
fn conditions_go_out_and_in() {
    let matcher = json!({
        "headers": { "X": "a", "Y": { "prefix": "b" } },
        "query": { "q": { "present": true } },
        "cookies": { "c": { "present": false } },
    });
    let config = json!({ "routes": [route(matcher.clone(), "x")] });
    crate::config::oracle::check_config(config.to_string().as_bytes());
    let shown = crate::config::redact(&load_text(config.to_string().as_bytes()).unwrap());
    for kind in ["headers", "query", "cookies"] {
        assert_eq!(shown["routes"][0]["match"][kind], matcher[kind]);
    }
}
