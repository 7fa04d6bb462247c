//! The options of `cache`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::freshness::{Cookies, Rules};
use super::key::KeyRules;
use crate::http::{FieldError, Fields};
use crate::plugin::Mistake;
use crate::units::{self, ByteSize, TimeSpan};

/// Keeps responses in memory, as a shared cache by RFC 9111, and answers with them what they are fit to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::plugin::builtin) struct Options {
    /// Bytes of memory for all cores together: stored responses with what finds them, and those that are coming.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 1_u64 << 20, "maximum" = 1_u64 << 40))]
    pub size: u64,
    /// Bytes of a body that is stored; at most a sixteenth of `size`.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = 1_u64 << 36))]
    pub max_body: u64,
    /// By what of its target a response is found again.
    pub key: Key,
    /// Header fields of requests by which responses differ, whether their `Vary` says so or not.
    pub vary: Vec<String>,
    /// How long a request waits for another one's response to the same target, before it asks for its own; zero: not at all.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "10m"))]
    pub wait: Duration,
    /// How long responses without a lifetime of their own are fresh.
    pub heuristic: Heuristic,
    /// How long a response may be sent after it is no longer fresh, while a new one is fetched, where it does not say so itself.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "8760h"))]
    pub stale_while_revalidate: Duration,
    /// How long it may be sent then instead of an error, where it does not say so itself.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "8760h"))]
    pub stale_if_error: Duration,
    /// Whether the `Cache-Control` of requests is heeded: with false, clients cannot have the origin asked.
    pub client_directives: bool,
    /// What becomes of responses that set cookies.
    pub set_cookie: SetCookie,
    /// What this cache is called in `Cache-Status`; null: responses do not have that field.
    #[schemars(with = "Option<String>", length(min = 1, max = 64))]
    pub status_name: Option<String>,
}

/// By what of its target a response is found again, besides the path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CacheKey")]
pub(in crate::plugin::builtin) struct Key {
    /// The host.
    pub host: bool,
    /// The query.
    pub query: bool,
    /// Names of parameters of the query that do not count, as they stand in it.
    pub ignore: Vec<String>,
}

impl Default for Key {
    fn default() -> Self {
        Self { host: true, query: true, ignore: Vec::new() }
    }
}

/// How long responses without a lifetime are fresh that say when they were changed last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CacheHeuristic")]
pub(in crate::plugin::builtin) struct Heuristic {
    /// So many percent of the time since their last change; zero: not at all.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
    /// And at most so long.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "8760h"))]
    pub max: Duration,
}

impl Default for Heuristic {
    fn default() -> Self {
        Self { percent: 10, max: Duration::from_secs(24 * 3600) }
    }
}

/// What becomes of responses that set cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::plugin::builtin) enum SetCookie {
    /// They are not stored: one client's cookie is not for all.
    #[default]
    Refuse,
    /// They are stored as others are, with their cookies.
    Store,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 64 << 20,
            max_body: 1 << 20,
            key: Key::default(),
            vary: Vec::new(),
            wait: Duration::from_secs(10),
            heuristic: Heuristic::default(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            client_directives: true,
            set_cookie: SetCookie::Refuse,
            status_name: Some("ringfort".to_owned()),
        }
    }
}

impl Options {
    /// Everything that is wrong beyond what the schema can say.
    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.max_body > self.size / 16 {
            let expected = format!("at most a sixteenth of size, {}", ByteSize::new(self.size / 16));
            mistakes.push(Mistake::at("max_body", expected, ByteSize::new(self.max_body).to_string()));
        }
        let is_token = |name: &str| Fields::new().push(name, "") != Err(FieldError::Name);
        for (index, name) in self.vary.iter().enumerate().filter(|(_, name)| !is_token(name)) {
            mistakes.push(Mistake::at_index("vary", index, "the name of a header field", format!("{name:?}")));
        }
        if let Some(name) = self.status_name.as_ref().filter(|name| !is_structured_token(name)) {
            let expected = "a token: a letter, then letters, digits and !#$%&'*+-.^_`|~:/";
            mistakes.push(Mistake::at("status_name", expected, format!("{name:?}")));
        }
        mistakes
    }

    pub(super) fn rules(&self) -> Rules {
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        Rules {
            heuristic_percent: self.heuristic.percent,
            heuristic_max: seconds(self.heuristic.max),
            stale_while_revalidate: seconds(self.stale_while_revalidate),
            stale_if_error: seconds(self.stale_if_error),
            cookies: match self.set_cookie {
                SetCookie::Refuse => Cookies::Refuse,
                SetCookie::Store => Cookies::Store,
            },
        }
    }

    pub(super) fn key_rules(&self) -> KeyRules {
        KeyRules { host: self.key.host, query: self.key.query, ignored: self.key.ignore.clone() }
    }
}

/// RFC 9651 section 3.3.4.
fn is_structured_token(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
    name.as_bytes().first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'*') && name.bytes().all(is_inner)
}
