//! Redirects (RFC 9110 section 15.4), with the route's parameters in the target if the operator likes.
//!
//! Whatever a client puts into its path, it stays on the host that the operator wrote: a parameter may not stand in the
//! authority, and one that would make `//host` of a path does not.

use std::fmt;

use super::template::{self, Escape, Template, UnknownParam};
use super::{Answer, Exchange, Handler, Pace, Prepared, Reply, Request};
use crate::http::{Fields, Status};
use crate::pool::{self, Class};

/// Why a redirect cannot be built: the operator is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectError {
    /// Not one of 301, 302, 303, 307 and 308.
    Status(Status),
    /// The target is neither a path (`/…`) nor a URI with a host (`https://host/…`, `//host/…`).
    Form,
    /// A byte that no URI has (RFC 3986 section 2), or `%` without two hexadecimal digits.
    Byte(u8),
    /// A parameter in the authority: a client could choose the host.
    ParamInAuthority(String),
    /// The target names a parameter that the route does not have.
    Param(UnknownParam),
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status: expected 301, 302, 303, 307 or 308, found {status}"),
            Self::Form => f.write_str("to: expected a path that begins with `/`, or a URI with a host"),
            Self::Byte(byte) => {
                write!(f, "to: expected the characters of a URI (others as %XX), found `{}`", byte.escape_ascii())
            }
            Self::ParamInAuthority(name) => {
                write!(f, "to: expected a fixed host, found {{{name}}}: the client would choose where it leads")
            }
            Self::Param(error) => write!(f, "to: {error}"),
        }
    }
}

impl std::error::Error for RedirectError {}

/// What a request's query becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestQuery {
    Append,
    Drop,
}

/// Redirects every request.
#[derive(Debug)]
pub struct Redirect {
    status: Status,
    /// Scheme and authority as written, with the slashes; empty for a path.
    origin: String,
    path: Template,
    /// With its `?`.
    query: Template,
    /// With its `#`.
    fragment: Template,
    request_query: RequestQuery,
    /// The response where nothing of the request is in it.
    prepared: Option<Prepared>,
}

impl Redirect {
    /// Builds a redirect to `to`; `params` are the names of the route's parameters.
    ///
    /// In `to`, `{name}` is a parameter as it stands in the normalised path, percent-encoded; in a query or a fragment
    /// the bytes that separate fields are encoded too. With `keep_query` the query of the request goes along, unless
    /// `to` has one. Where parameters make the path begin with more than one slash, all but one go: `//host` would lead
    /// to another host.
    ///
    /// # Errors
    /// See [`RedirectError`].
    pub fn new(to: &str, status: Status, keep_query: bool, params: &[&str]) -> Result<Self, RedirectError> {
        match status {
            Status::MOVED_PERMANENTLY
            | Status::FOUND
            | Status::SEE_OTHER
            | Status::TEMPORARY_REDIRECT
            | Status::PERMANENT_REDIRECT => {}
            other => return Err(RedirectError::Status(other)),
        }
        let (origin, rest) = to.split_at(origin_len(to)?);
        let (before, fragment) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
        let (path, query) = before.split_at(before.find('?').unwrap_or(before.len()));
        let parse = |part: &str| {
            let template = Template::text(part, params).map_err(RedirectError::Param)?;
            template.fixed_pieces().try_for_each(check_uri_bytes)?;
            Ok(template)
        };
        if let Some(name) = parse(origin)?.first_param() {
            return Err(RedirectError::ParamInAuthority(name.to_owned()));
        }
        let (path, query, fragment) = (parse(path)?, parse(query)?, parse(fragment)?);
        let request_query =
            if keep_query && query == Template::default() { RequestQuery::Append } else { RequestQuery::Drop };
        let mut redirect =
            Self { status, origin: origin.to_owned(), path, query, fragment, request_query, prepared: None };
        redirect.prepared = redirect.prepare();
        Ok(redirect)
    }

    /// The response to a request without a query, where no parameter is in it.
    fn prepare(&self) -> Option<Prepared> {
        let parts = [self.path.as_fixed()?, self.query.as_fixed()?, self.fragment.as_fixed()?];
        let mut fields = Fields::new();
        fields.push("Location", [self.origin.as_bytes(), parts[0], parts[1], parts[2]].concat()).ok()?;
        fields.push("Content-Type", MEDIA_TYPE).ok()?;
        Some(Prepared::new(self.status, &fields, body(self.status).into()))
    }

    fn write_location(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.origin.as_bytes());
        let start = out.len();
        self.path.render(request, Escape::AsSent, out);
        if self.origin.is_empty() {
            let slashes = out[start..].iter().take_while(|&&b| b == b'/').count();
            out.drain(start..start + slashes.saturating_sub(1));
        }
        self.query.render(request, Escape::Query, out);
        if let (RequestQuery::Append, Some(query)) = (self.request_query, kept_query(request)) {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        self.fragment.render(request, Escape::Query, out);
    }

    fn answer(&self, exchange: &mut Exchange<'_>) -> Reply {
        let request = exchange.request;
        if let Some(prepared) = &self.prepared
            && (self.request_query == RequestQuery::Drop || kept_query(&request).is_none())
        {
            return exchange.response.send_prepared(prepared);
        }
        let mut location = pool::take(Class::Small);
        self.write_location(&request, &mut location);
        send(exchange, self.status, &location)
    }
}

const MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// What people see whose client does not follow. The target is not repeated: nothing of a request is echoed in a body.
fn body(status: Status) -> &'static str {
    match status {
        Status::MOVED_PERMANENTLY => "Moved Permanently\n",
        Status::FOUND => "Found\n",
        Status::SEE_OTHER => "See Other\n",
        Status::TEMPORARY_REDIRECT => "Temporary Redirect\n",
        _ => "Permanent Redirect\n",
    }
}

/// The request's query; a bare `?` is none.
fn kept_query<'x>(request: &Request<'x>) -> Option<&'x str> {
    request.query().filter(|query| !query.is_empty())
}

fn send(exchange: &mut Exchange<'_>, status: Status, location: &[u8]) -> Reply {
    let response = &mut exchange.response;
    template::push_field(response.status(status), "Location", location)?;
    response.field("Content-Type", MEDIA_TYPE)?;
    response.send(body(status).as_bytes())
}

/// Redirects for good, with method and body (308), to the request's own path and `/`, where a directory was asked for
/// like a file. The path begins with one slash.
pub(super) fn add_slash(exchange: &mut Exchange<'_>) -> Reply {
    let request = exchange.request;
    let mut location = pool::take(Class::Small);
    location.extend_from_slice(request.path_bytes());
    location.push(b'/');
    if let Some(query) = kept_query(&request) {
        location.push(b'?');
        location.extend_from_slice(query.as_bytes());
    }
    send(exchange, Status::PERMANENT_REDIRECT, &location)
}

/// Bytes of scheme and authority at the start of `to`; none for a path.
fn origin_len(to: &str) -> Result<usize, RedirectError> {
    let authority = if to.starts_with("//") {
        2
    } else if to.starts_with('/') {
        return Ok(0);
    } else {
        let scheme = to.find("://").ok_or(RedirectError::Form)?;
        let is_scheme = to[..scheme].bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && to.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_scheme {
            return Err(RedirectError::Form);
        }
        scheme + 3
    };
    let length = to[authority..].find(['/', '?', '#']).unwrap_or(to.len() - authority);
    if length == 0 { Err(RedirectError::Form) } else { Ok(authority + length) }
}

/// Unreserved and reserved characters and whole escapes (RFC 3986 section 2).
fn check_uri_bytes(bytes: &[u8]) -> Result<(), RedirectError> {
    let mut rest = bytes;
    while let [b, after @ ..] = rest {
        rest = match b {
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
                _ => return Err(RedirectError::Byte(b'%')),
            },
            b if b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(b) => after,
            &b => return Err(RedirectError::Byte(b)),
        };
    }
    Ok(())
}

impl Handler for Redirect {
    fn pace(&self) -> Pace {
        Pace::Immediate
    }

    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        Answer::Now(self.answer(exchange))
    }
}

#[cfg(test)]
mod tests;
