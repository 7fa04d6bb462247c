//! A response that plugins hold: nothing of it is written until they have decided. What a handler sends meanwhile waits, but
//! for what they want to see.

use std::future::poll_fn;

use super::{BodyLength, BodyWay, Framing, Response, State, allows_body};
use crate::handler::pipeline::{Draft, Released};
use crate::handler::{Failure, Reply};
use crate::http::{Status, Version};
use crate::pool::{self, Class};
use crate::rt;

impl Response<'_> {
    /// Keeps the head back: a plugin holds it. `length`: that of the body, as far as the plugins know it.
    pub(super) fn hold(&mut self, length: Option<u64>) {
        self.state = State::Held(length);
        self.body = BodyWay::ThroughHooks;
    }

    /// Whether a plugin holds the head.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held(_))
    }

    /// Whether a plugin has answered in the place of a handler that had begun to: nobody waits for that.
    pub(crate) fn is_answered_instead(&self) -> bool {
        self.body == BodyWay::Nowhere
    }

    /// Sends the plugin's answer, and has the handler make no more of its own, however long that would take.
    pub(super) async fn give_up_handler(&mut self) -> Reply {
        self.flush_plain().await?;
        Err(Failure::Gone)
    }

    /// Whether it may have to wait for plugins at its end, so that [`Response::settle`] comes before that.
    pub(crate) fn may_wait(&self) -> bool {
        self.body == BodyWay::ThroughHooks && self.run.as_ref().is_some_and(|run| run.may_be_held())
    }

    /// The handler is done: waits until the plugins are. With `has_trailers` the body is framed so that they can follow it.
    ///
    /// # Errors
    /// As [`Response::write`]; that of a plugin that failed.
    pub(crate) async fn settle(&mut self, has_trailers: bool) -> Reply {
        if self.is_torn() {
            // Its end tells that.
            return Ok(());
        }
        if self.is_held() && self.advance(has_trailers).await? {
            self.show(&[], true)?;
            if self.advance(has_trailers).await? {
                return Err(Failure::internal("a plugin waits for more of a body that has ended"));
            }
        }
        if self.body == BodyWay::ThroughHooks {
            self.body = BodyWay::Plain;
            let mut out = self.show(&[], true)?;
            if self.run.as_ref().is_some_and(|run| run.is_held()) {
                self.released(&mut out).await?;
            }
            self.lay_end(&out)?;
        }
        Ok(())
    }

    /// No plugin sees it any more: what is answered from now on needs no waiting.
    pub(crate) fn leave_plugins_out(&mut self) {
        if let Some(run) = &mut self.run {
            run.leave_out();
        }
    }

    /// A piece that is written while the head is held; true: the plugins have it. Otherwise the head has gone on before it.
    pub(super) async fn write_held(&mut self, piece: &[u8]) -> Result<bool, Failure> {
        if !self.advance(false).await? {
            return Ok(false);
        }
        if !piece.is_empty() {
            self.show(piece, false)?;
            // They may have decided by this very piece.
            self.advance(false).await?;
        }
        Ok(true)
    }

    fn show(&mut self, piece: &[u8], end: bool) -> Result<pool::Buffer, Failure> {
        let mut out = pool::take(Class::Small);
        match &mut self.run {
            Some(run) => run.on_piece(piece, end, &mut out)?,
            None => out.extend_from_slice(piece),
        }
        Ok(out)
    }

    /// Waits until the head goes on, and lays it; or until a plugin wants to see more of the body: true.
    async fn advance(&mut self, has_trailers: bool) -> Result<bool, Failure> {
        let mut out = pool::take(Class::Small);
        let released = self.released(&mut out).await?;
        let length = match self.state {
            State::Held(Some(length)) => BodyLength::Known(length),
            State::Held(None) | State::Open | State::Whole | State::Streaming(_) => BodyLength::Unknown,
        };
        let is_empty = self.terms.head_only || !allows_body(self.status);
        match released {
            Released::More => return Ok(true),
            Released::Head(plan) => {
                self.start_as(plan, length);
                self.gather_plain(&out).await?;
            }
            Released::Whole if has_trailers && !is_empty && self.terms.version == Version::Http11 => {
                self.body = BodyWay::Plain;
                self.start_plain(BodyLength::Unknown);
                self.gather_plain(&out).await?;
            }
            Released::Whole | Released::Replaced => {
                if is_empty {
                    self.start_plain(length);
                } else {
                    self.send_plain(&out);
                }
                (self.body, self.state) = match released {
                    Released::Replaced => (BodyWay::Nowhere, State::Whole),
                    // Trailers may come, for which there is no room.
                    Released::Whole | Released::More | Released::Head(_) => {
                        (BodyWay::Plain, State::Streaming(Framing::Discard))
                    }
                };
            }
        }
        Ok(false)
    }

    /// Waits until what is held goes on: no longer than the request may take.
    async fn released(&mut self, out: &mut Vec<u8>) -> Result<Released, Failure> {
        let deadline = self.run.as_ref().and_then(|run| run.state.deadline);
        let released = poll_fn(|cx| {
            let length = match self.state {
                State::Held(length) => length,
                State::Open | State::Whole | State::Streaming(_) => None,
            };
            let (head_only, version) = (self.terms.head_only, self.terms.version);
            let mut draft = Draft { status: &mut self.status, fields: self.fields, length, head_only, version };
            let run = self.run.as_mut().ok_or_else(|| Failure::internal("a response is held by nobody"))?;
            let polled = run.poll_held(&mut draft, out, cx);
            let length = draft.length;
            if let State::Held(held) = &mut self.state {
                *held = length;
            }
            polled
        });
        let Some(deadline) = deadline else { return released.await };
        let late = Err(Failure::Status(Status::GATEWAY_TIMEOUT, "the answer took too long"));
        rt::timeout(deadline, released).await.unwrap_or(late)
    }
}
