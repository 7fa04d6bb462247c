//! Writing responses: plain appends to a buffer that the caller owns, and the checked list of a response's fields.

use smallvec::SmallVec;

use super::head::list_members;
use super::status::Status;
use super::syntax;
use crate::clock::DATE_BYTES;
use crate::limits::{RESPONSE_FIELDS_BYTES_MAX, RESPONSE_FIELDS_MAX};

/// The whole interim response that lets a client send its body (RFC 9110 section 10.1.1).
pub const CONTINUE_100: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What follows the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The last chunk with an empty trailer section: the end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends `HTTP/1.1 200 OK` CRLF. Always 1.1, to 1.0 clients too: a server states its own version (RFC 9110
/// section 6.2). An unregistered status has an empty reason, and keeps the space before it (RFC 9112 section 4).
pub fn write_status_line(out: &mut Vec<u8>, status: Status) {
    if status == Status::OK {
        // One copy of a length that the compiler knows: most are this one.
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&status.digits());
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line. For the server's own fields, whose bytes are known to be good; what comes from elsewhere goes
/// through [`Fields`].
pub fn write_field(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    let (name, value) = (name.as_ref(), value.as_ref());
    debug_assert!(syntax::is_token(name) && syntax::all(value, syntax::FIELD_VALUE));
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Date`: one copy of a length that the compiler knows.
pub fn write_date(out: &mut Vec<u8>, date: &[u8; DATE_BYTES]) {
    const NAME: &[u8] = b"Date: ";
    let mut line = [0; NAME.len() + DATE_BYTES + 2];
    line[..NAME.len()].copy_from_slice(NAME);
    line[NAME.len()..NAME.len() + DATE_BYTES].copy_from_slice(date);
    line[NAME.len() + DATE_BYTES..].copy_from_slice(b"\r\n");
    out.extend_from_slice(&line);
}

/// Appends `Content-Length: n` CRLF.
pub fn write_content_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk of `n` bytes; `n` is not zero, for that would end the body ([`LAST_CHUNK`] does).
pub fn write_chunk_head(out: &mut Vec<u8>, n: u64) {
    debug_assert!(n != 0, "a chunk of no bytes ends the body");
    let digits = (64 - n.leading_zeros()).div_ceil(4);
    for shift in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(n >> (4 * shift) & 15) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Why a response field is refused. The application, or an upstream, is to blame; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The name is not a token.
    Name,
    /// The value has a CR, LF, NUL or other control byte.
    Value,
    /// The field is the server's: see [`is_server_owned`].
    ServerOwned,
    /// More fields than [`RESPONSE_FIELDS_MAX`], or more bytes than [`RESPONSE_FIELDS_BYTES_MAX`].
    TooLarge,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FieldError::Name => "the field name is not a token",
            FieldError::Value => "the field value has a control byte",
            FieldError::ServerOwned => "the field is set by the server",
            FieldError::TooLarge => "too many response fields",
        })
    }
}

impl std::error::Error for FieldError {}

/// Whether a response field is decided by the server alone, because it states framing or speaks about the connection:
/// `Content-Length`, `Transfer-Encoding`, `Connection`, `Keep-Alive`, `Trailer`, `Upgrade`. (`Date` and `Server` are
/// filled in by the server and may be overridden.)
pub fn is_server_owned(name: &[u8]) -> bool {
    match name.len() {
        7 => name.eq_ignore_ascii_case(b"upgrade") || name.eq_ignore_ascii_case(b"trailer"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// Where one field line lies in the block of [`Fields`]. The name starts at `start`, the value two bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl Line {
    fn name(self, block: &[u8]) -> &[u8] {
        &block[self.start as usize..][..self.name_len as usize]
    }

    fn is(self, name: &[u8], block: &[u8]) -> bool {
        self.name_len as usize == name.len() && self.name(block).eq_ignore_ascii_case(name)
    }

    fn value(self, block: &[u8]) -> &[u8] {
        &block[(self.start + self.name_len) as usize + 2..][..self.value_len as usize]
    }

    /// Bytes of the line with `: ` and CRLF.
    fn len(self) -> usize {
        (self.name_len + self.value_len) as usize + 4
    }
}

/// A bit by which names differ, in any case of their letters: by their length and two of their bytes.
#[inline]
const fn mark(name: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return 1 };
    1 << ((name.len() + 5 * (*first | 0x20) as usize + 11 * (*last | 0x20) as usize) % 64)
}

/// Names of fields that are taken away together.
#[derive(Debug)]
pub struct FieldNames<const N: usize> {
    names: [&'static str; N],
    marks: [u64; N],
}

impl<const N: usize> FieldNames<N> {
    /// These.
    pub const fn new(names: [&'static str; N]) -> Self {
        let (mut marks, mut at) = ([0; N], 0);
        while at < N {
            marks[at] = mark(names[at].as_bytes());
            at += 1;
        }
        Self { names, marks }
    }
}

/// A field line that was checked once, to be added to the fields of many responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldLine {
    /// With `: ` and CRLF.
    bytes: Vec<u8>,
    name_len: usize,
    mark: u64,
}

impl FieldLine {
    /// The line of a field.
    ///
    /// # Errors
    /// See [`FieldError`].
    pub fn new(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Self, FieldError> {
        let (name, value) = check_field(name.as_ref(), value.as_ref())?;
        let mut bytes = Vec::with_capacity(name.len() + value.len() + 4);
        write_field(&mut bytes, name, value);
        Ok(Self { bytes, name_len: name.len(), mark: mark(name) })
    }

    /// The name, as it was given.
    pub fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len]
    }
}

/// The header fields of one response, kept as the bytes that will be sent plus a small index.
///
/// Every name and value is checked on the way in, which is what makes header injection impossible: no other way leads
/// into the block. Reused from response to response; once grown it allocates no more.
#[derive(Debug, Default)]
pub struct Fields {
    /// Complete field lines, back to back.
    block: Vec<u8>,
    lines: Vec<Line>,
    /// The marks of all names that were added since there was none, so that most names that are not there are not looked
    /// for.
    marks: u64,
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        (&self.block, &self.lines) == (&other.block, &other.lines)
    }
}

impl Eq for Fields {}

impl Clone for Fields {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), lines: self.lines.clone(), marks: self.marks }
    }

    /// Into the storage that is there, as for a response that was made ahead.
    fn clone_from(&mut self, source: &Self) {
        self.block.clone_from(&source.block);
        self.lines.clone_from(&source.lines);
        self.marks = source.marks;
    }
}

impl Fields {
    /// An empty list, without heap.
    pub const fn new() -> Fields {
        Fields { block: Vec::new(), lines: Vec::new(), marks: 0 }
    }

    /// Removes all fields and keeps the storage.
    pub fn clear(&mut self) {
        self.block.clear();
        self.lines.clear();
        self.marks = 0;
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a field behind the others, also when the name is there already. White space around the value is dropped: it
    /// is not part of it (RFC 9110 section 5.5).
    ///
    /// # Errors
    /// See [`FieldError`]; the list is unchanged.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
        let (name, value) = check_field(name.as_ref(), value.as_ref())?;
        self.append(name, value)
    }

    /// Adds a field of a message that was parsed: its name and value were checked then.
    ///
    /// # Errors
    /// [`FieldError::TooLarge`]; the list is unchanged.
    pub(crate) fn push_parsed(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        self.append(name, value)
    }

    /// Replaces all fields of this name by one, at the end.
    ///
    /// # Errors
    /// See [`FieldError`]; the list is unchanged.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
        let (name, value) = check_field(name.as_ref(), value.as_ref())?;
        // The bound is checked without the lines that go, so that a failure changes nothing: replacing may fail at the
        // very edge although it would fit.
        self.check_room(name.len() + value.len() + 4)?;
        self.remove(name);
        self.append(name, value)
    }

    /// As [`Fields::push`], of a line that was checked.
    ///
    /// # Errors
    /// [`FieldError::TooLarge`]; the list is unchanged.
    pub fn push_line(&mut self, line: &FieldLine) -> Result<(), FieldError> {
        let (len, name_len) = (line.bytes.len(), line.name_len);
        self.check_room(len)?;
        let value_len = (len - name_len - 4) as u32;
        self.marks |= line.mark;
        self.lines.push(Line { start: self.block.len() as u32, name_len: name_len as u32, value_len });
        self.block.extend_from_slice(&line.bytes);
        Ok(())
    }

    /// As [`Fields::set`], by a line that was checked.
    ///
    /// # Errors
    /// [`FieldError::TooLarge`]; the list is unchanged.
    pub fn set_line(&mut self, line: &FieldLine) -> Result<(), FieldError> {
        self.check_room(line.bytes.len())?;
        if self.marks & line.mark != 0 {
            self.remove(line.name());
        }
        self.push_line(line)
    }

    /// Whether a line of `len` bytes, with `: ` and CRLF, finds room.
    fn check_room(&self, len: usize) -> Result<(), FieldError> {
        if self.has_room(1, len) { Ok(()) } else { Err(FieldError::TooLarge) }
    }

    /// Whether so many more lines find room, of so many bytes in all with `: ` and CRLF.
    pub(crate) fn has_room(&self, lines: usize, bytes: usize) -> bool {
        self.lines.len() + lines <= RESPONSE_FIELDS_MAX && self.block.len() + bytes <= RESPONSE_FIELDS_BYTES_MAX
    }

    fn append(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        self.check_room(name.len() + value.len() + 4)?;
        self.marks |= mark(name);
        self.lines.push(Line {
            start: self.block.len() as u32,
            name_len: name.len() as u32,
            value_len: value.len() as u32,
        });
        write_field(&mut self.block, name, value);
        Ok(())
    }

    /// Removes all fields of this name, in any case; returns whether there was one.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        let Some(mut at) = self.find(name) else { return false };
        loop {
            let line = self.lines.remove(at);
            let start = line.start as usize;
            self.block.drain(start..start + line.len());
            self.lines[at..].iter_mut().for_each(|later| later.start -= line.len() as u32);
            match self.lines[at..].iter().position(|line| line.is(name, &self.block)) {
                Some(further) => at += further,
                None => return true,
            }
        }
    }

    /// Removes all fields of these names, in any case.
    pub fn remove_all<const N: usize>(&mut self, names: &FieldNames<N>) {
        for (name, mark) in names.names.iter().zip(names.marks) {
            if self.marks & mark != 0 {
                self.remove(name);
            }
        }
    }

    /// Where the first field of this name is, in any case.
    #[inline]
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        if self.marks & mark(name) == 0 { None } else { self.look_for(name) }
    }

    fn look_for(&self, name: &[u8]) -> Option<usize> {
        self.lines.iter().position(|line| line.is(name, &self.block))
    }

    /// Adds those of `others` whose names are not there, behind the others. A name stands once in them.
    ///
    /// # Errors
    /// [`FieldError::TooLarge`]; some may be added.
    pub fn push_missing(&mut self, others: &Fields) -> Result<(), FieldError> {
        if self.marks & others.marks == 0 && self.has_room(others.len(), others.block.len()) {
            let start = self.block.len() as u32;
            self.lines.extend(others.lines.iter().map(|line| Line { start: start + line.start, ..*line }));
            self.block.extend_from_slice(&others.block);
            self.marks |= others.marks;
            return Ok(());
        }
        let missing = others.parts().filter(|(name, _)| self.find(name).is_none()).collect::<SmallVec<[_; 16]>>();
        missing.into_iter().try_for_each(|(name, value)| self.append(name, value))
    }

    /// The value of the first field of this name, in any case.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let line = self.lines.get(self.find(name.as_ref())?)?;
        Some(line.value(&self.block))
    }

    /// The values of all fields of this name, in any case, in order.
    pub fn values<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        let named = self.lines.iter().filter(|line| line.is(name.as_bytes(), &self.block));
        named.map(|line| line.value(&self.block))
    }

    /// Has `Vary` say that the response depends on this field of the request, where it does not yet (RFC 9110 section 12.5.5):
    /// in one line with what it says already, for caches that look at one.
    ///
    /// # Errors
    /// See [`FieldError`]; the list is unchanged.
    pub fn add_vary(&mut self, name: &str) -> Result<(), FieldError> {
        if !self.contains("vary") {
            return self.push("Vary", name);
        }
        let names = |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(name.as_bytes());
        let is_said = self.values("vary").flat_map(list_members).any(names);
        if is_said {
            return Ok(());
        }
        let mut all: Vec<_> = self.values("vary").collect();
        all.push(name.as_bytes());
        let joined = all.join(&b", "[..]);
        self.set("Vary", joined)
    }

    /// Whether there is a field of this name, in any case.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.find(name.as_ref()).is_some()
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // A name is a token, thus ASCII.
        self.parts().map(|(name, value)| (str::from_utf8(name).unwrap_or_default(), value))
    }

    /// The same as bytes, which spares a scan.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (line.name(&self.block), line.value(&self.block)))
    }

    /// The field lines as they are sent, each with its CRLF; without the empty line that ends a head.
    pub fn encoded(&self) -> &[u8] {
        &self.block
    }

    /// Appends the field lines to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.block);
    }
}

/// The checked name and value of an application's field.
fn check_field<'a>(name: &'a [u8], value: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), FieldError> {
    if !syntax::is_token(name) {
        return Err(FieldError::Name);
    }
    if is_server_owned(name) {
        return Err(FieldError::ServerOwned);
    }
    if !syntax::all(value, syntax::FIELD_VALUE) {
        return Err(FieldError::Value);
    }
    Ok((name, syntax::trim_ows(value)))
}

#[cfg(test)]
mod tests;
