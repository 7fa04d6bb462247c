//! One fetch for all who ask at once: the first asks, the others wait for what comes of it, on whichever core they are.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::entry::Entry;
use crate::sync::Mutex;

/// What became of a fetch.
#[derive(Debug, Clone)]
pub(super) enum Landing {
    /// This came, and is stored, or was.
    Stored(Arc<Entry>),
    /// The origin failed; this, which is stale, may be sent instead.
    Stale(Arc<Entry>),
    /// What came is not to be stored: everybody asks for himself.
    NotStored,
    /// Nothing came: somebody else may try.
    Failed,
}

/// A fetch that is under way.
#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    landing: Option<Landing>,
    next: u64,
    /// In the order in which they came.
    waiting: Vec<(u64, Option<Waker>)>,
}

impl Flight {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for it; `None` where `most` wait already.
    pub(super) fn join(self: &Arc<Self>, most: usize) -> Option<Wait> {
        let number = self.with(|state| {
            if state.waiting.len() >= most {
                return None;
            }
            state.next += 1;
            state.waiting.push((state.next, None));
            Some(state.next)
        })?;
        Some(Wait { flight: self.clone(), number })
    }

    /// It has ended: all who wait go on at once.
    pub(super) fn land(&self, landing: Landing) {
        let waiting = self.with(|state| {
            state.landing = Some(landing);
            std::mem::take(&mut state.waiting)
        });
        waiting.into_iter().filter_map(|(_, waker)| waker).for_each(Waker::wake);
    }
}

/// Waits for the end of a fetch.
#[derive(Debug)]
pub(super) struct Wait {
    flight: Arc<Flight>,
    number: u64,
}

impl Future for Wait {
    type Output = Landing;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landing> {
        self.flight.with(|state| {
            if let Some(landing) = &state.landing {
                return Poll::Ready(landing.clone());
            }
            // Numbers only grow, so that the list is in their order.
            if let Ok(at) = state.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
                state.waiting[at].1 = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.flight.with(|state| {
            if let Ok(at) = state.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
                state.waiting.remove(at);
            }
        });
    }
}
