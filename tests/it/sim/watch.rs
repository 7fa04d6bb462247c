//! What is looked at after each step, and whenever nothing can run: limits and counts, answers, who was forgotten, and
//! what should be over.

use super::dialogue::{Debt, Dialogue};
use super::set_up::{Serving, Shared};
use ringfort::clock::{self, Moment};
use ringfort::conn::Settings;
use ringfort::limits::LINGER_MS;
use ringfort::metrics::shard::Shard;
use ringfort::metrics::{Counter, Gauge};
use ringfort::rt::sim::{self, Sight, Wire};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How late a server may be that has nothing else to do: the timers' grain, and what polls and pauses take.
const SLACK: Duration = Duration::from_millis(60);
/// How long an answer takes at most that takes its time.
const LATER_MAX: Duration = Duration::from_secs(2);
/// How long accepting rests when it fails.
const REST: Duration = Duration::from_millis(100);

/// Everything that is known of the servers of one run.
pub(super) struct Watch {
    shared: Rc<Shared>,
    settings: Rc<Settings>,
    serving: Vec<Rc<Serving>>,
    dialogues: BTreeMap<usize, Dialogue>,
    /// When each worker last was at its limit, or down.
    full_at: Vec<Moment>,
    /// Answers on connections that are closed.
    answers: u64,
}

/// Begins to watch. Worker `n` has the world's listening socket `n`.
pub(super) fn begin(shared: Rc<Shared>, serving: &[Rc<Serving>]) {
    sim::tap();
    let serving = serving.to_vec();
    let settings = Rc::new(shared.settings.clone());
    let full_at = vec![Moment::default(); serving.len()];
    let watch = Watch { shared, settings, serving, dialogues: BTreeMap::new(), full_at, answers: 0 };
    let watch = Rc::new(RefCell::new(watch));
    let quiet = watch.clone();
    sim::check_each_step(move || watch.borrow_mut().step());
    sim::check_when_quiet(move || quiet.borrow_mut().quiet());
}

impl Watch {
    fn step(&mut self) -> Result<(), String> {
        for tapped in sim::take_tapped() {
            let id = tapped.id;
            self.follow(id, tapped.wire, tapped.at).map_err(|cause| format!("connection {id}: {cause}"))?;
        }
        for (worker, serving) in self.serving.iter().enumerate() {
            let (shard, open) = (serving.shard(), sim::open_connections(serving.core.get()));
            if open > self.settings.connections {
                return Err(format!("worker {worker}: {open} connections, limit {}", self.settings.connections));
            }
            if open == self.settings.connections || serving.down_since.get().is_some() {
                self.full_at[worker] = clock::now();
            }
            let (accepted, closed) =
                (shard.counter(Counter::ConnectionsAccepted), shard.counter(Counter::ConnectionsClosed));
            let (gauge, in_flight) = (shard.gauge(Gauge::ConnectionsOpen), shard.gauge(Gauge::RequestsInFlight));
            let open = open as u64;
            if gauge != open || accepted - closed != open || in_flight > open {
                return Err(format!(
                    "worker {worker}: {open} connections are open; it counts {gauge}, {accepted} accepted, {closed} \
                     closed, {in_flight} requests in flight"
                ));
            }
        }
        Ok(())
    }

    fn follow(&mut self, id: usize, wire: Wire, at: Moment) -> Result<(), String> {
        if let Wire::Accepted { .. } = wire {
            let dialogue = Dialogue::new(at, self.settings.clone());
            self.dialogues.insert(id, dialogue);
        }
        let drains = self.shared.drained.get().is_some();
        // Of a connection in the queue nothing needs to be known but its bytes: see `arrived_early`.
        let Some(dialogue) = self.dialogues.get_mut(&id) else { return self.arrived_early(id, wire) };
        match wire {
            Wire::Accepted { .. } => {
                let early = self.shared.early.borrow_mut().remove(&id).unwrap_or_default();
                dialogue.arrived(&early);
            }
            Wire::Arrived(bytes) => {
                dialogue.arrived(&bytes);
                dialogue.arrived_at = at;
            }
            Wire::Taken(count) => (dialogue.taken, dialogue.moved) = (dialogue.taken + count as u64, at),
            Wire::Sent(bytes) => dialogue.sent(&bytes, at, drains)?,
            Wire::Ended => dialogue.ended(at),
            Wire::Broken => dialogue.is_broken = true,
            Wire::Closed => {
                self.answers += dialogue.settled();
                self.dialogues.remove(&id);
            }
        }
        Ok(())
    }

    /// Bytes may arrive before the connection is accepted.
    fn arrived_early(&self, id: usize, wire: Wire) -> Result<(), String> {
        if let Wire::Arrived(bytes) = wire {
            self.shared.early.borrow_mut().entry(id).or_default().extend(bytes);
        }
        Ok(())
    }

    /// Nothing can run, and nothing is due: everybody waits for something that will come.
    fn quiet(&mut self) -> Result<(), String> {
        let now = clock::now();
        self.serving.iter().try_for_each(|worker| worker.check_down())?;
        for (listener, since) in sim::queued() {
            let waited = now.since(since.max(self.full_at[listener]));
            let open = sim::open_connections(self.serving[listener].core.get());
            let has_room = open < self.settings.connections;
            if has_room && waited > REST + SLACK {
                return Err(format!("worker {listener}: a connection waits to be accepted for {waited:?}"));
            }
        }
        let sights = sim::sights();
        for sight in &sights {
            let Some(dialogue) = self.dialogues.get_mut(&sight.id) else { continue };
            check_waiting(sight, dialogue)
                .and_then(|()| check_time(sight, dialogue, &self.settings, now))
                .map_err(|cause| format!("connection {}: {cause}", sight.id))?;
        }
        let recorded = |shard: Arc<Shard>| CLASSES.iter().map(|class| shard.counter(*class)).sum::<u64>();
        let recorded: u64 = self.serving.iter().map(|worker| recorded(worker.shard())).sum();
        let answers = self.answers + self.dialogues.values().map(Dialogue::settled).sum::<u64>();
        // A batch is recorded when all of it is sent, and what was cut, or broke down with its worker, perhaps never.
        let is_cut = self.shared.killed.get().is_some() || self.shared.cut.get() > 0;
        let excused = is_cut || sights.iter().any(|sight| sight.stalled_since.is_some());
        if answers > recorded && !excused {
            return Err(format!("{answers} answers were sent, and {recorded} are recorded"));
        }
        Ok(())
    }
}

const CLASSES: &[Counter] =
    &[Counter::Requests1xx, Counter::Requests2xx, Counter::Requests3xx, Counter::Requests4xx, Counter::Requests5xx];

/// Nobody was forgotten: what has come is read, and what was read is answered.
fn check_waiting(sight: &Sight, dialogue: &Dialogue) -> Result<(), String> {
    if sight.stalled_since.is_some() || sight.is_parked || sight.is_ending || dialogue.is_later() {
        return Ok(());
    }
    if dialogue.is_broken {
        return Err("the server keeps it although it knows of its reset".to_owned());
    }
    if sight.unread > 0 {
        return Err(format!("{} bytes have come, and nobody reads them", sight.unread));
    }
    match dialogue.debt() {
        Debt::Now(what) => Err(format!("the answer is due and does not come: {what}")),
        Debt::Nothing | Debt::Later | Debt::Waits { .. } => Ok(()),
    }
}

/// No time-out is behind.
fn check_time(sight: &Sight, dialogue: &mut Dialogue, settings: &Settings, now: Moment) -> Result<(), String> {
    let timeouts = &settings.timeouts;
    let debt = dialogue.debt();
    // While no receive buffer is left it cannot know that a head has begun to come.
    let takes_head = debt == Debt::Waits { head: true } && dialogue.has_begun_to_take();
    dialogue.partial_since = dialogue.partial_since.filter(|_| takes_head).or(takes_head.then_some(now));
    // Not before its handler asks for the body, nor while that waits for the client to take the answer.
    let takes_body = debt == Debt::Waits { head: false } && sight.stalled_since.is_none();
    dialogue.body_since = dialogue.body_since.filter(|_| takes_body).or(takes_body.then_some(now));
    let linger = Duration::from_millis(LINGER_MS);
    let (since, most, what) = match (sight.stalled_since, dialogue.ended_at) {
        (Some(since), _) => (since, timeouts.write.max(timeouts.body), "its client takes nothing"),
        (None, Some(ended)) => (ended, linger, "it lingers"),
        (None, None) => match debt {
            Debt::Now(_) => return Ok(()),
            Debt::Later => (dialogue.moved.max(dialogue.arrived_at), LATER_MAX, "its answer takes time"),
            Debt::Waits { head: false } => {
                (dialogue.moved.max(dialogue.body_since.unwrap_or(now)), timeouts.body, "it waits for a body")
            }
            Debt::Nothing | Debt::Waits { .. } if dialogue.answers == 0 => {
                (dialogue.accepted, timeouts.head, "it waits for its first head")
            }
            Debt::Waits { head: true } => {
                (dialogue.partial_since.unwrap_or(now), timeouts.head, "it waits for the rest of a head")
            }
            Debt::Nothing => (dialogue.answered_at.max(dialogue.moved), timeouts.idle, "it is idle"),
        },
    };
    let took = now.since(since);
    if took > most + SLACK { Err(format!("{what}, for {took:?} of {most:?}")) } else { Ok(()) }
}
