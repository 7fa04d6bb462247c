//! Conditions in `match`: what a header field, a field of the query or a cookie must be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::handler::PredicateTest;

/// Conditions by name.
pub type Conditions = BTreeMap<String, Condition>;

/// What a value must be: a text for exactly this, or `{ "exact": .. }`, `{ "prefix": .. }` or `{ "present": true }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ConditionForm", into = "ConditionForm")]
#[schemars(with = "ConditionForm", inline)]
pub struct Condition(pub PredicateTest);

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum ConditionForm {
    Text(String),
    Test(TestForm),
}

/// What a value must be: exactly one of these.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Condition", extend(
    "oneOf" = [{ "required": ["exact"] }, { "required": ["prefix"] }, { "required": ["present"] }],
))]
struct TestForm {
    /// It is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    exact: Option<String>,
    /// It begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    prefix: Option<String>,
    /// Whether there is one, whatever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    present: Option<bool>,
}

impl TryFrom<ConditionForm> for Condition {
    type Error = &'static str;

    fn try_from(form: ConditionForm) -> Result<Self, Self::Error> {
        let form = match form {
            ConditionForm::Text(text) => return Ok(Self(PredicateTest::Exact(text))),
            ConditionForm::Test(form) => form,
        };
        Ok(Self(match (form.exact, form.prefix, form.present) {
            (Some(text), None, None) => PredicateTest::Exact(text),
            (None, Some(text), None) => PredicateTest::Prefix(text),
            (None, None, Some(true)) => PredicateTest::Present,
            (None, None, Some(false)) => PredicateTest::Absent,
            _ => return Err("expected exactly one of exact, prefix and present"),
        }))
    }
}

impl From<Condition> for ConditionForm {
    fn from(condition: Condition) -> Self {
        let mut form = TestForm::default();
        match condition.0 {
            PredicateTest::Exact(text) => return Self::Text(text),
            PredicateTest::Prefix(text) => form.prefix = Some(text),
            PredicateTest::Present => form.present = Some(true),
            PredicateTest::Absent => form.present = Some(false),
        }
        Self::Test(form)
    }
}
