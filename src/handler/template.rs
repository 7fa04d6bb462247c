//! Texts with parameters of the route in them: parsed once, rendered without a heap allocation.
//!
//! | written | means |
//! |---|---|
//! | `{name}` | the value of the parameter `name` |
//! | `{{name}}` | the text `{name}` |
//! | `{{{name}}}` | the value between braces |
//! | any other brace | itself |
//!
//! `name` is an identifier, `[A-Za-z_][A-Za-z0-9_]*`, as in patterns. So only braces right around an identifier are
//! special, and a text such as `{"a":{"b":1}}` means what it shows; with `{{` and `}}` as escapes everywhere, as in
//! Rust's `format!`, it would silently lose a brace.

use std::fmt;

use super::{Failure, Request, Response, percent};
use crate::http::{FieldError, Status};
use crate::pool::{self, Class};

/// A `{name}` in a text whose route has no parameter of that name: the operator's mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownParam {
    /// The name between the braces.
    pub name: String,
    /// The parameters that the route has.
    pub known: Vec<String>,
}

impl fmt::Display for UnknownParam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, known } = self;
        match known.as_slice() {
            [] => write!(f, "expected no parameter, for the route has none, found {{{name}}}")?,
            known => write!(f, "expected a parameter of the route ({}), found {{{name}}}", known.join(", "))?,
        }
        write!(f, " (write {{{{{name}}}}} for the text {{{name}}})")
    }
}

impl std::error::Error for UnknownParam {}

/// What becomes of a value when it is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// It stays as it stands in the normalised path: visible ASCII, fit for a field value or the path of a URI.
    AsSent,
    /// As it stands, with the bytes escaped that would start another parameter of a query.
    Query,
    /// Decoded: for people.
    Text,
    /// Decoded, fit for the inside of a JSON string.
    Json,
    /// Decoded, fit for the text and the quoted attributes of HTML and XML: a value must not become markup.
    Markup,
}

impl Escape {
    /// What a body of this media type asks for.
    pub(crate) fn of_media_type(value: &str) -> Self {
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
        if subtype == "json" || subtype.ends_with("+json") {
            Self::Json
        } else if matches!(subtype, "html" | "xml") || subtype.ends_with("+xml") {
            Self::Markup
        } else {
            Self::Text
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Fixed(Vec<u8>),
    Param(String),
}

/// A parsed text. No two fixed pieces stand side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// What becomes of a `{name}` that the route does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// A text is written for its route: it is a mistake.
    Refuse,
    /// Data may hold anything: it stays, and so does a doubled one.
    Keep,
}

impl Template {
    /// These bytes and no parameter.
    pub(crate) fn fixed(bytes: Vec<u8>) -> Self {
        let mut template = Self::default();
        template.push_fixed(&bytes);
        template
    }

    /// Parses a text.
    pub(crate) fn text(text: &str, params: &[&str]) -> Result<Self, UnknownParam> {
        let mut template = Self::default();
        template.scan(text, params, Unknown::Refuse)?;
        Ok(template)
    }

    /// Parses JSON that is written out already: parameters are looked for in string values, not in the names of members.
    /// What is no JSON is taken as it is, as far as it can be told apart.
    pub(crate) fn json(json: &str, params: &[&str]) -> Self {
        let mut template = Self::default();
        let mut rest = json;
        while let Some(quote) = memchr::memchr(b'"', rest.as_bytes()) {
            let (before, string) = rest.split_at(quote + 1);
            template.push_fixed(before.as_bytes());
            let (inside, after) = string.split_at(string_len(string.as_bytes()));
            let is_name = after.strip_prefix('"').unwrap_or_default().trim_ascii_start().starts_with(':');
            // Unknown names are kept, so that there is no error to return.
            if is_name || template.scan(inside, params, Unknown::Keep).is_err() {
                template.push_fixed(inside.as_bytes());
            }
            let (quote, after) = after.split_at(after.len().min(1));
            template.push_fixed(quote.as_bytes());
            rest = after;
        }
        template.push_fixed(rest.as_bytes());
        template
    }

    /// The whole text, where no parameter is in it.
    pub(crate) fn as_fixed(&self) -> Option<&[u8]> {
        match self.pieces.as_slice() {
            [] => Some(b""),
            [Piece::Fixed(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// The parts that do not change, in order.
    pub(crate) fn fixed_pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Fixed(bytes) => Some(bytes.as_slice()),
            Piece::Param(_) => None,
        })
    }

    /// The first parameter.
    pub(crate) fn first_param(&self) -> Option<&str> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Fixed(_) => None,
            Piece::Param(name) => Some(name.as_str()),
        })
    }

    /// Appends the text with the request's parameters in their places.
    pub(crate) fn render(&self, request: &Request<'_>, escape: Escape, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Fixed(bytes) => out.extend_from_slice(bytes),
                // A handler is built with the names of its own route: the parameter is there.
                Piece::Param(name) => push_value(request.param(name).unwrap_or_default(), escape, out),
            }
        }
    }

    fn push_fixed(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Piece::Fixed(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Piece::Fixed(bytes.to_vec())),
        }
    }

    fn scan(&mut self, text: &str, params: &[&str], unknown: Unknown) -> Result<(), UnknownParam> {
        let mut rest = text;
        while let Some(open) = memchr::memchr(b'{', rest.as_bytes()) {
            let opening = run_len(&rest[open..], '{');
            let name_at = open + opening;
            let name = &rest[name_at..name_at + identifier_len(&rest[name_at..])];
            let closing = run_len(&rest[name_at + name.len()..], '}');
            // Braces of other things may stand around: `{"id":{id}}` ends with one that is not the parameter's.
            let depth = if name.is_empty() { 0 } else { opening.min(closing).min(3) };
            let (start, end) = (name_at - depth, name_at + name.len() + depth);
            self.push_fixed(&rest.as_bytes()[..start]);
            let token = &rest[start..end];
            let is_known = params.contains(&name);
            match depth {
                0 => self.push_fixed(token.as_bytes()),
                _ if !is_known && unknown == Unknown::Keep => self.push_fixed(token.as_bytes()),
                2 => self.push_fixed(&token.as_bytes()[1..token.len() - 1]),
                _ if !is_known => {
                    let known = params.iter().map(|&known| known.to_owned()).collect();
                    return Err(UnknownParam { name: name.to_owned(), known });
                }
                1 => self.pieces.push(Piece::Param(name.to_owned())),
                _ => {
                    self.push_fixed(b"{");
                    self.pieces.push(Piece::Param(name.to_owned()));
                    self.push_fixed(b"}");
                }
            }
            rest = &rest[end..];
        }
        self.push_fixed(rest.as_bytes());
        Ok(())
    }
}

/// Bytes of the inside of a JSON string, up to the quote that ends it.
fn string_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn run_len(text: &str, mark: char) -> usize {
    text.bytes().take_while(|&b| char::from(b) == mark).count()
}

fn identifier_len(text: &str) -> usize {
    match text.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
            text.bytes().take_while(|&b| b.is_ascii_alphanumeric() || b == b'_').count()
        }
        _ => 0,
    }
}

fn push_value(value: &str, escape: Escape, out: &mut Vec<u8>) {
    match escape {
        Escape::AsSent => out.extend_from_slice(value.as_bytes()),
        Escape::Query => push_replaced(value, out, |b| match b {
            // What ends a name or a value in a form's encoding, and the plus that means a space there.
            b'&' => Some("%26"),
            b'=' => Some("%3D"),
            b'+' => Some("%2B"),
            b';' => Some("%3B"),
            _ => None,
        }),
        Escape::Text => with_decoded(value, |text| out.extend_from_slice(text.as_bytes())),
        Escape::Json => with_decoded(value, |text| {
            push_replaced(text, out, |b| match b {
                b'"' => Some("\\\""),
                b'\\' => Some("\\\\"),
                // A browser that takes the body for HTML finds no markup in it.
                b'<' => Some("\\u003c"),
                b'>' => Some("\\u003e"),
                b'&' => Some("\\u0026"),
                _ => None,
            });
        }),
        Escape::Markup => with_decoded(value, |text| {
            push_replaced(text, out, |b| match b {
                b'&' => Some("&amp;"),
                b'<' => Some("&lt;"),
                b'>' => Some("&gt;"),
                b'"' => Some("&quot;"),
                b'\'' => Some("&#39;"),
                _ => None,
            });
        }),
    }
}

fn push_replaced(text: &str, out: &mut Vec<u8>, replacement: impl Fn(u8) -> Option<&'static str>) {
    for &b in text.as_bytes() {
        match replacement(b) {
            Some(instead) => out.extend_from_slice(instead.as_bytes()),
            None => out.push(b),
        }
    }
}

/// Gives `take` the decoded value where that is text without control characters, else the value as it stands. So no
/// decoded value needs the escapes of JSON for controls, and none can fake a line in a log.
fn with_decoded(value: &str, take: impl FnOnce(&str)) {
    if memchr::memchr(b'%', value.as_bytes()).is_none() {
        return take(value);
    }
    let mut decoded = pool::take(Class::Small);
    percent::decode(value.as_bytes(), &mut decoded);
    match str::from_utf8(&decoded) {
        Ok(text) if !text.chars().any(char::is_control) => take(text),
        _ => take(value),
    }
}

/// Adds a field whose value is the rest of the request's path in some form: where that is too long for a response, the
/// client is to blame, not the server.
pub(crate) fn push_field(response: &mut Response<'_>, name: &str, value: &[u8]) -> Result<(), Failure> {
    match response.field(name, value) {
        Ok(_) => Ok(()),
        Err(FieldError::TooLarge) => {
            Err(Failure::Status(Status::URI_TOO_LONG, "the path is too long for the response that would repeat it"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
