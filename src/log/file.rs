//! Where lines go: a file that is opened for append and can be re-opened while it is written to, or a stream of the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use crate::sync::Mutex;

/// Every destination that is in use, for [`reopen`].
static DESTINATIONS: Mutex<Vec<Weak<Destination>>> = Mutex::new(Vec::new());

/// What a writer thread writes to. The file in use changes under its hands when it is re-opened; a write that is under way
/// ends in the one where it began.
#[derive(Debug)]
pub(super) struct Destination {
    /// `None`: a stream, which stays what it is.
    path: Option<PathBuf>,
    /// Locked to take the file or to put another there; never during a write, which may last.
    current: Mutex<Arc<File>>,
}

impl Destination {
    /// Opens `path` for append, and makes it where it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let current = Mutex::new(Arc::new(open(path)?));
        let destination = Arc::new(Self { path: Some(path.to_owned()), current });
        let mut all = DESTINATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&destination));
        Ok(destination)
    }

    /// A stream: standard output, a pipe.
    pub(super) fn stream(stream: impl AsFd) -> io::Result<Arc<Self>> {
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        Ok(Arc::new(Self { path: None, current: Mutex::new(Arc::new(file)) }))
    }

    /// The file in use now.
    pub(super) fn current(&self) -> Arc<File> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reopen(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = Arc::new(open(path)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// A [`Destination`] as the process log's writer thread takes it.
pub(super) struct Lines(pub(super) Arc<Destination>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0.current()).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log file that could not be re-opened; the one that was in use stays in use.
#[derive(Debug)]
pub struct ReopenError {
    /// Its path.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl std::fmt::Display for ReopenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for ReopenError {}

/// Opens every log file of the process anew by its path, after the old one was renamed: what is written from now on goes
/// there, and no line is lost in between. Streams stay as they are. From any thread; the file system may hold it up, so not
/// from one that serves requests.
///
/// # Errors
/// Every file that could not be opened; the others are re-opened all the same.
pub fn reopen() -> Result<(), Vec<ReopenError>> {
    let all: Vec<_> =
        DESTINATIONS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    let failures: Vec<_> = all
        .iter()
        .filter_map(|destination| {
            let error = destination.reopen().err()?;
            Some(ReopenError { path: destination.path.clone().unwrap_or_default(), error })
        })
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}
