//! The plugins of a route in their order: the pipeline that the connection runs.

use std::ops::Range;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;

use super::hook::{BodyFate, BodyHook, OnError, Peek, PostHandler, PostResponse, PreHandler, PreRoute, Shared};
use super::metered::{Metered, fail};
use super::{Hook, Instance, Local, PluginError, Step, Verdict};
use crate::clock::Moment;
use crate::handler::pipeline::{
    AnswerBody, BodyPlan, Draft, EditedHeads, Finished, Going, Hold, Inner, LocalAnswer, Origin, Pipeline, Released,
    Routing, Run, RunParts, RunState, Slot,
};
use crate::handler::{Answer, Body, BodyLength, Context, Exchange, Failure, Reply, Request};
use crate::http::{HeadError, RequestHead, Status};
use crate::limits::{COPY_BYTES_MAX, PLUGINS_PER_ROUTE_MAX};
use crate::pool::{self, Class};
use crate::rt;

/// The plugins of a route.
pub struct Chain {
    /// A global one that is off on this route leaves its place empty: what it keeps of a request stands at the same index in
    /// all chains.
    entries: Vec<Option<Arc<Instance>>>,
    /// The places of those that want it, by hook.
    wanting: [Places; Hook::ALL.len()],
    body_limit: Option<u64>,
}

/// Places among the plugins of a route, by bit.
#[derive(Clone, Copy, Default)]
struct Places(u64);

impl Places {
    const fn from(first: usize) -> Self {
        Self(if first < PLUGINS_PER_ROUTE_MAX { u64::MAX << first } else { 0 })
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(first)
    }
}

impl DoubleEndedIterator for Places {
    fn next_back(&mut self) -> Option<usize> {
        let last = self.0.checked_ilog2()? as usize;
        self.0 &= !(1 << last);
        Some(last)
    }
}

impl Chain {
    /// These, in their order; of more than [`PLUGINS_PER_ROUTE_MAX`] the rest is left out, which the config refuses before.
    pub fn new(mut entries: Vec<Option<Arc<Instance>>>) -> Self {
        entries.truncate(PLUGINS_PER_ROUTE_MAX);
        let mut wanting = [Places::default(); Hook::ALL.len()];
        for hook in Hook::ALL {
            let wants = |entry: &Option<Arc<Instance>>| entry.as_ref().is_some_and(|one| one.hooks().has(hook));
            let places = entries.iter().enumerate().filter(|(_, entry)| wants(entry));
            wanting[hook as usize] = Places(places.fold(0, |places, (at, _)| places | 1 << at));
        }
        let body_limit = entries.iter().flatten().filter_map(|instance| instance.plugin().body_limit()).next_back();
        Self { entries, wanting, body_limit }
    }

    /// The plugins in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Instance>> {
        self.entries.iter().flatten()
    }

    /// The plugin at this place.
    pub(super) fn instance(&self, at: usize) -> Option<&Instance> {
        self.entries.get(at)?.as_deref()
    }

    fn at(&self, places: Places) -> impl DoubleEndedIterator<Item = (usize, &Instance)> {
        places.filter_map(|at| Some((at, &**self.entries.get(at)?.as_ref()?)))
    }

    fn wanting(&self, hook: Hook) -> Places {
        self.wanting[hook as usize]
    }

    /// The places of those that want it, of those that see the request.
    fn seeing_request(&self, hook: Hook, state: &RunState) -> Places {
        self.wanting(hook).and(first_places(state))
    }

    /// The places of those that want it, of those that see the response.
    fn seeing_response(&self, hook: Hook, state: &RunState) -> Places {
        let behind = state.stored_at.map_or(Places::default(), |at| Places::from(at + 1));
        self.wanting(hook).and(first_places(state)).without(behind)
    }

    /// Whether a request that a plugin makes is for these: not where a reload has put another one in its place.
    fn is_origin(&self, state: &RunState) -> bool {
        let stands = |origin: Origin| self.entries.get(origin.at)?.as_ref().map(|own| own.id() == origin.id);
        state.origin.is_none_or(|origin| stands(origin) == Some(true))
    }

    /// Makes the state ready for these plugins; those that saw the request before it was routed have kept what they did.
    fn prepare(&self, state: &mut RunState, local: Option<&Local>) {
        if state.slots.is_empty() {
            state.is_timed = local.is_some_and(Local::is_timed);
        }
        if state.slots.len() < self.entries.len() {
            state.slots.resize_with(self.entries.len(), Slot::default);
        }
    }

    /// Shows a request to the plugins that want it before the handler, and changes it as they wish. Whether one has answered.
    fn admit(&self, exchange: &mut Exchange<'_>) -> Result<bool, Failure> {
        let Some(mut asking) = self.ask(exchange) else { return Ok(false) };
        for (at, instance) in self.at(asking.places) {
            let meter = asking.meter(instance);
            let verdict = match instance.plugin().pre_handler(&mut asking.hook(at, instance)) {
                Step::Now(verdict) => verdict,
                Step::Later(_) => Verdict::Fail(PluginError("it takes time where it said that it would not".into())),
            };
            if asking.take(meter, verdict, at)? {
                return Ok(true);
            }
        }
        asking.end()
    }

    /// The same, where the request may wait.
    async fn admit_waiting(&self, exchange: &mut Exchange<'_>) -> Result<bool, Failure> {
        let Some(mut asking) = self.ask(exchange) else { return Ok(false) };
        for (at, instance) in self.at(asking.places) {
            let meter = asking.meter(instance);
            let verdict = match instance.plugin().pre_handler(&mut asking.hook(at, instance)) {
                Step::Now(verdict) => verdict,
                Step::Later(verdict) => verdict.await,
            };
            if asking.take(meter, verdict, at)? {
                return Ok(true);
            }
        }
        asking.end()
    }

    fn ask<'e, 'x>(&self, exchange: &'e mut Exchange<'x>) -> Option<Asking<'e, 'x>> {
        let Exchange { request, body, response, context, edited, .. } = exchange;
        let (run, edited) = (response.run()?, (*edited)?);
        let local = context.get::<Local>();
        self.prepare(run.state, local);
        // What has answered before there was a route is the last that was asked.
        let is_answered = run.state.answer.is_some();
        let places = if is_answered { Places::default() } else { self.seeing_request(Hook::PreHandler, run.state) };
        Some(Asking { request, body, run, edited, context, local, places })
    }

    /// Shows the head of a response to those before `below`. The place of the one that holds it; behind that one nobody was
    /// asked.
    pub(super) fn show_head(
        &self,
        run: &mut RunParts<'_>,
        draft: &mut Draft<'_>,
        below: usize,
        replaced: &mut Option<(usize, Bytes)>,
    ) -> Result<Option<usize>, Failure> {
        let RunParts { request, state, context } = run;
        let local = context.get::<Local>();
        let seeing = self.seeing_response(Hook::PostHandler, state).without(Places::from(below));
        for (at, instance) in self.at(seeing).rev() {
            let meter = Metered::begin(instance, Hook::PostHandler, state.is_timed);
            let shared = Shared { state, at, instance, context };
            let plan = instance.plugin().post_handler(&mut PostHandler { request, draft, shared });
            meter.end(local, plan.is_err());
            match plan {
                Ok(BodyPlan::Held) if state.going == Going::Suspends => {
                    state.body_hooks |= 1 << at;
                    state.changing |= 1 << at;
                    return Ok(Some(at));
                }
                Ok(BodyPlan::Held) => fail(instance, &PluginError("it holds a response that cannot wait".into()))?,
                Ok(plan) => lay_plan(state, at, plan, draft, replaced),
                Err(error) => fail(instance, &error)?,
            }
        }
        Ok(None)
    }

    /// Shows a piece of a response's body to those at `places`; what they make of it is appended to `out`. The place of the
    /// one that holds the end, which none before it is shown.
    pub(super) fn pass(
        &self,
        run: &mut RunParts<'_>,
        piece: &[u8],
        end: bool,
        places: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, Failure> {
        let RunParts { request, state, context } = run;
        let local = context.get::<Local>();
        let mut current = pool::take(Class::Small);
        let mut is_first = true;
        // Only those that saw the head.
        let seeing = self.wanting(Hook::PostHandlerBody).and(Places(state.body_hooks));
        let seeing = seeing.and(Places::from(places.start)).without(Places::from(places.end));
        for (at, instance) in self.at(seeing).rev() {
            let mut made = pool::take(Class::Small);
            let input: &[u8] = if is_first { piece } else { &current };
            let meter = Metered::begin(instance, Hook::PostHandlerBody, state.is_timed);
            let is_watching = state.changing & 1 << at == 0;
            let shared = Shared { state, at, instance, context };
            let mut hook = BodyHook { request, out: &mut made, fate: BodyFate::Passed, shared };
            let result = instance.plugin().post_handler_body(&mut hook, input, end);
            let fate = hook.fate;
            meter.end(local, result.is_err());
            match (result, fate) {
                (Ok(()), BodyFate::Held) if end => return Ok(Some(at)),
                (Ok(()), _) if is_watching => {}
                (Ok(()), _) => {
                    current = made;
                    is_first = false;
                }
                (Err(error), BodyFate::GivenBack) => {
                    fail(instance, &error)?;
                    leave_body(state, at);
                    current = made;
                    is_first = false;
                }
                // Half a body made by it went out already, so that going on without it is no way out.
                (Err(error), _) if !is_watching => {
                    return Err(Failure::internal(format!("the plugin {:?} failed: {error}", instance.name())));
                }
                (Err(error), _) => fail(instance, &error)?,
            }
        }
        out.extend_from_slice(if is_first { piece } else { &current });
        Ok(None)
    }

    async fn handle_waiting(&self, inner: &dyn Inner, exchange: &mut Exchange<'_>) -> Reply {
        let is_answered = self.admit_waiting(exchange).await?;
        if is_answered && let Some(answer) = take_answer(exchange) {
            return send_long(exchange, &answer).await;
        }
        let deadline = deadline_of(exchange);
        limited(inner.answer(exchange), deadline).await
    }
}

/// A request on its way through the hooks before its handler.
struct Asking<'e, 'x> {
    request: &'e mut Request<'x>,
    body: &'e mut Body<'x>,
    run: &'e mut Run<'x>,
    edited: &'x EditedHeads,
    context: &'x Context,
    local: Option<&'x Local>,
    places: Places,
}

impl<'x> Asking<'_, 'x> {
    fn meter<'m>(&self, instance: &'m Instance) -> Metered<'m> {
        Metered::begin(instance, Hook::PreHandler, self.run.state.is_timed)
    }

    fn hook<'h>(&'h mut self, at: usize, instance: &'h Instance) -> PreHandler<'h, 'x> {
        let shared = Shared { state: self.run.state, at, instance, context: self.context };
        PreHandler { request: self.request, edited: self.edited, body: self.body, shared }
    }

    /// Whether it is answered.
    fn take(&mut self, meter: Metered<'_>, verdict: Verdict, at: usize) -> Result<bool, Failure> {
        let is_answered = meter.judge(verdict, self.run.state, self.local)?;
        if is_answered && self.run.state.answer.as_ref().is_some_and(is_stored) {
            self.run.state.stored_at = Some(at);
        }
        Ok(is_answered)
    }

    /// The last one was asked.
    fn end(self) -> Result<bool, Failure> {
        if self.run.state.answer.is_some() {
            return Ok(true);
        }
        self.run.apply_edits(self.request, self.edited).map_err(refuse_head)?;
        Ok(false)
    }
}

fn take_answer(exchange: &mut Exchange<'_>) -> Option<LocalAnswer> {
    exchange.response.run()?.state.answer.take()
}

/// Until when the plugins want the handler to have answered.
fn deadline_of(exchange: &mut Exchange<'_>) -> Option<Moment> {
    exchange.response.run()?.state.deadline
}

/// Takes down what a plugin wants to become of a response's body.
pub(super) fn lay_plan(
    state: &mut RunState,
    at: usize,
    plan: BodyPlan,
    draft: &mut Draft<'_>,
    replaced: &mut Option<(usize, Bytes)>,
) {
    match plan {
        BodyPlan::AsIs | BodyPlan::Held => {}
        BodyPlan::Watched => state.body_hooks |= 1 << at,
        BodyPlan::Paced => {
            state.body_hooks |= 1 << at;
            state.changing |= 1 << at;
            state.paced |= 1 << at;
        }
        BodyPlan::Changed => {
            state.body_hooks |= 1 << at;
            state.changing |= 1 << at;
            draft.length = None;
        }
        BodyPlan::Replaced(body) => {
            // What stands before it in the body's way does not see this one.
            (state.body_hooks, state.changing, state.paced) = (0, 0, 0);
            draft.length = Some(body.len() as u64);
            *replaced = Some((at, body));
        }
    }
}

/// A plugin sees no more of a body.
pub(super) fn leave_body(state: &mut RunState, at: usize) {
    state.body_hooks &= !(1 << at);
    state.changing &= !(1 << at);
    state.paced &= !(1 << at);
}

/// What the plugins that have seen the head want to become of the body, together.
pub(super) fn plan_of(state: &RunState) -> BodyPlan {
    match (state.changing & !state.paced, state.body_hooks) {
        (0, 0) => BodyPlan::AsIs,
        (0, _) => BodyPlan::Watched,
        (_, _) => BodyPlan::Changed,
    }
}

/// The places of those that see a request: a plugin that makes it itself, and those behind.
fn first_places(state: &RunState) -> Places {
    Places::from(state.origin.map_or(0, |origin| origin.at))
}

/// A head that plugins have made too large, or whose target they have made none.
fn refuse_head(error: HeadError) -> Failure {
    Failure::Status(error.status(), error.detail())
}

async fn end(answer: Answer<'_>) -> Reply {
    match answer {
        Answer::Now(reply) => reply,
        Answer::Later(answering) => answering.await,
    }
}

/// The end of an answer, which must come before the deadline.
async fn limited(answer: Answer<'_>, deadline: Option<Moment>) -> Reply {
    let Some(deadline) = deadline else { return end(answer).await };
    let late = || Err(Failure::Status(Status::GATEWAY_TIMEOUT, "the answer took too long"));
    match answer {
        Answer::Now(reply) => reply,
        Answer::Later(answering) => rt::timeout(deadline, answering).await.unwrap_or_else(late),
    }
}

/// Sends a plugin's answer, a long one from where it lies.
async fn send_long(exchange: &mut Exchange<'_>, answer: &LocalAnswer) -> Reply {
    let Some(body) = answer.body.bytes().filter(|body| body.len() > COPY_BYTES_MAX) else {
        return exchange.response.send_local(answer);
    };
    exchange.response.lay_local(answer)?;
    exchange.response.start(BodyLength::Known(body.len() as u64))?;
    exchange.response.write(body).await
}

/// An answer that a plugin had stored is not shown to those behind it.
fn is_stored(answer: &LocalAnswer) -> bool {
    matches!(answer.body, AnswerBody::Stored(_))
}

impl Pipeline for Chain {
    fn going(&self, head: &RequestHead<'_>, context: &Context) -> Going {
        if let Some(local) = context.get::<Local>() {
            local.next_ticket();
        }
        let mut is_settled = true;
        for (_, instance) in self.at(self.wanting(Hook::PreHandler)) {
            match instance.plugin().going(&Peek { head: *head, is_settled, instance, context }) {
                Going::AtOnce => is_settled &= !instance.plugin().edits_requests(),
                // Those behind it are not asked.
                other => return other,
            }
        }
        Going::AtOnce
    }

    fn body_limit(&self) -> Option<u64> {
        self.body_limit
    }

    fn has_pre_route(&self) -> bool {
        self.wanting(Hook::PreRoute).0 != 0
    }

    fn has_post_handler(&self) -> bool {
        self.wanting(Hook::PostHandler).0 != 0
    }

    fn pre_route(&self, routing: &mut Routing<'_, '_>) -> Result<(), Failure> {
        let Routing { request, edited, state, context } = routing;
        let local = context.get::<Local>();
        self.prepare(state, local);
        for (at, instance) in self.at(self.wanting(Hook::PreRoute)) {
            let meter = Metered::begin(instance, Hook::PreRoute, state.is_timed);
            let shared = Shared { state, at, instance, context };
            let verdict = instance.plugin().pre_route(&mut PreRoute { request, edited, shared });
            if meter.judge(verdict, state, local)? {
                break;
            }
        }
        if !state.edits.is_empty() {
            request.head = state.edits.apply(&request.head, edited).map_err(refuse_head)?;
        }
        Ok(())
    }

    fn handle<'a>(&'a self, inner: &'a dyn Inner, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        let Some(run) = exchange.response.run() else { return inner.answer(exchange) };
        if !self.is_origin(run.state) {
            // Nobody waits for it, and nobody is told.
            run.state.slots.clear();
            return Answer::Now(Err(Failure::Gone));
        }
        if run.state.going == Going::Suspends {
            return Answer::Later(Box::pin(self.handle_waiting(inner, exchange)));
        }
        let is_answered = match self.admit(exchange) {
            Ok(is_answered) => is_answered,
            Err(failure) => return Answer::Now(Err(failure)),
        };
        if is_answered && let Some(answer) = take_answer(exchange) {
            return Answer::Now(exchange.response.send_local(&answer));
        }
        let deadline = deadline_of(exchange);
        match inner.answer(exchange) {
            answer @ Answer::Later(_) if deadline.is_some() => Answer::Later(Box::pin(limited(answer, deadline))),
            answer => answer,
        }
    }

    fn on_head(&self, run: &mut RunParts<'_>, draft: &mut Draft<'_>) -> Result<BodyPlan, Failure> {
        self.prepare(run.state, run.context.get::<Local>());
        (run.state.body_hooks, run.state.changing, run.state.paced) = (0, 0, 0);
        let mut replaced = None;
        let held = self.show_head(run, draft, PLUGINS_PER_ROUTE_MAX, &mut replaced)?;
        let hold = match (held, replaced) {
            (None, None) => return Ok(plan_of(run.state)),
            (None, Some((_, body))) if run.state.body_hooks == 0 => return Ok(BodyPlan::Replaced(body)),
            (None, Some((at, body))) => {
                let mut out = Vec::new();
                let held = self.pass(run, &body, true, 0..at, &mut out)?;
                let Some(at) = held else {
                    run.state.body_hooks = 0;
                    return Ok(BodyPlan::Replaced(out.into()));
                };
                Hold { is_replaced: true, ..Hold::of_end(at) }
            }
            (Some(at), None) => Hold::of_head(at),
            (Some(at), Some((by, body))) => {
                let mut hold = Hold::of_head(at);
                hold.replace(by, &body);
                hold
            }
        };
        run.state.held = Some(Box::new(hold));
        Ok(BodyPlan::Held)
    }

    fn on_piece(&self, run: &mut RunParts<'_>, piece: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Failure> {
        if run.state.held.is_some() {
            return self.show_held(run, piece, end);
        }
        if let Some(at) = self.pass(run, piece, end, 0..PLUGINS_PER_ROUTE_MAX, out)? {
            run.state.held = Some(Box::new(Hold::of_end(at)));
        }
        Ok(())
    }

    fn poll_held(
        &self,
        run: &mut RunParts<'_>,
        draft: &mut Draft<'_>,
        out: &mut Vec<u8>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Released, Failure>> {
        let Some(mut hold) = run.state.held.take() else { return Poll::Ready(Ok(Released::Whole)) };
        let polled = self.poll_hold(run, &mut hold, draft, cx);
        match &polled {
            Poll::Pending | Poll::Ready(Ok(Released::More)) => run.state.held = Some(hold),
            Poll::Ready(Ok(Released::Head(_) | Released::Whole | Released::Replaced)) => {
                out.extend_from_slice(&hold.made);
            }
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    fn on_failure(&self, run: &mut RunParts<'_>, status: Status, detail: &'static str) -> Option<LocalAnswer> {
        let RunParts { request, state, context } = run;
        let local = context.get::<Local>();
        self.prepare(state, local);
        self.at(self.seeing_response(Hook::OnError, state)).rev().find_map(|(at, instance)| {
            let meter = Metered::begin(instance, Hook::OnError, state.is_timed);
            let shared = Shared { state, at, instance, context };
            let answer = instance.plugin().on_error(&mut OnError { request, status, detail, shared });
            meter.end(local, false);
            if answer.as_ref().is_some_and(is_stored) {
                state.stored_at = Some(at);
            }
            answer
        })
    }

    fn on_end(&self, run: &mut RunParts<'_>, finished: Finished) {
        if self.wanting(Hook::PostResponse).0 == 0 {
            return;
        }
        let RunParts { request, state, context } = run;
        let local = context.get::<Local>();
        self.prepare(state, local);
        for (at, instance) in self.at(self.seeing_request(Hook::PostResponse, state)).rev() {
            let meter = Metered::begin(instance, Hook::PostResponse, state.is_timed);
            let shared = Shared { state, at, instance, context };
            instance.plugin().post_response(&mut PostResponse { request, finished, shared });
            meter.end(local, false);
        }
    }
}
