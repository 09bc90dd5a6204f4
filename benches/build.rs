//! Builds the poll loop in C, which the `poll_loop` bench runs against the one in Rust.
//!
//! It is a program of its own: this crate has no `unsafe`, and two processes share no EAL.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=c/poll_loop.c");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_DPDK").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("poll_loop_c");
    let found = pkg_config::Config::new().atleast_version("22.11").cargo_metadata(false).probe("libdpdk");
    let libraries = found.unwrap_or_else(|error| panic!("libdpdk 22.11 or newer was not found: {error}"));
    // pkg-config's parse drops `-include rte_config.h`, which holds the limits of DPDK's own build.
    let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().expect("pkg-config runs");
    let mut compiler = cc::Build::new().opt_level(3).get_compiler().to_command();
    compiler.args(String::from_utf8_lossy(&flags.stdout).split_whitespace());
    compiler.args(["-march=native", "-Wall", "-Wextra", "-Wno-unused-parameter"]);
    // rte_eth_from_rings and the null device's settings are stable in use but marked experimental.
    compiler.args(["-DALLOW_EXPERIMENTAL_API", "c/poll_loop.c", "-o"]).arg(&out);
    compiler.args(libraries.link_paths.iter().map(|path| format!("-L{}", path.display())));
    compiler.args([
        "-lrte_eal",
        "-lrte_mempool",
        "-lrte_mbuf",
        "-lrte_ring",
        "-lrte_ethdev",
        "-lrte_bus_vdev",
    ]);
    compiler.arg("-lrte_net_ring");
    let status = compiler.status().expect("the C compiler runs");
    assert!(status.success(), "c/poll_loop.c does not compile: {status}");
    println!("cargo:rustc-env=ROKO_POLL_LOOP_C={}", out.display());
}
