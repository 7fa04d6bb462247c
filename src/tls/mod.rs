//! TLS over the connections of `rt`: rustls turns bytes into bytes, the facade carries them. So far the client's part; what
//! servers need will stand beside it.
//!
//! | file | holds |
//! |---|---|
//! | `roots` | whose certificates are trusted, and where they are read from |
//! | `client` | what a client offers and checks, and the names of servers |
//! | `stream` | one connection: its handshake, and bytes both ways |
//! | `error` | why there is none |

mod client;
mod error;
mod roots;
mod stream;

#[cfg(test)]
pub(crate) mod tests;

pub use client::{Client, Name};
pub use error::TlsError;
pub use roots::Roots;
pub use stream::{Received, Stream};
