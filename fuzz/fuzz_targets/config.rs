//! No config makes the loader panic; what it accepts survives being written out and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::config::oracle::check_config(data));
