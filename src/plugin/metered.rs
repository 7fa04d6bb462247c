//! One call of a plugin's hook: counted, timed, and what becomes of it when it fails.

use super::meter::HookCells;
use super::{Hook, Instance, Local, OnFailure, PluginError, Verdict};
use crate::clock::{self, Moment};
use crate::handler::Failure;
use crate::handler::pipeline::RunState;

/// One call of a hook, as it is counted.
pub(super) struct Metered<'m> {
    instance: &'m Instance,
    hook: Hook,
    began: Option<Moment>,
}

impl<'m> Metered<'m> {
    pub(super) fn begin(instance: &'m Instance, hook: Hook, is_timed: bool) -> Self {
        Self { instance, hook, began: is_timed.then(clock::now) }
    }

    #[inline]
    pub(super) fn end(self, local: Option<&Local>, failed: bool) {
        let Some(local) = local else { return };
        local.meter(self.instance, |cells| {
            cells.note_call(self.hook);
            if failed {
                cells.note_error(self.hook);
            }
            if let Some(began) = self.began {
                note_time(cells, self.hook, began);
            }
        });
    }

    /// What a verdict comes to, with the plugin's way to fail: whether it has answered.
    pub(super) fn judge(self, verdict: Verdict, state: &mut RunState, local: Option<&Local>) -> Result<bool, Failure> {
        let instance = self.instance;
        self.end(local, matches!(verdict, Verdict::Fail(_)));
        match verdict {
            Verdict::Answer if state.answer.is_some() => return Ok(true),
            Verdict::Answer => fail(instance, &PluginError("it answers without an answer".to_owned()))?,
            Verdict::Continue => {}
            Verdict::Fail(error) => fail(instance, &error)?,
        }
        // One that was given all the same does not count.
        state.answer = None;
        Ok(false)
    }
}

/// One call in [`crate::limits::PLUGIN_TIMED_EVERY`] requests.
#[cold]
fn note_time(cells: &HookCells, hook: Hook, began: Moment) {
    cells.note_time(hook, clock::now().since(began).as_nanos() as u64);
}

/// A plugin failed.
pub(super) fn fail(instance: &Instance, error: &PluginError) -> Result<(), Failure> {
    match instance.on_failure() {
        OnFailure::Open => {
            instance.log_failure(error);
            Ok(())
        }
        OnFailure::Closed => Err(Failure::internal(format!("the plugin {:?} failed: {error}", instance.name()))),
    }
}
