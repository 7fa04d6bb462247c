//! `proxy` in a route: where its requests go, and what is changed on the way.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::upstreams::one;
use crate::limits::{FIELD_EDITS_MAX, SPLIT_MAX, TRUST_MAX, WEIGHT_MAX};
use crate::proxy::{HostRewrite, Network};

/// Forwards to an `upstream`, or to several by weight (`split`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["upstream"] }, { "required": ["split"] }]))]
pub struct Proxy {
    /// The name of an upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub upstream: Option<String>,
    /// Several upstreams, each with its share of the requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "maxItems" = SPLIT_MAX))]
    pub split: Vec<Split>,
    /// Taken away from the start of the path, where it ends with a segment: `/api` of `/api/users` leaves `/users`. A path
    /// that does not start so keeps what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub strip_prefix: Option<String>,
    /// Put in front of the path, after `strip_prefix`: `/v1` of `/users` makes `/v1/users`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub add_prefix: Option<String>,
    /// The path that is forwarded instead, with `{name}` for parameters of the route; the query stays. Not together with
    /// prefixes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub rewrite: Option<String>,
    /// The `Host` that is forwarded: `"keep"` as it came, `"server"` the server's address, `{ "set": "name" }` this.
    #[serde(with = "host_form")]
    #[schemars(with = "HostForm")]
    pub host: HostRewrite,
    /// Proxies in front of this one: addresses and networks. Their `X-Forwarded-*` and `Forwarded` are taken over; those
    /// of others are replaced.
    #[schemars(extend("maxItems" = TRUST_MAX))]
    pub trust: Vec<Network>,
    /// Whether `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` are sent.
    pub x_forwarded: bool,
    /// Whether `Forwarded` (RFC 7239) is sent.
    pub forwarded: bool,
    /// The name in `Via`, in requests and responses; null leaves it out.
    pub via: Option<String>,
    /// Edits of the request's header fields.
    #[serde(skip_serializing_if = "FieldEdits::is_empty")]
    pub request_headers: FieldEdits,
    /// Edits of the response's header fields.
    #[serde(skip_serializing_if = "FieldEdits::is_empty")]
    pub response_headers: FieldEdits,
    /// Whether a client may switch protocols through it, as WebSocket does: the connection becomes a tunnel when the
    /// server agrees.
    pub upgrade: bool,
    /// Copies of requests go to another upstream too, whose answers are thrown away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mirror")]
    pub mirror: Option<Mirror>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            upstream: None,
            split: Vec::new(),
            strip_prefix: None,
            add_prefix: None,
            rewrite: None,
            host: HostRewrite::default(),
            trust: Vec::new(),
            x_forwarded: true,
            forwarded: false,
            via: Some("ringfort".to_owned()),
            request_headers: FieldEdits::default(),
            response_headers: FieldEdits::default(),
            upgrade: true,
            mirror: None,
        }
    }
}

/// One of several upstreams of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The name of an upstream.
    pub upstream: String,
    /// Its share relative to the others'.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = WEIGHT_MAX))]
    pub weight: u32,
}

/// `host`: a word, or `{ "set": "name" }`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum HostForm {
    Word(HostWord),
    Set(HostSet),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum HostWord {
    Keep,
    Server,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct HostSet {
    /// A host, with a port where it needs one.
    set: String,
}

/// `#[serde(with)]` for [`HostRewrite`].
mod host_form {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{HostForm, HostRewrite, HostSet, HostWord};

    pub(super) fn serialize<S: Serializer>(host: &HostRewrite, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match host {
            HostRewrite::Keep => HostForm::Word(HostWord::Keep),
            HostRewrite::Server => HostForm::Word(HostWord::Server),
            HostRewrite::Set(host) => HostForm::Set(HostSet { set: host.clone() }),
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HostRewrite, D::Error> {
        Ok(match HostForm::deserialize(deserializer)? {
            HostForm::Word(HostWord::Keep) => HostRewrite::Keep,
            HostForm::Word(HostWord::Server) => HostRewrite::Server,
            HostForm::Set(form) => HostRewrite::Set(form.set),
        })
    }
}

/// Edits of header fields: first `remove`, then `set`, then `add`. Fields that frame a message or speak about its connection
/// are not theirs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FieldEdits {
    /// All fields of a name are taken out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = FIELD_EDITS_MAX))]
    pub remove: Vec<String>,
    /// One field of this value takes the place of all of its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// A field is added, beside others of its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
}

impl FieldEdits {
    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Copies of requests, whose answers are thrown away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The name of an upstream.
    pub upstream: String,
    /// The share of requests that is copied.
    #[serde(default = "all")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}
