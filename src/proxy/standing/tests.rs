//! The set against a plain model of it, its timing to the nanosecond, and many cores at once.

use super::*;
use crate::proxy::spec::{Balance, ServerAddress, ServerSpec};
use proptest::prelude::*;
use std::time::Duration;

pub(super) const START: Moment = Moment::from_nanos(7_000_000_000);
pub(super) const EJECTION: EjectionSpec = EjectionSpec {
    consecutive_failures: 3,
    duration: Duration::from_secs(10),
    duration_max: Duration::from_secs(25),
    percent_max: 100,
};
pub(super) const BREAKER: BreakerSpec = BreakerSpec { consecutive_failures: 2, open: Duration::from_secs(5) };
const NANO: Duration = Duration::from_nanos(1);

pub(super) fn set(servers: usize, ejection: Option<EjectionSpec>, breaker: Option<BreakerSpec>) -> Arc<StandingSet> {
    let server = |index| ServerSpec {
        address: ServerAddress::Name { host: format!("server-{index}"), port: 80 },
        weight: 1,
        backup: false,
        drain: false,
    };
    Arc::new(StandingSet::new(&UpstreamSpec {
        name: "api".to_owned(),
        servers: (0..servers).map(server).collect(),
        balance: Balance::default(),
        slow_start: Duration::ZERO,
        pool: Default::default(),
        timeouts: Default::default(),
        retry: Default::default(),
        hedge_after: None,
        health: None,
        ejection,
        breaker,
        limits: Default::default(),
    }))
}

/// A request that was admitted while all was well.
pub(super) fn ordinary(server: usize) -> Admission {
    Admission { server, probe: None }
}

fn fail(set: &StandingSet, times: u32, kind: FailureKind, now: Moment) {
    (0..times).for_each(|_| set.note_failure(ordinary(0), kind, now));
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_server_is_ejected_with_its_last_failure_and_back_when_its_time_is_over() {
    let set = set(1, Some(EJECTION), None);
    fail(&set, 2, FailureKind::Status5xx, START);
    assert_eq!(set.availability(0, START), Availability::Available);
    fail(&set, 1, FailureKind::Connect, START);
    let end = START + EJECTION.duration;
    assert_eq!(set.availability(0, START), Availability::Ejected);
    assert_eq!(set.availability(0, Moment::from_nanos(end.as_nanos() - 1)), Availability::Ejected);
    assert_eq!(set.availability(0, end), Availability::Available);
    assert_eq!(set.available_since(0), Some(end));
    assert_eq!((set.count_ejected(START), set.count_ejected(end)), (1, 0));
}

#[test]
fn a_success_between_failures_starts_the_row_anew() {
    let set = set(1, Some(EJECTION), Some(BREAKER));
    for _ in 0..10 {
        fail(&set, 1, FailureKind::NoResponse, START);
        set.note_success(ordinary(0), START);
    }
    for _ in 0..10 {
        // Two in a row for the breaker only where the server was not reached in between.
        fail(&set, 1, FailureKind::NoResponse, START);
        fail(&set, 1, FailureKind::Status5xx, START);
        set.note_success(ordinary(0), START);
    }
    assert_eq!(set.availability(0, START), Availability::Available);
}

#[test]
fn ejections_in_a_row_grow_to_their_maximum_and_failures_under_way_do_not_count() {
    let set = set(1, Some(EJECTION), None);
    let mut now = START;
    for seconds in [10, 20, 25, 25] {
        fail(&set, 3, FailureKind::Connect, now);
        let until = now + secs(seconds);
        assert_eq!(set.read(0, now).ejected_until, Some(until));
        fail(&set, 30, FailureKind::Connect, now + NANO);
        assert_eq!(set.read(0, now).ejected_until, Some(until));
        now = until;
        fail(&set, 2, FailureKind::Connect, now);
        assert_eq!(set.availability(0, now), Availability::Available);
        set.note_success(ordinary(0), now);
    }
    assert_eq!(set.read(0, now).ejections, 4);
}

#[test]
fn an_ejection_is_forgiven_after_as_long_without_failure() {
    for (clean, expected) in [(secs(20), 10), (secs(20) - NANO, 25)] {
        let set = set(1, Some(EJECTION), None);
        fail(&set, 3, FailureKind::Connect, START);
        let back = START + secs(10);
        fail(&set, 3, FailureKind::Connect, back);
        // Ejected for 20 s; a failure in between starts the wait anew.
        let back = back + secs(20);
        fail(&set, 1, FailureKind::Connect, back + secs(19));
        set.note_success(ordinary(0), back + secs(19));
        let now = back + secs(19) + clean;
        fail(&set, 3, FailureKind::Connect, now);
        assert_eq!(set.read(0, now).ejected_until, Some(now + secs(expected)));
    }
}

#[test]
fn no_more_servers_are_ejected_at_once_than_their_percentage() {
    let set = set(10, Some(EjectionSpec { percent_max: 30, ..EJECTION }), None);
    let fail_all = |now: Moment| {
        for server in 0..10 {
            (0..3).for_each(|_| set.note_failure(ordinary(server), FailureKind::Connect, now));
        }
    };
    fail_all(START);
    assert_eq!(set.count_ejected(START), 3);
    // The others stay at the threshold: with the first slot that is free their next failure ejects.
    let end = START + EJECTION.duration;
    set.note_failure(ordinary(7), FailureKind::Connect, end);
    assert_eq!(set.availability(7, end), Availability::Ejected);
    fail_all(end);
    assert_eq!(set.count_ejected(end), 3);
}

#[test]
fn the_only_server_is_not_ejected_unless_all_may_be() {
    let set = set(1, Some(EjectionSpec { percent_max: 50, ..EJECTION }), None);
    fail(&set, 10, FailureKind::Connect, START);
    assert_eq!(set.availability(0, START), Availability::Available);
}

#[test]
fn a_breaker_opens_lets_one_probe_through_and_closes_with_it() {
    let set = set(1, None, Some(BREAKER));
    fail(&set, 1, FailureKind::Protocol, START);
    assert_eq!(set.availability(0, START), Availability::Available);
    fail(&set, 1, FailureKind::Connect, START);
    assert_eq!(set.availability(0, START), Availability::BreakerOpen);
    // What was under way when it opened changes nothing.
    set.note_success(ordinary(0), START);
    fail(&set, 5, FailureKind::Connect, START + NANO);
    let half_open = START + BREAKER.open;
    let before = Moment::from_nanos(half_open.as_nanos() - 1);
    assert_eq!(set.availability(0, before), Availability::BreakerOpen);
    assert!(set.admit(0, before).is_none());

    let probe = set.admit(0, half_open).unwrap();
    assert!(probe.is_probe());
    assert_eq!(set.availability(0, half_open), Availability::ProbeTaken);
    assert!(set.admit(0, half_open).is_none());
    drop(probe);
    let probe = set.admit(0, half_open).unwrap();
    set.note_success(ordinary(0), half_open);
    assert_eq!(set.read(0, half_open).breaker, BreakerState::HalfOpen);
    set.note_success(probe, half_open + secs(1));
    assert_eq!(set.availability(0, half_open), Availability::Available);
    assert_eq!(set.available_since(0), Some(half_open + secs(1)));
    assert!(!set.admit(0, half_open).unwrap().is_probe());
    assert_eq!(set.read(0, half_open).breaker_opens, 1);
}

#[test]
fn a_probe_that_fails_opens_the_breaker_for_as_long_again() {
    let set = set(1, None, Some(BREAKER));
    fail(&set, 2, FailureKind::Connect, START);
    let probe = set.admit(0, START + BREAKER.open).unwrap();
    let failed = START + BREAKER.open + secs(3);
    set.note_failure(probe, FailureKind::NoResponse, failed);
    let half_open = failed + BREAKER.open;
    assert_eq!(set.availability(0, Moment::from_nanos(half_open.as_nanos() - 1)), Availability::BreakerOpen);
    assert_eq!(set.availability(0, half_open), Availability::Available);
    assert_eq!(set.read(0, half_open).breaker_opens, 2);
    // A server that answers 5xx was reached: that is not the breaker's business.
    set.note_failure(set.admit(0, half_open).unwrap(), FailureKind::Status5xx, half_open);
    assert_eq!(set.read(0, half_open).breaker, BreakerState::Closed);
}

#[test]
fn checks_and_the_operator_keep_servers_away_and_bring_them_back() {
    let set = set(2, None, None);
    assert_eq!(set.available_since(0), None);
    set.note_check(0, HealthChange::BecameUnhealthy, START);
    set.note_check(0, HealthChange::Unchanged, START);
    assert_eq!(set.availability(0, START), Availability::Unhealthy);
    assert!(set.set_drained(0, true, START) && !set.set_drained(0, true, START));
    assert_eq!(set.availability(0, START), Availability::Drained);
    set.note_check(0, HealthChange::BecameHealthy, START + secs(1));
    assert_eq!((set.read(0, START).health, set.read(0, START).health_changes), (Health::Healthy, 2));
    assert!(set.admit(0, START).is_none());
    assert!(set.set_drained(0, false, START + secs(2)));
    assert!(set.admit(0, START).is_some());
    assert_eq!(set.available_since(0), Some(START + secs(2)));
    assert_eq!(set.available_since(1), None);
}

/// One thing that happens; servers are 0 to 3.
#[derive(Debug, Clone)]
enum Event {
    /// A request that was under way comes to its end.
    Ends(usize, Option<FailureKind>),
    /// A request asks to be let through, and comes to its end; `None`: it was not sent.
    Asks(usize, Option<Result<(), FailureKind>>),
    Waits(Duration),
    Checks(usize, HealthChange),
    Drains(usize, bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind = prop_oneof![
        Just(FailureKind::Connect),
        Just(FailureKind::NoResponse),
        Just(FailureKind::Status5xx),
        Just(FailureKind::Protocol),
    ];
    let result = prop_oneof![1 => Just(Ok(())), 4 => kind.clone().prop_map(Err)];
    let change = prop_oneof![Just(HealthChange::BecameHealthy), Just(HealthChange::BecameUnhealthy)];
    let event = prop_oneof![
        6 => (0..4_usize, prop::option::weighted(0.8, kind)).prop_map(|(server, kind)| Event::Ends(server, kind)),
        6 => (0..4_usize, prop::option::weighted(0.9, result)).prop_map(|(server, result)| Event::Asks(server, result)),
        3 => (0..13_000_u64).prop_map(|millis| Event::Waits(Duration::from_millis(millis))),
        2 => (0..6_u64).prop_map(|fives| Event::Waits(Duration::from_secs(5 * fives))),
        1 => (0..4_usize, change).prop_map(|(server, change)| Event::Checks(server, change)),
        1 => (0..4_usize, any::<bool>()).prop_map(|(server, drained)| Event::Drains(server, drained)),
    ];
    prop::collection::vec(event, 0..150)
}

/// A server as its documentation has it: no words, no slots, everything by comparing moments.
#[derive(Debug, Clone, Default)]
struct Model {
    is_drained: bool,
    is_unhealthy: bool,
    ejected_until: Option<Moment>,
    /// How long each ejection of the row took is its place in the row.
    row: u32,
    last_failure: Moment,
    failures: u32,
    unreachable: u32,
    open_until: Option<Moment>,
}

impl Model {
    fn is_ejected(&self, now: Moment) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    fn availability(&self, now: Moment) -> Availability {
        let is_open = self.open_until.is_some_and(|until| now < until);
        match (self.is_drained, self.is_unhealthy, self.is_ejected(now), is_open) {
            (true, ..) => Availability::Drained,
            (_, true, ..) => Availability::Unhealthy,
            (_, _, true, _) => Availability::Ejected,
            (.., true) => Availability::BreakerOpen,
            (.., false) => Availability::Available,
        }
    }

    /// A result, of the probe or of another request.
    fn ends(&mut self, failure: Option<FailureKind>, is_probe: bool, may_eject: bool, now: Moment) {
        let is_unreachable = failure.is_some_and(|kind| kind != FailureKind::Status5xx);
        if is_probe || self.open_until.is_none() {
            self.unreachable = if is_unreachable { self.unreachable + 1 } else { 0 };
            let opens = is_unreachable && (is_probe || self.unreachable >= BREAKER.consecutive_failures);
            self.open_until = opens.then_some(now + BREAKER.open);
        }
        if failure.is_none() {
            self.failures = if self.is_ejected(now) { self.failures } else { 0 };
        } else if !self.is_ejected(now) {
            let length = (EJECTION.duration * self.row).min(EJECTION.duration_max);
            let clean_since = self.ejected_until.unwrap_or_default().max(self.last_failure);
            if now.since(clean_since) >= length {
                self.row = 0;
            }
            self.failures += 1;
            self.last_failure = now;
            if self.failures >= EJECTION.consecutive_failures && may_eject {
                self.row += 1;
                self.failures = 0;
                self.ejected_until = Some(now + (EJECTION.duration * self.row).min(EJECTION.duration_max));
            }
        }
    }
}

proptest! {
    #[test]
    fn standings_are_what_the_plain_model_says_to_the_nanosecond(events in events(), percent_max in 0_u32..=100) {
        let set = set(4, Some(EjectionSpec { percent_max, ..EJECTION }), Some(BREAKER));
        let slots = (4 * percent_max as usize / 100).max(1);
        let mut models = vec![Model::default(); 4];
        let mut now = START;
        for event in events {
            let may_eject = models.iter().filter(|model| model.is_ejected(now)).count() < slots;
            match event {
                Event::Waits(time) => now = now + time,
                Event::Drains(server, drained) => {
                    set.set_drained(server, drained, now);
                    models[server].is_drained = drained;
                }
                Event::Checks(server, change) => {
                    set.note_check(server, change, now);
                    models[server].is_unhealthy = change == HealthChange::BecameUnhealthy;
                }
                Event::Ends(server, failure) => {
                    match failure {
                        None => set.note_success(ordinary(server), now),
                        Some(kind) => set.note_failure(ordinary(server), kind, now),
                    }
                    models[server].ends(failure, false, may_eject, now);
                }
                Event::Asks(server, result) => {
                    let admission = set.admit(server, now);
                    let is_available = models[server].availability(now) == Availability::Available;
                    prop_assert_eq!(admission.is_some(), is_available);
                    let (Some(admission), Some(result)) = (admission, result) else { continue };
                    let is_probe = admission.is_probe();
                    prop_assert_eq!(is_probe, models[server].open_until.is_some());
                    match result {
                        Ok(()) => set.note_success(admission, now),
                        Err(kind) => set.note_failure(admission, kind, now),
                    }
                    models[server].ends(result.err(), is_probe, may_eject, now);
                }
            }
            for (server, model) in models.iter().enumerate() {
                prop_assert_eq!(set.availability(server, now), model.availability(now), "server {}", server);
            }
            prop_assert!(set.count_ejected(now) <= slots);
        }
    }
}

#[test]
fn cores_that_fail_everything_at_once_never_eject_too_many() {
    const ROUNDS: u32 = if cfg!(miri) { 3 } else { 100 };
    let set = set(8, Some(EjectionSpec { percent_max: 50, ..EJECTION }), Some(BREAKER));
    for round in 0..ROUNDS {
        // All ejections of the round before are over, but hold their slots; within a round none ends.
        let now = START + EJECTION.duration_max * round;
        let fail_all = |first: usize| {
            for step in 0..24 {
                set.note_failure(ordinary((first + step) % 8), FailureKind::Connect, now);
                assert!(set.count_ejected(now) <= 4, "round {round}");
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|core| {
                drop(scope.spawn({
                    let fail_all = &fail_all;
                    move || fail_all(core * 3)
                }))
            })
        });
        fail_all(0);
        assert_eq!(set.count_ejected(now), 4, "round {round}");
        let holders = set.servers.iter().filter(|server| server.ejection.holds_slot()).count();
        assert_eq!(set.slots.taken(), holders, "a slot was lost in round {round}");
    }
}

#[test]
fn of_cores_that_meet_a_half_open_breaker_one_gets_the_probe() {
    const ROUNDS: u64 = if cfg!(miri) { 3 } else { 200 };
    let set = set(1, None, Some(BREAKER));
    let mut now = START;
    fail(&set, 2, FailureKind::Connect, now);
    for round in 0..ROUNDS {
        now = now + BREAKER.open;
        let probes: Vec<Admission> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| set.admit(0, now))).collect();
            asking.into_iter().filter_map(|core| core.join().unwrap()).collect()
        });
        assert_eq!(probes.len(), 1, "round {round}");
        for probe in probes {
            set.note_failure(probe, FailureKind::Connect, now);
        }
    }
}
