//! What a program declares: its initializers, services and health checks, and how long they may take.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::course::Traits;
use super::failure::Outcome;
use super::handle::Handle;
use super::health::{CheckOptions, HealthCheck};
use super::overview::Overview;
use crate::limits::{LAUNCH_START_SECS, LAUNCH_STOP_SECS, SERVICE_START_SECS, SERVICE_STOP_SECS};

/// A part of a program that runs.
pub type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// A part of a program that runs from its start to its stop. Every `FnOnce(Handle) -> impl Future<Output = Outcome>` is
/// one, so an `async fn(handle: Handle) -> Outcome` is enough.
///
/// It runs on the launcher's thread: what blocks belongs into `rt::blocking`. When its future is dropped before its end (it
/// was too slow, or a second signal came), its tasks of `rt::spawn` live on until the process ends.
pub trait Service {
    /// Runs it. It says [`Handle::ready`], works, and returns after [`Handle::stopping`].
    fn run(self: Box<Self>, handle: Handle) -> Running;
}

impl<F, Work> Service for F
where
    F: FnOnce(Handle) -> Work,
    Work: Future<Output = Outcome> + 'static,
{
    fn run(self: Box<Self>, handle: Handle) -> Running {
        Box::pin(self(handle))
    }
}

/// Something that is done once, before any service starts. Every `FnOnce() -> impl Future<Output = Outcome>` is one.
pub trait Initializer {
    /// Does it. Dropped when a signal comes or it takes longer than it may.
    fn run(self: Box<Self>) -> Running;
}

impl<F, Work> Initializer for F
where
    F: FnOnce() -> Work,
    Work: Future<Output = Outcome> + 'static,
{
    fn run(self: Box<Self>) -> Running {
        Box::pin(self())
    }
}

/// How a service is run.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    pub(super) name: String,
    pub(super) after: Vec<String>,
    pub(super) start_within: Duration,
    pub(super) stop_within: Duration,
    pub(super) traits: Traits,
}

impl ServiceOptions {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            after: Vec::new(),
            start_within: Duration::from_secs(SERVICE_START_SECS),
            stop_within: Duration::from_secs(SERVICE_STOP_SECS),
            traits: Traits::default(),
        }
    }

    /// Starts only when the service of this name is ready, and stops before it. May be said of several.
    pub fn after(&mut self, service: &str) -> &mut Self {
        self.after.push(service.to_owned());
        self
    }

    /// How long it may take to become ready; 30 seconds unless it is set.
    pub fn start_within(&mut self, within: Duration) -> &mut Self {
        self.start_within = within;
        self
    }

    /// How long it may take to end when it is told to stop; 10 seconds unless it is set. Its future is dropped then.
    pub fn stop_within(&mut self, within: Duration) -> &mut Self {
        self.stop_within = within;
        self
    }

    /// Once ready, it may end by itself: it has done what it was there for. Otherwise that stops the program.
    pub fn may_end(&mut self) -> &mut Self {
        self.traits.may_end = true;
        self
    }

    /// It serves traffic: until it has stopped, the program drains. Its own time to stop is all that bounds it;
    /// [`Launcher::stop_within`] counts from there.
    pub fn drains(&mut self) -> &mut Self {
        self.traits.drains = true;
        self
    }
}

pub(super) struct InitializerEntry {
    pub(super) name: String,
    pub(super) work: Box<dyn Initializer>,
    pub(super) within: Duration,
}

pub(super) struct ServiceEntry {
    pub(super) options: ServiceOptions,
    pub(super) work: Box<dyn Service>,
}

/// A program's parts. Declaring runs nothing; see the module for what [`Launcher::run`] does.
pub struct Launcher {
    pub(super) initializers: Vec<InitializerEntry>,
    pub(super) services: Vec<ServiceEntry>,
    pub(super) checks: Vec<(CheckOptions, Rc<dyn HealthCheck>)>,
    pub(super) start_within: Duration,
    pub(super) stop_within: Duration,
    pub(super) linger: Duration,
    pub(super) overview: Rc<Overview>,
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|service| &service.options).collect();
        f.debug_struct("Launcher").field("services", &services).finish_non_exhaustive()
    }
}

impl Default for Launcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Launcher {
    /// A launcher of nothing.
    pub fn new() -> Self {
        Self {
            initializers: Vec::new(),
            services: Vec::new(),
            checks: Vec::new(),
            start_within: Duration::from_secs(LAUNCH_START_SECS),
            stop_within: Duration::from_secs(LAUNCH_STOP_SECS),
            linger: Duration::ZERO,
            overview: Rc::new(Overview::new()),
        }
    }

    /// Adds something that is done before any service starts, after the initializers before it, within 30 seconds.
    pub fn initializer(&mut self, name: &str, work: impl Initializer + 'static) -> &mut Self {
        self.initializer_within(name, Duration::from_secs(SERVICE_START_SECS), work)
    }

    /// The same, within a time of its own.
    pub fn initializer_within(&mut self, name: &str, within: Duration, work: impl Initializer + 'static) -> &mut Self {
        self.initializers.push(InitializerEntry { name: name.to_owned(), work: Box::new(work), within });
        self
    }

    /// Adds a service; what is returned says when it starts and how long it may take.
    pub fn service(&mut self, name: &str, work: impl Service + 'static) -> &mut ServiceOptions {
        self.services.push(ServiceEntry { options: ServiceOptions::new(name), work: Box::new(work) });
        let last = self.services.len() - 1;
        &mut self.services[last].options
    }

    /// Adds a health check; what is returned says how it is run. Checks run from when every service is ready.
    pub fn check(&mut self, name: &str, work: impl HealthCheck + 'static) -> &mut CheckOptions {
        self.checks.push((CheckOptions::new(name), Rc::new(work)));
        let last = self.checks.len() - 1;
        &mut self.checks[last].0
    }

    /// How long the whole start may take, initializers and all levels of services; 2 minutes unless it is set.
    pub fn start_within(&mut self, within: Duration) -> &mut Self {
        self.start_within = within;
        self
    }

    /// How long stopping all services may take, or rolling back a start, a drain aside; 1 minute unless it is set.
    pub fn stop_within(&mut self, within: Duration) -> &mut Self {
        self.stop_within = within;
        self
    }

    /// How much longer, when a signal came, everything runs on before the first service is told to stop; not at all unless
    /// it is set. The phase is `draining` meanwhile, so that whoever sends traffic can find out. In a program that serves, the
    /// config sets it (`server.timeouts.pre_stop_delay`).
    pub fn linger(&mut self, time: Duration) -> &mut Self {
        self.linger = time;
        self
    }

    /// The names of the services so far.
    pub fn service_names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.options.name.as_str())
    }

    /// Puts everything declared so far between two services that are declared later: it starts after `first`, and the names
    /// that `last` has to start after come back. What depends on `last`, through whomever, is not among them.
    pub(crate) fn enclose(&mut self, first: &str, last: &str) -> Vec<String> {
        let mut beyond = vec![last.to_owned()];
        let mut at = 0;
        while at < beyond.len() {
            for ServiceEntry { options, .. } in &self.services {
                if options.after.contains(&beyond[at]) && !beyond.contains(&options.name) {
                    beyond.push(options.name.clone());
                }
            }
            at += 1;
        }
        self.services.iter_mut().for_each(|service| _ = service.options.after(first));
        let names = self.service_names().filter(|name| !beyond.iter().any(|other| other == name));
        names.map(str::to_owned).collect()
    }

    /// What others may see of it while it runs.
    pub fn overview(&self) -> Rc<Overview> {
        self.overview.clone()
    }
}
