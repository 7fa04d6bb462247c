//! Changes of a request's head by plugins. A changed head is written out and parsed again, strictly as one from the wire:
//! so nothing that reads a request has to know of changes, and no change can break the message's framing.

use std::cell::{OnceCell, RefCell};

use crate::http::encode::is_server_owned;
use crate::http::{FieldError, Fields, Head, HeadError, HeadLimits, Parse, RequestHead, Version, parse_head};
use crate::limits::{EDITED_HEADS_KEPT, HEAD_BYTES_MAX, HEADERS_MAX};

/// Bounds on a head that was changed: what parsing can take, for the client was held to its own before.
const LIMITS: HeadLimits = HeadLimits { head: HEAD_BYTES_MAX, headers: HEADERS_MAX, target: HEAD_BYTES_MAX };

/// Changes that are wanted and not made yet.
#[derive(Debug, Default)]
pub struct Edits {
    /// Names of fields that go, without values.
    removed: Fields,
    /// Fields that come, behind the others.
    added: Fields,
    /// Another request target.
    target: Option<String>,
}

impl Edits {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.target.is_none()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.removed.clear();
        self.added.clear();
        self.target = None;
    }

    /// Adds a field behind the others.
    ///
    /// # Errors
    /// When it is none, or decides framing, the connection or the host.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
        check_name(name)?;
        self.added.push(name, value)
    }

    /// Replaces all fields of this name by one.
    ///
    /// # Errors
    /// As [`Edits::add`].
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
        check_name(name)?;
        self.added.set(name, value)?;
        self.note_removed(name)
    }

    /// Takes away all fields of this name.
    ///
    /// # Errors
    /// When they decide framing, the connection or the host.
    pub fn remove(&mut self, name: &str) -> Result<(), FieldError> {
        check_name(name)?;
        self.added.remove(name);
        self.note_removed(name)
    }

    /// Another request target: path and query. It is parsed as one from a client.
    pub fn set_target(&mut self, target: &str) {
        self.target = Some(target.to_owned());
    }

    fn note_removed(&mut self, name: &str) -> Result<(), FieldError> {
        if !self.is_removed(name) {
            self.removed.push(name, "")?;
        }
        Ok(())
    }

    fn is_removed(&self, name: &str) -> bool {
        self.removed.contains(name)
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
        let result = edited.keep(|bytes, parsed| {
            self.write(head, bytes);
            match parse_head(bytes, &LIMITS, parsed) {
                Ok(Parse::Complete) => Ok(()),
                Ok(Parse::Partial) => Err(HeadError::HeadTooLarge),
                Err(error) => Err(error),
            }
        });
        self.clear();
        result
    }

    fn write(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(head.method_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_deref().unwrap_or(head.target()).as_bytes());
        out.extend_from_slice(if head.version() == Version::Http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        for (name, value) in head.headers().filter(|(name, _)| !self.is_removed(name)) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        self.added.write_to(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a plugin may not touch: the framing and the connection are the server's, and by the host a request was routed.
fn check_name(name: &str) -> Result<(), FieldError> {
    let is_fixed = is_server_owned(name.as_bytes())
        || ["host", "expect", "te"].iter().any(|fixed| name.eq_ignore_ascii_case(fixed));
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

    fn parse(text: &str) -> Head {
        let mut head = Head::new();
        assert_eq!(parse_head(text.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete));
        head
    }

    const REQUEST: &str = "POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 5\r\n\r\n";

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
