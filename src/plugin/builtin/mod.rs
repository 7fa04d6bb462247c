//! The plugins that come with the server: one file each, with its `Options`, their schema and its tests beside it. They use
//! what everybody's plugins use, and nothing else.

mod api_key;
mod auth_file;
mod basic_auth;
mod body_limit;
mod credential;
mod forward_auth;
mod codec;
mod compress;
mod decompress;
mod cache;
mod headers;
mod jwt;
pub mod oracle;
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
    forward_auth::REGISTRATION,
    compress::REGISTRATION,
    decompress::REGISTRATION,
    cache::REGISTRATION,
    headers::REGISTRATION,
    jwt::REGISTRATION,
    request_id::REGISTRATION,
    security_headers::REGISTRATION,
    time_out::REGISTRATION,
];
