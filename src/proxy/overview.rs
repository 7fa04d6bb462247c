//! An upstream as metrics and the admin listener see it: what its cores counted, added up, and how its servers stand.

use super::standing::Availability;
use super::termination::Termination;
use super::upstream::Upstream;
use crate::clock::Moment;
use crate::metrics::keys::ServerState;
use crate::metrics::upstreams::{ServerSample, UpstreamSample};

impl Availability {
    /// The state that is shown. A server whose one probe is under way is as closed to requests as before it.
    pub const fn state(self) -> ServerState {
        match self {
            Self::Available => ServerState::Available,
            Self::Drained => ServerState::Drained,
            Self::Unhealthy => ServerState::Unhealthy,
            Self::Ejected => ServerState::Ejected,
            Self::BreakerOpen | Self::ProbeTaken => ServerState::BreakerOpen,
        }
    }
}

impl Upstream {
    /// Its numbers now. Cores go on while they are read: each number is right, and two of them may be a request apart.
    pub fn sample(&self, now: Moment) -> UpstreamSample {
        let servers = self.servers.iter().enumerate().map(|(index, server)| {
            let standing = self.standings.read(index, now);
            ServerSample {
                state: standing.availability.state(),
                breaker: standing.breaker,
                ejections: standing.ejections,
                breaker_opens: standing.breaker_opens,
                health_changes: standing.health_changes,
                ..ServerSample::new(server.name.clone())
            }
        });
        let mut sample = UpstreamSample {
            name: self.spec.name.clone(),
            counters: Default::default(),
            terminations: Termination::ALL.iter().map(|termination| (termination.code(), 0)).collect(),
            pending: 0,
            servers: servers.collect(),
        };
        for core in self.counters.cores() {
            core.add_to(&mut sample);
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::keys::{ServerCounter, UpstreamCounter};
    use crate::proxy::counters::UpstreamCounters;
    use crate::proxy::spec::{Balance, ServerAddress, ServerSpec, UpstreamSpec};
    use crate::proxy::upstream::Upstreams;
    use std::time::Duration;

    fn upstreams() -> Upstreams {
        let server = |port: u16| ServerSpec {
            address: ServerAddress::Socket(([127, 0, 0, 1], port).into()),
            weight: 1,
            backup: false,
            drain: false,
        };
        Upstreams::new(vec![UpstreamSpec {
            name: "api".to_owned(),
            servers: vec![server(1), server(2)],
            balance: Balance::default(),
            slow_start: Duration::ZERO,
            pool: Default::default(),
            timeouts: Default::default(),
            retry: Default::default(),
            hedge_after: None,
            health: None,
            ejection: None,
            breaker: None,
            limits: Default::default(),
        }])
    }

    #[test]
    fn numbers_of_all_cores_add_up_also_those_of_a_core_that_was_replaced() {
        let upstreams = upstreams();
        let upstream = upstreams.get(0).unwrap();
        let count = |core: &UpstreamCounters, n: u64| {
            core.add(UpstreamCounter::Hedges, n);
            core.note_end(Termination::GatewayFull);
            core.set_pending(n as usize);
            let server = core.server(1);
            server.add(ServerCounter::Requests, 10 * n);
            server.step_in_flight(1);
            server.step_open(2);
            server.record(Duration::from_millis(n), Duration::from_millis(10 - n));
        };
        for (core, n) in [(0, 1), (1, 2), (0, 4)] {
            count(&upstream.counters.add_core(core, 2), n);
        }
        let sample = upstream.sample(Moment::from_nanos(1));
        // Nothing is under way any more of what was when the core was replaced.
        assert_eq!((sample.counters[UpstreamCounter::Hedges as usize], sample.pending), (7, 6));
        let ends: Vec<_> = sample.terminations.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(ends, [&("GC-full", 3)]);
        let [other, server] = sample.servers.as_slice() else { panic!("two servers") };
        assert_eq!(server.counters[ServerCounter::Requests as usize], 70);
        assert_eq!((server.in_flight, server.open, server.latency.count()), (2, 4, 3));
        assert_eq!(server.latency.sum, 7_000_000);
        assert_eq!((server.latency_ewma, other.latency_ewma), (8_000_000, 0));
        assert_eq!((other.counters, other.in_flight, other.latency.count()), ([0; ServerCounter::COUNT], 0, 0));
    }

    #[test]
    fn a_state_is_shown_as_it_stands_at_the_moment_that_is_asked_for() {
        let upstreams = upstreams();
        let upstream = upstreams.get(0).unwrap();
        let now = Moment::from_nanos(1);
        let states = || upstream.sample(now).servers.iter().map(|server| server.state).collect::<Vec<_>>();
        assert_eq!(states(), [ServerState::Available; 2]);
        upstream.standings.set_drained(1, true, now);
        assert_eq!(states(), [ServerState::Available, ServerState::Drained]);
    }
}
