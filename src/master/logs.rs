//! The log files: the access log of this process, and opening all of them anew when they were renamed.

use std::io;
use std::time::Duration;

use crate::config::Snapshot;
use crate::limits::ACCESS_FINISH_MS;
use crate::log::{self, access::AccessLog};
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

/// Writes what the workers have handed over, when they have ended.
pub(super) fn finish_access_log(access: &AccessLog) {
    if !access.finish(Duration::from_millis(ACCESS_FINISH_MS)) {
        tracing::warn!("the access log could not be written to its end");
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
