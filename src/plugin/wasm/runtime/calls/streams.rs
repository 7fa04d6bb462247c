//! What becomes of a request: resume it, answer it, close it; and the plugin's own contexts and timer.

use std::time::Duration;

use wasmtime::Linker;

use super::super::abi::{Answer, Half, Status, told};
use super::super::host::{Host, ROOT};
use super::super::memory::{Guest, parts, slice};
use super::super::pairs::{self, Pair};
use super::super::stream::{LocalResponse, Wish};
use crate::http::{FieldError, Fields};
use crate::limits::WASM_TICK_PERIOD_MS_MIN;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_continue_stream", |mut guest: Guest<'_>, half: u32| {
        told(Half::of(half).map_err(Into::into).and_then(|half| resume(&mut guest, half)))
    })?;
    // The ways of ABI 0.1.0.
    linker
        .func_wrap("env", "proxy_continue_request", |mut guest: Guest<'_>| told(resume(&mut guest, Half::Request)))?;
    linker
        .func_wrap("env", "proxy_continue_response", |mut guest: Guest<'_>| told(resume(&mut guest, Half::Response)))?;
    linker.func_wrap("env", "proxy_close_stream", |mut guest: Guest<'_>, half: u32| {
        told(Half::of(half).map_err(Into::into).and_then(|_| close(&mut guest)))
    })?;
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |mut guest: Guest<'_>,
         status: u32,
         _details: u32,
         _details_size: u32,
         body: u32,
         body_size: u32,
         fields: u32,
         fields_size: u32,
         _grpc_status: u32| { told(answer(&mut guest, status, (body, body_size), (fields, fields_size))) },
    )?;
    // Envoy's: has the route chosen again. This host chooses it once.
    linker.func_wrap("env", "proxy_clear_route_cache", |_: Guest<'_>| Status::Ok as u32)?;
    linker.func_wrap("env", "proxy_set_effective_context", |mut guest: Guest<'_>, context: u32| {
        told(set_effective(&mut guest, context))
    })?;
    linker.func_wrap("env", "proxy_done", |mut guest: Guest<'_>| told(done(&mut guest)))?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", |mut guest: Guest<'_>, period: u32| {
        let period = (period != 0).then(|| Duration::from_millis(u64::from(period).max(WASM_TICK_PERIOD_MS_MIN)));
        guest.data_mut().tick_period = period;
        Status::Ok as u32
    })?;
    Ok(())
}

fn resume(guest: &mut Guest<'_>, half: Half) -> Answer {
    let stream = guest.data_mut().stream_mut().ok_or(Status::BadArgument)?;
    stream.message_mut(half).resumed = true;
    stream.wake();
    Ok(())
}

fn close(guest: &mut Guest<'_>) -> Answer {
    let stream = guest.data_mut().stream_mut().ok_or(Status::BadArgument)?;
    stream.wish = Wish::Close;
    stream.wake();
    Ok(())
}

fn answer(guest: &mut Guest<'_>, status: u32, body: (u32, u32), fields: (u32, u32)) -> Answer {
    let (memory, host) = parts(guest)?;
    let (body, fields) = (slice(memory, body.0, body.1)?, slice(memory, fields.0, fields.1)?);
    let fields = pairs::read(fields)?;
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status)).ok_or(Status::BadArgument)?;
    if body.len() > host.setting.body_max {
        return Err(Status::InternalFailure.into());
    }
    let fields = own_fields(&fields)?;
    let stream = host.stream_mut().ok_or(Status::BadArgument)?;
    stream.wish = if stream.is_answered {
        // Too late: the guest does not want the response to go on, and another cannot be given.
        Wish::Close
    } else {
        Wish::Answer(Box::new(LocalResponse { status, fields, body: body.to_vec() }))
    };
    stream.wake();
    Ok(())
}

/// The fields of an answer, without those that are the server's.
fn own_fields(pairs: &[Pair<'_>]) -> Result<Fields, Status> {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        match fields.push(name, value) {
            Ok(()) | Err(FieldError::ServerOwned) => {}
            Err(FieldError::Name | FieldError::Value) => return Err(Status::BadArgument),
            Err(FieldError::TooLarge) => return Err(Status::InternalFailure),
        }
    }
    Ok(fields)
}

fn set_effective(guest: &mut Guest<'_>, context: u32) -> Answer {
    let host = guest.data_mut();
    if context != ROOT && host.streams.get(context).is_none() {
        return Err(Status::BadArgument.into());
    }
    host.effective = context;
    Ok(())
}

fn done(guest: &mut Guest<'_>) -> Answer {
    let host = guest.data_mut();
    let id = host.effective;
    if !host.stop_lingering(id) {
        return Err(Status::NotFound.into());
    }
    host.finished.push(id);
    Ok(())
}
