//! Received bytes that are not used up: in the buffer they came in, or, where a head spans several, put together.

use std::task::{Context, Poll, ready};

#[cfg(feature = "sim")]
use super::sim;
use super::{Lease, RecvHalf};
use crate::clock::{self, Moment};
use crate::metrics::{Counter, ShardWriter};

/// The unread bytes of one connection. It holds a receive buffer only while that is being worked on; [`Input::settle`]
/// gives it back.
#[derive(Debug, Default)]
pub struct Input {
    lease: Option<Lease>,
    /// Bytes put aside. When there are any, they are all there is: the lease is empty then.
    spill: Vec<u8>,
    /// When the last of them came.
    received: Moment,
    /// Bytes used up, of whichever of the two is read.
    at: usize,
}

impl Input {
    /// The unread bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => &lease[self.at..],
            None => &self.spill[self.at..],
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// When the last bytes were added.
    pub fn received(&self) -> Moment {
        self.received
    }

    /// Adds what was received behind what is unread.
    pub fn push(&mut self, lease: Lease, metrics: &ShardWriter) {
        self.received = clock::turn();
        if self.is_empty() {
            self.clear();
            self.lease = Some(lease);
            return;
        }
        self.settle(metrics);
        self.spill.extend_from_slice(&lease);
        metrics.add(Counter::SpilledBytes, lease.len() as u64);
    }

    /// Adds what was received and put aside elsewhere.
    pub fn append(&mut self, bytes: &[u8], metrics: &ShardWriter) {
        if !bytes.is_empty() {
            self.settle(metrics);
            self.spill.extend_from_slice(bytes);
        }
    }

    /// Adds what a held receive still delivers, copied: it must not keep the core's receive buffers. Whether there was any.
    pub fn take_rest(&mut self, recv: &mut RecvHalf, cx: &mut Context<'_>, metrics: &ShardWriter) -> bool {
        let before = self.bytes().len();
        // Pending: the rest of it comes when the task is woken.
        let _ = self.poll_rest(recv, cx, metrics);
        self.bytes().len() > before
    }

    /// The same; ready when the receive has ended and nothing of it is left.
    pub fn poll_rest(&mut self, recv: &mut RecvHalf, cx: &mut Context<'_>, metrics: &ShardWriter) -> Poll<()> {
        while let Some(lease) = ready!(recv.poll_rest(cx)) {
            metrics.add(Counter::RequestBytes, lease.len() as u64);
            self.append(&lease, metrics);
        }
        Poll::Ready(())
    }

    /// Uses up the first `count` unread bytes.
    pub fn consume(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.lease.as_ref().map_or(self.spill.len(), |lease| lease.len()));
        if self.is_empty() {
            self.clear();
        }
    }

    /// Gives the receive buffer back, putting unread bytes aside: before any wait of unknown length.
    pub fn settle(&mut self, metrics: &ShardWriter) {
        let Some(lease) = self.lease.take() else {
            self.spill.drain(..self.at);
            self.at = 0;
            return;
        };
        let rest = &lease[self.at..];
        #[cfg(feature = "sim")]
        let rest = if sim::planted(sim::Bug::LostLeftover) { &rest[..rest.len().saturating_sub(1)] } else { rest };
        self.spill.clear();
        self.spill.extend_from_slice(rest);
        metrics.add(Counter::SpilledBytes, rest.len() as u64);
        self.at = 0;
    }

    fn clear(&mut self) {
        self.lease = None;
        self.at = 0;
        // Back to nothing, not to capacity: an idle connection costs no buffer.
        self.spill = Vec::new();
    }
}
