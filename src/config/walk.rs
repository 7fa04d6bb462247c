//! Checks a value against the schema and reports everything that is wrong with it, each at its path.
//!
//! Not a general JSON Schema validator: it knows the keywords that the model uses, and in return says what was expected
//! in words, and what was probably meant.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::error::{ConfigError, Step, list_names, list_words, quote, show, suggest};
use super::grammar::{HASH_KEY, NAME_SERVER, NETWORK, NameServer, SERVER_ADDRESS, STATUS_RANGE, StatusRange};
use super::rules::{Choice, NumberRule, Others, Rule, RuleId, TextRule, allowed_values, root, rule};
use super::schema::keyword;
use crate::proxy::{HashKey, Network, ServerAddress};
use crate::units::{ADDRESS, Address, BYTE_SIZE, ByteSize, TIME_SPAN, TimeSpan, UnitError};

/// Everything that is wrong with a config.
pub(super) fn check_config(value: &Value) -> Vec<ConfigError> {
    check_value(value, root())
}

/// Everything that is wrong with a value for which there is this rule.
pub(super) fn check_value(value: &Value, rule: &'static Rule) -> Vec<ConfigError> {
    let mut walk = Walk { path: Vec::new(), errors: Vec::new() };
    walk.value(value, rule);
    walk.errors
}

/// Whether nothing is wrong with a value for which there is this rule.
pub(super) fn fits(value: &Value, rule: &'static Rule) -> bool {
    check_value(value, rule).is_empty()
}

/// A step that owns nothing: of a hundred thousand values few are wrong.
#[derive(Clone, Copy)]
enum Turn<'v> {
    Key(&'v str),
    Index(usize),
}

impl From<Turn<'_>> for Step {
    fn from(turn: Turn<'_>) -> Self {
        match turn {
            Turn::Key(key) => key.into(),
            Turn::Index(index) => index.into(),
        }
    }
}

struct Walk<'v> {
    path: Vec<Turn<'v>>,
    errors: Vec<ConfigError>,
}

impl<'v> Walk<'v> {
    fn report(&mut self, expected: impl Into<String>, found: impl Into<String>) {
        self.suggest(expected, found, None);
    }

    fn suggest(&mut self, expected: impl Into<String>, found: impl Into<String>, suggestion: Option<String>) {
        let path: Vec<_> = self.path.iter().copied().map(Step::from).collect();
        self.errors.push(ConfigError::at(&path, expected, found).suggesting(suggestion));
    }

    fn inside(&mut self, turn: Turn<'v>, value: &'v Value, id: RuleId) {
        self.path.push(turn);
        self.value(value, rule(id));
        self.path.pop();
    }

    fn value(&mut self, value: &'v Value, rule: &'static Rule) {
        if let Some(branches) = &rule.any_of {
            return self.any_of(value, rule, branches);
        }
        if let Some(allowed) = &rule.allowed {
            return self.one_of_values(value, rule.schema, allowed);
        }
        if !rule.allows_kind(type_name(value)) {
            let suggestion = self.mend_type(value, rule);
            return self.suggest(describe(rule.schema), show(value), suggestion);
        }
        match value {
            Value::Object(members) => self.object(members, rule),
            Value::Array(list) => self.list(list, rule),
            Value::String(text) => self.text(text, rule),
            Value::Number(_) => self.number(value, rule),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A number or a truth value in quotes is a common slip, and so is one address where a list belongs.
    fn mend_type(&self, value: &Value, rule: &Rule) -> Option<String> {
        match value {
            Value::String(text) => {
                let plain = serde_json::from_str::<Value>(text.trim()).ok()?;
                let fits = !plain.is_string() && rule.allows_kind(type_name(&plain));
                fits.then(|| format!("{plain} without quotes"))
            }
            Value::Number(number) if matches!(rule.text, TextRule::Duration { .. }) => Some(format!("{number}s")),
            _ => None,
        }
    }

    /// Takes the first branch that fits. Where none does, a branch for values of this kind knows best what is wrong.
    fn any_of(&mut self, value: &'v Value, whole: &Rule, branches: &[RuleId]) {
        let mut attempts = Vec::new();
        for branch in branches {
            let branch = rule(*branch);
            let before = std::mem::take(&mut self.errors);
            self.value(value, branch);
            let errors = std::mem::replace(&mut self.errors, before);
            if errors.is_empty() {
                return;
            }
            if branch.allows_kind(type_name(value)) {
                attempts.push(errors);
            }
        }
        match (attempts.len(), value) {
            (1, Value::Array(_) | Value::Object(_) | Value::Number(_)) => self.errors.append(&mut attempts[0]),
            _ => {
                let suggestion = attempts.into_iter().flatten().find_map(|error| error.suggestion);
                self.suggest(describe(whole.schema), show(value), suggestion);
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

    fn object(&mut self, members: &'v Map<String, Value>, rule: &'static Rule) {
        let mut has_unknown = false;
        for (key, value) in members {
            match (rule.object.properties.get(key.as_str()), rule.object.others) {
                (Some(property), _) => self.inside(Turn::Key(key), value, *property),
                (None, Others::Unknown) => {
                    has_unknown = true;
                    self.path.push(Turn::Key(key));
                    self.unknown_key(key, members, rule.schema);
                    self.path.pop();
                }
                (None, Others::Like(other)) => self.inside(Turn::Key(key), value, other),
                (None, Others::Free) => {}
            }
        }
        for required in rule.object.required.iter().filter(|name| !members.contains_key(**name)) {
            let property = keyword(rule.schema, "properties").and_then(|properties| properties.get(required));
            self.path.push(Turn::Key(required));
            self.report(property.map(describe).unwrap_or_default(), "nothing");
            self.path.pop();
        }
        if let Some(choice) = &rule.object.choice {
            self.choice(members, choice, has_unknown);
        }
    }

    fn unknown_key(&mut self, key: &str, members: &Map<String, Value>, schema: &Value) {
        let properties = keyword(schema, "properties").and_then(Value::as_object);
        let keys = properties.into_iter().flatten().map(|(known, _)| known.as_str());
        let missing = keys.clone().filter(|known| !members.contains_key(*known));
        let expected = format!("one of the keys {}", list_names(keys));
        self.suggest(expected, format!("the unknown key {}", quote(key)), suggest(key, missing));
    }

    fn choice(&mut self, members: &Map<String, Value>, choice: &Choice, has_unknown: bool) {
        let Choice { keys, may_be_none } = choice;
        let present = keys.iter().copied().filter(|key| members.contains_key(*key));
        let expected =
            || format!("{} one of {}", if *may_be_none { "at most" } else { "exactly" }, list_names(keys.clone()));
        match present.clone().count() {
            1 => {}
            // The unknown key is most likely the missing one, misspelt.
            0 if *may_be_none || has_unknown => {}
            0 => self.report(expected(), "none"),
            _ => self.report(expected(), list_names(present).replace(" or ", " and ")),
        }
    }

    fn list(&mut self, list: &'v [Value], rule: &Rule) {
        if !rule.list.allows_len(list.len()) {
            let found = if list.is_empty() { "an empty list".to_owned() } else { format!("{} elements", list.len()) };
            self.report(describe(rule.schema), found);
        }
        let mut seen = HashSet::new();
        for (index, value) in list.iter().enumerate() {
            if let Some(items) = rule.list.items {
                self.inside(Turn::Index(index), value, items);
            }
            if rule.list.is_set && !seen.insert(value.to_string()) {
                self.path.push(Turn::Index(index));
                self.report("each element once", format!("{} again", show(value)));
                self.path.pop();
            }
        }
    }

    fn text(&mut self, text: &str, rule: &Rule) {
        let in_bounds = match rule.text {
            TextRule::Free => return,
            TextRule::Duration { min, max } => text
                .parse()
                .map(|span: TimeSpan| min.is_none_or(|min| span >= min) && max.is_none_or(|max| span <= max)),
            TextRule::Size(bounds) => text.parse().map(|size: ByteSize| bounds.hold(size.get())),
            TextRule::Address => text.parse::<Address>().map(|_| true),
            TextRule::Server => text.parse::<ServerAddress>().map(|_| true),
            TextRule::NameServer => text.parse::<NameServer>().map(|_| true),
            TextRule::Network => text.parse::<Network>().map(|_| true),
            TextRule::HashKey => text.parse::<HashKey>().map(|_| true),
            TextRule::Statuses => text.parse::<StatusRange>().map(|_| true),
        };
        match in_bounds {
            Ok(true) => {}
            Ok(false) => self.report(describe(rule.schema), quote(text)),
            // A network says itself what is wrong with it; others are told with their bounds.
            Err(UnitError { expected, suggestion }) if matches!(rule.text, TextRule::Network) => {
                self.suggest(expected, quote(text), suggestion);
            }
            Err(UnitError { suggestion, .. }) => self.suggest(describe(rule.schema), quote(text), suggestion),
        }
    }

    fn number(&mut self, value: &Value, rule: &Rule) {
        match rule.number {
            NumberRule::Free => {}
            NumberRule::Whole { bounds, is_power_of_two } => {
                let is_good = |number: u64| bounds.hold(number) && (!is_power_of_two || number.is_power_of_two());
                if value.as_u64().is_some_and(is_good) {
                    return;
                }
                let near = value.as_u64().and_then(u64::checked_next_power_of_two);
                let near = near.filter(|near| is_power_of_two && bounds.hold(*near));
                self.suggest(describe(rule.schema), show(value), near.map(|near| near.to_string()));
            }
            NumberRule::Fraction { min, max } => self.fraction(value, rule.schema, (min, max)),
        }
    }

    /// A number that need not be whole. One from 2 to 100 where 1 is the most is likely meant in percent.
    fn fraction(&mut self, value: &Value, schema: &Value, (min, max): (Option<f64>, Option<f64>)) {
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
