//! The writer thread's queue and outlet, counted at both ends: a stop can wait until everything that was logged is written.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::MakeWriter;

use crate::sync::Flow;

/// The writer thread's queue. A line that is logged costs two counts more; it costs its formatting and a place in a queue
/// anyway.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) lines: NonBlocking,
    pub(super) flow: Arc<Flow>,
}

impl Write for Queue {
    /// Takes a line whole, as it is handed over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.flow.note_queued();
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

/// What the writer thread writes to.
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
        self.flow.note_done();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
