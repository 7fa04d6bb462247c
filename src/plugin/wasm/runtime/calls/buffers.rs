//! Bodies and configurations: `proxy_.._buffer_..`.

use wasmtime::Linker;

use super::super::abi::{Answer, BufferKind, Status, told};
use super::super::host::Host;
use super::super::memory::{Guest, give, parts, put, slice};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |mut guest: Guest<'_>, buffer: u32, start: u32, size_max: u32, at: u32, size_at: u32| {
            told(bytes(&mut guest, buffer, start, size_max, at, size_at))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_buffer_status",
        |mut guest: Guest<'_>, buffer: u32, size_at: u32, flags_at: u32| {
            told(status(&mut guest, buffer, size_at, flags_at))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_buffer_bytes",
        |mut guest: Guest<'_>, buffer: u32, start: u32, size: u32, value: u32, value_size: u32| {
            told(set(&mut guest, buffer, (start, size), (value, value_size)))
        },
    )?;
    // The way of ABI 0.1.0.
    linker.func_wrap("env", "proxy_get_configuration", |mut guest: Guest<'_>, at: u32, size_at: u32| {
        told(bytes(&mut guest, 7, 0, u32::MAX, at, size_at))
    })?;
    Ok(())
}

fn readable(host: &Host, kind: BufferKind) -> Result<&[u8], Status> {
    Ok(match kind {
        BufferKind::RequestBody => &host.stream().ok_or(Status::NotFound)?.request.body,
        BufferKind::ResponseBody => &host.stream().ok_or(Status::NotFound)?.response.body,
        BufferKind::CallBody => &host.call_answer().ok_or(Status::NotFound)?.body,
        BufferKind::VmConfiguration => &[],
        BufferKind::PluginConfiguration => &host.setting.configuration,
        BufferKind::Absent => return Err(Status::NotFound),
    })
}

fn bytes(guest: &mut Guest<'_>, buffer: u32, start: u32, size_max: u32, at: u32, size_at: u32) -> Answer {
    let kind = BufferKind::of(buffer)?;
    give(guest, at, size_at, |_, host, out| {
        let held = readable(host, kind)?;
        let start = (start as usize).min(held.len());
        let end = start.saturating_add(size_max as usize).min(held.len());
        out.extend_from_slice(&held[start..end]);
        Ok(())
    })
}

fn status(guest: &mut Guest<'_>, buffer: u32, size_at: u32, flags_at: u32) -> Answer {
    let kind = BufferKind::of(buffer)?;
    let (memory, host) = parts(guest)?;
    let size = readable(host, kind)?.len() as u32;
    put(memory, size_at, size)?;
    Ok(put(memory, flags_at, 0)?)
}

/// Puts a value in the place of a part of a body. The result may be as large as what the host would keep for the guest.
fn set(guest: &mut Guest<'_>, buffer: u32, (start, size): (u32, u32), value: (u32, u32)) -> Answer {
    let kind = BufferKind::of(buffer)?;
    let (memory, host) = parts(guest)?;
    let value = slice(memory, value.0, value.1)?;
    let body_max = host.setting.body_max;
    let body = match kind {
        BufferKind::RequestBody => &mut host.stream_mut().ok_or(Status::NotFound)?.request.body,
        BufferKind::ResponseBody => {
            let response = &mut host.stream_mut().ok_or(Status::NotFound)?.response;
            response.is_rewritten = true;
            &mut response.body
        }
        BufferKind::CallBody | BufferKind::VmConfiguration | BufferKind::PluginConfiguration => {
            return Err(Status::BadArgument.into());
        }
        BufferKind::Absent => return Err(Status::NotFound.into()),
    };
    let start = (start as usize).min(body.len());
    let end = start.saturating_add(size as usize).min(body.len());
    let new_len = body.len() - (end - start) + value.len();
    if new_len > body_max.max(body.len()) {
        return Err(Status::InternalFailure.into());
    }
    body.splice(start..end, value.iter().copied());
    Ok(())
}
