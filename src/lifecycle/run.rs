//! The launcher at work: polls the services' futures, minds their time, and does what the course decides.

use std::collections::BTreeSet;
use std::future::{Future, pending, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::contained::{self, Contained};
use super::course::{Course, Ending, Failed, Input, Phase, ServiceState, Step, Verdict};
use super::failure::{Failure, LaunchError, Outcome, Reason};
use super::graph::{Graph, Node, is_name};
use super::handle::{Handle, Stop, Wire};
use super::health;
use super::launcher::{InitializerEntry, Launcher, Service, ServiceEntry};
use super::overview::Overview;
use super::{REPLACED, Signal};
use crate::clock::{self, Moment};
use crate::rt::{self, Deadline, Either, Mailbox};

impl Launcher {
    /// Runs the program: initializes, starts, serves until a signal comes or a service fails, and stops. `watch` is told
    /// of each phase as it begins.
    ///
    /// # Errors
    /// See [`LaunchError`]; whatever had started has been stopped.
    pub async fn run(self, signals: &Mailbox<Signal>, watch: impl FnMut(Phase)) -> Result<(), LaunchError> {
        let Self { initializers, services, checks, start_within, stop_within, linger, overview } = self;
        let nodes =
            |entry: &ServiceEntry| Node { name: entry.options.name.clone(), after: entry.options.after.clone() };
        let graph = Graph::build(&services.iter().map(nodes).collect::<Vec<_>>()).map_err(LaunchError::Graph)?;
        check_names("initializers", initializers.iter().map(|entry| entry.name.as_str()))?;
        check_names("health checks", checks.iter().map(|(options, _)| options.name.as_str()))?;
        overview.set_services(services.iter().map(|entry| (entry.options.name.clone(), entry.options.after.clone())));
        let found = checks.len();
        if !overview.health().set(checks) {
            return Err(LaunchError::TooManyChecks { found });
        }
        let budget = Budget { until: clock::now() + start_within, total: start_within };
        initialize(initializers, signals, budget).await?;
        let traits = services.iter().map(|entry| entry.options.traits).collect();
        let mut run = Run {
            course: Course::new(graph, traits, linger > Duration::ZERO),
            slots: services.into_iter().map(Slot::new).collect(),
            checks: Vec::new(),
            inputs: Vec::new(),
            overview,
            watch,
            start: budget,
            stop: None,
            stop_within,
            linger,
            linger_until: Moment::NEVER,
            signal: None,
            told: 0,
        };
        run.drive(signals).await;
        run.conclude()
    }
}

fn check_names<'n>(kind: &'static str, names: impl Iterator<Item = &'n str>) -> Result<(), LaunchError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !is_name(name) || !seen.insert(name) {
            return Err(LaunchError::Name { kind, found: name.to_owned() });
        }
    }
    Ok(())
}

/// Time for all of them together.
#[derive(Debug, Clone, Copy)]
struct Budget {
    until: Moment,
    total: Duration,
}

impl Budget {
    /// When one of them is late that may take so long from now, and what to say then.
    fn limit(self, within: Duration) -> (Moment, Reason) {
        let own = clock::now() + within;
        if self.until < own {
            (self.until, Reason::BudgetSpent { total: self.total })
        } else {
            (own, Reason::TimedOut { within })
        }
    }
}

async fn next_signal(signals: &Mailbox<Signal>) -> Signal {
    match signals.next().await {
        Some(signal) => signal,
        // Nobody is left who could send one.
        None => pending().await,
    }
}

/// Runs the initializers in order.
async fn initialize(
    initializers: Vec<InitializerEntry>,
    signals: &Mailbox<Signal>,
    budget: Budget,
) -> Result<(), LaunchError> {
    for InitializerEntry { name, work, within } in initializers {
        let (until, late) = budget.limit(within);
        let running = async move {
            match contained::make(|| work.run()) {
                Ok(work) => Contained::new(work).await,
                Err(panic) => Err(panic),
            }
        };
        let reason = match rt::select(rt::timeout(until, running), next_signal(signals)).await {
            Either::First(Some(Ok(Ok(())))) => continue,
            Either::First(Some(Ok(Err(error)))) => Reason::Failed(error.to_string()),
            Either::First(Some(Err(panic))) => Reason::Panicked(panic),
            Either::First(None) => late,
            Either::Second(Signal(signal)) => {
                tracing::warn!(signal, initializer = name, "interrupted");
                return Err(LaunchError::Interrupted { signal, failures: Vec::new() });
            }
        };
        let error = LaunchError::Initializer { name, reason };
        tracing::error!(%error, "the start failed");
        return Err(error);
    }
    Ok(())
}

/// A service and what it is at.
struct Slot {
    name: String,
    service: Option<Box<dyn Service>>,
    work: Option<Contained<Outcome>>,
    wire: Rc<Wire>,
    start_within: Duration,
    stop_within: Duration,
    /// Its stop is a drain, which has its own time.
    drains: bool,
    /// When it is late, being started or stopped.
    until: Moment,
    late: Reason,
}

impl Slot {
    fn new(entry: ServiceEntry) -> Self {
        let ServiceEntry { options, work } = entry;
        Self {
            wire: Wire::new(options.name.clone()),
            name: options.name,
            service: Some(work),
            work: None,
            start_within: options.start_within,
            stop_within: options.stop_within,
            drains: options.traits.drains,
            until: Moment::NEVER,
            late: Reason::NotReady,
        }
    }

    /// What the service says or came to.
    fn poll(&mut self, index: usize, state: ServiceState, cx: &mut Context<'_>, inputs: &mut Vec<Input>) {
        let Some(work) = self.work.as_mut() else { return };
        self.wire.listen(cx.waker());
        let polled = Pin::new(work).poll(cx);
        // What it said comes before its end.
        let is_ready = self.wire.take_ready();
        if is_ready {
            inputs.push(Input::Ready(index));
        }
        inputs.extend(self.wire.take_gave().map(|reason| Input::Gave(index, reason)));
        let ending = match polled {
            Poll::Ready(Ok(Ok(()))) => Ending::Left,
            Poll::Ready(Ok(Err(error))) => Ending::Failed(error.to_string()),
            Poll::Ready(Err(panic)) => Ending::Panicked(panic),
            Poll::Pending if !self.wire.is_let_go() => return,
            Poll::Pending => match state {
                ServiceState::Starting if !is_ready => Ending::LetGo,
                // It cannot hear of the stop that it was told.
                ServiceState::Stopping => Ending::Left,
                ServiceState::Starting
                | ServiceState::Waiting
                | ServiceState::Ready
                | ServiceState::Stopped
                | ServiceState::Failed => return,
            },
        };
        let ending = match self.work.take().map_or(Ok(()), Contained::abandon) {
            Ok(()) => ending,
            Err(panic) => Ending::Panicked(panic),
        };
        inputs.push(Input::Ended(index, ending));
    }
}

struct Run<W> {
    course: Course,
    slots: Vec<Slot>,
    checks: Vec<Contained<()>>,
    /// What steps have led to.
    inputs: Vec<Input>,
    overview: Rc<Overview>,
    watch: W,
    start: Budget,
    /// Begins with the first service that is told to stop and does not drain.
    stop: Option<Budget>,
    stop_within: Duration,
    linger: Duration,
    linger_until: Moment,
    /// The last signal.
    signal: Option<&'static str>,
    /// Failures that have been logged.
    told: usize,
}

impl<W: FnMut(Phase)> Run<W> {
    /// Until nothing runs any more.
    async fn drive(&mut self, signals: &Mailbox<Signal>) {
        let steps = self.course.begin();
        self.act(steps);
        let deadline = Deadline::new();
        let mut signal = Box::pin(next_signal(signals));
        let mut has_news = false;
        poll_fn(|cx| {
            loop {
                self.poll_services(cx);
                if let Poll::Ready(Signal(name)) = signal.as_mut().poll(cx) {
                    signal.set(next_signal(signals));
                    self.note_signal(name);
                }
                self.look_at_time();
                for input in mem::take(&mut self.inputs) {
                    let steps = self.course.take(input);
                    self.act(steps);
                    has_news = true;
                }
                if self.course.is_over() {
                    return Poll::Ready(());
                }
                // What was done may have led to more: a service that was started or told to stop has not been polled.
                if mem::take(&mut has_news) || !self.inputs.is_empty() {
                    continue;
                }
                self.poll_checks(cx);
                deadline.set(self.next_moment());
                if deadline.poll_due(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    fn poll_services(&mut self, cx: &mut Context<'_>) {
        for index in 0..self.slots.len() {
            let state = self.course.state(index);
            self.slots[index].poll(index, state, cx, &mut self.inputs);
        }
    }

    /// Checks never end; one whose task panicked outside its own work would be shown by the age of its result.
    fn poll_checks(&mut self, cx: &mut Context<'_>) {
        for check in &mut self.checks {
            let _ = Pin::new(check).poll(cx);
        }
    }

    fn note_signal(&mut self, name: &'static str) {
        if Signal(name) == REPLACED && self.course.phase() != Phase::Serving {
            return;
        }
        match self.course.phase() {
            Phase::Initializing | Phase::Starting => tracing::warn!(signal = name, "the start is interrupted"),
            Phase::Serving => tracing::info!(signal = name, "stopping"),
            Phase::RollingBack | Phase::Draining | Phase::Stopping | Phase::Stopped if self.signal.is_none() => {
                tracing::info!(signal = name, "it stops already");
            }
            Phase::RollingBack | Phase::Draining | Phase::Stopping | Phase::Stopped => {
                tracing::warn!(signal = name, "stopping at once");
            }
        }
        self.signal = Some(name);
        self.inputs.push(Input::Signal);
    }

    fn look_at_time(&mut self) {
        let now = clock::now();
        if self.linger_until <= now {
            self.linger_until = Moment::NEVER;
            self.inputs.push(Input::Lingered);
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.until <= now {
                slot.until = Moment::NEVER;
                self.inputs.push(Input::Late(index, slot.late.clone()));
            }
        }
    }

    fn next_moment(&self) -> Moment {
        self.slots.iter().map(|slot| slot.until).fold(self.linger_until, Moment::min)
    }

    fn act(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Start(index) => self.start(index),
                Step::Stop(index) => self.tell_stop(index),
                Step::Drop(index) => self.abandon(index),
                Step::Linger => self.linger_until = clock::now() + self.linger,
            }
        }
        self.tell_failures();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let state = self.course.state(index);
            if !matches!(state, ServiceState::Starting | ServiceState::Stopping) {
                slot.until = Moment::NEVER;
            }
            self.overview.set_state(index, state);
        }
        let phase = self.course.phase();
        if self.overview.set_phase(phase) {
            if phase == Phase::Serving {
                self.checks = health::run_checks(&self.overview);
            }
            (self.watch)(phase);
        }
    }

    fn start(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        (slot.until, slot.late) = self.start.limit(slot.start_within);
        let handle = Handle::new(slot.wire.clone());
        let service = slot.service.take();
        match contained::make(|| service.map(|service| service.run(handle))) {
            Ok(work) => slot.work = work.map(Contained::new),
            Err(panic) => self.inputs.push(Input::Ended(index, Ending::Panicked(panic))),
        }
    }

    fn tell_stop(&mut self, index: usize) {
        let (slot, total) = (&mut self.slots[index], self.stop_within);
        let budget = match slot.drains {
            true => Budget { until: Moment::NEVER, total },
            false => *self.stop.get_or_insert_with(|| Budget { until: clock::now() + total, total }),
        };
        (slot.until, slot.late) = budget.limit(slot.stop_within);
        slot.wire.tell(Stop { until: slot.until, signal: self.signal });
    }

    fn abandon(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.until = Moment::NEVER;
        tracing::warn!(service = slot.name, "a service is abandoned");
        if let Some(Err(panic)) = slot.work.take().map(Contained::abandon) {
            tracing::error!(service = slot.name, panic, "an abandoned service panicked");
        }
    }

    /// Logs the failures that are new.
    fn tell_failures(&mut self) {
        for failed in &self.course.failed()[self.told..] {
            let error = self.describe(failed);
            tracing::error!(culprit = error.service, during = failed.during.name(), %error, "a service failed");
            self.overview.set_failure(failed.service, error.to_string());
        }
        self.told = self.course.failed().len();
    }

    fn describe(&self, failed: &Failed) -> Failure {
        let Failed { service, during, reason, waited } = failed;
        let name = |index: &usize| self.slots[*index].name.clone();
        let waited = waited.iter().map(name).collect();
        Failure { service: name(service), during: *during, reason: reason.clone(), waited }
    }

    fn conclude(self) -> Result<(), LaunchError> {
        let failures: Vec<_> = self.course.failed().iter().map(|failed| self.describe(failed)).collect();
        let signal = self.signal.unwrap_or_default();
        match self.course.verdict() {
            Verdict::Cut(running) => {
                let running = running.iter().map(|&index| self.slots[index].name.clone()).collect();
                Err(LaunchError::Cut { signal, running })
            }
            Verdict::Interrupted => Err(LaunchError::Interrupted { signal, failures }),
            Verdict::Done if failures.is_empty() => Ok(()),
            Verdict::Done => Err(LaunchError::Failed { failures }),
        }
    }
}
