//! One request and its response, as a handler sees them.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::{Rc, Weak};

use super::pipeline::EditedHeads;
use super::{Body, Notes, Response};
use crate::http::RequestHead;
use crate::limits::REQUEST_ID_BYTES_MAX;
use crate::router::Params;

/// What a handler answers. The parts are fields, so that the body can be read while the response is written.
pub struct Exchange<'x> {
    /// The request's head.
    pub request: Request<'x>,
    /// The request's body.
    pub body: Body<'x>,
    /// The response.
    pub response: Response<'x>,
    pub(crate) context: &'x Context,
    /// What a handler that forwards tells the access log; `None` where a handler answers at once, and has nothing to tell.
    pub(crate) notes: Option<&'x Rc<Notes>>,
    /// Where the request's head is kept when plugins change it; `None` where there are none.
    pub(crate) edited: Option<&'x EditedHeads>,
}

impl<'x> Exchange<'x> {
    /// What the core was given for its handlers, when there is a `T` among it.
    pub fn context<T: 'static>(&self) -> Option<&'x T> {
        self.context.get()
    }
}

/// What one core has for its handlers, found by its type: what the application gave it, and what the server's own
/// handlers keep between requests.
#[derive(Clone, Default)]
pub struct Context(Vec<Rc<dyn Any>>);

impl Context {
    /// Adds a value, behind the others: of two of the same type the first is found.
    pub fn with(mut self, value: Rc<dyn Any>) -> Self {
        self.0.push(value);
        self
    }

    /// The value that is a `T`.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.iter().find_map(|value| value.downcast_ref())
    }

    /// What does not keep it alive: for a part of it that needs the others later.
    pub fn downgrade(&self) -> WeakContext {
        WeakContext(self.0.iter().map(Rc::downgrade).collect())
    }
}

/// A [`Context`] that may be gone.
#[derive(Clone, Default)]
pub struct WeakContext(Vec<Weak<dyn Any>>);

impl WeakContext {
    /// The context, where the core still has all of it.
    pub fn upgrade(&self) -> Option<Context> {
        self.0.iter().map(Weak::upgrade).collect::<Option<Vec<_>>>().map(Context)
    }
}

/// What tells one request from another in logs, error bodies and what is forwarded: a number of the server's own, or what a
/// proxy in front of it called the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestId<'x> {
    number: u64,
    given: Option<&'x str>,
}

impl<'x> RequestId<'x> {
    /// The server's own.
    pub const fn made(number: u64) -> Self {
        Self { number, given: None }
    }

    /// One that was accepted instead of it: at most [`REQUEST_ID_BYTES_MAX`] letters, digits and `-_.:=+/@`. `None` where
    /// `value` is no such text.
    pub fn accepted(number: u64, value: &'x [u8]) -> Option<Self> {
        let is_good = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:=+/@".contains(b);
        let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.iter().all(is_good);
        let given = fits.then(|| str::from_utf8(value).ok()).flatten()?;
        Some(Self { number, given: Some(given) })
    }

    /// The server's own number, also of a request with another id.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The id as text: what was accepted, else the number in 16 hexadecimal digits, written into `digits`.
    pub fn text<'a>(&'a self, digits: &'a mut [u8; 16]) -> &'a str {
        str::from_utf8(self.bytes(digits)).unwrap_or_default()
    }

    /// [`RequestId::text`] as bytes, which spares a scan.
    pub fn bytes<'a>(&'a self, digits: &'a mut [u8; 16]) -> &'a [u8] {
        if let Some(given) = self.given {
            return given.as_bytes();
        }
        let (high, low) = digits.split_at_mut(8);
        high.copy_from_slice(&eight_digits(self.number >> 32));
        low.copy_from_slice(&eight_digits(self.number & 0xffff_ffff));
        digits
    }
}

/// A number below 2^32 in hexadecimal digits, all made at once: one in each byte.
fn eight_digits(number: u64) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let spread = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & (15 * EACH);
    // 1 where a letter stands.
    let letters = (spread + 6 * EACH) >> 4 & EACH;
    (spread + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 16]))
    }
}

/// The head of the request, with what the router found in its path. Reads like a [`RequestHead`].
#[derive(Clone, Copy)]
pub struct Request<'x> {
    pub(crate) head: RequestHead<'x>,
    pub(crate) params: Params<'x>,
    pub(crate) peer: SocketAddr,
    pub(crate) id: RequestId<'x>,
}

impl<'x> Request<'x> {
    /// The parameter that the route's pattern calls `name`: a slice of the normalised path.
    pub fn param(&self, name: &str) -> Option<&'x str> {
        self.params.get(name, self.head.path())
    }

    /// The address at the other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The request's id.
    pub fn id(&self) -> RequestId<'x> {
        self.id
    }
}

impl<'x> Deref for Request<'x> {
    type Target = RequestHead<'x>;

    fn deref(&self) -> &RequestHead<'x> {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_that_was_made_is_its_number_in_hexadecimal_digits(number in any::<u64>()) {
            let id = RequestId { number, given: None };
            let expected = format!("{number:016x}");
            prop_assert_eq!(id.to_string(), &*expected);
            let mut digits = [0; 16];
            prop_assert_eq!(id.bytes(&mut digits), expected.as_bytes());
        }
    }
}
