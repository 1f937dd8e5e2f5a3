#![no_main]

#[allow(dead_code)]
#[path = "../harness/control.rs"]
mod control;

libfuzzer_sys::fuzz_target!(|data: &[u8]| control::converse(data));
