//! Plugins of a config: their options held against the schema that each kind has, and what is secret among them.

use serde_json::{Map, Value, json};

use super::error::{ConfigError, Place, Step, list_names, quote, suggest};
use super::rules::options_rule;
use super::schema::keyword;
use super::walk::check_value;
use crate::plugin;
use crate::secret::HIDDEN;

/// Everything that is wrong with the plugins of a config: kinds that there are not, and options that are not theirs.
pub(super) fn check_plugins(config: &Value) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    check_list(&["plugins".into()], config.get("plugins"), &mut errors);
    for (index, route) in config.get("routes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        errors.extend(check_route_plugins(route, index));
    }
    errors
}

/// The same of one route.
pub(super) fn check_route_plugins(route: &Value, index: usize) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    check_list(&["routes".into(), index.into(), "plugins".into()], route.get("plugins"), &mut errors);
    errors
}

fn check_list(base: &[Step], plugins: Option<&Value>, errors: &mut Vec<ConfigError>) {
    for (index, plugin) in plugins.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(kind) = plugin.get("use").and_then(Value::as_str) else { continue };
        let steps = [base, &[index.into()]].concat();
        if plugin::find(kind).is_none() {
            let expected = format!("one of {}", list_names(plugin::names()));
            let error = ConfigError::at(&[&steps[..], &["use".into()]].concat(), expected, quote(kind));
            errors.push(error.suggesting(suggest(kind, plugin::names())));
            continue;
        }
        let none = json!({});
        let options = plugin.get("options").unwrap_or(&none);
        if let Some(rule) = options_rule(kind).filter(|_| options.is_object()) {
            let path = [&steps[..], &["options".into()]].concat();
            errors.extend(check_value(options, rule).into_iter().map(|error| place(&path, error)));
        }
    }
}

/// A mistake in a value that stands at `path`.
fn place(path: &[Step], mut error: ConfigError) -> ConfigError {
    if let Place::Value(steps) = &mut error.path {
        steps.splice(0..0, path.iter().cloned());
    }
    error
}

/// The options without their secrets.
pub(super) fn redact_options(kind: &str, options: Map<String, Value>) -> Map<String, Value> {
    let Some(known) = plugin::find(kind) else { return options };
    let mut value = Value::Object(options);
    hide(&mut value, &(known.schema)());
    match value {
        Value::Object(options) => options,
        _ => Map::new(),
    }
}

fn hide(value: &mut Value, schema: &Value) {
    if value.is_string() && keyword(schema, "x-secret") == Some(&Value::Bool(true)) {
        *value = HIDDEN.into();
        return;
    }
    for branch in keyword(schema, "anyOf").and_then(Value::as_array).into_iter().flatten() {
        hide(value, branch);
    }
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let own = keyword(schema, "properties").and_then(|properties| properties.get(key));
                if let Some(schema) = own.or_else(|| keyword(schema, "additionalProperties")) {
                    hide(member, schema);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = keyword(schema, "items") {
                list.iter_mut().for_each(|element| hide(element, items));
            }
        }
        _ => {}
    }
}
