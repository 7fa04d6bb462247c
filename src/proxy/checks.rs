//! When a server is checked next, and what the results in a row say of its health. The check itself is made elsewhere.

use super::chance::Chance;
use super::spec::HealthSpec;
use crate::clock::Moment;
use std::time::Duration;

/// What active checks say of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// It gets requests.
    #[default]
    Healthy,
    /// It gets none.
    Unhealthy,
}

/// What the result of one check changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthChange {
    /// Nothing.
    Unchanged,
    /// Enough checks in a row have passed.
    BecameHealthy,
    /// Enough checks in a row have failed.
    BecameUnhealthy,
}

/// The active checks of one server. One for the whole process.
#[derive(Debug, Clone)]
pub struct CheckSchedule {
    interval: Duration,
    jitter_nanos: u64,
    fall: u32,
    rise: u32,
    health: Health,
    /// Results in a row that speak against `health`.
    against: u32,
    chance: Chance,
}

impl CheckSchedule {
    /// The checks of a server that counts as healthy. Servers get different seeds, or they are checked all at once.
    pub fn new(spec: &HealthSpec, seed: u64) -> Self {
        let interval = spec.interval.as_nanos() as f64;
        Self {
            interval: spec.interval,
            // The cast makes 0 of what is no number.
            jitter_nanos: (interval * spec.jitter.clamp(0.0, 1.0)) as u64,
            fall: spec.fall,
            rise: spec.rise,
            health: Health::Healthy,
            against: 0,
            chance: Chance::new(seed),
        }
    }

    /// The same with the health that is known from before, across a reload.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        (self.health, self.against) = (health, 0);
        self
    }

    /// When the first check is made: somewhere within one interval, so that the servers of a process that starts are not
    /// checked all at once.
    pub fn first(&mut self, now: Moment) -> Moment {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        now + Duration::from_nanos(self.chance.below(interval))
    }

    /// When the next check is made, after one that ended `now`: an interval and up to the jitter later.
    pub fn next(&mut self, now: Moment) -> Moment {
        now + self.interval + Duration::from_nanos(self.chance.below(self.jitter_nanos.saturating_add(1)))
    }

    /// Counts the result of a check.
    pub fn note(&mut self, passed: bool) -> HealthChange {
        let (speaks_against, needed, other, change) = match self.health {
            Health::Healthy => (!passed, self.fall, Health::Unhealthy, HealthChange::BecameUnhealthy),
            Health::Unhealthy => (passed, self.rise, Health::Healthy, HealthChange::BecameHealthy),
        };
        self.against = if speaks_against { self.against.saturating_add(1) } else { 0 };
        if self.against == 0 || self.against < needed {
            return HealthChange::Unchanged;
        }
        (self.health, self.against) = (other, 0);
        change
    }

    /// What the checks say so far.
    pub fn health(&self) -> Health {
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::spec::Probe;
    use proptest::prelude::*;

    fn spec(interval: Duration, jitter: f64, fall: u32, rise: u32) -> HealthSpec {
        HealthSpec { probe: Probe::Tcp, interval, jitter, timeout: Duration::from_secs(1), fall, rise }
    }

    /// Health by its definition: it changes when the last results, as many as it takes, all speak against it and none of
    /// them was made before the last change.
    fn expected(results: &[bool], fall: u32, rise: u32) -> Vec<HealthChange> {
        let (mut health, mut since) = (Health::Healthy, 0);
        let mut changes = Vec::new();
        for end in 1..=results.len() {
            let fresh = &results[since..end];
            let all_last = |count: u32, wanted: bool| {
                let count = count as usize;
                fresh.len() >= count && fresh[fresh.len() - count..].iter().all(|result| *result == wanted)
            };
            let change = match health {
                Health::Healthy if all_last(fall, false) => HealthChange::BecameUnhealthy,
                Health::Unhealthy if all_last(rise, true) => HealthChange::BecameHealthy,
                Health::Healthy | Health::Unhealthy => HealthChange::Unchanged,
            };
            match change {
                HealthChange::Unchanged => {}
                HealthChange::BecameHealthy => (health, since) = (Health::Healthy, end),
                HealthChange::BecameUnhealthy => (health, since) = (Health::Unhealthy, end),
            }
            changes.push(change);
        }
        changes
    }

    proptest! {
        #[test]
        fn health_changes_after_exactly_as_many_results_in_a_row(
            results in prop::collection::vec(prop::bool::weighted(0.4), 0..200), fall in 1_u32..5, rise in 1_u32..5,
        ) {
            let mut schedule = CheckSchedule::new(&spec(Duration::from_secs(2), 0.1, fall, rise), 1);
            let changes: Vec<_> = results.iter().map(|passed| schedule.note(*passed)).collect();
            prop_assert_eq!(changes, expected(&results, fall, rise));
        }

        #[test]
        fn the_next_check_is_an_interval_and_at_most_the_jitter_away(
            millis in 1_u64..100_000, jitter in 0.0..=1.0_f64, seed: u64, now in 0_u64..1 << 50,
        ) {
            let interval = Duration::from_millis(millis);
            let mut schedule = CheckSchedule::new(&spec(interval, jitter, 1, 1), seed);
            let now = Moment::from_nanos(now);
            prop_assert!(schedule.first(now) < now + interval);
            for _ in 0..20 {
                let wait = schedule.next(now).since(now);
                prop_assert!(wait >= interval);
                prop_assert!(wait <= interval + interval.mul_f64(jitter) + Duration::from_nanos(1));
            }
        }
    }

    #[test]
    fn jitter_is_spread_over_its_range_and_differs_between_servers() {
        let waits = |seed| {
            let mut schedule = CheckSchedule::new(&spec(Duration::from_secs(10), 0.5, 1, 1), seed);
            let now = Moment::from_nanos(1);
            (0..1000).map(|_| schedule.next(now).since(now).as_secs_f64()).collect::<Vec<_>>()
        };
        let mean = waits(1).iter().sum::<f64>() / 1000.0;
        assert!((12.4..12.6).contains(&mean), "{mean}");
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }

    #[test]
    fn a_jitter_that_makes_no_sense_is_none_or_a_whole_interval() {
        let now = Moment::from_nanos(1);
        for (jitter, most) in [(f64::NAN, 2), (-1.0, 2), (7.0, 4), (f64::INFINITY, 4)] {
            let mut schedule = CheckSchedule::new(&spec(Duration::from_secs(2), jitter, 1, 1), 3);
            assert!((0..100).all(|_| schedule.next(now).since(now) <= Duration::from_secs(most)), "{jitter}");
        }
    }

    #[test]
    fn health_from_before_is_kept() {
        let mut schedule =
            CheckSchedule::new(&spec(Duration::from_secs(2), 0.0, 1, 2), 1).with_health(Health::Unhealthy);
        assert_eq!([schedule.note(true), schedule.note(true)], [HealthChange::Unchanged, HealthChange::BecameHealthy]);
        assert_eq!(schedule.health(), Health::Healthy);
    }
}
