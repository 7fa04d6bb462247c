//! `ringfort serve`: from a checked config to the master.

use std::io;
use std::sync::Arc;

use super::arguments::ServeOptions;
use super::{Exit, Session};
use crate::config::{self, Host};
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
    let prepared = match session.prepare(&input, &Host::read()) {
        Ok(prepared) => prepared,
        Err(failure) => return session.refuse(&failure),
    };
    let settings = &prepared.snapshot.config.log;
    let log_options = LogOptions { level: settings.level.clone(), format: settings.format.into() };
    let log_lines_dropped: Box<dyn Fn() -> u64> = match log::init(&log_options) {
        // Lives in here until the service ends: what is logged while it stops is written.
        Ok(guard) => Box::new(move || guard.dropped()),
        // The application's own logs are as good as ours.
        Err(LogError::AlreadySet) => Box::new(|| 0),
        Err(error) => {
            session.complain(error)?;
            return Ok(Exit::Config);
        }
    };
    let context = session.application.context.clone();
    let tables = session.application.tables.to_vec();
    let source = Source {
        watched: input.file.clone().filter(|_| prepared.snapshot.config.reload.watch),
        load: Arc::new(move |before| config::prepare_next(&input, &Host::read(), &tables, before)),
    };
    let service =
        Service { snapshot: prepared.snapshot, plan: prepared.plan, context, log_lines_dropped, source, origin };
    match master::serve(service) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            session.complain(error)?;
            Ok(Exit::Failed)
        }
    }
}
