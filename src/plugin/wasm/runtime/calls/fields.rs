//! Header fields and trailers: `proxy_.._header_map_..`.

use wasmtime::Linker;

use super::super::abi::{Answer, MapKind, Status, told};
use super::super::fields::FieldMap;
use super::super::host::Host;
use super::super::memory::{Guest, give, parts, put, slice};
use super::super::pairs;
use super::super::stream::Stage;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap("env", "proxy_get_header_map_size", |mut guest: Guest<'_>, map: u32, size_at: u32| {
        told(size(&mut guest, map, size_at))
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |mut guest: Guest<'_>, map: u32, at: u32, size_at: u32| told(all(&mut guest, map, at, size_at)),
    )?;
    linker.func_wrap("env", "proxy_set_header_map_pairs", |mut guest: Guest<'_>, map: u32, at: u32, size: u32| {
        told(set_all(&mut guest, map, at, size))
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |mut guest: Guest<'_>, map: u32, name: u32, name_size: u32, at: u32, size_at: u32| {
            told(value(&mut guest, map, (name, name_size), at, size_at))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_add_header_map_value",
        |mut guest: Guest<'_>, map: u32, name: u32, name_size: u32, value: u32, value_size: u32| {
            told(edit(&mut guest, map, (name, name_size), (value, value_size), FieldMap::add))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_replace_header_map_value",
        |mut guest: Guest<'_>, map: u32, name: u32, name_size: u32, value: u32, value_size: u32| {
            told(edit(&mut guest, map, (name, name_size), (value, value_size), FieldMap::replace))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |mut guest: Guest<'_>, map: u32, name: u32, name_size: u32| {
            told(edit(&mut guest, map, (name, name_size), (0, 0), |map, name, _| map.remove(name)))
        },
    )?;
    Ok(())
}

/// A pointer into the guest's memory and a size.
type Piece = (u32, u32);

/// The map to be read; `None` where there is none now, which reads like an empty one: SDKs take any other answer for a fault
/// of the host.
fn readable(host: &Host, kind: MapKind) -> Option<&FieldMap> {
    match kind {
        MapKind::RequestHeaders => host.stream().map(|stream| &stream.request.headers),
        MapKind::RequestTrailers => host.stream().map(|stream| &stream.request.trailers),
        MapKind::ResponseHeaders => host.stream().map(|stream| &stream.response.headers),
        MapKind::ResponseTrailers => host.stream().map(|stream| &stream.response.trailers),
        MapKind::CallHeaders => host.call_answer().map(|answer| &answer.headers),
        MapKind::CallTrailers => host.call_answer().map(|answer| &answer.trailers),
        MapKind::GrpcInitial | MapKind::GrpcTrailing => None,
    }
}

/// The map to be edited.
fn editable(host: &mut Host, kind: MapKind) -> Result<&mut FieldMap, Status> {
    let stream = host.stream_mut().ok_or(Status::BadArgument)?;
    let (message, is_head) = match kind {
        MapKind::RequestHeaders => (&mut stream.request, true),
        MapKind::RequestTrailers => (&mut stream.request, false),
        MapKind::ResponseHeaders => (&mut stream.response, true),
        MapKind::ResponseTrailers => (&mut stream.response, false),
        MapKind::GrpcInitial | MapKind::GrpcTrailing | MapKind::CallHeaders | MapKind::CallTrailers => {
            return Err(Status::BadArgument);
        }
    };
    match (is_head, message.stage) {
        (true, Stage::Open) => Ok(&mut message.headers),
        (false, Stage::Open | Stage::Sent) => Ok(&mut message.trailers),
        (_, Stage::Unknown) | (true, Stage::Sent) => Err(Status::BadArgument),
    }
}

fn size(guest: &mut Guest<'_>, map: u32, size_at: u32) -> Answer {
    let kind = MapKind::of(map)?;
    let (memory, host) = parts(guest)?;
    let size = readable(host, kind).map_or(0, |map| pairs::size(map.iter()));
    Ok(put(memory, size_at, size as u32)?)
}

fn all(guest: &mut Guest<'_>, map: u32, at: u32, size_at: u32) -> Answer {
    let kind = MapKind::of(map)?;
    give(guest, at, size_at, |_, host, out| {
        if let Some(map) = readable(host, kind) {
            pairs::write(out, map.iter());
        }
        Ok(())
    })
}

fn set_all(guest: &mut Guest<'_>, map: u32, at: u32, size: u32) -> Answer {
    let kind = MapKind::of(map)?;
    let (memory, host) = parts(guest)?;
    let pairs = pairs::read(slice(memory, at, size)?)?;
    Ok(editable(host, kind)?.replace_all(&pairs)?)
}

fn value(guest: &mut Guest<'_>, map: u32, name: Piece, at: u32, size_at: u32) -> Answer {
    let kind = MapKind::of(map)?;
    give(guest, at, size_at, |memory, host, out| {
        let name = slice(memory, name.0, name.1)?;
        let value = readable(host, kind).and_then(|map| map.get(name)).ok_or(Status::NotFound)?;
        out.extend_from_slice(value);
        Ok(())
    })
}

fn edit(
    guest: &mut Guest<'_>,
    map: u32,
    name: Piece,
    value: Piece,
    work: impl FnOnce(&mut FieldMap, &[u8], &[u8]) -> Result<(), Status>,
) -> Answer {
    let kind = MapKind::of(map)?;
    let (memory, host) = parts(guest)?;
    let (name, value) = (slice(memory, name.0, name.1)?, slice(memory, value.0, value.1)?);
    Ok(work(editable(host, kind)?, name, value)?)
}
