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
use super::upstream::{Server, Upstream, Upstreams};
use crate::clock::Moment;
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

    /// Waits until every server of `next` that was not there `before` has an address, `until` at the latest. One that had
    /// none before is not waited for: nobody is worse off without it than he was.
    pub async fn wait_for_new_addresses(before: &Upstreams, next: &Upstreams, until: Moment) {
        let was_there = |upstream: &Upstream, server: &Server| {
            before.find(&upstream.spec.name).is_some_and(|before| before.find_server(&server.spec.address).is_some())
        };
        // What is known of a server that was there goes over to the next config: see `Upstreams::succeed`.
        let is_settled = |upstream: &Arc<Upstream>| {
            let mut servers = upstream.servers.iter();
            servers.all(|server| !server.remotes.known().is_empty() || was_there(upstream, server))
        };
        rt::look_every(LOOK_EVERY, until, || next.iter().all(is_settled).then_some(())).await;
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use super::*;
    use crate::clock;
    use crate::proxy::spec::{ServerAddress, ServerSpec, UpstreamSpec};
    use crate::rt::sim;

    fn upstream(name: &str, hosts: &[&str]) -> UpstreamSpec {
        let server = |host: &&str| ServerSpec {
            address: ServerAddress::Name { host: (*host).to_owned(), port: 80 },
            weight: 1,
            backup: false,
            drain: false,
        };
        UpstreamSpec {
            name: name.to_owned(),
            servers: hosts.iter().map(server).collect(),
            balance: Default::default(),
            slow_start: Duration::ZERO,
            pool: Default::default(),
            timeouts: Default::default(),
            retry: Default::default(),
            hedge_after: None,
            health: None,
            ejection: None,
            breaker: None,
            limits: Default::default(),
        }
    }

    /// How long it is waited for addresses that never come.
    fn wait(before: Vec<UpstreamSpec>, next: Vec<UpstreamSpec>) -> Duration {
        let report = sim::run(sim::Options::default(), move || async move {
            let before = Upstreams::new(before);
            let next = Upstreams::succeed(next, &before, clock::now());
            let began = clock::now();
            Attendants::wait_for_new_addresses(&before, &next, began + Duration::from_secs(5)).await;
            clock::now().since(began)
        });
        report.outcome.unwrap()
    }

    #[test]
    fn a_reload_waits_for_names_that_are_new_and_for_no_others() {
        let all = Duration::from_secs(5);
        assert_eq!(wait(Vec::new(), Vec::new()), Duration::ZERO);
        assert!(wait(Vec::new(), vec![upstream("api", &["a"])]) >= all, "an upstream that is new");
        let api = || vec![upstream("api", &["a"])];
        assert!(wait(api(), vec![upstream("api", &["a", "b"])]) >= all, "a server that is new");
        assert_eq!(wait(api(), api()), Duration::ZERO, "what did not change");
        let changed = UpstreamSpec { slow_start: Duration::from_secs(1), ..upstream("api", &["a"]) };
        assert_eq!(wait(api(), vec![changed]), Duration::ZERO, "a server that was there, of an upstream that changed");
    }
}
