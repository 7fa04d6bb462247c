//! Files beneath a root, and reading them, without ever waiting for a disk on the core's own thread.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

#[cfg(feature = "sim")]
use super::sim;
use super::{Executor, compio, core};
use crate::pool;
use crate::sys::file::{self, Lookup};

pub use crate::sys::file::{Kind, Metadata};

/// A directory below which files are opened.
#[derive(Debug, Clone)]
pub struct Root(RootOf);

#[derive(Debug, Clone)]
enum RootOf {
    Os(Arc<OwnedFd>),
    /// The world's only directory.
    #[cfg(feature = "sim")]
    Simulated,
}

/// A file that is open for reading.
#[derive(Debug)]
pub struct File(FileOf);

#[derive(Debug)]
enum FileOf {
    Os {
        descriptor: Rc<OwnedFd>,
        metadata: Metadata,
    },
    #[cfg(feature = "sim")]
    Simulated(sim::File),
}

/// Opens a root directory. May wait for the disk: not on a core's own thread.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES.
pub fn open_root(path: &Path) -> io::Result<Root> {
    #[cfg(feature = "sim")]
    if sim::is_running() {
        return Ok(Root(RootOf::Simulated));
    }
    file::open_root(path).map(|root| Root(RootOf::Os(Arc::new(root))))
}

/// Opens `path` below `root`; nothing outside it can be reached (see [`file::open_beneath`]). What the kernel has cached
/// is opened at once, the rest on the blocking pool.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, EXDEV (leads out of the root), ELOOP, ENAMETOOLONG.
pub async fn open_beneath(root: &Root, path: &str) -> io::Result<File> {
    #[allow(clippy::infallible_destructuring_match, reason = "with the simulator there are two kinds")]
    let root = match &root.0 {
        RootOf::Os(root) => root,
        #[cfg(feature = "sim")]
        RootOf::Simulated => return sim::open_file(path).await.map(|file| File(FileOf::Simulated(file))),
    };
    let descriptor = match file::open_beneath(&**root, path, Lookup::Cached) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let (root, path) = (root.clone(), path.to_owned());
            super::blocking(move || file::open_beneath(&*root, &path, Lookup::Blocking)).await?
        }
        result => result?,
    };
    let metadata = file::metadata(&descriptor)?;
    Ok(File(FileOf::Os { descriptor: Rc::new(descriptor), metadata }))
}

impl File {
    /// Its size, modification time and kind when it was opened.
    pub fn metadata(&self) -> Metadata {
        match &self.0 {
            FileOf::Os { metadata, .. } => *metadata,
            #[cfg(feature = "sim")]
            FileOf::Simulated(file) => file.metadata(),
        }
    }

    /// `None` for a simulated file.
    pub(super) fn descriptor(&self) -> Option<&OwnedFd> {
        match &self.0 {
            FileOf::Os { descriptor, .. } => Some(descriptor),
            #[cfg(feature = "sim")]
            FileOf::Simulated(_) => None,
        }
    }

    /// Whether `length` bytes from `offset` on can be sent without waiting for a disk, as far as the kernel can tell.
    pub fn is_cached(&self, offset: u64, length: u64) -> bool {
        self.descriptor().is_some_and(|descriptor| file::is_cached(descriptor, offset, length))
    }

    /// Reads at most `most` bytes from `offset` into a large pooled buffer; an empty buffer is the end of the file.
    ///
    /// # Errors
    /// EIO, EISDIR.
    pub async fn read_at(&self, offset: u64, most: usize) -> io::Result<pool::Buffer> {
        let descriptor = match &self.0 {
            FileOf::Os { descriptor, .. } => descriptor,
            #[cfg(feature = "sim")]
            FileOf::Simulated(file) => return file.read_at(offset, most).await,
        };
        match core::executor() {
            Executor::Compio => compio::read_at(descriptor, offset, most).await,
            #[cfg(feature = "monoio")]
            Executor::Monoio => read_at(descriptor, offset, most).await,
            #[cfg(feature = "glommio")]
            Executor::Glommio => read_at(descriptor, offset, most).await,
        }
    }
}

/// Reads what the kernel has cached at once, the rest on the blocking pool: monoio would read on the core's own thread
/// where it has no ring, glommio owns the files that it reads.
#[cfg(any(feature = "monoio", feature = "glommio"))]
async fn read_at(descriptor: &OwnedFd, offset: u64, most: usize) -> io::Result<pool::Buffer> {
    let mut buffer = pool::take(pool::Class::Large);
    match file::read_cached_at(descriptor, &mut buffer, offset, most) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        result => return result.map(|()| buffer),
    }
    let descriptor = descriptor.try_clone()?;
    // The bytes go to another thread, the buffer stays with its core's pool.
    let mut bytes = std::mem::take(&mut *buffer);
    *buffer = super::blocking(move || file::read_at(descriptor, &mut bytes, offset, most).map(|()| bytes)).await?;
    Ok(buffer)
}
