//! `forward-auth`: asks an upstream whether a request may pass.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::{check_field_name, is_request_field, is_response_field};
use crate::handler::Request;
use crate::http::{FieldError, Fields, StatusClass};
use crate::limits::FORWARD_AUTH_BODY_BYTES_MAX;
use crate::plugin::registry::Build;
use crate::plugin::{
    AnswerBody, BuildContext, Going, Hook, Hooks, LocalAnswer, Mistake, Peek, Plugin, PluginError, PreHandler,
    Registration, Step, Verdict,
};
use crate::proxy::{InquiryError, Question, Told, Upstream, inquire};
use crate::units::{self, ByteSize, TimeSpan};

pub(super) const REGISTRATION: Registration = Registration::new(
    "forward-auth",
    "asks an upstream whether a request may pass",
    PhantomData::<(Options, ForwardAuth)>,
);

/// Asks an upstream whether a request may pass: with a status of 2xx it goes on, any other answer is given to the client.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The upstream that is asked.
    pub upstream: String,
    /// The path that it is asked by, with a query or without.
    #[serde(default = "default_path")]
    pub path: String,
    /// The method of the question: `"get"`, or the `"original"` one. It has no body in any case.
    #[serde(default)]
    pub method: QuestionMethod,
    /// The `Host` of the question; the server's address when left out.
    #[serde(default)]
    pub host: Option<String>,
    /// Header fields of the request that the upstream is shown, besides `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and
    /// `-For`.
    #[serde(default = "default_request_headers")]
    pub request_headers: Vec<String>,
    /// Header fields of an answer of 2xx that the request goes on with; what the client sent in fields of these names never
    /// does.
    #[serde(default)]
    pub copy_to_request: Vec<String>,
    /// Header fields of any other answer that the client is given.
    #[serde(default = "default_response_headers")]
    pub copy_to_response: Vec<String>,
    /// The field of an answer of 2xx that says who the client is, to plugins behind this one such as `rate-limit`.
    #[serde(default)]
    pub identity: Option<String>,
    /// How long the answer may take, with all attempts.
    #[serde(default = "default_timeout", with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "5m"))]
    pub timeout: Duration,
    /// Bytes that the body of an answer may have; a longer one is a failure.
    #[serde(default = "default_body", with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = FORWARD_AUTH_BODY_BYTES_MAX))]
    pub body: usize,
}

/// The method of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum QuestionMethod {
    /// `GET`.
    #[default]
    Get,
    /// The request's.
    Original,
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_request_headers() -> Vec<String> {
    ["Authorization", "Cookie"].map(str::to_owned).to_vec()
}

fn default_response_headers() -> Vec<String> {
    ["WWW-Authenticate", "Location", "Set-Cookie", "Content-Type", "Retry-After"].map(str::to_owned).to_vec()
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_body() -> usize {
    64 * 1024
}

struct ForwardAuth {
    upstream: Arc<Upstream>,
    options: Options,
}

/// Whether the upstream may be shown this field as the client sent it.
fn is_shown_field(name: &str) -> bool {
    is_request_field(name) && !SET.iter().any(|set| set.eq_ignore_ascii_case(name))
}

/// What the upstream is told of the request, by the gateway alone.
const SET: [&str; 5] =
    ["X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For"];

impl Build<Options> for ForwardAuth {
    // Another config may have another upstream of the same name.
    const KEEPS_STATE: bool = false;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let upstream = context.upstreams.find(&options.upstream);
        if upstream.is_none() {
            let expected = "the name of one of the upstreams";
            mistakes.push(Mistake::at("upstream", expected, format!("{:?}", options.upstream)));
        }
        let is_target =
            options.path.starts_with('/') && options.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !is_target {
            let expected = "a path such as \"/auth\", of printable ASCII without spaces";
            mistakes.push(Mistake::at("path", expected, format!("{:?}", options.path)));
        }
        if let Some(host) = options.host.as_ref().filter(|host| !host.bytes().all(|b| b.is_ascii_graphic())) {
            mistakes.push(Mistake::at("host", "a host", format!("{host:?}")));
        }
        let mut check = |key: &str, names: &[String], is_free: fn(&str) -> bool| {
            for (index, name) in names.iter().enumerate() {
                check_field_name(&[key.into(), index.into()], name, is_free, &mut mistakes);
            }
        };
        check("request_headers", &options.request_headers, is_shown_field);
        check("copy_to_request", &options.copy_to_request, is_request_field);
        check("copy_to_response", &options.copy_to_response, is_response_field);
        match upstream {
            Some(upstream) if mistakes.is_empty() => Ok(Self { upstream: upstream.clone(), options }),
            _ => Err(mistakes),
        }
    }
}

impl ForwardAuth {
    async fn ask(&self, hook: &mut PreHandler<'_, '_>) -> Verdict {
        // Nobody can forge what the upstream would say, not even where it says nothing.
        for name in &self.options.copy_to_request {
            if let Err(error) = hook.remove_header(name) {
                return PluginError::from(error).into();
            }
        }
        let request = match hook.request() {
            Ok(request) => request,
            Err(error) => return hook.answer(LocalAnswer::problem(error.status(), error.detail())),
        };
        let fields = match self.question_fields(&request) {
            Ok(fields) => fields,
            Err(error) => return PluginError::from(error).into(),
        };
        let Options { path, method, host, timeout, body, .. } = &self.options;
        let method = match method {
            QuestionMethod::Get => "GET",
            QuestionMethod::Original => request.method_str(),
        };
        let question = Question {
            method,
            target: path,
            host: host.as_deref(),
            fields: &fields,
            body: b"",
            may_repeat: method == "GET" || request.method().is_idempotent(),
            within: *timeout,
            body_max: *body,
        };
        let told = inquire(hook.context(), &self.upstream, &question, |name| self.wants(name)).await;
        self.decide(told, hook)
    }

    /// Whether a field of the answer may be needed.
    fn wants(&self, name: &str) -> bool {
        let Options { copy_to_request, copy_to_response, identity, .. } = &self.options;
        let mut all = copy_to_request.iter().chain(copy_to_response).chain(identity);
        all.any(|wanted| wanted.eq_ignore_ascii_case(name))
    }

    /// What the upstream is told. The path is the normal one, by which the request was routed and goes on.
    fn question_fields(&self, request: &Request<'_>) -> Result<Fields, FieldError> {
        let mut fields = Fields::new();
        fields.push("X-Forwarded-Method", request.method_str())?;
        fields.push("X-Forwarded-Proto", "http")?;
        if let Some(host) = request.authority() {
            fields.push("X-Forwarded-Host", host)?;
        }
        let mut uri = request.path().to_owned();
        if let Some(query) = request.query() {
            // Writing to a text does not fail.
            let _ = write!(uri, "?{query}");
        }
        fields.push("X-Forwarded-Uri", uri)?;
        fields.push("X-Forwarded-For", request.peer().ip().to_canonical().to_string())?;
        for name in &self.options.request_headers {
            for value in request.header_values(name) {
                fields.push(name, value)?;
            }
        }
        Ok(fields)
    }

    fn decide(&self, told: Result<Told, InquiryError>, hook: &mut PreHandler<'_, '_>) -> Verdict {
        let upstream = &self.options.upstream;
        let told = match told {
            Ok(told) => told,
            Err(error) => return Verdict::Fail(PluginError(format!("asking the upstream {upstream:?}: {error}"))),
        };
        let result = if told.status.class() == StatusClass::Success {
            self.pass(&told, hook).map(|()| Verdict::Continue)
        } else {
            self.answer(told).map(|answer| hook.answer(answer))
        };
        result.unwrap_or_else(|error| Verdict::Fail(error.into()))
    }

    fn pass(&self, told: &Told, hook: &mut PreHandler<'_, '_>) -> Result<(), FieldError> {
        hook.note_credential();
        for name in &self.options.copy_to_request {
            let same = |(own, _): &(&str, &[u8])| own.eq_ignore_ascii_case(name);
            told.fields.iter().filter(same).try_for_each(|(_, value)| hook.add_header(name, value))?;
        }
        if let Some(identity) = self.options.identity.as_ref().and_then(|name| told.fields.get(name)) {
            hook.set_identity(identity);
        }
        Ok(())
    }

    fn answer(&self, told: Told) -> Result<LocalAnswer, FieldError> {
        let mut fields = Fields::new();
        let is_given = |name: &str| self.options.copy_to_response.iter().any(|given| given.eq_ignore_ascii_case(name));
        for (name, value) in told.fields.iter().filter(|(name, _)| is_given(name)) {
            fields.push(name, value)?;
        }
        Ok(LocalAnswer { status: told.status, fields, body: AnswerBody::Bytes(told.body.into()) })
    }
}

impl Plugin for ForwardAuth {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler)
    }

    fn going(&self, _: &Peek<'_>) -> Going {
        Going::Suspends
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        Step::Later(Box::pin(self.ask(hook)))
    }
}
