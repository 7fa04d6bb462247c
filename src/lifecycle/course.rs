//! What a launcher decides: which services start and stop, in which order, and what a failure means. Pure: events come in,
//! steps come out; no clock, no futures.

use super::failure::{During, Reason};
use super::graph::Graph;

/// Where the program is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Initializers run.
    Initializing,
    /// Services start.
    Starting,
    /// A start failed or was interrupted: what had started stops again.
    RollingBack,
    /// Every service is ready.
    Serving,
    /// A stop has begun; traffic is still served, or finished.
    Draining,
    /// The other services stop.
    Stopping,
    /// Nothing runs any more.
    Stopped,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Initializing,
        Self::Starting,
        Self::RollingBack,
        Self::Serving,
        Self::Draining,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The name in answers, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Starting => "starting",
            Self::RollingBack => "rolling_back",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// Where one service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// What it depends on is not ready; or the program stopped before it was.
    Waiting,
    /// It runs, and has not said that it is ready.
    Starting,
    /// It has said so.
    Ready,
    /// It was told to stop.
    Stopping,
    /// It has ended as it should.
    Stopped,
    /// It has ended otherwise, or was abandoned.
    Failed,
}

impl ServiceState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Starting, Self::Ready, Self::Stopping, Self::Stopped, Self::Failed];

    /// The name in answers, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// Whether its future is there to be polled.
    pub(super) const fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Ready | Self::Stopping)
    }
}

/// What kind of service it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traits {
    /// It may end by itself, once it was ready.
    pub(super) may_end: bool,
    /// While it stops, traffic drains.
    pub(super) drains: bool,
}

/// How a service's future ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Without an error.
    Left,
    /// With this one.
    Failed(String),
    /// In a panic.
    Panicked(String),
    /// It goes on, but cannot say any more that it is ready: its handle is gone.
    LetGo,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// A service says that it is ready.
    Ready(usize),
    /// A service says that it cannot go on, but has to be stopped in its turn.
    Gave(usize, String),
    /// A service's future ended.
    Ended(usize, Ending),
    /// A service had no more time to become ready, or to stop.
    Late(usize, Reason),
    /// A signal to stop.
    Signal,
    /// The time before the stop in which traffic is still served is over.
    Lingered,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Run this service.
    Start(usize),
    /// Tell this service to stop.
    Stop(usize),
    /// Drop this service's future: it did not stop, or nobody waits.
    Drop(usize),
    /// Serve on for a while.
    Linger,
}

/// A service that failed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) service: usize,
    pub(super) during: During,
    pub(super) reason: Reason,
    /// Services that had not started and never will, for want of it.
    pub(super) waited: Vec<usize>,
}

/// How it came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A signal stopped it, or it had nothing to do.
    Done,
    /// A signal came before every service was ready.
    Interrupted,
    /// A second signal came while these still ran.
    Cut(Vec<usize>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// This level and lower ones have been started.
    Up(usize),
    Serving,
    Lingering,
    /// This level and higher ones have been told to stop.
    Down {
        level: usize,
        is_rollback: bool,
    },
    Over,
}

/// One program's way up and down.
#[derive(Debug)]
pub(super) struct Course {
    graph: Graph,
    traits: Vec<Traits>,
    states: Vec<ServiceState>,
    way: Way,
    lingers: bool,
    signals: u32,
    failed: Vec<Failed>,
    verdict: Verdict,
}

impl Course {
    /// `lingers`: it serves on for a while when a signal tells it to stop.
    pub(super) fn new(graph: Graph, traits: Vec<Traits>, lingers: bool) -> Self {
        let states = vec![ServiceState::Waiting; graph.len()];
        let (failed, verdict) = (Vec::new(), Verdict::Done);
        Self { graph, traits, states, way: Way::Up(0), lingers, signals: 0, failed, verdict }
    }

    pub(super) fn state(&self, service: usize) -> ServiceState {
        self.states[service]
    }

    pub(super) fn failed(&self) -> &[Failed] {
        &self.failed
    }

    pub(super) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(super) fn is_over(&self) -> bool {
        self.way == Way::Over
    }

    pub(super) fn phase(&self) -> Phase {
        let is_draining = || (0..self.states.len()).any(|at| self.traits[at].drains && self.states[at].is_alive());
        match self.way {
            Way::Up(_) => Phase::Starting,
            Way::Serving => Phase::Serving,
            Way::Lingering => Phase::Draining,
            Way::Down { is_rollback: true, .. } => Phase::RollingBack,
            Way::Down { is_rollback: false, .. } if is_draining() => Phase::Draining,
            Way::Down { is_rollback: false, .. } => Phase::Stopping,
            Way::Over => Phase::Stopped,
        }
    }

    /// The first steps.
    pub(super) fn begin(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.rise(&mut steps);
        steps
    }

    /// Takes in what happened. What cannot have happened in the service's state changes nothing: news may cross.
    pub(super) fn take(&mut self, input: Input) -> Vec<Step> {
        let mut steps = Vec::new();
        match input {
            Input::Ready(service) => {
                if self.states[service] == ServiceState::Starting {
                    self.states[service] = ServiceState::Ready;
                    self.rise(&mut steps);
                }
            }
            Input::Gave(service, reason) => {
                if self.states[service].is_alive() {
                    self.fail(service, Reason::Failed(reason));
                    self.turn_down(&mut steps);
                }
            }
            Input::Ended(service, ending) => self.take_end(service, ending, &mut steps),
            Input::Late(service, reason) => self.take_late(service, reason, &mut steps),
            Input::Signal => self.take_signal(&mut steps),
            Input::Lingered => {
                if self.way == Way::Lingering {
                    self.turn_down(&mut steps);
                }
            }
        }
        steps
    }

    fn take_end(&mut self, service: usize, ending: Ending, steps: &mut Vec<Step>) {
        let traits = self.traits[service];
        let is_going_down = matches!(self.way, Way::Down { .. } | Way::Over);
        let reason = match (self.states[service], ending) {
            (ServiceState::Waiting | ServiceState::Stopped | ServiceState::Failed, _) => return,
            // Nothing is lost with the handle but the means to hear of the stop.
            (ServiceState::Ready | ServiceState::Stopping, Ending::LetGo) => return,
            (_, Ending::Panicked(message)) => Some(Reason::Panicked(message)),
            // Whoever failed already has said why; that it ends in an error too is no further news.
            (ServiceState::Stopping, Ending::Failed(error)) => {
                Some(Reason::Failed(error)).filter(|_| !self.has_failed(service))
            }
            (_, Ending::Failed(error)) => Some(Reason::Failed(error)),
            (ServiceState::Starting, Ending::Left) => Some(Reason::NotReady),
            (ServiceState::Starting, Ending::LetGo) => Some(Reason::LetGo),
            (ServiceState::Ready, Ending::Left) if traits.may_end || is_going_down => None,
            (ServiceState::Ready, Ending::Left) => Some(Reason::Left),
            (ServiceState::Stopping, Ending::Left) => None,
        };
        let has_failed = reason.is_some();
        if let Some(reason) = reason {
            self.fail(service, reason);
        }
        self.states[service] = if self.has_failed(service) { ServiceState::Failed } else { ServiceState::Stopped };
        if has_failed {
            self.turn_down(steps);
        }
        self.rise(steps);
        self.fall(steps);
    }

    fn take_late(&mut self, service: usize, reason: Reason, steps: &mut Vec<Step>) {
        match self.states[service] {
            ServiceState::Starting => {
                self.fail(service, reason);
                // It is told to stop with the others, and has the time for it that it always has.
                self.turn_down(steps);
            }
            ServiceState::Stopping => {
                self.fail(service, reason);
                self.states[service] = ServiceState::Failed;
                steps.push(Step::Drop(service));
                self.fall(steps);
            }
            ServiceState::Waiting | ServiceState::Ready | ServiceState::Stopped | ServiceState::Failed => {}
        }
    }

    fn take_signal(&mut self, steps: &mut Vec<Step>) {
        self.signals += 1;
        match self.way {
            Way::Over => {}
            _ if self.signals > 1 => {
                let highest_first = self.graph.levels().iter().rev().flatten().copied();
                let running: Vec<usize> = highest_first.filter(|&at| self.states[at].is_alive()).collect();
                for &service in &running {
                    self.states[service] = ServiceState::Failed;
                    steps.push(Step::Drop(service));
                }
                self.verdict = Verdict::Cut(running);
                self.way = Way::Over;
            }
            Way::Up(_) => {
                self.verdict = Verdict::Interrupted;
                self.turn_down(steps);
            }
            Way::Serving if self.lingers => {
                self.way = Way::Lingering;
                steps.push(Step::Linger);
            }
            Way::Serving => self.turn_down(steps),
            // It stops already, for another reason.
            Way::Lingering | Way::Down { .. } => {}
        }
    }

    fn has_failed(&self, service: usize) -> bool {
        self.failed.iter().any(|failed| failed.service == service)
    }

    fn fail(&mut self, service: usize, reason: Reason) {
        let during = match self.states[service] {
            ServiceState::Waiting | ServiceState::Starting => During::Start,
            ServiceState::Ready => During::Run,
            ServiceState::Stopping | ServiceState::Stopped | ServiceState::Failed => During::Stop,
        };
        let mut waited = self.graph.dependents(service);
        waited.retain(|&at| during == During::Start && self.states[at] == ServiceState::Waiting);
        self.failed.push(Failed { service, during, reason, waited });
    }

    /// Starts what may start now.
    fn rise(&mut self, steps: &mut Vec<Step>) {
        while let Way::Up(level) = self.way {
            let Some(services) = self.graph.levels().get(level) else {
                self.way = Way::Serving;
                return;
            };
            for &service in services {
                if self.states[service] == ServiceState::Waiting {
                    self.states[service] = ServiceState::Starting;
                    steps.push(Step::Start(service));
                }
            }
            if services.iter().any(|&service| self.states[service] == ServiceState::Starting) {
                return;
            }
            self.way = Way::Up(level + 1);
        }
    }

    /// From here on everything stops.
    fn turn_down(&mut self, steps: &mut Vec<Step>) {
        let highest = self.graph.levels().len().saturating_sub(1);
        let (level, is_rollback) = match self.way {
            Way::Up(level) => (level.min(highest), true),
            Way::Serving | Way::Lingering => (highest, false),
            Way::Down { .. } | Way::Over => return self.fall(steps),
        };
        self.way = if self.graph.len() == 0 { Way::Over } else { Way::Down { level, is_rollback } };
        self.fall(steps);
    }

    /// Stops what may stop now.
    fn fall(&mut self, steps: &mut Vec<Step>) {
        while let Way::Down { level, is_rollback } = self.way {
            let services = &self.graph.levels()[level];
            for &service in services {
                if matches!(self.states[service], ServiceState::Starting | ServiceState::Ready) {
                    self.states[service] = ServiceState::Stopping;
                    steps.push(Step::Stop(service));
                }
            }
            if services.iter().any(|&service| self.states[service] == ServiceState::Stopping) {
                return;
            }
            self.way = match level.checked_sub(1) {
                Some(level) => Way::Down { level, is_rollback },
                None => Way::Over,
            };
        }
    }
}

#[cfg(test)]
mod tests;
