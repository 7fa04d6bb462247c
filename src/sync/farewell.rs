//! A thread's last word: posted when it ends, even when that is a panic.

use super::Postbox;

/// Posts a message when it is dropped. Made first in a thread's function, it is dropped last: whoever receives the message
/// sees everything that the thread did before.
#[derive(Debug)]
pub struct Farewell<T> {
    post: Postbox<T>,
    message: Option<T>,
}

impl<T> Farewell<T> {
    /// Posts `otherwise` unless it is told something else: what a thread says that panicked.
    pub fn new(post: Postbox<T>, otherwise: T) -> Self {
        Self { post, message: Some(otherwise) }
    }

    /// Replaces the message.
    pub fn say(&mut self, message: T) {
        self.message = Some(message);
    }
}

impl<T> Drop for Farewell<T> {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            // A full or closed mailbox means that the other side is past caring.
            let _ = self.post.post(message);
        }
    }
}
