//! Queues that all instances of a module share, and who is called when something is in them.
//!
//! As with Envoy each item has one instance called: the one that was the last to register the queue, of those that are left.
//! It may run on another core than the one that has put the item there.

use std::collections::VecDeque;
use std::sync::Arc;

use super::abi::Status;
use super::shared::Shared;
use crate::limits::{WASM_QUEUE_ITEMS_MAX, WASM_QUEUES_MAX, WASM_SHARED_NAME_BYTES_MAX};
use crate::rt::{Mailbox, Postbox, mailbox};

/// One queue.
#[derive(Debug, Default)]
struct Queue {
    name: Vec<u8>,
    items: VecDeque<Vec<u8>>,
    /// Items that nobody was called for.
    unseen: usize,
    /// Who is called, by the numbers of their bells: the last of them.
    listeners: Vec<u64>,
}

/// Tells a listener to look. It is shared so that it can be rung when the queues are not locked any more.
pub(crate) type Bell = Arc<Postbox<()>>;

/// Rings for a listener, which may look already.
pub(crate) fn ring(bell: Option<Bell>) {
    if let Some(bell) = bell {
        let _ = bell.post(());
    }
}

/// The queues of one module. What is given a [`Bell`] has to ring it when it has given the lock back.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    queues: Vec<Queue>,
    bells: Vec<(u64, Bell)>,
    last_bell: u64,
}

impl Queues {
    /// The number of the queue of this name, which is made when there is none; from now on this one is called for it.
    pub(crate) fn register(&mut self, name: &[u8], listener: Option<u64>) -> Result<(u32, Option<Bell>), Status> {
        let index = match self.queues.iter().position(|queue| queue.name == name) {
            Some(index) => index,
            None => {
                if self.queues.len() >= WASM_QUEUES_MAX || name.len() > WASM_SHARED_NAME_BYTES_MAX {
                    return Err(Status::InternalFailure);
                }
                self.queues.push(Queue { name: name.to_vec(), ..Queue::default() });
                self.queues.len() - 1
            }
        };
        let bell = listener.and_then(|listener| {
            let queue = &mut self.queues[index];
            queue.listeners.retain(|held| *held != listener);
            queue.listeners.push(listener);
            self.bell_of(index)
        });
        Ok((index as u32 + 1, bell))
    }

    /// The number of the queue of this name.
    pub(crate) fn find(&self, name: &[u8]) -> Result<u32, Status> {
        let found = self.queues.iter().position(|queue| queue.name == name);
        found.map(|index| index as u32 + 1).ok_or(Status::NotFound)
    }

    /// Takes an item and puts it behind the others; one that is refused is left, to be freed outside the lock.
    pub(crate) fn enqueue(&mut self, number: u32, item: &mut Vec<u8>) -> Result<Option<Bell>, Status> {
        let index = self.index_of(number)?;
        let queue = &mut self.queues[index];
        if queue.items.len() >= WASM_QUEUE_ITEMS_MAX {
            return Err(Status::InternalFailure);
        }
        queue.items.push_back(std::mem::take(item));
        queue.unseen += 1;
        Ok(self.bell_of(index))
    }

    /// Takes the first item.
    pub(crate) fn dequeue(&mut self, number: u32) -> Result<Vec<u8>, Status> {
        let index = self.index_of(number)?;
        let queue = &mut self.queues[index];
        let item = queue.items.pop_front().ok_or(Status::Empty)?;
        queue.unseen = queue.unseen.min(queue.items.len());
        Ok(item)
    }

    /// The number of a queue with an item that `listener` is to be called for, which counts as called for then.
    fn take_ready(&mut self, listener: u64) -> Option<u32> {
        let is_its = |queue: &Queue| queue.unseen > 0 && queue.listeners.last() == Some(&listener);
        let index = self.queues.iter().position(is_its)?;
        self.queues[index].unseen -= 1;
        Some(index as u32 + 1)
    }

    /// The bell of whoever is called for a queue, if there is something. One who has not looked yet will see this too.
    fn bell_of(&self, index: usize) -> Option<Bell> {
        let queue = &self.queues[index];
        let listener = queue.listeners.last().filter(|_| queue.unseen > 0)?;
        let (_, bell) = self.bells.iter().find(|(number, _)| number == listener)?;
        Some(bell.clone())
    }

    fn index_of(&self, number: u32) -> Result<usize, Status> {
        let index = (number as usize).checked_sub(1).ok_or(Status::NotFound)?;
        if index < self.queues.len() { Ok(index) } else { Err(Status::NotFound) }
    }
}

/// An instance that is called when something is in a queue. Dropping it has others be called.
#[derive(Debug)]
pub(crate) struct Listener {
    number: u64,
    shared: Arc<Shared>,
}

impl Listener {
    /// Another one, and the bell that tells it to look ([`Listener::take_ready`]).
    pub(crate) fn new(shared: &Arc<Shared>) -> (Self, Mailbox<()>) {
        let (postbox, bell) = mailbox(1);
        let number = shared.with_queues(|queues| {
            queues.last_bell += 1;
            queues.bells.push((queues.last_bell, Arc::new(postbox)));
            queues.last_bell
        });
        (Self { number, shared: shared.clone() }, bell)
    }

    /// Its number, to register it by.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The number of a queue for which it is to be called once.
    pub(crate) fn take_ready(&self) -> Option<u32> {
        self.shared.with_queues(|queues| queues.take_ready(self.number))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Its own bell rings when it goes, for its end: not while the queues are locked either.
        let (others, _own) = self.shared.with_queues(|queues| {
            for queue in &mut queues.queues {
                queue.listeners.retain(|held| *held != self.number);
            }
            let others = (0..queues.queues.len()).filter_map(|index| queues.bell_of(index)).collect::<Vec<_>>();
            let at = queues.bells.iter().position(|(number, _)| *number == self.number);
            (others, at.map(|at| queues.bells.swap_remove(at)))
        });
        others.into_iter().for_each(|bell| ring(Some(bell)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take_all(listener: &Listener) -> Vec<u32> {
        std::iter::from_fn(|| listener.take_ready()).collect()
    }

    #[test]
    fn the_last_to_register_is_called_once_for_each_item_and_the_one_before_when_it_goes() {
        let shared = Arc::new(Shared::default());
        let ((first, _one), (second, _other)) = (Listener::new(&shared), Listener::new(&shared));
        let queue = shared.register_queue(b"queue", Some(first.number())).unwrap();
        shared.enqueue(queue, b"a").unwrap();
        shared.enqueue(queue, b"b").unwrap();
        assert_eq!((take_all(&second), take_all(&first)), (vec![], vec![queue; 2]));
        assert_eq!(take_all(&first), [0; 0]);
        shared.register_queue(b"queue", Some(second.number())).unwrap();
        shared.enqueue(queue, b"c").unwrap();
        assert_eq!(take_all(&first), [0; 0]);
        drop(second);
        assert_eq!(take_all(&first), [queue], "what nobody was called for is the next one's");
        assert_eq!(shared.register_queue(b"queue", None), Ok(queue), "who has no bell takes it from nobody");
        shared.enqueue(queue, b"d").unwrap();
        let mut taken = Vec::new();
        while shared.dequeue(queue, &mut taken).is_ok() {}
        assert_eq!(taken, b"abcd");
        assert_eq!(take_all(&first), [0; 0], "nothing is left to be called for");
    }

    proptest! {
        #[test]
        fn somebody_is_called_for_each_item_that_is_left_while_anybody_listens(steps in prop::collection::vec((0..4_u8, 0..3_usize), 0..100)) {
            let shared = Arc::new(Shared::default());
            let queue = shared.register_queue(b"queue", None).unwrap();
            let mut listeners: [Option<(Listener, Mailbox<()>)>; 3] = Default::default();
            let (mut calls, mut items) = (0_usize, 0_usize);
            for (kind, which) in steps {
                match kind {
                    0 => {
                        shared.enqueue(queue, b"x").unwrap();
                        items += 1;
                    }
                    1 => {
                        let held = listeners[which].get_or_insert_with(|| Listener::new(&shared));
                        shared.register_queue(b"queue", Some(held.0.number())).unwrap();
                    }
                    2 => listeners[which] = None,
                    _ => calls += listeners.iter().flatten().map(|(listener, _)| take_all(listener).len()).sum::<usize>(),
                }
            }
            calls += listeners.iter().flatten().map(|(listener, _)| take_all(listener).len()).sum::<usize>();
            let is_listening = listeners.iter().any(Option::is_some);
            prop_assert!(calls == items || !is_listening && calls < items, "{} {}", calls, items);
        }
    }
}
