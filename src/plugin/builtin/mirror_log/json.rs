//! JSON without the values of secrets. The text is not read into values and written again, which would change numbers and the
//! order of names: it is copied, but for what is hidden. It may be cut anywhere.
//!
//! Strict on purpose. A reader that takes more for JSON than RFC 8259 (names without quotes, comments) would find names where
//! this one sees none, so that what is not JSON is left out.

use std::borrow::Cow;

use serde_json::Value;

use crate::limits::MIRROR_LOG_DEPTH_MAX;
use crate::secret::HIDDEN;

/// A copy of `text`, with a text in place of each value of a member whose name `hides` says so. Several values after each other
/// are taken too (JSON lines). `None` where it is no JSON, or where `is_cut` not the beginning of some, or too deep.
pub(super) fn hide(text: &[u8], is_cut: bool, hides: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut scanner = Scanner::new(text);
    let mut state = State::Top;
    loop {
        scanner.skip_space();
        let Some(&byte) = text.get(scanner.at) else { return scanner.finish(state, is_cut) };
        state = match scanner.step(state, byte, &hides) {
            Ok(state) => state,
            Err(Stop::Cut) if is_cut => return scanner.finish(state, is_cut),
            Err(Stop::Cut | Stop::Bad) => return None,
        };
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value of nobody's, or the end.
    Top,
    Value,
    /// A value, or the end of the list that has just begun.
    FirstElement,
    Name,
    /// A name, or the end of the object that has just begun.
    FirstName,
    Colon,
    /// A comma, or the end of what is open.
    After,
}

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    List,
    Object,
}

/// Why a step was not made.
enum Stop {
    /// The text ends within it.
    Cut,
    /// It is no JSON.
    Bad,
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    out: Vec<u8>,
    /// Bytes of the text that are in `out`, or hidden.
    copied: usize,
    open: Vec<Open>,
    /// The name that was read last is that of a secret.
    is_secret: bool,
    /// The value is hidden that ends when so many are open.
    hidden: Option<usize>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t [u8]) -> Self {
        let out = Vec::with_capacity(text.len());
        Self { text, at: 0, out, copied: 0, open: Vec::new(), is_secret: false, hidden: None }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    /// The text has ended.
    fn finish(mut self, state: State, is_cut: bool) -> Option<Vec<u8>> {
        if !is_cut && state != State::Top {
            return None;
        }
        if self.hidden.is_none() {
            self.out.extend_from_slice(&self.text[self.copied..]);
        }
        Some(self.out)
    }

    fn step(&mut self, state: State, byte: u8, hides: &impl Fn(&[u8]) -> bool) -> Result<State, Stop> {
        match (state, byte) {
            (State::FirstElement, b']') | (State::FirstName, b'}') => self.close(byte),
            (State::Top | State::Value | State::FirstElement, _) => self.value(byte),
            (State::Name | State::FirstName, b'"') => {
                let name = self.string()?;
                self.is_secret = hides(&plain(name).ok_or(Stop::Bad)?);
                Ok(State::Colon)
            }
            (State::Colon, b':') => {
                self.at += 1;
                if self.is_secret && self.hidden.is_none() {
                    self.hide_value();
                }
                Ok(State::Value)
            }
            (State::After, b',') => {
                self.at += 1;
                Ok(match self.open.last() {
                    Some(Open::Object) => State::Name,
                    Some(Open::List) | None => State::Value,
                })
            }
            (State::After, b']' | b'}') => self.close(byte),
            (State::Name | State::FirstName | State::Colon | State::After, _) => Err(Stop::Bad),
        }
    }

    /// The value that comes is not copied.
    fn hide_value(&mut self) {
        self.out.extend_from_slice(&self.text[self.copied..self.at]);
        self.out.push(b'"');
        self.out.extend_from_slice(HIDDEN.as_bytes());
        self.out.push(b'"');
        self.hidden = Some(self.open.len());
    }

    /// A value begins.
    fn value(&mut self, byte: u8) -> Result<State, Stop> {
        match byte {
            b'[' | b'{' => {
                if self.open.len() == MIRROR_LOG_DEPTH_MAX {
                    return Err(Stop::Bad);
                }
                self.at += 1;
                let (open, next) = match byte {
                    b'[' => (Open::List, State::FirstElement),
                    _ => (Open::Object, State::FirstName),
                };
                self.open.push(open);
                Ok(next)
            }
            b'"' => {
                self.string()?;
                Ok(self.ended())
            }
            _ => {
                self.word()?;
                Ok(self.ended())
            }
        }
    }

    fn close(&mut self, byte: u8) -> Result<State, Stop> {
        let expected = if byte == b']' { Open::List } else { Open::Object };
        if self.open.pop() != Some(expected) {
            return Err(Stop::Bad);
        }
        self.at += 1;
        Ok(self.ended())
    }

    /// A value has ended.
    fn ended(&mut self) -> State {
        if self.hidden == Some(self.open.len()) {
            self.hidden = None;
            self.copied = self.at;
        }
        if self.open.is_empty() { State::Top } else { State::After }
    }

    /// A text, which begins here, with its quotes.
    fn string(&mut self) -> Result<&'t [u8], Stop> {
        let start = self.at;
        let mut at = start + 1;
        loop {
            match self.text.get(at) {
                None => return Err(Stop::Cut),
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(0..0x20) => return Err(Stop::Bad),
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        Ok(&self.text[start..self.at])
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> Result<(), Stop> {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let (word, is_last) = (&rest[..length], length == rest.len());
        if serde_json::from_slice::<serde::de::IgnoredAny>(word).is_ok() {
            self.at += length;
            return Ok(());
        }
        let is_begun = [&b"true"[..], b"false", b"null"].iter().any(|whole| whole.starts_with(word))
            || word.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
        Err(if is_last && is_begun && length > 0 { Stop::Cut } else { Stop::Bad })
    }
}

/// A text without its quotes and escapes; `None` where its escapes are none.
fn plain(quoted: &[u8]) -> Option<Cow<'_, [u8]>> {
    if quoted.contains(&b'\\') {
        return Some(Cow::Owned(serde_json::from_slice::<String>(quoted).ok()?.into_bytes()));
    }
    Some(Cow::Borrowed(quoted.get(1..quoted.len() - 1)?))
}

/// What the checks take for the name of a secret.
fn is_secret(name: &[u8]) -> bool {
    name.windows(4).any(|part| part.eq_ignore_ascii_case(b"pass"))
}

/// The same by another way: the values read, changed and written again.
fn hide_values(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if is_secret(name.as_bytes()) { *value = HIDDEN.into() } else { hide_values(value) }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide_values),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Takes bytes for a body. What `serde_json` reads, whole, is the same with other values in place of secrets; and the beginning
/// of it shows no more.
pub(in crate::plugin::builtin) fn check_hiding(data: &[u8]) {
    let (whole, half) = (hide(data, false, is_secret), hide(&data[..data.len() / 2], true, is_secret));
    let Ok(mut value) = serde_json::from_slice::<Value>(data) else { return };
    hide_values(&mut value);
    let whole = whole.expect("what is JSON is taken for some");
    assert_eq!(serde_json::from_slice::<Value>(&whole).expect("it stays JSON"), value);
    assert!(whole.starts_with(&half.expect("the beginning of JSON is taken for one")), "the beginning shows more");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    fn hidden(text: &str, is_cut: bool) -> Option<String> {
        hide(text.as_bytes(), is_cut, is_secret).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_of_secrets_are_hidden_whatever_they_are_and_all_else_is_copied() {
        for (text, expected) in [
            ("", ""),
            (" 1.50e+3 ", " 1.50e+3 "),
            (r#"{"b": 1e2, "a":[ ]}"#, r#"{"b": 1e2, "a":[ ]}"#),
            (r#"{"pass": "geheim", "a":1}"#, r#"{"pass":"(hidden)", "a":1}"#),
            (r#"{"PASSWORD" :null}"#, r#"{"PASSWORD" :"(hidden)"}"#),
            (r#"{"p\u0061ss":"geh\"eim"}"#, r#"{"p\u0061ss":"(hidden)"}"#),
            (r#"{"pass":{"a":["geheim",{"pass":"geheim"}]},"b":2}"#, r#"{"pass":"(hidden)","b":2}"#),
            (r#"{"a":[{"pass":-1},["pass","x"]]}"#, r#"{"a":[{"pass":"(hidden)"},["pass","x"]]}"#),
            ("{\"pass\":1}\n{\"pass\":2}\n", "{\"pass\":\"(hidden)\"}\n{\"pass\":\"(hidden)\"}\n"),
        ] {
            assert_eq!(hidden(text, false).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_left_out() {
        let deep = "[".repeat(MIRROR_LOG_DEPTH_MAX + 1);
        for text in [
            "{pass:1}",
            "{'pass':1}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "[1}",
            "[1,]",
            "[,1]",
            "]",
            "a",
            "/**/1",
            "{\"a\":\"\n\"}",
            "{\"\\x\":1}",
            "\u{feff}1",
            "pass=geheim",
            "01 ",
            "1:2",
            &deep,
        ] {
            assert_eq!((hidden(text, false), hidden(text, true)), (None, None), "{text:.20}");
        }
        for text in ["{", "{\"a\":", "\"a", "[1", "tru", "-", "{\"a\":\"\\"] {
            assert_eq!((hidden(text, false), hidden(text, true).as_deref()), (None, Some(text)), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let name = prop_oneof![Just("pass".to_owned()), Just("my_Passwords".to_owned()), "[a-z\"\\\\é]{0,3}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((name.clone(), inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_values_that_are_read_and_written_again(value in json(), is_pretty in any::<bool>()) {
            check_hiding(if is_pretty { format!("{value:#}") } else { value.to_string() }.as_bytes());
        }

        #[test]
        fn a_cut_text_shows_no_more_than_a_whole_one(value in json(), cut in any::<prop::sample::Index>()) {
            let text = value.to_string();
            let whole = hide(text.as_bytes(), false, is_secret).unwrap();
            let out = hide(&text.as_bytes()[..cut.index(text.len() + 1)], true, is_secret).unwrap();
            // It may end with all of a text in place of a value of which the beginning was there.
            prop_assert!(whole.starts_with(&out));
        }

        #[test]
        fn bytes_of_any_kind_are_looked_at_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), is_cut in any::<bool>()) {
            hide(&bytes, is_cut, is_secret);
            check_hiding(&bytes);
        }
    }
}
