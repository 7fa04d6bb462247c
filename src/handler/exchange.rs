//! One request and its response, as a handler sees them.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;

use super::{Body, Response};
use crate::http::RequestHead;
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
}

/// A number that tells one request from another in logs and error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The number in 16 hexadecimal digits, written into `digits`.
    pub fn hex(self, digits: &mut [u8; 16]) -> &str {
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.0 >> (60 - 4 * index) & 15) as usize];
        }
        str::from_utf8(digits).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The head of the request, with what the router found in its path. Reads like a [`RequestHead`].
#[derive(Clone, Copy)]
pub struct Request<'x> {
    pub(crate) head: RequestHead<'x>,
    pub(crate) params: Params<'x>,
    pub(crate) peer: SocketAddr,
    pub(crate) id: RequestId,
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

    /// The request's number.
    pub fn id(&self) -> RequestId {
        self.id
    }
}

impl<'x> Deref for Request<'x> {
    type Target = RequestHead<'x>;

    fn deref(&self) -> &RequestHead<'x> {
        &self.head
    }
}
