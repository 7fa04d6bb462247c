//! The one integration binary: each module is one area, named for what it shows.

mod cli;
mod compile_fail;
mod config;
mod corpus;
mod tidy;
