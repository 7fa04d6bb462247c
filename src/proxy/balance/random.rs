//! `random`: by weighted chance, nothing else.

use super::draw::Draw;
use super::{Member, Servers, View};
use crate::proxy::chance::Chance;

#[derive(Debug, Clone)]
pub(super) struct Random(Draw);

impl Random {
    pub(super) fn new(members: Vec<Member>) -> Self {
        Self(Draw::new(members))
    }

    #[inline]
    pub(super) fn pick<S: Servers>(&self, view: &View<'_, S>, chance: &mut Chance) -> Option<usize> {
        let chosen = self.0.draw_usable(view, chance, None).or_else(|| self.0.search(view, chance, None))?;
        Some(self.0.members()[chosen].server)
    }
}
