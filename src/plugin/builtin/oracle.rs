//! Checks that hold for every input of the plugins that ask who a client is, or keep it to themselves: bodies for property tests
//! and fuzz targets.

use super::basic_auth::read_anything;
use super::jwt::oracle::{check_claims_of_anybody, check_token_of_anybody};
use super::mirror_log::json::check_hiding;

/// Takes `data` for everything that a client or a file could say. Panics when
/// - it is taken for a token that nobody signed;
/// - signed as claims, it is read as something else than `serde_json` reads, or a claim could end a header field;
/// - as the body of a request, it shows a secret, or becomes something else than it was with its secrets hidden;
/// - reading it panics: as a token, a set of keys, a PEM file, the hash of a password, or a name and a password.
pub fn check_credential(data: &[u8]) {
    check_token_of_anybody(data);
    check_claims_of_anybody(data);
    read_anything(data);
    check_hiding(data);
}
