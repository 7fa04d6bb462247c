//! The commands, through the function that `main` calls: what they print, and their exit codes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ringfort::cli::{Application, Exit, run_application};
use ringfort::handler::{Action, Exchange, Reply};
use ringfort::rt::ExecutorChoice;
use serde_json::{Value, json};

use crate::support::{Start, on_hand, upstream, wait_until};

fn hello(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.send(b"hello")
}

ringfort::routes! {
    static ROUTES: Action = {
        GET "/app/:name" => Action::Immediate(hello),
        GET "/json" => Action::Immediate(hello),
    }
}

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

fn run_with(args: &[&str], variables: &[(&str, &str)], application: &Application) -> Ran {
    let args = std::iter::once("ringfort").chain(args.iter().copied()).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_application(args, variables, &mut out, &mut err, application);
    let text = |bytes| String::from_utf8(bytes).expect("commands print UTF-8");
    Ran { exit, out: text(out), err: text(err) }
}

fn run(args: &[&str]) -> Ran {
    run_with(args, &[], &Application::new(&[]))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn bad(name: &str) -> String {
    repository("tests/data/config/bad").join(name).display().to_string()
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for args in [
        &["bogus"][..],
        &["check", "--bogus"],
        &["serve", "--driver", "kqueue"],
        &["serve", "--executor", "tokio"],
        &["explain", "GET"],
        &["explain", "G T", "/"],
        &["explain", "GET", "/a b"],
        &["explain", "GET", "/", "-H", "no colon"],
        &["explain", "GET", "/", "-H", "X: a\r\nHost: b"],
    ] {
        let ran = run(args);
        assert_eq!(ran.exit, Exit::Usage, "{args:?}");
        assert!(!ran.err.is_empty() && ran.out.is_empty(), "{args:?}");
    }
    assert_eq!([Exit::Done, Exit::Failed, Exit::Usage, Exit::Config].map(Exit::code), [0, 1, 64, 78]);
}

#[test]
fn help_and_version_are_answers() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["help", "explain"]] {
        let ran = run(args);
        assert_eq!(ran.exit, Exit::Done, "{args:?}");
        assert!(ran.err.is_empty() && !ran.out.is_empty() && !ran.out.contains('\u{1b}'), "{args:?}");
    }
    let help = run(&["--help"]).out;
    for word in ["64", "78", "RINGFORT__", "serve", "check", "routes", "explain", "schema", "doctor", "new"] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn check_tells_every_error_and_ends_with_78() {
    let file = bad("durations.json");
    let ran = run(&["check", "--config", &file]);
    assert_eq!(ran.exit, Exit::Config);
    assert_eq!(ran.err.lines().count(), 6, "{}", ran.err);
    assert!(ran.err.lines().take(5).all(|line| line.starts_with(&format!("{file}: server.timeouts."))), "{}", ran.err);
    assert!(ran.err.ends_with("ringfort: 5 errors in the config\n"), "{}", ran.err);

    let ran = run(&["check", "--config", &file, "--json"]);
    assert_eq!((ran.exit, &ran.json()["valid"]), (Exit::Config, &Value::Bool(false)));
    assert_eq!(ran.json()["errors"][1]["path"], "server.timeouts.body");
    assert_eq!(ran.json()["errors"][1]["suggestion"], "30s");
}

#[test]
fn an_executor_that_is_not_built_is_refused_with_what_is() {
    for name in ["monoio", "glommio"] {
        let choice: ExecutorChoice = name.parse().unwrap();
        let variables = [("RINGFORT__CORES__EXECUTOR", name)];
        let application = Application::new(&[]);
        let ran = run_with(&["check"], &variables, &application);
        let doctor = run_with(&["doctor", "--json"], &variables, &application).json();
        let finding =
            doctor["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "executor").cloned();
        let found = finding.unwrap()["found"].as_str().unwrap().to_owned();
        let Err(missing) = choice.resolve() else {
            assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
            assert!(found.starts_with(&format!("{name} (this build has: compio, ")), "{found}");
            continue;
        };
        assert_eq!(ran.exit, Exit::Config);
        let expected =
            format!("cores.executor: expected an executor that this build has ({missing}), found \"{name}\"\n");
        assert!(ran.err.contains(&expected), "{}", ran.err);
        assert!(
            found.starts_with("compio (this build has: compio"),
            "a config with mistakes is judged by defaults: {found}"
        );
        let ran = run(&["serve", "--executor", name]);
        assert!(ran.exit == Exit::Config && ran.err.contains("cores.executor: "), "{}", ran.err);
    }
}

#[test]
fn serve_opens_nothing_before_the_config_is_valid() {
    for args in [
        &["serve", "--config", &bad("conflicts.json")][..],
        &["--workers", "none"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--admin", "127.0.0.1:8080"],
        &["serve", "--log-level", "loud"],
        &["serve", "--config", "/nonexistent.json"],
    ] {
        let ran = run(args);
        assert_eq!(ran.exit, Exit::Config, "{args:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{args:?}");
    }
    let ran = run(&["serve", "--listen", "nowhere"]);
    assert!(ran.err.contains("server.listen[0]: ") && ran.err.contains("(set by --listen)"), "{}", ran.err);
}

#[test]
fn the_environment_counts_for_every_command() {
    let application = Application::new(&[]);
    let good = [("RINGFORT__SERVER__LISTEN", "127.0.0.1:1234")];
    let ran = run_with(&["check"], &good, &application);
    assert!(ran.exit == Exit::Done && ran.out.contains("127.0.0.1:1234"), "{}{}", ran.out, ran.err);
    for command in ["check", "routes", "serve"] {
        let ran = run_with(&[command], &[("RINGFORT__SERVER__LISEN", "127.0.0.1:1234")], &application);
        assert_eq!(ran.exit, Exit::Config);
        assert!(ran.err.contains("did you mean \"RINGFORT__SERVER__LISTEN\"?"), "{}", ran.err);
    }
}

#[test]
fn routes_are_listed_in_the_order_in_which_they_are_asked() {
    let application = Application::new(&[&ROUTES]);
    let welcome = repository("config/default.json").display().to_string();
    let ran = run_with(&["routes", "--config", &welcome], &[], &application);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[0], "#  host  methods  path        handler");
    assert_eq!(lines[1], "0  any   GET      /app/:name  application");
    assert_eq!(lines[4], "3  any   GET      /plaintext  respond");
    let ran = run(&["routes", "--json"]);
    assert_eq!(ran.json()["routes"][4]["path"], "/api/*rest");
    assert_eq!(ran.json()["routes"][4]["methods"], Value::Null);
}

#[test]
fn explain_names_the_winner_the_losers_and_what_runs() {
    let ran = run(&["explain", "GET", "http://example.com/users/./%37?x=1"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    for line in [
        "  host    example.com",
        "  path    /users/7   (sent as /users/./%37)",
        "  query   x=1",
        "  route   routes[3]: GET /users/:id",
        "  param   id = \"7\"",
        "why the others lost, nearest first:",
    ] {
        assert!(ran.out.lines().any(|found| found == line), "{line}\n{}", ran.out);
    }
    let ran = run(&["explain", "HEAD", "/users/7", "--json"]);
    assert_eq!((&ran.json()["outcome"], &ran.json()["params"]["id"]), (&"route".into(), &"7".into()));
    assert_eq!(ran.json()["route"]["handler"], "respond");
    assert_eq!(ran.json()["losers"].as_array().map(Vec::len), Some(4));
}

#[test]
fn explain_shows_the_upstreams_of_a_route_and_the_conditions_that_decided() {
    let example = repository("config/example.json").display().to_string();
    let url = "http://api.example.com/api/x?version=2.1";
    let ran = run(&[
        "explain",
        "GET",
        url,
        "--config",
        &example,
        "-H",
        "X-Preview: 1",
        "-H",
        "Cookie: channel=next; beta=yes",
    ]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    for line in [
        "  route   routes[6]: any api.example.com/api/*rest",
        "  because header x-preview is there",
        "  because query version begins with \"2.\"",
        "  because cookie channel is \"next\"",
        "  runs    proxy to next or api",
        "  to      next for 9 of 10 requests, by hash over client_address (rendezvous)",
        "  server  next.example.com:80 (weight 1)",
        "  to      api for 1 of 10 requests, by p2c",
        "  server  unix:/run/api.sock (weight 1, backup)",
        "  routes[5]  api.example.com/api/*rest  matches too, but routes[6] is tried before it",
    ] {
        assert!(ran.out.lines().any(|found| found == line), "{line}\n{}", ran.out);
    }
    let json = run(&["explain", "GET", url, "--config", &example, "--json", "-H", "X-Preview: 1"]).json();
    assert_eq!((&json["route"]["index"], &json["route"]["handler"]), (&5.into(), &"proxy".into()));
    assert_eq!(json["route"]["when"], Value::Array(Vec::new()));
    let upstream = &json["route"]["upstreams"][0];
    assert_eq!((&upstream["name"], &upstream["balance"]), (&"api".into(), &"p2c".into()));
    assert_eq!(upstream["servers"][1]["address"], "unix:/run/api.sock");
    assert_eq!(upstream["servers"][1]["backup"], true);
    let loser = &json["losers"][0];
    assert_eq!((&loser["index"], &loser["failed"][0]), (&6.into(), &"cookie beta is \"yes\"".into()));
    let reason = "same path, but it is not so that cookie beta is \"yes\", nor that cookie channel is \"next\"";
    assert_eq!(loser["reason"], reason);
    assert!(run(&["check", "--config", &example]).out.contains(": ok: 7 routes, 3 upstreams, listening on "));
    let ran = run(&["routes", "--config", &example]);
    assert!(ran.out.lines().next().is_some_and(|head| head.split_whitespace().last() == Some("when")), "{}", ran.out);
    let json = run(&["routes", "--config", &example, "--json"]).json();
    assert_eq!(json["routes"][6]["when"][0], "header x-preview is there");
}

#[test]
fn explain_tells_that_no_conditions_hold() {
    let file = std::env::temp_dir().join(format!("ringfort-conditions-{}.json", std::process::id()));
    let config = r#"{ "routes": [{ "match": { "path": "/a", "headers": { "X": "1" } }, "respond": {} }] }"#;
    std::fs::write(&file, config).expect("a file can be written");
    let config = file.display().to_string();
    let ran = run(&["explain", "GET", "/a", "--config", &config]);
    let json = run(&["explain", "GET", "/a", "--config", &config, "--json", "-H", "X: 2"]).json();
    std::fs::remove_file(&file).expect("the file can be removed");
    let line = "  answers 404 Not Found: no route for this path and method has conditions that hold";
    assert!(ran.out.lines().any(|found| found == line), "{}", ran.out);
    assert_eq!((&json["outcome"], &json["status"]), (&"not found".into(), &404.into()));
    assert_eq!(json["losers"][0]["failed"][0], "header x is \"1\"");
}

#[test]
fn explain_answers_as_the_server_would_without_a_route() {
    for (method, url, outcome, status) in [
        ("POST", "/json", "method not allowed", 405),
        ("OPTIONS", "/json", "options", 204),
        ("OPTIONS", "*", "server", 204),
        ("CONNECT", "example.com:443", "server", 501),
        ("GET", "/nowhere", "not found", 404),
        ("GET", "/a%2Fb", "refused", 400),
        ("GET", "/../x", "refused", 400),
        ("GET", "ftp://example.com/", "refused", 400),
        ("GET", "http://user@example.com/", "refused", 400),
    ] {
        let json = run(&["explain", method, url, "--json"]).json();
        assert_eq!((&json["outcome"], &json["status"]), (&outcome.into(), &status.into()), "{method} {url}");
    }
    let json = run(&["explain", "POST", "/json", "--json"]).json();
    assert_eq!(json["allow"], "GET, HEAD, OPTIONS");
    let json = run(&["explain", "GET", "/json#part", "--json", "-H", "Host: a", "-H", "Host: b"]).json();
    assert_eq!(json["outcome"], "refused");
}

#[test]
fn explain_asks_the_application_first() {
    let application = Application::new(&[&ROUTES]);
    let welcome = repository("config/default.json").display().to_string();
    let json = run_with(&["explain", "GET", "/json", "--json", "--config", &welcome], &[], &application).json();
    assert_eq!((&json["route"]["source"], &json["route"]["handler"]), (&"application".into(), &"application".into()));
    let ran = run_with(&["explain", "GET", "/app/x", "--config", &welcome], &[], &application);
    assert!(ran.out.contains("application[0]: GET /app/:name"), "{}", ran.out);
    assert!(ran.out.contains("not asked, for an earlier table knows the path: routes"), "{}", ran.out);
    let json = run_with(&["explain", "GET", "/plaintext", "--json", "--config", &welcome], &[], &application).json();
    assert_eq!((&json["route"]["source"], &json["route"]["index"]), (&"routes".into(), &1.into()));
}

#[test]
fn an_application_without_a_config_file_serves_its_own_routes_alone() {
    let application = Application::new(&[&ROUTES]);
    let json = run_with(&["routes", "--json"], &[], &application).json();
    let handlers = json["routes"].as_array().expect("a list").iter().map(|route| &route["handler"]);
    assert!(handlers.clone().count() > 0 && handlers.clone().all(|handler| handler == "application"), "{json}");
}

#[test]
fn schema_prints_the_published_schema() {
    let ran = run(&["schema"]);
    let published = std::fs::read_to_string(repository("config/schema.json")).expect("the schema is there");
    assert!(ran.exit == Exit::Done && ran.out == published);
}

#[test]
fn doctor_grades_each_finding_and_says_how_to_mend_it() {
    let application = Application::new(&[]);
    // Ports that the kernel chooses, so that nothing else on this host decides the outcome.
    let free = [("RINGFORT__SERVER__LISTEN", "127.0.0.1:0"), ("RINGFORT__ADMIN__LISTEN", "127.0.0.1:0")];
    let json = run_with(&["doctor", "--json"], &free, &application).json();
    let findings = json["findings"].as_array().expect("a list");
    for name in [
        "config",
        "executor",
        "kernel",
        "io_uring",
        "seccomp",
        "nofile",
        "memlock",
        "cores",
        "layout",
        "reuseport",
        "listen",
        "admin",
        "openat2",
    ] {
        assert!(findings.iter().any(|finding| finding["name"] == name), "{name}");
    }
    for finding in findings {
        let grade = finding["grade"].as_str().unwrap_or_default();
        assert!(["ok", "warn", "fail"].contains(&grade), "{finding}");
        assert_eq!(finding["fix"].is_null(), grade == "ok", "{finding}");
    }
    let ran = run(&["doctor", "--config", &bad("conflicts.json")]);
    assert_eq!(ran.exit, Exit::Config);
    assert!(ran.out.starts_with("fail  config") && ran.out.contains("routes[2].match.path: "), "{}", ran.out);
}

#[test]
fn doctor_fails_where_an_address_cannot_be_listened_on() {
    let application = Application::new(&[]);
    // A documentation address (RFC 5737): no host has it.
    let ran = run_with(&["doctor"], &[("RINGFORT__SERVER__LISTEN", "192.0.2.1:80")], &application);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.out.contains("fail  listen      192.0.2.1:80: "), "{}", ran.out);
}

#[test]
fn top_shows_the_running_server_and_says_where_there_is_none() {
    let upstream = upstream::Upstream::answering(|_| upstream::ok("there"));
    let routes = json!([{ "match": { "path": "/there" }, "proxy": { "upstream": "api" } }]);
    let servers = json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let server = Start::command(on_hand("epoll"), routes).upstream("api", servers).serve();
    assert_eq!(server.get("/there").text(), "there");
    let admin = server.admin.to_string();
    // The master adds up once a second.
    let mut ran = run(&["top", "--once", "--admin", &admin]);
    wait_until("the request is shown", || {
        ran = run(&["top", "--once", "--admin", &admin]);
        ran.out.contains("/there ")
    });
    assert!(ran.exit == Exit::Done && ran.out.contains(" serving for ") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    let server_line = ran.out.lines().find(|line| line.starts_with("api ")).expect("the upstream");
    assert!(server_line.contains(&upstream.address.to_string()) && server_line.contains("available"), "{server_line}");
    assert_eq!(ran.out.lines().filter(|line| line.contains(" running ")).count(), 2, "{}", ran.out);
    drop(server);
    let ran = run(&["top", "--once", "--admin", &admin]);
    assert!(ran.exit == Exit::Failed && ran.err.contains("cannot ask the server"), "{}", ran.err);
}

#[test]
fn diff_says_what_a_reload_would_do_and_whether_it_can() {
    let directory = std::env::temp_dir().join(format!("ringfort-diff-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = |name: &str, config: Value| {
        let path = directory.join(name);
        std::fs::write(&path, config.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let route = |path: &str| json!({ "match": { "path": path }, "respond": { "text": "x" } });
    let old = file("old", json!({ "routes": [route("/a"), route("/b")] }));
    let new = file("new", json!({ "routes": [route("/b"), route("/c")], "server": { "timeouts": { "idle": "5s" } } }));
    let fixed = file("fixed", json!({ "cores": { "workers": 1 } }));
    let broken = file("broken", json!({ "routes": {} }));
    let ran = run(&["diff", &old, &new]);
    let expected = "+ route added: /c\n- route removed: /a\n~ server.timeouts.idle: \"75s\" -> \"5s\"\n";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, expected));
    let ran = run(&["diff", &old, &old]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, "no change\n"));
    let ran = run(&["diff", "--json", &old, &fixed]);
    assert_eq!((ran.exit, &ran.json()["can_be_reloaded"]), (Exit::Failed, &json!(false)));
    assert_eq!(ran.json()["changes"]["fixed"][0]["path"], "cores.workers");
    let ran = run(&["diff", &old, &broken]);
    assert!(ran.exit == Exit::Config && ran.err.contains("routes: expected"), "{}", ran.err);
    std::fs::remove_dir_all(directory).unwrap();
}
