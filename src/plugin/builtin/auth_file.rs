//! Files with a credential on each line.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::limits::{AUTH_FILE_BYTES_MAX, AUTH_NAME_BYTES_MAX};

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileError {
    /// What should be there.
    pub expected: String,
    /// What is there; nothing of its content.
    pub found: String,
}

/// Whether it can name whom a credential belongs to.
pub(super) fn is_name(name: &str) -> bool {
    (1..=AUTH_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)
}

/// Reads all of a small file.
pub(super) fn read_whole(path: &Path) -> Result<Vec<u8>, FileError> {
    let shown = path.display();
    let unreadable =
        |error| FileError { expected: "a file that can be read".to_owned(), found: format!("\"{shown}\": {error}") };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(AUTH_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > AUTH_FILE_BYTES_MAX {
        let expected = format!("a file of at most {AUTH_FILE_BYTES_MAX} bytes");
        return Err(FileError { expected, found: format!("\"{shown}\", which is longer") });
    }
    Ok(bytes)
}

/// What `read_line` makes of each line that is neither empty nor a comment.
pub(super) fn read<T>(path: &Path, read_line: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, FileError> {
    let bytes = read_whole(path)?;
    let shown = path.display();
    let text = String::from_utf8(bytes)
        .map_err(|_| FileError { expected: "a text in UTF-8".to_owned(), found: format!("\"{shown}\"") })?;
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let found = || format!("something else on line {} of \"{shown}\"", index + 1);
        entries.push(read_line(line).map_err(|expected| FileError { expected, found: found() })?);
    }
    if entries.is_empty() {
        return Err(FileError {
            expected: "a file with an entry".to_owned(),
            found: format!("\"{shown}\" without one"),
        });
    }
    Ok(entries)
}
