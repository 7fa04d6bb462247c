//! A response that plugins hold: who does, and what of its body has passed some of them meanwhile.

use super::BodyPlan;
use crate::limits::PLUGINS_PER_ROUTE_MAX;

/// A response on its way through plugins, from the last one to the first, of which one has it wait.
#[derive(Debug, Default)]
pub struct Hold {
    /// The plugin that holds the head; those before it have not seen it.
    pub head: Option<usize>,
    /// The plugin that holds the end of the body; those before it have not seen it.
    pub end: Option<usize>,
    /// What of the body has passed the plugins from `from` on, and none before.
    pub made: Vec<u8>,
    /// See `made`.
    pub from: usize,
    /// The body's end comes behind `made`.
    pub is_ended: bool,
    /// A plugin has put an answer in the place of what the handler sends.
    pub is_replaced: bool,
}

impl Hold {
    /// Of the head, by this plugin; nobody has seen anything of the body.
    pub fn of_head(at: usize) -> Self {
        Self { head: Some(at), from: PLUGINS_PER_ROUTE_MAX, ..Self::default() }
    }

    /// Of the body's end, by this plugin.
    pub fn of_end(at: usize) -> Self {
        Self { end: Some(at), from: at, is_ended: true, ..Self::default() }
    }

    /// An answer in the place of what the handler sends goes on from this plugin.
    pub fn replace(&mut self, at: usize, body: &[u8]) {
        self.made.clear();
        self.made.extend_from_slice(body);
        self.from = at;
        (self.is_ended, self.is_replaced) = (true, true);
    }

    /// Whether there is something that this plugin has not seen.
    pub fn has_unseen(&self, at: usize) -> bool {
        self.from > at && (self.is_ended || !self.made.is_empty())
    }
}

/// What has become of a response that was held.
#[derive(Debug)]
pub enum Released {
    /// The plugin that holds the head wants to see more of the body first.
    More,
    /// The head goes on; what has passed of the body follows it.
    Head(BodyPlan),
    /// The head goes on with all of the body, or the body does with its end.
    Whole,
    /// The head goes on with a body that stands in the place of the handler's.
    Replaced,
}
