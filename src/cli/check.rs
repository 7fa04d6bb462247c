//! `ringfort check`: every error of a config, or what it amounts to.

use std::io;

use serde_json::json;

use super::arguments::CheckOptions;
use super::{Exit, Session};
use crate::config::{ConfigError, Host, Prepared, list_ids};

pub(super) fn check(session: &mut Session<'_>, options: &CheckOptions) -> io::Result<Exit> {
    let input = session.input(options.config.as_ref());
    match session.prepare(&input, &Host::read()) {
        Ok(prepared) if options.json => {
            let value = json!({
                "valid": true,
                "origin": prepared.origin,
                "routes": prepared.snapshot.routes.names().len(),
                "upstreams": prepared.snapshot.upstreams.len(),
                "errors": [],
            });
            session.say_json(&value)?;
            Ok(Exit::Done)
        }
        Ok(prepared) => {
            session.say(summarize(&prepared))?;
            Ok(Exit::Done)
        }
        Err(failure) if options.json => {
            let errors: Vec<_> = failure.errors.iter().map(error_json).collect();
            session.say_json(&json!({ "valid": false, "origin": failure.origin, "errors": errors }))?;
            Ok(Exit::Config)
        }
        Err(failure) => session.refuse(&failure),
    }
}

/// One mistake for a script.
pub(super) fn error_json(error: &ConfigError) -> serde_json::Value {
    json!({
        "path": error.path.to_string(),
        "expected": error.expected,
        "found": error.found,
        "suggestion": error.suggestion,
        "message": error.to_string(),
    })
}

fn summarize(prepared: &Prepared) -> String {
    let Prepared { snapshot, plan, origin, .. } = prepared;
    let count = snapshot.routes.names().len();
    let listen: Vec<_> = snapshot.config.server.listen.iter().map(ToString::to_string).collect();
    let admin = snapshot.config.admin.listen.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let upstreams = match snapshot.upstreams.len() {
        0 => String::new(),
        1 => ", 1 upstream".to_owned(),
        several => format!(", {several} upstreams"),
    };
    format!(
        "{origin}: ok: {count} route{}{upstreams}, listening on {}, admin {admin}, {} on cores {}",
        if count == 1 { "" } else { "s" },
        listen.join(", "),
        describe_workers(plan.workers.len()),
        describe_cores(&plan.workers),
    )
}

/// `1 worker`, `3 workers`.
pub(super) fn describe_workers(count: usize) -> String {
    format!("{count} worker{}", if count == 1 { "" } else { "s" })
}

/// The cores, each once.
pub(super) fn describe_cores(workers: &[usize]) -> String {
    let mut cores = workers.to_vec();
    cores.sort_unstable();
    cores.dedup();
    list_ids(&cores)
}
