//! Sans-I/O HTTP/1.1 (RFC 9110, RFC 9112): bytes in, facts out; no clock, no socket, no executor.
//!
//! Strict by default: what two implementations could read differently is refused, answered and the connection closed.
//! No result depends on how the bytes were split across reads; [`oracle`] holds the checks of that promise.
//!
//! Reading path: [`parse`] finds and checks a head, [`target`] and [`framing`] decide what it means, [`head`] is what
//! the rest of the server sees of it, [`chunked`] walks a body, [`encode`] writes the answer. For the proxy, [`response`]
//! reads an upstream's answer, line for line as strictly, and [`trailers`] keeps of a chunked body's what may go on.

pub mod chunked;
pub mod encode;
pub mod error;
pub mod framing;
pub mod head;
mod lines;
mod method;
#[doc(hidden)]
pub mod oracle;
pub mod parse;
pub mod response;
pub mod status;
mod syntax;
pub mod target;
pub mod trailers;

pub use chunked::{ChunkStep, ChunkedDecoder};
pub use encode::{FieldError, FieldLine, FieldNames, Fields};
pub use error::{ChunkError, FramingError, HeadError, RequestError, TargetError, write_problem};
pub use framing::{BodyFraming, RequestKind, ResponseFraming};
pub use head::{Head, RequestHead};
pub use method::{Method, MethodSet};
pub use parse::{EncodedSlash, HeadLimits, Parse, parse_head, parse_head_with};
pub use response::{ResponseError, ResponseHead, ResponseView, parse_response_head};
pub use status::{Status, StatusClass};
#[cfg(feature = "wasm")]
pub(crate) use syntax::is_field_value;
pub(crate) use syntax::is_token as is_field_name;
pub use target::TargetForm;
pub use trailers::Trailers;

/// The protocol version of a message: the two that this server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked bodies, no `Expect`, closes unless asked to stay.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}
