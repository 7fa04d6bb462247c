//! The plugins that ask who a client is.

mod api_key;
mod basic_auth;
mod documented;
mod forward_auth;
mod jwks_tls;
mod jwt;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::upstream::{Received, Upstream, ok};
use crate::support::{Client, Response, Server};

/// A directory of a test's own.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringfort-auth-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// An upstream that answers with the head that it got, and with the trailers, in lower case.
fn echo() -> Upstream {
    Upstream::answering(|request: &Received| {
        ok(format!("{}trailers: {}|", request.head, request.trailers).to_lowercase())
    })
}

/// Asks for a path with these field lines.
#[track_caller]
fn get(client: &mut Client, path: &str, fields: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).response()
}

#[track_caller]
fn status(server: &Server, path: &str, fields: &str) -> u16 {
    get(&mut server.client(), path, fields).status
}
