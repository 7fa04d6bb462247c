//! The log files: the access log of this process and its own log, which are written to their end when it stops, and opened
//! anew when they were renamed.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::Snapshot;
use crate::limits::{ACCESS_FINISH_MS, LOG_FINISH_MS};
use crate::log::{self, LogError, LogGuard, access::AccessLog};
use crate::rt;

/// Opens the access log, and starts its thread where the config asks for one.
pub(super) fn open_access_log(snapshot: &Snapshot) -> io::Result<AccessLog> {
    let is_on = snapshot.settings.observing.access.is_on();
    // A file that nothing is written to is not made.
    let access = AccessLog::open(snapshot.access_file.as_deref().filter(|_| is_on))?;
    if is_on {
        access.start()?;
    }
    Ok(access)
}

/// Has the logs be as another config says, before it is in force.
///
/// # Errors
/// A file that cannot be opened, or a thread that cannot be started. The logs are as before then, but for the level.
pub(super) fn take_up(access: &AccessLog, before: &Snapshot, next: &Snapshot) -> Result<(), String> {
    if before.config.log.level != next.config.log.level {
        match log::set_level(&next.config.log.level) {
            // An application's own logs are its own affair.
            Ok(()) | Err(LogError::NotSet) => {}
            Err(error) => return Err(format!("log.level: {error}")),
        }
    }
    let was_on = before.settings.observing.access.is_on();
    if !next.settings.observing.access.is_on() || (was_on && before.access_file == next.access_file) {
        return Ok(());
    }
    let fail = |error: io::Error| format!("log.access_file: {error}");
    access.redirect(next.access_file.as_deref()).map_err(fail)?;
    access.start().map_err(fail)
}

/// What is left to be written when the process stops.
pub(super) struct Unwritten {
    access: Arc<AccessLog>,
    /// `None`: an application's own log.
    log: Option<Rc<LogGuard>>,
    is_finished: Cell<bool>,
}

impl Unwritten {
    pub(super) fn new(access: Arc<AccessLog>, log: Option<Rc<LogGuard>>) -> Self {
        Self { access, log, is_finished: Cell::new(false) }
    }

    /// Has the lines of requests written that the workers have handed over, when they have ended, and what was logged so far.
    /// Once.
    pub(super) async fn finish(&self) {
        if self.is_finished.get() {
            return;
        }
        let access = self.access.clone();
        let within = Duration::from_millis(ACCESS_FINISH_MS);
        if !rt::blocking(move || access.finish(within)).await {
            tracing::warn!("the access log could not be written to its end");
        }
        let until = clock::now() + Duration::from_millis(LOG_FINISH_MS);
        let is_written = || self.log.as_ref().is_none_or(|log| log.is_written());
        rt::look_every(Duration::from_millis(1), until, || is_written().then_some(())).await;
        self.is_finished.set(true);
    }
}

/// Opens every log file anew, on a thread that may wait for the file system.
pub(super) fn reopen() {
    rt::spawn(async {
        match rt::blocking(log::reopen).await {
            Ok(()) => tracing::info!("log files re-opened"),
            Err(failures) => {
                for failure in failures {
                    tracing::error!(path = %failure.path.display(), error = %failure.error, "a log file cannot be re-opened");
                }
            }
        }
    });
}
