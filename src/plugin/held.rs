//! Responses that wait for plugins: nothing of them is shown to those whose turn has not come.

use std::task::{self, Poll, ready};

use super::chain::{Chain, lay_plan, leave_body, plan_of};
use super::hook::{HeldHook, Shared};
use super::metered::{Metered, fail};
use super::{BodyPlan, HeldStep, Hook, Local};
use crate::handler::Failure;
use crate::handler::pipeline::{Draft, Hold, Released, RunParts};
use crate::limits::PLUGINS_PER_ROUTE_MAX;

impl Chain {
    /// Shows a piece of the body to those that hold the head and to those behind them.
    pub(super) fn show_held(&self, run: &mut RunParts<'_>, piece: &[u8], end: bool) -> Result<(), Failure> {
        let Some(mut hold) = run.state.held.take().filter(|hold| !hold.is_ended) else {
            return Err(Failure::internal("a piece came behind the end of a body"));
        };
        let first = hold.head.unwrap_or(0);
        hold.end = self.pass(run, piece, end, first..PLUGINS_PER_ROUTE_MAX, &mut hold.made)?;
        hold.from = hold.end.unwrap_or(first);
        hold.is_ended = end;
        run.state.held = Some(hold);
        Ok(())
    }

    /// Takes what is held as far as it can go: from plugin to plugin, the head before the body.
    pub(super) fn poll_hold(
        &self,
        run: &mut RunParts<'_>,
        hold: &mut Hold,
        draft: &mut Draft<'_>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Released, Failure>> {
        const MORE: &str = "a plugin waits for more of a body that has ended";
        loop {
            if let Some(at) = hold.end {
                match ready!(self.ask_holder(run, at, hold, None, cx))? {
                    HeldStep::More => return Poll::Ready(Err(Failure::internal(MORE))),
                    HeldStep::Go(_) => (hold.end, hold.from) = (None, at),
                }
            }
            let first = hold.head.map_or(0, |at| at + 1);
            if hold.has_unseen(first) {
                self.pass_on(run, hold, first)?;
                continue;
            }
            let Some(at) = hold.head else {
                return Poll::Ready(Ok(match (hold.is_replaced, hold.is_ended) {
                    (true, _) => Released::Replaced,
                    (false, true) => Released::Whole,
                    (false, false) => Released::Head(plan_of(run.state)),
                }));
            };
            match ready!(self.ask_holder(run, at, hold, Some(draft), cx))? {
                HeldStep::More if hold.has_unseen(at) => self.pass_on(run, hold, at)?,
                HeldStep::More if hold.is_ended => return Poll::Ready(Err(Failure::internal(MORE))),
                HeldStep::More => return Poll::Ready(Ok(Released::More)),
                HeldStep::Go(plan) => {
                    let mut replaced = None;
                    leave_body(run.state, at);
                    lay_plan(run.state, at, plan, draft, &mut replaced);
                    hold.head = self.show_head(run, draft, at, &mut replaced)?;
                    if let Some((by, body)) = replaced {
                        hold.replace(by, &body);
                    }
                }
            }
        }
    }

    /// Shows what has passed to the plugins before those, down to `first`.
    fn pass_on(&self, run: &mut RunParts<'_>, hold: &mut Hold, first: usize) -> Result<(), Failure> {
        let piece = std::mem::take(&mut hold.made);
        hold.end = self.pass(run, &piece, hold.is_ended, first..hold.from, &mut hold.made)?;
        hold.from = hold.end.unwrap_or(first);
        Ok(())
    }

    /// Asks the plugin that holds the head, or with no `draft` the end; one that fails, and may, lets it go on.
    fn ask_holder(
        &self,
        run: &mut RunParts<'_>,
        at: usize,
        hold: &mut Hold,
        draft: Option<&mut Draft<'_>>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<HeldStep, Failure>> {
        let RunParts { request, state, context } = run;
        let Some(instance) = self.instance(at) else { return Poll::Ready(Ok(HeldStep::Go(BodyPlan::AsIs))) };
        let mut kept = Vec::new();
        // Of a body that it was shown it may have kept a part.
        let has_seen = hold.from <= at && state.changing & 1 << at != 0;
        let shared = Shared { state, at, instance, context };
        let mut hook = HeldHook { request, draft, out: &mut kept, is_given_back: false, shared };
        let polled = instance.plugin().poll_held(&mut hook, cx);
        let is_given_back = hook.is_given_back;
        match ready!(polled) {
            Ok(step) => {
                hold.made.append(&mut kept);
                Poll::Ready(Ok(step))
            }
            Err(error) => {
                Metered::begin(instance, Hook::PostHandler, false).end(context.get::<Local>(), true);
                if has_seen && !is_given_back {
                    let cause = format!("the plugin {:?} failed: {error}", instance.name());
                    return Poll::Ready(Err(Failure::internal(cause)));
                }
                fail(instance, &error)?;
                hold.made.append(&mut kept);
                leave_body(state, at);
                Poll::Ready(Ok(HeldStep::Go(BodyPlan::AsIs)))
            }
        }
    }
}
