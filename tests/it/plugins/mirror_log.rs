//! `mirror-log` with bodies: what is written of them, and that what is written can be sent again as the documentation says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::upstream::Upstream;
use crate::support::{Server, Start, on_hand, wait_until};

/// A directory of the test's own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringfort-it-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An upstream that keeps what it is asked: request line, type and body.
fn keeping() -> (Upstream, Arc<Mutex<Vec<[String; 3]>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let upstream = Upstream::answering(move |request| {
        let lines: Vec<&str> = request.head.lines().collect();
        let of = |name: &str| {
            let line = lines.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.map_or(String::new(), |line| line[name.len()..].trim().to_owned())
        };
        let body = String::from_utf8_lossy(&request.body).into_owned();
        kept.lock().unwrap().push([lines[0].to_owned(), of("content-type:"), body]);
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    (upstream, asked)
}

fn gateway(upstream: &Upstream, plugins: Value) -> Server {
    let routes = json!([
        { "match": { "path": "/unread" }, "respond": { "text": "hello" }, "plugins": plugins },
        { "match": { "path": "/*rest" }, "proxy": { "upstream": "api" }, "plugins": plugins },
    ]);
    let upstream = json!({ "servers": [{ "address": upstream.address.to_string() }] });
    Start::command(on_hand("epoll"), routes).workers(1).upstream("api", upstream).serve()
}

fn mirror(file: &Path, mut options: Value) -> Value {
    options["file"] = json!(file);
    options["share"] = json!(1.0);
    json!({ "use": "mirror-log", "options": options })
}

/// The lines of the file, when there are so many.
fn lines(file: &Path, count: usize) -> Vec<Value> {
    let mut text = String::new();
    wait_until("the lines are written", || {
        text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().count() >= count
    });
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn post(server: &Server, target: &str, fields: &str, body: &[u8]) {
    let head = format!("POST {target} HTTP/1.1\r\nHost: shop.test\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    let answer = server.client().send([head.as_bytes(), body].concat()).response();
    assert!(answer.status < 400, "{answer:?}");
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";

#[test]
fn bodies_are_written_as_the_handler_read_them_without_secrets() {
    let (directory, (upstream, _)) = (Directory::new("mirror-bodies"), keeping());
    let file = directory.0.join("mirror.jsonl");
    let options =
        json!({ "body": "64B", "body_types": ["application/json", "application/x-www-form-urlencoded", "text/*"] });
    let server = gateway(&upstream, json!([mirror(&file, options)]));
    post(&server, "/form", FORM, b"a=1&password=geheim&b=2");
    post(&server, "/json", JSON, br#"{"a": 1, "auth": {"user": "geheim"}}"#);
    post(&server, "/json/not", JSON, b"password=geheim");
    post(&server, "/text", "Content-Type: text/plain\r\n", b"\xff\0");
    post(&server, "/other", "Content-Type: application/octet-stream\r\n", b"geheim");
    post(&server, "/untyped", "", b"geheim");
    post(&server, "/two", &format!("{FORM}{JSON}"), b"geheim");
    post(&server, "/coded", &format!("{FORM}Content-Encoding: gzip\r\n"), b"geheim");
    post(&server, "/long", "Content-Type: text/plain\r\n", &[b'x'; 100_000]);
    post(&server, "/empty", JSON, b"");
    post(&server, "/unread", JSON, b"{}");
    let mut client = server.client();
    client.send(format!("POST /chunks HTTP/1.1\r\nHost: shop.test\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(client.send("3\r\na=1\r\na\r\n&tok%65n=g\r\n5\r\neheim\r\n0\r\n\r\n").response().status, 201);
    assert_eq!(server.get("/none").status, 201);
    let lines = lines(&file, 13);
    let is = |target: &str| {
        let line = lines.iter().find(|line| line["target"] == target).unwrap();
        json!([line.get("body"), line.get("body_base64"), line["body_is"]])
    };
    for (target, expected) in [
        ("/form", json!(["a=1&password=(hidden)&b=2", null, "whole"])),
        ("/json", json!([r#"{"a": 1, "auth":"(hidden)"}"#, null, "whole"])),
        ("/json/not", json!([null, null, "left_out"])),
        ("/text", json!([null, "/wA=", "whole"])),
        ("/other", json!([null, null, "left_out"])),
        ("/untyped", json!([null, null, "left_out"])),
        ("/two", json!([null, null, "left_out"])),
        ("/coded", json!([null, null, "left_out"])),
        ("/long", json!(["x".repeat(64), null, "cut"])),
        ("/empty", json!(["", null, "whole"])),
        ("/unread", json!(["", null, "cut"])),
        ("/chunks", json!(["a=1&tok%65n=(hidden)", null, "whole"])),
        ("/none", json!(["", null, "whole"])),
    ] {
        assert_eq!(is(target), expected, "{target}");
    }
    assert!(!std::fs::read_to_string(&file).unwrap().contains("geheim"));
}

#[test]
fn a_compressed_body_is_written_where_it_was_decompressed_in_any_order_of_the_plugins() {
    let (directory, (upstream, asked)) = (Directory::new("mirror-decompress"), keeping());
    let files = [directory.0.join("first.jsonl"), directory.0.join("second.jsonl")];
    let options = json!({ "body": "1KiB" });
    let plugins = json!([mirror(&files[0], options.clone()), { "use": "decompress" }, mirror(&files[1], options)]);
    let server = gateway(&upstream, plugins);
    // `a=1&secret=geheim`, stored in a block of its own.
    let plain = b"a=1&secret=geheim";
    let mut packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x11\0\xee\xff".to_vec();
    packed.extend_from_slice(plain);
    packed.extend_from_slice(&crc32(plain).to_le_bytes());
    packed.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    post(&server, "/", &format!("{FORM}Content-Encoding: gzip\r\n"), &packed);
    assert_eq!(asked.lock().unwrap()[0][2].as_bytes(), plain);
    for file in &files {
        let line = lines(file, 1).remove(0);
        assert_eq!((&line["body"], &line["body_is"]), (&json!("a=1&secret=(hidden)"), &json!("whole")));
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn what_was_written_is_sent_again_by_the_program_in_the_documentation() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins/mirror-log.md");
    let page = std::fs::read_to_string(page).unwrap();
    let program = page.split("```python\n").nth(1).unwrap().split("\n```").next().unwrap();
    let (directory, (upstream, asked)) = (Directory::new("mirror-replay"), keeping());
    let (file, script) = (directory.0.join("mirror.jsonl"), directory.0.join("replay.py"));
    std::fs::write(&script, program).unwrap();
    let server = gateway(
        &upstream,
        json!([mirror(&file, json!({ "body": "1KiB", "body_types": ["application/json", "text/*"] }))]),
    );
    post(&server, "/a%20b?x=%C3%A9", JSON, "{\"name\": \"é\"}".as_bytes());
    post(&server, "/bytes", "Content-Type: text/x\r\n", b"\x01\x02");
    post(&server, "/unknown", FORM, b"a=1");
    post(&server, "/long", "Content-Type: text/plain\r\n", &[b'x'; 2000]);
    assert_eq!(server.get("/none?q").status, 201);
    lines(&file, 5);
    let first = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(first.len(), 5);
    let run = Command::new("python3").arg(&script).arg(&file).arg(upstream.address.to_string()).output();
    // The lines were read above; only who has the interpreter sends them again.
    let Ok(run) = run else { return };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let expected: Vec<_> =
        first.iter().filter(|[line, ..]| !line.contains("/unknown") && !line.contains("/long")).collect();
    let again = asked.lock().unwrap();
    assert_eq!(again.iter().collect::<Vec<_>>(), expected);
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(said.lines().next(), Some("201 201 POST /a%20b?x=%C3%A9"));
    assert_eq!(said.lines().count(), 3);
}
