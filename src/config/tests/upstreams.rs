//! Mistakes in `upstreams`, each by its text, and what good ones become.

use serde_json::{Value, json};

use super::{check_bounds, errors_of, folder, only_error_of, overridden};
use crate::config::{compile, load_text};
use crate::proxy::{Balance, HashAlgorithm, HashKey, Probe, UpstreamSpec};

/// A config with one upstream: a server, and these keys.
fn with(extra: Value) -> Value {
    let mut upstream = json!({ "servers": [{ "address": "127.0.0.1:3000" }] });
    upstream.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({ "upstreams": { "api": upstream } })
}

fn compiled(extra: Value) -> UpstreamSpec {
    let config = load_text(with(extra).to_string().as_bytes()).unwrap();
    let Ok(snapshot) = compile(config, &folder(), &[]) else { panic!("it is valid") };
    snapshot.upstreams.specs().remove(0)
}

#[test]
fn each_mistake_in_an_upstream_is_told_where_it_is() {
    let server = "a server such as \"127.0.0.1:3000\", \"[::1]:3000\", \"name.example:3000\" or \"unix:/run/app.sock\"";
    for (extra, error) in [
        (json!({ "servers": [] }), "servers: expected a list, not empty, of an object, found an empty list".to_owned()),
        (
            json!({ "servers": [{ "address": "http://127.0.0.1:3000" }] }),
            format!(
                "servers[0].address: expected {server}, found \"http://127.0.0.1:3000\"; did you mean \"127.0.0.1:3000\"?"
            ),
        ),
        (
            json!({ "servers": [{ "address": "a:1", "weight": 0 }] }),
            "servers[0].weight: expected a whole number from 1 to 1000, found 0".to_owned(),
        ),
        (
            json!({ "servers": [{ "address": "a:1" }, { "address": "b:1" }, { "address": "A:1", "weight": 2 }] }),
            "servers[2].address: expected each server once (a greater weight gives it more), found \"a:1\" again \
             (servers[0])"
                .to_owned(),
        ),
        (
            json!({ "servers": [{ "address": "a:1", "backup": true }, { "address": "b:1", "backup": true }] }),
            "servers: expected a server that is not a backup, found backups alone".to_owned(),
        ),
        (
            json!({ "balance": "least_con" }),
            "balance: expected one of \"round_robin\", \"random\", \"least_conn\", \"p2c\" or \"hash\" or an object, \
             found \"least_con\"; did you mean \"least_conn\"?"
                .to_owned(),
        ),
        (
            json!({ "balance": { "hash": { "over": "header X-User" } } }),
            "balance.hash.over: expected one of \"client_address\", \"path\", \"header:NAME\" or \"cookie:NAME\", found \
             \"header X-User\"; did you mean \"header:X-User\"?"
                .to_owned(),
        ),
        (
            json!({ "balance": { "hash": { "algorithm": "ketama" } } }),
            "balance.hash.algorithm: expected one of \"rendezvous\" or \"maglev\", found \"ketama\"".to_owned(),
        ),
    ] {
        assert_eq!(only_error_of(&with(extra)), format!("upstreams.api.{error}"));
    }
}

#[test]
fn a_name_that_no_label_could_have_is_refused() {
    for name in ["", "a b", "a/b", "é", &"x".repeat(65)] {
        let error = only_error_of(&json!({ "upstreams": { name: { "servers": [{ "address": "a:1" }] } } }));
        assert!(error.starts_with("upstreams") && error.contains(": expected a name of 1 to 64 letters"), "{error}");
    }
}

#[test]
fn every_bound_of_an_upstream_is_checked_on_both_sides() {
    let check = |key: &str, good: Value, bad: Value| {
        let at = |value: &Value| {
            let wrap = |inner, key: &str| Value::Object([(key.to_owned(), inner)].into_iter().collect());
            with(key.rsplit('.').fold(value.clone(), wrap))
        };
        for value in good.as_array().unwrap() {
            assert_eq!(errors_of(&at(value)), Vec::<String>::new(), "{key} = {value}");
        }
        for value in bad.as_array().unwrap() {
            let error = only_error_of(&at(value));
            assert!(error.starts_with(&format!("upstreams.api.{key}")), "{key} = {value}: {error}");
        }
    };
    check("slow_start", json!(["0s", "24h"]), json!(["25h", 10]));
    check("pool.idle_per_core", json!([0, 65536]), json!([-1, 65537]));
    check("pool.idle_timeout", json!(["1ms", "24h"]), json!(["0s", "1441m"]));
    check("pool.age", json!(["1ms", "24h"]), json!(["0s", "1441m"]));
    check("pool.requests", json!([1, 1_000_000_000]), json!([0, 1_000_000_001]));
    check("timeouts.connect", json!(["1ms", "1h"]), json!(["0s", "25h"]));
    check("timeouts.response", json!(["1ms", "1h"]), json!(["0s", "25h"]));
    check("timeouts.idle", json!(["1ms", "24h"]), json!(["0s", "25h"]));
    check("timeouts.total", json!(["30s", "24h"]), json!(["0s", "25h", null]));
    check("retry.attempts", json!([1, 10]), json!([0, 11]));
    check("retry.budget", json!([0, 0.0, 0.5, 1, 1.0]), json!([-0.1, 1.01, "0.2", null]));
    check("retry.statuses", json!([[], [400, 599]]), json!([[399], [600], [503, 503], 503]));
    check("hedge_after", json!(["1ms", "29s"]), json!(["0s", "25h", null]));
    check("ejection.consecutive_failures", json!([1, 1000]), json!([0, 1001]));
    check("ejection.percent_max", json!([1, 100]), json!([0, 101, 50.5]));
    check("breaker.open", json!(["1ms", "24h"]), json!(["0s", "25h"]));
    check("breaker.consecutive_failures", json!([1, 1000]), json!([0, 1001]));
    check("limits.connections", json!([1, 10_000_000]), json!([0, 10_000_001]));
    check("limits.pending", json!([0, 10_000_000]), json!([-1, 10_000_001]));
    check("balance", json!(["p2c", "hash", { "hash": {} }]), json!(["P2C", {}, { "hash": 1 }, null]));
    let health = |extra: Value| {
        let mut health = json!({ "tcp": true });
        health.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        with(json!({ "health": health }))
    };
    for (good, bad) in [
        (json!({ "interval": "10ms", "jitter": 0, "fall": 1 }), json!({ "interval": "9ms" })),
        (json!({ "interval": "24h", "jitter": 1, "fall": 100 }), json!({ "jitter": 1.5 })),
        (json!({ "rise": 1, "timeout": "1ms" }), json!({ "fall": 0 })),
        (json!({ "rise": 100 }), json!({ "rise": 101 })),
        (json!({ "timeout": "24h" }), json!({ "timeout": "0s" })),
    ] {
        assert_eq!(errors_of(&health(good)), Vec::<String>::new());
        assert!(only_error_of(&health(bad)).starts_with("upstreams.api.health."));
    }
    check_bounds("upstreams", json!([{}]), json!([[], null, "a"]));
}

#[test]
fn an_upstream_becomes_what_the_config_says() {
    let plain = compiled(json!({}));
    assert_eq!((plain.name.as_str(), plain.balance), ("api", Balance::default()));
    assert_eq!((plain.health, plain.ejection, plain.breaker), (None, None, None));
    assert_eq!((plain.pool, plain.timeouts, plain.limits), Default::default());
    assert_eq!((plain.retry, plain.hedge_after), Default::default());

    let full = compiled(json!({
        "balance": { "hash": { "over": "cookie:sid", "algorithm": "maglev" } },
        "health": { "path": "/h?x=1", "statuses": [204, "300-301"] },
        "ejection": {},
        "breaker": {},
    }));
    assert_eq!(
        full.balance,
        Balance::Hash { algorithm: HashAlgorithm::Maglev, key: HashKey::Cookie("sid".to_owned()) }
    );
    let probe = Probe::Http { path: "/h?x=1".to_owned(), host: None, statuses: vec![204..=204, 300..=301] };
    assert_eq!(full.health.map(|health| health.probe), Some(probe));
    assert_eq!((full.ejection, full.breaker), (Some(Default::default()), Some(Default::default())));
    let hash = Balance::Hash { algorithm: HashAlgorithm::Rendezvous, key: HashKey::ClientAddress };
    assert_eq!(compiled(json!({ "balance": "hash" })).balance, hash);
    assert_eq!(compiled(json!({ "balance": { "hash": {} } })).balance, hash);
    assert_eq!(compiled(json!({ "health": { "tcp": true } })).health.map(|health| health.probe), Some(Probe::Tcp));
}

#[test]
fn upstreams_are_counted_in_the_order_of_their_names() {
    let server = json!({ "servers": [{ "address": "a:1" }] });
    let config = json!({ "upstreams": { "b": server, "a": server, "c": server } });
    let Ok(snapshot) = compile(load_text(config.to_string().as_bytes()).unwrap(), &folder(), &[]) else {
        panic!("it is valid")
    };
    assert_eq!(
        snapshot.upstreams.iter().map(|upstream| upstream.spec.name.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
}

#[test]
fn a_variable_reaches_into_an_upstream_of_the_file() {
    let server = json!([{ "address": "a:1" }]);
    let file = json!({ "upstreams": { "my-api": { "servers": server }, "a.b": { "servers": server }, "a_b": { "servers": server } } });
    for (name, text, pointer, value) in [
        ("UPSTREAMS__MY_API__RETRY__ATTEMPTS", "1", "/upstreams/my-api/retry/attempts", json!(1)),
        ("UPSTREAMS__my-api__RETRY__BUDGET", "0.5", "/upstreams/my-api/retry/budget", json!(0.5)),
        ("UPSTREAMS__MY_API__SERVERS__0__ADDRESS", "b:2", "/upstreams/my-api/servers/0/address", json!("b:2")),
        ("UPSTREAMS__MY_API__BALANCE", "random", "/upstreams/my-api/balance", json!("random")),
        ("UPSTREAMS__a_b__SLOW_START", "1s", "/upstreams/a_b/slow_start", json!("1s")),
    ] {
        let config = overridden(&file.to_string(), &[(&format!("RINGFORT__{name}"), text)]);
        assert_eq!(config.map(|config| config.pointer(pointer).cloned()), Ok(Some(value)), "{name}={text}");
    }
    for (name, error) in [
        ("UPSTREAMS__MY_API__RETRI__ATTEMPTS", "did you mean \"RINGFORT__UPSTREAMS__MY_API__RETRY__ATTEMPTS\"?"),
        ("UPSTREAMS__MI_API__SLOW_START", "did you mean \"RINGFORT__UPSTREAMS__MY_API__SLOW_START\"?"),
        // Two names read so.
        ("UPSTREAMS__A_B__SLOW_START", "expected one of \"my-api\", \"a.b\" or \"a_b\" in upstreams, found \"A_B\""),
        ("UPSTREAMS__MY_API", "such as RINGFORT__UPSTREAMS__MY_API__SERVERS, found the whole object"),
    ] {
        let errors = overridden(&file.to_string(), &[(&format!("RINGFORT__{name}"), "1s")]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(error), "{errors:?}");
    }
}
