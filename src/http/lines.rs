//! The field lines of a head, read alike in requests and responses: what one direction refuses the other refuses too.

use super::error::LineError;
use super::head::{Field, Span, list_members};
use super::syntax;

/// The field lines of a parsed head.
#[derive(Clone, Copy)]
pub(super) struct FieldLines<'a> {
    /// The head.
    pub(super) bytes: &'a [u8],
    pub(super) fields: &'a [Field],
}

impl<'a> FieldLines<'a> {
    /// Names as they were sent, and values, in order.
    pub(super) fn all(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter().map(move |field| (field.name.text(self.bytes), field.value.of(self.bytes)))
    }

    /// The values of the fields of this name, in any case, in order.
    pub(super) fn values<'n>(self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let is_named = move |field: &&Field| {
            field.name.len() == name.len() && field.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes())
        };
        self.fields.iter().filter(is_named).map(move |field| field.value.of(self.bytes))
    }

    /// The members of all `Connection` fields.
    pub(super) fn connection_options(self) -> impl Iterator<Item = &'a [u8]> {
        self.values("connection").flat_map(list_members)
    }
}

/// Stores the fields' offsets in `fields`, and hands name, value and the value's place to `note`. The length of the head,
/// once the empty line at its end is there.
///
/// Each direction has its own copy with its own `note` in it: requests are read on the hottest path there is.
#[inline(always)]
pub(super) fn scan_fields(
    window: &[u8],
    mut at: usize,
    most: usize,
    fields: &mut Vec<Field>,
    mut note: impl FnMut(&[u8], &[u8], Span),
) -> Result<Option<usize>, LineError> {
    loop {
        let name_len = syntax::token_len(&window[at..]);
        let Some(&stop) = window.get(at + name_len) else {
            // A line has begun, and it is one too many whatever it will say.
            return if name_len != 0 && fields.len() == most { Err(LineError::TooManyFields) } else { Ok(None) };
        };
        if name_len == 0 {
            return match stop {
                b'\r' => line_end(window, at),
                _ => Err(explain_name_start(stop)),
            };
        }
        if fields.len() == most {
            return Err(LineError::TooManyFields);
        }
        match stop {
            b':' => {}
            b' ' | b'\t' => return Err(LineError::SpaceBeforeColon),
            _ => return Err(LineError::FieldName),
        }
        let name = Span::new(at, name_len);
        let Some(value) = scan_value(window, name.end() + 1)? else { return Ok(None) };
        let Some(next) = line_end(window, value.end())? else { return Ok(None) };
        at = next;
        let text = syntax::trim_ows(value.of(window));
        let value = Span::new(value.start(), text.len());
        fields.push(Field { name, value });
        note(name.of(window), text, value);
    }
}

/// What is wrong with a byte that starts no field line.
#[cold]
fn explain_name_start(b: u8) -> LineError {
    match b {
        b'\n' => LineError::BareLf,
        b':' => LineError::FieldNameEmpty,
        b' ' | b'\t' => LineError::ObsFold,
        _ => LineError::FieldName,
    }
}

/// A field's value, or a reason phrase, with the white space behind it, once the byte that ends it is there.
#[inline(always)]
pub(super) fn scan_value(window: &[u8], mut at: usize) -> Result<Option<Span>, LineError> {
    while let Some(b' ' | b'\t') = window.get(at) {
        at += 1;
    }
    let mut end = at;
    loop {
        let Some(stop) = syntax::find_control(&window[end..]) else { return Ok(None) };
        end += stop;
        match window[end] {
            b'\t' => end += 1,
            b'\r' | b'\n' => return Ok(Some(Span::new(at, end - at))),
            _ => return Err(LineError::FieldValue),
        }
    }
}

/// The offset behind the CRLF that is to be at `at`, once it is there. LF alone, which RFC 9112 section 2.2 permits one to
/// take, is what others take for a byte of the value.
#[inline]
pub(super) fn line_end(window: &[u8], at: usize) -> Result<Option<usize>, LineError> {
    match window[at..] {
        [b'\r', b'\n', ..] => Ok(Some(at + 2)),
        [b'\r'] => Ok(None),
        [b'\r', ..] => Err(LineError::BareCr),
        _ => Err(LineError::BareLf),
    }
}

/// A set of what concerns persistence and upgrades.
#[derive(Clone, Copy, Default)]
pub(super) struct ConnectionFact(u8);

impl ConnectionFact {
    /// `Connection: close`.
    const CLOSE: u8 = 1;
    /// `Connection: keep-alive`.
    const KEEP_ALIVE: u8 = 1 << 1;
    /// `Connection: upgrade`.
    const UPGRADE: u8 = 1 << 2;
    /// The field `Upgrade` itself.
    const UPGRADE_FIELD: u8 = 1 << 3;

    fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether the peer lets the connection stay (RFC 9112 section 9.3): `close` wins; otherwise 1.1 stays, and 1.0 if it
    /// asks to.
    #[inline]
    pub(super) fn is_persistent(self, version: super::Version) -> bool {
        !self.has(Self::CLOSE) && (version == super::Version::Http11 || self.has(Self::KEEP_ALIVE))
    }

    /// Whether `Upgrade` is there and `Connection` names it (RFC 9110 section 7.8).
    #[inline]
    pub(super) fn is_upgrade(self) -> bool {
        self.has(Self::UPGRADE | Self::UPGRADE_FIELD)
    }

    /// Adds the field `Upgrade`.
    #[inline]
    pub(super) fn note_upgrade_field(&mut self) {
        self.0 |= Self::UPGRADE_FIELD;
    }

    /// Adds a `Connection` field. Options are case-insensitive, in a list, in any number of fields (RFC 9110
    /// section 7.6.1).
    #[inline]
    pub(super) fn note_options(&mut self, value: &[u8]) {
        for option in list_members(value) {
            self.0 |= match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => Self::CLOSE,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => Self::KEEP_ALIVE,
                7 if option.eq_ignore_ascii_case(b"upgrade") => Self::UPGRADE,
                _ => 0,
            };
        }
    }
}
