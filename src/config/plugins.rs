//! Plugins of a config: their options held against the schema that each kind has, and what is secret among them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::error::{ConfigError, Step, list_names, quote, suggest};
use super::schema::keyword;
use super::walk::check_value_at;
use crate::plugin;
use crate::secret::HIDDEN;

/// Everything that is wrong with the plugins of a config: kinds that there are not, and options that are not theirs.
pub(super) fn check_plugins(config: &Value) -> Vec<ConfigError> {
    let mut check = Check::default();
    check.list(&["plugins".into()], config.get("plugins"));
    for (index, route) in config.get("routes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Some(plugins) = route.get("plugins") {
            check.list(&["routes".into(), index.into(), "plugins".into()], Some(plugins));
        }
    }
    check.errors
}

#[derive(Default)]
struct Check {
    schemas: HashMap<&'static str, Value>,
    errors: Vec<ConfigError>,
}

impl Check {
    fn list(&mut self, base: &[Step], plugins: Option<&Value>) {
        for (index, plugin) in plugins.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let Some(kind) = plugin.get("use").and_then(Value::as_str) else { continue };
            let steps = [base, &[index.into()]].concat();
            let Some(known) = plugin::find(kind) else {
                let expected = format!("one of {}", list_names(plugin::names()));
                let error = ConfigError::at(&[&steps[..], &["use".into()]].concat(), expected, quote(kind));
                self.errors.push(error.suggesting(suggest(kind, plugin::names())));
                continue;
            };
            let schema = self.schemas.entry(known.name).or_insert_with(known.schema);
            let none = json!({});
            let options = plugin.get("options").unwrap_or(&none);
            if options.is_object() {
                let path = [&steps[..], &["options".into()]].concat();
                self.errors.extend(check_value_at(path, options, schema));
            }
        }
    }
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
