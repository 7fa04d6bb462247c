//! From the cores to the file: a bounded queue for each core, one thread that empties all of them.

use std::fs::File;
use std::io::{self, Write as _};
use std::mem;
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::super::file::Destination;
use super::{Record, Spec, write_line};
use crate::limits::{ACCESS_BATCH_BYTES, ACCESS_BATCHES_QUEUED_MAX, ACCESS_BUFFER_KEPT_BYTES, ACCESS_TEXT_BYTES_MAX};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, TryRecvError, bounded};

fn open(path: Option<&Path>) -> io::Result<Arc<Destination>> {
    match path {
        Some(path) => Destination::open(path),
        None => Destination::stream(io::stdout()),
    }
}

/// Lines that are handed over whole.
struct Batch {
    text: Vec<u8>,
    lines: u64,
}

/// The end of a core's queue at which its lines are made. It stays on one thread at a time and never waits.
pub struct Lane {
    worker: usize,
    text: Vec<u8>,
    lines: u64,
    /// Lines thrown away here since they were last asked for.
    dropped: u64,
    /// Of those that the writer could not write, as many as were told.
    unwritten_told: u64,
    full: Sender<Batch>,
    empty: Receiver<Vec<u8>>,
    bell: Sender<()>,
    unwritten: Arc<AtomicU64>,
}

/// The other end.
struct Outlet {
    full: Receiver<Batch>,
    empty: Sender<Vec<u8>>,
    unwritten: Arc<AtomicU64>,
}

/// The access log of the process: where its lines go, and who writes them.
pub struct AccessLog {
    shared: Arc<Shared>,
    /// Rung when there is something to write; taken by the thread when it is started.
    rung: Mutex<Option<Receiver<()>>>,
    /// Answers when the thread has ended.
    ended: Receiver<()>,
    ends: Mutex<Option<Sender<()>>>,
}

struct Shared {
    /// What it is, for the process log.
    what: &'static str,
    outlets: Mutex<Vec<Arc<Outlet>>>,
    /// Locked to look at it, not while it is written to.
    destination: Mutex<Arc<Destination>>,
    bell: Sender<()>,
    stops: AtomicBool,
}

impl AccessLog {
    /// An access log to this file, which is opened for append, or to standard output. Nothing is written before it is started.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        open(path).map(Self::new)
    }

    /// The same for other lines than requests', which the process log calls `what` when they cannot be written.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open_as(what: &'static str, path: Option<&Path>) -> io::Result<Self> {
        open(path).map(|destination| Self::named(what, destination))
    }

    /// From now on lines go to this file, or to standard output.
    ///
    /// # Errors
    /// When the file cannot be opened; then they go where they went.
    pub fn redirect(&self, path: Option<&Path>) -> io::Result<()> {
        let destination = open(path)?;
        *self.shared.destination.lock().unwrap_or_else(PoisonError::into_inner) = destination;
        Ok(())
    }

    pub(super) fn new(destination: Arc<Destination>) -> Self {
        Self::named("the access log", destination)
    }

    fn named(what: &'static str, destination: Arc<Destination>) -> Self {
        let (bell, rung) = bounded(1);
        let (ends, ended) = bounded(1);
        let (outlets, destination) = (Mutex::default(), Mutex::new(destination));
        let shared = Arc::new(Shared { what, outlets, destination, bell, stops: AtomicBool::new(false) });
        let (rung, ends) = (Mutex::new(Some(rung)), Mutex::new(Some(ends)));
        Self { shared, rung, ended, ends }
    }

    /// Starts the thread that writes; the second time does nothing. Before it, what cores hand over waits in their queues, and
    /// is dropped when those are full.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(&self) -> io::Result<()> {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(taken) = rung.take() else { return Ok(()) };
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = self.shared.clone();
        thread::Builder::new().name("ringfort-access".to_owned()).spawn(move || {
            shared.write_all(&taken);
            drop(ends);
        })?;
        Ok(())
    }

    /// A queue of a core's own: `worker` is its number, for the lines.
    pub fn lane(&self, worker: usize) -> Lane {
        let (full, taken) = bounded(ACCESS_BATCHES_QUEUED_MAX);
        let (given, empty) = bounded(ACCESS_BATCHES_QUEUED_MAX);
        let unwritten = Arc::new(AtomicU64::new(0));
        let outlet = Outlet { full: taken, empty: given, unwritten: unwritten.clone() };
        self.shared.outlets.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(outlet));
        let bell = self.shared.bell.clone();
        Lane { worker, text: Vec::new(), lines: 0, dropped: 0, unwritten_told: 0, full, empty, bell, unwritten }
    }

    /// Writes what was handed over and ends the thread, for which it waits so long at most: it may be stuck in a write. Whether it
    /// has ended.
    pub fn finish(&self, patience: Duration) -> bool {
        self.shared.stops.store(true, Ordering::SeqCst);
        let _ = self.shared.bell.try_send(());
        let was_started = self.rung.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        // The thread's end is told by its sender's.
        !was_started || self.ended.recv_timeout(patience) != Err(crate::sync::channel::RecvTimeoutError::Timeout)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}

impl Lane {
    /// Adds the line of a request, and hands the lines over when they are many.
    pub fn push(&mut self, spec: &Spec, record: &Record<'_>) {
        let worker = self.worker;
        self.push_text(|text| write_line(text, spec.form, &spec.fields, worker, record));
    }

    /// Adds the line that `write` appends, with its end, and hands the lines over when they are many.
    pub fn push_text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.text.capacity() == 0 {
            // At once, and not in many small steps.
            self.text.reserve(ACCESS_BATCH_BYTES + ACCESS_TEXT_BYTES_MAX);
        }
        write(&mut self.text);
        self.lines += 1;
        if self.text.len() >= ACCESS_BATCH_BYTES {
            self.hand_over();
        }
    }

    /// Whether no line waits to be handed over.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Hands over the lines so far. Where the queue is full they are dropped and counted.
    pub fn hand_over(&mut self) {
        if self.is_empty() {
            return;
        }
        let lines = mem::take(&mut self.lines);
        if self.full.is_full() {
            // The writer is behind, or stuck. This core is the only sender, so that it is not full is true until it sends.
            self.dropped += lines;
            self.text.clear();
            return;
        }
        let fresh = self.empty.try_recv().unwrap_or_default();
        let text = mem::replace(&mut self.text, fresh);
        if let Err(error) = self.full.try_send(Batch { text, lines }) {
            // There is no writer any more.
            self.dropped += error.into_inner().lines;
        }
        // Full: it was rung, and the writer has not heard it yet. It looks at every queue after it has.
        let _ = self.bell.try_send(());
    }

    /// Lines dropped here since this was last asked, because the queue was full.
    pub fn take_dropped(&mut self) -> u64 {
        mem::take(&mut self.dropped)
    }

    /// Lines that the writer could not write since this was last asked.
    pub fn take_unwritten(&mut self) -> u64 {
        let unwritten = self.unwritten.load(Ordering::Relaxed);
        unwritten - mem::replace(&mut self.unwritten_told, unwritten)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Shared {
    /// Writes what comes, until it is told to stop and the queues are empty.
    fn write_all(&self, rung: &Receiver<()>) {
        let mut writer = Writer { what: self.what, ..Writer::default() };
        loop {
            let _ = rung.recv();
            // Asked before the queues are emptied: what was handed over before the stop is written.
            let stops = self.stops.load(Ordering::SeqCst);
            while self.write_some(&mut writer) {}
            if stops {
                return;
            }
        }
    }

    /// Writes one batch of each core; whether there was any.
    fn write_some(&self, writer: &mut Writer) -> bool {
        // Not locked while it writes: a worker that starts must not wait for a disk.
        let outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let destination = self.destination.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut was_any = false;
        for outlet in outlets {
            match outlet.full.try_recv() {
                Ok(batch) => {
                    was_any = true;
                    outlet.write(batch, writer, &destination);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.forget(&outlet),
            }
        }
        was_any
    }

    /// Its core is gone, and all that it handed over is written.
    fn forget(&self, outlet: &Arc<Outlet>) {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        outlets.retain(|known| !Arc::ptr_eq(known, outlet));
    }
}

impl Outlet {
    fn write(&self, batch: Batch, writer: &mut Writer, destination: &Destination) {
        let Batch { mut text, .. } = batch;
        if let Err(lost) = writer.write(destination, &text) {
            self.unwritten.fetch_add(lost, Ordering::Relaxed);
        }
        text.clear();
        if text.capacity() <= ACCESS_BUFFER_KEPT_BYTES {
            // The core may be gone.
            let _ = self.empty.try_send(text);
        }
    }
}

/// The thread's own.
#[derive(Default)]
struct Writer {
    what: &'static str,
    /// The file in which the last line has no end, because a write failed in its middle.
    torn: Weak<File>,
    is_failing: bool,
}

impl Writer {
    /// Writes whole lines.
    ///
    /// # Errors
    /// How many of them were not written, or not to their ends.
    fn write(&mut self, destination: &Destination, text: &[u8]) -> Result<(), u64> {
        let file = destination.current();
        let mut written = 0;
        let result = self.write_to(&file, text, &mut written);
        match &result {
            Ok(()) if mem::replace(&mut self.is_failing, false) => tracing::info!("{} is written again", self.what),
            Ok(()) => {}
            Err(error) => {
                if !mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "{} cannot be written; its lines are dropped and counted", self.what);
                }
                let is_torn = written > 0 && text[written - 1] != b'\n';
                if is_torn {
                    self.torn = Arc::downgrade(&file);
                }
            }
        }
        result.map_err(|_| memchr::memchr_iter(b'\n', &text[written..]).count() as u64)
    }

    fn write_to(&mut self, file: &Arc<File>, text: &[u8], written: &mut usize) -> io::Result<()> {
        if self.torn.ptr_eq(&Arc::downgrade(file)) {
            // The cut line is over; what follows is on a line of its own.
            write_some(file, b"\n")?;
        }
        self.torn = Weak::new();
        while *written < text.len() {
            *written += write_some(file, &text[*written..])?;
        }
        Ok(())
    }
}

/// Writes a part of `bytes`, and waits where a stream is not ready.
fn write_some(file: &File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match (&*file).write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [rustix::event::PollFd::new(file, rustix::event::PollFlags::OUT)];
                rustix::event::poll(&mut ready, None)?;
            }
            result => return result,
        }
    }
}
