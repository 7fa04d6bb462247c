//! Why a program did not start, or did not end as it should: always with the name of whoever is to blame.

use std::fmt;
use std::time::Duration;

use super::graph::GraphError;
use crate::limits::CHECKS_MAX;

/// What a service, an initializer or a check may fail with.
pub type Error = Box<dyn std::error::Error>;

/// What a service or an initializer comes to.
pub type Outcome = Result<(), Error>;

/// When in its life a service failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    /// Before it was ready.
    Start,
    /// While it was ready.
    Run,
    /// After it was told to stop.
    Stop,
}

impl During {
    /// The word in answers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Run => "run",
            Self::Stop => "stop",
        }
    }
}

/// Why a part of the program failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It said so.
    Failed(String),
    /// It panicked, with this message.
    Panicked(String),
    /// It ended without having said that it is ready.
    NotReady,
    /// It dropped its handle without having said that it is ready.
    LetGo,
    /// It was ready, and ended though nobody had told it to.
    Left,
    /// It took longer than it may.
    TimedOut {
        /// Its own time-out.
        within: Duration,
    },
    /// The whole start, or the whole stop, took longer than it may, and this one was at it.
    BudgetSpent {
        /// The time for all.
        total: Duration,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(error),
            Self::Panicked(message) => write!(f, "it panicked: {message}"),
            Self::NotReady => f.write_str("it ended without having said that it is ready"),
            Self::LetGo => f.write_str("it dropped its handle without having said that it is ready"),
            Self::Left => f.write_str("it ended though nobody had told it to"),
            Self::TimedOut { within } => write!(f, "it took longer than {within:?}"),
            Self::BudgetSpent { total } => write!(f, "it was not done when {total:?} for all were over"),
        }
    }
}

/// A service that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its name.
    pub service: String,
    /// When.
    pub during: During,
    /// Why.
    pub reason: Reason,
    /// Services that were never started because they depend on it.
    pub waited: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.during {
            During::Start => "did not start",
            During::Run => "failed",
            During::Stop => "did not stop well",
        };
        write!(f, "service {:?} {when}: {}", self.service, self.reason)?;
        if !self.waited.is_empty() {
            write!(f, " (waiting for it: {})", self.waited.join(", "))?;
        }
        Ok(())
    }
}

/// Why a program could not start, or ended otherwise than it was told to. Everything that had started has been stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchError {
    /// The services cannot be ordered. Nothing was started.
    Graph(GraphError),
    /// Names of initializers and checks: one that is no name, or two of one kind that are the same.
    Name {
        /// Of which kind.
        kind: &'static str,
        /// The name.
        found: String,
    },
    /// More health checks than [`CHECKS_MAX`].
    TooManyChecks {
        /// How many there are.
        found: usize,
    },
    /// An initializer failed. No service was started.
    Initializer {
        /// Its name.
        name: String,
        /// Why.
        reason: Reason,
    },
    /// A signal came before every service was ready.
    Interrupted {
        /// Its name.
        signal: &'static str,
        /// Services that failed while the others were stopped.
        failures: Vec<Failure>,
    },
    /// Services failed. The first is the culprit: what follows may follow from it.
    Failed {
        /// In the order in which they did; at least one.
        failures: Vec<Failure>,
    },
    /// A second signal ended it at once.
    Cut {
        /// Its name.
        signal: &'static str,
        /// Services that still ran.
        running: Vec<String>,
    },
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write_all = |f: &mut fmt::Formatter<'_>, failures: &[Failure], mut separator| {
            for failure in failures {
                write!(f, "{separator}{failure}")?;
                separator = "; ";
            }
            Ok(())
        };
        match self {
            Self::Graph(error) => error.fmt(f),
            Self::Name { kind, found } => {
                write!(f, "{kind}: expected a name of its own of letters, digits, '-', '_' or '.', found {found:?}")
            }
            Self::TooManyChecks { found } => write!(f, "health checks: expected at most {CHECKS_MAX}, found {found}"),
            Self::Initializer { name, reason } => write!(f, "initializer {name:?} failed: {reason}"),
            Self::Interrupted { signal, failures } => {
                write!(f, "{signal} came before the start was done; what had started was stopped")?;
                write_all(f, failures, "; ")
            }
            Self::Failed { failures } => write_all(f, failures, ""),
            Self::Cut { signal, running } => {
                write!(f, "a second signal ({signal}) ended it at once; still running: {}", running.join(", "))
            }
        }
    }
}

impl std::error::Error for LaunchError {}

/// The message of a panic, as far as it has one.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message").to_owned()
}
