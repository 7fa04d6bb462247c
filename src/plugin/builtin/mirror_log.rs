//! `mirror-log`: a sample of the requests in a file, to be sent again elsewhere.
//!
//! Lines go the way of the access log's: made on the core of the request, handed over through a bounded queue, written by a
//! thread of its own. Where the queue is full they are dropped and counted, as failures of this plugin.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::handler::{Request, decode_percent};
use crate::http::{BodyFraming, FieldError, Fields};
use crate::limits::{ACCESS_FINISH_MS, ACCESS_HAND_OVER_MS, MIRROR_LOG_NAMES_MAX};
use crate::log::access::{AccessLog, Lane, Share, Which};
use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Finished, Hook, Hooks, Local, Mistake, Plugin, PostResponse, Registration};
use crate::rt;
use crate::secret::HIDDEN;

pub(super) const REGISTRATION: Registration = Registration::new(
    "mirror-log",
    "writes a sample of the requests to a file, to be sent again elsewhere",
    PhantomData::<(Options, MirrorLog)>,
);

/// Writes a sample of the requests to a file, a line of JSON each, without bodies and without secrets.
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
    /// Names of query parameters and of fields whose values are hidden, in any case, besides those that always are: names that
    /// have in them `auth`, `cookie`, `key`, `pass`, `secret`, `session`, `sig`, `token`, and the parameters `code` and `state`.
    #[serde(default)]
    #[schemars(extend("maxItems" = MIRROR_LOG_NAMES_MAX))]
    pub hide: Vec<String>,
}

fn default_share() -> f64 {
    0.01
}

fn default_headers() -> Vec<String> {
    ["Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "User-Agent"].map(str::to_owned).to_vec()
}

/// What the name of a secret has in it.
const TELLTALES: [&[u8]; 8] = [b"auth", b"cookie", b"key", b"pass", b"secret", b"session", b"sig", b"token"];
/// Query parameters that are secrets of OAuth 2 and OpenID Connect, and are called by everyday words.
const SECRET_PARAMS: [&[u8]; 2] = [b"code", b"state"];

/// Which names are those of secrets.
struct Hiding(Vec<String>);

impl Hiding {
    fn hides(&self, name: &[u8]) -> bool {
        let has = |word: &&[u8]| name.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        TELLTALES.iter().any(has) || self.0.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }

    /// A query without its secrets. Names may be percent-encoded; some servers part parameters by `;`.
    fn query(&self, query: &str) -> String {
        let pairs = query.split_inclusive(['&', ';']).map(|pair| {
            let (whole, end) = match pair.strip_suffix(['&', ';']) {
                Some(whole) => (whole, &pair[whole.len()..]),
                None => (pair, ""),
            };
            let Some((name, _)) = whole.split_once('=') else { return pair.to_owned() };
            let mut plain = Vec::new();
            decode_percent(name.as_bytes(), &mut plain);
            let is_secret = self.hides(&plain) || SECRET_PARAMS.iter().any(|own| plain.eq_ignore_ascii_case(own));
            if is_secret { format!("{name}={HIDDEN}{end}") } else { pair.to_owned() }
        });
        pairs.collect()
    }

    /// A URL without the secrets of its query.
    fn url(&self, url: &str) -> String {
        match url.split_once('?') {
            Some((path, query)) => format!("{path}?{}", self.query(query)),
            None => url.to_owned(),
        }
    }

    fn header(&self, name: &str, value: &[u8]) -> String {
        let value = String::from_utf8_lossy(value);
        match name {
            _ if self.hides(name.as_bytes()) => HIDDEN.to_owned(),
            _ if name.eq_ignore_ascii_case("referer") => self.url(&value),
            _ => value.into_owned(),
        }
    }
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
    /// What was answered; 0: nothing.
    status: u16,
}

/// What one core writes with.
struct Recorder {
    lane: RefCell<Lane>,
    /// Whether lines will be handed over.
    is_due: Cell<bool>,
}

impl Recorder {
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
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let is_all = options.headers.iter().any(|name| name == "*");
        let which = if options.share > 0.0 { Which::Sampled(Share::new(options.share)) } else { Which::Off };
        Ok(Self {
            file: context.base_dir.join(options.file),
            which,
            headers: (!is_all).then_some(options.headers),
            hiding: Hiding(options.hide),
            log: OnceLock::new(),
        })
    }
}

impl MirrorLog {
    fn line<'r>(&self, request: &'r Request<'_>, finished: Finished) -> Line<'r> {
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
            status: match finished {
                Finished::Whole(status) | Finished::Cut(status) => status.code(),
                Finished::Unanswered => 0,
            },
        }
    }
}

impl Plugin for MirrorLog {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PostResponse)
    }

    fn init(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.file.display());
        let log = AccessLog::open_as("a mirror log", Some(&self.file)).map_err(failed)?;
        log.start().map_err(failed)?;
        // It is called once.
        let _ = self.log.set(log);
        Ok(())
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        let Some(log) = self.log.get() else { return };
        if !self.which.takes(false, hook.request().id().number()) {
            return;
        }
        let core = hook.context().get().map_or(0, Local::core);
        let recorder = hook.local(|| Recorder { lane: RefCell::new(log.lane(core)), is_due: Cell::new(false) });
        recorder.push(&self.line(hook.request(), hook.finished()));
        hook.note_failures(recorder.take_lost());
    }

    fn destroy(&self) {
        if let Some(log) = self.log.get() {
            log.finish(Duration::from_millis(ACCESS_FINISH_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_their_names_are_written() {
        let hiding = Hiding(vec!["card".to_owned()]);
        for (query, expected) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("token=x", "token=(hidden)"),
            ("a=1&access_Token=x&b=2", "a=1&access_Token=(hidden)&b=2"),
            ("t%6Fken=x&a", "t%6Fken=(hidden)&a"),
            ("apikey=x;CARD=1;a=b", "apikey=(hidden);CARD=(hidden);a=b"),
            ("code=x&state=y&discard=1", "code=(hidden)&state=(hidden)&discard=1"),
            ("token=a=b&=c&&x=", "token=(hidden)&=c&&x="),
            ("X-Amz-Signature=ff", "X-Amz-Signature=(hidden)"),
        ] {
            assert_eq!(hiding.query(query), expected);
        }
        for name in ["Authorization", "cookie", "Proxy-Authorization", "X-Api-Key", "X-Auth-Request-User", "Card"] {
            assert_eq!(hiding.header(name, b"x"), HIDDEN, "{name}");
        }
        assert_eq!(hiding.header("Accept", b"a/b"), "a/b");
        assert_eq!(hiding.header("Referer", b"https://a.test/?token=x"), "https://a.test/?token=(hidden)");
    }
}
