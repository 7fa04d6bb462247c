//! What the master decides: when to drain, when to stop, when it has waited long enough. It knows workers by their
//! mailboxes alone, so that it runs as well where workers are no threads.

use std::time::Duration;

use super::ServeError;
use crate::clock::{self, Moment};
use crate::rt::{self, Mailbox, Postbox};
use crate::worker::{End, News, Order};

/// How often whoever watches is told that time has passed.
const TICK: Duration = Duration::from_secs(1);
/// How much longer than the drain time-out the master waits for its workers before it leaves without them.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A signal that reached the process, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub &'static str);

/// What the supervisor tells whoever watches it.
#[derive(Debug)]
pub enum Note {
    /// A second has passed, or something happened.
    Tick,
    /// A worker accepts connections.
    Accepting(usize, rt::Started),
    /// A worker ended: as it was told, or why not.
    Ended(usize, Result<(), String>),
    /// The workers are told to drain.
    Draining,
    /// SIGHUP came: what was renamed is to be opened anew.
    Hangup,
}

/// Watches over the workers until all have ended.
#[derive(Debug)]
pub struct Supervisor {
    orders: Vec<Postbox<Order>>,
    drain: Duration,
    /// Workers that have not ended.
    alive: usize,
    /// When the master leaves whoever has not ended; `NEVER` before a drain.
    until: Moment,
    result: Result<(), ServeError>,
}

impl Supervisor {
    /// A supervisor of the workers that take orders in these postboxes; `drain` is how long they may drain.
    pub fn new(orders: Vec<Postbox<Order>>, drain: Duration) -> Self {
        Self { alive: orders.len(), orders, drain, until: Moment::NEVER, result: Ok(()) }
    }

    /// Watches until every worker has ended, has been given up, or a second signal came. The first signal but
    /// SIGHUP begins the drain, and so does a worker that ends by itself.
    ///
    /// # Errors
    /// [`ServeError::Worker`] when a worker ended without being told to; the first one counts.
    pub async fn run(
        mut self,
        news: &Mailbox<News>,
        signals: &Mailbox<Signal>,
        mut watch: impl FnMut(Note),
    ) -> Result<(), ServeError> {
        while self.alive > 0 && clock::now() < self.until {
            watch(Note::Tick);
            let wake = (clock::now() + TICK).min(self.until);
            let told = async { rt::timeout(wake, news.next()).await.flatten() };
            match rt::select(told, signals.next()).await {
                rt::Either::First(Some(News::Accepting(index, started))) => watch(Note::Accepting(index, started)),
                rt::Either::First(Some(News::Ended(index, end))) => self.note_end(index, end, &mut watch),
                // It ends nothing.
                rt::Either::Second(Some(Signal("SIGHUP"))) => watch(Note::Hangup),
                rt::Either::Second(Some(Signal(name))) if self.is_first_signal() => {
                    tracing::info!(signal = name, timeout = ?self.drain, "draining");
                    self.begin_drain(&mut watch);
                }
                rt::Either::Second(Some(Signal(name))) => {
                    tracing::warn!(signal = name, "stopping at once");
                    break;
                }
                rt::Either::First(None) | rt::Either::Second(None) => {}
            }
        }
        self.order(Order::Stop);
        self.result
    }

    fn is_first_signal(&self) -> bool {
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::DeafMaster) {
            return true;
        }
        self.until == Moment::NEVER
    }

    /// Notes that a worker ended; one that was not told to takes the others with it.
    fn note_end(&mut self, index: usize, end: End, watch: &mut impl FnMut(Note)) {
        self.alive -= 1;
        let is_told = self.until < Moment::NEVER;
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
        watch(Note::Ended(index, reason.clone().map_or(Ok(()), Err)));
        if let Some(reason) = reason.filter(|_| self.result.is_ok()) {
            let error = ServeError::Worker { index, reason };
            tracing::error!(%error, "stopping");
            self.result = Err(error);
            // Not anew during a drain: another deadline has the others leave at once.
            #[cfg(feature = "sim")]
            let is_told = is_told && !rt::sim::planted(rt::sim::Bug::DrainAgain);
            if !is_told {
                self.begin_drain(watch);
            }
        }
    }

    /// Tells every worker to drain, and sets when the master's own patience ends.
    fn begin_drain(&mut self, watch: &mut impl FnMut(Note)) {
        watch(Note::Draining);
        let until = clock::now() + self.drain;
        self.order(Order::Drain(until));
        self.until = until + PATIENCE;
    }

    fn order(&self, order: Order) {
        let told = &self.orders[..];
        #[cfg(feature = "sim")]
        let told = if rt::sim::planted(rt::sim::Bug::ForgottenWorker) { &told[..told.len() - 1] } else { told };
        for worker in told {
            // A worker that takes no order has ended, or is found not to end.
            let _ = worker.post(order);
        }
    }
}
