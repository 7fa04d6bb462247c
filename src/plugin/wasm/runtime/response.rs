//! Responses between the pipeline and a guest, which may hold them: its head, the pieces of its body, its end.

use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::abi::{Action, Half};
use super::fields::{FieldMap, Of};
use super::instance::Fault;
use super::messages::decide;
use super::seat::Visit;
use super::stream::{Stage, Stream, Wish};
use crate::clock;
use crate::http::trailers::is_forwardable;
use crate::http::{Fields, Status};
use crate::limits::WASM_PAUSE_MS;
use crate::plugin::{AnswerBody, BodyHook, BodyPlan, Draft, HeldHook, HeldStep, LocalAnswer, PostHandler};
use crate::rt::Deadline;

/// What is known ahead of how a guest takes responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    /// It can look at fields, which are copied for it then.
    pub(super) reads_fields: bool,
    /// Something can have it go on with a response that it has paused.
    pub(super) holds: bool,
    /// It is shown bodies.
    pub(super) sees_body: bool,
    /// It is shown trailers.
    pub(super) sees_trailers: bool,
    /// It can change bodies.
    pub(super) writes_body: bool,
    /// Bytes of a body that it may keep back.
    pub(super) body_max: usize,
}

impl Taking {
    /// What becomes of the body of a response that goes on.
    fn plan(self) -> BodyPlan {
        match (self.sees_body, self.writes_body) {
            (false, _) => BodyPlan::AsIs,
            // It may keep a part back, of which the length stays the same.
            (true, false) => BodyPlan::Paced,
            (true, true) => BodyPlan::Changed,
        }
    }
}

/// Shows the head of a response, and has it changed as the guest edited it; unless the guest holds it.
pub(super) fn show_head(visit: &mut Visit, hook: &mut PostHandler<'_, '_>, taking: Taking) -> Result<BodyPlan, Fault> {
    let status = hook.status();
    let end = hook.is_head_only() || hook.length() == Some(0) || status.is_bodiless();
    visit.stream(|stream| {
        // Another one may have been shown, which was not sent.
        stream.is_answered = false;
        let response = &mut stream.response;
        response.begin(Of::Response);
        if !taking.reads_fields {
            response.uncopied = hook.fields().iter().count() + 1;
            return;
        }
        response.headers.load(b":status", &status.digits());
        for (name, value) in hook.fields().iter() {
            response.headers.load(name.as_bytes(), value);
        }
    })?;
    visit.keeps = false;
    let action = visit.with(|instance, id| instance.headers(Half::Response, id, end))?;
    let (wish, resumed) =
        visit.stream(|stream| (std::mem::take(&mut stream.wish), std::mem::take(&mut stream.response.resumed)))?;
    if let Some(answer) = decide(wish) {
        visit.stream(send_on)?;
        return Ok(answer_instead(answer, hook.draft));
    }
    if action == Action::Pause && !resumed {
        if taking.holds && hook.may_wait() {
            visit.due = Some(pause());
            return Ok(BodyPlan::Held);
        }
        return Err(Fault::Paused("it paused the head of a response, and nothing would have that go on"));
    }
    visit.stream(|stream| {
        send_on(stream);
        take_over(&mut stream.response.headers, hook.draft)
    })??;
    Ok(taking.plan())
}

fn pause() -> Deadline {
    let due = Deadline::new();
    due.set(clock::turn() + Duration::from_millis(WASM_PAUSE_MS));
    due
}

/// The head goes on: it is edited no more, and no other one can be given.
fn send_on(stream: &mut Stream) {
    stream.response.stage = Stage::Sent;
    stream.is_answered = true;
}

fn answer_instead(answer: LocalAnswer, draft: &mut Draft<'_>) -> BodyPlan {
    *draft.status = answer.status;
    *draft.fields = answer.fields;
    BodyPlan::Replaced(match answer.body {
        AnswerBody::Bytes(body) => body,
        // A guest's answer is neither of them, but for the one that ends a request.
        AnswerBody::Problem(_) | AnswerBody::Stored(_) => Bytes::new(),
    })
}

fn take_over(headers: &mut FieldMap, draft: &mut Draft<'_>) -> Result<(), Fault> {
    if headers.touched().any(|name| name == b":status") {
        let code = headers.get(b":status").and_then(|code| str::from_utf8(code).ok()?.parse().ok());
        // Interim responses are the server's.
        if let Some(status) = code.filter(|code| *code >= 200).and_then(Status::new) {
            *draft.status = status;
        }
    }
    change(draft.fields, headers, |_| true)
}

/// Has fields changed as the guest edited them, where it may change those of a name. Without room for all, none is.
fn change(fields: &mut Fields, edited: &mut FieldMap, may: impl Fn(&[u8]) -> bool) -> Result<(), Fault> {
    let (lines, bytes) = edited.size_of_changes();
    if !fields.has_room(lines, bytes) {
        return Err(Fault::NoRoom);
    }
    for (name, values) in edited.changes().filter(|(name, _)| may(name)) {
        fields.remove(name);
        for value in values {
            // It was checked when the guest passed it, and has room.
            let _ = fields.push(name, value);
        }
    }
    edited.settle();
    Ok(())
}

/// Looks whether a guest goes on with what it holds, the head or the end of the body.
///
/// What it does not pause of its own, nobody but the body itself may have go on: where no call is under way that it could wait
/// for, and it has no timer and no queue, it wants to see the body. So does Envoy where it lets guests stop at heads alone.
pub(super) fn poll_held(
    visit: &mut Visit,
    hook: &mut HeldHook<'_, '_>,
    taking: Taking,
    cx: &mut task::Context<'_>,
) -> Poll<Result<HeldStep, Fault>> {
    match poll_said(visit, hook.draft.is_some() && taking.sees_body, cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(Said::More)) => Poll::Ready(Ok(HeldStep::More)),
        Poll::Ready(Ok(Said::Wish(wish))) => Poll::Ready(go_on(visit, hook, wish, taking).map(HeldStep::Go)),
        Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
    }
}

/// What a guest wants of a response that it holds.
#[derive(Debug)]
pub(super) enum Said {
    More,
    Wish(Wish),
}

/// Looks whether a guest has said what becomes of what it holds.
pub(super) fn poll_said(
    visit: &mut Visit,
    may_see_more: bool,
    cx: &mut task::Context<'_>,
) -> Poll<Result<Said, Fault>> {
    let (wish, is_ended) = visit.stream(|stream| {
        if let Some(fault) = stream.fault.take() {
            return Err(fault);
        }
        let wish = std::mem::take(&mut stream.wish);
        let resumed = std::mem::take(&mut stream.response.resumed);
        if matches!(wish, Wish::None) && !resumed {
            stream.waker = Some(cx.waker().clone());
            return Ok((None, stream.response.is_ended));
        }
        Ok((Some(wish), stream.response.is_ended))
    })??;
    if let Some(wish) = wish {
        return Poll::Ready(Ok(Said::Wish(wish)));
    }
    if visit.due.get_or_insert_with(pause).poll_due(cx).is_ready() {
        return Poll::Ready(Err(Fault::Paused("it paused a response for too long")));
    }
    if may_see_more && !is_ended && !visit.with(|instance, id| Ok(instance.may_be_called_for(id)))? {
        return Poll::Ready(Ok(Said::More));
    }
    Poll::Pending
}

fn go_on(visit: &mut Visit, hook: &mut HeldHook<'_, '_>, wish: Wish, taking: Taking) -> Result<BodyPlan, Fault> {
    let HeldHook { draft, out, shared, .. } = hook;
    visit.due = None;
    visit.keeps = false;
    match (decide(wish), draft) {
        (Some(answer), Some(draft)) => {
            visit.stream(|stream| {
                send_on(stream);
                stream.response.body.clear();
            })?;
            Ok(answer_instead(answer, draft))
        }
        // The head is out: the response can only be cut.
        (Some(_), None) => Err(Fault::Closed),
        (None, draft) => visit.stream(|stream| {
            if let Some(draft) = draft {
                send_on(stream);
                take_over(&mut stream.response.headers, draft)?;
            }
            take_over_trailers(&mut stream.response.trailers, shared.state.trailers.as_mut())?;
            out.append(&mut stream.response.body);
            Ok(taking.plan())
        })?,
    }
}

/// Shows a piece of a response's body, with the last one the trailers. What the guest lets go on is appended to the output.
/// True: it holds the end.
pub(super) fn show_body(
    visit: &mut Visit,
    hook: &mut BodyHook<'_>,
    piece: &[u8],
    end: bool,
    taking: Taking,
) -> Result<bool, Fault> {
    let (is_head_held, size) = visit.stream(|stream| {
        stream.response.body.extend_from_slice(piece);
        stream.response.is_ended |= end;
        (stream.response.stage == Stage::Open, stream.response.body.len())
    })?;
    if visit.keeps && size > taking.body_max {
        return Err(Fault::TooLarge);
    }
    if piece.is_empty() && !end {
        // The handler is about to wait: nothing has come that the guest has not seen.
        return visit.stream(|stream| {
            if !is_head_held && std::mem::take(&mut stream.response.resumed) {
                hook.out.append(&mut stream.response.body);
            }
            false
        });
    }
    let action = call(visit, hook, end, taking)?;
    let may_hold = taking.holds && hook.may_wait();
    let is_kept = visit.stream(|stream| {
        let response = &mut stream.response;
        if is_head_held {
            // It is looked at when the pipeline asks what becomes of the head.
            response.resumed |= action == Action::Continue;
            return Ok(!response.resumed);
        }
        if !matches!(std::mem::take(&mut stream.wish), Wish::None) {
            // The head is out: the response can only be cut.
            return Err(Fault::Closed);
        }
        if action == Action::Pause && !std::mem::take(&mut response.resumed) {
            return Ok(true);
        }
        take_over_trailers(&mut response.trailers, hook.trailers())?;
        hook.out.append(&mut response.body);
        Ok(false)
    })??;
    if is_kept && visit.stream(|stream| stream.response.body.len())? > taking.body_max {
        return Err(Fault::TooLarge);
    }
    visit.keeps = is_kept;
    if !is_kept || !end || is_head_held {
        return Ok(false);
    }
    if !may_hold {
        return Err(Fault::Paused("it paused the end of a response, and nothing would have that go on"));
    }
    visit.due = Some(pause());
    Ok(true)
}

/// Calls the guest for what there is of a body; where that ends in trailers, for those too.
fn call(visit: &mut Visit, hook: &mut BodyHook<'_>, end: bool, taking: Taking) -> Result<Action, Fault> {
    let trailers = hook.trailers().filter(|trailers| end && taking.sees_trailers && !trailers.is_empty());
    let action = visit.with(|instance, id| instance.response_body(id, end && trailers.is_none()))?;
    let Some(trailers) = trailers else { return Ok(action) };
    visit.stream(|stream| {
        for (name, value) in trailers.iter() {
            stream.response.trailers.load(name.as_bytes(), value);
        }
    })?;
    // With trailers still to come, to pause is to ask for them.
    visit.with(|instance, id| instance.trailers(Half::Response, id))
}

/// Has the trailers changed as the guest edited them.
fn take_over_trailers(edited: &mut FieldMap, trailers: Option<&mut Fields>) -> Result<(), Fault> {
    trailers.map_or(Ok(()), |trailers| change(trailers, edited, is_forwardable))
}

/// After a guest has failed: all that it kept back of a body, with the last piece, is appended to `out`. False where nobody
/// knows it any more, or the guest has changed it.
pub(super) fn give_back(visit: &Visit, piece: &[u8], out: &mut Vec<u8>) -> bool {
    let given = visit.stream(|stream| {
        let response = &mut stream.response;
        if !response.is_rewritten {
            out.append(&mut response.body);
        }
        !response.is_rewritten
    });
    given.unwrap_or_else(|_| {
        if !visit.keeps {
            out.extend_from_slice(piece);
        }
        !visit.keeps
    })
}
