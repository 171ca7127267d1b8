//! See `bodies::log`.

#![no_main]
#![allow(dead_code)] // The bodies of the other targets.

#[path = "../../replay/bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::log::run(data));
