//! What all instances of a module share, on all cores: data under keys, queues, metrics. It outlives reloads.
//!
//! These are the only locks that a guest can reach, and only guests that ask for what is shared take them. Values and items may
//! be large, so they are copied and freed outside, and nobody's bell is rung inside: it may be another core's.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use super::abi::Status;
use super::metric::Metrics;
use super::queue::{Queues, ring};
use crate::limits::{WASM_SHARED_BYTES_MAX, WASM_SHARED_KEYS_MAX};
use crate::metrics::guests::GuestSample;
use crate::sync::Mutex;

#[derive(Debug, Default)]
struct State {
    data: BTreeMap<Vec<u8>, (Arc<[u8]>, u32)>,
    /// Counts changes: the next value to compare and swap with. Never zero, which means "whatever it is".
    changes: u32,
    queues: Queues,
    /// Bytes of keys, values and items.
    bytes: usize,
}

/// The shared things of one module.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) metrics: Metrics,
}

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

    /// The metrics of all modules in use that have defined some.
    pub(crate) fn sample_metrics() -> Vec<GuestSample> {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let used = all.iter().filter_map(|(module, shared)| Some((module.clone(), shared.upgrade()?)));
        // Not while the list is locked, or a guest that is made would wait for all of them.
        let used = used.collect::<Vec<_>>();
        drop(all);
        let samples = used.into_iter().map(|(module, shared)| GuestSample { module, metrics: shared.metrics.sample() });
        samples.filter(|sample| !sample.metrics.is_empty()).collect()
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends the value of `key` to `out`, and tells what to compare and swap with.
    pub(crate) fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        let (value, cas) = self.with(|state| state.data.get(key).cloned()).ok_or(Status::NotFound)?;
        out.extend_from_slice(&value);
        Ok(cas)
    }

    /// Sets the value of `key`, unless `cas` is not zero and its value has changed since.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        if key.len() + value.len() > WASM_SHARED_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        // Borrowed by what works under the lock: what is left of them, or was swapped for the value, is freed after it.
        let (mut new_key, mut value) = (key.to_vec(), Arc::<[u8]>::from(value));
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
            state.bytes = bytes;
            if let Some((held, changed)) = state.data.get_mut(key) {
                std::mem::swap(held, &mut value);
                *changed = state.changes;
            } else {
                state.data.insert(std::mem::take(&mut new_key), (value.clone(), state.changes));
            }
            Ok(())
        })
    }

    /// Does something with the queues.
    pub(crate) fn with_queues<T>(&self, work: impl FnOnce(&mut Queues) -> T) -> T {
        self.with(|state| work(&mut state.queues))
    }

    /// The number of the queue of this name, which is made when there is none; who is called for it from now on.
    pub(crate) fn register_queue(&self, name: &[u8], listener: Option<u64>) -> Result<u32, Status> {
        let (number, bell) = self.with_queues(|queues| queues.register(name, listener))?;
        ring(bell);
        Ok(number)
    }

    /// The number of the queue of this name.
    pub(crate) fn find_queue(&self, name: &[u8]) -> Result<u32, Status> {
        self.with_queues(|queues| queues.find(name))
    }

    /// Puts an item behind the others.
    pub(crate) fn enqueue(&self, queue: u32, item: &[u8]) -> Result<(), Status> {
        if item.len() > WASM_SHARED_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        let mut item = item.to_vec();
        let bell = self.with(|state| {
            let bytes = state.bytes + item.len();
            if bytes > WASM_SHARED_BYTES_MAX {
                return Err(Status::InternalFailure);
            }
            let bell = state.queues.enqueue(queue, &mut item)?;
            state.bytes = bytes;
            Ok(bell)
        })?;
        ring(bell);
        Ok(())
    }

    /// Takes the first item.
    pub(crate) fn dequeue(&self, queue: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        let item = self.with(|state| {
            let item = state.queues.dequeue(queue)?;
            state.bytes -= item.len();
            Ok(item)
        })?;
        out.extend_from_slice(&item);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use super::super::queue::Listener;
    use super::*;
    use crate::sync::atomic::{AtomicU32, Ordering};

    /// Counts how often it was woken, and how often the shared things were locked then.
    struct Watch {
        shared: Arc<Shared>,
        wakes: AtomicU32,
        locked: AtomicU32,
    }

    impl Wake for Watch {
        fn wake(self: Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            if self.shared.state.try_lock().is_err() {
                self.locked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn bells_ring_when_the_shared_things_are_free() {
        let shared = Arc::new(Shared::default());
        let watch = Arc::new(Watch { shared: shared.clone(), wakes: AtomicU32::new(0), locked: AtomicU32::new(0) });
        let waker = Waker::from(watch.clone());
        let wait =
            |bell: &crate::rt::Mailbox<()>| pin!(bell.next()).poll(&mut Context::from_waker(&waker)).is_pending();
        let ((first, one), (second, other)) = (Listener::new(&shared), Listener::new(&shared));
        assert!(wait(&one) && wait(&other));
        let queue = shared.register_queue(b"queue", Some(first.number())).unwrap();
        assert_eq!(watch.wakes.load(Ordering::Relaxed), 0, "there is nothing to look at");
        shared.enqueue(queue, b"a").unwrap();
        assert_eq!(watch.wakes.load(Ordering::Relaxed), 1);
        shared.register_queue(b"queue", Some(second.number())).unwrap();
        assert_eq!(watch.wakes.load(Ordering::Relaxed), 2);
        assert!(!wait(&one) && wait(&one), "it was rung for once");
        drop((second, other));
        assert_eq!(watch.wakes.load(Ordering::Relaxed), 3, "the one before is called for what is left");
        assert_eq!(watch.locked.load(Ordering::Relaxed), 0);
    }

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
        let queue = shared.register_queue(b"queue", None).unwrap();
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
    fn a_module_has_the_same_shared_things_while_anybody_uses_them() {
        let (one, other) = (Shared::of("shared-tests"), Shared::of("shared-tests"));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &Shared::of("shared-tests-other")));
    }
}
