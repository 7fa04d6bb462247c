//! Plain (not atomic) histograms on the master: merge, difference, percentiles, and the conversion to `hdrhistogram`.
//!
//! Percentiles are a walk over the buckets here and not over a converted `hdrhistogram::Histogram`: a report asks for
//! four of them for each window, core, class and route, and a conversion for each would allocate and fill a second
//! histogram to find the same bucket. The definition is HdrHistogram's (the highest value equal, at this precision, to
//! the smallest one with at least `quantile * count` values at or below it) and a test compares the two.

use hdrhistogram::{Histogram, RecordError};
use serde::Serialize;

use super::histogram::{FULL, Layout};

/// The counts of a histogram at one moment, or over a span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where the buckets lie.
    pub layout: Layout,
    /// Values in each bucket; `layout.bucket_count()` of them.
    pub buckets: Vec<u64>,
    /// Sum of all values, in nanoseconds.
    pub sum: u64,
    /// Largest value, in nanoseconds. Exact for counts since a start; see [`Snapshot::subtract`] for differences.
    pub max: u64,
}

/// Latency percentiles in nanoseconds, each the highest value of its bucket and at most `max`; all 0 without values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Number of values.
    pub count: u64,
    /// Mean, in nanoseconds, rounded down.
    pub mean_ns: u64,
    /// Half of the values are at most this.
    pub p50_ns: u64,
    /// 90 % of the values are at most this.
    pub p90_ns: u64,
    /// 99 % of the values are at most this.
    pub p99_ns: u64,
    /// 99.9 % of the values are at most this.
    pub p999_ns: u64,
    /// All values are at most this.
    pub max_ns: u64,
}

impl Snapshot {
    /// A histogram without values.
    pub fn empty(layout: Layout) -> Self {
        Snapshot { layout, buckets: vec![0; layout.bucket_count()], sum: 0, max: 0 }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds one value, in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        let index = self.layout.index_of(nanos);
        self.buckets[index] += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds the values of `other`, as if they had been recorded here. Panics if the layouts differ.
    pub fn merge(&mut self, other: &Snapshot) {
        assert_eq!(self.layout, other.layout, "histograms of different layouts do not add up");
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Takes away what was there at an `earlier` moment of the same histogram; what is left was recorded since. A count
    /// that went backwards gives 0. Panics if the layouts differ.
    ///
    /// The maximum is exact if the span raised it; otherwise it is the upper end of the highest bucket that is left,
    /// which is within the layout's error. (A read that falls into a record may see its bucket alone: the maximum is that
    /// bucket's lower end then, and exact with the next read.)
    pub fn subtract(&mut self, earlier: &Snapshot) {
        assert_eq!(self.layout, earlier.layout, "histograms of different layouts do not subtract");
        for (mine, theirs) in self.buckets.iter_mut().zip(&earlier.buckets) {
            *mine = mine.saturating_sub(*theirs);
        }
        self.sum = self.sum.saturating_sub(earlier.sum);
        let highest = self.buckets.iter().rposition(|count| *count > 0);
        self.max = span_max(self.layout, highest, earlier.max, self.max);
    }

    /// The smallest bucket end, in nanoseconds, that at least `quantile` (0 to 1) of the values are at or below; the
    /// maximum where that is smaller, and 0 without values.
    pub fn value_at(&self, quantile: f64) -> u64 {
        self.walk(quantile, self.count())
    }

    fn walk(&self, quantile: f64, total: u64) -> u64 {
        if total == 0 {
            return 0;
        }
        let wanted = ((quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                // The last bucket has no upper end: values above the range are in it.
                let last = index + 1 == self.buckets.len();
                return if last { self.max } else { (self.layout.upper_bound(index) - 1).min(self.max) };
            }
        }
        self.max
    }

    /// The percentiles that reports show.
    pub fn percentiles(&self) -> Percentiles {
        let count = self.count();
        Percentiles {
            count,
            mean_ns: self.sum.checked_div(count).unwrap_or(0),
            p50_ns: self.walk(0.5, count),
            p90_ns: self.walk(0.9, count),
            p99_ns: self.walk(0.99, count),
            p999_ns: self.walk(0.999, count),
            max_ns: if count == 0 { 0 } else { self.max },
        }
    }

    /// Values below `2^exponent` nanoseconds: exact, for powers of two are bucket boundaries of every layout.
    pub fn count_below_power(&self, exponent: u32) -> u64 {
        let end = self.layout.index_of(1 << exponent);
        self.buckets.iter().take(end).sum()
    }

    /// The same counts as an `hdrhistogram::Histogram` of nanoseconds, each value as the highest one of its bucket.
    ///
    /// # Errors
    /// None in practice: the histogram is made large enough; the type is `hdrhistogram`'s.
    pub fn to_hdr(&self) -> Result<Histogram<u64>, RecordError> {
        let digits = if self.layout.sub_bits > 4 { 2 } else { 1 };
        let high = self.max.max(1 << self.layout.range_bits);
        let mut hdr = Histogram::new_with_bounds(1 << self.layout.unit_bits, high, digits)
            .map_err(|_| RecordError::ResizeFailedUsizeTypeTooSmall)?;
        for (index, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let last = index + 1 == self.buckets.len();
            let highest = if last { self.max } else { (self.layout.upper_bound(index) - 1).min(self.max) };
            hdr.record_n(highest, *count)?;
        }
        Ok(hdr)
    }
}

/// The maximum of a span, from the maxima (in nanoseconds) since the start before and after it.
fn span_max(layout: Layout, highest: Option<usize>, before: u64, after: u64) -> u64 {
    let max = match highest {
        // Also where no bucket is left: a read that fell into a record may have seen its bucket but not its maximum, which
        // comes now.
        _ if after > before => after,
        None => 0,
        Some(index) if index + 1 == layout.bucket_count() => after,
        Some(index) => (layout.upper_bound(index) - 1).min(after),
    };
    // Until then the bucket says how large it is at least.
    max.max(highest.map_or(0, |index| layout.lower_bound(index)))
}

/// What was recorded over a short span, as (bucket, count) pairs: one second touches a few hundred of [`FULL`]'s
/// buckets at most, and sixty of them are kept. 8 bytes a pair; counts saturate at 2^32 - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pairs: Box<[(u16, u32)]>,
    sum: u64,
    max: u64,
}

impl Delta {
    /// What `now` has more than `before` had, or all of `now` where the histogram is a new one.
    pub fn between(before: Option<&Snapshot>, now: &Snapshot) -> Delta {
        let counts = (0..now.buckets.len()).map(|index| {
            let earlier = before.map_or(0, |before| before.buckets[index]);
            now.buckets[index].saturating_sub(earlier)
        });
        let (sum, max) = before.map_or((0, 0), |before| (before.sum, before.max));
        Delta::from_counts(now.layout, counts, (sum, max), (now.sum, now.max))
    }

    /// Builds a delta from the counts of a span, in bucket order, and the (sum, maximum) before and after it.
    pub(super) fn from_counts(
        layout: Layout,
        counts: impl Iterator<Item = u64>,
        before: (u64, u64),
        after: (u64, u64),
    ) -> Delta {
        let pairs: Box<[(u16, u32)]> = counts
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(index, count)| (index as u16, u32::try_from(count).unwrap_or(u32::MAX)))
            .collect();
        let highest = pairs.last().map(|(index, _)| usize::from(*index));
        Delta { sum: after.0.saturating_sub(before.0), max: span_max(layout, highest, before.1, after.1), pairs }
    }

    /// A dense histogram, made sparse.
    pub fn from_snapshot(snapshot: &Snapshot) -> Delta {
        Delta::between(None, snapshot)
    }

    /// Adds the values to a dense histogram, whose layout must be the one that the delta came from.
    pub fn add_to(&self, into: &mut Snapshot) {
        for (index, count) in &self.pairs {
            if let Some(bucket) = into.buckets.get_mut(usize::from(*index)) {
                *bucket = bucket.saturating_add(u64::from(*count));
            }
        }
        into.sum = into.sum.saturating_add(self.sum);
        into.max = into.max.max(self.max);
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

// The precision of a two-digit `hdrhistogram` holds for `FULL` only while its octaves nest in hdrhistogram's 128.
const _: () = assert!(FULL.sub_bits < 8);

#[cfg(test)]
mod tests {
    use super::super::histogram::{COMPACT, CompactHistogram, FullHistogram};
    use super::*;
    use proptest::prelude::*;

    const QUANTILES: [f64; 7] = [0.0, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0];

    fn of(layout: Layout, values: &[u64]) -> Snapshot {
        let mut snapshot = Snapshot::empty(layout);
        values.iter().for_each(|value| snapshot.record(*value));
        snapshot
    }

    fn latencies() -> impl Strategy<Value = Vec<u64>> {
        let one = prop_oneof![0..4_000u64, 4_000..5_000_000u64, 5_000_000..60_000_000_000u64, Just(1 << 38)];
        prop::collection::vec(one, 1..300)
    }

    #[test]
    fn histogram_without_values_has_zero_percentiles() {
        assert_eq!(Snapshot::empty(FULL).percentiles(), Percentiles::default());
    }

    #[test]
    fn atomic_and_plain_histograms_agree() {
        let (full, compact) = (FullHistogram::default(), CompactHistogram::default());
        let values: Vec<u64> = (0..4000).map(|n: u64| n.pow(3) + n).collect();
        for value in &values {
            full.record(*value);
            compact.record(*value);
        }
        assert_eq!(full.read(), of(FULL, &values));
        assert_eq!(compact.read(), of(COMPACT, &values));
    }

    #[test]
    fn maximum_that_a_read_saw_later_than_its_bucket_is_in_the_next_span() {
        let now = of(FULL, &[20_001]);
        let early = Snapshot { max: 0, ..now.clone() };
        let mut sum = Snapshot::empty(FULL);
        Delta::between(None, &early).add_to(&mut sum);
        assert_eq!(sum.max, FULL.lower_bound(FULL.index_of(20_001)), "the bucket is all that is known");
        Delta::between(Some(&early), &now).add_to(&mut sum);
        assert_eq!(sum, now);
    }

    #[test]
    fn span_keeps_an_exact_maximum_only_if_it_raised_it() {
        let before = of(FULL, &[10_000, 500]);
        let mut raised = of(FULL, &[10_000, 500, 20_001]);
        raised.subtract(&before);
        assert_eq!(raised.max, 20_001);
        let mut below = of(FULL, &[10_000, 500, 7_000]);
        below.subtract(&before);
        assert!((7_000..7_000 + 7_000 / 64 + 1).contains(&below.max), "{}", below.max);
        let mut nothing = before.clone();
        nothing.subtract(&before);
        assert_eq!((nothing.count(), nothing.max), (0, 0));
    }

    #[test]
    fn subtract_of_a_replaced_histogram_gives_no_negative_count() {
        let mut fresh = of(FULL, &[100]);
        fresh.subtract(&of(FULL, &[1_000, 2_000, 3_000]));
        assert_eq!((fresh.count(), fresh.sum), (1, 0));
    }

    /// The value at a quantile, without any rounding, by HdrHistogram's definition.
    fn exact_value_at(sorted: &[u64], quantile: f64) -> u64 {
        let rank = (quantile * sorted.len() as f64).ceil() as usize;
        sorted[rank.max(1) - 1]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 64 }))]

        #[test]
        fn percentiles_equal_those_of_hdrhistogram(values in latencies()) {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for (layout, part, digits) in [(FULL, 64, 2), (COMPACT, 16, 1)] {
                let snapshot = of(layout, &values);
                let converted = snapshot.to_hdr().unwrap();
                prop_assert_eq!(converted.len(), snapshot.count());
                let mut oracle = Histogram::<u64>::new_with_bounds(1 << layout.unit_bits, 1 << 39, digits).unwrap();
                values.iter().for_each(|value| oracle.record(*value).unwrap());
                for quantile in QUANTILES {
                    let (mine, exact) = (snapshot.value_at(quantile), exact_value_at(&sorted, quantile));
                    prop_assert!(converted.equivalent(mine, converted.value_at_quantile(quantile)));
                    let unit = 1 << layout.unit_bits;
                    prop_assert!(mine >= exact && mine - exact <= exact / part + unit, "{} {} {}", quantile, mine, exact);
                    let theirs = oracle.value_at_quantile(quantile);
                    prop_assert!(mine.abs_diff(theirs) <= exact / part + unit, "{} {} {}", quantile, mine, theirs);
                }
            }
        }

        #[test]
        fn merge_equals_recording_the_concatenation(a in latencies(), b in latencies()) {
            let mut merged = of(FULL, &a);
            merged.merge(&of(FULL, &b));
            prop_assert_eq!(merged, of(FULL, &[a, b].concat()));
        }

        #[test]
        fn delta_added_to_the_earlier_counts_gives_the_later_ones(a in latencies(), b in latencies()) {
            let before = of(COMPACT, &a);
            let after = of(COMPACT, &[a, b].concat());
            let mut sum = before.clone();
            let delta = Delta::between(Some(&before), &after);
            delta.add_to(&mut sum);
            prop_assert_eq!(&sum, &after);
            let mut span = after.clone();
            span.subtract(&before);
            prop_assert_eq!(Delta::from_snapshot(&span).pairs, delta.pairs);
        }

        #[test]
        fn counts_below_a_power_of_two_are_exact(values in latencies(), exponent in 11..36u32) {
            let exact = values.iter().filter(|value| **value < 1 << exponent).count() as u64;
            for layout in [FULL, COMPACT] {
                prop_assert_eq!(of(layout, &values).count_below_power(exponent), exact);
            }
        }
    }
}
