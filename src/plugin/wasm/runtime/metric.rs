//! Metrics that guests define. Each instance counts in cells of its own, which nobody else writes; whoever asks for a value, a
//! guest or the exposition, adds them up. Only a gauge is one cell for all: the last value that is set counts, whoever sets it.

use std::sync::{Arc, PoisonError};

use super::abi::Status;
use crate::limits::{WASM_METRICS_MAX, WASM_SHARED_NAME_BYTES_MAX};
use crate::metrics::guests::{GUEST_BOUNDS, GuestMetric, GuestValue};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a metric counts (`proxy_metric_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

type Buckets = [AtomicU64; GUEST_BOUNDS.len() + 1];

/// What one instance has counted; of a gauge what all have.
#[derive(Debug)]
pub(crate) enum Cell {
    Counter(AtomicU64),
    Gauge(AtomicU64),
    Histogram(Box<Buckets>, AtomicU64),
}

/// Adds to a number that has one writer.
fn add(number: &AtomicU64, count: u64) {
    number.store(number.load(Relaxed).saturating_add(count), Relaxed);
}

impl Cell {
    fn new(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter(AtomicU64::new(0)),
            MetricKind::Gauge => Self::Gauge(AtomicU64::new(0)),
            MetricKind::Histogram => Self::Histogram(Box::default(), AtomicU64::new(0)),
        }
    }

    /// Changes the metric by `delta`. Counters only grow; a histogram takes values.
    pub(crate) fn increment(&self, delta: i64) -> Result<(), Status> {
        match self {
            Self::Counter(value) => add(value, u64::try_from(delta).map_err(|_| Status::BadArgument)?),
            // The one that other cores may write at the same time.
            Self::Gauge(value) => {
                let changed = value.fetch_update(Relaxed, Relaxed, |value| Some(value.saturating_add_signed(delta)));
                debug_assert!(changed.is_ok(), "it is always changed");
            }
            Self::Histogram(..) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    /// Sets a gauge, adds a value to a histogram, or adds to a counter, as Envoy does.
    pub(crate) fn record(&self, value: u64) {
        match self {
            Self::Counter(held) => add(held, value),
            Self::Gauge(held) => held.store(value, Relaxed),
            Self::Histogram(buckets, sum) => {
                if let Some(bucket) = buckets.get(GUEST_BOUNDS.partition_point(|bound| *bound < value)) {
                    add(bucket, 1);
                }
                add(sum, value);
            }
        }
    }

    /// Adds what another one has counted; there is one of a gauge.
    fn take_over(&self, other: &Self) {
        match (self, other) {
            (Self::Counter(value), Self::Counter(other)) => add(value, other.load(Relaxed)),
            (Self::Histogram(buckets, sum), Self::Histogram(others, other)) => {
                buckets.iter().zip(others.iter()).for_each(|(bucket, other)| add(bucket, other.load(Relaxed)));
                add(sum, other.load(Relaxed));
            }
            (Self::Counter(_) | Self::Gauge(_) | Self::Histogram(..), _) => {}
        }
    }
}

/// A metric that a guest has defined.
#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    name: String,
    /// The gauge, or what instances have counted that are gone.
    past: Arc<Cell>,
    /// Those of instances.
    cells: Vec<Arc<Cell>>,
}

impl Metric {
    /// An instance's own.
    fn open_cell(&mut self) -> Arc<Cell> {
        if self.kind == MetricKind::Gauge {
            return self.past.clone();
        }
        // Nobody else has those any more, so that they do not change: `get_mut` sees all that was written before.
        let past = &self.past;
        self.cells.retain_mut(|cell| match Arc::get_mut(cell) {
            Some(cell) => {
                past.take_over(cell);
                false
            }
            None => true,
        });
        let cell = Arc::new(Cell::new(self.kind));
        self.cells.push(cell.clone());
        cell
    }

    fn value(&self) -> GuestValue {
        let cells = || self.cells.iter().chain([&self.past]);
        let load = |sum: u64, number: &AtomicU64| sum.saturating_add(number.load(Relaxed));
        match &*self.past {
            Cell::Counter(_) => GuestValue::Counter(cells().fold(0, |sum, cell| match &**cell {
                Cell::Counter(value) => load(sum, value),
                Cell::Gauge(_) | Cell::Histogram(..) => sum,
            })),
            Cell::Gauge(value) => GuestValue::Gauge(value.load(Relaxed)),
            Cell::Histogram(..) => {
                let (mut counts, mut sum) = ([0; GUEST_BOUNDS.len() + 1], 0);
                for cell in cells() {
                    if let Cell::Histogram(buckets, own) = &**cell {
                        counts.iter_mut().zip(buckets.iter()).for_each(|(count, bucket)| *count = load(*count, bucket));
                        sum = load(sum, own);
                    }
                }
                GuestValue::Histogram { counts, sum }
            }
        }
    }
}

/// The metrics of one module. Locked when a guest defines one, first uses one or asks for a value, and by the reader.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Vec<Metric>>);

impl Metrics {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Metric>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the metric of this name and kind, which is made when there is none.
    pub(crate) fn define(&self, kind: u32, name: &[u8]) -> Result<u32, Status> {
        let kind = match kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        let name = str::from_utf8(name).map_err(|_| Status::BadArgument)?;
        self.with(|metrics| {
            let found = metrics.iter().position(|metric| metric.name == name && metric.kind == kind);
            if let Some(index) = found {
                return Ok(index as u32 + 1);
            }
            if metrics.len() >= WASM_METRICS_MAX || name.len() > WASM_SHARED_NAME_BYTES_MAX {
                return Err(Status::InternalFailure);
            }
            let past = Arc::new(Cell::new(kind));
            metrics.push(Metric { kind, name: name.to_owned(), past, cells: Vec::new() });
            Ok(metrics.len() as u32)
        })
    }

    /// The value of a metric, that of all instances; of a histogram how many values there were.
    pub(crate) fn value(&self, number: u32) -> Result<u64, Status> {
        let index = index_of(number)?;
        let value = self.with(|metrics| metrics.get(index).map(Metric::value)).ok_or(Status::NotFound)?;
        Ok(match value {
            GuestValue::Counter(value) | GuestValue::Gauge(value) => value,
            GuestValue::Histogram { counts, .. } => counts.iter().sum(),
        })
    }

    /// All of them at this moment.
    pub(crate) fn sample(&self) -> Vec<GuestMetric> {
        let sample = |metric: &Metric| GuestMetric { name: metric.name.clone(), value: metric.value() };
        self.with(|metrics| metrics.iter().map(sample).collect())
    }
}

fn index_of(number: u32) -> Result<usize, Status> {
    (number as usize).checked_sub(1).ok_or(Status::NotFound)
}

/// The cells that one instance counts in, by the number of the metric; taken when it first uses one.
#[derive(Debug, Default)]
pub(crate) struct OwnCells(Vec<Option<Arc<Cell>>>);

impl OwnCells {
    /// That of this metric.
    pub(crate) fn get(&mut self, metrics: &Metrics, number: u32) -> Result<&Cell, Status> {
        let index = index_of(number)?;
        if !self.0.get(index).is_some_and(Option::is_some) {
            let cell = metrics.with(|metrics| metrics.get_mut(index).map(Metric::open_cell)).ok_or(Status::NotFound)?;
            if self.0.len() <= index {
                self.0.resize(index + 1, None);
            }
            self.0[index] = Some(cell);
        }
        self.0.get(index).and_then(Option::as_deref).ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn metrics_do_what_their_kind_says() {
        let (metrics, mut own) = (Metrics::default(), OwnCells::default());
        let [counter, gauge, histogram] = [0, 1, 2].map(|kind| metrics.define(kind, b"name").unwrap());
        own.get(&metrics, counter).unwrap().increment(3).unwrap();
        assert_eq!(own.get(&metrics, counter).unwrap().increment(-1), Err(Status::BadArgument));
        own.get(&metrics, gauge).unwrap().record(7);
        own.get(&metrics, gauge).unwrap().increment(-2).unwrap();
        assert_eq!(own.get(&metrics, histogram).unwrap().increment(1), Err(Status::BadArgument));
        own.get(&metrics, histogram).unwrap().record(9);
        assert_eq!([counter, gauge, histogram].map(|metric| metrics.value(metric)), [Ok(3), Ok(5), Ok(1)]);
        own.get(&metrics, gauge).unwrap().increment(i64::MIN).unwrap();
        assert_eq!(metrics.value(gauge), Ok(0), "it is never below zero");
        assert_eq!(metrics.define(0, b"name"), Ok(counter), "the same one again");
        assert_eq!((metrics.value(99), metrics.define(3, b"x")), (Err(Status::NotFound), Err(Status::BadArgument)));
        assert!([0, 99, u32::MAX].iter().all(|number| own.get(&metrics, *number).is_err()));
    }

    #[test]
    fn a_module_has_so_many_metrics_and_no_more() {
        let metrics = Metrics::default();
        for index in 0..WASM_METRICS_MAX {
            metrics.define(0, index.to_string().as_bytes()).unwrap();
        }
        assert_eq!(metrics.define(0, b"more"), Err(Status::InternalFailure));
        assert_eq!(metrics.define(0, b"7"), Ok(8));
        assert_eq!(metrics.define(1, &[b'x'; WASM_SHARED_NAME_BYTES_MAX + 1]), Err(Status::InternalFailure));
    }

    #[test]
    fn a_value_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        let (metrics, mut own) = (Metrics::default(), OwnCells::default());
        let histogram = metrics.define(2, b"sizes").unwrap();
        for value in [0, 1, 2, 5, 3_600_000, 3_600_001] {
            own.get(&metrics, histogram).unwrap().record(value);
        }
        let GuestValue::Histogram { counts, sum } = metrics.sample()[0].value.clone() else { panic!("a histogram") };
        assert_eq!((counts[0], counts[1], counts[2], counts[17], counts[18]), (2, 2, 0, 1, 1));
        assert_eq!(sum, 7_200_009);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_when_instances_come_and_go(steps in prop::collection::vec((0..3_u8, 0..4_usize, 0..100_u32), 0..200)) {
            let metrics = Metrics::default();
            let (counter, histogram) = (metrics.define(0, b"a").unwrap(), metrics.define(2, b"a").unwrap());
            let mut instances: [OwnCells; 4] = Default::default();
            let (mut sum, mut values) = (0, 0);
            for (kind, which, number) in steps {
                let own = &mut instances[which];
                match kind {
                    0 => {
                        own.get(&metrics, counter).unwrap().increment(i64::from(number)).unwrap();
                        sum += u64::from(number);
                    }
                    1 => {
                        own.get(&metrics, histogram).unwrap().record(u64::from(number));
                        values += 1;
                    }
                    _ => *own = OwnCells::default(),
                }
                prop_assert_eq!((metrics.value(counter), metrics.value(histogram)), (Ok(sum), Ok(values)));
                let held = metrics.with(|metrics| metrics.iter().map(|metric| metric.cells.len()).max());
                prop_assert!(held <= Some(8), "what is gone is folded in: {:?}", held);
            }
        }
    }
}
