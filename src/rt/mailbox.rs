//! The mailbox of `sync`, for whoever awaits it on a core.

use super::core;
use crate::sync::{self, Postbox};

/// The receiving end, awaited on one core.
#[derive(Debug)]
pub struct Mailbox<T>(sync::Mailbox<T>);

/// A queue for at most `capacity` messages under way.
pub fn mailbox<T>(capacity: usize) -> (Postbox<T>, Mailbox<T>) {
    let (postbox, mailbox) = sync::mailbox(capacity);
    (postbox, Mailbox(mailbox))
}

impl<T> Mailbox<T> {
    /// The next message; `None` when every [`Postbox`] is gone.
    pub async fn next(&self) -> Option<T> {
        let message = self.0.next().await;
        // Another thread's ring may have ended a long sleep.
        core::begin_turn();
        message
    }
}
