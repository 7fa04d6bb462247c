//! The schema as rules: what the check of a value asks of it, looked up once instead of at each value.
//!
//! A config may have a hundred thousand routes, and a reload checks them on a machine that serves: looked up in the schema
//! itself, by the names of keywords and through `$ref`, the same few answers took a third of a reload.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::schema::{allows_type, keyword, names, schema};
use crate::plugin;
use crate::units::TimeSpan;

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::of(schema()));

/// The types of JSON, as schemas name them.
const KINDS: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// A rule for another value, inside of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuleId(usize);

/// What a value must be.
#[derive(Debug)]
pub(super) struct Rule {
    /// What it was made of, for messages.
    pub(super) schema: &'static Value,
    /// One of these.
    pub(super) any_of: Option<Vec<RuleId>>,
    /// One of these values.
    pub(super) allowed: Option<Vec<Value>>,
    /// Bit `n`: of type `KINDS[n]`.
    kinds: u8,
    pub(super) object: ObjectRule,
    pub(super) list: ListRule,
    pub(super) text: TextRule,
    pub(super) number: NumberRule,
}

/// What an object must be.
#[derive(Debug)]
pub(super) struct ObjectRule {
    /// The keys that it may have.
    pub(super) properties: HashMap<&'static str, RuleId>,
    /// What is behind other keys.
    pub(super) others: Others,
    /// The keys that it must have.
    pub(super) required: Vec<&'static str>,
    /// Keys that exclude each other.
    pub(super) choice: Option<Choice>,
}

/// What is behind keys that have no rule of their own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Others {
    /// There are none.
    Unknown,
    /// Anything.
    Free,
    /// The members of a map.
    Like(RuleId),
}

/// `oneOf` of `required` keys: exactly one of them, or at most one where a branch is for none.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) keys: Vec<&'static str>,
    pub(super) may_be_none: bool,
}

/// What a list must be.
#[derive(Debug)]
pub(super) struct ListRule {
    min: Option<u64>,
    max: Option<u64>,
    /// What its elements must be.
    pub(super) items: Option<RuleId>,
    /// Whether each element comes once.
    pub(super) is_set: bool,
}

/// What a text must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextRule {
    Free,
    Duration { min: Option<TimeSpan>, max: Option<TimeSpan> },
    Size(Bounds),
    Address,
    Server,
    NameServer,
    Network,
    HashKey,
    Statuses,
}

/// What a number must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum NumberRule {
    Free,
    /// A natural one.
    Whole {
        bounds: Bounds,
        is_power_of_two: bool,
    },
    /// One that need not be whole.
    Fraction {
        min: Option<f64>,
        max: Option<f64>,
    },
}

/// The least and the most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    min: Option<u64>,
    max: Option<u64>,
}

impl Bounds {
    fn of(schema: &Value) -> Self {
        let bound = |name| keyword(schema, name).and_then(Value::as_u64);
        Self { min: bound("minimum"), max: bound("maximum") }
    }

    pub(super) fn hold(self, number: u64) -> bool {
        self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
    }
}

impl ListRule {
    /// Whether a list may be so long.
    pub(super) fn allows_len(&self, len: usize) -> bool {
        let len = len as u64;
        self.min.is_none_or(|min| len >= min) && self.max.is_none_or(|max| len <= max)
    }
}

impl Rule {
    /// Whether values of this type are allowed.
    pub(super) fn allows_kind(&self, name: &str) -> bool {
        KINDS.iter().position(|kind| *kind == name).is_some_and(|at| self.kinds & 1 << at != 0)
    }
}

/// All rules; the first one is that of a config.
struct Rules {
    all: Vec<Rule>,
    /// Those of the options of plugins, by kind.
    options: HashMap<&'static str, RuleId>,
}

/// The rule of a config.
pub(super) fn root() -> &'static Rule {
    rule(RuleId(0))
}

/// A rule that another one names.
pub(super) fn rule(RuleId(index): RuleId) -> &'static Rule {
    // Each id comes from these rules.
    &RULES.all[index]
}

/// The rule of the options of a plugin of this kind, unless it was registered after the first config was read.
pub(super) fn options_rule(kind: &str) -> Option<&'static Rule> {
    RULES.options.get(kind).copied().map(rule)
}

/// The rule of one element, where the list at this key of a config may have any number of them.
pub(super) fn element_rule(key: &str) -> Option<&'static Rule> {
    let list = rule(*root().object.properties.get(key)?);
    let is_bound = list.list.min.is_some() || list.list.max.is_some() || list.list.is_set;
    let is_plain = list.any_of.is_none() && list.allowed.is_none() && list.allows_kind("array") && !is_bound;
    list.list.items.filter(|_| is_plain).map(rule)
}

impl Rules {
    fn of(schema: &'static Value) -> Self {
        let mut ids = Ids { known: HashMap::new(), waiting: Vec::new() };
        ids.of(schema);
        // They live as long as the rules, which is for ever: there is one of each kind.
        let options = plugin::registrations().into_iter().rev().map(|known| {
            let schema: &'static Value = Box::leak(Box::new((known.schema)()));
            (known.name, ids.of(schema))
        });
        let options = options.collect();
        let mut all = Vec::new();
        // Breadth first: a schema may lead back to itself, but holds only so many others.
        while let Some(next) = ids.waiting.get(all.len()).copied() {
            all.push(ids.build(next));
        }
        Self { all, options }
    }
}

/// Gives out ids, the same for the same schema.
struct Ids {
    known: HashMap<*const Value, RuleId>,
    /// In the order of their ids.
    waiting: Vec<&'static Value>,
}

impl Ids {
    fn of(&mut self, schema: &'static Value) -> RuleId {
        *self.known.entry(schema).or_insert_with(|| {
            self.waiting.push(schema);
            RuleId(self.waiting.len() - 1)
        })
    }

    fn build(&mut self, schema: &'static Value) -> Rule {
        let branches = keyword(schema, "anyOf").and_then(Value::as_array);
        let kinds = KINDS.iter().enumerate().filter(|(_, kind)| allows_type(schema, kind));
        Rule {
            schema,
            any_of: branches.map(|branches| branches.iter().map(|branch| self.of(branch)).collect()),
            allowed: allowed_values(schema),
            kinds: kinds.fold(0, |kinds, (at, _)| kinds | 1 << at),
            object: self.object(schema),
            list: ListRule {
                min: keyword(schema, "minItems").and_then(Value::as_u64),
                max: keyword(schema, "maxItems").and_then(Value::as_u64),
                items: keyword(schema, "items").map(|items| self.of(items)),
                is_set: keyword(schema, "uniqueItems") == Some(&Value::Bool(true)),
            },
            text: text(schema),
            number: number(schema),
        }
    }

    fn object(&mut self, schema: &'static Value) -> ObjectRule {
        let properties = keyword(schema, "properties").and_then(Value::as_object).into_iter().flatten();
        let branches = keyword(schema, "oneOf").and_then(Value::as_array);
        ObjectRule {
            properties: properties.map(|(key, property)| (key.as_str(), self.of(property))).collect(),
            others: match keyword(schema, "additionalProperties") {
                Some(Value::Bool(false)) => Others::Unknown,
                Some(members @ Value::Object(_)) => Others::Like(self.of(members)),
                _ => Others::Free,
            },
            required: names(schema, "required"),
            choice: branches.map(|branches| Choice {
                keys: branches.iter().flat_map(|branch| names(branch, "required")).collect(),
                may_be_none: branches.iter().any(|branch| branch.get("not").is_some()),
            }),
        }
    }
}

fn text(schema: &Value) -> TextRule {
    let bound = |name| keyword(schema, name).and_then(Value::as_str).and_then(|text| text.parse().ok());
    match keyword(schema, "x-unit").and_then(Value::as_str) {
        Some("duration") => TextRule::Duration { min: bound("x-minimum"), max: bound("x-maximum") },
        Some("size") => TextRule::Size(Bounds::of(schema)),
        Some("address") => TextRule::Address,
        Some("server") => TextRule::Server,
        Some("name-server") => TextRule::NameServer,
        Some("network") => TextRule::Network,
        Some("hash-key") => TextRule::HashKey,
        Some("statuses") => TextRule::Statuses,
        _ => TextRule::Free,
    }
}

fn number(schema: &Value) -> NumberRule {
    if keyword(schema, "type").is_some_and(|kind| kind == "number") {
        let bound = |name| keyword(schema, name).and_then(Value::as_f64);
        return NumberRule::Fraction { min: bound("minimum"), max: bound("maximum") };
    }
    // Every other number of the model is a natural one; free JSON has no bounds.
    if !["minimum", "maximum"].iter().any(|name| keyword(schema, name).is_some()) {
        return NumberRule::Free;
    }
    let is_power_of_two = keyword(schema, "x-power-of-two") == Some(&Value::Bool(true));
    NumberRule::Whole { bounds: Bounds::of(schema), is_power_of_two }
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
