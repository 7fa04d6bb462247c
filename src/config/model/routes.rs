//! `routes`: what a route matches, and what answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::plugins::PluginUse;
use super::predicates::Conditions;
use super::proxy::Proxy;
use crate::handler;
use crate::http;
use crate::limits::PLUGINS_PER_ROUTE_MAX;

/// A route: what it matches, and what answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RouteForm", into = "RouteForm")]
#[schemars(with = "RouteForm")]
pub struct Route {
    /// Which requests it takes.
    pub matcher: Match,
    /// What answers them.
    pub action: Action,
    /// Plugins of its own, behind the global ones.
    pub plugins: Vec<PluginUse>,
}

/// What answers the requests of a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A fixed response.
    Respond(Respond),
    /// Files beneath a directory.
    Files(Files),
    /// A redirect.
    Redirect(Redirect),
    /// Forwarding to an upstream.
    Proxy(Box<Proxy>),
}

impl Action {
    /// The key in the file, which is also what metrics and logs call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Respond(_) => "respond",
            Self::Files(_) => "files",
            Self::Redirect(_) => "redirect",
            Self::Proxy(_) => "proxy",
        }
    }
}

/// A route: `match`, and exactly one of `respond`, `files`, `redirect` and `proxy`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route", extend(
    "oneOf" = [{ "required": ["respond"] }, { "required": ["files"] }, { "required": ["redirect"] }, { "required": ["proxy"] }],
))]
struct RouteForm {
    #[serde(rename = "match")]
    matcher: Match,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Respond")]
    respond: Option<Respond>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Files")]
    files: Option<Files>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Redirect")]
    redirect: Option<Redirect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Proxy")]
    proxy: Option<Box<Proxy>>,
    /// Plugins of this route, which come behind the global ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = PLUGINS_PER_ROUTE_MAX))]
    plugins: Vec<PluginUse>,
}

impl TryFrom<RouteForm> for Route {
    type Error = &'static str;

    fn try_from(form: RouteForm) -> Result<Self, Self::Error> {
        let action = match (form.respond, form.files, form.redirect, form.proxy) {
            (Some(respond), None, None, None) => Action::Respond(respond),
            (None, Some(files), None, None) => Action::Files(files),
            (None, None, Some(redirect), None) => Action::Redirect(redirect),
            (None, None, None, Some(proxy)) => Action::Proxy(proxy),
            _ => return Err("expected exactly one of respond, files, redirect and proxy"),
        };
        Ok(Self { matcher: form.matcher, action, plugins: form.plugins })
    }
}

impl From<Route> for RouteForm {
    fn from(route: Route) -> Self {
        let Route { matcher, action, plugins } = route;
        let mut form = Self { matcher, respond: None, files: None, redirect: None, proxy: None, plugins };
        match action {
            Action::Respond(respond) => form.respond = Some(respond),
            Action::Files(files) => form.files = Some(files),
            Action::Redirect(redirect) => form.redirect = Some(redirect),
            Action::Proxy(proxy) => form.proxy = Some(proxy),
        }
        form
    }
}

/// Which requests a route takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// `api.example.com`, or `*.example.com` for every host below it; any host when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub host: Option<String>,
    /// `/users/list`, `/users/:id` (one segment), `/static/*file` (the rest of the path).
    pub path: String,
    /// Any method when left out, but for `files`, which take GET then. HEAD is served by GET.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1, "uniqueItems" = true))]
    pub methods: Vec<Method>,
    /// Header fields, by name in any case; the first one of a name counts. All conditions must hold.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub headers: Conditions,
    /// Fields of the query, by name; names and values decoded as forms are (`%20` and `+` are spaces), the first one of a
    /// name counts. All conditions must hold.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub query: Conditions,
    /// Cookies, by name; the first one of a name counts. All conditions must hold.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub cookies: Conditions,
}

/// A request method. Others have no route of their own: a route without `methods` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Head => Self::Head,
            Method::Post => Self::Post,
            Method::Put => Self::Put,
            Method::Delete => Self::Delete,
            Method::Options => Self::Options,
            Method::Trace => Self::Trace,
            Method::Patch => Self::Patch,
        }
    }
}

/// A fixed response; at most one of `text`, `json` and `base64` is its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["text"] }, { "required": ["json"] }, { "required": ["base64"] },
    { "not": { "anyOf": [{ "required": ["text"] }, { "required": ["json"] }, { "required": ["base64"] }] } },
]))]
pub struct Respond {
    /// Its status.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 999))]
    pub status: u16,
    /// Header fields. `{name}` in a value is a parameter of the route.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body of text. `{name}` is a parameter of the route; `{{name}}` is the text `{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub text: Option<String>,
    /// A body of JSON. `{name}` inside a string is a parameter of the route.
    #[serde(default, deserialize_with = "some_value", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub json: Option<Value>,
    /// A body of bytes, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub base64: Option<String>,
}

fn ok() -> u16 {
    200
}

/// `"json": null` is a body, not the absence of one.
fn some_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Files beneath a directory: what `*name` in the path takes is the path below `root`; without one, the whole path is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The directory; relative to that of the config file. No request and no symbolic link leads out of it.
    pub root: String,
    /// The file that answers for a directory; without it directories are not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub index: Option<String>,
    /// Encodings of which a compressed copy may lie beside a file (`app.js.br`), in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("uniqueItems" = true))]
    pub precompressed: Vec<Coding>,
    /// The `Cache-Control` field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub cache_control: Option<String>,
}

/// The encoding of a compressed copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Coding {
    /// Brotli, `.br`.
    Br,
    /// Zstandard, `.zst`.
    Zstd,
    /// gzip, `.gz`.
    Gzip,
}

impl From<Coding> for handler::Coding {
    fn from(coding: Coding) -> Self {
        match coding {
            Coding::Br => Self::Brotli,
            Coding::Zstd => Self::Zstd,
            Coding::Gzip => Self::Gzip,
        }
    }
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// A path or a URI; `{name}` is a parameter of the route.
    pub to: String,
    /// Its status.
    #[serde(default = "permanent")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status: u16,
    /// Whether the query of the request goes along.
    #[serde(default = "yes")]
    pub keep_query: bool,
}

fn permanent() -> u16 {
    308
}

fn yes() -> bool {
    true
}
