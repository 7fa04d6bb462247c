//! Structured logs on stderr or in a file: the set-up of `tracing`, with a writer thread behind a bounded queue. The access
//! log has its own (`access/`).
//!
//! A core that logs formats its line and puts it into the queue; it never writes, so a stderr that is slow or stopped (a
//! full pipe, a paused terminal) cannot hold it up. When the queue is full, lines are dropped and counted, and the count
//! is a metric (`ringfort_log_lines_dropped_total`). Timestamps are the wall clock's, RFC 3339 in UTC; this is the one
//! place outside `clock` where it is read, for a log line is for people and not for the simulator.

pub mod access;
mod file;
mod flow;
mod pretty;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::reload;

use crate::limits::LOG_LINES_QUEUED_MAX;
use crate::sync::{Flow, OnceLock};
use file::{Destination, Lines};
use flow::{Outlet, Queue};

pub use file::{ReopenError, reopen};

/// Puts another filter in place of the one that is in force.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// How the process's level is changed, once [`init`] has set it.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line: `timestamp`, `level`, `target`, `message` and the event's own fields, flattened.
    #[default]
    Json,
    /// One line of text: timestamp, level, target, message, `field=value`.
    Text,
    /// For a terminal in development: the message on one line and each field on a line of its own.
    Pretty,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several directives separated by commas, each a level
    /// or `target=level`: `info,ringfort::proxy=debug`. The most specific one wins.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// The file that lines are appended to; `None`: stderr.
    pub file: Option<PathBuf>,
}

impl Default for LogOptions {
    /// Level `info`, as JSON, on stderr.
    fn default() -> Self {
        LogOptions { level: "info".to_owned(), format: LogFormat::default(), file: None }
    }
}

/// Why logs cannot be set up. All but `AlreadySet` are the operator's to mend.
#[derive(Debug)]
pub enum LogError {
    /// There is no directive at all.
    EmptyLevel,
    /// A directive is a single word but not a level. (The filter's own parser would take it for a target, and a
    /// misspelt level would silence everything else.)
    UnknownLevel {
        /// The directive.
        found: String,
    },
    /// A directive cannot be parsed.
    InvalidDirective {
        /// All directives.
        level: String,
        /// What the parser says.
        cause: ParseError,
    },
    /// The file cannot be opened.
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Logs were set up before in this process; those stay as they are.
    AlreadySet,
    /// Logs were not set up by [`init`], so that their level is another's to change.
    NotSet,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LEVELS: &str = "one of off, error, warn, info, debug, trace";
        match self {
            LogError::EmptyLevel => write!(f, "log level: expected {LEVELS}, found nothing"),
            LogError::UnknownLevel { found } => {
                write!(f, "log level: expected {LEVELS}, or target=level; found {found:?}")
            }
            LogError::InvalidDirective { level, cause } => {
                write!(f, "log level: expected a level or target=level, separated by commas; found {level:?}: {cause}")
            }
            LogError::File { path, error } => write!(f, "log file {}: {error}", path.display()),
            LogError::AlreadySet => write!(f, "logs are already set up in this process"),
            LogError::NotSet => write!(f, "logs are not set up by this program"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::InvalidDirective { cause, .. } => Some(cause),
            LogError::File { error, .. } => Some(error),
            LogError::EmptyLevel | LogError::UnknownLevel { .. } | LogError::AlreadySet | LogError::NotSet => None,
        }
    }
}

/// Keeps the writer thread. Dropping it writes what is queued, for at most about a second; lines logged after that are
/// dropped.
#[must_use = "dropping the guard ends logging"]
#[derive(Debug)]
pub struct LogGuard {
    dropped: ErrorCounter,
    flow: Arc<Flow>,
    _writer: WorkerGuard,
}

impl LogGuard {
    /// Lines dropped because the queue was full. Never decreases.
    pub fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// Whether everything that was logged so far is written, or was dropped.
    pub fn is_written(&self) -> bool {
        self.flow.is_over(|| self.dropped())
    }
}

/// Checks `level` without setting anything up; the same check as [`init`]'s, for a config that is not applied yet.
///
/// # Errors
/// [`LogError::EmptyLevel`], [`LogError::UnknownLevel`], [`LogError::InvalidDirective`].
pub fn check_level(level: &str) -> Result<(), LogError> {
    parse_level(level).map(|_| ())
}

/// Sends the events of the whole process to stderr, or to a file, from now on.
///
/// # Errors
/// A level that is not one, a file that cannot be opened, or logs that are already set up; nothing is changed then.
pub fn init(options: &LogOptions) -> Result<LogGuard, LogError> {
    let filter = parse_level(&options.level)?;
    let (writer, guard) = match &options.file {
        None => start_writer(io::stderr(), LOG_LINES_QUEUED_MAX),
        Some(path) => {
            let opened = Destination::open(path);
            let lines = Lines(opened.map_err(|error| LogError::File { path: path.clone(), error })?);
            start_writer(lines, LOG_LINES_QUEUED_MAX)
        }
    };
    let (subscriber, set_filter) = subscriber(options.format, filter, writer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)?;
    // Only one can be the global default, so this one is the first.
    let _ = SET_FILTER.set(set_filter);
    Ok(guard)
}

/// Changes the level, or the directives, of the whole process while it runs. From any thread.
///
/// # Errors
/// A level that is not one; then nothing is changed. [`LogError::NotSet`] where [`init`] did not set up the logs.
pub fn set_level(level: &str) -> Result<(), LogError> {
    let filter = parse_level(level)?;
    // The subscriber lives as long as the process: it can be gone only where it never was.
    SET_FILTER.get().ok_or(LogError::NotSet)?(filter).map_err(|_| LogError::NotSet)
}

fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    if level.trim().is_empty() {
        return Err(LogError::EmptyLevel);
    }
    for directive in level.split(',').map(str::trim) {
        let is_word = !directive.contains(['=', '[']);
        // An empty directive (`info,`) parses as `error`, which nobody means by it.
        if is_word && (directive.is_empty() || directive.parse::<LevelFilter>().is_err()) {
            return Err(LogError::UnknownLevel { found: directive.to_owned() });
        }
    }
    let directives = level.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    EnvFilter::builder()
        .parse(directives)
        .map_err(|cause| LogError::InvalidDirective { level: level.to_owned(), cause })
}

fn start_writer(out: impl Write + Send + 'static, lines_max: usize) -> (Queue, LogGuard) {
    let flow = Arc::new(Flow::default());
    let (lines, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(lines_max)
        .thread_name("ringfort-log")
        .finish(Outlet { out, flow: flow.clone() });
    let dropped = lines.error_counter();
    (Queue { lines, flow: flow.clone() }, LogGuard { dropped, flow, _writer: guard })
}

/// A builder's subscriber, and how its filter is replaced. No function: its types would be longer than it is.
macro_rules! reloadable {
    ($builder:expr) => {{
        let builder = $builder.with_filter_reloading();
        let handle = builder.reload_handle();
        (Box::new(builder.finish()), Box::new(move |filter: EnvFilter| handle.reload(filter)))
    }};
}

fn subscriber(format: LogFormat, filter: EnvFilter, writer: Queue) -> (Box<dyn Subscriber + Send + Sync>, SetFilter) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        // Spans are left out: their fields would be nested objects of their own, repeated on every line.
        LogFormat::Json => {
            reloadable!(builder.json().flatten_event(true).with_current_span(false).with_span_list(false))
        }
        LogFormat::Text => reloadable!(builder),
        LogFormat::Pretty => reloadable!(builder.event_format(pretty::Pretty)),
    }
}

#[cfg(test)]
mod tests;
