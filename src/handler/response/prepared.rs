//! A response that is the same for every request, but for what the connection adds.

use crate::http::Status;
use crate::http::encode::{self, Fields};

/// A response made ahead: head and body as they are sent, but for what changes with each one.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) status: Status,
    /// Status line, fields and `Content-Length`.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) dated: bool,
    pub(super) named: bool,
    /// The fields in `head`.
    pub(super) fields: Fields,
}

impl Prepared {
    /// Prepares a response. Where the status allows no body, `body` is left out.
    pub fn new(status: Status, fields: &Fields, body: Vec<u8>) -> Self {
        let body = if allows_body(status) { body } else { Vec::new() };
        let mut head = Vec::new();
        encode::write_status_line(&mut head, status);
        fields.write_to(&mut head);
        if allows_body(status) {
            encode::write_content_length(&mut head, body.len() as u64);
        }
        Self {
            status,
            head,
            body,
            dated: fields.contains("date"),
            named: fields.contains("server"),
            fields: fields.clone(),
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

pub(super) fn allows_body(status: Status) -> bool {
    !status.is_bodiless()
}
