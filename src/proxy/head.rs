//! The message heads that a proxy writes: which fields go on, which are its own, which are the operator's.
//!
//! What is written was parsed strictly before, so it cannot end a line or a head early; what concerns one connection alone
//! stays behind (RFC 9110 section 7.6.1).

use std::io::Write as _;
use std::net::IpAddr;

use super::spec::{FieldEdit, HostRewrite, ProxySpec};
use crate::handler::{Request, Trace};
use crate::http::encode::{self, Fields};
use crate::http::head::list_members;
use crate::http::{BodyFraming, FieldError, RequestHead, ResponseView, Version};

/// What becomes of a field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Forward,
    /// It concerns this connection alone, or is written anew.
    Drop,
    /// It says what was asked for, as far as whoever sent it is trusted.
    Origin,
    /// It lists who asked: written anew, behind what a trusted peer said.
    OriginList,
    /// `Host`.
    Host,
    /// `TE`, of which only `trailers` may go on.
    Te,
    /// `traceparent`: written anew where the gateway traces.
    TraceParent,
    /// `tracestate`: belongs to a `traceparent` that is valid.
    TraceState,
}

fn request_fate(name: &[u8]) -> Fate {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is(b"te") => Fate::Te,
        4 if is(b"host") => Fate::Host,
        // The gateway sends `100 Continue` itself, when it wants the body.
        6 if is(b"expect") => Fate::Drop,
        7 if is(b"upgrade") || is(b"trailer") => Fate::Drop,
        9 if is(b"forwarded") => Fate::OriginList,
        10 if is(b"connection") || is(b"keep-alive") => Fate::Drop,
        10 if is(b"tracestate") => Fate::TraceState,
        11 if is(b"traceparent") => Fate::TraceParent,
        14 if is(b"content-length") => Fate::Drop,
        15 if is(b"x-forwarded-for") => Fate::OriginList,
        16 if is(b"x-forwarded-host") => Fate::Origin,
        16 if is(b"proxy-connection") => Fate::Drop,
        17 if is(b"transfer-encoding") => Fate::Drop,
        17 if is(b"x-forwarded-proto") => Fate::Origin,
        18 if is(b"proxy-authenticate") => Fate::Drop,
        19 if is(b"proxy-authorization") => Fate::Drop,
        _ => Fate::Forward,
    }
}

/// The fields of a response that go on.
pub(super) fn forwarded_fields<'a>(response: &ResponseView<'a>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let has_options = response.connection_options().next().is_some();
    response.headers().filter(move |(name, _)| {
        let name = name.as_bytes();
        is_response_forwarded(name) && !(has_options && is_nominated(response.connection_options(), name))
    })
}

fn is_response_forwarded(name: &[u8]) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    !match name.len() {
        7 => is(b"upgrade") || is(b"trailer"),
        10 => is(b"connection") || is(b"keep-alive"),
        14 => is(b"content-length"),
        16 => is(b"proxy-connection"),
        17 => is(b"transfer-encoding"),
        _ => false,
    }
}

/// Whether `Connection` names this field.
fn is_nominated<'a>(mut options: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> bool {
    options.any(|option| option.eq_ignore_ascii_case(name))
}

/// What a request's head is made from besides the request itself.
pub(super) struct Outgoing<'a> {
    pub(super) spec: &'a ProxySpec,
    /// The path that goes out.
    pub(super) path: &'a [u8],
    /// The server's address as the config names it.
    pub(super) server: &'a str,
    pub(super) framing: BodyFraming,
    /// The protocol that is to be switched to.
    pub(super) upgrade: Option<&'a [u8]>,
    /// The trace that the request belongs to; `None`: what the client says of one goes on as it came.
    pub(super) trace: Option<Trace>,
}

/// Appends the head that goes to the server.
pub(super) fn write_request_head(out: &mut Vec<u8>, request: &Request<'_>, outgoing: &Outgoing<'_>) {
    let spec = outgoing.spec;
    out.extend_from_slice(request.method_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(outgoing.path);
    if let Some(query) = request.query() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_host(out, request, outgoing);
    let is_trusted = spec.trust.iter().any(|network| network.contains(request.peer().ip()));
    let has_options = request.connection_options().next().is_some();
    let mut takes_trailers = false;
    for (name, value) in request.headers() {
        let name = name.as_bytes();
        let goes = match request_fate(name) {
            Fate::Forward => !is_request_id(spec, name),
            Fate::Drop | Fate::Host | Fate::OriginList => false,
            Fate::Origin => is_trusted,
            Fate::TraceParent => outgoing.trace.is_none(),
            Fate::TraceState => outgoing.trace.is_none_or(|trace| trace.is_continued),
            Fate::Te => {
                takes_trailers |= list_members(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                false
            }
        };
        if goes
            && !(has_options && is_nominated(request.connection_options(), name))
            && !is_edited(&spec.request_fields, name)
        {
            encode::write_field(out, name, value);
        }
    }
    write_origin(out, request, spec, is_trusted);
    write_identity(out, request, outgoing);
    if let Some(via) = &spec.via {
        let version = match request.version() {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        };
        // Writing to a vector does not fail.
        let _ = write!(out, "Via: {version} {via}\r\n");
    }
    for edit in &spec.request_fields {
        if let FieldEdit::Set(name, value) | FieldEdit::Add(name, value) = edit {
            encode::write_field(out, name, value);
        }
    }
    match outgoing.framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => encode::write_content_length(out, length),
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    match (outgoing.upgrade, takes_trailers) {
        (Some(protocol), _) => {
            encode::write_field(out, "Upgrade", protocol);
            out.extend_from_slice(b"Connection: upgrade\r\n");
        }
        (None, true) => out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n"),
        (None, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether it is the field that tells servers the request's id.
fn is_request_id(spec: &ProxySpec, name: &[u8]) -> bool {
    spec.request_id.as_ref().is_some_and(|field| field.as_bytes().eq_ignore_ascii_case(name))
}

/// The request's id, and its trace; the operator's edits come before both.
fn write_identity(out: &mut Vec<u8>, request: &Request<'_>, outgoing: &Outgoing<'_>) {
    let edits = &outgoing.spec.request_fields;
    if let Some(field) = outgoing.spec.request_id.as_ref().filter(|field| !is_edited(edits, field.as_bytes())) {
        encode::write_field(out, field, request.id().text(&mut [0; 16]));
    }
    if let Some(trace) = outgoing.trace.filter(|_| !is_edited(edits, b"traceparent")) {
        encode::write_field(out, "traceparent", trace.traceparent());
    }
}

/// Whether an edit replaces or removes all fields of this name.
fn is_edited(edits: &[FieldEdit], name: &[u8]) -> bool {
    edited_names(edits).any(|edited| edited.eq_ignore_ascii_case(name))
}

/// The names of which edits replace or remove all fields.
pub(super) fn edited_names(edits: &[FieldEdit]) -> impl Iterator<Item = &[u8]> {
    edits.iter().filter_map(|edit| match edit {
        FieldEdit::Set(edited, _) | FieldEdit::Remove(edited) => Some(edited.as_bytes()),
        FieldEdit::Add(..) => None,
    })
}

fn write_host(out: &mut Vec<u8>, request: &RequestHead<'_>, outgoing: &Outgoing<'_>) {
    let host = match &outgoing.spec.host {
        HostRewrite::Keep => request.authority().unwrap_or(outgoing.server),
        HostRewrite::Server => outgoing.server,
        HostRewrite::Set(host) => host,
    };
    // A unix socket has no name; an empty `Host` is what RFC 9112 section 3.2 asks for then.
    let host = if host.starts_with("unix:") { "" } else { host };
    encode::write_field(out, "Host", host);
}

/// Who asked: the client's address, behind those that a trusted peer named.
fn write_origin(out: &mut Vec<u8>, request: &Request<'_>, spec: &ProxySpec, is_trusted: bool) {
    let client = request.peer().ip().to_canonical();
    let host = request.authority();
    if spec.x_forwarded {
        out.extend_from_slice(b"X-Forwarded-For: ");
        write_earlier(out, request, "x-forwarded-for", is_trusted);
        let _ = write!(out, "{client}\r\n");
        if !(is_trusted && request.header("x-forwarded-proto").is_some()) {
            out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
        }
        if let Some(host) = host
            && !(is_trusted && request.header("x-forwarded-host").is_some())
        {
            encode::write_field(out, "X-Forwarded-Host", host);
        }
    }
    if spec.forwarded {
        out.extend_from_slice(b"Forwarded: ");
        write_earlier(out, request, "forwarded", is_trusted);
        let _ = match client {
            IpAddr::V4(client) => write!(out, "for={client};proto=http"),
            IpAddr::V6(client) => write!(out, "for=\"[{client}]\";proto=http"),
        };
        if let Some(host) = host {
            // A host with a port or brackets is no token, so it is quoted; it holds neither quotes nor backslashes.
            let _ = write!(out, ";host=\"{host}\"");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What a trusted peer listed before, in one line: many applications read but one.
fn write_earlier(out: &mut Vec<u8>, request: &RequestHead<'_>, name: &str, is_trusted: bool) {
    for value in request.header_values(name).filter(|value| is_trusted && !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// Makes the operator's edits of a response.
///
/// # Errors
/// When there is no room for more.
pub(super) fn edit_response(fields: &mut Fields, edits: &[FieldEdit]) -> Result<(), FieldError> {
    for edit in edits {
        match edit {
            FieldEdit::Set(name, value) => fields.set(name, value)?,
            FieldEdit::Add(name, value) => fields.push(name, value)?,
            FieldEdit::Remove(name) => {
                fields.remove(name);
            }
        }
    }
    Ok(())
}
