//! Plugins: the pipeline by a plugin that does as it is told, then those that come with the server.

mod attacks;
mod auth;
mod builtin;
mod cache;
mod docs;
mod encode;
pub(crate) mod example;
mod mirror_log;
mod pipeline;
mod traffic;

use serde_json::{Value, json};

use crate::support::{Start, on_hand};

/// The tests' application with these global plugins.
fn application(plugins: Value) -> Start {
    Start::app(on_hand("epoll")).workers(1).set("plugins", plugins).watch(false)
}

/// A probe with this tag and these further options.
fn probe(tag: &str, mut options: Value) -> Value {
    options["tag"] = tag.into();
    json!({ "use": "probe", "name": tag, "options": options })
}
