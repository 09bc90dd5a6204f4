//! Fuzzes [`fuzz_pcap::pcap`], which the corpus replay of `cargo test` runs as well.
#![no_main]

#[path = "../../tests/fuzz_pcap/mod.rs"]
mod fuzz_pcap;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz_pcap::pcap(bytes);
});
