//! The plugins of a route in their order: the pipeline that the connection runs.

use std::sync::Arc;

use super::hook::{BodyHook, OnError, Peek, PostHandler, PostResponse, PreHandler, PreRoute, Shared};
use super::{Hook, Hooks, Instance, Local, OnFailure, PluginError, Step, Verdict};
use crate::clock::{self, Moment};
use crate::handler::pipeline::{
    AnswerBody, BodyPlan, Draft, EditedHeads, Finished, Going, Inner, LocalAnswer, Pipeline, Routing, Run, RunParts,
    RunState, Slot,
};
use crate::handler::{Answer, BodyLength, Context, Exchange, Failure, Reply};
use crate::http::{HeadError, RequestHead, Status};
use crate::limits::{COPY_BYTES_MAX, PLUGINS_PER_ROUTE_MAX};
use crate::pool::{self, Class};
use crate::rt;

/// The plugins of a route.
pub struct Chain {
    /// A global one that is off on this route leaves its place empty: what it keeps of a request stands at the same index in
    /// all chains.
    entries: Vec<Option<Arc<Instance>>>,
    hooks: Hooks,
    body_limit: Option<u64>,
}

impl Chain {
    /// These, in their order; of more than [`PLUGINS_PER_ROUTE_MAX`] the rest is left out, which the config refuses before.
    pub fn new(mut entries: Vec<Option<Arc<Instance>>>) -> Self {
        entries.truncate(PLUGINS_PER_ROUTE_MAX);
        let all = entries.iter().flatten();
        let hooks = all.clone().fold(Hooks::NONE, |hooks, instance| hooks.union(instance.hooks()));
        let body_limit = all.filter_map(|instance| instance.plugin().body_limit()).next_back();
        Self { entries, hooks, body_limit }
    }

    /// The plugins in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Instance>> {
        self.entries.iter().flatten()
    }

    fn wanting(&self, hook: Hook) -> impl DoubleEndedIterator<Item = (usize, &Instance)> {
        let all = self.entries.iter().enumerate();
        all.filter_map(move |(at, entry)| Some((at, &**entry.as_ref()?))).filter(move |(_, one)| one.hooks().has(hook))
    }

    /// Makes the state ready for these plugins; those that saw the request before it was routed have kept what they did.
    fn prepare(&self, state: &mut RunState, context: &Context) {
        if state.slots.is_empty() {
            state.is_timed = context.get::<Local>().is_some_and(Local::is_timed);
        }
        if state.slots.len() < self.entries.len() {
            state.slots.resize_with(self.entries.len(), Slot::default);
        }
    }

    /// Shows a request to the plugin at `at`, and those behind it, that want it before the handler.
    fn enter<'x>(&self, exchange: &mut Exchange<'x>, run: &mut Run<'x>) -> Result<Option<LocalAnswer>, Failure> {
        for (at, instance) in self.wanting(Hook::PreHandler) {
            let Some(edited) = exchange.edited else { break };
            let meter = Metered::begin(instance, Hook::PreHandler, run.state.is_timed);
            let mut hook = pre_handler_hook(exchange, edited, run.state, at, instance);
            let verdict = match instance.plugin().pre_handler(&mut hook) {
                Step::Now(verdict) => verdict,
                Step::Later(_) => Verdict::Fail(PluginError("it takes time where it said that it would not".into())),
            };
            if let Some(answer) = meter.judge(verdict, exchange.context)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// [`Chain::enter`] where a plugin may wait.
    async fn enter_waiting<'x>(
        &self,
        exchange: &mut Exchange<'x>,
        run: &mut Run<'x>,
    ) -> Result<Option<LocalAnswer>, Failure> {
        for (at, instance) in self.wanting(Hook::PreHandler) {
            let Some(edited) = exchange.edited else { break };
            let meter = Metered::begin(instance, Hook::PreHandler, run.state.is_timed);
            let mut hook = pre_handler_hook(exchange, edited, run.state, at, instance);
            let verdict = match instance.plugin().pre_handler(&mut hook) {
                Step::Now(verdict) => verdict,
                Step::Later(verdict) => verdict.await,
            };
            if let Some(answer) = meter.judge(verdict, exchange.context)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    async fn handle_waiting(&self, inner: &dyn Inner, exchange: &mut Exchange<'_>) -> Reply {
        let Some(mut run) = exchange.response.take_run() else { return end(inner.answer(exchange)).await };
        self.prepare(run.state, exchange.context);
        let mut entered = match run.state.answer.take() {
            Some(answer) => Ok(Some(answer)),
            None => self.enter_waiting(exchange, &mut run).await,
        };
        if let Ok(None) = entered {
            entered = exchange.apply_edits(&mut run).map(|()| None).map_err(refuse_head);
        }
        let deadline = run.state.deadline;
        exchange.response.give_run(run);
        match entered? {
            None => limited(inner.answer(exchange), deadline).await,
            Some(answer) => send_long(exchange, &answer).await,
        }
    }
}

fn pre_handler_hook<'h, 'x>(
    exchange: &'h mut Exchange<'x>,
    edited: &'x EditedHeads,
    state: &'h mut RunState,
    at: usize,
    instance: &'h Instance,
) -> PreHandler<'h, 'x> {
    let shared = Shared { state, at, instance, context: exchange.context };
    PreHandler { request: &mut exchange.request, edited, body: &mut exchange.body, shared }
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
    match &answer.body {
        AnswerBody::Bytes(body) if body.len() > COPY_BYTES_MAX => {
            exchange.response.lay_local(answer)?;
            exchange.response.start(BodyLength::Known(body.len() as u64))?;
            exchange.response.write(body).await
        }
        AnswerBody::Bytes(_) | AnswerBody::Problem(_) => exchange.response.send_local(answer),
    }
}

/// One call of a hook, as it is counted.
struct Metered<'m> {
    instance: &'m Instance,
    hook: Hook,
    began: Option<Moment>,
}

impl<'m> Metered<'m> {
    fn begin(instance: &'m Instance, hook: Hook, is_timed: bool) -> Self {
        Self { instance, hook, began: is_timed.then(clock::now) }
    }

    fn end(self, context: &Context, failed: bool) {
        let Some(local) = context.get::<Local>() else { return };
        local.meter(self.instance, |cells| {
            cells.note_call(self.hook);
            if failed {
                cells.note_error(self.hook);
            }
            if let Some(began) = self.began {
                cells.note_time(self.hook, clock::now().since(began).as_nanos() as u64);
            }
        });
    }

    /// What a verdict comes to, with the plugin's way to fail.
    fn judge(self, verdict: Verdict, context: &Context) -> Result<Option<LocalAnswer>, Failure> {
        let instance = self.instance;
        self.end(context, matches!(verdict, Verdict::Fail(_)));
        match verdict {
            Verdict::Continue => Ok(None),
            Verdict::Answer(answer) => Ok(Some(answer)),
            Verdict::Fail(error) => fail(instance, &error).map(|()| None),
        }
    }
}

/// A plugin failed.
fn fail(instance: &Instance, error: &PluginError) -> Result<(), Failure> {
    match instance.on_failure() {
        OnFailure::Open => {
            tracing::debug!(plugin = instance.name(), %error, "a plugin failed; the request goes on without it");
            Ok(())
        }
        OnFailure::Closed => Err(Failure::internal(format!("the plugin {:?} failed: {error}", instance.name()))),
    }
}

impl Pipeline for Chain {
    fn going(&self, head: &RequestHead<'_>, context: &Context) -> Going {
        for (_, instance) in self.wanting(Hook::PreHandler) {
            match instance.plugin().going(&Peek { head: *head, instance, context }) {
                Going::AtOnce => {}
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
        self.hooks.has(Hook::PreRoute)
    }

    fn pre_route(&self, routing: &mut Routing<'_, '_>) -> Result<(), Failure> {
        let Routing { request, edited, state, context } = routing;
        self.prepare(state, context);
        for (at, instance) in self.wanting(Hook::PreRoute) {
            let meter = Metered::begin(instance, Hook::PreRoute, state.is_timed);
            let shared = Shared { state, at, instance, context };
            let verdict = instance.plugin().pre_route(&mut PreRoute { request, edited, shared });
            if let Some(answer) = meter.judge(verdict, context)? {
                state.answer = Some(answer);
                break;
            }
        }
        if !state.edits.is_empty() {
            request.head = state.edits.apply(&request.head, edited).map_err(refuse_head)?;
        }
        Ok(())
    }

    fn handle<'a>(&'a self, inner: &'a dyn Inner, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        let Some(mut run) = exchange.response.take_run() else { return inner.answer(exchange) };
        if run.state.going == Going::Suspends {
            exchange.response.give_run(run);
            return Answer::Later(Box::pin(self.handle_waiting(inner, exchange)));
        }
        self.prepare(run.state, exchange.context);
        let mut entered = match run.state.answer.take() {
            Some(answer) => Ok(Some(answer)),
            None => self.enter(exchange, &mut run),
        };
        if let Ok(None) = entered {
            entered = exchange.apply_edits(&mut run).map(|()| None).map_err(refuse_head);
        }
        let deadline = run.state.deadline;
        exchange.response.give_run(run);
        match entered {
            Err(failure) => Answer::Now(Err(failure)),
            Ok(Some(answer)) => Answer::Now(exchange.response.send_local(&answer)),
            Ok(None) => match inner.answer(exchange) {
                answer @ Answer::Later(_) if deadline.is_some() => Answer::Later(Box::pin(limited(answer, deadline))),
                answer => answer,
            },
        }
    }

    fn on_head(&self, run: &mut RunParts<'_>, draft: &mut Draft<'_>) -> Result<BodyPlan, Failure> {
        let RunParts { request, state, context } = run;
        self.prepare(state, context);
        (state.body_hooks, state.changing) = (0, 0);
        let mut replaced = None;
        for (at, instance) in self.wanting(Hook::PostHandler).rev() {
            let meter = Metered::begin(instance, Hook::PostHandler, state.is_timed);
            let shared = Shared { state, at, instance, context };
            let plan = instance.plugin().post_handler(&mut PostHandler { request, draft, shared });
            meter.end(context, plan.is_err());
            match plan {
                Ok(BodyPlan::AsIs) => {}
                Ok(BodyPlan::Watched) => state.body_hooks |= 1 << at,
                Ok(BodyPlan::Changed) => {
                    state.body_hooks |= 1 << at;
                    state.changing |= 1 << at;
                    draft.length = None;
                }
                Ok(BodyPlan::Replaced(body)) => {
                    // What stands before it in the body's way does not see this one.
                    (state.body_hooks, state.changing) = (0, 0);
                    draft.length = Some(body.len() as u64);
                    replaced = Some(body);
                }
                Err(error) => fail(instance, &error)?,
            }
        }
        match replaced {
            Some(body) if state.body_hooks == 0 => Ok(BodyPlan::Replaced(body)),
            Some(body) => {
                let mut out = Vec::new();
                self.on_piece(run, &body, true, &mut out)?;
                run.state.body_hooks = 0;
                Ok(BodyPlan::Replaced(out.into()))
            }
            None if state.changing != 0 => Ok(BodyPlan::Changed),
            None if state.body_hooks != 0 => Ok(BodyPlan::Watched),
            None => Ok(BodyPlan::AsIs),
        }
    }

    fn on_piece(&self, run: &mut RunParts<'_>, piece: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Failure> {
        let RunParts { request, state, context } = run;
        let mut current = pool::take(Class::Small);
        let mut is_first = true;
        for (at, instance) in self.wanting(Hook::PostHandlerBody).rev() {
            if state.body_hooks & 1 << at == 0 {
                continue;
            }
            let mut made = pool::take(Class::Small);
            let input: &[u8] = if is_first { piece } else { &current };
            let meter = Metered::begin(instance, Hook::PostHandlerBody, state.is_timed);
            let is_watching = state.changing & 1 << at == 0;
            let shared = Shared { state, at, instance, context };
            let result =
                instance.plugin().post_handler_body(&mut BodyHook { request, out: &mut made, shared }, input, end);
            meter.end(context, result.is_err());
            match result {
                Ok(()) if is_watching => {}
                Ok(()) => {
                    current = made;
                    is_first = false;
                }
                // Half a body made by it went out already, so that going on without it is no way out.
                Err(error) if !is_watching => {
                    return Err(Failure::internal(format!("the plugin {:?} failed: {error}", instance.name())));
                }
                Err(error) => fail(instance, &error)?,
            }
        }
        out.extend_from_slice(if is_first { piece } else { &current });
        Ok(())
    }

    fn on_failure(&self, run: &mut RunParts<'_>, status: Status, detail: &'static str) -> Option<LocalAnswer> {
        let RunParts { request, state, context } = run;
        self.prepare(state, context);
        self.wanting(Hook::OnError).rev().find_map(|(at, instance)| {
            let meter = Metered::begin(instance, Hook::OnError, state.is_timed);
            let shared = Shared { state, at, instance, context };
            let answer = instance.plugin().on_error(&mut OnError { request, status, detail, shared });
            meter.end(context, false);
            answer
        })
    }

    fn on_end(&self, run: &mut RunParts<'_>, finished: Finished) {
        let RunParts { request, state, context } = run;
        self.prepare(state, context);
        for (at, instance) in self.wanting(Hook::PostResponse).rev() {
            let meter = Metered::begin(instance, Hook::PostResponse, state.is_timed);
            let shared = Shared { state, at, instance, context };
            instance.plugin().post_response(&mut PostResponse { request, finished, shared });
            meter.end(context, false);
        }
    }
}
