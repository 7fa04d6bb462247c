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
use std::task::{Poll, Waker};
use std::time::Duration;

use super::spec::ServerAddress;
use super::upstream::{Upstream, Upstreams};
use crate::clock;
use crate::limits::{LOOK_UP_MS_MAX, LOOK_UPS_MAX};
use crate::rt;
use answer::Known;
use look_up::{LookUpError, look_up};
use schedule::Schedule;

/// Begins to resolve the servers that have names, again and again; ends with the executor. `name_servers` are asked instead
/// of the host's, when there are some.
pub fn resolve_names(upstreams: &Upstreams, name_servers: &[SocketAddr]) {
    let name_servers: Rc<[SocketAddr]> = name_servers.into();
    let turns = Rc::new(Turns { free: Cell::new(LOOK_UPS_MAX), waiting: RefCell::default() });
    for (host, servers) in collect_names(upstreams) {
        rt::spawn(follow_name(host, servers, name_servers.clone(), turns.clone()));
    }
}

/// A server that has a name.
struct Named {
    upstream: Arc<Upstream>,
    index: usize,
    port: u16,
}

/// The servers by their names: one that several have is asked for once.
fn collect_names(upstreams: &Upstreams) -> BTreeMap<String, Vec<Named>> {
    let mut names = BTreeMap::<_, Vec<_>>::new();
    for upstream in upstreams.iter() {
        for (index, server) in upstream.servers.iter().enumerate() {
            if let ServerAddress::Name { host, port } = &server.spec.address {
                names.entry(host.clone()).or_default().push(Named { upstream: upstream.clone(), index, port: *port });
            }
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
struct Turns {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
}

impl Turns {
    /// Waits for a turn. Not to be given up while it waits: its place would be woken in vain.
    async fn take(self: &Rc<Self>) -> Turn {
        poll_fn(|cx| match self.free.get().checked_sub(1) {
            Some(left) => {
                self.free.set(left);
                Poll::Ready(Turn(self.clone()))
            }
            None => {
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// One look-up; dropped, the next may begin.
struct Turn(Rc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        if let Some(next) = self.0.waiting.borrow_mut().pop_front() {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn so_many_look_ups_are_under_way_and_whoever_waits_gets_a_turn() {
        let turns = Rc::new(Turns { free: Cell::new(2), waiting: RefCell::default() });
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
}
