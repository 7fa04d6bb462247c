//! The plugins that come with the server, in front of upstreams that do as they are told.

mod cache;
