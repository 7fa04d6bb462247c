//! The way out: sends with the write time-out.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::core::Core;
use crate::clock;
use crate::handler::Sink;
use crate::metrics::Counter;
#[cfg(feature = "sim")]
use crate::rt::sim::{Bug, planted};
use crate::rt::{Deadline, SendHalf};

/// The sending side of one connection.
pub(super) struct Output {
    send: SendHalf,
    core: Rc<Core>,
    /// Runs while the client takes nothing; made when that first happens.
    stalled: Option<Deadline>,
    failed: bool,
}

impl Output {
    pub(super) fn new(send: SendHalf, core: Rc<Core>) -> Self {
        Self { send, core, stalled: None, failed: false }
    }

    /// Whether the client can be sent anything still.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether the client does not take what is sent to it.
    pub(super) fn is_stalled(&self) -> bool {
        self.send.is_waiting()
    }

    /// A way to send an interim response while the final one holds this.
    pub(super) fn another(&self) -> SendHalf {
        self.send.another()
    }

    pub(super) fn reset(&self) {
        self.send.reset();
    }

    pub(super) fn shutdown(&self) {
        self.send.shutdown();
    }

    /// Sends all of `bytes` from `sent` on, which counts what is gone.
    pub(super) fn poll_all(&mut self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        while *sent < bytes.len() {
            let result = self.send.poll_send(cx, &bytes[*sent..]);
            #[cfg(feature = "sim")]
            if matches!(result, Poll::Ready(Err(_))) && planted(Bug::IgnoredSendError) {
                return Poll::Ready(Ok(()));
            }
            *sent += std::task::ready!(self.account(cx, result))?;
            #[cfg(feature = "sim")]
            if planted(Bug::ShortSendTakenForWhole) {
                *sent = bytes.len();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn account(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(sent)) => {
                self.core.metrics.add(Counter::ResponseBytes, sent as u64);
                self.stalled = None;
                Poll::Ready(Ok(sent))
            }
            Poll::Ready(Err(error)) => {
                self.failed = true;
                Poll::Ready(Err(error))
            }
            // It only lets others run.
            Poll::Pending if !self.send.is_waiting() => Poll::Pending,
            Poll::Pending => {
                let timeout = self.core.settings.timeouts.write;
                #[cfg(feature = "sim")]
                let timeout = if planted(Bug::EndlessWrite) { timeout * 1000 } else { timeout };
                let stalled = self.stalled.get_or_insert_with(|| {
                    let deadline = Deadline::new();
                    deadline.set(clock::turn() + timeout);
                    deadline
                });
                std::task::ready!(stalled.poll_due(cx));
                self.failed = true;
                self.core.metrics.add(Counter::WriteTimeouts, 1);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Sink for Output {
    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = self.send.poll_send_vectored(cx, slices);
        self.account(cx, result)
    }
}
