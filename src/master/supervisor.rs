//! What the master decides: when to drain, when to stop, when it has waited long enough; that a worker is to be started
//! again, and that one has stalled. It knows workers by their mailboxes and what its [`Crew`] says of them, so that it runs
//! as well where workers are no threads.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::ServeError;
use super::backoff::Backoff;
use crate::clock::{self, Moment};
use crate::metrics::{beat_every, stalled_after};
use crate::rt::{self, Mailbox, Postbox};
use crate::worker::{End, News, Order};

pub use crate::lifecycle::Signal;

/// How often whoever watches is told that time has passed.
const TICK: Duration = Duration::from_secs(1);
/// How much longer than the drain time-out the master waits for its workers before it leaves without them.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What the supervisor tells its crew.
#[derive(Debug)]
pub enum Note {
    /// A second has passed, or something happened.
    Tick,
    /// A worker accepts connections: for the first time, or again.
    Accepting(usize, rt::Started),
    /// A worker broke down, for this reason; it is started again after so long.
    Down(usize, String, Duration),
    /// A worker has shown no sign of life for so long.
    Stalled(usize, Duration),
    /// A worker that had stalled goes on; it had not for so long.
    Resumed(usize, Duration),
    /// A worker serves by the config of this generation.
    TookUp(usize, u64),
    /// A worker ended and is not started again: as it was told, or why not.
    Ended(usize, Result<(), String>),
    /// The workers are about to be told to drain.
    Draining,
}

/// Where the workers take orders, in their order.
pub struct Orders(RefCell<Vec<Postbox<Order>>>);

impl Orders {
    /// The workers that take orders in these postboxes.
    pub fn new(posts: Vec<Postbox<Order>>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(posts)))
    }

    /// The workers have been started, and take orders in these.
    pub(super) fn begin(&self, posts: Vec<Postbox<Order>>) {
        *self.0.borrow_mut() = posts;
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Another one stands in for worker `index`.
    fn replace(&self, index: usize, post: Postbox<Order>) {
        self.0.borrow_mut()[index] = post;
    }

    /// Gives each worker its order.
    pub fn give(&self, mut order: impl FnMut(usize) -> Order) {
        for (index, worker) in self.0.borrow().iter().enumerate() {
            #[cfg(feature = "sim")]
            if rt::sim::planted(rt::sim::Bug::ForgottenWorker) && index + 1 == self.count() {
                break;
            }
            // A worker that takes no order has ended, or is found not to end.
            let _ = worker.post(order(index));
        }
    }
}

/// Through whom the supervisor reaches the workers' threads, or what stands for them.
pub trait Crew {
    /// Starts worker `index` anew, with what is in force by now: the box for its orders.
    ///
    /// # Errors
    /// It cannot be started now; the supervisor will ask again.
    fn start(&self, index: usize) -> Result<Postbox<Order>, ServeError>;

    /// When a worker last showed a sign of life; `None` before its first.
    fn last_beat(&self, index: usize) -> Option<Moment>;

    /// What happens.
    fn note(&self, note: Note);
}

/// Where a worker is.
#[derive(Debug)]
enum Duty {
    /// It runs, since when; and since when it has stalled, if it has.
    Works(Moment, Option<Moment>),
    /// It broke down, for this reason, and is started again at this moment.
    Down(Moment, String),
    /// It ended for good.
    Left,
}

/// One worker.
#[derive(Debug)]
struct Charge {
    duty: Duty,
    /// It accepted connections once: what keeps it from doing so again may pass.
    has_served: bool,
    backoff: Backoff,
}

/// Watches over the workers until all have ended.
pub struct Supervisor {
    charges: Vec<Charge>,
    orders: Rc<Orders>,
    /// The config in force says how long a drain may take.
    drain: Rc<Cell<Duration>>,
    stall: Duration,
    /// When the workers' signs of life were last looked at.
    looked: Moment,
    /// From when on a late sign of life is the worker's fault and not the whole process's.
    trusts_from: Moment,
    /// When the master leaves whoever has not ended; `NEVER` before a drain.
    until: Moment,
    result: Result<(), ServeError>,
}

impl Supervisor {
    /// A supervisor of these workers. `drain` is how long they may drain, `stall` after how long without a sign of life one
    /// is reported.
    pub fn new(orders: Rc<Orders>, drain: Rc<Cell<Duration>>, stall: Duration) -> Self {
        let now = clock::now();
        let charge = |_| Charge { duty: Duty::Works(now, None), has_served: false, backoff: Backoff::default() };
        let charges = (0..orders.count()).map(charge).collect();
        Self { charges, orders, drain, stall, looked: now, trusts_from: now, until: Moment::NEVER, result: Ok(()) }
    }

    /// Watches until every worker has ended, has been given up, or a second signal came. The first signal begins the
    /// drain, and so does a worker that cannot even begin. One that breaks down later is started again, unless a drain has
    /// begun.
    ///
    /// # Errors
    /// [`ServeError::Worker`] when a worker ended without being told to and was not started again; the first one counts.
    pub async fn run(
        mut self,
        news: &Mailbox<News>,
        signals: &Mailbox<Signal>,
        crew: &impl Crew,
    ) -> Result<(), ServeError> {
        let mut ticked = clock::now();
        crew.note(Note::Tick);
        while self.charges.iter().any(|charge| !matches!(charge.duty, Duty::Left)) && clock::now() < self.until {
            self.look(crew);
            self.restart(crew);
            let wake = self.next_wake().min(ticked + TICK);
            let told = async { rt::timeout(wake, news.next()).await.flatten() };
            let happened = rt::select(told, signals.next()).await;
            let is_timeout = matches!(happened, rt::Either::First(None) | rt::Either::Second(None));
            match happened {
                rt::Either::First(Some(News::Accepting(index, started))) => self.note_accepting(index, started, crew),
                rt::Either::First(Some(News::TookUp(index, generation))) => crew.note(Note::TookUp(index, generation)),
                rt::Either::First(Some(News::Ended(index, end))) => self.note_end(index, end, crew),
                rt::Either::Second(Some(Signal(name))) if self.is_first_signal() => {
                    tracing::info!(signal = name, timeout = ?self.drain.get(), "draining");
                    self.begin_drain(crew);
                }
                rt::Either::Second(Some(Signal(name))) => {
                    tracing::warn!(signal = name, "stopping at once");
                    break;
                }
                rt::Either::First(None) | rt::Either::Second(None) => {}
            }
            if !is_timeout || clock::now() >= ticked + TICK {
                ticked = clock::now();
                crew.note(Note::Tick);
            }
        }
        self.orders.give(|_| Order::Stop);
        self.result
    }

    /// The next moment at which there is something to do though nothing happens.
    fn next_wake(&self) -> Moment {
        let restarts = self.charges.iter().filter_map(|charge| match charge.duty {
            Duty::Down(until, _) => Some(until),
            Duty::Works(..) | Duty::Left => None,
        });
        restarts.chain([self.looked + beat_every(self.stall), self.until]).min().unwrap_or(Moment::NEVER)
    }

    fn is_first_signal(&self) -> bool {
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::DeafMaster) {
            return true;
        }
        !self.is_draining()
    }

    fn is_draining(&self) -> bool {
        self.until < Moment::NEVER
    }

    fn note_accepting(&mut self, index: usize, started: rt::Started, crew: &impl Crew) {
        self.charges[index].has_served = true;
        crew.note(Note::Accepting(index, started));
    }

    /// Notes that a worker ended. One that was not told to is started again; if it never began, it takes the others with
    /// it.
    fn note_end(&mut self, index: usize, end: End, crew: &impl Crew) {
        let is_told = self.is_draining();
        let reason = match end {
            End::Left { cut: 0 } if is_told => None,
            End::Left { cut } if is_told => {
                tracing::warn!(worker = index, connections = cut, "the drain time-out cut connections");
                None
            }
            End::Left { .. } => Some("it left by itself".to_owned()),
            End::Failed(error) => Some(error.to_string()),
            End::Panicked => Some("it panicked".to_owned()),
        };
        match reason {
            None => {
                self.charges[index].duty = Duty::Left;
                crew.note(Note::Ended(index, Ok(())));
            }
            #[cfg(feature = "sim")]
            Some(reason) if is_told && rt::sim::planted(rt::sim::Bug::RestartInDrain) => {
                self.leave_down(index, reason, crew);
            }
            Some(reason) if self.charges[index].has_served && !is_told => self.leave_down(index, reason, crew),
            Some(reason) => {
                self.give_up(index, reason, crew);
                // Not anew during a drain: another deadline has the others leave at once.
                #[cfg(feature = "sim")]
                let is_told = is_told && !rt::sim::planted(rt::sim::Bug::DrainAgain);
                if !is_told {
                    self.begin_drain(crew);
                }
            }
        }
    }

    /// A worker broke down, or could not be started again: it will be, after a while.
    fn leave_down(&mut self, index: usize, reason: String, crew: &impl Crew) {
        let (charge, now) = (&mut self.charges[index], clock::now());
        let ran = match charge.duty {
            Duty::Works(since, _) => now.since(since),
            Duty::Down(..) | Duty::Left => Duration::ZERO,
        };
        let after = charge.backoff.after(ran);
        #[cfg(feature = "sim")]
        let after = match () {
            () if rt::sim::planted(rt::sim::Bug::NoBackoff) => Duration::ZERO,
            () if rt::sim::planted(rt::sim::Bug::NoRestart) => Duration::from_secs(1 << 30),
            () => after,
        };
        tracing::error!(worker = index, reason, restart_in = ?after, "a worker broke down");
        charge.duty = Duty::Down(now + after, reason.clone());
        crew.note(Note::Down(index, reason, after));
    }

    /// A worker ended otherwise than it was told to, and stays away.
    fn give_up(&mut self, index: usize, reason: String, crew: &impl Crew) {
        self.charges[index].duty = Duty::Left;
        crew.note(Note::Ended(index, Err(reason.clone())));
        let error = ServeError::Worker { index, reason };
        tracing::error!(%error, "stopping");
        if self.result.is_ok() {
            self.result = Err(error);
        }
    }

    /// Starts those again whose time has come.
    fn restart(&mut self, crew: &impl Crew) {
        for index in 0..self.charges.len() {
            let now = clock::now();
            match self.charges[index].duty {
                Duty::Down(until, _) if until <= now => {}
                Duty::Down(..) | Duty::Works(..) | Duty::Left => continue,
            }
            match crew.start(index) {
                Ok(orders) => {
                    self.orders.replace(index, orders);
                    self.charges[index].duty = Duty::Works(now, None);
                }
                Err(error) => self.leave_down(index, error.to_string(), crew),
            }
        }
    }

    /// Looks for signs of life.
    fn look(&mut self, crew: &impl Crew) {
        let (now, every) = (clock::now(), beat_every(self.stall));
        if now < self.looked + every {
            return;
        }
        // Who comes so late was stopped with all others, or waits for a processor as they do: they get time for a beat.
        if now.since(self.looked) > 3 * every {
            self.trusts_from = now + 2 * every;
        }
        self.looked = now;
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::UnseenStall) {
            return;
        }
        if now < self.trusts_from {
            return;
        }
        for (index, charge) in self.charges.iter_mut().enumerate() {
            let Duty::Works(since, stalled) = &mut charge.duty else { continue };
            let last = crew.last_beat(index).map_or(*since, |beat| beat.max(*since));
            let age = now.since(last);
            match *stalled {
                None if age > stalled_after(self.stall) => {
                    *stalled = Some(last);
                    crew.note(Note::Stalled(index, age));
                }
                Some(before) if last > before => {
                    *stalled = None;
                    crew.note(Note::Resumed(index, last.since(before)));
                }
                None | Some(_) => {}
            }
        }
    }

    /// Tells every worker to drain, and sets when the master's own patience ends. Those that are down stay so: there is
    /// nobody to bring their queues to an end in time.
    fn begin_drain(&mut self, crew: &impl Crew) {
        crew.note(Note::Draining);
        let until = clock::now() + self.drain.get();
        self.orders.give(|_| Order::Drain(until));
        self.until = until + PATIENCE;
        for index in 0..self.charges.len() {
            if let Duty::Down(_, reason) = &mut self.charges[index].duty {
                let reason = std::mem::take(reason);
                self.give_up(index, reason, crew);
            }
        }
    }
}
