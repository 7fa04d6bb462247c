//! How many passwords one core has hashed at once, and how many requests wait for that.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// One core's lane.
pub(super) struct Lane {
    running: Cell<usize>,
    running_max: usize,
    waiting: RefCell<VecDeque<Rc<Place>>>,
    waiting_max: usize,
}

/// A place in the queue.
#[derive(Default)]
struct Place {
    is_granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The leave to hash; the next one has it when this is dropped.
pub(super) struct Turn(Rc<Lane>);

/// Whoever waits; when this is dropped, it stands in the queue no more.
struct Waiter {
    lane: Rc<Lane>,
    place: Rc<Place>,
}

impl Lane {
    pub(super) fn new(running_max: usize, waiting_max: usize) -> Rc<Self> {
        Rc::new(Self { running: Cell::new(0), running_max, waiting: RefCell::default(), waiting_max })
    }

    /// Waits for a turn; `None` when too many do.
    pub(super) async fn enter(self: &Rc<Self>) -> Option<Turn> {
        if self.running.get() < self.running_max {
            self.running.set(self.running.get() + 1);
            return Some(Turn(self.clone()));
        }
        if self.waiting.borrow().len() >= self.waiting_max {
            return None;
        }
        let waiter = Waiter { lane: self.clone(), place: Rc::default() };
        self.waiting.borrow_mut().push_back(waiter.place.clone());
        poll_fn(|cx| {
            if waiter.place.is_granted.get() {
                return Poll::Ready(());
            }
            *waiter.place.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        waiter.place.is_granted.set(false);
        Some(Turn(self.clone()))
    }

    fn pass_on(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        match next {
            Some(place) => {
                place.is_granted.set(true);
                let waker = place.waker.borrow_mut().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            None => self.running.set(self.running.get() - 1),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.place.is_granted.get() {
            // It was its turn, and its client has left.
            return self.lane.pass_on();
        }
        self.lane.waiting.borrow_mut().retain(|place| !Rc::ptr_eq(place, &self.place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    /// What a future comes to, if it is ready.
    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn turns_come_in_order_and_no_more_wait_than_may() {
        let lane = Lane::new(1, 2);
        let first = poll(pin!(lane.enter())).flatten().expect("a turn");
        let (mut second, mut third) = (pin!(lane.enter()), pin!(lane.enter()));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        assert!(poll(pin!(lane.enter())).expect("an answer at once").is_none());
        drop(first);
        assert!(poll(third.as_mut()).is_none());
        let turn = poll(second.as_mut()).flatten().expect("a turn");
        drop(turn);
        drop(poll(third.as_mut()).flatten().expect("a turn"));
        assert_eq!((lane.running.get(), lane.waiting.borrow().len()), (0, 0));
    }

    #[test]
    fn a_turn_of_one_who_has_left_is_the_next_ones() {
        let lane = Lane::new(1, 4);
        let first = poll(pin!(lane.enter())).flatten().expect("a turn");
        let mut last = pin!(lane.enter());
        {
            let (mut leaves, mut granted) = (Box::pin(lane.enter()), Box::pin(lane.enter()));
            assert!(poll(leaves.as_mut()).is_none() && poll(granted.as_mut()).is_none());
            assert!(poll(last.as_mut()).is_none());
            drop(leaves);
            drop(first);
            // `granted` has it now, and leaves without having looked.
        }
        drop(poll(last).flatten().expect("a turn"));
        assert_eq!((lane.running.get(), lane.waiting.borrow().len()), (0, 0));
    }
}
