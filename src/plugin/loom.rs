//! What of plugins is in a build with `--cfg loom`: what their cores share without a lock. Stands in for `mod.rs` there.

#![allow(dead_code, reason = "the models take permits, and leave the rest alone")]

mod builtin {
    mod concurrency {
        mod permits;
    }
    mod rate_limit {
        mod gcra;
        mod table;
    }
}
