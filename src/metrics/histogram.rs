//! Log-linear latency histograms with one writer: a record is two shifts and three relaxed loads and stores.
//!
//! Values are nanoseconds. A value is cut to units of `2^unit_bits` ns; units below `2^(sub_bits + 1)` have a bucket
//! each, and from there on each power of two is divided into `2^sub_bits` equal buckets. This is the layout of
//! HdrHistogram: [`COMPACT`] is exactly its one-significant-digit layout, and every bucket of [`FULL`] is two adjacent
//! ones of its two-digit layout, so that a conversion (see [`super::snapshot`]) loses nothing.
//!
//! | layout | unit | buckets per octave | error from 1 µs up | range | buckets | bytes |
//! |---|---|---|---|---|---|---|
//! | [`FULL`] | 16 ns | 64 | 1/64 = 1.6 % | 68.7 s | 1728 | 13 840 (64-bit cells) |
//! | [`COMPACT`] | 64 ns | 16 | 1/16 = 6.25 % | 68.7 s | 432 | 1 744 (32-bit cells) |
//!
//! [`COMPACT`] comes with 64-bit cells too (3 472 bytes), for those whose counts are shown as they are.
//!
//! Below 1.024 µs the error is one unit. Values above the range are counted in the last bucket; the sum and the maximum
//! are exact for all values.

use super::snapshot::Snapshot;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Where the buckets of a histogram lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Binary logarithm of the unit, the width of the narrowest bucket, in nanoseconds.
    pub unit_bits: u32,
    /// Binary logarithm of the buckets per power of two.
    pub sub_bits: u32,
    /// Binary logarithm of the range: values of `2^range_bits` ns and more fall into the last bucket.
    pub range_bits: u32,
}

/// The layout of latencies per core and status class: at most 1.6 % error from 1 µs to 68.7 s.
pub const FULL: Layout = if MODEL { MODEL_LAYOUT } else { Layout { unit_bits: 4, sub_bits: 6, range_bits: 36 } };
/// The layout of latencies per route: at most 6.25 % error from 1 µs to 68.7 s.
pub const COMPACT: Layout = if MODEL { MODEL_LAYOUT } else { Layout { unit_bits: 6, sub_bits: 4, range_bits: 36 } };
/// loom looks at every atomic: three buckets show as much of how they are written and read as two thousand.
const MODEL: bool = cfg!(loom);
const MODEL_LAYOUT: Layout = Layout { unit_bits: 0, sub_bits: 0, range_bits: 2 };
/// Buckets of [`FULL`].
pub const FULL_BUCKETS: usize = FULL.bucket_count();
/// Buckets of [`COMPACT`].
pub const COMPACT_BUCKETS: usize = COMPACT.bucket_count();

const _: () =
    assert!(MODEL || FULL_BUCKETS == 1728 && COMPACT_BUCKETS == 432, "the table above and the memory sums say so");
// Sparse deltas (see `snapshot`) name a bucket by a `u16`.
const _: () = assert!(FULL_BUCKETS <= u16::MAX as usize);

impl Layout {
    /// Number of buckets.
    pub const fn bucket_count(self) -> usize {
        ((self.range_bits - self.unit_bits - self.sub_bits + 1) as usize) << self.sub_bits
    }

    /// The bucket of a value of `nanos` nanoseconds; always below [`Layout::bucket_count`].
    #[inline(always)]
    pub const fn index_of(self, nanos: u64) -> usize {
        let largest = (1 << self.range_bits) - 1;
        let units = (if nanos < largest { nanos } else { largest }) >> self.unit_bits;
        // The linear part is the first two "octaves": setting all its bits makes the shift zero there without a branch.
        let linear = (1 << (self.sub_bits + 1)) - 1;
        let shift = (63 - self.sub_bits) - (units | linear).leading_zeros();
        ((shift as usize) << self.sub_bits) + (units >> shift) as usize
    }

    /// The smallest value, in nanoseconds, that falls into bucket `index`.
    pub const fn lower_bound(self, index: usize) -> u64 {
        let octave = index >> self.sub_bits;
        let shift = octave.saturating_sub(1) as u32;
        ((index as u64 - ((shift as u64) << self.sub_bits)) << shift) << self.unit_bits
    }

    /// The first value, in nanoseconds, above bucket `index`; for the last bucket the end of the range, although the
    /// values above the range are counted there too.
    pub const fn upper_bound(self, index: usize) -> u64 {
        let shift = (index >> self.sub_bits).saturating_sub(1) as u32;
        self.lower_bound(index) + (1 << (shift + self.unit_bits))
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::sync::atomic::AtomicU32 {}
    impl Sealed for crate::sync::atomic::AtomicU64 {}
    impl Sealed for super::SteadyCell {}
}

/// A bucket: an atomic counter that wraps at its width. Only `AtomicU32`, `AtomicU64` and
/// [`SteadyCell`] are cells.
pub trait Cell: sealed::Sealed + Default {
    /// The layout of histograms with this cell: width and precision go together.
    const LAYOUT: Layout;
    /// Adds one; the caller is the only writer.
    fn bump(&self);
    /// The count now, modulo the cell's width.
    fn read(&self) -> u64;
}

impl Cell for AtomicU64 {
    const LAYOUT: Layout = FULL;
    #[inline(always)]
    fn bump(&self) {
        // Not `fetch_add`: with one writer a plain load and store is enough, and it is not a locked instruction.
        self.store(self.load(Relaxed).wrapping_add(1), Relaxed);
    }
    fn read(&self) -> u64 {
        self.load(Relaxed)
    }
}

// 32 bits wrap after an hour of a million requests a second in one bucket. Wrapping, and not saturating: the aggregator
// reads once a second and takes differences modulo 2^32, so nothing is lost, where a saturated bucket would stop for ever.
impl Cell for AtomicU32 {
    const LAYOUT: Layout = COMPACT;
    #[inline(always)]
    fn bump(&self) {
        self.store(self.load(Relaxed).wrapping_add(1), Relaxed);
    }
    fn read(&self) -> u64 {
        u64::from(self.load(Relaxed))
    }
}

/// A cell of the compact layout that does not wrap: for histograms that nobody takes differences of.
#[derive(Debug, Default)]
pub struct SteadyCell(AtomicU64);

impl Cell for SteadyCell {
    const LAYOUT: Layout = COMPACT;
    #[inline(always)]
    fn bump(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }
    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram that one thread writes and any thread reads.
///
/// Nothing enforces the single writer here (two would lose counts, not break memory safety), therefore recording is
/// private to `metrics`; [`super::shard::ShardWriter`] is the single writer by construction.
#[repr(C)]
#[derive(Debug)]
pub struct AtomicHistogram<C: Cell, const BUCKETS: usize> {
    // First, so that a route's class counts, its sum and its maximum share a cache line (see `shard::RouteCell`).
    sum: AtomicU64,
    max: AtomicU64,
    buckets: [C; BUCKETS],
}

/// Latencies per core and status class.
pub type FullHistogram = AtomicHistogram<AtomicU64, FULL_BUCKETS>;
/// Latencies per route.
pub type CompactHistogram = AtomicHistogram<AtomicU32, COMPACT_BUCKETS>;
/// Latencies per server of an upstream: as many counts as there are requests in the life of the process.
pub type SteadyHistogram = AtomicHistogram<SteadyCell, COMPACT_BUCKETS>;

impl<C: Cell, const BUCKETS: usize> Default for AtomicHistogram<C, BUCKETS> {
    fn default() -> Self {
        const { assert!(BUCKETS == C::LAYOUT.bucket_count()) };
        AtomicHistogram {
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| C::default()),
        }
    }
}

impl<C: Cell, const BUCKETS: usize> AtomicHistogram<C, BUCKETS> {
    /// Records one value in nanoseconds. Only one thread may ever call this on one histogram.
    #[inline(always)]
    pub(crate) fn record(&self, nanos: u64) {
        // `index_of` is below BUCKETS; `get` is how the compiler is told without a panic on the request path.
        if let Some(bucket) = self.buckets.get(C::LAYOUT.index_of(nanos)) {
            bucket.bump();
        }
        self.sum.store(self.sum.load(Relaxed).wrapping_add(nanos), Relaxed);
        if nanos > self.max.load(Relaxed) {
            self.max.store(nanos, Relaxed);
        }
    }

    /// Copies the counts. While the writer goes on, `sum` and `max` may miss, or be ahead of, the last few values.
    /// The counts of a [`CompactHistogram`] are modulo 2^32: use only differences of them.
    pub fn read(&self) -> Snapshot {
        let buckets = self.buckets.iter().map(C::read).collect();
        Snapshot { layout: C::LAYOUT, buckets, sum: self.sum.load(Relaxed), max: self.max.load(Relaxed) }
    }

    /// Copies the buckets, the sum and the maximum into 32-bit counts, for a reader that keeps only differences.
    pub(super) fn read_narrow(&self) -> (Box<[u32]>, u64, u64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.read() as u32).collect();
        (buckets, self.sum.load(Relaxed), self.max.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_contains(layout: Layout, nanos: u64) {
        let index = layout.index_of(nanos);
        assert!(index < layout.bucket_count());
        assert!(layout.lower_bound(index) <= nanos, "{layout:?} {nanos}");
        if nanos < 1 << layout.range_bits {
            assert!(nanos < layout.upper_bound(index), "{layout:?} {nanos}");
        } else {
            assert_eq!(index, layout.bucket_count() - 1);
        }
    }

    #[test]
    fn buckets_adjoin_and_cover_the_range() {
        for layout in [FULL, COMPACT] {
            assert_eq!(layout.lower_bound(0), 0);
            for index in 1..layout.bucket_count() {
                assert_eq!(layout.upper_bound(index - 1), layout.lower_bound(index));
                assert_eq!(layout.index_of(layout.lower_bound(index)), index);
                assert_eq!(layout.index_of(layout.lower_bound(index) - 1), index - 1);
            }
            assert_eq!(layout.upper_bound(layout.bucket_count() - 1), 1 << layout.range_bits);
        }
    }

    #[test]
    fn bucket_width_stays_within_the_documented_error() {
        for (layout, error) in [(FULL, 1.0 / 64.0), (COMPACT, 1.0 / 16.0)] {
            for index in layout.index_of(1024)..layout.bucket_count() {
                let (lower, upper) = (layout.lower_bound(index), layout.upper_bound(index));
                assert!((upper - lower) as f64 <= error * lower as f64, "{layout:?} {index}");
            }
        }
    }

    #[test]
    fn value_above_the_range_is_counted_and_kept_exact_in_sum_and_max() {
        let histogram = FullHistogram::default();
        histogram.record(u64::MAX / 4);
        histogram.record(5);
        let read = histogram.read();
        assert_eq!(read.buckets[FULL_BUCKETS - 1], 1);
        assert_eq!((read.sum, read.max), (u64::MAX / 4 + 5, u64::MAX / 4));
    }

    #[test]
    fn compact_histogram_of_a_route_fits_two_kibibytes() {
        assert!(size_of::<CompactHistogram>() <= 2048);
    }

    proptest! {
        #[test]
        fn bucket_of_every_value_contains_it(nanos in prop_oneof![any::<u64>(), 0..1u64 << 37, 0..100_000u64]) {
            assert_contains(FULL, nanos);
            assert_contains(COMPACT, nanos);
        }
    }
}
