//! The functions that guests import, by what they are about. Each is total: whatever a guest passes, it gets an answer.

mod buffers;
mod fields;
mod outward;
mod properties;
mod storage;
mod streams;
mod wasi;

use wasmtime::Linker;

use super::abi::{Answer, Status, told};
use super::host::Host;
use super::memory::{Guest, parts, put_long, slice};
use crate::clock;
use crate::limits::WASM_LOG_BYTES_MAX;

/// Names all functions to `linker`.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    fields::link(linker)?;
    buffers::link(linker)?;
    properties::link(linker)?;
    streams::link(linker)?;
    storage::link(linker)?;
    outward::link(linker)?;
    wasi::link(linker)?;
    linker.func_wrap("env", "proxy_log", |mut guest: Guest<'_>, level: u32, at: u32, size: u32| {
        told(log(&mut guest, level, at, size))
    })?;
    linker.func_wrap("env", "proxy_get_log_level", |mut guest: Guest<'_>, level_at: u32| {
        told(log_level(&mut guest, level_at))
    })?;
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", |mut guest: Guest<'_>, time_at: u32| {
        told(current_time(&mut guest, time_at))
    })?;
    // Modules built with emscripten, as those of the C++ SDK are, tell that they have grown.
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: Guest<'_>, _memory: u32| {})?;
    Ok(())
}

/// Levels of the guest's log lines (`proxy_log_level_t`).
const LEVEL_MAX: u32 = 5;

fn log(guest: &mut Guest<'_>, level: u32, at: u32, size: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    let text = slice(memory, at, size)?;
    if level > LEVEL_MAX {
        return Err(Status::BadArgument.into());
    }
    write_log(host, level, text);
    Ok(())
}

/// Writes a line of the guest's; a long one is cut.
fn write_log(host: &Host, level: u32, text: &[u8]) {
    let text = String::from_utf8_lossy(&text[..text.len().min(WASM_LOG_BYTES_MAX)]);
    let (text, plugin, module) = (text.trim_end(), host.setting.name.as_str(), host.setting.module.as_str());
    match level {
        0 => tracing::trace!(plugin, module, "{text}"),
        1 => tracing::debug!(plugin, module, "{text}"),
        2 => tracing::info!(plugin, module, "{text}"),
        3 => tracing::warn!(plugin, module, "{text}"),
        _ => tracing::error!(plugin, module, "{text}"),
    }
}

fn log_level(guest: &mut Guest<'_>, level_at: u32) -> Answer {
    let level = if tracing::enabled!(tracing::Level::TRACE) {
        0
    } else if tracing::enabled!(tracing::Level::DEBUG) {
        1
    } else if tracing::enabled!(tracing::Level::INFO) {
        2
    } else if tracing::enabled!(tracing::Level::WARN) {
        3
    } else {
        4
    };
    let (memory, _) = parts(guest)?;
    Ok(super::memory::put(memory, level_at, level)?)
}

fn current_time(guest: &mut Guest<'_>, time_at: u32) -> Answer {
    let (memory, _) = parts(guest)?;
    Ok(put_long(memory, time_at, nanoseconds(clock::wall()))?)
}

/// A time as guests get it.
fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
