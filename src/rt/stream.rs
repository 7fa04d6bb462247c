//! Received bytes, and how they are asked for.

use std::ops::Deref;

use super::{compio, core};
use crate::pool;

/// Received bytes in a buffer of this core's pool. Dropping it gives the buffer back.
#[derive(Debug)]
pub struct Lease(Option<Bytes>);

#[derive(Debug)]
enum Bytes {
    Provided(compio::Provided),
    Pooled(pool::Buffer),
    #[cfg(feature = "sim")]
    Simulated(super::sim::Provided),
}

impl Lease {
    pub(super) fn provided(buffer: compio::Provided) -> Self {
        core::leased();
        Self(Some(Bytes::Provided(buffer)))
    }

    pub(super) fn pooled(buffer: pool::Buffer) -> Self {
        core::leased();
        Self(Some(Bytes::Pooled(buffer)))
    }

    #[cfg(feature = "sim")]
    pub(super) fn simulated(buffer: super::sim::Provided) -> Self {
        core::leased();
        Self(Some(Bytes::Simulated(buffer)))
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Some(Bytes::Provided(buffer)) => buffer,
            Some(Bytes::Pooled(buffer)) => buffer,
            #[cfg(feature = "sim")]
            Some(Bytes::Simulated(buffer)) => buffer,
            None => &[],
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The buffer goes back before whoever waits for one is woken.
        drop(self.0.take());
        #[cfg(feature = "sim")]
        if super::sim::planted(super::sim::Bug::LeakedBuffer) {
            return;
        }
        core::returned();
    }
}

/// How a connection's bytes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvMode {
    /// Whatever comes, whenever: multishot where the driver has it. For heads and idle connections.
    Stream,
    /// One piece for each call of `poll_recv` and none ahead of it, so that a reader who is slow holds its sender back
    /// and not the core's buffers. For bodies.
    Pieces,
    /// The same, in pieces of up to [`crate::limits::LARGE_BUFFER_BYTES`]: for long bodies.
    LargePieces,
}

impl RecvMode {
    /// Whether nothing is received ahead.
    pub fn is_pieces(self) -> bool {
        match self {
            Self::Stream => false,
            Self::Pieces | Self::LargePieces => true,
        }
    }
}
