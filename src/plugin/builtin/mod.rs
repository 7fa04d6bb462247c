//! The plugins that come with the server: one file each, with its `Options`, their schema and its tests beside it. They use
//! what everybody's plugins use, and nothing else.

mod api_key;
mod auth_file;
mod basic_auth;
mod body_limit;
mod codec;
mod compress;
mod concurrency;
mod cors;
mod credential;
mod decompress;
mod cache;
mod forward_auth;
mod headers;
mod ip_filter;
mod jwt;
mod media_types;
mod mirror_log;
pub mod oracle;
mod rate_limit;
mod recent;
mod request_id;
mod security_headers;
mod time_out;

use super::Registration;

/// All of them.
pub(super) const ALL: &[Registration] = &[
    api_key::REGISTRATION,
    basic_auth::REGISTRATION,
    body_limit::REGISTRATION,
    compress::REGISTRATION,
    concurrency::REGISTRATION,
    cors::REGISTRATION,
    decompress::REGISTRATION,
    cache::REGISTRATION,
    forward_auth::REGISTRATION,
    headers::REGISTRATION,
    ip_filter::REGISTRATION,
    jwt::REGISTRATION,
    mirror_log::REGISTRATION,
    rate_limit::REGISTRATION,
    request_id::REGISTRATION,
    security_headers::REGISTRATION,
    time_out::REGISTRATION,
];
