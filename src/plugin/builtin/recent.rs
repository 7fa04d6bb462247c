//! What was found out about secrets not long ago, by digest: so many of them, the oldest go first.

use std::collections::{HashMap, VecDeque};

/// What a secret is known by.
pub(super) type Digest = [u8; 32];

/// At most `max` values.
pub(super) struct Recent<V> {
    max: usize,
    known: HashMap<Digest, V>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

impl<V> Recent<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn get(&self, key: &Digest) -> Option<&V> {
        self.known.get(key)
    }

    /// Keeps a value, in place of the oldest where there is no room.
    pub(super) fn keep(&mut self, key: Digest, value: V) {
        self.forget(&key);
        if self.order.len() >= self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(key, value);
        self.order.push_back(key);
    }

    pub(super) fn forget(&mut self, key: &Digest) {
        if self.known.remove(key).is_some() {
            self.order.retain(|own| own != key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_than_may_be_and_the_oldest_goes() {
        let mut recent = Recent::new(3);
        let key = |number: u8| [number; 32];
        for number in 0..10 {
            recent.keep(key(number), number);
            recent.keep(key(number), number);
            assert_eq!(recent.known.len(), recent.order.len());
        }
        let known: Vec<_> = (0..10).filter(|number| recent.get(&key(*number)).is_some()).collect();
        assert_eq!(known, [7, 8, 9]);
        recent.forget(&key(8));
        recent.keep(key(1), 1);
        assert_eq!((recent.get(&key(7)), recent.get(&key(8))), (Some(&7), None));
        recent.clear();
        assert!(recent.get(&key(9)).is_none() && recent.order.is_empty());
    }
}
