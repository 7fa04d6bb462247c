//! `ringfort serve`: from a checked config to the master.

use std::io;
use std::sync::Arc;

use super::arguments::ServeOptions;
use super::{Exit, Session};
use crate::config::{self, Host};
use crate::lifecycle::Launcher;
use crate::log::{self, LogError, LogOptions};
use crate::master::{self, Origin, Service, Source};

pub(super) fn serve(session: &mut Session<'_>, options: &ServeOptions) -> io::Result<Exit> {
    // First of all: descriptors that were handed over are known by their numbers alone.
    let arguments = session.args.get(1..).unwrap_or_default().to_vec();
    let origin = match Origin::new(arguments, session.variables.clone()) {
        Ok(origin) => origin,
        Err(error) => {
            session.complain(error)?;
            return Ok(Exit::Failed);
        }
    };
    let mut input = session.input(options.config.as_ref());
    input.overrides.extend(options.overrides());
    // A pipe can be read once, and has nothing to watch.
    let watched = input.file.clone().filter(|file| file.is_file());
    let prepared = match session.prepare(&input, &Host::read()) {
        Ok(prepared) => prepared,
        Err(failure) => return session.refuse(&failure),
    };
    let settings = &prepared.snapshot.config.log;
    let log_options = LogOptions {
        level: settings.level.clone(),
        format: settings.format.into(),
        file: prepared.snapshot.log_file.clone(),
    };
    let log = match log::init(&log_options) {
        Ok(guard) => Some(guard),
        // The application's own logs are as good as ours.
        Err(LogError::AlreadySet) => None,
        Err(error) => {
            session.complain(error)?;
            return Ok(Exit::Config);
        }
    };
    let context = session.application.context.clone();
    let tables = session.application.tables.to_vec();
    let source = Source {
        watched: watched.filter(|_| prepared.snapshot.config.reload.watch),
        known: prepared.fingerprint,
        load: Arc::new(move |before| config::prepare_next(&input, &Host::read(), &tables, before)),
    };
    let service = Service { snapshot: prepared.snapshot, plan: prepared.plan, context, log, source, origin };
    let mut launcher = Launcher::new();
    (session.application.parts)(&mut launcher);
    match master::serve_with(service, launcher) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            session.complain(error)?;
            Ok(Exit::Failed)
        }
    }
}
