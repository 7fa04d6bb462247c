//! What others may see of a launcher while it runs: the phase, since when, and each service's state.

use std::cell::{Cell, Ref, RefCell};

use super::course::{Phase, ServiceState};
use super::health::Health;
use crate::clock::{self, Moment};

/// A service as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Those that it starts after.
    pub after: Vec<String>,
    /// Its state.
    pub state: ServiceState,
    /// Since when it has been in it.
    pub since: Moment,
    /// Why it failed, when it did.
    pub failure: Option<String>,
}

/// A launcher seen from outside, on its own thread. It outlives the launcher.
#[derive(Debug)]
pub struct Overview {
    phase: Cell<(Phase, Moment)>,
    services: RefCell<Vec<ServiceView>>,
    health: Health,
}

impl Overview {
    pub(super) fn new() -> Self {
        let phase = Cell::new((Phase::Initializing, clock::now()));
        Self { phase, services: RefCell::default(), health: Health::default() }
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase.get().0
    }

    /// When it began.
    pub fn phase_since(&self) -> Moment {
        self.phase.get().1
    }

    /// The services, in the order in which they were declared; none before the launcher runs.
    pub fn services(&self) -> Ref<'_, [ServiceView]> {
        Ref::map(self.services.borrow(), Vec::as_slice)
    }

    /// The health checks.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Moves to another phase; whether it is another.
    pub(super) fn set_phase(&self, phase: Phase) -> bool {
        let (was, since) = self.phase.get();
        if was == phase {
            return false;
        }
        let now = clock::now();
        let after_seconds = now.since(since).as_secs_f64();
        tracing::info!(phase = phase.name(), was = was.name(), after_seconds, "the phase changes");
        self.phase.set((phase, now));
        true
    }

    pub(super) fn set_services(&self, services: impl Iterator<Item = (String, Vec<String>)>) {
        let now = clock::now();
        let view = |(name, after)| ServiceView { name, after, state: ServiceState::Waiting, since: now, failure: None };
        *self.services.borrow_mut() = services.map(view).collect();
    }

    pub(super) fn set_state(&self, service: usize, state: ServiceState) {
        let mut services = self.services.borrow_mut();
        let view = &mut services[service];
        if view.state != state {
            (view.state, view.since) = (state, clock::now());
            tracing::debug!(service = view.name, state = state.name(), "a service's state changes");
        }
    }

    /// The first failure counts.
    pub(super) fn set_failure(&self, service: usize, failure: String) {
        self.services.borrow_mut()[service].failure.get_or_insert(failure);
    }
}
