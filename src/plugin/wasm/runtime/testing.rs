//! Guests for tests, from their text form.

use std::sync::Arc;
use std::time::Duration;

use super::host::Setting;
use super::instance::{Fault, Instance};
use super::program::{Program, ProgramError};
use super::shared::Shared;
use crate::proxy::{Upstream, UpstreamSpec, Upstreams};

/// The beginning of all guests: memory, the ABI's version, an allocator that never frees. Imports come before it.
pub(super) const PRELUDE: &str = r#"
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 65536))
  (func (export "proxy_abi_version_0_2_1"))
  (func $allocate (export "proxy_on_memory_allocate") (param i32) (result i32)
    global.get $top
    (global.set $top (i32.add (global.get $top) (local.get 0))))
"#;

/// A guest that imports `imports` and has `body` besides [`PRELUDE`].
pub(super) fn text(imports: &str, body: &str) -> String {
    format!("(module {imports} {PRELUDE} {body})")
}

/// Compiles a guest.
pub(super) fn compile(text: &str) -> Result<Arc<Program>, ProgramError> {
    Program::of(&wat::parse_str(text).expect("the test's text is WebAssembly"))
}

/// The upstream `one`, which has no server.
pub(super) fn upstream() -> Arc<Upstream> {
    let spec = UpstreamSpec {
        name: "one".to_owned(),
        servers: Vec::new(),
        balance: Default::default(),
        slow_start: Duration::ZERO,
        pool: Default::default(),
        timeouts: Default::default(),
        retry: Default::default(),
        hedge_after: None,
        health: None,
        ejection: None,
        breaker: None,
        limits: Default::default(),
    };
    Upstreams::new(vec![spec]).find("one").expect("it is there").clone()
}

/// What guests of tests are allowed.
pub(super) fn setting(name: &str, configuration: &str) -> Arc<Setting> {
    Arc::new(Setting {
        name: name.to_owned(),
        module: name.to_owned(),
        root_id: "root".to_owned(),
        configuration: configuration.as_bytes().to_vec(),
        memory_max: 4 << 20,
        time_max: Duration::from_millis(20),
        body_max: 1 << 20,
        upstreams: vec![upstream()],
        shared: Shared::of(name),
    })
}

/// Compiles and starts a guest.
pub(super) fn start(name: &str, text: &str) -> Result<Instance, Fault> {
    Instance::start(&compile(text).expect("the guest compiles"), &setting(name, "hello"))
}
