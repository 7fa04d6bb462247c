//! What one core keeps for plugins, from one request to the next.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::meter::HookCells;
use super::{Instance, Plugins};
use crate::handler::Context;
use crate::limits::PLUGIN_TIMED_EVERY;

/// One core's own; handlers' context has it.
pub struct Local {
    core: usize,
    cores: usize,
    /// By the place of the instance.
    entries: RefCell<Vec<Option<Entry>>>,
    requests: Cell<u64>,
    /// Counts the requests that plugins were asked about before their hooks run.
    tickets: Cell<u64>,
}

struct Entry {
    /// Of which instance: places are used again.
    id: u64,
    cells: Arc<HookCells>,
    value: Option<Rc<dyn Any>>,
}

impl Local {
    /// For core `core` of `cores`.
    pub fn new(core: usize, cores: usize) -> Rc<Self> {
        Rc::new(Self { core, cores, entries: RefCell::default(), requests: Cell::new(0), tickets: Cell::new(0) })
    }

    /// Which core, counted from 0.
    pub fn core(&self) -> usize {
        self.core
    }

    /// How many cores there are: what is bounded for the whole process is shared out among them.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Forgets what is kept for plugins that are not in force any more.
    pub fn take_up(&self, plugins: &Plugins) {
        let is_gone = |entry: &mut Entry| !plugins.iter().any(|instance| instance.id() == entry.id);
        let gone: Vec<_> = self.entries.borrow_mut().iter_mut().filter_map(|entry| entry.take_if(is_gone)).collect();
        // Not while the list is borrowed: what is kept may look into it.
        drop(gone);
    }

    /// Whether the times of the next request's hooks are taken.
    pub(super) fn is_timed(&self) -> bool {
        let number = self.requests.get();
        self.requests.set(number.wrapping_add(1));
        number.is_multiple_of(PLUGIN_TIMED_EVERY)
    }

    /// Plugins are asked about another request.
    pub(super) fn next_ticket(&self) {
        self.tickets.set(self.tickets.get().wrapping_add(1));
    }

    /// The number of the last request that plugins were asked about.
    pub(super) fn ticket(&self) -> u64 {
        self.tickets.get()
    }

    /// Does something with this core's counters of an instance.
    #[inline]
    pub(super) fn meter<T>(&self, instance: &Instance, work: impl FnOnce(&HookCells) -> T) -> T {
        if let Some(entry) = Self::known(&self.entries.borrow(), instance) {
            return work(&entry.cells);
        }
        let cells = self.first_cells(instance);
        work(&cells)
    }

    /// The counters of an instance that this core meets for the first time.
    #[cold]
    fn first_cells(&self, instance: &Instance) -> Arc<HookCells> {
        self.entry(&mut self.entries.borrow_mut(), instance).cells.clone()
    }

    #[inline]
    fn known<'e>(entries: &'e [Option<Entry>], instance: &Instance) -> Option<&'e Entry> {
        entries.get(instance.place())?.as_ref().filter(|entry| entry.id == instance.id())
    }

    fn entry<'e>(&self, entries: &'e mut Vec<Option<Entry>>, instance: &Instance) -> &'e mut Entry {
        let place = instance.place();
        if entries.len() <= place {
            entries.resize_with(place + 1, || None);
        }
        let slot = &mut entries[place];
        if slot.as_ref().is_some_and(|entry| entry.id != instance.id()) {
            *slot = None;
        }
        slot.get_or_insert_with(|| Entry { id: instance.id(), cells: instance.meter().cells(self.core), value: None })
    }

    /// What the core keeps for an instance; made where there is none. Without a core's own there is none to keep it.
    pub(super) fn value<T: 'static>(context: &Context, instance: &Instance, make: impl FnOnce() -> T) -> Rc<T> {
        let Some(local) = context.get::<Self>() else { return Rc::new(make()) };
        let known = Self::known(&local.entries.borrow(), instance).and_then(|entry| entry.value.clone());
        if let Some(known) = known.and_then(|value| value.downcast::<T>().ok()) {
            return known;
        }
        let made = Rc::new(make());
        local.entry(&mut local.entries.borrow_mut(), instance).value = Some(made.clone());
        made
    }
}
