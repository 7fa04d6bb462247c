//! What compilers make every module import of WASI: a log for its output, clocks, chance; no files, no environment, no
//! arguments.

use wasmtime::{Linker, format_err};

use super::super::abi::Errno;
use super::super::host::Host;
use super::super::memory::{Guest, number, parts, put, put_long, slice, slice_mut};
use super::{nanoseconds, write_log};
use crate::clock;
use crate::limits::{WASM_LOG_BYTES_MAX, WASM_RANDOM_BYTES_MAX, WASM_VECTORS_MAX};
use crate::sys;

/// The names under which modules import WASI: that of the standard, and the one before it.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// What functions for files answer: there are none.
const NO_FILE: u32 = Errno::BadDescriptor as u32;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for module in MODULES {
        link_output(linker, module)?;
        link_empty(linker, module)?;
        link_files(linker, module)?;
    }
    Ok(())
}

fn link_output(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "fd_write",
        |mut guest: Guest<'_>, descriptor: u32, vectors: u32, count: u32, written_at: u32| {
            code(write(&mut guest, descriptor, vectors, count, written_at))
        },
    )?;
    linker.func_wrap(module, "clock_time_get", |mut guest: Guest<'_>, id: u32, _precision: u64, time_at: u32| {
        code(time(&mut guest, id, time_at))
    })?;
    linker.func_wrap(module, "clock_res_get", |mut guest: Guest<'_>, _id: u32, resolution_at: u32| {
        code(long(&mut guest, resolution_at, 1))
    })?;
    linker.func_wrap(module, "random_get", |mut guest: Guest<'_>, at: u32, size: u32| {
        code(random(&mut guest, at, size))
    })?;
    linker.func_wrap(module, "proc_exit", |_: Guest<'_>, exit: u32| -> wasmtime::Result<()> {
        Err(format_err!("the plugin ended itself (proc_exit {exit})"))
    })?;
    linker.func_wrap(module, "sched_yield", |_: Guest<'_>| Errno::Success as u32)?;
    linker
        .func_wrap(module, "poll_oneoff", |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32| Errno::NotSupported as u32)?;
    Ok(())
}

/// Arguments and environment variables: none of either.
fn link_empty(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    for name in ["args_sizes_get", "environ_sizes_get"] {
        linker.func_wrap(module, name, |mut guest: Guest<'_>, count_at: u32, size_at: u32| {
            code(no_texts(&mut guest, count_at, size_at))
        })?;
    }
    for name in ["args_get", "environ_get"] {
        linker.func_wrap(module, name, |_: Guest<'_>, _: u32, _: u32| Errno::Success as u32)?;
    }
    Ok(())
}

fn link_files(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "fd_read", |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32| NO_FILE)?;
    linker.func_wrap(module, "fd_seek", |_: Guest<'_>, _: u32, _: u64, _: u32, _: u32| NO_FILE)?;
    linker.func_wrap(module, "fd_close", |_: Guest<'_>, _: u32| NO_FILE)?;
    linker.func_wrap(module, "fd_fdstat_get", |mut guest: Guest<'_>, descriptor: u32, at: u32| {
        code(describe(&mut guest, descriptor, at))
    })?;
    linker.func_wrap(module, "fd_fdstat_set_flags", |_: Guest<'_>, _: u32, _: u32| NO_FILE)?;
    linker.func_wrap(module, "fd_prestat_get", |_: Guest<'_>, _: u32, _: u32| NO_FILE)?;
    linker.func_wrap(module, "fd_prestat_dir_name", |_: Guest<'_>, _: u32, _: u32, _: u32| NO_FILE)?;
    linker.func_wrap(module, "path_filestat_get", |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32, _: u32| NO_FILE)?;
    linker.func_wrap(
        module,
        "path_open",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32, _: u32| NO_FILE,
    )?;
    Ok(())
}

fn code(answer: Result<(), Errno>) -> u32 {
    match answer {
        Ok(()) => Errno::Success as u32,
        Err(errno) => errno as u32,
    }
}

/// Writes to the log: standard output as `info`, standard error as `error`.
fn write(guest: &mut Guest<'_>, descriptor: u32, vectors: u32, count: u32, written_at: u32) -> Result<(), Errno> {
    let level = match descriptor {
        1 => 2,
        2 => 4,
        _ => return Err(Errno::BadDescriptor),
    };
    if count as usize > WASM_VECTORS_MAX {
        return Err(Errno::Invalid);
    }
    let (memory, host) = parts(guest).map_err(|_| Errno::Fault)?;
    let mut text = Vec::new();
    let mut written = 0_u32;
    for index in 0..count {
        let at = vectors.checked_add(8 * index).ok_or(Errno::Fault)?;
        let size_at = at.checked_add(4).ok_or(Errno::Fault)?;
        let pointer = number(memory, at).map_err(|_| Errno::Fault)?;
        let size = number(memory, size_at).map_err(|_| Errno::Fault)?;
        let bytes = slice(memory, pointer, size).map_err(|_| Errno::Fault)?;
        let room = WASM_LOG_BYTES_MAX - text.len();
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        written = written.saturating_add(size);
    }
    if !text.trim_ascii().is_empty() {
        write_log(host, level, &text);
    }
    put(memory, written_at, written).map_err(|_| Errno::Fault)
}

fn time(guest: &mut Guest<'_>, id: u32, time_at: u32) -> Result<(), Errno> {
    let time = match id {
        0 => nanoseconds(clock::wall()),
        1 => clock::now().as_nanos(),
        _ => return Err(Errno::NotSupported),
    };
    long(guest, time_at, time)
}

fn long(guest: &mut Guest<'_>, at: u32, value: u64) -> Result<(), Errno> {
    let (memory, _) = parts(guest).map_err(|_| Errno::Fault)?;
    put_long(memory, at, value).map_err(|_| Errno::Fault)
}

fn random(guest: &mut Guest<'_>, at: u32, size: u32) -> Result<(), Errno> {
    if size as usize > WASM_RANDOM_BYTES_MAX {
        return Err(Errno::Invalid);
    }
    let (memory, _) = parts(guest).map_err(|_| Errno::Fault)?;
    let bytes = slice_mut(memory, at, size).map_err(|_| Errno::Fault)?;
    sys::random::fill(bytes).map_err(|_| Errno::NotSupported)
}

fn no_texts(guest: &mut Guest<'_>, count_at: u32, size_at: u32) -> Result<(), Errno> {
    let (memory, _) = parts(guest).map_err(|_| Errno::Fault)?;
    put(memory, count_at, 0).map_err(|_| Errno::Fault)?;
    put(memory, size_at, 0).map_err(|_| Errno::Fault)
}

/// Standard input and output are devices for characters, without rights to anything else.
fn describe(guest: &mut Guest<'_>, descriptor: u32, at: u32) -> Result<(), Errno> {
    const CHARACTER_DEVICE: u8 = 2;
    if descriptor > 2 {
        return Err(Errno::BadDescriptor);
    }
    let (memory, _) = parts(guest).map_err(|_| Errno::Fault)?;
    let bytes = slice_mut(memory, at, 24).map_err(|_| Errno::Fault)?;
    bytes.fill(0);
    bytes[0] = CHARACTER_DEVICE;
    Ok(())
}
