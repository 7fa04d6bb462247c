//! What accompanies an exchange: plugins, as the connection and the response know them. What they are is the affair of
//! [`crate::plugin`]; a route without any has none of this.

mod edits;
mod hold;
mod repeat;

use std::any::Any;
use std::fmt;
use std::rc::Rc;
use std::task::{self, Poll};

use bytes::Bytes;

use super::{Answer, Context, Exchange, Failure, Reply, Request, Response};
use crate::clock::Moment;
use crate::http::{Fields, HeadError, RequestHead, Status, Version};

pub use edits::{EditedHeads, Edits};
pub use hold::{Hold, Released};
pub use repeat::{Origin, Repeat, Repeats, UnderWay};

/// How a request goes through the plugins of its route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Going {
    /// None of them waits: the handler decides whether the request takes time.
    #[default]
    AtOnce,
    /// None waits, and one of them answers: the handler is not called.
    Answers,
    /// One of them may wait.
    Suspends,
}

/// What a plugin keeps of one request between its hooks.
#[derive(Default)]
pub enum Slot {
    /// Nothing yet.
    #[default]
    Empty,
    /// A number: costs no heap.
    Number(u64),
    /// Anything else.
    Boxed(Box<dyn Any>),
}

impl Slot {
    /// What was kept, when it is a `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        match self {
            Self::Boxed(value) => value.downcast_ref(),
            Self::Empty | Self::Number(_) => None,
        }
    }

    /// What was kept, when it is a `T`, to be changed.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        match self {
            Self::Boxed(value) => value.downcast_mut(),
            Self::Empty | Self::Number(_) => None,
        }
    }

    /// Keeps `value` instead.
    pub fn put<T: 'static>(&mut self, value: T) {
        *self = Self::Boxed(Box::new(value));
    }

    /// What was kept, when it is a `T`; the slot is empty then.
    pub fn take<T: 'static>(&mut self) -> Option<T> {
        self.get::<T>()?;
        match std::mem::take(self) {
            Self::Boxed(value) => value.downcast().ok().map(|value| *value),
            Self::Empty | Self::Number(_) => None,
        }
    }
}

/// An answer that a plugin gives instead of the handler.
#[derive(Debug, Clone)]
pub struct LocalAnswer {
    /// Its status.
    pub status: Status,
    /// Its fields.
    pub fields: Fields,
    /// Its body.
    pub body: AnswerBody,
}

/// The body of a [`LocalAnswer`].
#[derive(Clone)]
pub enum AnswerBody {
    /// A problem body (RFC 9457) with this sentence, which says nothing of the request.
    Problem(&'static str),
    /// These bytes.
    Bytes(Bytes),
    /// A response that those behind the plugin made for another request: its fields come before those of the answer, and
    /// plugins behind this one, which saw it then, do not see it again.
    Stored(Rc<dyn Stored>),
}

impl AnswerBody {
    /// The bytes; a problem has none yet.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Problem(_) => None,
            Self::Bytes(body) => Some(body),
            Self::Stored(stored) => Some(stored.body()),
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(detail) => f.debug_tuple("Problem").field(detail).finish(),
            Self::Bytes(body) => f.debug_tuple("Bytes").field(&body.len()).finish(),
            Self::Stored(stored) => f.debug_tuple("Stored").field(&stored.body().len()).finish(),
        }
    }
}

/// A response that was kept.
pub trait Stored {
    /// Its fields.
    fn fields(&self) -> &Fields;

    /// Its body.
    fn body(&self) -> &[u8];
}

impl LocalAnswer {
    /// A problem, without fields of its own.
    pub fn problem(status: Status, detail: &'static str) -> Self {
        Self { status, fields: Fields::new(), body: AnswerBody::Problem(detail) }
    }

    /// These bytes, without fields of their own.
    pub fn bytes(status: Status, body: impl Into<Bytes>) -> Self {
        Self { status, fields: Fields::new(), body: AnswerBody::Bytes(body.into()) }
    }

    /// With one more field.
    ///
    /// # Errors
    /// See [`crate::http::FieldError`].
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Self, crate::http::FieldError> {
        self.fields.push(name, value)?;
        Ok(self)
    }
}

/// What is known of a request while it goes through its plugins. Kept by the connection from one request to the next.
#[derive(Default)]
pub struct RunState {
    /// How it goes; found out before it begins.
    pub going: Going,
    /// By plugin, in the order of the route's plugins.
    pub slots: Vec<Slot>,
    /// Changes of the request's fields that are not made yet.
    pub edits: Edits,
    /// What was answered before there was a route.
    pub answer: Option<LocalAnswer>,
    /// Who the client is, as a plugin found out; empty: nobody did.
    pub identity: Vec<u8>,
    /// A plugin let the request through by a credential of its client, wherever that stood.
    pub has_credential: bool,
    /// When the handler is given up.
    pub deadline: Option<Moment>,
    /// Whether the hooks' times are taken for this request.
    pub is_timed: bool,
    /// Plugins that see the response's body, by bit.
    pub body_hooks: u64,
    /// Those among them that pass it on themselves.
    pub changing: u64,
    /// Those among these that leave it as it is.
    pub paced: u64,
    /// The response waits for a plugin.
    pub held: Option<Box<Hold>>,
    /// The trailers of the response, while its end is shown.
    pub trailers: Option<Fields>,
    /// More of the response's body is at hand: it may be gathered. Otherwise its handler may be about to wait, and what was
    /// gathered has to go out.
    pub more_follows: bool,
    /// A hook failed while the response was made: no more hooks for it.
    pub is_broken: bool,
    /// The plugin that answered with what it had stored: those behind it do not see the response.
    pub stored_at: Option<usize>,
    /// The plugin that makes the request itself: those before it do not see it.
    pub origin: Option<Origin>,
}

impl RunState {
    /// Forgets a request, for the next one.
    pub fn begin(&mut self) {
        // Field by field: this is done for each request that has plugins, and most fields are as they should be.
        let Self {
            going,
            slots,
            edits,
            answer,
            identity,
            has_credential,
            deadline,
            is_timed,
            body_hooks,
            changing,
            paced,
            held,
            trailers,
            more_follows,
            is_broken,
            stored_at,
            origin,
        } = self;
        slots.clear();
        edits.begin();
        identity.clear();
        (*going, *answer, *deadline, *is_timed) = (Going::default(), None, None, false);
        *has_credential = false;
        (*body_hooks, *changing, *paced, *more_follows, *is_broken) = (0, 0, 0, false, false);
        (*held, *trailers) = (None, None);
        (*stored_at, *origin) = (None, None);
    }
}

/// A response's head before it is written.
pub struct Draft<'d> {
    /// Its status.
    pub status: &'d mut Status,
    /// Its fields; those of the framing are not among them.
    pub fields: &'d mut Fields,
    /// Bytes of its body, where they are known ahead.
    pub length: Option<u64>,
    /// It answers HEAD: the body is not sent.
    pub head_only: bool,
    /// The version of the client.
    pub version: Version,
}

/// What becomes of the body that the handler sends.
#[derive(Debug, Clone, Default)]
pub enum BodyPlan {
    /// It is sent.
    #[default]
    AsIs,
    /// It is sent, and a plugin sees it.
    Watched,
    /// It is sent, and a plugin passes it on when it likes to.
    Paced,
    /// A plugin makes another one of it, of another length.
    Changed,
    /// It is thrown away, and this one is sent.
    Replaced(Bytes),
    /// It waits, as the head does: a plugin has not decided yet. Only where the request may wait.
    Held,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The response is whole.
    Whole(Status),
    /// It was begun and could not be completed.
    Cut(Status),
    /// There was none: the client is gone.
    Unanswered,
}

/// What stands behind the plugins: the route's handler, or what the server answers itself.
pub trait Inner {
    /// Answers the exchange.
    fn answer<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a>;
}

/// What a hook before the router may look at and change.
pub struct Routing<'r, 'x> {
    /// The request; parameters it has none yet.
    pub request: &'r mut Request<'x>,
    /// Where changed heads are kept.
    pub edited: &'x EditedHeads,
    /// What is known of the request so far.
    pub state: &'r mut RunState,
    /// What the core has for handlers.
    pub context: &'r Context,
}

/// The plugins of a route.
pub trait Pipeline: Send + Sync {
    /// How a request goes through them.
    fn going(&self, head: &RequestHead<'_>, context: &Context) -> Going;

    /// Bytes that the body of a request may have, where that is not for the server to say.
    fn body_limit(&self) -> Option<u64>;

    /// Whether some want to see requests before they are routed.
    fn has_pre_route(&self) -> bool;

    /// Whether some want to see the heads of responses.
    fn has_post_handler(&self) -> bool;

    /// Shows them a request before it is routed: they may change it, or put an answer into the state.
    ///
    /// # Errors
    /// A plugin failed, and nothing may go on without it.
    fn pre_route(&self, routing: &mut Routing<'_, '_>) -> Result<(), Failure>;

    /// Answers: through the plugins, and by `inner` unless one of them does.
    fn handle<'a>(&'a self, inner: &'a dyn Inner, exchange: &'a mut Exchange<'_>) -> Answer<'a>;

    /// Shows them the head of the response.
    ///
    /// # Errors
    /// A plugin failed, and nothing may go on without it.
    fn on_head(&self, run: &mut RunParts<'_>, draft: &mut Draft<'_>) -> Result<BodyPlan, Failure>;

    /// Shows them a piece of the response's body; what is sent instead is appended to `out`. `end`: it was the last one, and
    /// they may hold it ([`RunState::held`]).
    ///
    /// # Errors
    /// A plugin failed in the middle of the body.
    fn on_piece(&self, run: &mut RunParts<'_>, piece: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Failure>;

    /// Ready when a response that they hold goes on, or one of them wants to see more of its body; what goes on of the body
    /// is appended to `out`. Of `draft` they see what it was when they held it.
    ///
    /// # Errors
    /// A plugin failed, and nothing may go on without it.
    fn poll_held(
        &self,
        run: &mut RunParts<'_>,
        draft: &mut Draft<'_>,
        out: &mut Vec<u8>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Released, Failure>>;

    /// Asks them for an answer in place of a failure.
    fn on_failure(&self, run: &mut RunParts<'_>, status: Status, detail: &'static str) -> Option<LocalAnswer>;

    /// Tells them that the exchange has ended. Called once for each request that was shown to them.
    fn on_end(&self, run: &mut RunParts<'_>, finished: Finished);
}

/// What hooks of a response work with.
pub struct RunParts<'r> {
    /// The request, as the handler saw it.
    pub request: &'r Request<'r>,
    /// What is known of it.
    pub state: &'r mut RunState,
    /// What the core has for handlers.
    pub context: &'r Context,
}

/// A request on its way through plugins.
pub struct Run<'x> {
    pub(super) pipeline: &'x dyn Pipeline,
    pub(crate) state: &'x mut RunState,
    pub(crate) request: Request<'x>,
    context: &'x Context,
    is_over: bool,
}

impl<'x> Run<'x> {
    /// Begins; `state` may know of the request from before it was routed.
    pub(crate) fn new(
        pipeline: &'x dyn Pipeline,
        state: &'x mut RunState,
        request: Request<'x>,
        context: &'x Context,
    ) -> Self {
        Self { pipeline, state, request, context, is_over: false }
    }

    /// Has the request's fields changed as plugins want it: whoever looks at the request from now on sees it so.
    ///
    /// # Errors
    /// When the head is too large then.
    pub(crate) fn apply_edits(&mut self, request: &mut Request<'x>, edited: &'x EditedHeads) -> Result<(), HeadError> {
        if !self.state.edits.is_empty() {
            request.head = self.state.edits.apply(&request.head, edited)?;
        }
        // A plugin that wanted to see the changes has had them made before.
        self.request.head = request.head;
        Ok(())
    }

    fn parts(&mut self) -> RunParts<'_> {
        RunParts { request: &self.request, state: self.state, context: self.context }
    }

    /// Whether the plugins want to see the head of the response.
    pub(super) fn sees_response(&self) -> bool {
        self.pipeline.has_post_handler()
    }

    pub(super) fn on_head(&mut self, draft: &mut Draft<'_>) -> Result<BodyPlan, Failure> {
        if self.state.is_broken {
            return Ok(BodyPlan::AsIs);
        }
        let plan = self.pipeline.on_head(&mut self.parts(), draft);
        self.state.is_broken |= plan.is_err();
        plan
    }

    pub(super) fn on_piece(&mut self, piece: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Failure> {
        let result = self.pipeline.on_piece(&mut self.parts(), piece, end, out);
        self.state.is_broken |= result.is_err();
        result
    }

    /// Whether a plugin holds the response.
    pub(super) fn is_held(&self) -> bool {
        self.state.held.is_some()
    }

    /// Whether one may.
    pub(super) fn may_be_held(&self) -> bool {
        self.state.going == Going::Suspends
    }

    /// What is held has this body, and no more of it follows.
    pub(super) fn keep_whole(&mut self, body: &[u8]) {
        if let Some(hold) = self.state.held.as_mut().filter(|hold| !hold.is_ended) {
            hold.made.extend_from_slice(body);
            hold.is_ended = true;
        }
    }

    pub(super) fn poll_held(
        &mut self,
        draft: &mut Draft<'_>,
        out: &mut Vec<u8>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Released, Failure>> {
        let polled = self.pipeline.poll_held(&mut self.parts(), draft, out, cx);
        self.state.is_broken |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }

    /// Another response is made in the place of the one that is held.
    pub(super) fn forget_held(&mut self) {
        self.state.held = None;
    }

    /// No plugin sees the response any more.
    pub(super) fn leave_out(&mut self) {
        self.state.is_broken = true;
    }

    pub(super) fn on_failure(&mut self, status: Status, detail: &'static str) -> Option<LocalAnswer> {
        if self.state.is_broken {
            return None;
        }
        self.pipeline.on_failure(&mut self.parts(), status, detail)
    }

    pub(super) fn end(&mut self, finished: Finished) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.pipeline.on_end(&mut self.parts(), finished);
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // The exchange was given up: its client is gone, or the worker leaves.
        self.end(Finished::Unanswered);
    }
}

impl Response<'_> {
    /// Answers with what a plugin made, long bodies copied too.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub fn send_local(&mut self, answer: &LocalAnswer) -> Reply {
        self.lay_local(answer)?;
        match (&answer.body, answer.body.bytes()) {
            (AnswerBody::Problem(detail), _) => self.problem(answer.status, detail),
            (_, body) => self.send(body.unwrap_or_default()),
        }
    }

    /// Takes over status and fields of what a plugin made.
    ///
    /// # Errors
    /// When there are too many fields.
    pub fn lay_local(&mut self, answer: &LocalAnswer) -> Reply {
        self.status(answer.status);
        if let AnswerBody::Stored(stored) = &answer.body {
            self.fields().clone_from(stored.fields());
        }
        for (name, value) in answer.fields.iter() {
            self.fields().push_parsed(name.as_bytes(), value)?;
        }
        Ok(())
    }
}
