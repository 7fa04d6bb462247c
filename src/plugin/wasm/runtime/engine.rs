//! The machine that all guests run on: one for the process, made when the first plugin needs it; and the ticks by which a
//! guest that takes too long is stopped.
//!
//! One thread makes the machine and keeps the ticks. Modules are compiled on threads that give way to all others
//! ([`crate::rt::background`]): one of those may stand still for seconds, so none waits for what it makes, and a thread
//! that it starts would give way too.

use std::fmt;
use std::io;
use std::panic::catch_unwind;
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig};

use super::calls;
use super::host::Host;
use crate::limits::{
    WASM_IDLE_TICKS, WASM_INSTANCES_MAX, WASM_MEMORY_BYTES_MAX, WASM_STACK_BYTES_MAX, WASM_TABLE_ELEMENTS_MAX,
    WASM_TICK_MS,
};
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Compiles and runs guests.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Host>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

static MACHINE: OnceLock<Result<Machine, String>> = OnceLock::new();

/// The thread that makes it.
static KEEPER: OnceLock<Result<Thread, String>> = OnceLock::new();

/// Whether the keeper is wanted: the machine is to be made, or a guest has been called since it last looked.
static IS_ARMED: AtomicBool = AtomicBool::new(false);

/// The process's machine.
///
/// # Errors
/// When the host does not allow it: no room for its address space, or no thread more.
pub(crate) fn machine() -> Result<&'static Machine, String> {
    start().map_err(|error| format!("the thread of WASM plugins cannot be started: {error}"))?;
    arm();
    MACHINE.wait().as_ref().map_err(Clone::clone)
}

/// Starts the thread that makes the machine and keeps the ticks; it sleeps until a plugin needs it, and runs as long as the
/// process: it holds nothing that others wait for. To be called on a thread that does not give way.
///
/// # Errors
/// When there is no thread more.
pub(crate) fn start() -> io::Result<()> {
    let start = || {
        let started = thread::Builder::new().name("ringfort-wasm".to_owned()).spawn(keep);
        started.map(|keeper| keeper.thread().clone()).map_err(|error| error.to_string())
    };
    KEEPER.get_or_init(start).as_ref().map(drop).map_err(|error| io::Error::other(error.clone()))
}

/// Has the ticks go on: a guest runs.
pub(super) fn arm() {
    if !IS_ARMED.load(Ordering::SeqCst) {
        IS_ARMED.store(true, Ordering::SeqCst);
        if let Some(Ok(keeper)) = KEEPER.get() {
            keeper.unpark();
        }
    }
}

fn make_machine() -> Result<Machine, String> {
    let engine = make_engine()?;
    let mut linker = Linker::new(&engine);
    calls::link(&mut linker).map_err(|error| format!("host functions cannot be linked: {error:#}"))?;
    Ok(Machine { engine, linker })
}

/// The engine for as many instances as the host has address space for: some have 512 GiB instead of 128 TiB.
fn make_engine() -> Result<Engine, String> {
    let mut error = String::new();
    for instances in [WASM_INSTANCES_MAX, WASM_INSTANCES_MAX / 8, WASM_INSTANCES_MAX / 64] {
        match Engine::new(&settings(instances)) {
            Ok(engine) => return Ok(engine),
            Err(cause) => error = format!("WebAssembly cannot be run here: {cause:#}"),
        }
        tracing::warn!(instances, "there is no address space for so many instances of WASM plugins: trying with fewer");
    }
    Err(error)
}

fn settings(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances)
        .total_memories(instances)
        .total_tables(instances)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(WASM_TABLE_ELEMENTS_MAX)
        .max_memory_size(WASM_MEMORY_BYTES_MAX);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES_MAX)
        .wasm_multi_memory(false)
        .wasm_memory64(false);
    config
}

/// Makes the machine when it is wanted, and then moves the epoch on while guests run. Who calls one finds [`IS_ARMED`] set,
/// or sets it and wakes this thread. It is unset from time to time; when nobody has set it again for a while, there is no
/// guest to stop: one that was running all the time was told of a tick, and has set it then.
fn keep() {
    let period = Duration::from_millis(WASM_TICK_MS);
    loop {
        if !IS_ARMED.swap(false, Ordering::SeqCst) {
            thread::park();
            continue;
        }
        // Whoever waits for it must not wait for ever.
        let make = || catch_unwind(make_machine).unwrap_or_else(|_| Err("WebAssembly cannot be run here".to_owned()));
        let Ok(machine) = MACHINE.get_or_init(make) else { return };
        for _ in 0..WASM_IDLE_TICKS {
            thread::park_timeout(period);
            machine.engine.increment_epoch();
        }
    }
}
