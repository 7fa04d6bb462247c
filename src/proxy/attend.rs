//! What the master does for upstreams: active checks, and the names of servers resolved again and again. For each upstream
//! from the moment it is in force until it is in force no more.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::health;
use super::resolve::{self, Turns};
use super::upstream::{Upstream, Upstreams};
use crate::clock::{self, Moment};
use crate::rt::{self, Mailbox, Postbox};

/// How often the addresses of servers that were just added are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The tasks that attend the upstreams in force; they end when this is dropped.
pub struct Attendants {
    attended: Vec<Attended>,
    name_servers: Rc<[SocketAddr]>,
    turns: Rc<Turns>,
    seed: u64,
}

/// One upstream; when this is dropped, its tasks end.
struct Attended {
    upstream: Arc<Upstream>,
    _stop: Postbox<Infallible>,
}

/// The life of one upstream's tasks.
#[derive(Clone)]
pub(super) struct Life(Rc<Mailbox<Infallible>>);

impl Life {
    /// Runs the task until its upstream is not in force any more.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let Life(stopped) = self.clone();
        rt::spawn(async move {
            rt::select(task, stopped.next()).await;
        });
    }
}

impl Attendants {
    /// None yet. `seed` tells when servers are checked first.
    pub fn new(seed: u64) -> Self {
        Self { attended: Vec::new(), name_servers: Rc::from([]), turns: Turns::new(), seed }
    }

    /// Attends these upstreams and no others. One that is attended already goes on as it is. `name_servers` are asked
    /// instead of the host's, when there are some; where they are others than before, all begins anew.
    pub fn attend(&mut self, upstreams: &Upstreams, name_servers: &[SocketAddr]) {
        if *self.name_servers != *name_servers {
            self.attended.clear();
            self.name_servers = name_servers.into();
        }
        self.attended.retain(|attended| upstreams.has(&attended.upstream));
        for upstream in upstreams.iter() {
            if self.attended.iter().any(|attended| Arc::ptr_eq(&attended.upstream, upstream)) {
                continue;
            }
            let (stop, stopped) = rt::mailbox(1);
            let life = Life(Rc::new(stopped));
            resolve::follow_names(upstream, &self.name_servers, &self.turns, &life);
            health::check_servers(upstream, self.seed, &life);
            self.attended.push(Attended { upstream: upstream.clone(), _stop: stop });
        }
    }

    /// Attends none any more.
    pub fn leave(&mut self) {
        self.attended.clear();
    }

    /// Waits until every server of these has an address, `until` at the latest.
    pub async fn wait_for_addresses(upstreams: &Upstreams, until: Moment) {
        let is_known =
            |upstream: &Arc<Upstream>| upstream.servers.iter().all(|server| !server.remotes.known().is_empty());
        while !upstreams.iter().all(is_known) && clock::now() < until {
            rt::sleep_until(clock::now() + LOOK_EVERY).await;
        }
    }
}
