//! How fast a server answers: a moving average that jumps up and sinks slowly.

use crate::clock::Moment;
use crate::limits::LATENCY_DECAY_SECS;
use std::time::Duration;

/// Peak-EWMA latency of one server, as one core sees it.
///
/// A sample above the average replaces it at once: a server that has become slow is noticed with its first late answer. A
/// sample below draws the average towards it, the more the longer the last one is past, with a time constant of
/// [`LATENCY_DECAY_SECS`].
///
/// Only answers are samples. A connection refused takes no time and would look like the fastest server of all; failures
/// are what [`crate::proxy::StandingSet`] is told.
#[derive(Debug, Clone, Default)]
pub struct PeakEwma(Option<Average>);

#[derive(Debug, Clone, Copy)]
struct Average {
    nanos: f64,
    sampled: Moment,
}

impl PeakEwma {
    /// The average of a server that has not answered yet.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Takes a sample: the time from a request's sending to its response head, which ended `now`.
    pub fn record(&mut self, latency: Duration, now: Moment) {
        let sample = (latency.as_nanos() as f64).max(1.0);
        let nanos = match self.0 {
            Some(before) if before.nanos > sample => {
                sample + (before.nanos - sample) * kept_after(now.since(before.sampled))
            }
            Some(_) | None => sample,
        };
        self.0 = Some(Average { nanos, sampled: now });
    }

    /// The average as of the last sample; `None` before the first.
    pub fn latency(&self) -> Option<Duration> {
        self.0.map(|average| Duration::from_nanos(average.nanos as u64))
    }

    /// Nanoseconds that an answer is expected to take: the average, sunk towards zero since the last sample, or since
    /// `asked`, when the server was last chosen, if that is later. `None`: nothing is known.
    ///
    /// The sinking is what has a server tried again that was slow once and got no requests since. It starts anew when it
    /// is tried, or all requests would go there until its first answer has come.
    pub(super) fn expected_nanos(&self, asked: Option<Moment>, now: Moment) -> Option<f64> {
        let average = self.0?;
        let last = asked.map_or(average.sampled, |asked| asked.max(average.sampled));
        Some(average.nanos * kept_after(now.since(last)))
    }
}

/// The part of a difference that is left after a time.
fn kept_after(elapsed: Duration) -> f64 {
    (-elapsed.as_secs_f64() / LATENCY_DECAY_SECS as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Moment = Moment::from_nanos(5_000_000_000);

    #[test]
    fn a_slower_answer_counts_at_once_and_fades_with_the_time_constant() {
        let mut latency = PeakEwma::new();
        assert_eq!(latency.latency(), None);
        latency.record(Duration::from_millis(10), START);
        latency.record(Duration::from_millis(500), START);
        assert_eq!(latency.latency(), Some(Duration::from_millis(500)));
        latency.record(Duration::from_millis(10), START + Duration::from_secs(LATENCY_DECAY_SECS));
        let left = latency.latency().unwrap().as_secs_f64();
        assert!((left - (0.010 + 0.490 / std::f64::consts::E)).abs() < 1e-6, "{left}");
    }

    #[test]
    fn expectation_sinks_without_samples_and_is_whole_again_when_the_server_is_asked() {
        let mut latency = PeakEwma::new();
        latency.record(Duration::from_secs(1), START);
        let later = START + Duration::from_secs(LATENCY_DECAY_SECS);
        let sunk = latency.expected_nanos(Some(START), later).unwrap();
        assert!((sunk - 1e9 / std::f64::consts::E).abs() < 1.0, "{sunk}");
        assert_eq!(latency.expected_nanos(Some(later), later), Some(1e9));
        assert_eq!(PeakEwma::new().expected_nanos(None, later), None);
    }

    proptest! {
        #[test]
        fn the_average_lies_between_the_sample_and_what_it_was(
            samples in prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 36), 1..100),
        ) {
            let (mut latency, mut now, mut before) = (PeakEwma::new(), START, None::<f64>);
            for (sample, wait) in samples {
                now = now + Duration::from_nanos(wait);
                latency.record(Duration::from_nanos(sample), now);
                let average = latency.expected_nanos(None, now).unwrap();
                let sample = (sample as f64).max(1.0);
                prop_assert!(average >= sample);
                prop_assert!(average <= before.unwrap_or(0.0).max(sample));
                before = Some(average);
            }
        }
    }
}
