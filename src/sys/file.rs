//! Files beneath a root directory: opened so that no path, however written, and no symbolic link leads out of it; what of
//! them is cached; and reading them where the executor does not.
#![allow(
    unsafe_code,
    reason = "cachestat has no safe wrapper, and reading without waiting for the disk takes raw memory"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What a file is, as `fstat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Size in bytes.
    pub size: u64,
    /// Last modification since the Unix epoch.
    pub modified: Duration,
    /// Inode number; with size and modification it tells one version of a file from another.
    pub inode: u64,
    /// Whether it is a regular file, a directory or something else.
    pub kind: Kind,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A device, a pipe, a socket.
    Other,
}

/// Whether a look-up may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Only what the kernel's cache answers at once (`RESOLVE_CACHED`, Linux 5.12); `WouldBlock` otherwise.
    Cached,
    /// May wait: not on a core's own thread.
    Blocking,
}

/// Opens a root directory for [`open_beneath`].
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` (relative) for reading below `root`. Symbolic links are followed only while they stay below it
/// (`openat2` with `RESOLVE_BENEATH`, Linux 5.6): leaving it is EXDEV. Never blocks on a FIFO.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, EXDEV, ELOOP, ENAMETOOLONG; `WouldBlock` for a cached look-up that misses.
pub fn open_beneath(root: impl AsFd, path: &str, lookup: Lookup) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = match lookup {
        Lookup::Cached => beneath | ResolveFlags::CACHED,
        Lookup::Blocking => beneath,
    };
    match fs::openat2(&root, path, flags, Mode::empty(), resolve) {
        // A rename raced with the resolution (openat2(2)): try again off the core's thread.
        Err(Errno::AGAIN) if lookup == Lookup::Blocking => Ok(fs::openat2(&root, path, flags, Mode::empty(), beneath)?),
        // Kernels from 5.6 to 5.11 do not know RESOLVE_CACHED.
        Err(Errno::INVAL) if lookup == Lookup::Cached => Err(io::ErrorKind::WouldBlock.into()),
        result => Ok(result?),
    }
}

/// What `file` is. On an open descriptor this does not wait for the disk.
///
/// # Errors
/// EBADF and the like: a bug in the caller.
pub fn metadata(file: impl AsFd) -> io::Result<Metadata> {
    let stat = fs::fstat(file)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let modified = Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    Ok(Metadata { size: u64::try_from(stat.st_size).unwrap_or(0), modified, inode: stat.st_ino, kind })
}

/// Whether the kernel has all of these bytes of a regular file in its cache, so that reading them waits for no disk
/// (`cachestat`, Linux 6.5). `false` also where the kernel or the file system cannot tell.
pub fn is_cached(file: impl AsFd, offset: u64, length: u64) -> bool {
    /// `struct cachestat_range`.
    #[repr(C)]
    struct Range {
        offset: u64,
        length: u64,
    }
    /// `struct cachestat`.
    #[repr(C)]
    #[derive(Default)]
    struct Pages {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    /// The same on every architecture (include/uapi/asm-generic/unistd.h); `libc` does not name it everywhere.
    const CACHESTAT: libc::c_long = 451;
    if length == 0 {
        return true;
    }
    let (range, mut pages) = (Range { offset, length }, Pages::default());
    // SAFETY: both structs have the layout that the kernel expects, and live until the call returns.
    let result = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_fd().as_raw_fd(),
            std::ptr::from_ref(&range),
            std::ptr::from_mut(&mut pages),
            0,
        )
    };
    let page = rustix::param::page_size() as u64;
    result == 0 && pages.cached >= (offset + length).div_ceil(page) - offset / page
}

/// Reads at most `most` bytes from `offset` into the spare capacity of `buffer`, without waiting for the disk
/// (`RWF_NOWAIT`, Linux 4.14). Nothing read is the end of the file.
///
/// # Errors
/// `WouldBlock` when it would wait, or when the file system cannot tell; EIO, EISDIR.
pub fn read_cached_at(file: impl AsFd, buffer: &mut Vec<u8>, offset: u64, most: usize) -> io::Result<()> {
    let spare = buffer.spare_capacity_mut();
    let piece = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: most.min(spare.len()) };
    let offset = offset_of(offset)?;
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: `piece` lies within the buffer's spare capacity, which nothing else refers to during the call.
    let length = unsafe { libc::preadv2(descriptor, &raw const piece, 1, offset, libc::RWF_NOWAIT) };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => io::ErrorKind::WouldBlock.into(),
            _ => error,
        });
    };
    // SAFETY: the kernel has written `length` bytes behind the buffer's last.
    unsafe { buffer.set_len(buffer.len() + length) };
    Ok(())
}

/// As [`read_cached_at`], waiting for the disk: not on a core's own thread.
///
/// # Errors
/// EIO, EISDIR.
pub fn read_at(file: impl AsFd, buffer: &mut Vec<u8>, offset: u64, most: usize) -> io::Result<()> {
    offset_of(offset)?;
    let before = buffer.len();
    buffer.resize(before + most.min(buffer.capacity() - before), 0);
    let result = loop {
        match rustix::io::pread(&file, &mut buffer[before..], offset) {
            Err(Errno::INTR) => {}
            result => break result,
        }
    };
    buffer.truncate(before + result.unwrap_or(0));
    Ok(result.map(drop)?)
}

fn offset_of(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_just_written_is_cached_up_to_its_end() {
        let path = std::env::temp_dir().join(format!("ringfort-cached-{}", std::process::id()));
        std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        // Without cachestat nothing is ever said to be cached.
        let can_tell = is_cached(&file, 0, 1);
        for (offset, length) in [(0, 100_000), (4095, 2), (99_999, 1), (5000, 50_000)] {
            assert_eq!(is_cached(&file, offset, length), can_tell, "{offset} {length}");
        }
        assert!(!is_cached(&file, 0, 200_000), "what is not there is not cached");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_read_is_bounded_and_ends_where_the_file_ends() {
        let path = std::env::temp_dir().join(format!("ringfort-read-{}", std::process::id()));
        std::fs::write(&path, "hello").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let read = |offset, most, capacity| {
            let (mut waiting, mut cached) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
            read_at(&file, &mut waiting, offset, most).unwrap();
            match read_cached_at(&file, &mut cached, offset, most) {
                Ok(()) => assert_eq!(cached, waiting),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            String::from_utf8(waiting).unwrap()
        };
        assert_eq!(read(0, 100, 100), "hello");
        assert_eq!(read(1, 3, 100), "ell");
        assert_eq!(read(1, 100, 2), "el");
        assert_eq!(read(5, 100, 100), "");
        assert!(read_at(&file, &mut Vec::with_capacity(1), u64::MAX, 1).is_err());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nothing_outside_the_root_can_be_opened() {
        let base = std::env::temp_dir().join(format!("ringfort-beneath-{}", std::process::id()));
        std::fs::create_dir_all(base.join("root/sub")).unwrap();
        std::fs::write(base.join("secret"), "s").unwrap();
        std::fs::write(base.join("root/sub/a"), "abc").unwrap();
        std::os::unix::fs::symlink("../secret", base.join("root/out")).unwrap();
        std::os::unix::fs::symlink("/etc", base.join("root/etc")).unwrap();
        std::os::unix::fs::symlink("sub/a", base.join("root/in")).unwrap();
        let root = open_root(&base.join("root")).unwrap();
        for path in ["../secret", "sub/../../secret", "/etc/passwd", "out", "etc/passwd"] {
            assert!(open_beneath(&root, path, Lookup::Blocking).is_err(), "{path}");
        }
        for path in ["sub/a", "in", "sub/../sub/a"] {
            let file = open_beneath(&root, path, Lookup::Blocking).unwrap();
            let metadata = metadata(&file).unwrap();
            assert_eq!((metadata.size, metadata.kind), (3, Kind::Regular), "{path}");
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}
