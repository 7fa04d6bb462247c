//! What one core knows: the keys that were fetched, and tokens that it has verified. An RSA signature takes tens of
//! microseconds to verify, several times what the rest of a request does; finding its token here takes a digest.

use std::rc::Rc;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::key::Key;
use super::source::Source;
use super::token::Verified;
use crate::limits::JWT_KEPT_MAX;
use crate::plugin::builtin::recent::{Digest, Recent};

/// One core's own.
pub(super) struct Kept {
    /// By source: which keys these are, and the keys.
    fetched: Vec<(u64, Arc<Vec<Key>>)>,
    tokens: Recent<Rc<Verified>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { fetched: Vec::new(), tokens: Recent::new(JWT_KEPT_MAX) }
    }
}

impl Kept {
    /// Takes over what the sources have fetched since. Where keys have changed, no token is known to be good any more.
    pub(super) fn follow(&mut self, sources: &[Arc<Source>]) {
        self.fetched.resize_with(sources.len(), Default::default);
        for (source, known) in sources.iter().zip(&mut self.fetched) {
            let version = source.version();
            if known.0 != version {
                *known = (version, source.keys());
                self.tokens.clear();
            }
        }
    }

    /// The keys that were fetched.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> + Clone {
        self.fetched.iter().flat_map(|(_, keys)| keys.iter())
    }

    /// Whether some source has had no keys yet.
    pub(super) fn lacks_keys(&self) -> bool {
        self.fetched.iter().any(|(version, _)| *version == 0)
    }

    /// What is known of this token, and what it is known by.
    pub(super) fn token(&self, token: &[u8]) -> (Digest, Option<Rc<Verified>>) {
        let mut key = Digest::default();
        key.copy_from_slice(digest(&SHA256, token).as_ref());
        (key, self.tokens.get(&key).cloned())
    }

    /// Keeps a token that was verified.
    pub(super) fn keep(&mut self, key: Digest, verified: Rc<Verified>) {
        self.tokens.keep(key, verified);
    }

    /// Forgets a token, whose time is over.
    pub(super) fn forget(&mut self, key: &Digest) {
        self.tokens.forget(key);
    }
}
