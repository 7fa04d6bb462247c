//! Files beneath a root, and reading them, without ever waiting for a disk on the core's own thread.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::{Executor, compio, core};
use crate::pool;
use crate::sys::file::{self, Lookup};

pub use crate::sys::file::{Kind, Metadata, open_root};

/// A file that is open for reading.
#[derive(Debug)]
pub struct File {
    descriptor: Rc<OwnedFd>,
    metadata: Metadata,
}

/// Opens `path` below `root`; nothing outside it can be reached (see [`file::open_beneath`]). What the kernel has cached
/// is opened at once, the rest on the blocking pool.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, EXDEV (leads out of the root), ELOOP, ENAMETOOLONG.
pub async fn open_beneath(root: &Arc<OwnedFd>, path: &str) -> io::Result<File> {
    let descriptor = match file::open_beneath(&**root, path, Lookup::Cached) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let (root, path) = (root.clone(), path.to_owned());
            super::blocking(move || file::open_beneath(&*root, &path, Lookup::Blocking)).await?
        }
        result => result?,
    };
    let metadata = file::metadata(&descriptor)?;
    Ok(File { descriptor: Rc::new(descriptor), metadata })
}

impl File {
    /// Its size, modification time and kind when it was opened.
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Whether `length` bytes from `offset` on can be sent without waiting for a disk, as far as the kernel can tell.
    pub fn is_cached(&self, offset: u64, length: u64) -> bool {
        file::is_cached(&*self.descriptor, offset, length)
    }

    /// Reads at most `most` bytes from `offset` into a large pooled buffer; an empty buffer is the end of the file.
    ///
    /// # Errors
    /// EIO, EISDIR.
    pub async fn read_at(&self, offset: u64, most: usize) -> io::Result<pool::Buffer> {
        match core::executor() {
            Executor::Compio => compio::read_at(&self.descriptor, offset, most).await,
            #[cfg(feature = "monoio")]
            Executor::Monoio => read_at(&self.descriptor, offset, most).await,
            #[cfg(feature = "glommio")]
            Executor::Glommio => read_at(&self.descriptor, offset, most).await,
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
