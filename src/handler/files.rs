//! Files below a directory: conditional requests, single ranges, compressed siblings, nothing outside.
//!
//! - **The root** is opened once. A root that is replaced (renamed away) is served as it was until the config is loaded
//!   anew.
//! - **Nothing outside** the root is reached, by whatever path or symbolic link: the kernel resolves beneath it
//!   (`RESOLVE_BENEATH`). What is refused looks as if it were not there.
//! - **Hidden**: a segment that begins with a dot is not found (`.git`, `.env`), but for `.well-known` (RFC 8615) at the
//!   root. Names that are not UTF-8 cannot be asked for.
//! - **Directories** are never listed: with a slash at the end they give their index, without they redirect to it.
//!   Where no index is configured neither is found.
//! - **Compressed siblings** (`app.js.br`) stand for a file that exists itself, whatever their age, as with nginx: tools
//!   that copy a tree do not keep the order of times. Make them anew with their original.
//! - **A file that changes** while it is sent: one that grows is cut where it ended when it was opened, one that shrinks
//!   cuts the response and the connection, so that the client can tell.

mod conditional;
mod content_type;
mod path;
mod range;

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::encoding::{self, Coding, Identity};
use super::{Answer, BodyLength, Exchange, Failure, Handler, Pace, Reply, Request, Response, redirect};
use crate::clock;
use crate::http::{FieldError, Fields, Method, Status};
use crate::limits::{COPY_BYTES_MAX, LARGE_BUFFER_BYTES};
#[cfg(feature = "sim")]
use crate::rt;
use crate::rt::fs::{self, File, Kind};
use conditional::{Etag, Validators, Verdict};
use range::Extent;

/// What to serve, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSpec {
    /// The directory.
    pub root: PathBuf,
    /// The file that a directory gives, as `index.html`; `None`: nothing.
    pub index: Option<String>,
    /// The parameter of the route whose value is the path below the root; `None`: the whole path.
    pub param: Option<String>,
    /// Codings of which siblings may be there, the one to prefer first. Not empty: responses vary by `Accept-Encoding`.
    pub precompressed: Vec<Coding>,
    /// The value of `Cache-Control`; `None` leaves the field out.
    pub cache_control: Option<String>,
}

/// Why files cannot be served: the operator is to blame.
#[derive(Debug)]
pub enum FilesError {
    /// The root cannot be opened: it is missing, no directory, or not permitted.
    Root {
        /// As it was given.
        root: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The index is not the name of a file.
    Index(String),
    /// The value of `Cache-Control` is not one.
    CacheControl(FieldError),
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root { root, error } => {
                write!(f, "root: expected a directory that can be opened, found {}: {error}", root.display())
            }
            Self::Index(index) => write!(f, "index: expected the name of a file, without `/`, found {index:?}"),
            Self::CacheControl(error) => write!(f, "cache_control: {error}"),
        }
    }
}

impl std::error::Error for FilesError {}

/// Serves files.
#[derive(Debug)]
pub struct Files {
    root: fs::Root,
    index: Option<String>,
    param: Option<String>,
    precompressed: Vec<Coding>,
    cache_control: Option<String>,
}

/// The methods that files take.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// What is sent of a file: itself, or its sibling in a coding.
struct Representation {
    file: File,
    coding: Option<Coding>,
    media_type: &'static str,
    validators: Validators,
}

impl Files {
    /// Opens the root. May wait for the disk: not on a core's own thread.
    ///
    /// # Errors
    /// See [`FilesError`].
    pub fn new(spec: FilesSpec) -> Result<Self, FilesError> {
        let FilesSpec { root, index, param, precompressed, cache_control } = spec;
        if let Some(index) = index.as_ref().filter(|index| !path::is_file_name(index)) {
            return Err(FilesError::Index(index.clone()));
        }
        if let Some(value) = &cache_control {
            Fields::new().push("Cache-Control", value).map_err(FilesError::CacheControl)?;
        }
        match fs::open_root(&root) {
            Ok(root) => Ok(Self { root, index, param, precompressed, cache_control }),
            Err(error) => Err(FilesError::Root { root, error }),
        }
    }

    async fn answer(&self, exchange: &mut Exchange<'_>) -> Reply {
        let (request, response) = (exchange.request, &mut exchange.response);
        match request.method() {
            Method::Get | Method::Head => {}
            Method::Options => return response.status(Status::NO_CONTENT).field("Allow", ALLOW)?.send(b""),
            _ => {
                response.field("Allow", ALLOW)?;
                return response.problem(Status::METHOD_NOT_ALLOWED, "files are only read: GET and HEAD");
            }
        }
        let mut path = path::decode(self.raw_path(&request)?).ok_or_else(not_found)?;
        let is_directory = path.is_empty() || path.ends_with('/');
        if is_directory {
            path.push_str(self.index.as_ref().ok_or_else(not_found)?);
        }
        let file = fs::open_beneath(&self.root, &path).await.map_err(open_failure)?;
        match file.metadata().kind {
            Kind::Regular => {}
            // A path that begins with two slashes is no reference to this host (RFC 3986 section 4.2). No route leads here
            // with one, because empty segments are refused above; a redirect must not depend on that.
            Kind::Directory if !is_directory && self.index.is_some() && !request.path().starts_with("//") => {
                return redirect::add_slash(exchange);
            }
            Kind::Directory | Kind::Other => return Err(not_found()),
        }
        if !self.precompressed.is_empty() {
            response.field("Vary", "Accept-Encoding")?;
        }
        match self.select(&request, path, file).await {
            Some(representation) => self.respond(&request, response, representation).await,
            None => response.problem(Status::NOT_ACCEPTABLE, "the file is not there in any coding that is accepted"),
        }
    }

    fn raw_path<'x>(&self, request: &Request<'x>) -> Result<&'x str, Failure> {
        let Some(name) = &self.param else {
            let path = request.path();
            return Ok(path.strip_prefix('/').unwrap_or(path));
        };
        request.param(name).ok_or_else(|| Failure::internal(format!("the route has no parameter {name:?}")))
    }

    /// The file itself or its best sibling; `None` where the client refuses all there are.
    async fn select(&self, request: &Request<'_>, mut path: String, file: File) -> Option<Representation> {
        let media_type = content_type::of_path(&path);
        let found = |file: File, coding| {
            let validators = Validators::new(&file.metadata(), coding, clock::wall());
            Some(Representation { file, coding, media_type, validators })
        };
        if self.precompressed.is_empty() {
            return found(file, None);
        }
        let preference = encoding::negotiate(request.header_values("accept-encoding"), &self.precompressed);
        let length = path.len();
        for coding in preference.codings {
            path.truncate(length);
            path.push_str(coding.extension());
            // One that cannot be opened is as good as none: there is the file itself.
            if let Ok(sibling) = fs::open_beneath(&self.root, &path).await
                && sibling.metadata().kind == Kind::Regular
            {
                return found(sibling, Some(coding));
            }
        }
        match preference.identity {
            Identity::Accepted => found(file, None),
            Identity::Refused => None,
        }
    }

    async fn respond(&self, request: &Request<'_>, response: &mut Response<'_>, found: Representation) -> Reply {
        let size = found.file.metadata().size;
        match conditional::evaluate(request, &found.validators) {
            Verdict::Proceed => {}
            Verdict::Failed => return response.problem(Status::PRECONDITION_FAILED, "the file is another version"),
            Verdict::NotModified => {
                // RFC 9110 section 15.4.5: of the fields of a 200 those that a cache goes by.
                self.write_cache_fields(response, &found.validators.etag)?;
                return response.status(Status::NOT_MODIFIED).send(b"");
            }
        }
        let extent = match request.method() {
            // RFC 9110 section 14.2: only for GET.
            Method::Get if conditional::range_applies(request, &found.validators, clock::wall()) => {
                range::decide(request.header_values("range"), size)
            }
            _ => Extent::Whole,
        };
        let (start, length) = match extent {
            Extent::Whole => (0, size),
            Extent::Part { first, last } => {
                response.status(Status::PARTIAL_CONTENT);
                response.field("Content-Range", format!("bytes {first}-{last}/{size}"))?;
                (first, last - first + 1)
            }
            Extent::Unsatisfiable => {
                response.field("Content-Range", format!("bytes */{size}"))?;
                return response.problem(Status::RANGE_NOT_SATISFIABLE, "the range begins behind the end of the file");
            }
        };
        self.write_cache_fields(response, &found.validators.etag)?;
        response.field("Last-Modified", clock::format_date(found.validators.modified))?;
        response.field("Accept-Ranges", "bytes")?.field("Content-Type", found.media_type)?;
        response.field("X-Content-Type-Options", "nosniff")?;
        if let Some(coding) = found.coding {
            response.field("Content-Encoding", coding.name())?;
        }
        send(response, &found.file, start, length).await
    }

    fn write_cache_fields(&self, response: &mut Response<'_>, etag: &Etag) -> Result<(), FieldError> {
        response.field("ETag", etag.as_bytes())?;
        if let Some(value) = &self.cache_control {
            response.field("Cache-Control", value)?;
        }
        Ok(())
    }
}

/// Sends `length` bytes of `file` from `start` on.
async fn send(response: &mut Response<'_>, file: &File, start: u64, length: u64) -> Reply {
    if length == 0 {
        return response.send(b"");
    }
    if response.terms().head_only {
        return response.start(BodyLength::Known(length));
    }
    if length <= COPY_BYTES_MAX as u64 {
        let whole = file.read_at(start, length as usize).await.map_err(Failure::internal)?;
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::ShortReadTakenForEnd) {
            return response.send(&whole);
        }
        if whole.len() as u64 == length {
            return response.send(&whole);
        }
        // A short read, as on some network file systems: the loop below goes on after it.
    }
    // Nothing leaves before the first piece is there: until then a failure to read is still a 500.
    response.start(BodyLength::Known(length))?;
    let (mut at, end) = (start, start + length);
    while at < end {
        at += response.write_file(file, at, end - at).await?;
        if at == end {
            break;
        }
        let most = (end - at).min(LARGE_BUFFER_BYTES as u64) as usize;
        let piece = file.read_at(at, most).await.map_err(Failure::internal)?;
        if piece.is_empty() {
            return Err(Failure::internal("a file became shorter while it was sent"));
        }
        at += piece.len() as u64;
        response.write(&piece).await?;
    }
    Ok(())
}

fn not_found() -> Failure {
    Failure::Status(Status::NOT_FOUND, "there is no such file")
}

/// Whose fault it is that a file cannot be opened.
fn open_failure(error: io::Error) -> Failure {
    match error.raw_os_error() {
        // EXDEV and ELOOP are links that lead out of the root or around in it: like all that is not served, not there.
        // ENXIO is a socket in the file system, EINVAL a name that this file system cannot have.
        Some(
            libc::ENOENT
            | libc::ENOTDIR
            | libc::EXDEV
            | libc::ELOOP
            | libc::ENAMETOOLONG
            | libc::ENXIO
            | libc::EINVAL
            | libc::EILSEQ,
        ) => not_found(),
        Some(libc::EACCES | libc::EPERM) => Failure::Status(Status::FORBIDDEN, "the server may not read this file"),
        // EAGAIN: renames kept racing with the look-up.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => {
            Failure::Status(Status::SERVICE_UNAVAILABLE, "the server cannot open more files now")
        }
        _ => Failure::internal(error),
    }
}

impl Handler for Files {
    fn pace(&self) -> Pace {
        Pace::Suspending
    }

    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        Answer::Later(Box::pin(self.answer(exchange)))
    }
}

#[cfg(test)]
mod tests;
