//! Models of what several cores note at the same time; and that each finds the mistakes it is there for.

use loom::thread;

use super::tests::{BREAKER, EJECTION, START, ordinary, set};
use super::*;
use crate::sync::{Bug, check, check_fails};

/// Ejects with the first failure, one server at most.
const AT_ONCE: EjectionSpec = EjectionSpec { consecutive_failures: 1, percent_max: 0, ..EJECTION };

/// Two cores meet a half-open breaker: one gets the probe.
fn one_probe() {
    let set = set(1, None, Some(BREAKER));
    (0..2).for_each(|_| set.note_failure(ordinary(0), FailureKind::Connect, START));
    let now = START + BREAKER.open;
    let other = thread::spawn({
        let set = Arc::clone(&set);
        move || set.admit(0, now)
    });
    let probes = [set.admit(0, now), other.join().unwrap()];
    assert_eq!(probes.iter().flatten().count(), 1);
    assert_eq!(set.availability(0, now), Availability::ProbeTaken);
    drop(probes);
    assert_eq!(set.availability(0, now), Availability::Available);
}

#[test]
fn loom_one_of_two_cores_gets_the_probe_of_a_half_open_breaker() {
    check(None, one_probe);
}

#[test]
fn loom_finds_a_probe_that_is_taken_twice() {
    check_fails(Some(Bug::TakesProbeInTwoSteps), None, one_probe);
}

/// The probe's success, and at the same time a failure of what was under way before: the breaker closes, and what fails
/// then is the first in its row.
#[test]
fn loom_late_failures_and_the_probe_do_not_disturb_each_other() {
    check(None, || {
        let set = set(1, None, Some(BREAKER));
        (0..2).for_each(|_| set.note_failure(ordinary(0), FailureKind::Connect, START));
        let now = START + BREAKER.open;
        let probe = set.admit(0, now).unwrap();
        let other = thread::spawn({
            let set = Arc::clone(&set);
            move || set.note_failure(ordinary(0), FailureKind::Connect, now)
        });
        set.note_success(probe, now);
        other.join().unwrap();
        assert_eq!(set.availability(0, now), Availability::Available);
        assert_eq!(set.read(0, now).breaker_opens, 1);
    });
}

/// Two cores have a server fail each, `first` and `second`, while the only slot is held by server 2, whose ejection is
/// over: one server is ejected, and no slot is lost or made up.
fn one_slot(first: usize, second: usize) {
    let set = set(3, Some(AT_ONCE), None);
    set.note_failure(ordinary(2), FailureKind::Connect, START);
    let now = START + EJECTION.duration;
    let other = thread::spawn({
        let set = Arc::clone(&set);
        move || set.note_failure(ordinary(second), FailureKind::Connect, now)
    });
    set.note_failure(ordinary(first), FailureKind::Connect, now);
    other.join().unwrap();
    assert_eq!(set.count_ejected(now), 1);
    let holders = set.servers.iter().filter(|standing| standing.ejection.holds_slot()).count();
    assert_eq!((set.slots.taken(), holders), (1, 1));
    let ejections: u64 = (0..3).map(|server| set.read(server, now).ejections).sum();
    assert_eq!(ejections, 2);
}

#[test]
fn loom_cores_that_eject_two_servers_at_once_share_the_slots() {
    check(Some(3), || one_slot(0, 1));
}

#[test]
fn loom_cores_that_eject_the_same_server_eject_it_once() {
    check(Some(3), || one_slot(0, 0));
    check(Some(3), || one_slot(2, 2));
}

#[test]
fn loom_finds_a_slot_that_is_taken_twice() {
    check_fails(Some(Bug::TakesSlotInTwoSteps), Some(3), || one_slot(0, 1));
}

#[test]
fn loom_finds_a_slot_that_is_lost() {
    // With room for both, both cores take a slot for the same server.
    check_fails(Some(Bug::KeepsSlot), Some(3), two_slots);
}

/// Two cores eject the same server where two may be ejected: one slot is taken.
fn two_slots() {
    let set = set(3, Some(EjectionSpec { percent_max: 70, ..AT_ONCE }), None);
    let other = thread::spawn({
        let set = Arc::clone(&set);
        move || set.note_failure(ordinary(0), FailureKind::Connect, START)
    });
    set.note_failure(ordinary(0), FailureKind::Connect, START);
    other.join().unwrap();
    assert_eq!((set.count_ejected(START), set.slots.taken()), (1, 1));
}

#[test]
fn loom_cores_that_take_a_slot_each_for_the_same_server_keep_one() {
    check(None, two_slots);
}
