//! The configs of the pages, and those that are refused.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use ringfort::cli::{Application, Exit, run_application};
use serde_json::{Value, json};

use super::{Directory, data};

/// What `ringfort check` says of a config in a directory with all files that one may name.
fn check(config: &str) -> (Exit, String) {
    let directory = Directory::new();
    directory.file("partner.key", "0123456789abcdef\n");
    directory.file("api-keys.txt", &format!("# keys\n\nshop {}\n", "5a".repeat(32)));
    directory.file("users", "ann:$2b$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i\n");
    directory.file("rsa.pem", &fs::read_to_string(data("jwt/rsa.pem")).unwrap());
    directory.file("ca.pem", &fs::read_to_string(data("tls/ca.pem")).unwrap());
    directory.file("empty", "");
    let config = directory.file("ringfort.json", config);
    let args = ["ringfort", "check", "--config", &config].map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_application(args, std::iter::empty(), &mut out, &mut err, &Application::new(&[]));
    (exit, format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)))
}

#[test]
fn the_config_of_each_page_is_valid() {
    for name in ["api-key", "basic-auth", "forward-auth", "jwt"] {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/plugins/{name}.md"));
        let page = fs::read_to_string(page).unwrap();
        let blocks: Vec<_> = page.split("```json\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
        assert!(!blocks.is_empty(), "{name}");
        for block in blocks {
            let (exit, said) = check(block);
            assert_eq!(exit, Exit::Done, "{name}: {said}");
        }
    }
}

/// `ringfort check` names this place and says this, and nothing that nobody may know.
#[track_caller]
fn expect_refused(kind: &str, options: &Value, place: &str, found: &str) {
    let plugins = json!([{ "use": kind, "options": options }]);
    let config = json!({ "routes": [{ "match": { "path": "/" }, "respond": { "text": "" }, "plugins": plugins }] });
    let (exit, said) = check(&config.to_string());
    assert_eq!(exit, Exit::Config, "{options}: {said}");
    assert!(said.contains(place) && said.contains(found), "{options}: {said}");
    assert!(!said.contains("a secret of exactly") && !said.contains("s3cret") && !said.contains("MIIB"), "{said}");
}

#[test]
fn options_that_cannot_be_meant_are_refused_with_their_place_and_without_secrets() {
    let secret = "a secret of exactly 32 bytes ...";
    let pem = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A";
    for (kind, options, place, found) in [
        ("jwt", json!({}), "options.keys", "at least one key"),
        ("jwt", json!({ "keys": [{}] }), "options.keys[0]", "0 of them"),
        ("jwt", json!({ "keys": [{ "secret": "s3cret" }] }), "options.keys[0].secret", "of 6 bytes"),
        ("jwt", json!({ "keys": [{ "secret": pem }] }), "options.keys[0].secret", "belongs to"),
        ("jwt", json!({ "keys": [{ "pem": "users" }] }), "options.keys[0].pem", "without one"),
        ("jwt", json!({ "keys": [{ "jwks": "rsa.pem" }] }), "options.keys[0].jwks", "no JSON object"),
        ("jwt", json!({ "keys": [{ "secret": secret, "refresh": "1m" }] }), "options.keys[0].refresh", "another kind"),
        ("jwt", json!({ "keys": [{ "secret": secret }], "leeway": "1h" }), "options.leeway", "at most 10m"),
        ("jwt", json!({ "keys": [{ "secret": secret }], "algorithms": ["none"] }), "options.algorithms[0]", "none"),
        ("jwt", json!({ "keys": [{ "secret": secret }], "algorithms": ["RS256"] }), "options.algorithms[0]", "RS256"),
        (
            "jwt",
            json!({ "keys": [{ "secret": secret }], "before_routing": true }),
            "options.before_routing",
            "on a route",
        ),
        (
            "jwt",
            json!({ "keys": [{ "secret": secret }], "claims_to_headers": { "a": "Host" } }),
            "claims_to_headers",
            "Host",
        ),
        ("basic-auth", json!({ "file": "rsa.pem" }), "options.file", "line 1 of"),
        ("basic-auth", json!({ "file": "absent" }), "options.file", "absent"),
        ("basic-auth", json!({ "file": "users", "remember": "2h" }), "options.remember", "at most 1h"),
        ("api-key", json!({ "file": "users" }), "options.file", "line 1 of"),
        ("forward-auth", json!({ "upstream": "nobody" }), "options.upstream", "nobody"),
        (
            "forward-auth",
            json!({ "upstream": "x", "request_headers": ["X-Forwarded-For"] }),
            "request_headers[0]",
            "For",
        ),
        ("forward-auth", json!({ "upstream": "x", "path": "auth" }), "options.path", "a path such as"),
    ] {
        expect_refused(kind, &options, place, found);
    }
}

#[test]
fn sets_of_keys_that_cannot_be_fetched_are_refused_with_their_place() {
    let (url, https) = ("http://127.0.0.1:1/", "https://127.0.0.1:1/");
    let secret = "a secret of exactly 32 bytes ...";
    for (key, place, found) in [
        (json!({ "jwks_url": "ftp://x/" }), "jwks_url", "a URL such as"),
        (json!({ "jwks_url": "https://a..b/" }), "jwks_url", "a URL such as"),
        (json!({ "jwks_url": "https://a@b/" }), "jwks_url", "a URL such as"),
        (json!({ "jwks_url": url, "jwks_ca": "ca.pem" }), "jwks_ca", "expected an https:// URL"),
        (json!({ "secret": secret, "jwks_ca": "ca.pem" }), "jwks_ca", "another kind"),
        (json!({ "jwks_url": https, "jwks_ca": "absent" }), "jwks_ca", "No such file"),
        (json!({ "jwks_url": https, "jwks_ca": "empty" }), "jwks_ca", "nothing in"),
        (json!({ "jwks_url": https, "jwks_ca": "rsa.pem" }), "jwks_ca", "no certificate in"),
        (json!({ "jwks_url": "http://a b/" }), "jwks_url", "a URL such as"),
        (json!({ "jwks_url": url, "refresh": "0s" }), "refresh", "from 1s"),
        (json!({ "jwks_url": url, "cooldown": "1ms" }), "cooldown", "from 100ms"),
    ] {
        expect_refused("jwt", &json!({ "keys": [key] }), &format!("options.keys[0].{place}"), found);
    }
}
