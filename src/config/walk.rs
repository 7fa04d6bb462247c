//! Checks a value against the schema and reports everything that is wrong with it, each at its path.
//!
//! Not a general JSON Schema validator: it knows the keywords that the model uses, and in return says what was expected
//! in words, and what was probably meant.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::error::{ConfigError, Step, list_names, list_words, quote, show, suggest};
use super::grammar::{HASH_KEY, NAME_SERVER, NETWORK, NameServer, SERVER_ADDRESS, STATUS_RANGE, StatusRange};
use super::schema::{allows_type, keyword, names};
use crate::proxy::{HashKey, Network, ServerAddress};
use crate::units::{ADDRESS, Address, BYTE_SIZE, ByteSize, TIME_SPAN, TimeSpan, UnitError};

/// Everything that is wrong with `value`.
pub(super) fn check_value(value: &Value, schema: &Value) -> Vec<ConfigError> {
    check_value_at(Vec::new(), value, schema)
}

/// [`check_value`] of a value that stands at `path` of the config.
pub(super) fn check_value_at(path: Vec<Step>, value: &Value, schema: &Value) -> Vec<ConfigError> {
    let mut walk = Walk { path, errors: Vec::new() };
    walk.value(value, schema);
    walk.errors
}

struct Walk {
    path: Vec<Step>,
    errors: Vec<ConfigError>,
}

impl Walk {
    fn report(&mut self, expected: impl Into<String>, found: impl Into<String>) {
        self.suggest(expected, found, None);
    }

    fn suggest(&mut self, expected: impl Into<String>, found: impl Into<String>, suggestion: Option<String>) {
        self.errors.push(ConfigError::at(&self.path, expected, found).suggesting(suggestion));
    }

    fn inside(&mut self, step: Step, value: &Value, schema: &Value) {
        self.path.push(step);
        self.value(value, schema);
        self.path.pop();
    }

    fn value(&mut self, value: &Value, schema: &Value) {
        if let Some(branches) = keyword(schema, "anyOf").and_then(Value::as_array) {
            return self.any_of(value, schema, branches);
        }
        if let Some(allowed) = allowed_values(schema) {
            return self.one_of_values(value, schema, &allowed);
        }
        if !allows_type(schema, type_name(value)) {
            let suggestion = self.mend_type(value, schema);
            return self.suggest(describe(schema), show(value), suggestion);
        }
        match value {
            Value::Object(members) => self.object(members, schema),
            Value::Array(list) => self.list(list, schema),
            Value::String(text) => self.text(text, schema),
            Value::Number(_) => self.number(value, schema),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A number or a truth value in quotes is a common slip, and so is one address where a list belongs.
    fn mend_type(&self, value: &Value, schema: &Value) -> Option<String> {
        match value {
            Value::String(text) => {
                let plain = serde_json::from_str::<Value>(text.trim()).ok()?;
                let fits = !plain.is_string() && allows_type(schema, type_name(&plain));
                fits.then(|| format!("{plain} without quotes"))
            }
            Value::Number(number) if keyword(schema, "x-unit").is_some_and(|unit| unit == "duration") => {
                Some(format!("{number}s"))
            }
            _ => None,
        }
    }

    /// Takes the first branch that fits. Where none does, a branch for values of this kind knows best what is wrong.
    fn any_of(&mut self, value: &Value, schema: &Value, branches: &[Value]) {
        let mut attempts = Vec::new();
        for branch in branches {
            let mut walk = Walk { path: self.path.clone(), errors: Vec::new() };
            walk.value(value, branch);
            if walk.errors.is_empty() {
                return;
            }
            if allows_type(branch, type_name(value)) {
                attempts.push(walk.errors);
            }
        }
        match (attempts.len(), value) {
            (1, Value::Array(_) | Value::Object(_) | Value::Number(_)) => self.errors.append(&mut attempts[0]),
            _ => {
                let suggestion = attempts.into_iter().flatten().find_map(|error| error.suggestion);
                self.suggest(describe(schema), show(value), suggestion);
            }
        }
    }

    fn one_of_values(&mut self, value: &Value, schema: &Value, allowed: &[Value]) {
        if allowed.contains(value) {
            return;
        }
        let Value::String(text) = value else { return self.report(describe(schema), show(value)) };
        let suggestion = suggest(text, allowed.iter().filter_map(Value::as_str));
        self.suggest(describe(schema), show(value), suggestion);
    }

    fn object(&mut self, members: &Map<String, Value>, schema: &Value) {
        let none = Map::new();
        let properties = keyword(schema, "properties").and_then(Value::as_object).unwrap_or(&none);
        let others = keyword(schema, "additionalProperties");
        let mut has_unknown = false;
        for (key, value) in members {
            match (properties.get(key), others) {
                (Some(property), _) => self.inside(key.as_str().into(), value, property),
                (None, Some(Value::Bool(false))) => {
                    has_unknown = true;
                    self.path.push(key.as_str().into());
                    let keys = properties.keys().map(String::as_str);
                    let missing = keys.clone().filter(|known| !members.contains_key(*known));
                    self.suggest(
                        format!("one of the keys {}", list_names(keys)),
                        format!("the unknown key {}", quote(key)),
                        suggest(key, missing),
                    );
                    self.path.pop();
                }
                (None, Some(other)) if other.is_object() => self.inside(key.as_str().into(), value, other),
                (None, _) => {}
            }
        }
        for required in names(schema, "required").into_iter().filter(|name| !members.contains_key(*name)) {
            self.path.push(required.into());
            self.report(properties.get(required).map(describe).unwrap_or_default(), "nothing");
            self.path.pop();
        }
        self.choice(members, schema, has_unknown);
    }

    /// `oneOf` of `required` keys: exactly one of them, or at most one where a branch is for none.
    fn choice(&mut self, members: &Map<String, Value>, schema: &Value, has_unknown: bool) {
        let Some(branches) = keyword(schema, "oneOf").and_then(Value::as_array) else { return };
        let may_be_none = branches.iter().any(|branch| branch.get("not").is_some());
        let keys: Vec<_> = branches.iter().flat_map(|branch| names(branch, "required")).collect();
        let present: Vec<_> = keys.iter().copied().filter(|key| members.contains_key(*key)).collect();
        let expected = format!("{} one of {}", if may_be_none { "at most" } else { "exactly" }, list_names(keys));
        match present.len() {
            1 => {}
            // The unknown key is most likely the missing one, misspelt.
            0 if may_be_none || has_unknown => {}
            0 => self.report(expected, "none"),
            _ => self.report(expected, list_names(present).replace(" or ", " and ")),
        }
    }

    fn list(&mut self, list: &[Value], schema: &Value) {
        let bound = |name: &str| keyword(schema, name).and_then(Value::as_u64).map(|bound| bound as usize);
        if bound("minItems").is_some_and(|min| list.len() < min)
            || bound("maxItems").is_some_and(|max| list.len() > max)
        {
            let found = if list.is_empty() { "an empty list".to_owned() } else { format!("{} elements", list.len()) };
            self.report(describe(schema), found);
        }
        let items = keyword(schema, "items").unwrap_or(&Value::Bool(true));
        let is_set = keyword(schema, "uniqueItems") == Some(&Value::Bool(true));
        let mut seen = HashSet::new();
        for (index, value) in list.iter().enumerate() {
            self.inside(index.into(), value, items);
            if is_set && !seen.insert(value.to_string()) {
                self.path.push(index.into());
                self.report("each element once", format!("{} again", show(value)));
                self.path.pop();
            }
        }
    }

    fn text(&mut self, text: &str, schema: &Value) {
        let unit = keyword(schema, "x-unit").and_then(Value::as_str);
        let in_bounds = match unit {
            Some("duration") => text.parse().map(|span: TimeSpan| {
                let bound = |name| keyword(schema, name).and_then(Value::as_str).and_then(|text| text.parse().ok());
                bound("x-minimum").is_none_or(|min| span >= min) && bound("x-maximum").is_none_or(|max| span <= max)
            }),
            Some("size") => text.parse().map(|size: ByteSize| is_in_bounds(size.get(), schema)),
            Some("address") => text.parse::<Address>().map(|_| true),
            Some("server") => text.parse::<ServerAddress>().map(|_| true),
            Some("name-server") => text.parse::<NameServer>().map(|_| true),
            Some("network") => text.parse::<Network>().map(|_| true),
            Some("hash-key") => text.parse::<HashKey>().map(|_| true),
            Some("statuses") => text.parse::<StatusRange>().map(|_| true),
            _ => return,
        };
        match in_bounds {
            Ok(true) => {}
            Ok(false) => self.report(describe(schema), quote(text)),
            // A network says itself what is wrong with it; others are told with their bounds.
            Err(UnitError { expected, suggestion }) if unit == Some("network") => {
                self.suggest(expected, quote(text), suggestion);
            }
            Err(UnitError { suggestion, .. }) => self.suggest(describe(schema), quote(text), suggestion),
        }
    }

    fn number(&mut self, value: &Value, schema: &Value) {
        if keyword(schema, "type").is_some_and(|kind| kind == "number") {
            return self.fraction(value, schema);
        }
        let is_power = keyword(schema, "x-power-of-two") == Some(&Value::Bool(true));
        let is_good = value
            .as_u64()
            .is_some_and(|number| is_in_bounds(number, schema) && (!is_power || number.is_power_of_two()));
        // Every other number of the model is a natural one; free JSON has no bounds.
        let is_free = !["minimum", "maximum"].iter().any(|name| keyword(schema, name).is_some());
        if is_good || is_free {
            return;
        }
        let suggestion = value.as_u64().and_then(|number| {
            let near = number.checked_next_power_of_two()?;
            (is_power && is_in_bounds(near, schema)).then(|| near.to_string())
        });
        self.suggest(describe(schema), show(value), suggestion);
    }

    /// A number that need not be whole. One from 2 to 100 where 1 is the most is likely meant in percent.
    fn fraction(&mut self, value: &Value, schema: &Value) {
        let bound = |name| keyword(schema, name).and_then(Value::as_f64);
        let (min, max) = (bound("minimum"), bound("maximum"));
        let fits = |number: f64| min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max);
        let number = value.as_f64();
        if number.is_some_and(fits) {
            return;
        }
        let percent =
            number.map(|number| number / 100.0).filter(|share| *share >= 0.02 && fits(*share) && max == Some(1.0));
        self.suggest(describe(schema), show(value), percent.map(|share| share.to_string()));
    }
}

fn is_in_bounds(number: u64, schema: &Value) -> bool {
    let bound = |name| keyword(schema, name).and_then(Value::as_u64);
    bound("minimum").is_none_or(|min| number >= min) && bound("maximum").is_none_or(|max| number <= max)
}

/// The values that `enum` or `const` allow; a unit enum with documented variants is a `oneOf` of `const`s.
pub(super) fn allowed_values(schema: &Value) -> Option<Vec<Value>> {
    if let Some(Value::Array(allowed)) = keyword(schema, "enum") {
        return Some(allowed.clone());
    }
    if let Some(only) = keyword(schema, "const") {
        return Some(vec![only.clone()]);
    }
    let branches = keyword(schema, "oneOf")?.as_array()?;
    let values = branches.iter().map(allowed_values).collect::<Option<Vec<_>>>()?;
    Some(values.concat())
}

/// The JSON type of a value, as schemas name it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What a schema allows, in words.
pub(super) fn describe(schema: &Value) -> String {
    if let Some(branches) = keyword(schema, "anyOf").and_then(Value::as_array) {
        return list_words(&branches.iter().map(describe).collect::<Vec<_>>());
    }
    if let Some(allowed) = allowed_values(schema) {
        let words: Vec<_> = allowed.iter().map(show).collect();
        return if words.len() == 1 { words[0].clone() } else { format!("one of {}", list_words(&words)) };
    }
    let unit = keyword(schema, "x-unit").and_then(Value::as_str);
    match unit {
        Some("duration") => return format!("{TIME_SPAN}{}", describe_bounds(schema, "x-minimum", "x-maximum", plain)),
        Some("size") => return format!("{BYTE_SIZE}{}", describe_bounds(schema, "minimum", "maximum", bytes)),
        Some("address") => return ADDRESS.to_owned(),
        Some("server") => return SERVER_ADDRESS.to_owned(),
        Some("name-server") => return NAME_SERVER.to_owned(),
        Some("network") => return NETWORK.to_owned(),
        Some("hash-key") => return HASH_KEY.to_owned(),
        Some("statuses") => return STATUS_RANGE.to_owned(),
        _ => {}
    }
    let kinds = match keyword(schema, "type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return "a value".to_owned(),
    };
    list_words(&kinds.into_iter().map(|kind| describe_kind(kind, schema)).collect::<Vec<_>>())
}

fn describe_kind(kind: &str, schema: &Value) -> String {
    match kind {
        "object" => "an object".to_owned(),
        "string" => "a text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => {
            let items = keyword(schema, "items").map(describe).unwrap_or_default();
            let some = if keyword(schema, "minItems").is_some() { "a list, not empty, of" } else { "a list of" };
            format!("{some} {items}")
        }
        "integer" => {
            let is_power = keyword(schema, "x-power-of-two").is_some();
            let what = if is_power { "a power of two" } else { "a whole number" };
            format!("{what}{}", describe_bounds(schema, "minimum", "maximum", plain))
        }
        "number" => format!("a number{}", describe_bounds(schema, "minimum", "maximum", plain)),
        other => other.to_owned(),
    }
}

fn describe_bounds(schema: &Value, min: &str, max: &str, show: fn(&Value) -> String) -> String {
    match (keyword(schema, min), keyword(schema, max)) {
        (Some(min), Some(max)) => format!(" from {} to {}", show(min), show(max)),
        (Some(min), None) => format!(" of at least {}", show(min)),
        (None, Some(max)) => format!(" of at most {}", show(max)),
        (None, None) => String::new(),
    }
}

fn plain(bound: &Value) -> String {
    bound.as_str().map_or_else(|| bound.to_string(), str::to_owned)
}

fn bytes(bound: &Value) -> String {
    bound.as_u64().map_or_else(|| bound.to_string(), |bytes| ByteSize::new(bytes).to_string())
}
