//! What plugins do while they are in force, beside requests: on the master's thread.

use std::convert::Infallible;
use std::sync::Arc;

use super::{Instance, Plugins};
use crate::rt::{self, Postbox};

/// The tasks of the plugins in force; they end when this is dropped.
#[derive(Default)]
pub struct Attendants {
    attended: Vec<(Arc<Instance>, Postbox<Infallible>)>,
}

impl Attendants {
    /// Has these plugins do their work and no others. What is done already goes on as it is.
    pub fn attend(&mut self, plugins: &Plugins) {
        self.attended.retain(|(instance, _)| plugins.has(instance));
        for instance in plugins.iter() {
            if self.attended.iter().any(|(attended, _)| Arc::ptr_eq(attended, instance)) {
                continue;
            }
            let Some(work) = instance.plugin().attend() else { continue };
            let (stop, stopped) = rt::mailbox(1);
            rt::spawn(async move {
                rt::select(work, stopped.next()).await;
            });
            self.attended.push((instance.clone(), stop));
        }
    }

    /// Has none do anything any more.
    pub fn leave(&mut self) {
        self.attended.clear();
    }
}
