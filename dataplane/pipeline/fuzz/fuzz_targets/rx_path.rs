//! Fuzzes [`fuzz_entry::rx_path`], which the corpus replay of `cargo test` runs as well.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/fuzz_entry/mod.rs"]
mod fuzz_entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_entry::rx_path(bytes));
