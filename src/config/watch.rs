//! The config file as others replace it: written in place, renamed over by an editor, or swapped with a directory behind a
//! symbolic link, as Kubernetes does with a ConfigMap.
//!
//! Directories are watched and not the file: a file that is replaced is another one. On the way to a file each symbolic
//! link may be swapped, so the directory of each of them is watched, and where the way leads is looked at anew after every
//! event. What an event means is told by the content alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::limits::{CONFIG_BYTES_MAX, LINKS_MAX};

/// A file's content, short enough to keep. Equal for equal contents; for others by a chance of one in 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Option<u64>);

impl Fingerprint {
    /// That of a file; one of its own where it cannot be read.
    pub fn of(file: &Path) -> Self {
        let mut text = Vec::new();
        let read = File::open(file).and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text));
        if read.is_ok() { Self::of_text(&text) } else { Self(None) }
    }

    /// That of the files in these directories, which are told from others by their names, sizes and times of change: they may
    /// be large.
    pub fn of_directories(directories: &[PathBuf]) -> Self {
        let mut hasher = DefaultHasher::new();
        for directory in directories {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut files: Vec<_> = entries.filter_map(|entry| describe(&entry.path())).collect();
            files.sort();
            files.hash(&mut hasher);
        }
        Self(Some(hasher.finish()))
    }

    /// That of a file that holds this.
    pub fn of_text(text: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(Some(hasher.finish()))
    }
}

/// What tells a file from the one that was in its place.
type Description = (PathBuf, u64, u64, i64, i64);

/// Nothing where it is no file; of a symbolic link that to which it leads.
fn describe(path: &Path) -> Option<Description> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((path.to_owned(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Tells when something happens to a file, until it is dropped.
pub struct Watch {
    file: PathBuf,
    /// Directories whose files belong to it.
    beside: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    directories: BTreeSet<PathBuf>,
}

impl Watch {
    /// Calls `on_event` on a thread of its own whenever something may have happened to `file`, which need not be there.
    ///
    /// # Errors
    /// When the kernel has no watch left (`fs.inotify.max_user_instances`, `max_user_watches`), or no directory of the file
    /// is there.
    pub fn start(file: &Path, on_event: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error is an overflow of the queue: anything may have happened. That somebody reads the file is no event,
            // the more so as whoever is told of one does.
            let is_read =
                |kind| matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
            if !event.is_ok_and(|event| is_read(event.kind)) {
                on_event();
            }
        })?;
        let mut watch = Self { file: file.to_owned(), beside: Vec::new(), watcher, directories: BTreeSet::new() };
        watch.follow()?;
        Ok(watch)
    }

    /// Has these directories watched too, from the next [`Watch::follow`] on.
    pub fn set_beside(&mut self, directories: Vec<PathBuf>) {
        self.beside = directories;
    }

    /// Looks anew at where the file is; to be called after each event.
    ///
    /// # Errors
    /// As [`Watch::start`]; what could be watched is.
    pub fn follow(&mut self) -> notify::Result<()> {
        let mut wanted = directories(&self.file);
        wanted.extend(self.beside.iter().cloned());
        for gone in self.directories.difference(&wanted) {
            // It may be gone as a whole, and its watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        let mut result = Ok(());
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // Again too: a directory of the same name may be another one by now.
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(directory)),
                Err(error) => result = Err(error),
            }
        }
        self.directories = watched;
        result
    }
}

/// The directories in which something must happen for the file to be another one: its own, and that of each symbolic link
/// on the way.
fn directories(file: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut left: Vec<OsString> = components(&file);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(next) = left.pop() {
        if next == ".." {
            at.pop();
            continue;
        }
        let is_last = left.is_empty();
        let path = at.join(&next);
        match fs::read_link(&path) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                found.insert(at.clone());
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(components(&target));
            }
            _ => {
                if is_last {
                    found.insert(at.clone());
                }
                at = path;
            }
        }
    }
    found
}

/// The names in a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect::<Vec<_>>().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// A directory of its own for one test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringfort-watch-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// How long an event may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn watch(file: &Path) -> (Watch, Receiver<()>) {
        let (send, events) = channel();
        let on_event = move || {
            let _ = send.send(());
        };
        let watch = Watch::start(file, on_event).unwrap();
        (watch, events)
    }

    /// What was done to the file is seen, and the content with it.
    fn expect_change(events: &Receiver<()>, file: &Path, before: Fingerprint) -> Fingerprint {
        loop {
            events.recv_timeout(PATIENCE).expect("an event");
            let now = Fingerprint::of(file);
            if now != before {
                return now;
            }
        }
    }

    #[test]
    fn a_file_that_is_written_renamed_over_or_removed_is_seen() {
        let directory = Scratch::new("replaced");
        let file = directory.path().join("a.json");
        fs::write(&file, "1").unwrap();
        let (_watch, events) = watch(&file);
        let first = Fingerprint::of(&file);
        fs::write(&file, "2").unwrap();
        let second = expect_change(&events, &file, first);
        fs::write(directory.path().join("new"), "3").unwrap();
        fs::rename(directory.path().join("new"), &file).unwrap();
        let third = expect_change(&events, &file, second);
        fs::remove_file(&file).unwrap();
        let gone = expect_change(&events, &file, third);
        assert_eq!(gone, Fingerprint(None));
        fs::write(&file, "1").unwrap();
        assert_eq!(expect_change(&events, &file, gone), first);
    }

    #[test]
    fn a_config_map_is_followed_through_each_of_its_swaps() {
        let directory = Scratch::new("map");
        let path = |name: &str| directory.path().join(name);
        let publish = |version: &str| {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("a.json"), version).unwrap();
            symlink(version, path("..next")).unwrap();
            fs::rename(path("..next"), path("..data")).unwrap();
        };
        publish("..1");
        symlink("..data/a.json", path("a.json")).unwrap();
        let file = path("a.json");
        let (mut watch, events) = watch(&file);
        let mut known = Fingerprint::of(&file);
        for version in ["..2", "..3", "..4"] {
            publish(version);
            known = expect_change(&events, &file, known);
            watch.follow().unwrap();
        }
    }

    #[test]
    fn a_file_behind_a_link_from_elsewhere_is_seen() {
        let (here, there) = (Scratch::new("here"), Scratch::new("there"));
        fs::write(there.path().join("real.json"), "1").unwrap();
        let file = here.path().join("a.json");
        symlink(there.path().join("real.json"), &file).unwrap();
        let (_watch, events) = watch(&file);
        let known = Fingerprint::of(&file);
        fs::write(there.path().join("real.json"), "2").unwrap();
        expect_change(&events, &file, known);
    }

    #[test]
    fn links_that_lead_in_circles_end_the_way() {
        let directory = Scratch::new("circles");
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let found = directories(&directory.path().join("a"));
        assert!(found.contains(directory.path()), "{found:?}");
    }
}
