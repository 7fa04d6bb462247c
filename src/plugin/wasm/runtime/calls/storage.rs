//! Data, queues and metrics that all instances of a module share.

use wasmtime::Linker;

use super::super::abi::{Answer, Status, told};
use super::super::host::Host;
use super::super::memory::{Guest, give, parts, put, put_long, slice, slice_mut};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_shared_data",
        |mut guest: Guest<'_>, key: u32, key_size: u32, at: u32, size_at: u32, cas_at: u32| {
            told(shared_data(&mut guest, (key, key_size), at, size_at, cas_at))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_shared_data",
        |mut guest: Guest<'_>, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| {
            told(set_shared_data(&mut guest, (key, key_size), (value, value_size), cas))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_register_shared_queue",
        |mut guest: Guest<'_>, name: u32, name_size: u32, queue_at: u32| {
            told(register_queue(&mut guest, (name, name_size), queue_at))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_resolve_shared_queue",
        |mut guest: Guest<'_>, module: u32, module_size: u32, name: u32, name_size: u32, queue_at: u32| {
            told(resolve_queue(&mut guest, (module, module_size), (name, name_size), queue_at))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_enqueue_shared_queue",
        |mut guest: Guest<'_>, queue: u32, item: u32, item_size: u32| {
            told(enqueue(&mut guest, queue, (item, item_size)))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_dequeue_shared_queue",
        |mut guest: Guest<'_>, queue: u32, at: u32, size_at: u32| {
            told(give(&mut guest, at, size_at, |_, host, out| host.setting.shared.dequeue(queue, out)))
        },
    )?;
    link_metrics(linker)
}

fn link_metrics(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_define_metric",
        |mut guest: Guest<'_>, kind: u32, name: u32, name_size: u32, metric_at: u32| {
            told(define_metric(&mut guest, kind, (name, name_size), metric_at))
        },
    )?;
    linker.func_wrap("env", "proxy_increment_metric", |mut guest: Guest<'_>, metric: u32, delta: i64| {
        told(guest.data_mut().metric(metric).and_then(|cell| cell.increment(delta)).map_err(Into::into))
    })?;
    linker.func_wrap("env", "proxy_record_metric", |mut guest: Guest<'_>, metric: u32, value: u64| {
        told(guest.data_mut().metric(metric).map(|cell| cell.record(value)).map_err(Into::into))
    })?;
    linker.func_wrap("env", "proxy_get_metric", |mut guest: Guest<'_>, metric: u32, value_at: u32| {
        told(metric_value(&mut guest, metric, value_at))
    })?;
    Ok(())
}

/// A pointer into the guest's memory and a size.
type Piece = (u32, u32);

fn shared_data(guest: &mut Guest<'_>, key: Piece, at: u32, size_at: u32, cas_at: u32) -> Answer {
    let mut cas = 0;
    give(guest, at, size_at, |memory, host, out| {
        // Nothing is handed over whose other half has no place.
        slice(memory, cas_at, 4)?;
        cas = host.setting.shared.get(slice(memory, key.0, key.1)?, out)?;
        Ok(())
    })?;
    let (memory, _) = parts(guest)?;
    Ok(put(memory, cas_at, cas)?)
}

fn set_shared_data(guest: &mut Guest<'_>, key: Piece, value: Piece, cas: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    let (key, value) = (slice(memory, key.0, key.1)?, slice(memory, value.0, value.1)?);
    Ok(host.setting.shared.set(key, value, cas)?)
}

fn register_queue(guest: &mut Guest<'_>, name: Piece, queue_at: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    slice_mut(memory, queue_at, 4)?;
    let queue = host.register_queue(slice(memory, name.0, name.1)?)?;
    Ok(put(memory, queue_at, queue)?)
}

/// Queues are those of the guest's own module, which is its VM.
fn resolve_queue(guest: &mut Guest<'_>, module: Piece, name: Piece, queue_at: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    let module = slice(memory, module.0, module.1)?;
    if !module.is_empty() && module != host.setting.module.as_bytes() {
        return Err(Status::NotFound.into());
    }
    let queue = host.setting.shared.find_queue(slice(memory, name.0, name.1)?)?;
    Ok(put(memory, queue_at, queue)?)
}

fn enqueue(guest: &mut Guest<'_>, queue: u32, item: Piece) -> Answer {
    let (memory, host) = parts(guest)?;
    Ok(host.setting.shared.enqueue(queue, slice(memory, item.0, item.1)?)?)
}

fn define_metric(guest: &mut Guest<'_>, kind: u32, name: Piece, metric_at: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    slice_mut(memory, metric_at, 4)?;
    let metric = host.setting.shared.metrics.define(kind, slice(memory, name.0, name.1)?)?;
    Ok(put(memory, metric_at, metric)?)
}

fn metric_value(guest: &mut Guest<'_>, metric: u32, value_at: u32) -> Answer {
    let (memory, host) = parts(guest)?;
    let value = host.setting.shared.metrics.value(metric)?;
    Ok(put_long(memory, value_at, value)?)
}
