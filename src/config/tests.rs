//! Tests of the loader as a whole.

mod predicates;
mod proxy;
mod upstreams;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::environment::{Override, read_variables};
use super::load::{Draft, Input, read_draft};
use super::*;
use crate::rt::ExecutorChoice;
use crate::sys::cpu::Confinement;

fn host() -> Host {
    Host { allowed: (0..4).collect(), confinement: Confinement { quota_cores: None, exclusive: false } }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn errors_of(value: &Value) -> Vec<String> {
    match load_text(value.to_string().as_bytes()) {
        Ok(config) => {
            let compiled = compile(config, &folder(), &[]);
            compiled.err().into_iter().flatten().map(|error| error.to_string()).collect()
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn only_error_of(value: &Value) -> String {
    let errors = errors_of(value);
    assert_eq!(errors.len(), 1, "{value}: {errors:#?}");
    errors[0].clone()
}

#[test]
fn an_empty_object_is_the_default_everywhere() {
    assert_eq!(load_text(b"{}"), Ok(Config::default()));
    let Ok(snapshot) = compile(Config::default(), Path::new("."), &[]) else { panic!("the defaults are valid") };
    assert_eq!(snapshot.settings.head, crate::http::HeadLimits::default());
    assert_eq!(format!("{:?}", snapshot.executor), format!("{:?}", crate::rt::Options::default()));
}

#[test]
fn the_configs_in_the_repository_are_valid() {
    for name in ["default.json", "minimal.json", "example.json"] {
        let input = Input { file: Some(folder().join(name)), ..Input::default() };
        let prepared = prepare(&input, &host(), &[]).map_err(|failure| failure.to_string());
        assert!(prepared.is_ok(), "{}", prepared.err().unwrap_or_default());
    }
}

/// The example names every key, with the value that it has when it is left out.
#[test]
fn the_example_shows_every_key_with_its_default() {
    let text = std::fs::read(folder().join("example.json")).unwrap();
    let example = load_text(&text).unwrap();
    let defaults = Config {
        routes: example.routes.clone(),
        upstreams: example.upstreams.clone(),
        schema: example.schema.clone(),
        ..Config::default()
    };
    assert_eq!(example, defaults);
    let written: Value = serde_json::from_slice(&text).unwrap();
    let effective = redact(&example);
    for key in ["server", "cores", "admin", "log", "resolver"] {
        assert_eq!(written[key], effective[key], "{key}");
    }
    assert_eq!(written["upstreams"]["api"], effective["upstreams"]["api"]);
    let short = json!({ "upstreams": { "api": {
        "servers": written["upstreams"]["api"]["servers"],
        "health": { "path": "/healthz" },
        "ejection": {},
        "breaker": {},
    } } });
    let short = load_text(short.to_string().as_bytes()).unwrap();
    assert_eq!(short.upstreams["api"], example.upstreams["api"], "values that may be left out are shown with others");
    let properties = schema()["$defs"]["Proxy"]["properties"].as_object().unwrap();
    let proxies = written["routes"].as_array().unwrap().iter().filter_map(|route| route.get("proxy"));
    let shown: Vec<_> = proxies.flat_map(|proxy| proxy.as_object().unwrap()).collect();
    for (key, property) in properties {
        let value = shown.iter().find(|(name, _)| *name == key);
        let value = value.unwrap_or_else(|| panic!("no route of the example has {key}")).1;
        // Where the default is no value, or an empty one, the example has something to show.
        let is_plain = property["default"].is_boolean() || property["default"].is_string();
        assert!(!is_plain || *value == property["default"], "{key}: {value}");
    }
    let text = written["upstreams"].to_string() + &written["routes"].to_string();
    for key in [
        "hedge_after",
        "tcp",
        "statuses",
        "over",
        "algorithm",
        "query",
        "cookies",
        "exact",
        "prefix",
        "present",
        "remove",
        "set",
        "add",
        "share",
        "host",
        "path",
        "methods",
        "status",
        "headers",
        "text",
        "json",
        "base64",
        "root",
        "index",
        "precompressed",
        "cache_control",
        "to",
        "keep_query",
    ] {
        assert!(text.contains(&format!("\"{key}\":")), "no route of the example has {key}");
    }
}

#[test]
fn the_published_schema_is_fresh() {
    let path = folder().join("schema.json");
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == schema_text(), "config/schema.json is stale: run `ringfort schema > config/schema.json`");
}

#[test]
fn every_object_of_the_schema_is_closed_and_every_key_described() {
    fn walk(schema: &Value, path: &str) {
        // What belongs to each `use` of a plugin: the objects around the options close nothing.
        if let Some(options) = schema.pointer("/then/properties/options") {
            return walk(options, &format!("{path}/{}", schema["if"]["properties"]["use"]["const"]));
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert_eq!(schema["additionalProperties"], false, "{path}");
            for (key, property) in properties {
                assert!(property.get("description").is_some() || property.get("$ref").is_some(), "{path}.{key}");
            }
        }
        match schema {
            Value::Object(members) => members.iter().for_each(|(key, inner)| walk(inner, &format!("{path}/{key}"))),
            Value::Array(list) => list.iter().for_each(|inner| walk(inner, path)),
            _ => {}
        }
    }
    walk(schema(), "");
}

#[test]
fn five_mistakes_of_five_kinds_are_told_at_once() {
    let config = json!({
        "server": { "lisen": ["0.0.0.0:80"], "timeouts": { "idle": "75" } },
        "plugins": [{ "use": "request-id", "options": { "heder": "X" } }],
        "log": { "level": "inof" },
        "routes": [
            { "match": { "path": "/a/:id" }, "respond": { "text": "a" } },
            { "match": { "path": "/b", "methods": ["get"] }, "respond": {} },
            { "match": { "path": "/a/:name" }, "respond": { "text": "{id}" } },
        ],
    });
    let file = std::env::temp_dir().join(format!("ringfort-five-{}.json", std::process::id()));
    std::fs::write(&file, config.to_string()).unwrap();
    let failure = prepare(&Input { file: Some(file.clone()), ..Input::default() }, &host(), &[]).err().unwrap();
    std::fs::remove_file(&file).unwrap();
    let told: Vec<_> = failure.errors.iter().map(ToString::to_string).collect();
    let expected = [
        "server.lisen: expected one of the keys \"listen\", \"limits\", \"timeouts\", \"rates\", \"keepalive\", \"name\", \
         \"request_id\" or \"trace\", found the unknown key \"lisen\"; did you mean \"listen\"?",
        "server.timeouts.idle: expected a duration such as \"10s\" (a whole number and one of ms, s, m, h) from 1ms to \
         24h, found \"75\"; did you mean \"75s\"?",
        "routes[1].match.methods[0]: expected one of \"GET\", \"HEAD\", \"POST\", \"PUT\", \"DELETE\", \"OPTIONS\", \
         \"TRACE\" or \"PATCH\", found \"get\"; did you mean \"GET\"?",
        "plugins[0].options.heder: expected one of the keys \"header\", \"request\" or \"response\", found the unknown \
         key \"heder\"; did you mean \"header\"?",
        "log.level: expected off, error, warn, info, debug or trace, or such levels for targets \
         (info,ringfort::conn=debug), found \"inof\"; did you mean \"info\"?",
        "routes[2].respond.text: expected a parameter of the path: {name}, found {id}",
        "routes[2].match.path: expected a route that can be told apart from routes[0] (\"/a/:id\"), found \
         \"/a/:name\": the same host, the same shape of path and a method in common",
    ];
    assert_eq!(told, expected);
}

/// Sets one value of an otherwise empty config to each good value (no error) and each bad one (one error, there).
fn check_bounds(path: &str, good: Value, bad: Value) {
    let at = |value: &Value| {
        let wrap = |inner, key: &str| Value::Object([(key.to_owned(), inner)].into_iter().collect());
        path.rsplit('.').fold(value.clone(), wrap)
    };
    for value in good.as_array().unwrap() {
        assert_eq!(errors_of(&at(value)), Vec::<String>::new(), "{path} = {value}");
    }
    for value in bad.as_array().unwrap() {
        let error = only_error_of(&at(value));
        assert!(error.starts_with(path), "{path} = {value}: {error}");
    }
}

#[test]
fn every_bound_of_the_server_is_checked_on_both_sides() {
    check_bounds("server.limits.head", json!(["8KiB", "64KiB", 65536]), json!(["255B", "65KiB", 65537, -1, 1.5, true]));
    check_bounds("server.limits.target", json!([64, "16KiB"]), json!([63, "128KiB", "17KiB"]));
    check_bounds("server.limits.headers", json!([1, 256]), json!([0, 257, "100"]));
    check_bounds("server.limits.body", json!([0, "1TiB"]), json!(["2TiB", u64::MAX]));
    check_bounds("server.limits.connections", json!([1, 10_000_000]), json!([0, 10_000_001]));
    for key in ["timeouts.head", "timeouts.idle", "timeouts.write", "rates.grace"] {
        check_bounds(&format!("server.{key}"), json!(["1ms", "24h", "1440m"]), json!(["0s", "1441m", ""]));
    }
    check_bounds("server.timeouts.body", json!(["1ms", "1h"]), json!(["0s", "3601s", "25h"]));
    check_bounds("server.timeouts.body_total", json!(["30s", "168h"]), json!(["0s", "169h", 60]));
    check_bounds("server.timeouts.write_total", json!(["30s", "168h"]), json!(["0s", "169h", 60]));
    for key in ["head", "body", "write"] {
        check_bounds(&format!("server.rates.{key}"), json!([1, "500B", "1GiB"]), json!([0, "0B", "2GiB", -1, "1s"]));
    }
    check_bounds("server.timeouts.drain", json!(["0s", "24h"]), json!(["25h", 30]));
    check_bounds("server.timeouts.pre_stop_delay", json!(["0s", "5s", "1h"]), json!(["61m", "-1s"]));
    check_bounds("server.keepalive.requests", json!([1, 1_000_000_000]), json!([0, null]));
    check_bounds("server.keepalive.age", json!(["1ms"]), json!(["0s"]));
    check_bounds("server.name", json!([null, "x"]), json!(["", "a\r\nb: c", 1]));
    let bad = json!([[], "0.0.0.0:80", ["localhost:80"], ["0.0.0.0:80", "0.0.0.0:80"], ["0.0.0.0:80", "127.0.0.1:80"]]);
    check_bounds("server.listen", json!([["0.0.0.0:0", "[::]:80"]]), bad);
}

#[test]
fn every_bound_of_cores_admin_and_log_is_checked_on_both_sides() {
    let bad = json!(["all", 0, 1025, [], [0, 0], [9000], ["0"], null]);
    check_bounds("cores.workers", json!(["auto", 1, 1024, [0, 3]]), bad);
    check_bounds("cores.master", json!(["auto", 0]), json!([-1, 8192, "first"]));
    check_bounds("cores.ring.entries", json!([64, 32768]), json!([32, 65536, 100]));
    check_bounds("cores.ring.buffers", json!([16, 32768]), json!([8, 65536, 1000]));
    check_bounds("cores.ring.buffer_size", json!(["1KiB", "64KiB", 5000]), json!([1023, "65KiB"]));
    check_bounds("cores.pin", json!(["auto", "on", "off"]), json!(["yes", true, null, ["auto"]]));
    check_bounds("cores.executor", json!(["auto", "compio"]), json!(["tokio", null]));
    check_bounds("cores.driver", json!(["auto", "io_uring", "epoll"]), json!(["kqueue", 1]));
    check_bounds("cores.steering", json!(["hash", "cpu"]), json!(["random", null]));
    check_bounds("admin.listen", json!(["off", "[::1]:9090"]), json!(["on", null, "127.0.0.1:8080", 9090]));
    check_bounds("log.level", json!(["off", "info,ringfort::conn=debug"]), json!(["", "loud", 3]));
    check_bounds("log.format", json!(["json", "pretty", "text"]), json!(["JSON", "xml"]));
    check_bounds("log.access", json!(["off", "all", "errors", "sampled"]), json!(["on", "json", true]));
    check_bounds("log.sample", json!([1, 0.5, 0.001]), json!([0, -0.5, 1.5, "all"]));
    check_bounds("log.fields", json!([["time"], ["id", "query"]]), json!([[], ["cookie"], ["time", "time"], "time"]));
    check_bounds("server.trace", json!([true, false]), json!(["on", 1]));
}

#[test]
fn an_executor_is_refused_where_it_is_not_built_and_on_a_driver_that_it_lacks() {
    for name in ExecutorChoice::NAMES {
        let choice: ExecutorChoice = name.parse().unwrap();
        for driver in ["auto", "io_uring", "epoll"] {
            let config = json!({ "cores": { "executor": name, "driver": driver } });
            let expected = match choice.resolve() {
                Err(missing) => Some(format!(
                    "cores.executor: expected an executor that this build has ({missing}), found \"{name}\""
                )),
                Ok(executor) => executor.refusal(driver.parse().unwrap()).map(|reason| {
                    format!(
                        "cores.driver: expected a driver that cores.executor \"{name}\" has ({reason}), found \"{driver}\""
                    )
                }),
            };
            assert_eq!(errors_of(&config), expected.into_iter().collect::<Vec<_>>());
        }
    }
}

fn overridden(text: &str, variables: &[(&str, &str)]) -> Result<Value, Vec<String>> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let (overrides, errors) = read_variables(variables);
    let draft = read_draft(text.as_bytes(), &Input { file: None, overrides, errors });
    match draft.config {
        Some(config) if draft.errors.is_empty() => Ok(redact(&config)),
        _ => Err(draft.errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn variables_are_read_as_the_schema_wants_them() {
    for (name, text, pointer, value) in [
        ("SERVER__LISTEN", "0.0.0.0:80, [::]:80", "/server/listen", json!(["0.0.0.0:80", "[::]:80"])),
        ("SERVER__LISTEN", "[\"0.0.0.0:80\"]", "/server/listen", json!(["0.0.0.0:80"])),
        ("SERVER__LIMITS__HEADERS", "7", "/server/limits/headers", json!(7)),
        ("server__limits__head", "32768", "/server/limits/head", json!("32KiB")),
        ("SERVER__NAME", "null", "/server/name", json!(null)),
        ("SERVER__NAME", "true", "/server/name", json!("true")),
        ("CORES__WORKERS", "3", "/cores/workers", json!(3)),
        ("CORES__WORKERS", "0,2", "/cores/workers", json!([0, 2])),
        ("CORES__WORKERS", "auto", "/cores/workers", json!("auto")),
        ("CORES__RING__BUFFER_SIZE", "8KiB", "/cores/ring/buffer_size", json!("8KiB")),
        ("ADMIN__LISTEN", "off", "/admin/listen", json!("off")),
        ("ROUTES__0__RESPOND__TEXT", "7", "/routes/0/respond/text", json!("7")),
        ("ROUTES__1__RESPOND__JSON", "{\"a\": 1}", "/routes/1/respond/json", json!({ "a": 1 })),
        ("ROUTES__2__REDIRECT__KEEP_QUERY", "false", "/routes/2/redirect/keep_query", json!(false)),
        ("ROUTES__0__MATCH__METHODS", "GET,POST", "/routes/0/match/methods", json!(["GET", "POST"])),
    ] {
        let file = json!({ "server": { "name": "file" }, "routes": [
            { "match": { "path": "/a" }, "respond": { "text": "" } },
            { "match": { "path": "/b" }, "respond": { "json": 1 } },
            { "match": { "path": "/c" }, "redirect": { "to": "/" } },
        ] });
        let name = format!("RINGFORT__{name}");
        let config = overridden(&file.to_string(), &[(&name, text)]);
        assert_eq!(config.map(|config| config.pointer(pointer).cloned()), Ok(Some(value)), "{name}={text}");
    }
}

#[test]
fn a_variable_that_sets_nothing_is_an_error() {
    for (name, text, error) in [
        ("SERVER__LISEN", "x", "did you mean \"RINGFORT__SERVER__LISTEN\"?"),
        ("SERVERS", "x", "did you mean \"RINGFORT__SERVER\"?"),
        ("UPSTREAMS__API__SLOW_START", "1s", "expected no name: upstreams is empty, found \"API\""),
        ("SERVER", "x", "such as RINGFORT__SERVER__LISTEN, found the whole object"),
        ("ROUTES", "x", "expected routes to be set in the file, found a variable"),
        ("ROUTES__0__MATCH__PATH", "/", "expected no index: routes is an empty list"),
        ("SERVER__LISTEN__4", "x", "expected an index of server.listen from 0 to 0, found \"4\""),
        ("SERVER__NAME__X", "x", "expected a variable for server.name as a whole"),
        ("", "x", "(config)"),
    ] {
        let name = format!("RINGFORT__{name}");
        let file = r#"{ "server": { "listen": ["127.0.0.1:1"] }, "routes": [] }"#;
        let errors = overridden(file, &[(&name, text)]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].starts_with(&name) && errors[0].contains(error), "{errors:?}");
    }
    let errors = overridden("{}", &[("RINGFORT__SERVER__TIMEOUTS__IDLE", "soon")]).unwrap_err();
    assert!(errors[0].starts_with("server.timeouts.idle: "), "{errors:?}");
    assert!(errors[0].ends_with("found \"soon\" (set by RINGFORT__SERVER__TIMEOUTS__IDLE)"), "{errors:?}");
}

#[test]
fn a_flag_wins_over_a_variable() {
    let (mut overrides, errors) = read_variables([("RINGFORT__SERVER__LISTEN".into(), "127.0.0.1:1".into())]);
    let list = vec!["127.0.0.1:2".to_owned(), "127.0.0.1:3".to_owned()];
    overrides.push(Override::flag("--listen", "server.listen", Setting::List(list.clone())));
    let draft = read_draft(b"{}", &Input { file: None, overrides, errors });
    assert_eq!(redact(&draft.config.unwrap())["server"]["listen"], json!(list));
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() {
    for file in ["/nonexistent/ringfort.json", "/"] {
        let failure = prepare(&Input { file: Some(file.into()), ..Input::default() }, &host(), &[]).err().unwrap();
        assert_eq!(failure.errors.len(), 1);
        assert!(failure.to_string().starts_with(&format!("{file}: (file): expected a file that can be read")));
    }
}

/// Keys of the config, and one that is none.
const KEYS: &[&str] = &[
    "server",
    "cores",
    "admin",
    "log",
    "routes",
    "listen",
    "limits",
    "timeouts",
    "rates",
    "keepalive",
    "name",
    "head",
    "headers",
    "target",
    "body",
    "connections",
    "idle",
    "workers",
    "ring",
    "entries",
    "match",
    "path",
    "host",
    "methods",
    "respond",
    "files",
    "redirect",
    "proxy",
    "upstreams",
    "upstream",
    "api",
    "servers",
    "address",
    "weight",
    "balance",
    "hash",
    "health",
    "retry",
    "budget",
    "split",
    "rewrite",
    "strip_prefix",
    "set",
    "trust",
    "query",
    "cookies",
    "prefix",
    "present",
    "status",
    "text",
    "json",
    "base64",
    "root",
    "to",
    "x",
    "$schema",
];

/// Values that look like configs: known keys, with values that mostly do not fit.
fn config_like() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        (0_u32..100).prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::String),
        prop::sample::select(vec![
            "auto",
            "10s",
            "64KiB",
            "127.0.0.1:80",
            "GET",
            "/a/:id",
            "/*",
            "{id}",
            "é\u{202e}",
            "api",
            "p2c"
        ])
        .prop_map(|text| Value::String(text.to_owned())),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let key = prop::sample::select(KEYS).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What is read of this text, with a route's mistake or without.
fn read(text: &[u8]) -> (Option<Config>, Vec<String>) {
    let Draft { config, errors, .. } = read_draft(text, &Input::default());
    (config, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn routes_that_are_read_one_by_one_are_those_of_the_list_as_a_whole() {
    let mut value: Value = serde_json::from_slice(&std::fs::read(folder().join("example.json")).unwrap()).unwrap();
    let (apart, errors) = read(value.to_string().as_bytes());
    assert_eq!(errors, Vec::<String>::new());
    let count = value["routes"].as_array().unwrap().len();
    assert!(count > 3);
    // One that is wrong has all of them read again, and takes itself away alone.
    value["routes"].as_array_mut().unwrap().insert(2, json!({ "match": {}, "respond": {} }));
    let (whole, errors) = read(value.to_string().as_bytes());
    assert_eq!(errors, ["routes[2].match.path: expected a text, found nothing"]);
    assert_eq!(whole, apart);
    // So does a setting.
    let path = [("RINGFORT__ROUTES__2__MATCH__PATH", "/moved")];
    value["routes"].as_array_mut().unwrap().remove(2);
    let moved = overridden(&value.to_string(), &path).unwrap();
    let mut expected = redact(&apart.unwrap());
    expected["routes"][2]["match"]["path"] = "/moved".into();
    assert_eq!((moved["routes"].as_array().map(Vec::len), &moved), (Some(count), &expected));
}

#[test]
fn a_list_of_routes_that_comes_twice_is_a_mistake() {
    let text = br#"{"routes": [], "log": {}, "routes": [{"match": {"path": "/"}, "respond": {"text": "a"}}]}"#;
    let (config, errors) = read(text);
    assert_eq!(errors, ["routes: expected each key once, found this one again in the same object"]);
    assert_eq!(config.unwrap().routes.len(), 1);
    let (_, errors) = read(br#"{"routes": [{"match": {"path": "/", "path": "/a"}, "respond": {"text": "a"}}]}"#);
    assert_eq!(errors, ["routes[0].match.path: expected each key once, found this one again in the same object"]);
    let (_, errors) = read(br#"{"routes": {"match": {"path": "/"}}}"#);
    assert!(errors.len() == 1 && errors[0].starts_with("routes: expected a list of "), "{errors:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_loader_never_panics_on_values(value in config_like()) {
        oracle::check_config(value.to_string().as_bytes());
    }

    #[test]
    fn the_loader_never_panics_on_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        oracle::check_config(&data);
    }

    #[test]
    fn the_loader_never_panics_on_a_damaged_config(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = DEFAULT.as_bytes().to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        oracle::check_config(&text);
    }

    #[test]
    fn settings_never_panic(name in "[A-Z0-9_]{0,30}", part in "(SERVER|ROUTES|CORES|LOG)?", text in ".{0,20}") {
        let name = format!("RINGFORT__{part}__{name}");
        if let Err(errors) = overridden(DEFAULT, &[(&name, &text)]) {
            prop_assert!(!errors.is_empty());
        }
    }
}

#[test]
fn a_valid_config_is_the_same_after_it_went_out_and_in() {
    for name in ["default.json", "minimal.json", "example.json"] {
        let text = std::fs::read(folder().join(name)).unwrap();
        oracle::check_config(&text);
        let config = load_text(&text).unwrap();
        assert_eq!(load_text(redact(&config).to_string().as_bytes()), Ok(config));
    }
}
