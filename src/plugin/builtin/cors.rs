//! `cors`: which pages of other origins may read responses (the Fetch standard's CORS protocol).

use std::marker::PhantomData;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::handler::Request;
use crate::handler::pipeline::Slot;
use crate::http::{FieldError, FieldNames, Fields, Method, Status};
use crate::limits::CORS_NAMES_MAX;
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyPlan, BuildContext, Hook, Hooks, LocalAnswer, Mistake, Plugin, PluginError, PostHandler, PreHandler,
    Registration, Step, Verdict,
};
use crate::units::{self, TimeSpan};

pub(super) const REGISTRATION: Registration = Registration::new(
    "cors",
    "says which pages of other origins may read responses, and answers their preflights",
    PhantomData::<(Options, Cors)>,
);

/// Says which pages of other origins may read responses, and answers their preflights itself, with 204. An origin that is not
/// allowed gets no such fields, which has the browser refuse. What handlers say about it is taken away: the policy is here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Origins: `"https://app.example.com"`, all hosts below a name as `"https://*.example.com"`, or `"*"` for every origin.
    #[schemars(extend("minItems" = 1, "maxItems" = CORS_NAMES_MAX))]
    pub origins: Vec<String>,
    /// Methods that pages may use beyond GET, HEAD and POST, which they always may; `"*"`: the one that they ask for.
    #[schemars(extend("maxItems" = CORS_NAMES_MAX))]
    pub methods: Vec<String>,
    /// Request fields that pages may set beyond the harmless ones; `"*"`: those that they ask for.
    #[schemars(extend("maxItems" = CORS_NAMES_MAX))]
    pub headers: Vec<String>,
    /// Response fields that pages may read beyond the harmless ones; `"*"`: all of them, where there are no credentials.
    #[schemars(extend("maxItems" = CORS_NAMES_MAX))]
    pub expose: Vec<String>,
    /// Whether pages may send cookies and the like, and read what is answered to them. Not with the origins `"*"` and
    /// `"null"`.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "0s", "x-maximum" = "24h"))]
    pub max_age: Duration,
    /// Whether pages of public networks may ask this server where it is in a private one.
    pub private_network: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            origins: vec!["*".to_owned()],
            methods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec(),
            headers: vec!["Content-Type".to_owned()],
            expose: Vec::new(),
            credentials: false,
            max_age: Duration::from_secs(600),
            private_network: false,
        }
    }
}

/// Origins that are allowed.
#[derive(Debug, PartialEq, Eq)]
enum Origins {
    /// Every one.
    Any,
    Listed(Vec<OriginPattern>),
}

#[derive(Debug, PartialEq, Eq)]
enum OriginPattern {
    Exact(String),
    /// `https://` and `.example.com:8443`, with labels between them.
    Below(String, String),
}

impl OriginPattern {
    /// A scheme and a host, with a port where it is not the scheme's own: as browsers write it, in lower case and without a
    /// path.
    fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Exact(text.to_owned()));
        }
        let (scheme, host) = text.split_once("://")?;
        let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        let is_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return None;
        }
        let below = host.strip_prefix('*');
        let rest = below.unwrap_or(host);
        if rest.is_empty() || !rest.bytes().all(is_host) {
            return None;
        }
        match below {
            // A suffix without its dot would let `evilexample.com` in.
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('.') => {
                Some(Self::Below(format!("{scheme}://"), suffix.to_owned()))
            }
            Some(_) => None,
            None => Some(Self::Exact(text.to_owned())),
        }
    }

    fn has(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(own) => own.as_bytes() == origin,
            Self::Below(scheme, suffix) => {
                let labels = origin.strip_prefix(scheme.as_bytes());
                let labels = labels.and_then(|rest| rest.strip_suffix(suffix.as_bytes()));
                let is_label = |label: &[u8]| {
                    !label.is_empty() && label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                };
                labels.is_some_and(|labels| labels.split(|b| *b == b'.').all(is_label))
            }
        }
    }
}

/// Names that an answer lists.
enum Names {
    /// As the request has them.
    Asked,
    /// These; empty: no field.
    Listed(String),
}

impl Names {
    fn new(names: &[String]) -> Self {
        if names.iter().any(|name| name == "*") { Self::Asked } else { Self::Listed(names.join(", ")) }
    }
}

/// What a request is to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Actual,
    /// It asks whether a page may send another one.
    Preflight,
}

/// What kept of a request says that it is a preflight.
const PREFLIGHT: u64 = 1;

struct Cors {
    origins: Origins,
    methods: Names,
    headers: Names,
    expose: String,
    credentials: bool,
    max_age: String,
    private_network: bool,
}

impl Build<Options> for Cors {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let is_any = options.origins.iter().any(|origin| origin == "*");
        let mut listed = Vec::new();
        for (index, origin) in options.origins.iter().enumerate().filter(|(_, origin)| *origin != "*") {
            match OriginPattern::parse(origin) {
                Some(pattern) => listed.push(pattern),
                None => {
                    let expected = "an origin such as \"https://app.example.com\" or \"https://*.example.com\", in lower \
                                    case and without a path, or \"*\"";
                    mistakes.push(Mistake::at_index("origins", index, expected, format!("{origin:?}")));
                }
            }
        }
        if is_any && options.credentials {
            let expected = "false where `origins` has \"*\", for any page could read what is the user's alone";
            mistakes.push(Mistake::at("credentials", expected, "true"));
        }
        if options.credentials && options.origins.iter().any(|origin| origin == "null") {
            // Whoever wants can be of it: a page in a sandboxed frame, or in a `data:` URL.
            let expected = "false where `origins` has \"null\", for any page can be of that origin";
            mistakes.push(Mistake::at("credentials", expected, "true"));
        }
        for (key, names) in [("methods", &options.methods), ("headers", &options.headers), ("expose", &options.expose)]
        {
            for (index, name) in names.iter().enumerate() {
                if Fields::new().push(name, "") == Err(FieldError::Name) {
                    mistakes.push(Mistake::at_index(key, index, "a name or \"*\"", format!("{name:?}")));
                }
                if key == "expose" && name == "*" && options.credentials {
                    let expected = "names one by one where `credentials` is true: browsers take \"*\" literally then";
                    mistakes.push(Mistake::at_index(key, index, expected, "\"*\""));
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            origins: if is_any { Origins::Any } else { Origins::Listed(listed) },
            methods: Names::new(&options.methods),
            headers: Names::new(&options.headers),
            expose: options.expose.join(", "),
            credentials: options.credentials,
            max_age: options.max_age.as_secs().to_string(),
            private_network: options.private_network,
        })
    }
}

/// The fields of responses that speak of it.
static OWN_FIELDS: FieldNames<7> = FieldNames::new([
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Access-Control-Allow-Private-Network",
]);

impl Cors {
    /// The value of `Access-Control-Allow-Origin` for a request with these `Origin` fields; `None`: no such field.
    fn allowed<'o>(&self, mut origins: impl Iterator<Item = &'o [u8]>) -> Option<&'o [u8]> {
        let patterns = match &self.origins {
            // Also without an origin: a cache may give the response to a page of another one later.
            Origins::Any => return Some(b"*"),
            Origins::Listed(patterns) => patterns,
        };
        let origin = origins.next().filter(|origin| !origin.is_empty())?;
        (origins.next().is_none() && patterns.iter().any(|pattern| pattern.has(origin))).then_some(origin)
    }

    /// Puts the answer of the protocol into a response.
    fn write(&self, request: &Request<'_>, kind: Kind, fields: &mut Fields) -> Result<(), FieldError> {
        fields.remove_all(&OWN_FIELDS);
        // A cache has to know that the answer is another one for another origin, also where this request has none.
        if let Origins::Listed(_) = self.origins {
            fields.add_vary("Origin")?;
        }
        if kind == Kind::Preflight {
            if let Names::Asked = self.methods {
                fields.add_vary("Access-Control-Request-Method")?;
            }
            if let Names::Asked = self.headers {
                fields.add_vary("Access-Control-Request-Headers")?;
            }
        }
        let Some(origin) = self.allowed(request.header_values("origin")) else { return Ok(()) };
        fields.push("Access-Control-Allow-Origin", origin)?;
        if self.credentials {
            fields.push("Access-Control-Allow-Credentials", "true")?;
        }
        match kind {
            Kind::Actual if self.expose.is_empty() => Ok(()),
            Kind::Actual => fields.push("Access-Control-Expose-Headers", &self.expose),
            Kind::Preflight => self.write_preflight(request, fields),
        }
    }

    fn write_preflight(&self, request: &Request<'_>, fields: &mut Fields) -> Result<(), FieldError> {
        for (name, names, asked) in [
            ("Access-Control-Allow-Methods", &self.methods, "access-control-request-method"),
            ("Access-Control-Allow-Headers", &self.headers, "access-control-request-headers"),
        ] {
            let value = match names {
                Names::Listed(list) => list.as_bytes(),
                Names::Asked => request.header(asked).unwrap_or_default(),
            };
            if !value.is_empty() {
                fields.push(name, value)?;
            }
        }
        fields.push("Access-Control-Max-Age", &self.max_age)?;
        let asks = request.header("access-control-request-private-network");
        if self.private_network && asks == Some(b"true") {
            fields.push("Access-Control-Allow-Private-Network", "true")?;
        }
        Ok(())
    }
}

impl Plugin for Cors {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler).with(Hook::PostHandler)
    }

    fn edits_requests(&self) -> bool {
        false
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let is_preflight = hook.method() == Method::Options
            && hook.header("origin").is_some()
            && hook.header("access-control-request-method").is_some();
        if !is_preflight {
            return Step::Now(Verdict::Continue);
        }
        *hook.slot() = Slot::Number(PREFLIGHT);
        Step::Now(hook.answer(LocalAnswer::bytes(Status::NO_CONTENT, Vec::new())))
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        let kind = match hook.slot() {
            Slot::Number(PREFLIGHT) => Kind::Preflight,
            Slot::Number(_) | Slot::Empty | Slot::Boxed(_) => Kind::Actual,
        };
        let (request, fields) = hook.parts();
        self.write(request, kind, fields)?;
        Ok(BodyPlan::AsIs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        OriginPattern::parse(text).unwrap_or_else(|| panic!("{text} is no pattern"))
    }

    #[test]
    fn an_origin_is_allowed_whole_or_below_a_name() {
        for (text, allowed, refused) in [
            (
                "https://a.test",
                &["https://a.test"][..],
                &["http://a.test", "https://a.test:8443", "https://b.a.test"][..],
            ),
            ("https://a.test:8443", &["https://a.test:8443"], &["https://a.test"]),
            ("https://[::1]:80", &["https://[::1]:80"], &["https://[::1]"]),
            ("null", &["null"], &["", "https://null"]),
            (
                "https://*.a.test",
                &["https://b.a.test", "https://c.b.a.test", "https://x-1.a.test"],
                &[
                    "https://a.test",
                    "https://.a.test",
                    "https://b..a.test",
                    "https://b.a.test:8443",
                    "http://b.a.test",
                    "https://ba.test",
                    "https://evil.test/.a.test",
                    "https://evil.test?.a.test",
                    "https://user@b.a.test",
                    "https://b.a.test.evil.test",
                ],
            ),
            ("http://*.a.test:81", &["http://b.a.test:81"], &["http://b.a.test"]),
        ] {
            let pattern = pattern(text);
            for origin in allowed {
                assert!(pattern.has(origin.as_bytes()), "{text} {origin}");
            }
            for origin in refused {
                assert!(!pattern.has(origin.as_bytes()), "{text} {origin}");
            }
        }
    }

    #[test]
    fn a_pattern_that_no_origin_can_have_or_too_many_would_is_refused() {
        for text in [
            "",
            "a.test",
            "https://",
            "https://a.test/",
            "https://A.test",
            "https://*",
            "https://*a.test",
            "https://*.",
            "https://a.*.test",
            "HTTPS://a.test",
            "https://a test",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }
}
