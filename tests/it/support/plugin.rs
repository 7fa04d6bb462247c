//! A plugin of the tests' application that does in each hook what its options say, and leaves a trace of it.

use std::marker::PhantomData;
use std::sync::Mutex;

use ringfort::handler::{Exchange, Reply};
use ringfort::http::Status;
use ringfort::plugin::{
    BodyHook, BodyPlan, Build, BuildContext, Finished, Going, Hook, Hooks, LocalAnswer, Mistake, OnError, Peek, Plugin,
    PluginError, PostHandler, PostResponse, PreHandler, PreRoute, Registration, Step, Verdict,
};
use ringfort::rt;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) const REGISTRATION: Registration =
    Registration::new("probe", "does as it is told", PhantomData::<(Options, Probe)>);

/// What became of requests that were shown to plugins: `tag:200` and the like.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Tells what became of requests so far, and forgets it.
pub(super) fn ended(exchange: &mut Exchange<'_>) -> Reply {
    let ended = std::mem::take(&mut *ENDED.lock().unwrap());
    exchange.response.text(&ended.join(" "))
}

/// Answers with what plugins have put into the request.
pub(super) fn seen(exchange: &mut Exchange<'_>) -> Reply {
    let seen: Vec<_> = exchange.request.header_values("x-seen").collect();
    let seen = String::from_utf8(seen.join(&b","[..])).unwrap();
    exchange.response.text(&seen)
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// What it is called in traces.
    tag: String,
    /// The hook that fails.
    fails: String,
    /// Answers before the handler.
    answers: bool,
    /// Gives a future.
    waits: bool,
    /// Another target, before the route is found.
    target: String,
    /// `watch`, `upper`, `replace` or `late` (fails in the middle).
    body: String,
    /// Answers in place of failures.
    rescues: bool,
    /// Refuses to come into force.
    refuses: bool,
}

struct Probe(Options);

impl Build<Options> for Probe {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        match options.tag.as_str() {
            "bad" => Err(vec![Mistake::at("tag", "another one", "\"bad\"")]),
            _ => Ok(Self(options)),
        }
    }
}

impl Probe {
    fn check(&self, hook: Hook) -> Result<(), PluginError> {
        if self.0.fails == hook.name() { Err(PluginError("it was told to".to_owned())) } else { Ok(()) }
    }

    fn before_handler(&self, hook: &mut PreHandler<'_, '_>) -> Verdict {
        if let Err(error) = self.check(Hook::PreHandler) {
            return error.into();
        }
        hook.local(|| std::cell::Cell::new(0_u64));
        hook.slot().put(self.0.tag.clone());
        hook.add_header("X-Seen", &self.0.tag).unwrap();
        match self.0.answers && hook.request().unwrap().path() != "/ended" {
            true => hook.answer(LocalAnswer::bytes(Status::ACCEPTED, self.0.tag.clone())),
            false => Verdict::Continue,
        }
    }
}

impl Plugin for Probe {
    fn hooks(&self) -> Hooks {
        let hooks = [Hook::PreHandler, Hook::PostHandler, Hook::PostHandlerBody, Hook::PostResponse, Hook::OnError];
        let hooks = hooks.into_iter().fold(Hooks::NONE, Hooks::with);
        if self.0.target.is_empty() { hooks } else { hooks.with(Hook::PreRoute) }
    }

    fn going(&self, _: &Peek<'_>) -> Going {
        match (self.0.waits, self.0.answers) {
            (true, _) => Going::Suspends,
            (false, true) => Going::Answers,
            (false, false) => Going::AtOnce,
        }
    }

    fn init(&self) -> Result<(), String> {
        if self.0.refuses { Err("it was told to".to_owned()) } else { Ok(()) }
    }

    fn pre_route(&self, hook: &mut PreRoute<'_, '_>) -> Verdict {
        match self.0.target.as_str() {
            "answer" => return hook.answer(LocalAnswer::problem(Status::FORBIDDEN, "no")),
            target => hook.set_target(target),
        }
        self.check(Hook::PreRoute).map_or_else(Verdict::from, |()| Verdict::Continue)
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        if !self.0.waits {
            return self.before_handler(hook).into();
        }
        Step::Later(Box::pin(async move {
            rt::yield_now().await;
            self.before_handler(hook)
        }))
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        self.check(Hook::PostHandler)?;
        hook.fields().push("X-Through", &self.0.tag)?;
        if hook.request().path() == "/ended" {
            return Ok(BodyPlan::AsIs);
        }
        Ok(match self.0.body.as_str() {
            "watch" => BodyPlan::Watched,
            "upper" | "late" => BodyPlan::Changed,
            "replace" => {
                hook.set_status(Status::OK);
                BodyPlan::Replaced(format!("replaced by {}", self.0.tag).into())
            }
            _ => BodyPlan::AsIs,
        })
    }

    fn post_handler_body(&self, hook: &mut BodyHook<'_>, piece: &[u8], end: bool) -> Result<(), PluginError> {
        self.check(Hook::PostHandlerBody)?;
        if self.0.body == "late" && end {
            return Err(PluginError("at the end".to_owned()));
        }
        hook.out.extend_from_slice(&piece.to_ascii_uppercase());
        if end {
            hook.out.extend_from_slice(b"!");
        }
        Ok(())
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        let end = match hook.finished() {
            Finished::Whole(status) => status.code().to_string(),
            Finished::Cut(status) => format!("cut-{}", status.code()),
            Finished::Unanswered => "unanswered".to_owned(),
        };
        let kept = hook.slot().take::<String>().is_some();
        let path = hook.request().path().to_owned();
        if path != "/ended" {
            ENDED.lock().unwrap().push(format!("{}:{end}{}", self.0.tag, if kept { "" } else { "-new" }));
        }
    }

    fn on_error(&self, hook: &mut OnError<'_>) -> Option<LocalAnswer> {
        let text = format!("{} rescues from {}", self.0.tag, hook.status().code());
        self.0.rescues.then(|| LocalAnswer::bytes(Status::OK, text))
    }
}
