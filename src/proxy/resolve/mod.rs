//! The names of servers made into addresses, off the data path: by tasks of the master's executor.
//!
//! The table of the host (`/etc/hosts`) is looked at first, then DNS is asked. An answer's TTL says when it is asked again,
//! which the resolver of the C library does not tell. A whole resolver (hickory) would bring a second executor, fifty
//! crates and 100 CPU seconds of building; what is used is a reader of messages and one of `/etc/resolv.conf`.
//!
//! | file | holds |
//! |---|---|
//! | `schedule` | when a name is asked for again |
//! | `answer` | what a look-up learnt, and what is known after several |
//! | `look_up` | one look-up |
//! | `hosts`, `settings` | the host's files |
//! | `message`, `exchange` | DNS as bytes, and on its way |

mod answer;
mod exchange;
mod hosts;
mod look_up;
mod message;
mod schedule;
mod settings;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::attend::Life;
use super::spec::ServerAddress;
use super::upstream::Upstream;
use crate::clock;
use crate::limits::{LOOK_UP_MS_MAX, LOOK_UPS_MAX};
use crate::rt;
use answer::Known;
use look_up::{LookUpError, look_up};
use schedule::Schedule;

/// Begins to resolve the servers of an upstream that have names, again and again. `name_servers` are asked instead of the
/// host's, when there are some.
pub(super) fn follow_names(upstream: &Arc<Upstream>, name_servers: &Rc<[SocketAddr]>, turns: &Rc<Turns>, life: &Life) {
    for (host, servers) in collect_names(upstream) {
        life.spawn(follow_name(host, servers, name_servers.clone(), turns.clone()));
    }
}

/// A server that has a name.
struct Named {
    upstream: Arc<Upstream>,
    index: usize,
    port: u16,
}

/// The servers by their names: one that several have is asked for once.
fn collect_names(upstream: &Arc<Upstream>) -> BTreeMap<String, Vec<Named>> {
    let mut names = BTreeMap::<_, Vec<_>>::new();
    for (index, server) in upstream.servers.iter().enumerate() {
        if let ServerAddress::Name { host, port } = &server.spec.address {
            names.entry(host.clone()).or_default().push(Named { upstream: upstream.clone(), index, port: *port });
        }
    }
    names
}

async fn follow_name(host: String, servers: Vec<Named>, name_servers: Rc<[SocketAddr]>, turns: Rc<Turns>) {
    let (mut schedule, mut known) = (Schedule::default(), Known::default());
    let mut was_found = true;
    loop {
        let turn = turns.take().await;
        let until = clock::now() + Duration::from_millis(LOOK_UP_MS_MAX);
        let result = rt::timeout(until, look_up(&host, &name_servers)).await;
        drop(turn);
        let now = clock::now();
        let next = match result.unwrap_or(Err(LookUpError::TimedOut)) {
            Ok(answer) => {
                was_found = true;
                let (is_part, ttl) = (answer.is_part(), answer.ttl);
                known.update(answer);
                servers.iter().for_each(|server| tell(server, &known));
                if is_part { schedule.after_part(now, ttl) } else { schedule.after_answer(now, ttl) }
            }
            // What was known before stays: name servers that are down must not take the servers along.
            Err(error) => {
                // Told once, not each time.
                if std::mem::replace(&mut was_found, false) {
                    servers.iter().for_each(|server| warn(server, &error));
                }
                schedule.after_failure(now)
            }
        };
        rt::sleep_until(next).await;
    }
}

fn tell(server: &Named, known: &Known) {
    let (upstream, server, port) = (&server.upstream, &server.upstream.servers[server.index], server.port);
    if server.remotes.replace(known.remotes(port)) {
        let addresses = server.remotes.known().len();
        tracing::info!(upstream = upstream.spec.name, server = server.name, addresses, "resolved");
    }
}

fn warn(server: &Named, cause: &LookUpError) {
    let (upstream, server) = (&server.upstream.spec.name, &server.upstream.servers[server.index].name);
    tracing::warn!(upstream, server, %cause, "the name of a server cannot be resolved");
}

/// How many look-ups may begin, and who waits for one to end, in order.
pub(super) struct Turns {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next_ticket: Cell<u64>,
}

impl Turns {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { free: Cell::new(LOOK_UPS_MAX), waiting: RefCell::default(), next_ticket: Cell::new(0) })
    }

    /// Waits for a turn.
    async fn take(self: &Rc<Self>) -> Turn {
        let ticket = self.next_ticket.replace(self.next_ticket.get() + 1);
        let mut place = Place { turns: self, ticket, is_queued: false };
        poll_fn(|cx| place.poll(cx)).await
    }

    fn wake_next(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some((_, next)) = next {
            next.wake();
        }
    }
}

/// A place in the queue.
struct Place<'t> {
    turns: &'t Rc<Turns>,
    ticket: u64,
    is_queued: bool,
}

impl Place<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Some(left) = self.turns.free.get().checked_sub(1) {
            self.leave();
            self.turns.free.set(left);
            return Poll::Ready(Turn(self.turns.clone()));
        }
        self.leave();
        self.is_queued = true;
        self.turns.waiting.borrow_mut().push_back((self.ticket, cx.waker().clone()));
        Poll::Pending
    }

    /// Leaves the queue; whether it stood there, and was not woken.
    fn leave(&mut self) -> bool {
        let mut waiting = self.turns.waiting.borrow_mut();
        let before = waiting.len();
        waiting.retain(|(ticket, _)| *ticket != self.ticket);
        self.is_queued = false;
        waiting.len() < before
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Woken and given up, as its upstream is in force no more: the turn is the next one's.
        if self.is_queued && !self.leave() {
            self.turns.wake_next();
        }
    }
}

/// One look-up; dropped, the next may begin.
struct Turn(Rc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        self.0.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn so_many_look_ups_are_under_way_and_whoever_waits_gets_a_turn() {
        let turns = Turns::new();
        turns.free.set(2);
        let mut cx = Context::from_waker(Waker::noop());
        let mut held = Vec::new();
        for _ in 0..2 {
            let Poll::Ready(turn) = pin!(turns.take()).poll(&mut cx) else { panic!("there is one") };
            held.push(turn);
        }
        let mut third = pin!(turns.take());
        assert!(third.as_mut().poll(&mut cx).is_pending());
        assert_eq!(turns.waiting.borrow().len(), 1);
        held.pop();
        assert!(turns.waiting.borrow().is_empty(), "it was woken");
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_turn_that_is_given_up_before_it_is_taken_is_the_next_ones() {
        let turns = Turns::new();
        turns.free.set(1);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(held) = pin!(turns.take()).poll(&mut cx) else { panic!("there is one") };
        let mut second = Box::pin(turns.take());
        let mut third = Box::pin(turns.take());
        assert!(second.as_mut().poll(&mut cx).is_pending() && third.as_mut().poll(&mut cx).is_pending());
        drop(held);
        assert_eq!(turns.waiting.borrow().len(), 1, "the second was woken");
        drop(second);
        assert!(turns.waiting.borrow().is_empty(), "then the third");
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }
}
