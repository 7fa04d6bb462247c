//! A request head gives one verdict however its bytes are split, and no bytes make the parser panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::http::oracle::check_head_split_invariance(data));
