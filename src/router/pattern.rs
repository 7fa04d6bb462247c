//! Path patterns: one const parser for routes in Rust source and for routes from the config file.
//!
//! | segment | matches |
//! |---|---|
//! | text | itself, byte for byte, against the normalised path |
//! | `:name` | one whole segment, never an empty one |
//! | `*name` (last only) | the rest of the path, slashes included |
//!
//! `/static/*file` matches `/static/` with an empty rest, and does not match `/static`: the slash before the `*` is part
//! of the pattern. A trailing slash counts: `/a` and `/a/` are two paths.
//!
//! Text must be what a normalised path can contain, or the route could never match: `pchar` of RFC 3986, no dot segments,
//! no escape of an unreserved character, upper-case escapes (RFC 3986 section 6.2.2). `:` and `*` inside a segment are
//! legal in a path but refused here: `/img-:id` is a mistake far more often than a wish.

use std::fmt;

use crate::limits::{ROUTE_PARAMS_MAX, ROUTE_PATTERN_BYTES_MAX};

/// Stands for a `:param` segment in a pattern's key. Below every path byte, so that keys sort parameters first.
pub(crate) const PARAM_MARK: u8 = 1;
/// Stands for a `*wildcard` in a pattern's key.
pub(crate) const WILDCARD_MARK: u8 = 2;

/// A valid pattern, borrowing its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern<'a> {
    text: &'a str,
    names: [NameSpan; ROUTE_PARAMS_MAX],
    count: u8,
    wildcard: bool,
}

/// Where a parameter's name stands in the pattern, without its `:` or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameSpan {
    pub(crate) start: u16,
    pub(crate) len: u16,
}

/// Why a text is no pattern: the operator's (or programmer's) mistake, at one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Offset in bytes of what was found.
    pub position: usize,
    /// What is wrong there.
    pub kind: PatternErrorKind,
    /// The byte found at `position`; `None` at the end of the pattern.
    pub found: Option<u8>,
}

/// What can be wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternErrorKind {
    /// The first byte is not `/`.
    LeadingSlash,
    /// Two slashes in a row.
    EmptySegment,
    /// `:` or `*` without a name, or a name with a byte that names cannot have.
    Name,
    /// A name that the pattern already has.
    RepeatedName,
    /// More than `limits::ROUTE_PARAMS_MAX` parameters.
    TooManyParams,
    /// Something after `*name`.
    WildcardNotLast,
    /// `:` or `*` that does not begin its segment.
    MarkInsideSegment,
    /// A segment `.` or `..`.
    DotSegment,
    /// A byte that no normalised path contains.
    Byte,
    /// `%` that two upper-case hexadecimal digits do not follow, or `%00`.
    Escape,
    /// An escape of a character that normalisation leaves plain.
    UnreservedEscape,
    /// Longer than `limits::ROUTE_PATTERN_BYTES_MAX`.
    TooLong,
}

impl PatternErrorKind {
    /// What was expected, as the rest of a sentence.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::LeadingSlash => "expected a pattern to begin with `/`",
            Self::EmptySegment => "expected a segment between two slashes",
            Self::Name => "expected a name ([A-Za-z_][A-Za-z0-9_]*) after `:` or `*`, up to the end of the segment",
            Self::RepeatedName => "expected a parameter name that the pattern does not have yet",
            Self::TooManyParams => "expected at most 16 parameters",
            Self::WildcardNotLast => "expected the pattern to end after `*name`",
            Self::MarkInsideSegment => "expected `:name` or `*name` to be a whole segment",
            Self::DotSegment => "expected no `.` or `..` segment: paths are normalised before they are matched",
            Self::Byte => "expected a path character (RFC 3986 pchar; escape others as %XX; parameters are `:name`)",
            Self::Escape => "expected `%` and two upper-case hexadecimal digits other than 00",
            Self::UnreservedEscape => "expected the plain character instead of its escape: paths are normalised",
            Self::TooLong => "expected at most 4096 bytes",
        }
    }
}

const _: () = assert!(ROUTE_PARAMS_MAX == 16 && ROUTE_PATTERN_BYTES_MAX == 4096, "the messages above name both");

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}, found ", self.position, self.kind.expected())?;
        match self.found {
            None => f.write_str("the end"),
            Some(byte) => write!(f, "`{}`", byte.escape_ascii()),
        }
    }
}

impl std::error::Error for PatternError {}

impl<'a> Pattern<'a> {
    /// Parses `text`, at compile time or at run time.
    ///
    /// # Errors
    /// The first mistake, from the left.
    pub const fn parse(text: &'a str) -> Result<Self, PatternError> {
        let bytes = text.as_bytes();
        let none = NameSpan { start: 0, len: 0 };
        let mut pattern = Self { text, names: [none; ROUTE_PARAMS_MAX], count: 0, wildcard: false };
        if bytes.len() > ROUTE_PATTERN_BYTES_MAX {
            return Err(error(bytes, ROUTE_PATTERN_BYTES_MAX, PatternErrorKind::TooLong));
        }
        if bytes.is_empty() || bytes[0] != b'/' {
            return Err(error(bytes, 0, PatternErrorKind::LeadingSlash));
        }
        let mut start = 1;
        loop {
            let mut end = start;
            while end < bytes.len() && bytes[end] != b'/' {
                end += 1;
            }
            let outcome = match byte_or_slash(bytes, start) {
                b'/' if end < bytes.len() => Err(error(bytes, start, PatternErrorKind::EmptySegment)),
                b':' | b'*' => pattern.add_param(start, end),
                _ => check_static(bytes, start, end),
            };
            if let Err(error) = outcome {
                return Err(error);
            }
            if end == bytes.len() {
                return Ok(pattern);
            }
            start = end + 1;
        }
    }

    const fn add_param(&mut self, start: usize, end: usize) -> Result<(), PatternError> {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        while at < end
            && (bytes[at] == b'_' || bytes[at].is_ascii_alphabetic() || (at > start + 1 && bytes[at].is_ascii_digit()))
        {
            at += 1;
        }
        if at < end || end == start + 1 {
            return Err(error(bytes, at, PatternErrorKind::Name));
        }
        if bytes[start] == b'*' {
            if end < bytes.len() {
                return Err(error(bytes, end, PatternErrorKind::WildcardNotLast));
            }
            self.wildcard = true;
        }
        let mut other = 0;
        while other < self.count as usize {
            let span = self.names[other];
            if same_bytes(bytes, span.start as usize, span.len as usize, start + 1, end - start - 1) {
                return Err(error(bytes, start + 1, PatternErrorKind::RepeatedName));
            }
            other += 1;
        }
        if self.count as usize == ROUTE_PARAMS_MAX {
            return Err(error(bytes, start, PatternErrorKind::TooManyParams));
        }
        self.names[self.count as usize] = NameSpan { start: (start + 1) as u16, len: (end - start - 1) as u16 };
        self.count += 1;
        Ok(())
    }

    /// The pattern as it was written.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// How many parameters it has, the wildcard included.
    pub const fn params_len(&self) -> usize {
        self.count as usize
    }

    /// The name of parameter `index`, from the left.
    pub fn param_name(&self, index: usize) -> Option<&'a str> {
        let span = self.names[..self.params_len()].get(index)?;
        Some(&self.text[usize::from(span.start)..usize::from(span.start + span.len)])
    }

    /// Whether it ends in a `*wildcard`.
    pub const fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    pub(crate) const fn name_span(&self, index: usize) -> NameSpan {
        self.names[index]
    }

    /// Length of the key: the pattern with each parameter (its sigil and name) replaced by one mark.
    pub(crate) const fn key_len(&self) -> usize {
        let mut len = self.text.len();
        let mut at = 0;
        while at < self.count as usize {
            len -= self.names[at].len as usize;
            at += 1;
        }
        len
    }

    /// Writes the key at `at`. Two patterns have the same shape exactly when their keys are the same bytes.
    pub(crate) const fn write_key(&self, out: &mut [u8], at: usize) {
        let bytes = self.text.as_bytes();
        let (mut from, mut to, mut param) = (0, at, 0);
        while from < bytes.len() {
            if param < self.count as usize && from + 1 == self.names[param].start as usize {
                out[to] = if bytes[from] == b':' { PARAM_MARK } else { WILDCARD_MARK };
                from += 1 + self.names[param].len as usize;
                param += 1;
            } else {
                out[to] = bytes[from];
                from += 1;
            }
            to += 1;
        }
    }
}

/// `bytes[at]`, or a slash at the end: an empty last segment (a trailing slash) is checked like an empty text.
const fn byte_or_slash(bytes: &[u8], at: usize) -> u8 {
    if at < bytes.len() { bytes[at] } else { b'/' }
}

const fn error(bytes: &[u8], position: usize, kind: PatternErrorKind) -> PatternError {
    PatternError { position, kind, found: if position < bytes.len() { Some(bytes[position]) } else { None } }
}

const fn check_static(bytes: &[u8], start: usize, end: usize) -> Result<(), PatternError> {
    let dots = (end == start + 1 && bytes[start] == b'.')
        || (end == start + 2 && bytes[start] == b'.' && bytes[start + 1] == b'.');
    if dots {
        return Err(error(bytes, start, PatternErrorKind::DotSegment));
    }
    let mut at = start;
    while at < end {
        match bytes[at] {
            b':' | b'*' => return Err(error(bytes, at, PatternErrorKind::MarkInsideSegment)),
            b'%' => {
                if at + 2 >= end {
                    return Err(error(bytes, at, PatternErrorKind::Escape));
                }
                let (Some(high), Some(low)) = (hex(bytes[at + 1]), hex(bytes[at + 2])) else {
                    return Err(error(bytes, at, PatternErrorKind::Escape));
                };
                match high * 16 + low {
                    0 => return Err(error(bytes, at, PatternErrorKind::Escape)),
                    byte if is_unreserved(byte) => return Err(error(bytes, at, PatternErrorKind::UnreservedEscape)),
                    _ => at += 3,
                }
            }
            byte if is_unreserved(byte) || is_other_pchar(byte) => at += 1,
            _ => return Err(error(bytes, at, PatternErrorKind::Byte)),
        }
    }
    Ok(())
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_other_pchar(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b';' | b'=' | b'@')
}

const fn same_bytes(bytes: &[u8], one: usize, one_len: usize, other: usize, other_len: usize) -> bool {
    if one_len != other_len {
        return false;
    }
    let mut at = 0;
    while at < one_len {
        if bytes[one + at] != bytes[other + at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_at(text: &str) -> (usize, PatternErrorKind) {
        let error = Pattern::parse(text).expect_err(text);
        (error.position, error.kind)
    }

    #[test]
    fn patterns_of_every_form_are_accepted() {
        for text in
            ["/", "/a", "/a/", "/:id", "/:id/", "/a/:b/c/*rest", "/*rest", "/%2F%3A", "/~a/b.c/..d/.../(x)@,;=+"]
        {
            assert_eq!(Pattern::parse(text).expect(text).as_str(), text);
        }
        const PATTERN: Pattern<'_> = match Pattern::parse("/users/:id/*rest") {
            Ok(pattern) => pattern,
            Err(_) => panic!("a good pattern"),
        };
        assert_eq!(
            (PATTERN.param_name(0), PATTERN.param_name(1), PATTERN.param_name(2)),
            (Some("id"), Some("rest"), None)
        );
        assert!(PATTERN.has_wildcard());
    }

    #[test]
    fn each_mistake_is_named_with_its_byte() {
        use PatternErrorKind::*;
        let cases = [
            ("", 0, LeadingSlash),
            ("a", 0, LeadingSlash),
            ("//", 1, EmptySegment),
            ("/a//b", 3, EmptySegment),
            ("/a//", 3, EmptySegment),
            ("/:", 2, Name),
            ("/:/a", 2, Name),
            ("/:1a", 2, Name),
            ("/:a-b", 3, Name),
            ("/*", 2, Name),
            ("/:a/:a", 5, RepeatedName),
            ("/:a/*a", 5, RepeatedName),
            ("/*a/", 3, WildcardNotLast),
            ("/*a/b", 3, WildcardNotLast),
            ("/a:b", 2, MarkInsideSegment),
            ("/a*", 2, MarkInsideSegment),
            ("/.", 1, DotSegment),
            ("/a/../b", 3, DotSegment),
            ("/a?b", 2, Byte),
            ("/a#b", 2, Byte),
            ("/{id}", 1, Byte),
            ("/a b", 2, Byte),
            ("/\u{e9}", 1, Byte),
            ("/%", 1, Escape),
            ("/%2", 1, Escape),
            ("/%2f", 1, Escape),
            ("/%00", 1, Escape),
            ("/%41", 1, UnreservedEscape),
            ("/:a/:b/:c/:d/:e/:f/:g/:h/:i/:j/:k/:l/:m/:n/:o/:p/:q", 49, TooManyParams),
        ];
        for (text, position, kind) in cases {
            assert_eq!(kind_at(text), (position, kind), "{text}");
        }
        assert_eq!(kind_at(&format!("/{}", "a".repeat(4096))), (4096, TooLong));
    }

    #[test]
    fn an_error_says_what_was_expected_and_found() {
        let shown = Pattern::parse("/a?b").expect_err("a query").to_string();
        assert!(shown.starts_with("byte 2: expected a path character") && shown.ends_with("found `?`"), "{shown}");
        assert!(Pattern::parse("/:").expect_err("no name").to_string().ends_with("found the end"));
    }

    #[test]
    fn patterns_that_differ_only_in_names_have_one_key() {
        let key = |text: &str| {
            let pattern = Pattern::parse(text).expect(text);
            let mut out = vec![0; pattern.key_len()];
            pattern.write_key(&mut out, 0);
            out
        };
        assert_eq!(key("/a/:b/c/*rest"), b"/a/\x01/c/\x02");
        assert_eq!(key("/a/:x/c/*other_rest"), key("/a/:b/c/*rest"));
        assert_ne!(key("/:b"), key("/*b"));
        assert_eq!(key("/"), b"/");
    }
}
