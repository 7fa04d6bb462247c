//! A parsed request head: offsets and facts in reusable storage, and the view that reads them together with the bytes.

use super::encode::{self, Fields};
use super::error::HeadError;
use super::framing::BodyFraming;
use super::lines::FieldLines;
use super::syntax;
use super::target::TargetForm;
use super::{Method, Version};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

const _: () = assert!(HEAD_BYTES_MAX <= u32::MAX as usize, "a span addresses every byte of a head");

/// Some bytes of a head, by offset: the head's buffer may move between parsing and reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// `len` bytes from `start` on.
    pub(super) fn new(start: usize, len: usize) -> Span {
        Span { start: start as u32, len: len as u32 }
    }

    /// The offset of the first byte.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// The offset behind the last byte.
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// The number of bytes.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether there is no byte.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The bytes, out of the buffer that was parsed; none where the buffer is shorter than that.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start()..self.end()).unwrap_or_default()
    }

    pub(super) fn text(self, bytes: &[u8]) -> &str {
        as_text(self.of(bytes))
    }
}

/// Text out of bytes that the parser found to be ASCII.
fn as_text(bytes: &[u8]) -> &str {
    debug_assert!(bytes.is_ascii());
    str::from_utf8(bytes).unwrap_or_default()
}

/// One header field; white space around the value is not part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name, as it was sent.
    pub name: Span,
    /// The value: any bytes but controls; may be empty.
    pub value: Span,
}

/// Where the normal path is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PathSource {
    /// There is none: the authority form.
    #[default]
    Nowhere,
    /// In the head, as it was sent.
    Sent,
    /// In `Head::path_buf`.
    Rewritten,
    /// `/`, for an absolute-form without a path (RFC 9112 section 3.2.1).
    Root,
    /// `*`, for the asterisk form and for `OPTIONS` on an absolute-form without path and query (section 3.2.4).
    Asterisk,
}

/// The offsets and facts of one request head, filled by [`super::parse_head`]. Meant to be kept and reused: once grown,
/// it allocates no more. Of no meaning unless parsing was complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub(super) fields: Vec<Field>,
    pub(super) path_buf: Vec<u8>,
    pub(super) path_source: PathSource,
    pub(super) raw_path: Span,
    pub(super) query: Option<Span>,
    pub(super) method_name: Span,
    pub(super) authority: Span,
    pub(super) host_len: u32,
    pub(super) port: Option<u16>,
    /// The form of the target.
    pub form: TargetForm,
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The request target as it was sent.
    pub target: Span,
    /// Where the body ends.
    pub framing: BodyFraming,
    /// Whether the client lets the connection stay open (RFC 9112 section 9.3).
    pub persistent: bool,
    /// Whether the client waits for `100 Continue` before it sends the body that the framing announces. Never set
    /// without a body, nor in HTTP/1.0 (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// Whether the client offers to switch protocols: `Upgrade`, named by `Connection`, in HTTP/1.1 (RFC 9110
    /// section 7.8).
    pub upgrade: bool,
    /// Bytes of the head, with the empty line before the request line, if any, and the one at its end. The body, or the
    /// next request, starts here.
    pub len: usize,
}

impl Head {
    /// Empty storage, without heap.
    pub fn new() -> Head {
        Head::default()
    }

    /// Forgets the parsed head and keeps the storage.
    pub fn clear(&mut self) {
        let (mut fields, mut path_buf) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.path_buf));
        fields.clear();
        path_buf.clear();
        *self = Head { fields, path_buf, ..Head::default() };
    }

    /// The header fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// A copy without the fields and the normal path.
    fn facts(&self) -> Head {
        Head {
            fields: Vec::new(),
            path_buf: Vec::new(),
            path_source: self.path_source,
            raw_path: self.raw_path,
            query: self.query,
            method_name: self.method_name,
            authority: self.authority,
            host_len: self.host_len,
            port: self.port,
            form: self.form,
            method: self.method,
            version: self.version,
            target: self.target,
            framing: self.framing,
            persistent: self.persistent,
            expect_continue: self.expect_continue,
            upgrade: self.upgrade,
            len: self.len,
        }
    }

    /// The head together with `bytes`, which start where parsing started; see [`RequestHead::new`].
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> RequestHead<'a> {
        RequestHead::new(bytes, self)
    }
}

/// What the rest of the server sees of a request head: the bytes and what was found in them.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    bytes: &'a [u8],
    head: &'a Head,
}

impl<'a> RequestHead<'a> {
    /// Joins a parsed head with its bytes: the same ones that were parsed, at least `head.len` of them. With others the
    /// accessors return nonsense or nothing, but do not panic.
    pub fn new(bytes: &'a [u8], head: &'a Head) -> RequestHead<'a> {
        debug_assert!(bytes.len() >= head.len);
        RequestHead { bytes, head }
    }

    /// The offsets and facts.
    pub fn head(&self) -> &'a Head {
        self.head
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method as it was sent, extension methods too.
    pub fn method_str(&self) -> &'a str {
        match self.head.method {
            Method::Extension => self.head.method_name.text(self.bytes),
            known => known.as_str(),
        }
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The form of the target.
    pub fn form(&self) -> TargetForm {
        self.head.form
    }

    /// Where the body ends.
    pub fn framing(&self) -> BodyFraming {
        self.head.framing
    }

    /// The request target as it was sent.
    pub fn target(&self) -> &'a str {
        self.head.target.text(self.bytes)
    }

    /// The normal path, the one that is routed and forwarded (see [`super::target::normalize_path`]). `*` for the
    /// asterisk form, empty for `CONNECT`.
    pub fn path(&self) -> &'a str {
        as_text(self.path_bytes())
    }

    /// [`RequestHead::path`] as bytes, which spares a scan; always ASCII.
    pub fn path_bytes(&self) -> &'a [u8] {
        match self.head.path_source {
            PathSource::Nowhere => b"",
            PathSource::Sent => self.head.raw_path.of(self.bytes),
            PathSource::Rewritten => &self.head.path_buf,
            PathSource::Root => b"/",
            PathSource::Asterisk => b"*",
        }
    }

    /// The path as it was sent; empty where an absolute-form has none. For logs, not for decisions.
    pub fn raw_path(&self) -> &'a str {
        self.head.raw_path.text(self.bytes)
    }

    /// The query, without `?`, as it was sent: any printable ASCII but `#`. `Some("")` for a bare `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.head.query.map(|query| query.text(self.bytes))
    }

    /// Host and port: those of the target where it names them, else those of `Host` (RFC 9112 section 3.3). The two are
    /// equal but for case and a default port. `None` only in HTTP/1.0.
    pub fn authority(&self) -> Option<&'a str> {
        (!self.head.authority.is_empty()).then(|| self.head.authority.text(self.bytes))
    }

    /// The host of [`RequestHead::authority`] without the port, as it was sent, in any case; an IPv6 address has its
    /// brackets.
    pub fn host(&self) -> Option<&'a str> {
        self.host_bytes().map(as_text)
    }

    /// [`RequestHead::host`] as bytes, which spares a scan; always ASCII.
    pub fn host_bytes(&self) -> Option<&'a [u8]> {
        let authority = self.head.authority.of(self.bytes);
        (!authority.is_empty()).then(|| authority.get(..self.head.host_len as usize).unwrap_or_default())
    }

    /// The port of [`RequestHead::authority`], where it has one.
    pub fn port(&self) -> Option<u16> {
        self.head.port
    }

    /// The value of the first field of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines().values(name).next()
    }

    /// The values of all fields of this name, in any case, in order.
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.lines().values(name)
    }

    /// All fields, in order, with their names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.lines().all()
    }

    /// The value of the first cookie of this name (RFC 6265 section 4.2). What has no `=` is no cookie.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.header_values("cookie").flat_map(|field| field.split(|&b| b == b';')).find_map(|pair| {
            let end = memchr::memchr(b'=', pair)?;
            (syntax::trim_ows(&pair[..end]) == name.as_bytes()).then(|| syntax::trim_ows(&pair[end + 1..]))
        })
    }

    /// The members of all `Connection` fields, as they were sent: `close` and the like, and the names of the fields that
    /// a proxy must not forward (RFC 9110 section 7.6.1). Empty members are left out.
    pub fn connection_options(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines().connection_options()
    }

    /// Writes the head anew, into `bytes` and `head`: without the fields for whose name `is_removed` says so, with `added`
    /// behind the others. It reads as if its bytes had been parsed, without the cost of that: names and values were checked
    /// when they were added, and none of these fields decides framing, connection or host.
    ///
    /// # Errors
    /// When the head is larger then than any may be.
    pub(crate) fn rewrite(
        &self,
        is_removed: impl Fn(&[u8]) -> bool,
        added: &Fields,
        bytes: &mut Vec<u8>,
        head: &mut Head,
    ) -> Result<(), HeadError> {
        let (from, before) = (self.bytes, self.head);
        let (mut fields, mut path_buf) = (std::mem::take(&mut head.fields), std::mem::take(&mut head.path_buf));
        path_buf.clone_from(&before.path_buf);
        fields.clear();
        bytes.clear();
        bytes.extend_from_slice(from.get(..before.target.end()).unwrap_or_default());
        bytes.extend_from_slice(if before.version == Version::Http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        let mut authority = before.authority;
        for field in before.fields.iter().filter(|field| !is_removed(field.name.of(from))) {
            let (at, value) = (bytes.len(), field.value);
            let moved = Field {
                name: Span::new(at, field.name.len()),
                value: Span::new(at + field.name.len() + 2, value.len()),
            };
            if value.start() <= before.authority.start() && before.authority.end() <= value.end() {
                let offset = before.authority.start() - value.start();
                authority = Span::new(moved.value.start() + offset, authority.len());
            }
            encode::write_field(bytes, field.name.of(from), value.of(from));
            fields.push(moved);
        }
        for (name, value) in added.parts() {
            let at = bytes.len();
            fields.push(Field { name: Span::new(at, name.len()), value: Span::new(at + name.len() + 2, value.len()) });
            encode::write_field(bytes, name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        let too_large = bytes.len() > HEAD_BYTES_MAX;
        let too_many = fields.len() > HEADERS_MAX;
        *head = Head { fields, path_buf, authority, len: bytes.len(), ..before.facts() };
        match (too_many, too_large) {
            (true, _) => Err(HeadError::TooManyFields),
            (false, true) => Err(HeadError::HeadTooLarge),
            (false, false) => Ok(()),
        }
    }

    fn lines(&self) -> FieldLines<'a> {
        FieldLines { bytes: self.bytes, fields: &self.head.fields }
    }
}

/// The members of a comma-separated list of tokens (RFC 9110 section 5.6.1), without the empty ones. Not for lists whose
/// members may be quoted.
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(syntax::trim_ows).filter(|member| !member.is_empty())
}
