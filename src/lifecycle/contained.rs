//! A future whose panic is a value: what a program brings must not take the launcher with it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::failure::panic_message;

/// Runs `make`; its panic is the error, by its message.
pub(super) fn make<T>(make: impl FnOnce() -> T) -> Result<T, String> {
    // Whatever the panic left half done belongs to `make` alone, which is gone.
    catch_unwind(AssertUnwindSafe(make)).map_err(|panic| panic_message(&*panic))
}

/// Polls a future to its end, and drops it there. A panic, in a poll or in the drop, is its end.
pub(super) struct Contained<T>(Option<Pin<Box<dyn Future<Output = T>>>>);

impl<T> Contained<T> {
    pub(super) fn new(work: impl Future<Output = T> + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }

    /// Drops the future before its end.
    pub(super) fn abandon(mut self) -> Result<(), String> {
        self.clear()
    }

    fn clear(&mut self) -> Result<(), String> {
        let work = self.0.take();
        make(|| drop(work))
    }
}

impl<T> Future for Contained<T> {
    type Output = Result<T, String>;

    /// Pending for ever after its end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, String>> {
        let Some(work) = self.0.as_mut() else { return Poll::Pending };
        let polled = make(|| work.as_mut().poll(cx));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        let dropped = self.clear();
        Poll::Ready(ended.and_then(|value| dropped.map(|()| value)))
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if let Err(panic) = self.clear() {
            tracing::error!(panic, "dropped work panicked");
        }
    }
}
