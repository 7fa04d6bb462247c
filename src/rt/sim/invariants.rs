//! What holds in every world, whatever runs in it: looked at after each step, and once more before time moves on.

use std::task::Waker;
use std::time::Duration;

use super::network::{End, Fin};
use super::world::{SimCore, World};

/// How long tasks may wait for a receive buffer while there are some: the retry's period twice, and what a step takes.
const PARKED_MAX: Duration = Duration::from_millis(45);
/// How far behind a deadline may be when the core has nothing else to do: timers are rounded up to four milliseconds.
const OVERDUE_MAX: Duration = Duration::from_millis(5);

impl World {
    /// After each step: who has which receive buffer.
    pub(super) fn check_step(&mut self) {
        if let Err(cause) = self.check_buffers() {
            self.fail(cause);
        }
    }

    /// Every buffer is in one place, and nobody has one who must not.
    fn check_buffers(&mut self) -> Result<(), String> {
        self.cores.iter_mut().for_each(|core| core.busy = (0, 0));
        for (id, core, connection) in self.network.open_mut() {
            let (unseen, leases) = (connection.receive.unseen(), connection.leases);
            let (all_unseen, all_leased) = &mut self.cores[core].busy;
            (*all_unseen, *all_leased) = (*all_unseen + unseen, *all_leased + leases);
            if leases > 1 {
                return Err(format!("connection {id} has {leases} receive buffers at once"));
            }
            if leases > 0 && connection.pipe(End::Server).fin != Fin::Open {
                return Err(format!("connection {id} has ended its side and keeps a receive buffer"));
            }
        }
        for (index, core) in self.cores.iter().enumerate().filter(|(_, core)| !core.ended) {
            let (unseen, leased) = core.busy;
            let (total, counted) = (core.options.buffers, core.state.counted_leases());
            let sum = core.free + core.withheld + unseen + leased;
            if sum != total || counted != leased {
                return Err(format!(
                    "core {index}: of {total} receive buffers {} are free, {} withheld, {unseen} filled and {leased} \
                     leased, {counted} by the core's own count",
                    core.free, core.withheld
                ));
            }
        }
        Ok(())
    }

    /// Before time moves on, when nothing can run and nothing is due: nobody was forgotten.
    pub(super) fn check_quiet(&mut self) {
        let checked = self.check_parked().and_then(|()| self.check_held()).and_then(|()| self.check_deadlines());
        if let Err(cause) = checked {
            self.fail(cause);
        }
    }

    /// Who waits for a receive buffer is known to its core, and is woken when there is one.
    fn check_parked(&mut self) -> Result<(), String> {
        let mut waits = vec![false; self.cores.len()];
        for (id, core, waker) in self.parked_tasks() {
            waits[core] = true;
            if !self.cores[core].state.has_parked(&Waker::from(waker)) {
                return Err(format!("connection {id} waits for a receive buffer, and core {core} knows nothing of it"));
            }
        }
        let now = self.now;
        for (index, core) in self.cores.iter_mut().enumerate() {
            let neglects = waits[index] && core.free > 0 && !core.is_frozen(now);
            let since = core.neglects_since.filter(|_| neglects).unwrap_or(now);
            core.neglects_since = neglects.then_some(since);
            if now.since(since) > PARKED_MAX {
                return Err(format!("core {index}: a task has waited for {PARKED_MAX:?} while buffers were free"));
            }
        }
        Ok(())
    }

    /// Those who wait leave most receive buffers to others, and none that are filled lie about.
    fn check_held(&mut self) -> Result<(), String> {
        let frozen: Vec<bool> = self.cores.iter().map(|core| core.is_frozen(self.now)).collect();
        for (id, core, connection) in self.network.open_mut() {
            let unseen = connection.receive.unseen();
            // What a server sends unasked over a connection that a core keeps for later is met at its next use.
            if unseen > 0 && !connection.receive.is_ending() && !connection.is_outward && !frozen[core] {
                return Err(format!("connection {id}: {unseen} receive buffers are filled, and nobody takes them"));
            }
        }
        for (index, core) in self.cores.iter().enumerate().filter(|(_, core)| !core.ended) {
            let ((_, leased), total) = (core.busy, core.options.buffers);
            if leased > 0 && 2 * leased >= total {
                return Err(format!("core {index}: tasks that wait keep {leased} of {total} receive buffers"));
            }
        }
        Ok(())
    }

    /// No deadline that somebody watches is behind.
    fn check_deadlines(&self) -> Result<(), String> {
        let runs = |core: &SimCore| !core.ended && !core.is_frozen(self.now);
        for (index, core) in self.cores.iter().enumerate().filter(|(_, core)| runs(core)) {
            let overdue = core.state.overdue(self.now);
            if overdue > OVERDUE_MAX {
                return Err(format!("core {index}: a deadline that a task watches has been due for {overdue:?}"));
            }
        }
        Ok(())
    }
}
