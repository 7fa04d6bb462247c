//! What happened, line by line: the last lines are kept, all of them are hashed.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};

use crate::clock::Moment;

/// The events of a run.
#[derive(Debug)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    kept: usize,
    hash: u64,
    count: u64,
}

impl Trace {
    pub(super) const fn new(kept: usize) -> Self {
        // FNV-1a's offset basis.
        Self { lines: VecDeque::new(), kept, hash: 0xcbf2_9ce4_8422_2325, count: 0 }
    }

    /// Adds a line: when, and what.
    pub(super) fn note(&mut self, now: Moment, event: Arguments<'_>) {
        // The oldest line's storage is used again.
        let mut line = if self.lines.len() >= self.kept { self.lines.pop_front() } else { None }.unwrap_or_default();
        line.clear();
        let nanos = now.as_nanos();
        // Writing to a string cannot fail.
        let _ = write!(line, "{:4}.{:06} ms  {event}", nanos / 1_000_000, nanos % 1_000_000);
        self.hash(line.as_bytes());
        self.count += 1;
        self.lines.push_back(line);
    }

    /// Takes something into the hash that is too frequent for a line of its own.
    pub(super) fn hash(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The kept lines, the number of all, and the hash.
    pub(super) fn finish(self) -> (Vec<String>, u64, u64) {
        (self.lines.into(), self.count, self.hash)
    }
}
