//! Control messages between threads: a bounded queue, and a bell that wakes the receiver's executor.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::core;

/// The wake-up of whoever waits at a [`Mailbox`]. A lock is fine here: control messages are rare, and nothing on the
/// request path takes it.
#[derive(Debug, Default)]
struct Bell(Mutex<Option<Waker>>);

impl Bell {
    fn ring(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn set(&self, waker: &Waker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }
}

/// The sending end; any thread may hold one.
#[derive(Debug)]
pub struct Postbox<T> {
    sender: Option<Sender<T>>,
    bell: Arc<Bell>,
}

impl<T> Clone for Postbox<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

/// The receiving end, awaited on one core.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: Receiver<T>,
    bell: Arc<Bell>,
}

/// A queue for at most `capacity` messages under way.
pub fn mailbox<T>(capacity: usize) -> (Postbox<T>, Mailbox<T>) {
    let (sender, receiver) = bounded(capacity);
    let bell = Arc::new(Bell::default());
    (Postbox { sender: Some(sender), bell: bell.clone() }, Mailbox { receiver, bell })
}

impl<T> Postbox<T> {
    /// Posts a message and wakes the receiver.
    ///
    /// # Errors
    /// Gives the message back when the queue is full or the receiver is gone.
    pub fn post(&self, message: T) -> Result<(), T> {
        let sender = self.sender.as_ref().expect("taken only in drop");
        let posted = sender.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner);
        self.bell.ring();
        posted
    }
}

impl<T> Drop for Postbox<T> {
    fn drop(&mut self) {
        // The channel must know of the last sender's end before the receiver looks, so it goes before the bell rings.
        drop(self.sender.take());
        self.bell.ring();
    }
}

impl<T> Mailbox<T> {
    /// The next message; `None` when every [`Postbox`] is gone.
    pub async fn next(&self) -> Option<T> {
        let message = poll_fn(|cx| {
            // Looked at again after the bell is set: a message posted in between would ring for nobody.
            match self.receiver.try_recv() {
                Ok(message) => return Poll::Ready(Some(message)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                Err(TryRecvError::Empty) => self.bell.set(cx.waker()),
            }
            match self.receiver.try_recv() {
                Ok(message) => Poll::Ready(Some(message)),
                Err(TryRecvError::Disconnected) => Poll::Ready(None),
                Err(TryRecvError::Empty) => Poll::Pending,
            }
        })
        .await;
        // Another thread's ring may have ended a long sleep.
        core::begin_turn();
        message
    }
}
