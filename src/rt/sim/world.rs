//! Tasks, cores and time: what runs next is chosen by the seed, and time jumps to what is due next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::disk::Stored;
use super::network::Network;
use super::random::Random;
use super::trace::Trace;
use super::wire::Tapped;
use super::{CoreOptions, Joined, Options, Report};
use crate::clock::{self, Moment, Source};
use crate::rt::{Driver, Executor, core};

/// Wall-clock time at the world's beginning: dates in answers are the same in every run.
pub(super) const EPOCH: Duration = Duration::from_secs(1_800_000_000);
/// The main future's core: it has no sockets of its own.
const OUTSIDE: usize = 0;
/// Nanoseconds that a poll takes, at most.
const POLL_NANOS_MAX: u64 = 5_000;
/// Nanoseconds that a pause takes, at most.
const PAUSE_NANOS_MAX: u64 = 5_000_000;
/// A task that is polled so often within [`SPIN_WINDOW`] without moving a byte spins.
const SPIN_POLLS_MAX: u32 = 5_000;
const SPIN_WINDOW: Duration = Duration::from_millis(100);

type Work = Pin<Box<dyn Future<Output = ()>>>;
pub(super) type Check = Box<dyn FnMut() -> Result<(), String>>;

pub(super) struct TaskWaker {
    id: usize,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

struct Task {
    /// Taken out while it is polled.
    work: Option<Work>,
    waker: Arc<TaskWaker>,
    core: usize,
    /// Polls since the window began or the task last moved a byte.
    polls: u32,
    window: Moment,
    /// The connection for which it was told, in its last poll, to wait for a receive buffer.
    parked: Option<usize>,
}

/// A core's state while it does not run.
pub(super) struct SimCore {
    pub(super) options: CoreOptions,
    /// Of the facade.
    pub(super) state: core::Core,
    /// Receive buffers that nobody has.
    pub(super) free: usize,
    /// Receive buffers that are out of reach for a while.
    pub(super) withheld: usize,
    /// Receive buffers that are filled and not seen, and that are leased: counted anew after each step.
    pub(super) busy: (usize, usize),
    /// Since when tasks have waited for a buffer while some were free.
    pub(super) neglects_since: Option<Moment>,
    /// Connections that it accepted and has not closed.
    pub(super) open: usize,
    /// Connections that it made and has not closed.
    pub(super) outward: usize,
    /// The task whose end is the core's.
    root: usize,
    /// Until when its thread stands still.
    frozen_until: Moment,
    pub(super) ended: bool,
}

impl SimCore {
    /// Whether its thread stands still.
    pub(super) fn is_frozen(&self, now: Moment) -> bool {
        now < self.frozen_until
    }
}

pub(super) struct World {
    pub(super) options: Options,
    pub(super) now: Moment,
    pub(super) random: Random,
    pub(super) network: Network,
    pub(super) cores: Vec<SimCore>,
    pub(super) disk: BTreeMap<String, Rc<Stored>>,
    /// What the test has not looked at yet; `None` when it does not listen.
    pub(super) tap: Option<Vec<Tapped>>,
    /// No shortage of buffers before this.
    pub(super) next_shortage: Moment,
    pub(super) quiet_checks: Vec<Check>,
    /// Nothing has happened since the quiet checks.
    is_quiet: bool,
    trace: Trace,
    tasks: Vec<Option<Task>>,
    ready: Arc<Mutex<Vec<usize>>>,
    /// The task that is being polled.
    current: Option<usize>,
    failure: Option<String>,
    checks: Vec<Check>,
    steps: u64,
}

enum Step {
    Poll(usize),
    Fire(usize),
    Event,
    Quiet,
    Stop,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Looks at the thread's world.
pub(super) fn with<T>(work: impl FnOnce(&mut World) -> T) -> T {
    try_with(work).expect("this thread is in a world")
}

/// As [`with`]; `None` when there is no world, or it is coming to its end.
pub(super) fn try_with<T>(work: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.try_with(|world| world.borrow_mut().as_mut().map(work)).ok().flatten()
}

pub(super) fn run<F, T>(options: Options, main: impl FnOnce() -> F) -> Report<T>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    WORLD.set(Some(World::new(options)));
    let joined = Joined::new();
    let told = Joined(joined.0.clone());
    with(|world| world.set_time(Moment::from_nanos(1_000_000)));
    let main = main();
    with(|world| {
        let outside = CoreOptions { style: super::Style::Readiness, buffers: 0, buffer_bytes: 0 };
        world.start_core(outside, |_| Box::pin(async move { told.set(main.await) }));
    });
    drive();
    let left = with(|world| std::mem::take(&mut world.tasks));
    // By core, for their deadlines are their core's.
    for task in left.into_iter().flatten() {
        enter(task.core);
        drop(task.work);
        leave(task.core);
    }
    let world = WORLD.take().expect("put there above");
    clock::set_source(Source::System);
    let outcome = match (world.failure, joined.0.borrow_mut().outcome.take()) {
        (Some(failure), _) => Err(failure),
        (None, Some(outcome)) => Ok(outcome),
        (None, None) => Err("the main future did not end".to_owned()),
    };
    let (trace, trace_lines, hash) = world.trace.finish();
    Report { outcome, trace, trace_lines, hash, steps: world.steps, elapsed: world.now.since(Moment::from_nanos(0)) }
}

fn drive() {
    loop {
        match with(World::choose) {
            Step::Poll(id) => poll(id),
            Step::Fire(index) => {
                enter(index);
                core::wake_yielded();
                core::fire_timers();
                core::retry_parked();
                leave(index);
            }
            Step::Event => with(World::apply_event),
            Step::Quiet => {
                with(World::check_quiet);
                run_checks(|world| &mut world.quiet_checks);
                continue;
            }
            Step::Stop => return,
        }
        with(World::check_step);
        run_checks(|world| &mut world.checks);
    }
}

/// Puts a core's state in the thread's place.
fn enter(index: usize) {
    with(|world| core::swap(&mut world.cores[index].state));
}

/// Takes it back.
fn leave(index: usize) {
    with(|world| core::swap(&mut world.cores[index].state));
}

fn poll(id: usize) {
    let Some((mut work, waker, index)) = with(|world| world.begin_poll(id)) else { return };
    enter(index);
    let waker = Waker::from(waker);
    let result = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(&waker))));
    let ended = !matches!(result, Ok(Poll::Pending));
    if ended {
        // While its core's state is in place: its deadlines go back to it.
        drop(work);
    } else {
        with(|world| world.put_back(id, work));
    }
    leave(index);
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        with(|world| world.fail(format!("task {id} panicked: {}", text.unwrap_or_default())));
    }
    if with(|world| world.end_poll(id, ended)) {
        reap(index);
    }
}

/// Drops a core's tasks after its end, and looks whether it gave everything back.
fn reap(index: usize) {
    let tasks = with(|world| world.take_tasks(index));
    enter(index);
    drop(tasks);
    let leased = core::stats().buffers_in_use;
    let timers = core::with_timers(|timers| timers.live()).unwrap_or(0);
    leave(index);
    with(|world| world.check_ended_core(index, leased, timers));
}

fn run_checks(which: impl Fn(&mut World) -> &mut Vec<Check>) {
    let mut checks = with(|world| std::mem::take(which(world)));
    for check in &mut checks {
        if let Err(cause) = check() {
            with(|world| world.fail(cause));
        }
    }
    with(|world| which(world).append(&mut checks));
}

impl World {
    fn new(options: Options) -> Self {
        Self {
            options,
            now: Moment::default(),
            random: Random::new(options.seed),
            network: Network::default(),
            cores: Vec::new(),
            disk: BTreeMap::new(),
            tap: None,
            next_shortage: Moment::default(),
            quiet_checks: Vec::new(),
            is_quiet: false,
            trace: Trace::new(options.trace_lines),
            tasks: Vec::new(),
            ready: Arc::default(),
            current: None,
            failure: None,
            checks: Vec::new(),
            steps: 0,
        }
    }

    pub(super) fn note(&mut self, event: Arguments<'_>) {
        self.trace.note(self.now, event);
    }

    pub(super) fn fail(&mut self, cause: String) {
        self.note(format_args!("FAILED: {cause}"));
        self.failure.get_or_insert(cause);
    }

    pub(super) fn add_check(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn set_time(&mut self, now: Moment) {
        self.now = now;
        clock::set_source(Source::Simulated { now, epoch: EPOCH });
        clock::refresh();
    }

    pub(super) fn spawn(&mut self, work: Work) -> usize {
        let core = self.current_core();
        self.spawn_on(core, work)
    }

    fn spawn_on(&mut self, core: usize, work: Work) -> usize {
        let id = self.tasks.len();
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: self.ready.clone() });
        waker.wake_by_ref();
        self.tasks.push(Some(Task { work: Some(work), waker, core, polls: 0, window: self.now, parked: None }));
        id
    }

    /// The core that runs now.
    pub(super) fn current_core(&self) -> usize {
        let current = self.current.and_then(|id| self.tasks[id].as_ref());
        current.map_or(OUTSIDE, |task| task.core)
    }

    pub(super) fn start_core(&mut self, options: CoreOptions, main: impl FnOnce(usize) -> Work) {
        let index = self.cores.len();
        let mut state = core::Core::default();
        core::swap(&mut state);
        core::start(Executor::default(), Driver::IoUring, options.buffers, options.buffer_bytes);
        core::swap(&mut state);
        let root = self.spawn_on(index, main(index));
        let (free, withheld) = (options.buffers, 0);
        self.cores.push(SimCore {
            options,
            state,
            free,
            withheld,
            busy: (0, 0),
            neglects_since: None,
            open: 0,
            outward: 0,
            root,
            frozen_until: Moment::default(),
            ended: false,
        });
        self.note(format_args!("core {index} starts: {options:?}"));
    }

    /// The task that runs has got something done.
    pub(super) fn progress(&mut self) {
        let now = self.now;
        if let Some(task) = self.current.and_then(|id| self.tasks[id].as_mut()) {
            (task.polls, task.window) = (0, now);
        }
    }

    /// The task that runs was told to wait for a receive buffer, for this connection.
    pub(super) fn park_current(&mut self, connection: usize) {
        if let Some(task) = self.current.and_then(|id| self.tasks[id].as_mut()) {
            task.parked = Some(connection);
        }
    }

    /// Tasks that wait for a receive buffer and that nothing has woken: for which connection, on which core.
    pub(super) fn parked_tasks(&self) -> Vec<(usize, usize, Arc<TaskWaker>)> {
        let tasks = self.tasks.iter().flatten().filter(|task| !task.waker.queued.load(Ordering::Relaxed));
        tasks.filter_map(|task| Some((task.parked?, task.core, task.waker.clone()))).collect()
    }

    /// Connections of which a task was told to wait for a receive buffer, woken since or not.
    pub(super) fn parked_connections(&self) -> impl Iterator<Item = usize> {
        self.tasks.iter().flatten().filter_map(|task| task.parked)
    }

    fn choose(&mut self) -> Step {
        let step = self.choose_next();
        self.is_quiet = matches!(step, Step::Quiet);
        step
    }

    fn choose_next(&mut self) -> Step {
        if self.failure.is_some() || self.cores[OUTSIDE].ended {
            return Step::Stop;
        }
        self.steps += 1;
        if self.steps > self.options.steps_max {
            self.fail(format!("no end after {} steps", self.options.steps_max));
            return Step::Stop;
        }
        if !self.tasks.is_empty() && self.random.chance(self.options.faults.spurious_polls) {
            let id = self.random.index(self.tasks.len());
            if let Some(task) = &self.tasks[id] {
                task.waker.wake_by_ref();
            }
        }
        self.perhaps_withhold();
        loop {
            let ready = self.count_ready();
            let event = self.network.next_at().filter(|at| *at <= self.now);
            let timer = self.due_core();
            // Tasks first more often than not: a real core runs them all before it looks at what came.
            if ready > 0 && (self.random.chance(600) || (event.is_none() && timer.is_none())) {
                let at = self.random.index(ready);
                return Step::Poll(self.take_ready(at));
            }
            match (event, timer) {
                (Some(_), Some(core)) if self.random.chance(500) => return Step::Fire(core),
                (Some(_), _) => return Step::Event,
                (None, Some(core)) => return Step::Fire(core),
                (None, None) if ready > 0 => {}
                (None, None) if !self.is_quiet => return Step::Quiet,
                (None, None) => {
                    self.is_quiet = false;
                    if !self.advance() {
                        return Step::Stop;
                    }
                }
            }
        }
    }

    pub(super) fn freeze(&mut self, core: usize, length: Duration) {
        self.note(format_args!("core {core} stands still for {length:?}"));
        self.cores[core].frozen_until = self.now + length;
    }

    /// Whether this task's core runs.
    fn runs(&self, id: usize) -> bool {
        self.tasks[id].as_ref().is_none_or(|task| !self.cores[task.core].is_frozen(self.now))
    }

    fn count_ready(&self) -> usize {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cores.iter().any(|core| core.is_frozen(self.now)) {
            return ready.iter().filter(|id| self.runs(**id)).count();
        }
        ready.len()
    }

    /// Takes the `at`th of the tasks that can run.
    fn take_ready(&self, at: usize) -> usize {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let place = if self.cores.iter().any(|core| core.is_frozen(self.now)) {
            ready.iter().enumerate().filter(|(_, id)| self.runs(**id)).nth(at).map_or(at, |(place, _)| place)
        } else {
            at
        };
        ready.swap_remove(place)
    }

    /// A core whose timers have something to do now.
    fn due_core(&self) -> Option<usize> {
        let due = |core: &SimCore| {
            !core.is_frozen(self.now) && core.state.next_due(self.now).is_some_and(|at| at <= self.now)
        };
        self.cores.iter().position(due)
    }

    /// Moves time to what comes next; false when that is nothing, or too late.
    fn advance(&mut self) -> bool {
        let timers = self.cores.iter().filter_map(|core| {
            if core.is_frozen(self.now) { Some(core.frozen_until) } else { core.state.next_due(self.now) }
        });
        let Some(next) = timers.chain(self.network.next_at()).min().filter(|at| *at < Moment::NEVER) else {
            self.fail("nothing will ever happen again, and the main future waits".to_owned());
            return false;
        };
        if next.since(Moment::default()) > self.options.time_max {
            self.fail(format!("no end after {:?}", self.options.time_max));
            return false;
        }
        self.set_time(next);
        true
    }

    fn begin_poll(&mut self, id: usize) -> Option<(Work, Arc<TaskWaker>, usize)> {
        let mut took = self.random.below(POLL_NANOS_MAX);
        if self.random.chance(self.options.faults.pauses) {
            took += self.random.below(PAUSE_NANOS_MAX);
        }
        self.set_time(self.now + Duration::from_nanos(took));
        self.trace.hash(&(id as u32).to_le_bytes());
        let task = self.tasks[id].as_mut()?;
        task.waker.queued.store(false, Ordering::Relaxed);
        task.parked = None;
        let work = task.work.take()?;
        if self.now.since(task.window) > SPIN_WINDOW {
            (task.polls, task.window) = (0, self.now);
        }
        task.polls += 1;
        let (waker, core, spins) = (task.waker.clone(), task.core, task.polls > SPIN_POLLS_MAX);
        self.current = Some(id);
        if spins {
            self.fail(format!("task {id} spins: {SPIN_POLLS_MAX} polls within {SPIN_WINDOW:?} and not a byte moved"));
        }
        Some((work, waker, core))
    }

    fn put_back(&mut self, id: usize, work: Work) {
        if let Some(task) = &mut self.tasks[id] {
            task.work = Some(work);
        }
    }

    /// True when this was the end of a core.
    fn end_poll(&mut self, id: usize, ended: bool) -> bool {
        self.current = None;
        if !ended {
            return false;
        }
        let Some(task) = self.tasks[id].take() else { return false };
        let core = &mut self.cores[task.core];
        core.ended |= core.root == id;
        core.ended
    }

    fn take_tasks(&mut self, core: usize) -> Vec<Task> {
        let of_core = |task: &mut Task| task.core == core;
        self.tasks.iter_mut().filter_map(|task| task.take_if(of_core)).collect()
    }

    fn check_ended_core(&mut self, index: usize, leased: usize, timers: usize) {
        let core = &self.cores[index];
        let (free, total) = (core.free + core.withheld, core.options.buffers);
        self.note(format_args!("core {index} ends: {free} of {total} buffers free"));
        if leased != 0 || free != total {
            self.fail(format!("core {index} ended with {leased} leases, and {free} of {total} buffers given back"));
        }
        if timers != 0 {
            self.fail(format!("core {index} ended with {timers} deadlines"));
        }
        if let Some((left, _)) = self.network.open().into_iter().find(|(_, core)| *core == index) {
            self.fail(format!("core {index} ended with connection {left} open"));
        }
    }
}
