//! What the host keeps for one instance: its requests, what it was configured with, how much memory it may have.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::abi::Status;
use super::memory::Reach;
use super::metric::{Cell, OwnCells};
use super::outgoing::{CallAnswer, CallEnd, Calls};
use super::queue::Listener;
use super::shared::Shared;
use super::stream::{Stream, Streams};
use crate::limits::{WASM_LINGERING_MAX, WASM_TABLE_ELEMENTS_MAX};
use crate::proxy::Upstream;
use crate::rt::Mailbox;

/// The context of the plugin itself; requests have others.
pub(crate) const ROOT: u32 = 1;

/// What a guest is told about itself, and allowed. One for all instances of a plugin.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// How the config calls the plugin.
    pub(crate) name: String,
    /// The module's name: its log lines and its shared data go by it.
    pub(crate) module: String,
    /// Which of the module's plugins this is, for modules that hold several (Envoy's `root_id`).
    pub(crate) root_id: String,
    /// What the plugin is configured with.
    pub(crate) configuration: Vec<u8>,
    /// Bytes of memory that an instance may have.
    pub(crate) memory_max: usize,
    /// CPU time that one call may take.
    pub(crate) time_max: Duration,
    /// Bytes of a body that a paused guest makes the host keep.
    pub(crate) body_max: usize,
    /// Whom it may ask; none where it cannot ask at all.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// What all instances of the module share.
    pub(crate) shared: Arc<Shared>,
}

/// The state behind one instance.
pub(crate) struct Host {
    pub(crate) setting: Arc<Setting>,
    /// Memory and allocator of the guest; `None` while it is being made.
    pub(crate) reach: Option<Reach>,
    pub(crate) streams: Streams,
    /// The context that host functions are about: that of the callback under way, or what the guest has put in its place.
    pub(crate) effective: u32,
    /// Requests whose end the guest has put off, the oldest first.
    lingering: VecDeque<u32>,
    /// Those of them that it is done with now.
    pub(crate) finished: Vec<u32>,
    /// The period of `proxy_on_tick`; `None`: it is not called.
    pub(crate) tick_period: Option<Duration>,
    /// Requests of the guest's own.
    pub(crate) calls: Calls,
    /// What came of the one that the callback under way is about.
    pub(crate) call_end: Option<CallEnd>,
    /// What has it called for queues, once it has registered one.
    pub(crate) listener: Option<Listener>,
    /// Tells that there is something in them; `None` when somebody waits for that.
    pub(crate) bell: Option<Mailbox<()>>,
    /// What it counts in.
    pub(crate) cells: OwnCells,
    /// The guest's allocator runs to take an answer.
    pub(crate) is_giving: bool,
    /// Reused for what is handed over.
    pub(crate) scratch: Vec<u8>,
    /// CPU time of this thread when the call under way was first seen to take its time.
    pub(crate) seen_at: Option<Duration>,
    /// CPU time that the call under way may take.
    pub(crate) time_max: Duration,
    pub(crate) memory: MemoryUse,
}

impl Host {
    pub(crate) fn new(setting: Arc<Setting>) -> Self {
        let memory = MemoryUse { bytes_max: setting.memory_max, was_refused: false };
        Self {
            setting,
            reach: None,
            streams: Streams::default(),
            effective: ROOT,
            lingering: VecDeque::new(),
            finished: Vec::new(),
            tick_period: None,
            calls: Calls::default(),
            call_end: None,
            listener: None,
            bell: None,
            cells: OwnCells::default(),
            is_giving: false,
            scratch: Vec::new(),
            seen_at: None,
            time_max: Duration::ZERO,
            memory,
        }
    }

    /// The request that host functions are about, if it is one.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.streams.get(self.effective)
    }

    /// The instance's own cell of a metric.
    pub(crate) fn metric(&mut self, number: u32) -> Result<&Cell, Status> {
        self.cells.get(&self.setting.shared.metrics, number)
    }

    /// Has the guest be called for a queue, which is made when there is none.
    pub(crate) fn register_queue(&mut self, name: &[u8]) -> Result<u32, Status> {
        let listener = self.listener.as_ref().map(Listener::number).or_else(|| {
            let (listener, bell) = Listener::new(&self.setting.shared);
            let number = listener.number();
            (self.listener, self.bell) = (Some(listener), Some(bell));
            Some(number)
        });
        self.setting.shared.register_queue(name, listener)
    }

    /// Keeps a request that is over, because the guest has put its end off; gives the oldest such when there are too many.
    pub(crate) fn linger(&mut self, id: u32) -> Option<u32> {
        let stream = self.streams.get_mut(id)?;
        stream.is_lingering = true;
        self.lingering.push_back(id);
        let oldest = self.lingering.front().copied().filter(|_| self.lingering.len() > WASM_LINGERING_MAX)?;
        self.stop_lingering(oldest);
        Some(oldest)
    }

    /// It is to end now; whether it lingered.
    pub(crate) fn stop_lingering(&mut self, id: u32) -> bool {
        let lingers = self.streams.get_mut(id).is_some_and(|stream| std::mem::take(&mut stream.is_lingering));
        // Most often the oldest, which is found at once.
        if lingers && let Some(index) = self.lingering.iter().position(|held| *held == id) {
            self.lingering.remove(index);
        }
        lingers
    }

    /// Forgets a request, with the calls that were made for it.
    pub(crate) fn close(&mut self, id: u32) {
        self.streams.close(id);
        self.calls.leave(id);
    }

    /// The answer that the callback under way is about, if there is one.
    pub(crate) fn call_answer(&self) -> Option<&CallAnswer> {
        self.call_end.as_ref().and_then(CallEnd::answer)
    }

    /// As [`Host::stream`], to be changed.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.streams.get_mut(self.effective)
    }
}

/// Holds an instance to its memory.
#[derive(Debug)]
pub(crate) struct MemoryUse {
    bytes_max: usize,
    /// The guest asked for more: likely why it traps next.
    pub(crate) was_refused: bool,
}

impl ResourceLimiter for MemoryUse {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let is_allowed = desired <= self.bytes_max;
        self.was_refused |= !is_allowed;
        Ok(is_allowed)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= WASM_TABLE_ELEMENTS_MAX)
    }
}
