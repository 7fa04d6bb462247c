//! Checks that hold for every input, beside the code they check: bodies for property tests and fuzz targets.

use std::path::Path;

use serde_json::Value;

use super::compile::compile_rest;
use super::error::{ConfigError, Place, Step};
use super::load::{Draft, Input, load_text, read_draft, redact};
use super::model::{Action, Config};
use super::{Snapshot, json};
use crate::limits::CONFIG_DEPTH_MAX;

/// Loads `data` as a config and compiles it. Panics unless
/// - it is JSON exactly when `serde_json`, which is another parser, reads it, with the same values;
/// - every error has a place that is in the text or in the config in effect, says what was expected and found, and is one line;
/// - a config without errors is the same after it went out as its effective JSON and in again, and so are its routes.
pub fn check_config(data: &[u8]) {
    let parsed = json::parse(data);
    let other = serde_json::from_slice::<Value>(data);
    match (&parsed, &other) {
        (Ok(parsed), Ok(other)) => assert!(is_same(&parsed.value, other), "{:?} is read as {:?}", other, parsed.value),
        (Ok(parsed), Err(error)) => panic!("{:?} is read where JSON is wrong: {error}", parsed.value),
        (Err(_), Err(_)) => {}
        // Nesting and numbers have bounds that the other parser does not have.
        (Err(error), Ok(other)) => assert!(exceeds_bounds(other, data), "{error}"),
    }
    let draft = read_draft(data, &Input::default());
    check_errors(&draft.errors, other.as_ref().ok());
    assert!(draft.config.is_some() || !draft.errors.is_empty(), "refused without a reason");
    let is_good = draft.errors.is_empty();
    let Some(snapshot) = compile(draft, other.as_ref().ok()) else { return };
    if !is_good {
        return;
    }
    let config = &snapshot.config;
    assert_eq!(load_text(data).as_ref(), Ok(config));
    let effective = redact(config).to_string();
    let again = load_text(effective.as_bytes());
    assert_eq!(again.as_ref(), Ok(config), "the effective config differs: {effective}");
    let shown = |snapshot: &Snapshot| {
        let routes = snapshot.routes.describe();
        routes.map(|(info, name)| format!("{info:?} {name:?}")).collect::<Vec<_>>()
    };
    assert_eq!(snapshot.routes.names().len(), config.routes.len());
    let recompiled = compile(read_draft(effective.as_bytes(), &Input::default()), None).expect("it compiled before");
    assert_eq!(shown(&recompiled), shown(&snapshot));
}

/// Compiles what was read, unless that would look at files; its errors are checked as the others.
fn compile(draft: Draft, text: Option<&Value>) -> Option<Snapshot> {
    let Draft { config, omissions, .. } = draft;
    let config: Config = config?;
    if config.routes.iter().any(|route| matches!(route.action, Action::Files(_))) {
        return None;
    }
    match compile_rest(config, Path::new("."), &[], &omissions, None) {
        Ok(snapshot) => Some(snapshot),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            check_errors(&errors, text);
            None
        }
    }
}

fn check_errors(errors: &[ConfigError], text: Option<&Value>) {
    let effective = load_text(b"{}").map(|config| redact(&config)).expect("defaults are good");
    for error in errors {
        let is_told = !error.expected.is_empty() && !error.found.is_empty();
        assert!(is_told && !error.path.to_string().is_empty(), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error:?}");
        match &error.path {
            Place::Text { line, column } => assert!(*line >= 1 && *column >= 1, "{error:?}"),
            // One of two equal keys is not in the value, nor what was repeated inside it.
            Place::Value(_) if error.expected == "each key once" => {}
            Place::Value(steps) => {
                let Some(text) = text else { panic!("{error:?} in what is no JSON") };
                // A key that is missing has its place in the object that lacks it.
                let before = &steps[..steps.len().saturating_sub(1)];
                let lacks = follow(text, before).is_some_and(Value::is_object);
                let is_somewhere = follow(text, steps).is_some() || follow(&effective, steps).is_some();
                assert!(is_somewhere || lacks, "{error:?} is nowhere in {text}");
            }
            Place::Setting(_) | Place::File(_) => panic!("{error:?} without settings and files"),
        }
    }
}

fn follow<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// Equal, but for the last digits of fractions.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => one == other || (a - b).abs() <= f64::EPSILON * 4.0 * a.abs().max(b.abs()),
            _ => one == other,
        },
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_same(value, other)))
        }
        _ => one == other,
    }
}

/// Whether the value is nested too deeply, or has a number that is no 64-bit integer.
fn exceeds_bounds(value: &Value, data: &[u8]) -> bool {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    let digits = data.split(|b| !b.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
    depth(value) > CONFIG_DEPTH_MAX || digits >= 16 || data.iter().any(|b| matches!(b, b'e' | b'E'))
}
