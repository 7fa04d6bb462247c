//! `ringfort diff`: what a reload from one config to another would do.

use std::io;
use std::path::PathBuf;

use serde_json::json;

use super::arguments::DiffOptions;
use super::{Exit, Session};
use crate::config::{Changes, Config, Host};

pub(super) fn diff(session: &mut Session<'_>, options: &DiffOptions) -> io::Result<Exit> {
    let host = Host::read();
    let mut load = |file: &PathBuf| -> io::Result<Result<Config, Exit>> {
        match session.prepare(&session.input(Some(file)), &host) {
            Ok(prepared) => Ok(Ok(prepared.snapshot.config)),
            Err(failure) => session.refuse(&failure).map(Err),
        }
    };
    // Both are read in any case: all mistakes are told at once.
    let (old, new) = (load(&options.old)?, load(&options.new)?);
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(exit), _) | (_, Err(exit)) => return Ok(exit),
    };
    let changes = Changes::between(&old, &new);
    if options.json {
        session.say_json(&json!({ "can_be_reloaded": changes.can_be_reloaded(), "changes": changes }))?;
    } else {
        session.say(&changes)?;
        if !changes.can_be_reloaded() {
            session.say("A reload would be refused for the lines with \"!\": restart for them.")?;
        }
    }
    Ok(if changes.can_be_reloaded() { Exit::Done } else { Exit::Failed })
}
