//! Plugins that loop, allocate without end, or trap: they harm nobody else, and are named.

use serde_json::json;

use super::guests::{Modules, plugin, route};
use crate::support::{Client, Server, wait_until};

/// A guest that does this with each request.
fn put(modules: &Modules, name: &str, body: &str) {
    let body = format!(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body})"#);
    modules.put(name, "", &body);
}

fn serve(modules: &Modules) -> Server {
    put(modules, "loop", "(loop $l (br $l)) i32.const 0");
    put(modules, "trap", "unreachable");
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    put(modules, "grow", grow);
    let named = |path: &str, module: &str, on_failure: &str| route(path, plugin(module, on_failure));
    let routes = json!([
        named("/loop", "loop", "closed"),
        named("/loop/open", "loop", "open"),
        named("/trap", "trap", "closed"),
        named("/trap/open", "trap", "open"),
        named("/grow", "grow", "closed"),
        { "match": { "path": "/calm" }, "respond": { "text": "calm" } },
    ]);
    modules.start(routes).workers(1).serve()
}

#[test]
fn each_failure_is_that_of_one_request_and_names_the_plugin() {
    let modules = Modules::new();
    let server = serve(&modules);
    let mut client = server.client();
    let cases = [
        ("/loop", 500, "loop", "of CPU time"),
        ("/loop/open", 200, "loop", "of CPU time"),
        ("/trap", 500, "trap", "unreachable"),
        ("/trap/open", 200, "trap", "unreachable"),
        ("/grow", 500, "grow", "was refused more memory"),
    ];
    for (path, status, module, reason) in cases {
        assert_eq!(client.get(path).status, status, "{path}");
        assert_eq!(client.get("/calm").text(), "calm", "the connection goes on");
        wait_until("it is named", || {
            let is_said = |line: &String| {
                line.contains("a WASM plugin failed: it ")
                    && line.contains(&format!("\"module\":\"{module}\""))
                    && line.contains(reason)
            };
            server.log().iter().any(is_said)
        });
    }
}

#[test]
fn others_are_answered_while_a_plugin_loops_until_it_is_switched_off() {
    let modules = Modules::new();
    let mut server = serve(&modules);
    let address = server.address;
    let attackers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                (0..10).all(|_| client.get("/loop").status == 500)
            })
        })
        .collect();
    let mut client = server.client();
    while attackers.iter().any(|attacker| !attacker.is_finished()) {
        assert_eq!(client.get("/calm").text(), "calm");
        assert_eq!(client.get("/trap/open").status, 200);
    }
    assert!(attackers.into_iter().all(|attacker| attacker.join().unwrap()));
    let line = server.log_line("a WASM plugin is switched off: it failed 10 times in a row").unwrap();
    assert_eq!((&line["level"], &line["plugin"]), (&json!("ERROR"), &json!("loop")));
    assert_eq!(client.get("/loop").status, 500);
    // Another module in its place is tried again.
    modules.put("loop", "", "");
    wait_until("the new module is in force", || client.get("/loop").status == 200);
}
