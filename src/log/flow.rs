//! How far the writer thread is: what was handed to it, and what it is done with. So a stop can wait until everything that was
//! logged so far is written, while lines may still come.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::MakeWriter;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Lines on their way. Counted where a line is logged, which costs a formatted line and a place in a queue anyway.
#[derive(Debug, Default)]
pub(super) struct Flow {
    queued: AtomicU64,
    done: AtomicU64,
}

impl Flow {
    /// Whether each line that was handed over is written, or one of the `dropped` that found no room.
    pub(super) fn is_over(&self, dropped: impl FnOnce() -> u64) -> bool {
        // In this order: lines that come meanwhile count as not written.
        let gone = self.done.load(Ordering::Acquire) + dropped();
        self.queued.load(Ordering::Acquire) <= gone
    }
}

/// The writer thread's queue, counted.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) lines: NonBlocking,
    pub(super) flow: Arc<Flow>,
}

impl Write for Queue {
    /// Takes a line whole, as the one it is handed over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.flow.queued.fetch_add(1, Ordering::Release);
        self.lines.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What the writer thread writes to, counted.
pub(super) struct Outlet<W> {
    pub(super) out: W,
    pub(super) flow: Arc<Flow>,
}

impl<W: Write> Write for Outlet<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    /// One line: the thread calls it once for each.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.out.write_all(line);
        // One that cannot be written is done with all the same.
        self.flow.done.fetch_add(1, Ordering::Release);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
