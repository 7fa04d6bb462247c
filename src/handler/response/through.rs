//! A response on its way through plugins: they see its head before it is written, and its body where they want to.

use super::{BodyLength, BodyWay, Framing, Response, State, allows_body};
use crate::handler::pipeline::{BodyPlan, Draft, Finished, LocalAnswer, Run};
use crate::handler::{Failure, Reply};
use crate::http::Status;
use crate::http::encode;
use crate::pool::{self, Class};

impl<'x> Response<'x> {
    /// Names of fields of the request that plugins have taken away or replaced: the client is not to be heard in them.
    pub(crate) fn withheld_names(&self) -> impl Iterator<Item = &str> {
        self.run.iter().flat_map(|run| run.state.edits.withheld())
    }

    /// The plugins, for those who show them the request.
    pub(crate) fn run(&mut self) -> Option<&mut Run<'x>> {
        self.run.as_mut()
    }

    /// The plugins' answer in place of a failure.
    pub(crate) fn ask_on_failure(&mut self, status: Status, detail: &'static str) -> Option<LocalAnswer> {
        self.run.as_mut()?.on_failure(status, detail)
    }

    /// Tells the plugins that the exchange has ended.
    pub(crate) fn end_run(&mut self, finished: Finished) {
        if let Some(run) = &mut self.run {
            run.end(finished);
        }
    }

    /// Whether there are plugins that want to see it.
    pub(super) fn goes_through(&self) -> bool {
        self.run.as_ref().is_some_and(Run::sees_response)
    }

    /// Shows the plugins the head. Also the length of the body, as they know it then.
    fn draft(&mut self, length: Option<u64>) -> Result<(BodyPlan, Option<u64>), Failure> {
        let Some(run) = &mut self.run else { return Ok((BodyPlan::AsIs, length)) };
        let (head_only, version) = (self.terms.head_only, self.terms.version);
        let mut draft = Draft { status: &mut self.status, fields: self.fields, length, head_only, version };
        let plan = run.on_head(&mut draft)?;
        Ok((plan, draft.length))
    }

    /// [`Response::send`] through plugins.
    pub(super) fn send_through(&mut self, body: &[u8]) -> Reply {
        let (plan, length) = self.draft(Some(body.len() as u64))?;
        let is_empty = self.terms.head_only || !allows_body(self.status);
        match (plan, &mut self.run) {
            (BodyPlan::Held, Some(run)) => {
                run.keep_whole(if is_empty { &[] } else { body });
                self.hold(length);
            }
            // What a change would make of a body that is not sent, nobody knows; the length is left out with it.
            (BodyPlan::Changed, _) if is_empty => {
                self.start_plain(BodyLength::Unknown);
                self.state = State::Whole;
            }
            (BodyPlan::Watched | BodyPlan::Paced | BodyPlan::Changed, Some(run)) => {
                let mut out = pool::take(Class::Small);
                run.on_piece(if is_empty { &[] } else { body }, true, &mut out)?;
                if run.is_held() {
                    self.hold(length);
                    return Ok(());
                }
                let out = if is_empty { body } else { &out };
                self.send_plain(out);
            }
            (BodyPlan::Replaced(body), _) => self.send_plain(&body),
            (BodyPlan::AsIs | BodyPlan::Watched | BodyPlan::Paced | BodyPlan::Changed | BodyPlan::Held, _) => {
                self.send_plain(body);
            }
        }
        Ok(())
    }

    /// [`Response::start`] through plugins.
    pub(super) fn start_through(&mut self, length: BodyLength) -> Reply {
        let known = match length {
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        match self.draft(known)? {
            (BodyPlan::Held, length) => self.hold(length),
            (plan, _) => self.start_as(plan, length),
        }
        Ok(())
    }

    /// Starts what plugins have this plan for.
    pub(super) fn start_as(&mut self, plan: BodyPlan, length: BodyLength) {
        self.body = BodyWay::Plain;
        match plan {
            BodyPlan::AsIs | BodyPlan::Held => self.start_plain(length),
            BodyPlan::Watched | BodyPlan::Paced => {
                self.start_plain(length);
                self.body = BodyWay::ThroughHooks;
            }
            BodyPlan::Changed => {
                self.start_plain(BodyLength::Unknown);
                self.body = BodyWay::ThroughHooks;
            }
            BodyPlan::Replaced(body) => {
                self.start_plain(BodyLength::Known(body.len() as u64));
                if self.state != State::Streaming(Framing::Discard) {
                    self.out.extend_from_slice(&body);
                }
                // What the handler sends instead is counted for nothing.
                self.state = State::Streaming(Framing::Discard);
            }
        }
    }

    /// [`Response::write`] through plugins, or where `more` is to come at once, [`Response::gather`].
    pub(super) async fn write_through(&mut self, piece: &[u8], more: bool) -> Reply {
        if self.is_held() {
            if Box::pin(self.write_held(piece)).await? {
                return Ok(());
            }
            if self.body == BodyWay::Plain {
                return if more { self.gather_plain(piece).await } else { self.write_plain(piece).await };
            }
        }
        if self.is_answered_instead() {
            // What is at hand is thrown away, so that a short body of an upstream is read to its end.
            return if more { Ok(()) } else { self.give_up_handler().await };
        }
        if self.state == State::Streaming(Framing::Discard) {
            return self.flush_plain().await;
        }
        if piece.is_empty() {
            return self.flush_through().await;
        }
        let mut out = pool::take(Class::Large);
        if let Some(run) = &mut self.run {
            run.state.more_follows = more;
            run.on_piece(piece, false, &mut out)?;
        }
        match (out.is_empty(), more) {
            // A plugin may keep a piece back: it is not the handler's wish to send what waits, then.
            (true, _) => Ok(()),
            (false, true) => self.gather_plain(&out).await,
            (false, false) => self.write_plain(&out).await,
        }
    }

    /// [`Response::flush`] through plugins: those that change the body give out what they have gathered.
    pub(super) async fn flush_through(&mut self) -> Reply {
        if self.is_held() && (Box::pin(self.write_held(&[])).await? || self.body == BodyWay::Plain) {
            return if self.is_held() { Ok(()) } else { self.flush_plain().await };
        }
        if self.is_answered_instead() {
            return self.give_up_handler().await;
        }
        if self.state == State::Streaming(Framing::Discard) {
            return self.flush_plain().await;
        }
        let mut out = pool::take(Class::Small);
        if let Some(run) = &mut self.run
            && std::mem::take(&mut run.state.more_follows)
            && run.state.changing != 0
        {
            run.on_piece(&[], false, &mut out)?;
        }
        // Nothing made of nothing still sends what waits.
        self.write_plain(&out).await
    }

    /// Shows the plugins the end of the body, and sends what they kept back.
    pub(super) fn end_through(&mut self) -> Reply {
        self.body = BodyWay::Plain;
        let mut out = pool::take(Class::Small);
        if !matches!(self.state, State::Streaming(_)) {
            return Ok(());
        }
        if let Some(run) = &mut self.run {
            run.on_piece(&[], true, &mut out)?;
        }
        self.lay_end(&out)
    }

    /// Lays the last piece of a streamed body.
    pub(super) fn lay_end(&mut self, out: &[u8]) -> Reply {
        let State::Streaming(framing) = self.state else { return Ok(()) };
        match framing {
            Framing::Discard => {}
            _ if out.is_empty() => {}
            Framing::UntilClose => self.out.extend_from_slice(out),
            Framing::Chunked => {
                encode::write_chunk_head(self.out, out.len() as u64);
                self.out.extend_from_slice(out);
                self.out.extend_from_slice(encode::CHUNK_END);
            }
            Framing::Length(left) => {
                let left = left.checked_sub(out.len() as u64);
                let left = left.ok_or_else(|| Failure::internal("a plugin made the body longer than was announced"))?;
                self.out.extend_from_slice(out);
                self.state = State::Streaming(Framing::Length(left));
            }
        }
        Ok(())
    }
}
