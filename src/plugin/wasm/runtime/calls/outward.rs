//! Requests of the guest's own. Those over gRPC, and functions of the host's own, this host does not have.

use wasmtime::Linker;

use super::super::abi::{Answer, Status, told};
use super::super::host::Host;
use super::super::memory::{Guest, give, parts, put, slice};
use super::super::pairs;

/// What functions that this host does not have answer.
const UNIMPLEMENTED: u32 = Status::Unimplemented as u32;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_http_call",
        |mut guest: Guest<'_>,
         upstream: u32,
         upstream_size: u32,
         fields: u32,
         fields_size: u32,
         body: u32,
         body_size: u32,
         _trailers: u32,
         _trailers_size: u32,
         _timeout: u32,
         call_at: u32| {
            told(http_call(&mut guest, [(upstream, upstream_size), (fields, fields_size), (body, body_size)], call_at))
        },
    )?;
    linker.func_wrap("env", "proxy_get_status", |mut guest: Guest<'_>, code_at: u32, at: u32, size_at: u32| {
        told(status(&mut guest, code_at, at, size_at))
    })?;
    linker.func_wrap(
        "env",
        "proxy_grpc_call",
        |_: Guest<'_>,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32| UNIMPLEMENTED,
    )?;
    linker.func_wrap(
        "env",
        "proxy_grpc_stream",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| UNIMPLEMENTED,
    )?;
    linker.func_wrap("env", "proxy_grpc_send", |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32| UNIMPLEMENTED)?;
    linker.func_wrap("env", "proxy_grpc_cancel", |_: Guest<'_>, _: u32| UNIMPLEMENTED)?;
    linker.func_wrap("env", "proxy_grpc_close", |_: Guest<'_>, _: u32| UNIMPLEMENTED)?;
    linker.func_wrap(
        "env",
        "proxy_call_foreign_function",
        |_: Guest<'_>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| Status::NotFound as u32,
    )?;
    Ok(())
}

/// Refused for now, with the answer for an upstream that is not there: see `docs/plugins/wasm.md`.
fn http_call(guest: &mut Guest<'_>, pieces: [(u32, u32); 3], call_at: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    let [upstream, fields, body] = pieces;
    let (upstream, fields) = (slice(memory, upstream.0, upstream.1)?, slice(memory, fields.0, fields.1)?);
    slice(memory, body.0, body.1)?;
    slice(memory, call_at, 4)?;
    pairs::read(fields)?;
    let (plugin, upstream) = (host.setting.name.as_str(), String::from_utf8_lossy(upstream));
    tracing::debug!(plugin, %upstream, "a request of the plugin's own was refused: this server does not send them");
    put(memory, call_at, 0)?;
    Err(Status::BadArgument.into())
}

/// There is no gRPC call whose status it could be; calls over HTTP have theirs among their fields.
fn status(guest: &mut Guest<'_>, code_at: u32, at: u32, size_at: u32) -> Answer {
    give(guest, at, size_at, |_, _, _| Ok(()))?;
    let (memory, _) = parts(guest)?;
    Ok(put(memory, code_at, 0)?)
}
