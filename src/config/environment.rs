//! Settings from outside the file: environment variables, and the flags of a command, which win over them.
//!
//! `RINGFORT__SERVER__TIMEOUTS__IDLE=30s` sets `server.timeouts.idle`: names of keys between double underscores, in any
//! case, the index of an element for a list, and for a map the name of a member that the file has (`my-api` as `MY_API`).
//! The text is read as the schema wants it there: a number where a number belongs, a list with commas
//! (`0.0.0.0:80,[::]:80`) or in JSON where a list of scalars does.

use std::ffi::OsString;

use serde_json::{Map, Value};

use super::error::{ConfigError, Place, Step, list_names, quote, suggest};
use super::schema::{allows_type, keyword};

/// What every variable begins with.
pub const PREFIX: &str = "RINGFORT__";

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The variable or flag, as messages call it.
    pub origin: String,
    /// The keys, in any case, and the indices that lead to the value.
    pub path: Vec<String>,
    /// What it is set to.
    pub value: Setting,
}

/// What a value is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A text, read as the schema wants it.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

impl Override {
    /// A flag that sets the value at `path` (`server.listen`).
    pub fn flag(name: &str, path: &str, value: Setting) -> Self {
        Self { origin: name.to_owned(), path: path.split('.').map(str::to_owned).collect(), value }
    }
}

/// The settings in these variables, in the order of their names, and what is wrong with the variables themselves.
pub fn read_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> (Vec<Override>, Vec<ConfigError>) {
    let (mut settings, mut errors) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let origin = format!("{PREFIX}{rest}");
        let path = rest.split("__").map(str::to_owned).collect();
        match value.into_string() {
            Ok(text) => settings.push(Override { origin, path, value: Setting::Text(text) }),
            Err(_) => errors.push(ConfigError::new(Place::Setting(origin), "UTF-8", "bytes that are not")),
        }
    }
    settings.sort_by(|one, other| one.origin.cmp(&other.origin));
    (settings, errors)
}

/// Sets one value; returns the path to it.
///
/// # Errors
/// A path that leads nowhere, or to what one text cannot express.
pub(super) fn apply(config: &mut Value, schema: &Value, setting: &Override) -> Result<Vec<Step>, ConfigError> {
    let mut cursor = Cursor { steps: Vec::new(), schema, setting };
    let mut value = config;
    for at in 0..setting.path.len() {
        value = cursor.descend(value, at)?;
    }
    let read = read_setting(cursor.schema, &setting.value).ok_or_else(|| cursor.not_scalar())?;
    *value = read;
    Ok(cursor.steps)
}

struct Cursor<'s> {
    steps: Vec<Step>,
    schema: &'s Value,
    setting: &'s Override,
}

impl<'s> Cursor<'s> {
    fn fail(&self, expected: impl Into<String>, found: impl Into<String>) -> ConfigError {
        ConfigError::new(Place::Setting(self.setting.origin.clone()), expected, found)
    }

    /// Where we are, as messages name it.
    fn here(&self) -> String {
        Place::at(&self.steps).to_string()
    }

    fn descend<'v>(&mut self, value: &'v mut Value, at: usize) -> Result<&'v mut Value, ConfigError> {
        let name = &self.setting.path[at];
        if keyword(self.schema, "properties").is_some() {
            return self.descend_to_key(value, at);
        }
        if let Some(members) = keyword(self.schema, "additionalProperties").filter(|members| members.is_object()) {
            return self.descend_to_name(value, at, members);
        }
        if let (Some(items), Value::Array(list)) = (keyword(self.schema, "items"), &mut *value) {
            let len = list.len();
            let index = name.parse::<usize>().ok().filter(|index| *index < len);
            let Some(index) = index else {
                let expected = match len {
                    0 => format!("no index: {} is an empty list", self.here()),
                    _ => format!("an index of {} from 0 to {}", self.here(), len - 1),
                };
                return Err(self.fail(expected, quote(name)));
            };
            self.schema = items;
            self.steps.push(index.into());
            return Ok(&mut list[index]);
        }
        if keyword(self.schema, "items").is_some() {
            return Err(self.fail(format!("the whole of {}: it is no list yet", self.here()), quote(name)));
        }
        Err(self.fail(format!("a variable for {} as a whole", self.here()), format!("{} behind it", quote(name))))
    }

    fn descend_to_key<'v>(&mut self, value: &'v mut Value, at: usize) -> Result<&'v mut Value, ConfigError> {
        let name = &self.setting.path[at];
        let properties = keyword(self.schema, "properties").and_then(Value::as_object);
        let keys: Vec<&'s str> = properties.iter().flat_map(|keys| keys.keys()).map(String::as_str).collect();
        let Some(key) = keys.iter().find(|key| key.eq_ignore_ascii_case(name)) else {
            let close = suggest(name, keys.iter().copied()).map(|key| self.spell(at, &key));
            let upper: Vec<_> = keys.iter().map(|key| key.to_uppercase()).collect();
            let expected = format!("one of {} in {}", list_names(upper.iter().map(String::as_str)), self.here());
            return Err(self.fail(expected, quote(name)).suggesting(close));
        };
        if !value.is_object() && !value.is_null() {
            // The file has something else here, which is its own error; it is not ours to replace.
            return Err(self.fail(format!("an object at {}", self.here()), "another value in the file"));
        }
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        self.schema = properties.and_then(|properties| properties.get(*key)).unwrap_or(&Value::Null);
        self.steps.push((*key).into());
        match value {
            Value::Object(members) => Ok(members.entry(*key).or_insert(Value::Null)),
            _ => Err(self.fail(format!("an object at {}", self.here()), "another value in the file")),
        }
    }

    /// To a member of a map, whose names are the operator's.
    fn descend_to_name<'v>(
        &mut self,
        value: &'v mut Value,
        at: usize,
        schema: &'s Value,
    ) -> Result<&'v mut Value, ConfigError> {
        let name = &self.setting.path[at];
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        let names: Vec<String> = value.as_object().into_iter().flat_map(Map::keys).cloned().collect();
        let known = find_name(&names, name);
        let Some((known, inner)) = known.and_then(|known| Some((known, value.get_mut(known)?))) else {
            let names = names.iter().map(String::as_str);
            let expected = match names.len() {
                0 => format!("no name: {} is empty", self.here()),
                _ => format!("one of {} in {}", list_names(names.clone()), self.here()),
            };
            let close = suggest(name, names).map(|known| self.spell(at, &known));
            return Err(self.fail(expected, quote(name)).suggesting(close));
        };
        self.schema = schema;
        self.steps.push(known.into());
        Ok(inner)
    }

    /// The setting's own name with the part at `at` replaced.
    fn spell(&self, at: usize, key: &str) -> String {
        let mut path = self.setting.path.clone();
        path[at] = key.to_uppercase().replace(['-', '.'], "_");
        format!("{PREFIX}{}", path.join("__"))
    }

    fn not_scalar(&self) -> ConfigError {
        let properties = keyword(self.schema, "properties").and_then(Value::as_object);
        match properties.and_then(|keys| keys.keys().find(|key| !key.starts_with('$'))) {
            Some(key) => {
                let example = format!("{PREFIX}{}__{}", self.setting.path.join("__"), key.to_uppercase());
                self.fail(format!("a variable for one key of {}, such as {example}", self.here()), "the whole object")
            }
            None => self.fail(format!("{} to be set in the file", self.here()), "a variable"),
        }
    }
}

/// The one of `names` that a part of a variable's name means: itself, or the only one that reads so in capitals with `_`
/// for what no variable has in its name.
fn find_name<'n>(names: &'n [String], part: &str) -> Option<&'n str> {
    let fold = |text: &str| text.to_uppercase().replace(['-', '.'], "_");
    let mut close = names.iter().filter(|name| fold(name) == fold(part));
    let only = close.next().filter(|_| close.next().is_none());
    names.iter().find(|name| *name == part).or(only).map(String::as_str)
}

/// The text as the schema wants it; as it is where it does not fit, for the check to say so. `None`: the schema wants an
/// object, or a list of them.
fn read_setting(schema: &Value, setting: &Setting) -> Option<Value> {
    let text = match setting {
        Setting::List(list) => return Some(list.iter().map(|text| Value::String(text.clone())).collect()),
        Setting::Text(text) => text,
    };
    let is_free = ["type", "anyOf", "oneOf", "enum", "const"].iter().all(|name| keyword(schema, name).is_none());
    if is_free && keyword(schema, "properties").is_none() {
        return Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())));
    }
    if let Some(items) = list_items(schema) {
        if text.trim_start().starts_with('[') {
            return Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())));
        }
        let is_scalar = ["string", "integer", "number", "boolean"].iter().any(|kind| allows_type(items, kind));
        if !is_scalar || keyword(items, "properties").is_some() {
            return None;
        }
        if text.contains(',') || !has_scalar(schema) {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return Some(parts.map(|part| read_scalar(items, part)).collect());
        }
    }
    has_scalar(schema).then(|| read_scalar(schema, text))
}

/// The schema of the elements, where a list is allowed.
fn list_items(schema: &Value) -> Option<&Value> {
    if allows_type(schema, "array")
        && let Some(items) = keyword(schema, "items")
    {
        return Some(items);
    }
    keyword(schema, "anyOf")?.as_array()?.iter().find_map(list_items)
}

fn has_scalar(schema: &Value) -> bool {
    ["string", "integer", "number", "boolean"].iter().any(|kind| allows_type(schema, kind))
}

fn read_scalar(schema: &Value, text: &str) -> Value {
    let string = Value::String(text.to_owned());
    match serde_json::from_str::<Value>(text.trim()) {
        Ok(number @ Value::Number(_)) if allows_type(schema, "integer") => number,
        Ok(flag @ Value::Bool(_)) if allows_type(schema, "boolean") => flag,
        Ok(Value::Null) if allows_type(schema, "null") => Value::Null,
        _ => string,
    }
}
