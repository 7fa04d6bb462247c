//! How a handler ends without having answered.

use std::error::Error;
use std::fmt;

use super::BodyError;
use crate::http::Status;
use crate::http::encode::FieldError;

/// What a handler returns: it has answered, or why not.
pub type Reply = Result<(), Failure>;

/// Why a handler did not answer. If nothing of the response was sent yet, the client gets the status and a problem body
/// (RFC 9457); otherwise the connection is closed, so that a cut response cannot be taken for a whole one.
#[derive(Debug)]
pub enum Failure {
    /// This status, with a sentence for the client. The sentence is fixed: nothing of the request is ever echoed.
    Status(Status, &'static str),
    /// The request body could not be read: the client is to blame, or is gone.
    Body(BodyError),
    /// The client is gone, or does not read its response.
    Gone,
    /// The application is to blame: 500 for the client, the cause for the log.
    Internal(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure of the application's own.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// The status and the sentence for the client; `None` when there is no client to tell.
    pub fn answer(&self) -> Option<(Status, &'static str)> {
        match self {
            Self::Status(status, detail) => Some((*status, detail)),
            Self::Body(error) => error.answer(),
            Self::Gone => None,
            Self::Internal(_) => Some((Status::INTERNAL_SERVER_ERROR, "the server failed to answer this request")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, detail) => write!(f, "{}: {detail}", status.code()),
            Self::Body(error) => error.fmt(f),
            Self::Gone => f.write_str("the client is gone"),
            Self::Internal(cause) => cause.fmt(f),
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        Self::internal(error)
    }
}
