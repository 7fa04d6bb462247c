//! Deadlines, parked receivers and tasks that stood back, on an executor whose loop is not ours: one task of the core
//! sleeps until the first of them is due and does what our own loop does between two turns.
//!
//! The moment of the turn ([`clock::turn`]) is read anew wherever such an executor tells that something has happened
//! ([`core::begin_turn`]): here, when a descriptor is ready, and when another thread rings.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::Postbox;
use super::core;
use crate::clock::{self, Moment};

/// A timer of the executor's.
pub(super) trait Alarm {
    /// Has it go off once after so long. What it was set to before is forgotten, or goes off as well.
    fn set(&mut self, after: Duration) -> io::Result<()>;

    /// Ready when it has gone off; until then, however short the time, the driver is asked for completions.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Paces one core.
pub(super) struct Pacer<A> {
    alarm: A,
    /// What the alarm is set to; [`Moment::NEVER`] when it is not.
    set: Moment,
}

impl<A: Alarm> Pacer<A> {
    /// A pacer with an alarm that is not set yet.
    pub(super) fn new(alarm: A) -> Self {
        Self { alarm, set: Moment::NEVER }
    }

    /// Paces the core until it is dropped, or until it cannot, which is posted: without a pacer no deadline comes due, so
    /// the core must not go on.
    pub(super) async fn run(mut self, failed: Postbox<io::Error>) {
        loop {
            if let Err(error) = poll_fn(|cx| self.poll_due(cx)).await {
                // Nobody is there to be told when the core ends anyway.
                let _ = failed.post(error);
                return;
            }
            core::begin_turn();
            core::fire_timers();
            core::retry_parked();
            core::wake_yielded();
        }
    }

    /// Ready when something is due. Tasks that stood back wait for the alarm too, so that others get their turn.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let due = core::watch_pace(cx.waker());
        if due == Moment::NEVER {
            return Poll::Pending;
        }
        if due != self.set {
            self.alarm.set(due.since(clock::now()))?;
            self.set = due;
        }
        ready!(self.alarm.poll(cx))?;
        self.set = Moment::NEVER;
        Poll::Ready(Ok(()))
    }
}
