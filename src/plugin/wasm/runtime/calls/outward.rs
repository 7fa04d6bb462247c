//! Requests of the guest's own. Those over gRPC, and functions of the host's own, this host does not have.

use wasmtime::Linker;

use super::super::abi::{Answer, Status, told};
use super::super::host::Host;
use super::super::memory::{Guest, give, parts, put, slice};
use super::super::outgoing::{Asked, CallEnd};
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
         trailers: u32,
         trailers_size: u32,
         timeout_ms: u32,
         call_at: u32| {
            let pieces =
                [(upstream, upstream_size), (fields, fields_size), (body, body_size), (trailers, trailers_size)];
            told(http_call(&mut guest, pieces, timeout_ms, call_at))
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

/// Takes a request of the guest's own up: it is made as soon as the guest gives back, for the context that it is in now.
fn http_call(guest: &mut Guest<'_>, pieces: [(u32, u32); 4], timeout_ms: u32, call_at: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    let pieces = pieces.map(|(at, size)| slice(memory, at, size));
    let [upstream, fields, body, trailers] = pieces;
    let (upstream, fields, body, trailers) = (upstream?, fields?, body?, trailers?);
    // Nothing is asked whose number cannot be told.
    slice(memory, call_at, 4)?;
    let fields = pairs::read(fields)?;
    if !pairs::read(trailers)?.is_empty() {
        return Err(Status::Unimplemented.into());
    }
    let found = host.setting.upstreams.iter().find(|known| known.spec.name.as_bytes() == upstream);
    let Some(found) = found else {
        let (plugin, upstream) = (host.setting.name.as_str(), String::from_utf8_lossy(upstream));
        tracing::debug!(plugin, %upstream, "a WASM plugin asks an upstream that there is not");
        return Err(Status::BadArgument.into());
    };
    let asked = Asked::new(found.clone(), &fields, body, timeout_ms)?;
    let number = host.calls.begin(host.effective, asked)?;
    Ok(put(memory, call_at, number)?)
}

/// How the request of the guest's own ended that it is told of: as from Envoy, one without an answer was reset. There are no
/// gRPC calls whose status it could be.
fn status(guest: &mut Guest<'_>, code_at: u32, at: u32, size_at: u32) -> Answer {
    let has_failed = matches!(guest.data().call_end, Some(CallEnd::Failed));
    give(guest, at, size_at, |memory, _, out| {
        slice(memory, code_at, 4)?;
        if has_failed {
            out.extend_from_slice(b"reset");
        }
        Ok(())
    })?;
    let (memory, _) = parts(guest)?;
    Ok(put(memory, code_at, if has_failed { Status::BrokenConnection as u32 } else { Status::Ok as u32 })?)
}
