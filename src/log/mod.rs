//! Structured logs on stderr: the set-up of `tracing`, with a writer thread behind a bounded queue.
//!
//! A core that logs formats its line and puts it into the queue; it never writes, so a stderr that is slow or stopped (a
//! full pipe, a paused terminal) cannot hold it up. When the queue is full, lines are dropped and counted, and the count
//! is a metric (`ringfort_log_lines_dropped_total`). Timestamps are the wall clock's, RFC 3339 in UTC; this is the one
//! place outside `clock` where it is read, for a log line is for people and not for the simulator.

mod pretty;

use std::fmt;
use std::io::{self, Write};

use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::limits::LOG_LINES_QUEUED_MAX;

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
}

impl Default for LogOptions {
    /// Level `info`, as JSON.
    fn default() -> Self {
        LogOptions { level: "info".to_owned(), format: LogFormat::default() }
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
    /// Logs were set up before in this process; those stay as they are.
    AlreadySet,
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
            LogError::AlreadySet => write!(f, "logs are already set up in this process"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::InvalidDirective { cause, .. } => Some(cause),
            LogError::EmptyLevel | LogError::UnknownLevel { .. } | LogError::AlreadySet => None,
        }
    }
}

/// Keeps the writer thread. Dropping it writes what is queued, for at most about a second; lines logged after that are
/// dropped.
#[must_use = "dropping the guard ends logging"]
#[derive(Debug)]
pub struct LogGuard {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl LogGuard {
    /// Lines dropped because the queue was full. Never decreases.
    pub fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

/// Checks `level` without setting anything up; the same check as [`init`]'s, for a config that is not applied yet.
///
/// # Errors
/// All of [`LogError`] but `AlreadySet`.
pub fn check_level(level: &str) -> Result<(), LogError> {
    parse_level(level).map(|_| ())
}

/// Sends the events of the whole process to stderr from now on.
///
/// # Errors
/// A level that is not one, or logs that are already set up; nothing is changed then.
pub fn init(options: &LogOptions) -> Result<LogGuard, LogError> {
    let filter = parse_level(&options.level)?;
    let (writer, guard) = start_writer(io::stderr(), LOG_LINES_QUEUED_MAX);
    tracing::subscriber::set_global_default(subscriber(options.format, filter, writer))
        .map_err(|_| LogError::AlreadySet)?;
    Ok(guard)
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

fn start_writer(out: impl Write + Send + 'static, lines_max: usize) -> (NonBlocking, LogGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(lines_max)
        .thread_name("ringfort-log")
        .finish(out);
    let dropped = writer.error_counter();
    (writer, LogGuard { dropped, _writer: guard })
}

fn subscriber(format: LogFormat, filter: EnvFilter, writer: NonBlocking) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        // Spans are left out: their fields would be nested objects of their own, repeated on every line.
        LogFormat::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish())
        }
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Pretty => Box::new(builder.event_format(pretty::Pretty).finish()),
    }
}

#[cfg(test)]
mod tests;
