//! The plugins that come with the server: one file each, with its `Options`, their schema and its tests beside it. They use
//! what everybody's plugins use, and nothing else.

mod body_limit;
mod concurrency;
mod cors;
mod headers;
mod ip_filter;
mod mirror_log;
mod rate_limit;
mod request_id;
mod security_headers;
mod time_out;

use super::Registration;

/// All of them.
pub(super) const ALL: &[Registration] = &[
    body_limit::REGISTRATION,
    concurrency::REGISTRATION,
    cors::REGISTRATION,
    headers::REGISTRATION,
    ip_filter::REGISTRATION,
    mirror_log::REGISTRATION,
    rate_limit::REGISTRATION,
    request_id::REGISTRATION,
    security_headers::REGISTRATION,
    time_out::REGISTRATION,
];
