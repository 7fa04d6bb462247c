//! The plugins that come with the server: one file each, with its `Options`, their schema and its tests beside it. They use
//! what everybody's plugins use, and nothing else.

mod body_limit;
mod headers;
mod request_id;
mod security_headers;
mod time_out;

use super::Registration;

/// All of them.
pub(super) const ALL: &[Registration] = &[
    body_limit::REGISTRATION,
    headers::REGISTRATION,
    request_id::REGISTRATION,
    security_headers::REGISTRATION,
    time_out::REGISTRATION,
];
