//! Changes of a request's head by plugins. A changed head is written out, so that nothing that reads a request has to know of
//! changes. The fields that come were checked, and none that frames a message may be changed; another target is parsed as
//! strictly as one from the wire.

use std::cell::{OnceCell, RefCell};

use crate::http::encode::is_server_owned;
use crate::http::head::list_members;
use crate::http::{
    BodyFraming, FieldError, FieldLine, Fields, Head, HeadError, HeadLimits, Parse, RequestHead, Version,
    is_field_name, parse_head,
};
use crate::limits::EDITED_HEADS_KEPT;

const AUTHORIZATION: &str = "authorization";

/// Changes that are wanted and not made yet.
#[derive(Debug, Default)]
pub struct Edits {
    /// Fields that come, behind the others.
    added: Fields,
    /// Another request target.
    target: Option<String>,
    /// Names of fields that were taken away so far, each once and without a value: what the client sends in them is not to go
    /// on, nor what it sends so behind the body.
    withheld: Fields,
    /// How many of them were taken away by changes that are made; the others still go.
    made: usize,
    /// The body's length is not known ahead any more.
    streams_body: bool,
    /// The request had `Authorization`, which was taken away or replaced.
    took_authorization: bool,
}

impl Edits {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.withheld.len() == self.made && self.added.is_empty() && self.target.is_none() && !self.streams_body
    }

    /// Forgets a request.
    pub fn begin(&mut self) {
        self.withheld.clear();
        self.clear();
        self.took_authorization = false;
    }

    /// Names of fields that were taken away, or replaced, so far.
    pub fn withheld(&self) -> impl Iterator<Item = &str> {
        self.withheld.iter().map(|(name, _)| name)
    }

    /// Whether the request came with `Authorization`, and has it no more, or another one; `head` is it as it was changed last.
    pub fn takes_authorization(&self, head: &RequestHead<'_>) -> bool {
        self.took_authorization || self.is_removed(AUTHORIZATION) && head.header(AUTHORIZATION).is_some()
    }

    /// Forgets what is not made yet.
    pub fn clear(&mut self) {
        self.made = self.withheld.len();
        self.added.clear();
        self.target = None;
        self.streams_body = false;
    }

    /// Whether so many more changes find room, of so many bytes in all with `: ` and CRLF.
    pub fn has_room(&self, lines: usize, bytes: usize) -> bool {
        self.added.has_room(lines, bytes) && self.withheld.has_room(lines, bytes)
    }

    /// Adds a field behind the others.
    ///
    /// # Errors
    /// When it is none, or decides framing, the connection or the host.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
        check_name(name.as_bytes())?;
        self.added.push(name, value)
    }

    /// Replaces all fields of this name by one.
    ///
    /// # Errors
    /// As [`Edits::add`].
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
        check_name(name.as_bytes())?;
        self.added.set(name, value)?;
        self.note_replaced(name.as_bytes())
    }

    /// As [`Edits::add`], of a line that was checked.
    ///
    /// # Errors
    /// When it decides framing, the connection or the host, or there are too many.
    pub fn add_line(&mut self, line: &FieldLine) -> Result<(), FieldError> {
        check_name(line.name())?;
        self.added.push_line(line)
    }

    /// As [`Edits::set`], by a line that was checked.
    ///
    /// # Errors
    /// As [`Edits::add_line`].
    pub fn set_line(&mut self, line: &FieldLine) -> Result<(), FieldError> {
        check_name(line.name())?;
        self.added.set_line(line)?;
        self.note_replaced(line.name())
    }

    /// Takes away all fields of this name.
    ///
    /// # Errors
    /// When they decide framing, the connection or the host.
    pub fn remove(&mut self, name: &str) -> Result<(), FieldError> {
        check_name(name.as_bytes())?;
        if !is_field_name(name.as_bytes()) {
            return Err(FieldError::Name);
        }
        self.added.remove(name);
        self.note_removed(name.as_bytes())
    }

    /// Another request target: path and query. It is parsed as one from a client.
    pub fn set_target(&mut self, target: &str) {
        self.target = Some(target.to_owned());
    }

    /// The body is made another one while it is read, so that its length is not known ahead: the head has no framing fields
    /// any more, and says chunked whatever the client said. The one change of framing that there is; who forwards the body
    /// frames it by [`RequestHead::framing`] alone.
    pub fn stream_body(&mut self) {
        self.streams_body = true;
    }

    /// How the body will be framed.
    pub fn framing(&self, head: &RequestHead<'_>) -> BodyFraming {
        if self.streams_body { BodyFraming::Chunked } else { head.framing() }
    }

    /// Where that fails, ours does not go on beside the client's.
    fn note_replaced(&mut self, name: &[u8]) -> Result<(), FieldError> {
        let noted = self.note_removed(name);
        if noted.is_err() {
            self.added.remove(name);
        }
        noted
    }

    /// Of a name that was checked.
    fn note_removed(&mut self, name: &[u8]) -> Result<(), FieldError> {
        match self.withheld.find(name) {
            Some(at) if at >= self.made => return Ok(()),
            Some(_) => {
                // It has come again since, from a plugin.
                self.withheld.remove(name);
                self.made -= 1;
            }
            None => {}
        }
        self.withheld.push_parsed(name, b"")
    }

    fn is_removed(&self, name: impl AsRef<[u8]>) -> bool {
        self.withheld.find(name.as_ref()).is_some_and(|at| at >= self.made)
    }

    /// The value that the first field of this name will have.
    pub fn value<'a>(&'a self, head: &RequestHead<'a>, name: &str) -> Option<&'a [u8]> {
        let sent = if self.is_removed(name) { None } else { head.header(name) };
        sent.or_else(|| self.added.get(name))
    }

    /// Makes the changes: the head as it is then, kept in `edited`.
    ///
    /// # Errors
    /// When it is no request head any more: too large, or its new target is none. The changes are dropped then.
    pub fn apply<'x>(&mut self, head: &RequestHead<'_>, edited: &'x EditedHeads) -> Result<RequestHead<'x>, HeadError> {
        let streams = self.streams_body;
        self.took_authorization = self.takes_authorization(head);
        let result = edited.keep(|bytes, parsed| {
            if self.target.is_none() && !streams && !self.are_nominated(head) {
                return head.rewrite(|name| self.is_removed(name), &self.added, bytes, parsed);
            }
            self.write(head, bytes);
            match parse_head(bytes, &HeadLimits::MOST, parsed) {
                Ok(Parse::Complete) => {
                    // Not by a field, which HTTP/1.0 has not: and a body that was changed before stays so.
                    parsed.framing = if streams { BodyFraming::Chunked } else { head.framing() };
                    Ok(())
                }
                Ok(Parse::Partial) => Err(HeadError::HeadTooLarge),
                Err(error) => Err(error),
            }
        });
        self.clear();
        result
    }

    /// Whether the client names fields in `Connection` that come from a plugin.
    fn are_nominated(&self, head: &RequestHead<'_>) -> bool {
        let is_ours = |option: &[u8]| self.added.contains(option);
        !self.added.is_empty() && head.connection_options().any(is_ours)
    }

    /// `Connection`, without the names of fields that come from a plugin: by naming them a client would have them taken for
    /// its own, which end at the gateway, and whoever is asked would not see them.
    fn write_connection(&self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let mut kept = list_members(value).filter(|option| !self.added.contains(option));
        let Some(first) = kept.next() else { return };
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(first);
        for option in kept {
            out.extend_from_slice(b", ");
            out.extend_from_slice(option);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(head.method_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_deref().unwrap_or(head.target()).as_bytes());
        out.extend_from_slice(if head.version() == Version::Http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        for (name, value) in head.headers().filter(|(name, _)| !self.is_removed(name)) {
            if self.streams_body && is_framing(name) {
                continue;
            }
            if name.eq_ignore_ascii_case("connection") {
                self.write_connection(name, value, out);
                continue;
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        self.added.write_to(out);
        out.extend_from_slice(b"\r\n");
    }
}

fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding"].iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

/// A GET for the target of a head, with all its fields.
pub(super) fn write_get(head: &RequestHead<'_>) -> Vec<u8> {
    let mut out = b"GET ".to_vec();
    out.extend_from_slice(head.target().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // HTTP/1.0 may come without it.
    if head.header("host").is_none() {
        out.extend_from_slice(b"Host:\r\n");
    }
    for (name, value) in head.headers() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// What a plugin may not touch: the framing and the connection are the server's, and by the host a request was routed.
fn check_name(name: &[u8]) -> Result<(), FieldError> {
    let is_fixed = is_server_owned(name)
        || ["host", "expect", "te"].iter().any(|fixed| name.eq_ignore_ascii_case(fixed.as_bytes()));
    if is_fixed { Err(FieldError::ServerOwned) } else { Ok(()) }
}

/// Where changed heads live while an exchange may look at them. Storage is used again for the next request.
#[derive(Default)]
pub struct EditedHeads {
    first: OnceCell<Box<Edited>>,
    #[allow(clippy::vec_box, reason = "a head goes from here to the list and back; only its pointer moves")]
    spare: RefCell<Vec<Box<Edited>>>,
}

#[derive(Default)]
struct Edited {
    bytes: Vec<u8>,
    head: Head,
    next: OnceCell<Box<Edited>>,
}

impl EditedHeads {
    /// Forgets what is kept, for another request.
    pub fn reset(&mut self) {
        let mut next = self.first.take();
        while let Some(mut edited) = next {
            next = edited.next.take();
            let spare = self.spare.get_mut();
            if spare.len() < EDITED_HEADS_KEPT {
                edited.bytes.clear();
                spare.push(edited);
            }
        }
    }

    fn keep(
        &self,
        make: impl FnOnce(&mut Vec<u8>, &mut Head) -> Result<(), HeadError>,
    ) -> Result<RequestHead<'_>, HeadError> {
        let mut edited = self.spare.borrow_mut().pop().unwrap_or_default();
        let Edited { bytes, head, .. } = &mut *edited;
        make(bytes, head)?;
        let mut end = &self.first;
        while let Some(taken) = end.get() {
            end = &taken.next;
        }
        let kept = end.get_or_init(|| edited);
        Ok(RequestHead::new(&kept.bytes, &kept.head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn parse(text: &str) -> Head {
        let mut head = Head::new();
        assert_eq!(parse_head(text.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete));
        head
    }

    const REQUEST: &str = "POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 5\r\n\r\n";

    const CREDENTIAL: &str = "GET / HTTP/1.1\r\nHost: x\r\nauthorization: Basic YTpi\r\n\r\n";

    #[test]
    fn a_changed_head_reads_like_one_from_the_wire() {
        let (edited, parsed) = (EditedHeads::default(), parse(REQUEST));
        let head = parsed.view(REQUEST.as_bytes());
        let mut edits = Edits::default();
        edits.set("X-ONE", "3").unwrap();
        edits.add("X-Two", "a").unwrap();
        edits.remove("absent").unwrap();
        assert_eq!(edits.value(&head, "x-one"), Some(&b"3"[..]));
        let changed = edits.apply(&head, &edited).unwrap();
        assert!(edits.is_empty());
        assert_eq!(changed.header_values("x-one").collect::<Vec<_>>(), [b"3"]);
        assert_eq!(changed.header("x-two"), Some(&b"a"[..]));
        assert_eq!((changed.path(), changed.query(), changed.framing()), (head.path(), head.query(), head.framing()));
        edits.remove("x-two").unwrap();
        let again = edits.apply(&changed, &edited).unwrap();
        assert_eq!((again.header("x-two"), changed.header("x-two")), (None, Some(&b"a"[..])));
        assert_eq!(edits.withheld().collect::<Vec<_>>(), ["X-ONE", "absent", "x-two"]);
        edits.begin();
        assert_eq!(edits.withheld().count(), 0);
    }

    /// What whoever reads a request sees of its head.
    fn seen<'a>(head: &RequestHead<'a>) -> impl PartialEq + std::fmt::Debug + use<'a> {
        let fields: Vec<_> = head.headers().collect();
        let target = (head.method_str(), head.target(), head.form(), head.path(), head.raw_path(), head.query());
        let host = (head.authority(), head.host(), head.port());
        let Head { framing, persistent, expect_continue, upgrade, version, .. } = head.head();
        (fields, target, host, (*framing, *persistent, *expect_continue, *upgrade, *version))
    }

    proptest! {
        #[test]
        fn a_head_whose_fields_are_changed_reads_as_if_it_had_been_parsed(
            line in prop_oneof![
                Just("GET /x HTTP/1.0"),
                Just("PURGE /a/../%41?b=c HTTP/1.1"),
                Just("POST //b? HTTP/1.1"),
                Just("GET http://HOST HTTP/1.1"),
                Just("GET http://HOST/%41?y HTTP/1.1"),
                Just("OPTIONS * HTTP/1.1"),
                Just("CONNECT HOST HTTP/1.1"),
            ],
            before in vec(("[xXyY]-[ab]{1,2}|[cC]ookie", "[ -~]{0,9}"), 0..4),
            host in "b:8080|\\[::1\\]:1",
            behind in vec(prop_oneof![
                ("[xy]-[ab]{1,2}", "[ -~]{0,9}"),
                Just(("Content-Length".to_owned(), "5".to_owned())),
                Just(("Expect".to_owned(), "100-continue".to_owned())),
                Just(("Connection".to_owned(), "close, x-a".to_owned())),
            ], 0..4),
            edits in vec((0..3_u8, "[xX]-[ab]|y-a|cookie", "[!-~]{0,6}"), 0..5),
        ) {
            let lines = |fields: &[(String, String)]| {
                fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect::<String>()
            };
            let line = line.replace("HOST", &host);
            let text = format!("{line}\r\n{}Host: {host}\r\n{}\r\n", lines(&before), lines(&behind));
            let mut parsed = Head::new();
            prop_assume!(parse_head(text.as_bytes(), &HeadLimits::MOST, &mut parsed) == Ok(Parse::Complete));
            let head = parsed.view(text.as_bytes());
            let mut wanted = Edits::default();
            for (kind, name, value) in &edits {
                match kind {
                    0 => wanted.add(name, value).unwrap(),
                    1 => wanted.set(name, value).unwrap(),
                    _ => wanted.remove(name).unwrap(),
                }
            }
            let (mut bytes, mut oracle) = (Vec::new(), Head::new());
            wanted.write(&head, &mut bytes);
            prop_assert_eq!(parse_head(&bytes, &HeadLimits::MOST, &mut oracle), Ok(Parse::Complete));
            let edited = EditedHeads::default();
            let changed = wanted.apply(&head, &edited).unwrap();
            prop_assert_eq!(seen(&changed), seen(&oracle.view(&bytes)));
            // And once more, of what was changed: every place in it is right.
            wanted.remove("absent").unwrap();
            let again = wanted.apply(&changed, &edited).unwrap();
            prop_assert_eq!(seen(&again), seen(&changed));
        }
    }

    #[test]
    fn a_head_may_not_become_larger_than_any_may_be() {
        let (edited, parsed) = (EditedHeads::default(), parse(REQUEST));
        let head = parsed.view(REQUEST.as_bytes());
        let mut edits = Edits::default();
        for number in 0..HEADERS_MAX {
            edits.add(&format!("x-{number}"), "").unwrap();
        }
        assert_eq!(edits.apply(&head, &edited).unwrap_err(), HeadError::TooManyFields);
        edits.add("x", "y".repeat(HEAD_BYTES_MAX - REQUEST.len())).unwrap();
        assert_eq!(edits.apply(&head, &edited).unwrap_err(), HeadError::HeadTooLarge);
        assert_eq!(seen(&edits.apply(&head, &edited).unwrap()), seen(&head), "what failed is forgotten");
    }

    #[test]
    fn a_client_does_not_have_the_fields_of_plugins_dropped_by_naming_them_in_connection() {
        let request = "GET / HTTP/1.1\r\nHost: x\r\nX-Own: 1\r\nConnection: close, X-USER\r\nConnection: x-own , x-role\r\n\
                       Connection: x-user\r\n\r\n";
        let (edited, parsed) = (EditedHeads::default(), parse(request));
        let head = parsed.view(request.as_bytes());
        let mut edits = Edits::default();
        edits.set("X-User", "ann").unwrap();
        edits.add("X-Role", "admin").unwrap();
        let changed = edits.apply(&head, &edited).unwrap();
        assert_eq!(changed.connection_options().collect::<Vec<_>>(), [&b"close"[..], b"x-own"]);
        assert_eq!((changed.header("x-user"), changed.header("x-role")), (Some(&b"ann"[..]), Some(&b"admin"[..])));
    }

    #[test]
    fn a_credential_that_was_taken_away_is_known_of_until_the_request_is_over() {
        let (edited, with, without) = (EditedHeads::default(), parse(CREDENTIAL), parse(REQUEST));
        let mut edits = Edits::default();
        edits.remove("Authorization").unwrap();
        let anonymous = without.view(REQUEST.as_bytes());
        assert!(!edits.takes_authorization(&anonymous));
        edits.apply(&anonymous, &edited).unwrap();
        assert!(!edits.takes_authorization(&anonymous));
        edits.begin();
        edits.remove("Authorization").unwrap();
        let head = with.view(CREDENTIAL.as_bytes());
        assert!(edits.takes_authorization(&head));
        let changed = edits.apply(&head, &edited).unwrap();
        edits.add("X-User", "ann").unwrap();
        edits.apply(&changed, &edited).unwrap();
        assert!(edits.takes_authorization(&changed));
        edits.begin();
        assert!(!edits.takes_authorization(&changed));
    }

    #[test]
    fn framing_and_host_are_not_a_plugins_to_change() {
        let mut edits = Edits::default();
        for name in ["Content-Length", "transfer-encoding", "Connection", "HOST", "Expect", "upgrade"] {
            assert_eq!(edits.set(name, "1"), Err(FieldError::ServerOwned), "{name}");
            assert_eq!(edits.remove(name), Err(FieldError::ServerOwned), "{name}");
        }
        assert_eq!(edits.add("a b", "1"), Err(FieldError::Name));
        assert_eq!(edits.set("a", "1\r\nb: 2"), Err(FieldError::Value));
        assert!(edits.is_empty());
    }

    #[test]
    fn a_body_that_is_changed_stays_of_unknown_length_whatever_is_edited_after_that() {
        for request in [REQUEST.to_owned(), REQUEST.replace("HTTP/1.1", "HTTP/1.0")] {
            let (edited, parsed) = (EditedHeads::default(), parse(&request));
            let head = parsed.view(request.as_bytes());
            let mut edits = Edits::default();
            edits.stream_body();
            assert!(!edits.is_empty());
            assert_eq!((edits.framing(&head), head.framing()), (BodyFraming::Chunked, BodyFraming::Length(5)));
            let changed = edits.apply(&head, &edited).unwrap();
            edits.set("X-Two", "2").unwrap();
            for head in [changed, edits.apply(&changed, &edited).unwrap()] {
                assert_eq!((head.framing(), edits.framing(&head)), (BodyFraming::Chunked, BodyFraming::Chunked));
                assert_eq!((head.header("content-length"), head.header("transfer-encoding")), (None, None));
            }
        }
    }

    #[test]
    fn a_target_is_held_to_the_rules_of_targets() {
        let (edited, parsed) = (EditedHeads::default(), parse(REQUEST));
        let head = parsed.view(REQUEST.as_bytes());
        let mut edits = Edits::default();
        edits.set_target("/b/../c?x");
        assert_eq!(edits.apply(&head, &edited).unwrap().path(), "/c");
        for bad in ["/a b", "/a HTTP/1.1\r\nX: y\r\n", "", "/%00"] {
            edits.set_target(bad);
            assert!(edits.apply(&head, &edited).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn storage_is_used_again() {
        let (mut edited, parsed) = (EditedHeads::default(), parse(REQUEST));
        let head = parsed.view(REQUEST.as_bytes());
        let mut edits = Edits::default();
        for _ in 0..3 {
            for at in 0..EDITED_HEADS_KEPT + 1 {
                edits.set("x", at.to_string()).unwrap();
                edits.apply(&head, &edited).unwrap();
            }
            edited.reset();
            assert_eq!(edited.spare.borrow().len(), EDITED_HEADS_KEPT);
        }
    }
}
