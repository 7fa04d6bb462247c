//! The world's disk: files in memory whose look-ups and reads take time, come short and fail.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::world;
use crate::clock;
use crate::pool;
use crate::sys::file::{Kind, Metadata};

/// Milliseconds that one operation in twenty takes at most; the others take less than one.
const SLOW_MS_MAX: u64 = 100;

/// A file as it was put.
#[derive(Debug)]
pub(super) struct Stored {
    bytes: Vec<u8>,
    metadata: Metadata,
}

/// A file that is open for reading.
#[derive(Debug)]
pub(in crate::rt) struct File(Rc<Stored>);

/// Puts a file at `path` below every root of the world, modified at the world's beginning.
pub fn put_file(path: &str, bytes: Vec<u8>) {
    world::with(|world| {
        let inode = world.disk.len() as u64 + 1;
        let metadata = Metadata { size: bytes.len() as u64, modified: world::EPOCH, inode, kind: Kind::Regular };
        world.disk.insert(path.to_owned(), Rc::new(Stored { bytes, metadata }));
    });
}

/// What [`put_file`] made of a file: for a test that foretells its validators.
pub fn file_metadata(path: &str) -> Option<Metadata> {
    world::with(|world| world.disk.get(path).map(|stored| stored.metadata))
}

/// Waits for the disk; an error now and then.
async fn operate(name: &str) -> io::Result<()> {
    let (wait, error) = world::with(|world| {
        let slow = world.random.chance(50);
        let wait = world.random.below(if slow { SLOW_MS_MAX * 1000 } else { 1000 });
        let error = world.random.chance(world.options.faults.failed_reads);
        (Duration::from_micros(wait), error)
    });
    crate::rt::sleep_until(clock::now() + wait).await;
    if error {
        super::note(format_args!("{name}: the disk fails"));
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    Ok(())
}

pub(in crate::rt) async fn open(path: &str) -> io::Result<File> {
    operate(path).await?;
    let found = world::with(|world| world.disk.get(path).cloned());
    super::note(format_args!("{path}: {}", if found.is_some() { "opened" } else { "not there" }));
    found.map(File).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

impl File {
    pub(in crate::rt) fn metadata(&self) -> Metadata {
        self.0.metadata
    }

    pub(in crate::rt) async fn read_at(&self, offset: u64, most: usize) -> io::Result<pool::Buffer> {
        operate("a read").await?;
        let rest = self.0.bytes.get(offset as usize..).unwrap_or_default();
        let mut buffer = pool::take(pool::Class::Large);
        let mut count = rest.len().min(most).min(buffer.capacity());
        world::with(|world| {
            if count > 1 && world.random.chance(world.options.faults.short_reads) {
                count = world.random.between(1, count as u64 - 1) as usize;
            }
        });
        buffer.extend_from_slice(&rest[..count]);
        Ok(buffer)
    }
}
