//! The one integration binary: each module is one area, named for what it shows.

mod compile_fail;
mod sim;
mod tidy;
