//! `mirror-log`: a sample of the requests in a file, to be sent again elsewhere.
//!
//! | file | holds |
//! |---|---|
//! | `body` | bodies as they are gathered and written |
//! | `hiding` | which names are those of secrets, and texts without them |
//! | `json` | JSON without the values of secrets, also where it is cut |
//!
//! Lines go the way of the access log's: made on the core of the request, handed over through a bounded queue, written by a
//! thread of its own. Where the queue is full they are dropped and counted, as failures of this plugin.

mod body;
mod hiding;
pub(super) mod json;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::body::{Bodies, BodyText, Gathered, Gathering, Tally};
use self::hiding::Hiding;
use super::media_types::parse_types;
use crate::clock;
use crate::handler::Request;
use crate::http::{BodyFraming, FieldError, Fields};
use crate::limits::{ACCESS_FINISH_MS, ACCESS_HAND_OVER_MS, MIRROR_LOG_BODY_BYTES_MAX, MIRROR_LOG_NAMES_MAX};
use crate::log::access::{AccessLog, Lane, Share, Which};
use crate::plugin::registry::Build;
use crate::plugin::{
    BuildContext, Finished, Hook, Hooks, Local, Mistake, Plugin, PostResponse, PreHandler, Registration, Step, Verdict,
};
use crate::rt;
use crate::units::{self, ByteSize};

pub(super) const REGISTRATION: Registration = Registration::new(
    "mirror-log",
    "writes a sample of the requests to a file, to be sent again elsewhere",
    PhantomData::<(Options, MirrorLog)>,
);

/// Writes a sample of the requests to a file, a line of JSON each, without secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The file, which is appended to. Relative paths start from the config's directory.
    pub file: PathBuf,
    /// The share of the requests that is written.
    #[serde(default = "default_share")]
    #[schemars(extend("minimum" = 0.0, "maximum" = 1.0))]
    pub share: f64,
    /// Request fields that are written; `"*"`: all.
    #[serde(default = "default_headers")]
    #[schemars(extend("maxItems" = MIRROR_LOG_NAMES_MAX))]
    pub headers: Vec<String>,
    /// Names of query parameters, of fields, and in bodies those of parameters of forms and of members in JSON, whose values are
    /// hidden, in any case, besides those that always are: names that have in them `assertion`, `auth`, `cookie`,
    /// `credential`, `jwt`, `key`, `otp`, `pass`, `pwd`, `saml`, `secret`, `session`, `sig`, `token`, and the parameters and members `code` and `state`.
    #[serde(default)]
    #[schemars(extend("maxItems" = MIRROR_LOG_NAMES_MAX))]
    pub hide: Vec<String>,
    /// Bytes of a request's body that are written, as the handler reads it; 0: no bodies.
    #[serde(default, with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = MIRROR_LOG_BODY_BYTES_MAX))]
    pub body: u64,
    /// Media types of bodies that are written: `type/subtype`, `type/*`, or `+suffix`. Secrets are found in forms
    /// (`application/x-www-form-urlencoded`) and in JSON; bodies of other types are written as they are.
    #[serde(default = "default_body_types")]
    pub body_types: Vec<String>,
}

fn default_share() -> f64 {
    0.01
}

fn default_headers() -> Vec<String> {
    ["Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "User-Agent"].map(str::to_owned).to_vec()
}

fn default_body_types() -> Vec<String> {
    ["application/json", "+json", "application/x-www-form-urlencoded"].map(str::to_owned).to_vec()
}

/// One line. The order of the keys is part of the format.
#[derive(Debug, Serialize)]
struct Line<'r> {
    /// Milliseconds since 1970.
    time: u64,
    id: String,
    client: String,
    method: &'r str,
    /// Path and query.
    target: String,
    host: Option<&'r str>,
    headers: Vec<(&'r str, String)>,
    /// Bytes of the body; `None`: chunked.
    body_bytes: Option<u64>,
    /// The body, where bodies are written.
    #[serde(flatten)]
    body: Option<BodyText>,
    /// What was answered; 0: nothing.
    status: u16,
}

/// What one core writes with.
struct Recorder {
    lane: RefCell<Lane>,
    /// Whether lines will be handed over.
    is_due: Cell<bool>,
    /// Bytes of bodies that are kept until their requests end.
    tally: Rc<Tally>,
}

impl Recorder {
    fn new(log: &AccessLog, core: Option<&Local>) -> Self {
        let lane = RefCell::new(log.lane(core.map_or(0, Local::core)));
        Self { lane, is_due: Cell::new(false), tally: Rc::default() }
    }

    fn push(self: &Rc<Self>, line: &Line<'_>) {
        let mut lane = self.lane.borrow_mut();
        lane.push_text(|text| {
            // Writing to a vector does not fail, and nothing in a line does either.
            let _ = serde_json::to_writer(&mut *text, line);
            text.push(b'\n');
        });
        if lane.is_empty() || self.is_due.replace(true) {
            return;
        }
        let recorder = Rc::downgrade(self);
        rt::spawn(async move {
            rt::sleep_until(clock::turn() + Duration::from_millis(ACCESS_HAND_OVER_MS)).await;
            // A core that is gone has handed its lines over.
            if let Some(recorder) = recorder.upgrade() {
                recorder.is_due.set(false);
                recorder.lane.borrow_mut().hand_over();
            }
        });
    }

    /// Lines that were lost since this was last asked.
    fn take_lost(&self) -> u64 {
        let mut lane = self.lane.borrow_mut();
        lane.take_dropped() + lane.take_unwritten()
    }
}

struct MirrorLog {
    file: PathBuf,
    which: Which,
    /// Fields that are written; `None`: all.
    headers: Option<Vec<String>>,
    hiding: Hiding,
    /// `None`: none are written.
    bodies: Option<Bodies>,
    log: OnceLock<AccessLog>,
}

impl Build<Options> for MirrorLog {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        if options.file.as_os_str().is_empty() {
            mistakes.push(Mistake::at("file", "the path of a file", "an empty text"));
        }
        for (index, name) in options.headers.iter().enumerate() {
            if Fields::new().push(name, "") == Err(FieldError::Name) {
                mistakes.push(Mistake::at_index(
                    "headers",
                    index,
                    "the name of a header field or \"*\"",
                    format!("{name:?}"),
                ));
            }
        }
        let types = parse_types("body_types", &options.body_types).unwrap_or_else(|more| {
            mistakes.extend(more);
            Vec::new()
        });
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        // The schema holds it to its bound.
        let most = usize::try_from(options.body).unwrap_or(usize::MAX).min(MIRROR_LOG_BODY_BYTES_MAX);
        let is_all = options.headers.iter().any(|name| name == "*");
        let which = if options.share > 0.0 { Which::Sampled(Share::new(options.share)) } else { Which::Off };
        Ok(Self {
            file: context.base_dir.join(options.file),
            which,
            headers: (!is_all).then_some(options.headers),
            hiding: Hiding(options.hide),
            bodies: (most > 0).then_some(Bodies { most, types }),
            log: OnceLock::new(),
        })
    }
}

impl MirrorLog {
    fn line<'r>(&self, request: &'r Request<'_>, gathered: Option<&Gathered>, finished: Finished) -> Line<'r> {
        let wants = |name: &str| match &self.headers {
            Some(names) => names.iter().any(|own| own.eq_ignore_ascii_case(name)),
            None => true,
        };
        let headers = request.headers().filter(|(name, _)| wants(name));
        let path = request.path();
        Line {
            time: u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX),
            id: request.id().to_string(),
            client: request.peer().ip().to_canonical().to_string(),
            method: request.method_str(),
            target: request
                .query()
                .map_or_else(|| path.to_owned(), |query| format!("{path}?{}", self.hiding.query(query))),
            host: request.authority(),
            headers: headers.map(|(name, value)| (name, self.hiding.header(name, value))).collect(),
            body_bytes: match request.framing() {
                BodyFraming::None => Some(0),
                BodyFraming::Length(length) => Some(length),
                BodyFraming::Chunked => None,
            },
            body: self.bodies.as_ref().map(|bodies| bodies.write(request, gathered, &self.hiding)),
            status: match finished {
                Finished::Whole(status) | Finished::Cut(status) => status.code(),
                Finished::Unanswered => 0,
            },
        }
    }
}

impl Plugin for MirrorLog {
    fn hooks(&self) -> Hooks {
        let hooks = Hooks::NONE.with(Hook::PostResponse);
        if self.bodies.is_some() { hooks.with(Hook::PreHandler) } else { hooks }
    }

    fn init(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.file.display());
        let log = AccessLog::open_as("a mirror log", Some(&self.file)).map_err(failed)?;
        log.start().map_err(failed)?;
        // It is called once.
        let _ = self.log.set(log);
        Ok(())
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        if let (Some(bodies), Some(log)) = (&self.bodies, self.log.get())
            && self.which.takes(false, hook.id().number())
            && hook.framing() != BodyFraming::None
            && bodies.takes(hook.header("content-type"))
        {
            let recorder = hook.local(|| Recorder::new(log, hook.context().get()));
            let gathering = Gathering::new(bodies.most, recorder.tally.clone());
            hook.body.watch_by(Box::new(gathering.clone()));
            hook.slot().put(gathering);
        }
        Step::Now(Verdict::Continue)
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        let gathering = hook.slot().take::<Gathering>();
        let Some(log) = self.log.get() else { return };
        if !self.which.takes(false, hook.request().id().number()) {
            return;
        }
        let recorder = hook.local(|| Recorder::new(log, hook.context().get()));
        let gathered = gathering.as_ref().map(Gathering::look);
        recorder.push(&self.line(hook.request(), gathered.as_deref(), hook.finished()));
        hook.note_failures(recorder.take_lost());
    }

    fn destroy(&self) {
        if let Some(log) = self.log.get() {
            log.finish(Duration::from_millis(ACCESS_FINISH_MS));
        }
    }
}
