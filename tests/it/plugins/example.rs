//! The example of a plugin of one's own.

#[path = "../../../examples/plugin.rs"]
#[allow(dead_code, reason = "its main is not run")]
mod program;

use serde_json::json;

use super::application;

/// Has configs know the example's plugin.
pub(crate) fn register() {
    drop(program::application());
}

#[test]
fn the_example_refuses_old_clients_and_the_config_checks_its_options() {
    let plugin = |options| json!([{ "use": "api-version", "options": options }]);
    let mut server = application(plugin(json!({ "oldest": 2 }))).serve();
    for (version, status) in
        [("", 200), ("Api-Version: 2\r\n", 200), ("Api-Version: 1\r\n", 410), ("Api-Version: x\r\n", 400)]
    {
        let answer = server.client().send(format!("GET / HTTP/1.1\r\nHost: test\r\n{version}\r\n")).response();
        assert_eq!((answer.status, answer.field("api-version-oldest")), (status, Some("2")), "{version}");
    }
    server.edit(|config| config["plugins"] = plugin(json!({ "oldest": 0 })));
    let answer = server.reload();
    assert_ne!(answer.status, 200);
    assert!(answer.text().contains("plugins[0].options.oldest"), "{}", answer.text());
}
