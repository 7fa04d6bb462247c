//! What all instances of a module share, on all cores: data under keys, queues, metrics. It outlives reloads.
//!
//! These are the only locks that a guest can reach, and only guests that ask for shared data take them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, Weak};

use super::abi::Status;
use crate::limits::{
    WASM_METRICS_MAX, WASM_QUEUE_ITEMS_MAX, WASM_QUEUES_MAX, WASM_SHARED_BYTES_MAX, WASM_SHARED_KEYS_MAX,
    WASM_SHARED_NAME_BYTES_MAX,
};
use crate::sync::Mutex;

/// What a metric counts (`proxy_metric_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetricKind {
    Counter,
    Gauge,
    /// Of which this host keeps the number of values.
    Histogram,
}

/// A metric that a guest has defined.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metric {
    kind: MetricKind,
    name: String,
    /// The value; of a histogram how many there were.
    value: u64,
}

#[derive(Debug, Default)]
struct Queue {
    name: Vec<u8>,
    items: VecDeque<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    data: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    /// Counts changes: the next value to compare and swap with. Never zero, which means "whatever it is".
    changes: u32,
    queues: Vec<Queue>,
    /// Bytes of keys, values and items.
    bytes: usize,
    metrics: Vec<Metric>,
}

/// The shared things of one module.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

static ALL: Mutex<BTreeMap<String, Weak<Shared>>> = Mutex::new(BTreeMap::new());

impl Shared {
    /// That of the module `name`: the one that its instances have already, or a new one.
    pub(crate) fn of(name: &str) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = all.get(name).and_then(Weak::upgrade) {
            return shared;
        }
        all.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(Self::default());
        all.insert(name.to_owned(), Arc::downgrade(&shared));
        shared
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends the value of `key` to `out`, and tells what to compare and swap with.
    pub(crate) fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        self.with(|state| {
            let (value, cas) = state.data.get(key).ok_or(Status::NotFound)?;
            out.extend_from_slice(value);
            Ok(*cas)
        })
    }

    /// Sets the value of `key`, unless `cas` is not zero and its value has changed since.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        self.with(|state| {
            let held = state.data.get(key);
            if cas != 0 && held.is_some_and(|(_, current)| *current != cas) {
                return Err(Status::CasMismatch);
            }
            let freed = held.map_or(0, |(value, _)| key.len() + value.len());
            let bytes = state.bytes - freed + key.len() + value.len();
            let is_new = held.is_none();
            if bytes > WASM_SHARED_BYTES_MAX || is_new && state.data.len() >= WASM_SHARED_KEYS_MAX {
                return Err(Status::InternalFailure);
            }
            state.changes = state.changes.checked_add(1).unwrap_or(1);
            state.data.insert(key.to_vec(), (value.to_vec(), state.changes));
            state.bytes = bytes;
            Ok(())
        })
    }

    /// The number of the queue of this name, which is made when there is none.
    pub(crate) fn register_queue(&self, name: &[u8]) -> Result<u32, Status> {
        self.with(|state| {
            if let Some(index) = state.queues.iter().position(|queue| queue.name == name) {
                return Ok(index as u32 + 1);
            }
            if state.queues.len() >= WASM_QUEUES_MAX || name.len() > WASM_SHARED_NAME_BYTES_MAX {
                return Err(Status::InternalFailure);
            }
            state.queues.push(Queue { name: name.to_vec(), items: VecDeque::new() });
            Ok(state.queues.len() as u32)
        })
    }

    /// The number of the queue of this name.
    pub(crate) fn find_queue(&self, name: &[u8]) -> Result<u32, Status> {
        let found = self.with(|state| state.queues.iter().position(|queue| queue.name == name));
        found.map(|index| index as u32 + 1).ok_or(Status::NotFound)
    }

    /// Puts an item behind the others.
    pub(crate) fn enqueue(&self, queue: u32, item: &[u8]) -> Result<(), Status> {
        self.with(|state| {
            let bytes = state.bytes + item.len();
            let queue = queue_of(&mut state.queues, queue)?;
            if queue.items.len() >= WASM_QUEUE_ITEMS_MAX || bytes > WASM_SHARED_BYTES_MAX {
                return Err(Status::InternalFailure);
            }
            queue.items.push_back(item.to_vec());
            state.bytes = bytes;
            Ok(())
        })
    }

    /// Takes the first item.
    pub(crate) fn dequeue(&self, queue: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        self.with(|state| {
            let item = queue_of(&mut state.queues, queue)?.items.pop_front().ok_or(Status::Empty)?;
            state.bytes -= item.len();
            out.extend_from_slice(&item);
            Ok(())
        })
    }

    /// The number of the metric of this name, which is made when there is none.
    pub(crate) fn define_metric(&self, kind: u32, name: &[u8]) -> Result<u32, Status> {
        let kind = match kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        let name = str::from_utf8(name).map_err(|_| Status::BadArgument)?;
        self.with(|state| {
            let found = state.metrics.iter().position(|metric| metric.name == name && metric.kind == kind);
            if let Some(index) = found {
                return Ok(index as u32 + 1);
            }
            if state.metrics.len() >= WASM_METRICS_MAX || name.len() > WASM_SHARED_NAME_BYTES_MAX {
                return Err(Status::InternalFailure);
            }
            state.metrics.push(Metric { kind, name: name.to_owned(), value: 0 });
            Ok(state.metrics.len() as u32)
        })
    }

    /// Changes a metric by `delta`. Counters only grow.
    pub(crate) fn increment(&self, metric: u32, delta: i64) -> Result<(), Status> {
        self.change(metric, |metric| {
            match metric.kind {
                MetricKind::Counter if delta < 0 => return Err(Status::BadArgument),
                MetricKind::Counter | MetricKind::Gauge => metric.value = metric.value.saturating_add_signed(delta),
                MetricKind::Histogram => return Err(Status::BadArgument),
            }
            Ok(())
        })
    }

    /// Sets a gauge, adds a value to a histogram, or adds to a counter, as Envoy does.
    pub(crate) fn record(&self, metric: u32, value: u64) -> Result<(), Status> {
        self.change(metric, |metric| {
            match metric.kind {
                MetricKind::Counter => metric.value = metric.value.saturating_add(value),
                MetricKind::Gauge => metric.value = value,
                MetricKind::Histogram => metric.value = metric.value.saturating_add(1),
            }
            Ok(())
        })
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, metric: u32) -> Result<u64, Status> {
        self.change(metric, |metric| Ok(metric.value))
    }

    fn change<T>(&self, metric: u32, work: impl FnOnce(&mut Metric) -> Result<T, Status>) -> Result<T, Status> {
        self.with(|state| {
            let index = (metric as usize).checked_sub(1).ok_or(Status::NotFound)?;
            work(state.metrics.get_mut(index).ok_or(Status::NotFound)?)
        })
    }
}

fn queue_of(queues: &mut [Queue], number: u32) -> Result<&mut Queue, Status> {
    let index = (number as usize).checked_sub(1).ok_or(Status::NotFound)?;
    queues.get_mut(index).ok_or(Status::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_has_changed_meanwhile_is_not_overwritten() {
        let shared = Shared::default();
        shared.set(b"key", b"one", 0).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let cas = shared.get(b"key", &mut first).unwrap();
        assert_ne!(cas, 0, "zero would overwrite whatever there is");
        shared.set(b"key", b"two", cas).unwrap();
        assert_eq!(shared.set(b"key", b"three", cas), Err(Status::CasMismatch));
        shared.get(b"key", &mut second).unwrap();
        assert_eq!((first, second), (b"one".to_vec(), b"two".to_vec()));
        assert_eq!(shared.get(b"other", &mut Vec::new()), Err(Status::NotFound));
    }

    #[test]
    fn data_and_items_share_one_bound_and_free_what_they_had() {
        let shared = Shared::default();
        let most = vec![0; WASM_SHARED_BYTES_MAX - 10];
        let queue = shared.register_queue(b"queue").unwrap();
        assert_eq!(shared.find_queue(b"queue"), Ok(queue));
        shared.enqueue(queue, &most).unwrap();
        assert_eq!(shared.set(b"key", b"123456789", 0), Err(Status::InternalFailure));
        shared.dequeue(queue, &mut Vec::new()).unwrap();
        assert_eq!(shared.dequeue(queue, &mut Vec::new()), Err(Status::Empty));
        for _ in 0..3 {
            shared.set(b"key", &most[..1 << 23], 0).unwrap();
        }
        assert_eq!(shared.enqueue(0, b""), Err(Status::NotFound));
    }

    #[test]
    fn metrics_do_what_their_kind_says() {
        let shared = Shared::default();
        let [counter, gauge, histogram] = [0, 1, 2].map(|kind| shared.define_metric(kind, b"name").unwrap());
        shared.increment(counter, 3).unwrap();
        assert_eq!(shared.increment(counter, -1), Err(Status::BadArgument));
        shared.record(gauge, 7).unwrap();
        shared.increment(gauge, -2).unwrap();
        shared.record(histogram, 9).unwrap();
        assert_eq!([counter, gauge, histogram].map(|metric| shared.metric(metric).unwrap()), [3, 5, 1]);
        assert_eq!(shared.define_metric(0, b"name"), Ok(counter), "the same one again");
        assert_eq!(
            (shared.metric(99), shared.define_metric(3, b"x")),
            (Err(Status::NotFound), Err(Status::BadArgument))
        );
    }

    #[test]
    fn a_module_has_the_same_shared_things_while_anybody_uses_them() {
        let (one, other) = (Shared::of("shared-tests"), Shared::of("shared-tests"));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &Shared::of("shared-tests-other")));
    }
}
