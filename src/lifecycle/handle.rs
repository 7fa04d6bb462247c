//! What a service holds of its launcher: its means to say that it is ready, and to hear that it should stop.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::clock::Moment;

/// Told to a service when it should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When its future is dropped if it has not ended. Counted from the stop: a start that took long takes nothing off it.
    pub until: Moment,
    /// The signal that the stop began with; `None` when a failure or an interrupted start did.
    pub signal: Option<&'static str>,
}

/// A service's side of its launcher. It stays on the launcher's thread; work elsewhere tells of itself by a mailbox
/// (`rt::mailbox`) or by its return from `rt::blocking`.
///
/// Whoever drops it without having said [`Handle::ready`] has failed. Dropped later, nothing can tell the service to stop
/// any more: its future is dropped when its turn has come.
#[derive(Debug)]
pub struct Handle(Rc<Wire>);

impl Handle {
    pub(super) fn new(wire: Rc<Wire>) -> Self {
        Self(wire)
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Says that it is ready: what depends on it may start. Saying so again, or too late, changes nothing.
    pub fn ready(&self) {
        self.0.is_ready.set(true);
        self.0.wake_launcher();
    }

    /// Says that it cannot go on, and why, but needs to be stopped in its turn: whatever depends on it is stopped first.
    /// The program ends, and fails for this reason. A service that can leave at once returns an error instead.
    pub fn give_up(&self, reason: impl fmt::Display) {
        self.0.gave.borrow_mut().get_or_insert_with(|| reason.to_string());
        self.0.wake_launcher();
    }

    /// Waits until the service should stop. What it does then is its own; it has until [`Stop::until`] to return.
    pub fn stopping(&self) -> Stopping<'_> {
        Stopping { wire: &self.0, slot: None }
    }

    /// Whether it should stop: for work that looks now and then.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.get().is_some()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.is_let_go.set(true);
        self.0.wake_launcher();
    }
}

/// What goes between a service and its launcher: each writes its own part.
#[derive(Default)]
pub(super) struct Wire {
    name: String,
    is_ready: Cell<bool>,
    gave: RefCell<Option<String>>,
    is_let_go: Cell<bool>,
    stop: Cell<Option<Stop>>,
    launcher: RefCell<Option<Waker>>,
    /// Who waits for the stop; freed places are used again, so there are as many as ever waited at once.
    waiting: RefCell<Vec<Option<Waker>>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, is_ready, stop, .. } = self;
        f.debug_struct("Wire")
            .field("name", name)
            .field("is_ready", is_ready)
            .field("stop", stop)
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(name: String) -> Rc<Self> {
        Rc::new(Self { name, ..Self::default() })
    }

    /// Whether it has become ready since this was last asked.
    pub(super) fn take_ready(&self) -> bool {
        self.is_ready.take()
    }

    pub(super) fn take_gave(&self) -> Option<String> {
        self.gave.borrow_mut().take()
    }

    pub(super) fn is_let_go(&self) -> bool {
        self.is_let_go.get()
    }

    /// The launcher's task is to be woken by what the service says.
    pub(super) fn listen(&self, launcher: &Waker) {
        let mut kept = self.launcher.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(launcher)) {
            *kept = Some(launcher.clone());
        }
    }

    pub(super) fn tell(&self, stop: Stop) {
        self.stop.set(Some(stop));
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn wake_launcher(&self) {
        // Taken out first: waking may come back here.
        let launcher = self.launcher.borrow_mut().take();
        if let Some(launcher) = launcher {
            launcher.wake();
        }
    }
}

/// Ready when the service should stop; see [`Handle::stopping`].
#[derive(Debug)]
#[must_use = "it waits only when it is awaited"]
pub struct Stopping<'h> {
    wire: &'h Wire,
    slot: Option<usize>,
}

impl Future for Stopping<'_> {
    type Output = Stop;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Stop> {
        if let Some(stop) = self.wire.stop.get() {
            return Poll::Ready(stop);
        }
        let wire = self.wire;
        let mut waiting = wire.waiting.borrow_mut();
        let slot = match self.slot {
            Some(slot) => slot,
            None => waiting.iter().position(Option::is_none).unwrap_or_else(|| {
                waiting.push(None);
                waiting.len() - 1
            }),
        };
        waiting[slot] = Some(cx.waker().clone());
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // All places are gone when the stop was told.
        if let Some(place) = self.wire.waiting.borrow_mut().get_mut(slot) {
            *place = None;
        }
    }
}
