//! What is wrong with a config, and where: every mistake is the operator's, and is told so that it can be mended.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// Characters of a value that messages show; the operator has the file, and a log line should stay one.
const SHOWN_CHARS_MAX: usize = 80;

/// One step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// To a member of an object.
    Key(String),
    /// To an element of a list, from zero.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Where a mistake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a value of the config, or where one should be: `routes[3].match.path`. No steps: the config as a whole.
    Value(Vec<Step>),
    /// At a character of the file, both counted from one: it is not JSON there.
    Text {
        /// Line.
        line: usize,
        /// Byte of the line.
        column: usize,
    },
    /// In an environment variable or a flag.
    Setting(String),
    /// The file as a whole: it cannot be read.
    File(String),
}

impl Place {
    /// The place that these steps lead to.
    pub fn at(steps: &[Step]) -> Self {
        Self::Value(steps.to_vec())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(steps) => write_steps(f, steps),
            Self::Text { line, column } => write!(f, "line {line}, column {column}"),
            Self::Setting(name) | Self::File(name) => f.write_str(name),
        }
    }
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    if steps.is_empty() {
        return f.write_str("(config)");
    }
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Index(index) => write!(f, "[{index}]")?,
            Step::Key(key) if is_plain(key) => write!(f, "{}{key}", if at == 0 { "" } else { "." })?,
            Step::Key(key) => write!(f, "[{}]", quote(key))?,
        }
    }
    Ok(())
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'))
}

/// One mistake: `routes[0].match.methods[0]: expected one of …, found "get"; did you mean "GET"?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub path: Place,
    /// What should be there, as the rest of a sentence.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl ConfigError {
    /// A mistake without a suggestion.
    pub fn new(path: Place, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { path, expected: expected.into(), found: found.into(), suggestion: None }
    }

    /// A mistake at a value of the config.
    pub(super) fn at(steps: &[Step], expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Place::at(steps), expected, found)
    }

    /// With what was probably meant, if anything.
    #[must_use]
    pub(super) fn suggesting(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean {}?", quote(suggestion)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The candidate that `found` is most likely a misspelling of. Case alone never keeps two apart.
pub(super) fn suggest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let found = found.to_lowercase();
    let scored = candidates.into_iter().map(|candidate| {
        let distance = strsim::damerau_levenshtein(&found, &candidate.to_lowercase());
        (distance, candidate)
    });
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may be wrong; of very short words one, but never all.
    let tolerated = (best.chars().count() / 3).max(1);
    (distance <= tolerated && distance < best.chars().count()).then(|| best.to_owned())
}

/// In double quotes, with control characters escaped and cut where it is too long.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (at, char) in text.chars().enumerate() {
        match char {
            _ if at == SHOWN_CHARS_MAX => {
                quoted.push('…');
                break;
            }
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(char);
            }
            // Bidirectional overrides and the like would let a file disguise what a terminal shows of it.
            control if control.is_control() || matches!(control, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}') => {
                let _ = write!(quoted, "{}", control.escape_unicode());
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// A value as messages show it: small ones whole, large ones by their kind.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(list) if list.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}

/// A value in full, as far as a line goes.
pub(super) fn quote_value(value: &Value) -> String {
    let text = match value {
        Value::String(text) => return quote(text),
        value => value.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// `"a", "b" or "c"`.
pub(super) fn list_names<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    list_words(&names.into_iter().map(quote).collect::<Vec<_>>())
}

/// `a, b or c`.
pub(super) fn list_words(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_what_and_what_was_meant() {
        let steps = ["routes".into(), 3.into(), "match".into(), "X Y".into()];
        let error = ConfigError::at(&steps, "one of \"a\"", "\"b\"").suggesting(Some("a".to_owned()));
        assert_eq!(error.to_string(), r#"routes[3].match["X Y"]: expected one of "a", found "b"; did you mean "a"?"#);
    }

    #[test]
    fn a_suggestion_is_close_or_not_made() {
        let keys = ["listen", "limits", "timeouts", "keepalive", "name"];
        assert_eq!(suggest("lisen", keys).as_deref(), Some("listen"));
        assert_eq!(suggest("Timeout", keys).as_deref(), Some("timeouts"));
        assert_eq!(suggest("keep-alive", keys).as_deref(), Some("keepalive"));
        assert_eq!(suggest("tls", keys), None);
        assert_eq!(suggest("get", ["GET", "PUT"]).as_deref(), Some("GET"));
        assert_eq!(suggest("x", ["y"]), None);
    }

    #[test]
    fn shown_values_are_short_and_plain() {
        assert_eq!(quote("a\n\"\u{202e}"), "\"a\\u{a}\\\"\\u{202e}\"");
        assert_eq!(quote(&"x".repeat(200)).chars().count(), SHOWN_CHARS_MAX + 3);
    }
}
