//! Patterns of media types, as options have them: `type/subtype`, `type/*`, or `+suffix`.

use crate::http::{FieldError, Fields};
use crate::limits::MEDIA_TYPES_MAX;
use crate::plugin::Mistake;

/// A pattern of media types, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TypePattern {
    /// `text/html`.
    Exact(String),
    /// `text/`.
    Prefix(String),
    /// `+json`.
    Suffix(String),
}

impl TypePattern {
    fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| Fields::new().push(name, "") != Err(FieldError::Name) && !name.contains('*');
        let text = text.to_ascii_lowercase();
        if let Some(suffix) = text.strip_prefix('+') {
            return is_name(suffix).then_some(Self::Suffix(text));
        }
        let (kind, subtype) = text.split_once('/')?;
        match subtype {
            "*" if is_name(kind) => Some(Self::Prefix(format!("{kind}/"))),
            _ if is_name(kind) && is_name(subtype) => Some(Self::Exact(text)),
            _ => None,
        }
    }

    /// Whether a media type, without its parameters, is one of these.
    pub(super) fn matches(&self, essence: &[u8]) -> bool {
        match self {
            Self::Exact(text) => essence.eq_ignore_ascii_case(text.as_bytes()),
            Self::Prefix(text) => {
                essence.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
            }
            Self::Suffix(text) => {
                let start = essence.len().checked_sub(text.len());
                start.is_some_and(|start| essence[start..].eq_ignore_ascii_case(text.as_bytes()))
            }
        }
    }
}

/// The patterns that an option of this name lists.
///
/// # Errors
/// Each that is none, and that they are too many.
pub(super) fn parse_types(option: &'static str, texts: &[String]) -> Result<Vec<TypePattern>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    if texts.len() > MEDIA_TYPES_MAX {
        mistakes.push(Mistake::at(option, format!("at most {MEDIA_TYPES_MAX} media types"), texts.len().to_string()));
    }
    let mut patterns = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match TypePattern::parse(text) {
            Some(pattern) => patterns.push(pattern),
            None => {
                let expected = "a media type such as \"text/html\", \"text/*\" or \"+json\"";
                mistakes.push(Mistake::at_index(option, index, expected, format!("{text:?}")));
            }
        }
    }
    if mistakes.is_empty() { Ok(patterns) } else { Err(mistakes) }
}

/// The media type of a `Content-Type`, without its parameters.
pub(super) fn essence_of(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_compared_in_any_case_by_name_family_or_suffix() {
        let matches = |pattern: &str, essence: &str| TypePattern::parse(pattern).unwrap().matches(essence.as_bytes());
        assert!(matches("text/*", "Text/HTML") && matches("+JSON", "application/problem+json"));
        assert!(matches("application/json", "application/JSON") && !matches("application/json", "application/jsonp"));
        assert!(!matches("text/*", "tex") && !matches("+json", "json") && !matches("+xml", "application/xml"));
        for bad in ["", "text", "text/", "/html", "+", "*/*", "te xt/html", "text/ht*"] {
            assert_eq!(TypePattern::parse(bad), None, "{bad}");
        }
    }
}
