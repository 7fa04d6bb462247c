//! The way out: sends with the write time-out and its minimum rate.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::core::{Core, Settings};
use super::pace::Patience;
use crate::clock::{self, Moment};
use crate::handler::Sink;
use crate::limits::WRITE_LOOKS;
use crate::metrics::Counter;
use crate::rt::fs::File;
#[cfg(feature = "sim")]
use crate::rt::sim::{Bug, planted};
use crate::rt::{Deadline, SendHalf};

/// The sending side of one connection.
pub(super) struct Output {
    send: SendHalf,
    core: Rc<Core>,
    /// Bytes that the socket has taken.
    sent: u64,
    /// Of a client that could not take all at once; made when that first happens.
    slowness: Option<Box<Slowness>>,
    failed: bool,
}

/// How slow the client is at taking what is sent. What counts is what its system acknowledges, not what our socket takes:
/// that is megabytes at a time, with minutes between where the client is slow but well within its rate.
struct Slowness {
    deadline: Deadline,
    patience: Patience,
    /// Bytes that were acknowledged when this was last looked at.
    delivered: u64,
}

impl Slowness {
    fn new(settings: &Settings, delivered: u64) -> Self {
        let timeouts = &settings.timeouts;
        let patience = Patience::new(timeouts.write, timeouts.write_total, settings.rates.write);
        Self { deadline: Deadline::new(), patience, delivered }
    }

    /// The client has been seen to have taken `delivered` bytes in all.
    fn look(&mut self, delivered: u64) {
        self.patience.earn(delivered.saturating_sub(self.delivered));
        self.delivered = delivered;
    }

    /// Waiting ends: the socket takes bytes again. What of them the client took is seen at the next look.
    fn end(&mut self, now: Moment) {
        self.patience.pause(now);
        self.deadline.clear();
    }

    /// Ready when the client has kept us waiting for too long. `delivered` is asked when waiting begins and some times
    /// while it lasts, so it may be a system call.
    fn poll_late(&mut self, cx: &mut Context<'_>, delivered: impl Fn() -> u64) -> Poll<()> {
        let now = clock::turn();
        if !self.patience.is_waiting() {
            self.look(delivered());
        }
        loop {
            self.deadline.set(self.patience.wait_for_look(now, WRITE_LOOKS));
            std::task::ready!(self.deadline.poll_due(cx));
            self.patience.pause(now);
            self.look(delivered());
            if self.patience.is_over() {
                return Poll::Ready(());
            }
        }
    }
}

impl Output {
    pub(super) fn new(send: SendHalf, core: Rc<Core>) -> Self {
        Self { send, core, sent: 0, slowness: None, failed: false }
    }

    /// Whether the client can be sent anything still.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Bytes that the socket has taken, over the connection's life.
    pub(super) fn sent(&self) -> u64 {
        self.sent
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
                self.sent += sent as u64;
                if let Some(slowness) = &mut self.slowness {
                    slowness.end(clock::turn());
                }
                Poll::Ready(Ok(sent))
            }
            Poll::Ready(Err(error)) => {
                self.failed = true;
                Poll::Ready(Err(error))
            }
            // It only lets others run.
            Poll::Pending if !self.send.is_waiting() => Poll::Pending,
            Poll::Pending => {
                let (send, sent) = (&self.send, self.sent);
                let delivered = || sent.saturating_sub(send.queued());
                let make = || Box::new(Slowness::new(&self.core.serving().settings, delivered()));
                let slowness = self.slowness.get_or_insert_with(make);
                std::task::ready!(slowness.poll_late(cx, delivered));
                #[cfg(feature = "sim")]
                if planted(Bug::EndlessWrite) {
                    return Poll::Pending;
                }
                self.failed = true;
                let is_total = slowness.patience.is_spent_in_all(clock::turn());
                let cause = if is_total { Counter::WriteTotalTimeouts } else { Counter::WriteTimeouts };
                self.core.metrics.add(cause, 1);
                // Closing alone would leave megabytes with the kernel, which goes on offering them to a client that
                // takes none.
                self.send.reset();
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

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        file: &File,
        offset: u64,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self.send.poll_send_file(cx, head, file, offset, most) {
            // Nothing has failed yet: the caller goes another way.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Unsupported => Poll::Ready(Err(error)),
            result => self.account(cx, result),
        }
    }
}
