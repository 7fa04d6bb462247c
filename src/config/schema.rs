//! The JSON Schema of the config, generated from the model: what `ringfort schema` prints, what editors read, and what
//! the loader checks a file against.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Value, json};

use super::model::Config;
use crate::plugin;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.root_schema_for::<Config>();
    RecursiveTransform(drop_rust_formats).transform(&mut schema);
    schema.insert("title".to_owned(), "Ringfort config".into());
    let mut schema = schema.to_value();
    if let Some(Value::Object(plugin)) = schema.pointer_mut("/$defs/PluginUse") {
        plugin.insert("allOf".to_owned(), options_of_plugins());
    }
    schema
});

/// For editors: the options that belong to each `use`. The loader looks them up by itself.
fn options_of_plugins() -> Value {
    let options = plugin::registrations().into_iter().map(|known| {
        json!({
            "if": { "properties": { "use": { "const": known.name } }, "required": ["use"] },
            "then": { "properties": { "options": (known.schema)() } },
        })
    });
    options.collect()
}

/// `"format": "uint32"`, `"double"` and the like say nothing outside Rust; bounds are written as bounds.
fn drop_rust_formats(schema: &mut Schema) {
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with("uint") || format == "double")
    {
        schema.remove("format");
    }
}

/// The schema (JSON Schema, draft 2020-12).
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The schema as `ringfort schema` prints it.
pub fn schema_text() -> String {
    let mut text = serde_json::to_string_pretty(schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// `schema`, or what its `$ref` leads to with what stands beside the `$ref` taking precedence.
pub(super) fn keyword<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get(name).or_else(|| resolve(schema)?.get(name))
}

fn resolve(schema: &Value) -> Option<&'static Value> {
    SCHEMA.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
}

/// The texts in a list under `name`.
pub(super) fn names<'s>(schema: &'s Value, name: &str) -> Vec<&'s str> {
    let list = keyword(schema, name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether the schema allows values of this JSON type (`integer` is part of `number`).
pub(super) fn allows_type(schema: &Value, name: &str) -> bool {
    let is_part = |one: &str| one == name || one == "number" && name == "integer";
    match keyword(schema, "type") {
        Some(Value::String(only)) => is_part(only),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).any(is_part),
        _ => {
            let branches = keyword(schema, "anyOf").or_else(|| keyword(schema, "oneOf")).and_then(Value::as_array);
            branches.is_none_or(|branches| branches.iter().any(|branch| allows_type(branch, name)))
        }
    }
}
