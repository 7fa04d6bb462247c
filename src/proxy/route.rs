//! The handler of a route that forwards. Upstreams are not served yet: it answers 502.

use std::fmt;

use super::{PathRewrite, ProxySpec};
use crate::handler::template::Template;
use crate::handler::{Answer, Exchange, Handler, Pace, UnknownParam};
use crate::http::Status;

/// Why a route cannot forward: the operator is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyError {
    /// The rewritten path names a parameter that the route does not have.
    RewriteParam(UnknownParam),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RewriteParam(error) => write!(f, "rewrite: {error}"),
        }
    }
}

impl std::error::Error for ProxyError {}

/// Forwards every request.
#[derive(Debug)]
pub struct Proxy {
    /// What it does.
    pub spec: ProxySpec,
}

impl Proxy {
    /// Builds it; `params` are the names of the route's parameters.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn new(spec: ProxySpec, params: &[&str]) -> Result<Self, ProxyError> {
        if let PathRewrite::Template(text) = &spec.path {
            Template::text(text, params).map_err(ProxyError::RewriteParam)?;
        }
        Ok(Self { spec })
    }
}

impl Handler for Proxy {
    fn pace(&self) -> Pace {
        Pace::Suspending
    }

    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        Answer::Now(exchange.response.problem(Status::BAD_GATEWAY, "upstreams are not served yet"))
    }
}
