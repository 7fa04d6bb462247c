//! Mistakes in `proxy` of a route, each by its text, and what good ones become.

use serde_json::{Value, json};

use super::{errors_of, folder, only_error_of};
use crate::config::compile::compile_rest;
use crate::config::{compile, load_text};

/// A config with the upstreams `api1` and `api2`, and a route that forwards with these keys.
fn with(proxy: Value) -> Value {
    let server = json!({ "servers": [{ "address": "127.0.0.1:3000" }] });
    json!({
        "upstreams": { "api1": server, "api2": server },
        "routes": [{ "match": { "path": "/v/:a/:b/*rest" }, "proxy": proxy }],
    })
}

/// [`with`] an upstream too.
fn to_api1(extra: Value) -> Value {
    let mut proxy = json!({ "upstream": "api1" });
    proxy.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with(proxy)
}

fn check(config: &Value, error: &str) {
    assert_eq!(only_error_of(config), format!("routes[0].proxy{error}"));
}

#[test]
fn the_upstream_of_a_route_must_be_there() {
    check(
        &with(json!({ "upstream": "ap1" })),
        ".upstream: expected the name of an upstream: \"api1\" or \"api2\", found \"ap1\"; did you mean \"api1\"?",
    );
    check(
        &with(json!({ "split": [{ "upstream": "api1" }, { "upstream": "canary" }] })),
        ".split[1].upstream: expected the name of an upstream: \"api1\" or \"api2\", found \"canary\"",
    );
    check(
        &with(json!({ "split": [{ "upstream": "api1" }, { "upstream": "api1", "weight": 2 }] })),
        ".split[1].upstream: expected each upstream once (a greater weight gives it more), found \"api1\" again",
    );
    check(
        &to_api1(json!({ "mirror": { "upstream": "api3" } })),
        ".mirror.upstream: expected the name of an upstream: \"api1\" or \"api2\", found \"api3\"; did you mean \"api1\"?",
    );
    let none = json!({ "routes": [{ "match": { "path": "/" }, "proxy": { "upstream": "api" } }] });
    check(&none, ".upstream: expected the name of an upstream, of which there is none, found \"api\"");
    assert_eq!(errors_of(&with(json!({ "upstream": "api2" }))), Vec::<String>::new(), "an unused one is no mistake");
}

#[test]
fn an_upstream_with_a_mistake_is_not_told_as_missing_too() {
    let mut config = with(json!({ "upstream": "api1" }));
    config["upstreams"]["api1"]["servers"][0]["weight"] = 0.into();
    let error = only_error_of(&config);
    assert!(error.starts_with("upstreams.api1.servers[0].weight: "), "{error}");
    // What stands beside it is checked all the same, in another upstream and in one with a mistake in a key.
    config["upstreams"]["api2"]["timeouts"] = json!({ "connect": 1, "response": "10m" });
    config["upstreams"]["api2"]["hedge_after"] = "5m".into();
    config["upstreams"]["api2"]["brekaer"] = json!({});
    config["routes"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "match": { "path": "/b" }, "proxy": { "upstream": "api3" } }));
    config["upstreams"]["api2"]["health"] = json!({ "path": "x" });
    let input = crate::config::Input::default();
    let draft = super::read_draft(config.to_string().as_bytes(), &input);
    let rest = compile_rest(draft.config.unwrap(), &folder(), &[], &draft.omissions, None);
    let paths: Vec<_> = rest.err().unwrap().iter().map(|error| error.path.to_string()).collect();
    assert_eq!(paths, ["upstreams.api2.health.path", "routes[1].proxy.upstream"]);
}

#[test]
fn a_route_goes_to_one_upstream_or_to_a_split() {
    let exactly = ": expected exactly one of \"upstream\" or \"split\", found";
    check(&with(json!({})), &format!("{exactly} none"));
    check(
        &with(json!({ "upstream": "api1", "split": [{ "upstream": "api2" }] })),
        &format!("{exactly} \"upstream\" and \"split\""),
    );
    check(&with(json!({ "split": [] })), ".split: expected a list, not empty, of an object, found an empty list");
    check(
        &with(json!({ "split": [{ "upstream": "api1", "weight": 1001 }] })),
        ".split[0].weight: expected a whole number from 1 to 1000, found 1001",
    );
}

#[test]
fn each_mistake_in_a_path_is_told() {
    let prefix = "expected a path that begins with \"/\" and does not end with it, in its normal spelling, found";
    for (extra, error) in [
        (json!({ "strip_prefix": "api" }), format!("strip_prefix: {prefix} \"api\"; did you mean \"/api\"?")),
        (json!({ "strip_prefix": "/api/" }), format!("strip_prefix: {prefix} \"/api/\"; did you mean \"/api\"?")),
        (json!({ "strip_prefix": "/" }), format!("strip_prefix: {prefix} \"/\"")),
        (json!({ "add_prefix": "/a/../b" }), format!("add_prefix: {prefix} \"/a/../b\"; did you mean \"/b\"?")),
        (json!({ "add_prefix": "/a?b" }), format!("add_prefix: {prefix} \"/a?b\"")),
        (json!({ "add_prefix": "/%7ea" }), format!("add_prefix: {prefix} \"/%7ea\"; did you mean \"/~a\"?")),
        (
            json!({ "rewrite": "/x", "strip_prefix": "/v" }),
            "rewrite: expected either rewrite, or strip_prefix and add_prefix, found it beside strip_prefix".to_owned(),
        ),
        (
            json!({ "rewrite": "/x", "strip_prefix": "/v", "add_prefix": "/w" }),
            "rewrite: expected either rewrite, or strip_prefix and add_prefix, found it beside strip_prefix and \
             add_prefix"
                .to_owned(),
        ),
        (
            json!({ "rewrite": "/x/{c}" }),
            "rewrite: expected a parameter of the path: {a}, {b} or {rest}, found {c}".to_owned(),
        ),
        (
            json!({ "rewrite": "x/{a}" }),
            "rewrite: expected a path that begins with \"/\", found \"x/{a}\"; did you mean \"/x/{a}\"?".to_owned(),
        ),
        (
            json!({ "rewrite": "/x?a={a}" }),
            "rewrite: expected a path alone: the query of the request stays, found `?` in \"/x?a={a}\"".to_owned(),
        ),
        (
            json!({ "rewrite": "/a b" }),
            "rewrite: expected the characters of a URI (others as %XX), found ` ` in \"/a b\"".to_owned(),
        ),
        (
            json!({ "rewrite": "/%4" }),
            "rewrite: expected two hexadecimal digits behind each %, found `%` in \"/%4\"".to_owned(),
        ),
    ] {
        let errors = errors_of(&to_api1(extra.clone()));
        assert!(errors.contains(&format!("routes[0].proxy.{error}")), "{extra}: {errors:#?}");
    }
    assert_eq!(errors_of(&to_api1(json!({ "strip_prefix": "/v", "add_prefix": "/w/x" }))), Vec::<String>::new());
}

/// A client must not make a dot segment of what it sends: the server would leave the directory that was routed.
#[test]
fn a_rewritten_path_cannot_get_dot_segments() {
    for good in
        ["/{a}", "/x-{a}/{rest}", "/{a}.{b}", "/{a}.html", "/v1.0/{rest}", "/{rest}", "/x{rest}", "/..x", "/..."]
    {
        let is_dots_alone = good == "/...";
        assert_eq!(errors_of(&to_api1(json!({ "rewrite": good }))).is_empty(), !is_dots_alone, "{good}");
    }
    for bad in ["/./x", "/x/..", "/.{rest}", "/{rest}.", "/{rest}..", "/{a}{rest}.", "/%2e%2E/x", "/%2e{rest}"] {
        let error = only_error_of(&to_api1(json!({ "rewrite": bad })));
        assert!(error.contains("expected segments that no request can make \"/./\" or \"/../\" of"), "{bad}: {error}");
    }
}

#[test]
fn each_mistake_in_fields_is_told() {
    let framing = "expected no field that frames the message or speaks about its connection, found";
    for (extra, error) in [
        (
            json!({ "set": { "a b": "x" } }),
            "set[\"a b\"]: expected the name of a header field, found \"a b\"".to_owned(),
        ),
        (json!({ "set": { "": "x" } }), "set[\"\"]: expected the name of a header field, found \"\"".to_owned()),
        (
            json!({ "set": { "X": "a\r\nb: c" } }),
            "set.X: expected a header field's value, without control characters, found \"a\\u{d}\\u{a}b: c\""
                .to_owned(),
        ),
        (
            json!({ "add": { "X-A": "1", "x-a": "2" } }),
            "add.x-a: expected each name once, in any case, found \"x-a\" again".to_owned(),
        ),
        (
            json!({ "remove": ["X-A", "x-a"] }),
            "remove[1]: expected each name once, in any case, found \"x-a\" again".to_owned(),
        ),
        (json!({ "remove": ["transfer-encoding"] }), format!("remove[0]: {framing} \"transfer-encoding\"")),
    ] {
        for key in ["request_headers", "response_headers"] {
            check(&to_api1(json!({ key: extra })), &format!(".{key}.{error}"));
        }
    }
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Trailer",
        "Upgrade",
        "TE",
        "Proxy-Connection",
        "HTTP2-Settings",
    ] {
        for key in ["request_headers", "response_headers"] {
            check(
                &to_api1(json!({ key: { "add": { name: "1" } } })),
                &format!(".{key}.add.{name}: {framing} \"{name}\""),
            );
        }
    }
    check(
        &to_api1(json!({ "request_headers": { "set": { "host": "x" } } })),
        ".request_headers.set.host: expected no Host: proxy.host sets it, found \"host\"",
    );
    check(
        &to_api1(json!({ "request_headers": { "remove": ["Expect"] } })),
        ".request_headers.remove[0]: expected no Expect: it is settled between two neighbours, as framing is, found \
         \"Expect\"",
    );
    let many: Vec<_> = (0..65).map(|at| format!("x-{at}")).collect();
    check(
        &to_api1(json!({ "request_headers": { "remove": many } })),
        ".request_headers.remove: expected a list of a text, found 65 elements",
    );
}

#[test]
fn each_mistake_in_other_keys_is_told() {
    for (extra, error) in [
        (
            json!({ "trust": ["10.0.0.0/33"] }),
            "trust[0]: expected a network whose prefix has at most 32 bits, as IPv4 addresses have, found \"10.0.0.0/33\"",
        ),
        (
            json!({ "trust": ["::1", "localhost"] }),
            "trust[1]: expected an IP address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", found \"localhost\"",
        ),
        (
            json!({ "host": "kepe" }),
            "host: expected one of \"keep\" or \"server\" or an object, found \"kepe\"; did you mean \"keep\"?",
        ),
        (json!({ "host": {} }), "host.set: expected a text, found nothing"),
        (
            json!({ "host": { "set": "a/b" } }),
            "host.set: expected a host, with a port where it needs one, found \"a/b\"",
        ),
        (json!({ "via": "a b" }), "via: expected a token such as \"ringfort\" (or null: no Via field), found \"a b\""),
        (
            json!({ "mirror": { "upstream": "api2", "share": 1.5 } }),
            "mirror.share: expected a number from 0 to 1, found 1.5",
        ),
        (
            json!({ "upgrade": "true" }),
            "upgrade: expected true or false, found \"true\"; did you mean \"true without quotes\"?",
        ),
    ] {
        check(&to_api1(extra), &format!(".{error}"));
    }
}

#[test]
fn all_mistakes_of_a_route_are_told_at_once() {
    let config = with(json!({
        "upstream": "ap1",
        "rewrite": "/{c}",
        "host": { "set": "" },
        "via": "",
        "request_headers": { "set": { "TE": "x", "Host": "x" } },
        "mirror": { "upstream": "ap2" },
    }));
    let errors = errors_of(&config);
    let keys: Vec<_> = errors.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "routes[0].proxy.upstream",
            "routes[0].proxy.mirror.upstream",
            "routes[0].proxy.rewrite",
            "routes[0].proxy.host.set",
            "routes[0].proxy.via",
            "routes[0].proxy.request_headers.set.Host",
            "routes[0].proxy.request_headers.set.TE",
        ]
    );
}

#[test]
fn a_valid_proxy_goes_out_and_in() {
    let config = to_api1(json!({
        "host": "server",
        "trust": ["10.1.2.3", "::/0"],
        "via": null,
        "response_headers": { "add": { "X": "" } },
        "mirror": { "upstream": "api2", "share": 0.25 },
    }));
    crate::config::oracle::check_config(config.to_string().as_bytes());
    let config = load_text(config.to_string().as_bytes()).unwrap();
    let shown = crate::config::redact(&config);
    assert_eq!(shown["routes"][0]["proxy"]["trust"], json!(["10.1.2.3/32", "::/0"]));
    assert_eq!(shown["routes"][0]["proxy"]["host"], "server");
    let Ok(snapshot) = compile(config, &folder(), &[]) else { panic!("it is valid") };
    assert_eq!(snapshot.routes.names()[0].kind, "proxy");
}
