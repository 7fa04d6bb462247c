//! Plugins from their text form, and the directory that a server finds them in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::{Start, on_hand};

/// What all have: memory, the ABI's version, an allocator that gives the same place again and again.
const PRELUDE: &str = r#"
  (memory (export "memory") 4)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 65536)
"#;

/// A directory of modules that is removed with it.
pub(super) struct Modules(PathBuf);

impl Modules {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ringfort-wasm-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// Puts a module there, of these imports and this body; where there is one, in its place, as a careful operator does.
    pub(super) fn put(&self, name: &str, imports: &str, body: &str) {
        self.put_bytes(name, &wat::parse_str(format!("(module {imports} {PRELUDE} {body})")).unwrap());
    }

    pub(super) fn put_bytes(&self, name: &str, bytes: &[u8]) {
        let (new, file) = (self.0.join("new"), self.0.join(format!("{name}.wasm")));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, file).unwrap();
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A server with these routes that finds its modules here.
    pub(super) fn start(&self, routes: Value) -> Start {
        Start::command(on_hand("epoll"), routes).key("wasm", json!({ "dir": self.0 })).log("level", "info")
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A plugin of a route.
pub(super) fn plugin(module: &str, on_failure: &str) -> Value {
    json!({ "use": "wasm", "name": module, "on_failure": on_failure, "options": { "module": module } })
}

/// A route that answers with its own path, with this plugin before it.
pub(super) fn route(path: &str, plugin: Value) -> Value {
    json!({ "match": { "path": path }, "respond": { "text": path }, "plugins": [plugin] })
}

/// A guest that adds `x-version: VERSION` to responses.
pub(super) fn put_version(modules: &Modules, name: &str, version: &str) {
    let size = version.len();
    let imports = r#"(import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = format!(
        r#"(data (i32.const 0) "x-version{version}")
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $add (i32.const 2) (i32.const 0) (i32.const 9) (i32.const 9) (i32.const {size})))"#
    );
    modules.put(name, imports, &body);
}
