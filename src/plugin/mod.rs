//! Plugins: what sees requests and responses at fixed points of their life, and may change or answer them.
//!
//! | file | holds |
//! |---|---|
//! | `hook` | what each hook may look at and change |
//! | `client` | who the client is behind proxies, tables of networks |
//! | `chain`, `held` | the plugins of a route in their order: the pipeline that the connection runs; responses that wait for them |
//! | `instance`, `local` | one plugin of a config; what each core keeps for it |
//! | `kept` | what caches keep, as the operator sees it |
//! | `meter` | calls, errors and times, by plugin and hook |
//! | `attend` | what plugins do beside requests, on the master's thread |
//! | `registry` | plugins by the name that a config uses, with the schema of their options |
//! | `wasm/` | plugins in WebAssembly |
//! | `builtin/` | those that come with the server, each with its `Options` |
//!
//! A request goes through the plugins of its route in their order, the global ones first; its response goes through them
//! the other way round. Hooks run on the core of the connection and must not block: one that has to wait gives a future.

mod attend;
pub mod builtin;
mod chain;
pub mod client;
mod held;
#[cfg(test)]
mod held_tests;
mod hook;
mod instance;
mod kept;
mod local;
mod meter;
mod metered;
mod pace;
mod registry;
pub mod wasm;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use crate::handler::pipeline::{AnswerBody, BodyPlan, Draft, Finished, Going, LocalAnswer, Slot, Stored};
pub use attend::Attendants;
pub use chain::Chain;
pub use hook::{BodyHook, HeldHook, OnError, Peek, PostHandler, PostResponse, PreHandler, PreRoute};
pub use instance::{Instance, OnFailure, Plugins, Wanted};
pub use kept::{Kept, KeptSample, Purge, PurgePath};
pub use local::Local;
pub use registry::{
    Build, BuildContext, Maker, Mistake, OptionStep, Registration, find, names, register, registrations,
};

/// The points at which a plugin sees a request. Which ones it wants it says once, and is not called at others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the route is found. Of global plugins alone.
    PreRoute,
    /// Before the handler.
    PreHandler,
    /// The head of the response, before it is written.
    PostHandler,
    /// Pieces of the response's body.
    PostHandlerBody,
    /// After the response.
    PostResponse,
    /// The handler, or a plugin, failed.
    OnError,
}

/// A set of hooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hooks(u8);

impl Hooks {
    /// None.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub const fn with(self, hook: Hook) -> Self {
        Self(self.0 | 1 << hook as u8)
    }

    /// Whether it is among them.
    pub const fn has(self, hook: Hook) -> bool {
        self.0 & 1 << hook as u8 != 0
    }
}

impl Hook {
    /// All, in the order of a request's life.
    pub const ALL: [Self; 6] =
        [Self::PreRoute, Self::PreHandler, Self::PostHandler, Self::PostHandlerBody, Self::PostResponse, Self::OnError];

    /// As metrics and `explain` call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreRoute => "pre_route",
            Self::PreHandler => "pre_handler",
            Self::PostHandler => "post_handler",
            Self::PostHandlerBody => "post_handler_body",
            Self::PostResponse => "post_response",
            Self::OnError => "on_error",
        }
    }
}

/// Why a hook failed: text for the log. What becomes of the request, the plugin's [`OnFailure`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginError(pub String);

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PluginError {}

impl From<crate::http::FieldError> for PluginError {
    fn from(error: crate::http::FieldError) -> Self {
        Self(error.to_string())
    }
}

/// What a hook before the handler decides.
#[derive(Debug)]
pub enum Verdict {
    /// On to the next one.
    Continue,
    /// What was given to [`PreHandler::answer`], or [`PreRoute::answer`], is the answer; nobody behind is asked. (It is not in here
    /// because every verdict would be as large, and most are to go on.)
    Answer,
    /// The plugin could not do its work.
    Fail(PluginError),
}

/// What becomes of a response that a plugin holds.
#[derive(Debug)]
pub enum HeldStep {
    /// It waits on, and the plugin wants to see more of the body.
    More,
    /// It goes on: with this plan for the body, where the head has waited.
    Go(BodyPlan),
}

/// A verdict that is there, or will be.
pub enum Step<'a> {
    /// It is there.
    Now(Verdict),
    /// It will be, when this future ends. Only where [`Plugin::going`] said that it may come to that.
    Later(Pin<Box<dyn Future<Output = Verdict> + 'a>>),
}

impl From<Verdict> for Step<'_> {
    fn from(verdict: Verdict) -> Self {
        Self::Now(verdict)
    }
}

impl From<PluginError> for Verdict {
    fn from(error: PluginError) -> Self {
        Self::Fail(error)
    }
}

/// Something that sees requests and responses. One for all cores: it is shared and immutable; what it keeps between requests
/// is each core's own ([`PreHandler::local`]) or its own affair.
///
/// Every hook has a default that does nothing, and is called only if [`Plugin::hooks`] names it.
pub trait Plugin: Send + Sync + 'static {
    /// The hooks that it wants.
    fn hooks(&self) -> Hooks;

    /// How a request will go through it: whether [`Plugin::pre_handler`] may give a future. Asked right before the hooks
    /// run, on the same core.
    fn going(&self, _peek: &Peek<'_>) -> Going {
        Going::AtOnce
    }

    /// Whether its hook before the handler may change the head of the request, or find out who the client is: a plugin
    /// behind it does not decide by a head that may change yet.
    fn edits_requests(&self) -> bool {
        true
    }

    /// What it keeps of responses, where it is a cache: for the operator.
    fn kept(&self) -> Option<&dyn Kept> {
        None
    }

    /// Bytes that the body of a request may have on its routes, instead of `server.limits.body`. Of several plugins the
    /// last one's counts.
    fn body_limit(&self) -> Option<u64> {
        None
    }

    /// Its config comes into force. Called once, off the data path, before the first request; an error keeps the whole
    /// config from coming into force.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    fn init(&self) -> Result<(), String> {
        Ok(())
    }

    /// What it does while it is in force, beside requests: a future that runs on the master's thread and is dropped when
    /// the plugin is in force no more. It must not block that thread.
    fn attend(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        None
    }

    /// A request, before its route is found. Of a global plugin alone.
    fn pre_route(&self, _hook: &mut PreRoute<'_, '_>) -> Verdict {
        Verdict::Continue
    }

    /// A request, before its handler.
    fn pre_handler<'a>(&'a self, _hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        Step::Now(Verdict::Continue)
    }

    /// The head of a response: the handler's, another plugin's or the server's own.
    ///
    /// # Errors
    /// The plugin could not do its work.
    fn post_handler(&self, _hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        Ok(BodyPlan::AsIs)
    }

    /// A piece of the body of a response of which it wanted to see it; the last one, `end`, may be empty, and so may one by which
    /// the handler wants what was gathered to be sent ([`BodyHook::more_follows`]). With
    /// [`BodyPlan::Watched`] what it appends to the output is of no account.
    ///
    /// # Errors
    /// The plugin could not do its work: the response is cut.
    fn post_handler_body(&self, _hook: &mut BodyHook<'_>, _piece: &[u8], _end: bool) -> Result<(), PluginError> {
        Ok(())
    }

    /// Ready when a response that it holds ([`BodyPlan::Held`], [`BodyHook::hold_end`]) goes on, or it wants to see more of the body
    /// of one whose head it holds. How long it holds one is its own to limit.
    ///
    /// # Errors
    /// The plugin could not do its work.
    fn poll_held(&self, _hook: &mut HeldHook<'_, '_>, _cx: &mut Context<'_>) -> Poll<Result<HeldStep, PluginError>> {
        Poll::Ready(Ok(HeldStep::Go(BodyPlan::AsIs)))
    }

    /// The exchange is over. Called for every request that was shown to it, however it ended.
    fn post_response(&self, _hook: &mut PostResponse<'_>) {}

    /// The handler, or a plugin, failed; the first answer is sent instead of the server's own.
    fn on_error(&self, _hook: &mut OnError<'_>) -> Option<LocalAnswer> {
        None
    }

    /// Nobody uses it any more. Off the data path.
    fn destroy(&self) {}
}
