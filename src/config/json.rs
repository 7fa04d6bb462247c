//! JSON text to a value, with what parsers are silent about: where it is wrong, and keys that come twice.
//!
//! `simd_json` parses; of an error it knows a byte at best, and it takes some texts that are no JSON, so a second parser
//! must take the text too, and finds line and column. Of two equal keys
//! parsers take the last one without a word: reading the parsed members one by one shows both.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::{Map, Value};

use super::error::{ConfigError, Place, Step};
use crate::limits::CONFIG_DEPTH_MAX;

/// Members that room is made for before they are read: what a parser says ahead is only a hint.
const MEMBERS_AHEAD: usize = 64;

/// A parsed text.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    /// Keys that come twice; the last one counts.
    pub(super) errors: Vec<ConfigError>,
}

/// Parses a text.
///
/// # Errors
/// The first byte that is no JSON. Nothing behind it can be told from it, so it is the only error.
pub(super) fn parse(text: &[u8]) -> Result<Parsed, ConfigError> {
    if let Err(error) = str::from_utf8(text) {
        return Err(ConfigError::new(locate(text, error.valid_up_to()), "UTF-8", "a byte that is not"));
    }
    // An empty text is an error in every parser, and this is a better one.
    if text.trim_ascii().is_empty() {
        return Err(ConfigError::new(locate(text, text.len()), "a JSON object", "nothing"));
    }
    let mut errors = Vec::new();
    match (parse_value(text, &mut errors), serde_json::from_slice::<Grammar>(text)) {
        (Ok(value), Ok(Grammar)) => Ok(Parsed { value, errors }),
        // `simd_json` alone takes half of a surrogate pair, `"\ud800"`, and makes a NUL of it.
        (_, Err(found)) => Err(explain(&found)),
        // What only `simd_json` refuses: nesting, numbers beyond 64 bits.
        (Err(error), Ok(Grammar)) => {
            let place = locate(text, error.index());
            Err(ConfigError::new(place, "JSON", format!("a mistake: {error}")))
        }
    }
}

/// Parses an object in which the elements of the list at `key` go to `take` one by one, and are not in what is returned:
/// where they are most of a large text, no more of them than one is there at a time.
///
/// `None`: something is wrong with the text, or `take` said no, or the value there is no list; [`parse`] tells what.
pub(super) fn parse_apart(text: &[u8], key: &str, take: &mut dyn FnMut(Value) -> bool) -> Option<Value> {
    let mut errors = Vec::new();
    let mut bytes = text.to_vec();
    let mut parser = simd_json::Deserializer::from_slice(&mut bytes).ok()?;
    let value = parser.deserialize_map(Apart { key, take, errors: &mut errors }).ok()?;
    // `simd_json` checks UTF-8.
    let is_good = errors.is_empty() && serde_json::from_slice::<Grammar>(text).is_ok();
    is_good.then_some(value)
}

fn parse_value(text: &[u8], errors: &mut Vec<ConfigError>) -> Result<Value, simd_json::Error> {
    // It unescapes strings in place.
    let mut bytes = text.to_vec();
    let mut parser = simd_json::Deserializer::from_slice(&mut bytes)?;
    Members { trail: &Trail::Whole, errors }.deserialize(&mut parser)
}

fn explain(found: &serde_json::Error) -> ConfigError {
    let place = Place::Text { line: found.line(), column: found.column().max(1) };
    // Its message ends in the place, which is told already.
    let message = found.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    ConfigError::new(place, "JSON", format!("a mistake: {message}"))
}

/// Line and column of a byte.
fn locate(text: &[u8], at: usize) -> Place {
    let before = &text[..at.min(text.len())];
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |lf| lf + 1);
    let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
    Place::Text { line, column: 1 + before.len() - line_start }
}

/// Where the reader is: each value knows the one around it, and nothing is written down for the many that are good.
enum Trail<'t> {
    Whole,
    Key(&'t Trail<'t>, &'t str),
    Index(&'t Trail<'t>, usize),
}

impl Trail<'_> {
    fn depth(&self) -> usize {
        match self {
            Self::Whole => 0,
            Self::Key(outer, _) | Self::Index(outer, _) => 1 + outer.depth(),
        }
    }

    fn steps(&self) -> Vec<Step> {
        let (outer, step) = match self {
            Self::Whole => return Vec::new(),
            Self::Key(outer, key) => (outer, Step::from(*key)),
            Self::Index(outer, index) => (outer, Step::from(*index)),
        };
        let mut steps = outer.steps();
        steps.push(step);
        steps
    }
}

/// The key of a member, borrowed where the parser has it in one piece.
struct Key<'k>(Cow<'k, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(key.into()))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(key.to_owned().into()))
    }
}

/// Reads any value, noting keys that come twice.
struct Members<'m> {
    trail: &'m Trail<'m>,
    errors: &'m mut Vec<ConfigError>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        // Bounds the recursion of everything that walks the value.
        if self.trail.depth() > CONFIG_DEPTH_MAX {
            return Err(D::Error::custom(format!("more than {CONFIG_DEPTH_MAX} values inside each other")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let trail = Trail::Index(self.trail, list.len());
            match access.next_element_seed(Members { trail: &trail, errors: &mut *self.errors })? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::with_capacity(access.size_hint().unwrap_or_default().min(MEMBERS_AHEAD));
        let mut repeated = HashSet::new();
        while let Some(Key(key)) = access.next_key()? {
            let trail = Trail::Key(self.trail, &key);
            let value = access.next_value_seed(Members { trail: &trail, errors: &mut *self.errors })?;
            let is_repeated = members.insert(key.as_ref().to_owned(), value).is_some();
            if is_repeated && repeated.insert(key.clone()) {
                let steps = trail.steps();
                self.errors.push(ConfigError::at(&steps, "each key once", "this one again in the same object"));
            }
        }
        Ok(Value::Object(members))
    }
}

/// Reads an object, and the list at one key by itself.
struct Apart<'a> {
    key: &'a str,
    take: &'a mut dyn FnMut(Value) -> bool,
    errors: &'a mut Vec<ConfigError>,
}

impl<'de> Visitor<'de> for Apart<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let mut is_there = false;
        while let Some(Key(key)) = access.next_key()? {
            let trail = Trail::Key(&Trail::Whole, &key);
            let is_apart = key == self.key;
            let is_repeated = if is_apart {
                access.next_value_seed(Elements { trail: &trail, take: &mut *self.take, errors: &mut *self.errors })?;
                std::mem::replace(&mut is_there, true)
            } else {
                let value = access.next_value_seed(Members { trail: &trail, errors: &mut *self.errors })?;
                members.insert(key.as_ref().to_owned(), value).is_some()
            };
            if is_repeated {
                return Err(A::Error::custom("a key that comes twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

/// Hands on the elements of a list.
struct Elements<'a> {
    trail: &'a Trail<'a>,
    take: &'a mut dyn FnMut(Value) -> bool,
    errors: &'a mut Vec<ConfigError>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        // Their places do not matter: the first mistake ends this.
        let trail = Trail::Index(self.trail, 0);
        while let Some(value) = access.next_element_seed(Members { trail: &trail, errors: &mut *self.errors })? {
            if !self.errors.is_empty() || !(self.take)(value) {
                return Err(A::Error::custom("an element that is not taken"));
            }
        }
        Ok(())
    }
}

/// A text that is JSON; nothing is kept of it.
struct Grammar;

impl<'de> Deserialize<'de> for Grammar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_ignored_any`, which passes over escapes without a look at what they stand for.
        deserializer.deserialize_any(GrammarVisitor)
    }
}

struct GrammarVisitor;

impl<'de> Visitor<'de> for GrammarVisitor {
    type Value = Grammar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Grammar, E> {
        Ok(Grammar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Grammar, E> {
        Ok(Grammar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Grammar, E> {
        Ok(Grammar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Grammar, E> {
        Ok(Grammar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Grammar, E> {
        Ok(Grammar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Grammar, E> {
        Ok(Grammar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Grammar, A::Error> {
        while access.next_element::<Grammar>()?.is_some() {}
        Ok(Grammar)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Grammar, A::Error> {
        while access.next_entry::<Grammar, Grammar>()?.is_some() {}
        Ok(Grammar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(text: &str) -> String {
        parse(text.as_bytes()).expect_err("not JSON").to_string()
    }

    #[test]
    fn a_mistake_has_a_line_and_a_column() {
        assert_eq!(fail("{\n  \"a\": 1,\n}"), "line 3, column 1: expected JSON, found a mistake: trailing comma");
        assert!(fail("{\"a\" 1}").starts_with("line 1, column 6: "), "{}", fail("{\"a\" 1}"));
        assert_eq!(fail(" \n"), "line 2, column 1: expected a JSON object, found nothing");
        assert!(fail("{} x").starts_with("line 1, column 4: "), "{}", fail("{} x"));
        assert!(fail("// no\n{}").starts_with("line 1, column 1: "));
        let error = parse(b"{\"a\": \"\xff\"}").expect_err("not UTF-8");
        assert_eq!(error.to_string(), "line 1, column 8: expected UTF-8, found a byte that is not");
    }

    #[test]
    fn a_repeated_key_is_an_error_at_its_path() {
        let parsed = parse(br#"{"a": [{"b": 1, "c": {}, "b": 2, "b": 3}], "a": 1}"#).expect("JSON");
        let paths: Vec<_> = parsed.errors.iter().map(|error| error.path.to_string()).collect();
        assert_eq!(paths, ["a[0].b", "a"]);
        assert_eq!(parsed.value, serde_json::json!({ "a": 1 }));
    }

    #[test]
    fn values_are_those_of_the_text() {
        let text = r#"{"a": [1, -2, 3.5, true, null, "x\u00e9\n", {}, []], "b": 18446744073709551615}"#;
        let parsed = parse(text.as_bytes()).expect("JSON");
        assert_eq!(parsed.value, serde_json::from_str::<Value>(text).unwrap());
        assert!(parsed.errors.is_empty());
    }

    #[test]
    fn half_of_a_surrogate_pair_is_refused() {
        assert!(parse(br#"{"a": "\ud83d\ude00"}"#).is_ok());
        for text in [r#"{"a": "\ud800"}"#, r#"{"a": "\ude00\ud83d"}"#, r#"{"\ud800x": 1}"#, r#""\ud800\u0041""#] {
            assert!(fail(text).contains("expected JSON"), "{}", fail(text));
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(CONFIG_DEPTH_MAX).as_bytes()).is_ok());
        for depth in [CONFIG_DEPTH_MAX + 2, 100_000] {
            assert!(parse(nested(depth).as_bytes()).is_err());
        }
    }
}
