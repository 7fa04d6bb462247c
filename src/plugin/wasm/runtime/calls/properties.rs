//! Facts about the request and the plugin by name: `proxy_get_property`. Names and forms are Envoy's: numbers and times as
//! eight bytes, little-endian, times in nanoseconds; flags as one byte; all else as text.

use wasmtime::Linker;

use super::super::abi::{Answer, Status, told};
use super::super::host::{Host, ROOT};
use super::super::memory::{Guest, give, parts, slice};
use super::super::stream::Stream;
use super::nanoseconds;
use crate::clock;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |mut guest: Guest<'_>, path: u32, path_size: u32, at: u32, size_at: u32| {
            told(give(&mut guest, at, size_at, |memory, host, out| {
                property(host, slice(memory, path, path_size)?, out).ok_or(Status::NotFound)
            }))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_property",
        |mut guest: Guest<'_>, path: u32, path_size: u32, value: u32, value_size: u32| {
            told(set_property(&mut guest, (path, path_size), (value, value_size)))
        },
    )?;
    Ok(())
}

/// Keeps a property of the guest's own for as long as the request lasts. What the host knows itself stays as it is.
fn set_property(guest: &mut Guest<'_>, path: (u32, u32), value: (u32, u32)) -> Answer {
    let (memory, host) = parts(guest)?;
    let (path, value) = (slice(memory, path.0, path.1)?, slice(memory, value.0, value.1)?);
    let stream = host.stream_mut().ok_or(Status::NotFound)?;
    if stream.set_property(path, value) { Ok(()) } else { Err(Status::InternalFailure.into()) }
}

/// Appends the property at `path`, whose segments are separated by zeros.
fn property(host: &Host, path: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut segments = path.strip_suffix(b"\0").unwrap_or(path).split(|&b| b == 0);
    let (first, second, third) = (segments.next()?, segments.next().unwrap_or_default(), segments.next());
    let text = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend_from_slice(text);
        Some(())
    };
    match (first, second) {
        (b"plugin_name", b"") => text(out, host.setting.name.as_bytes()),
        (b"plugin_root_id", b"") => text(out, host.setting.root_id.as_bytes()),
        (b"plugin_vm_id", b"") => text(out, host.setting.module.as_bytes()),
        (b"context_id", b"") => number(out, u64::from(host.effective)),
        (b"root_context_id", b"") => number(out, u64::from(ROOT)),
        _ => {
            let stream = host.stream()?;
            let known = match first {
                b"request" => request(stream, second, third, out),
                b"response" => response(stream, second, third, out),
                b"source" => source(stream, second, out),
                b"route_name" => text(out, stream.facts.route.as_bytes()),
                b"xds" if second == b"route_name" => text(out, stream.facts.route.as_bytes()),
                b"connection" => match second {
                    b"mtls" => text(out, &[0]),
                    _ => None,
                },
                _ => None,
            };
            known.or_else(|| text(out, stream.property(path)?))
        }
    }
}

fn request(stream: &Stream, name: &[u8], field: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    let headers = &stream.request.headers;
    let target = || headers.get(b":path");
    let text = match name {
        b"path" => target()?,
        b"url_path" => target()?.split(|&b| b == b'?').next()?,
        b"query" => target()?.splitn(2, |&b| b == b'?').nth(1).unwrap_or_default(),
        b"host" => headers.get(b":authority")?,
        b"scheme" => headers.get(b":scheme")?,
        b"method" => headers.get(b":method")?,
        b"headers" => headers.get(field?)?,
        b"referer" => headers.get(b"referer")?,
        b"useragent" => headers.get(b"user-agent")?,
        b"id" => stream.facts.id.as_bytes(),
        b"protocol" => stream.facts.protocol.as_bytes(),
        b"time" => {
            return number(out, nanoseconds(clock::wall().saturating_sub(clock::turn().since(stream.facts.began))));
        }
        b"duration" => return number(out, nanoseconds(clock::now().since(stream.facts.began))),
        b"size" => return number(out, stream.request.body.len() as u64),
        _ => return None,
    };
    out.extend_from_slice(text);
    Some(())
}

fn response(stream: &Stream, name: &[u8], field: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    let headers = &stream.response.headers;
    match name {
        b"code" => number(out, str::from_utf8(headers.get(b":status")?).ok()?.parse().ok()?),
        b"headers" => {
            out.extend_from_slice(headers.get(field?)?);
            Some(())
        }
        b"size" => number(out, stream.response.body.len() as u64),
        _ => None,
    }
}

fn source(stream: &Stream, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match name {
        b"address" => {
            out.extend_from_slice(stream.facts.peer.to_string().as_bytes());
            Some(())
        }
        b"port" => number(out, u64::from(stream.facts.peer.port())),
        _ => None,
    }
}

fn number(out: &mut Vec<u8>, value: u64) -> Option<()> {
    out.extend_from_slice(&value.to_le_bytes());
    Some(())
}
