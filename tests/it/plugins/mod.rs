//! Plugins, in the real server.

mod auth;
