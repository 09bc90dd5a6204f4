//! Finds libdpdk, generates the bindings and compiles the wrappers of DPDK's inline functions.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// Real functions of the shared libraries.
const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_version",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_free",
    "rte_pktmbuf_pool_create_by_ops",
    "rte_pktmbuf_free_bulk",
    "rte_mempool_avail_count",
    "rte_mbuf_dyn_rx_timestamp_register",
    "rte_ring_create",
    "rte_ring_free",
    "rte_eth_from_rings",
    "rte_vdev_init",
    "rte_vdev_uninit",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_is_valid_port",
    "rte_eth_find_next_owned_by",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_promiscuous_enable",
    "rte_eth_stats_reset",
    "rte_eth_timesync_enable",
    "rte_eth_timesync_disable",
    "rte_eth_timesync_adjust_time",
    "rte_eth_read_clock",
    "rte_eth_add_rx_callback",
    "rte_eth_remove_rx_callback",
];

/// Inline functions: bindgen writes a C wrapper for each, `cc` compiles them.
const INLINE_FUNCTIONS: &[&str] = &[
    "rte_lcore_id",
    "rte_get_tsc_cycles",
    "rte_pktmbuf_alloc",
    "rte_pktmbuf_alloc_bulk",
    "rte_pktmbuf_free",
    "rte_pktmbuf_chain",
    "rte_ring_sp_enqueue_burst",
    "rte_ring_sc_dequeue_burst",
    "rte_ring_count",
    "rte_eth_rx_burst",
    "rte_eth_tx_burst",
    "dpdk_.*",
];

fn main() {
    println!("cargo:rerun-if-changed=wrapper.h");
    println!("cargo:rerun-if-changed=build.rs");
    let include_args = find_dpdk();
    find_libclang();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let inline_source = out.join("dpdk_inline.c");
    generate(&include_args, &inline_source, &out.join("bindings.rs"));
    compile_inline(&include_args, &inline_source);
}

/// Links libdpdk dynamically and returns the compiler arguments for its headers.
///
/// Only the libraries in use are linked: the drivers are plugins that the EAL loads itself, and
/// two of them (`net_ring`, the virtual bus) have a public interface of their own.
fn find_dpdk() -> Vec<String> {
    let found = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|error| fail(&format!("libdpdk 22.11 or newer was not found: {error}")));
    for path in &found.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in
        ["rte_eal", "rte_mempool", "rte_mbuf", "rte_ring", "rte_ethdev", "rte_bus_vdev", "rte_net_ring"]
    {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    // pkg-config's own parse drops `-include rte_config.h` and `-march`, and both matter: the
    // first holds the build's limits, the second is what the inline functions need at least.
    let raw = std::process::Command::new(env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into()))
        .args(["--cflags", "libdpdk"])
        .output()
        .unwrap_or_else(|error| fail(&format!("pkg-config could not be run: {error}")));
    String::from_utf8_lossy(&raw.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Points clang-sys at Debian's LLVM folder when nobody has said where libclang is.
fn find_libclang() {
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
    if env::var_os("LIBCLANG_PATH").is_some() {
        return;
    }
    let mut folders: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix("llvm-")?.parse().ok()?;
            let folder = entry.path().join("lib");
            holds_libclang(&folder).then_some((version, folder))
        })
        .collect();
    folders.sort();
    if let Some((_, folder)) = folders.pop() {
        // SAFETY: a build script is single-threaded here; nothing reads the environment meanwhile.
        unsafe { env::set_var("LIBCLANG_PATH", folder) };
    }
}

fn holds_libclang(folder: &Path) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libclang.so") || (name.starts_with("libclang-") && name.contains(".so"))
    })
}

fn generate(include_args: &[String], inline_source: &Path, bindings: &Path) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(include_args)
        .wrap_static_fns(true)
        .wrap_static_fns_path(inline_source)
        .prepend_enum_name(false)
        .layout_tests(true)
        .derive_default(true)
        // Written for Doxygen: rustdoc would read them as links and as tests.
        .generate_comments(false)
        .formatter(bindgen::Formatter::None)
        // Their members are reached by the offsets of wrapper.h; bindgen cannot express a
        // structure that is packed and aligned at once.
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool")
        .opaque_type("rte_ring")
        .opaque_type("rte_eth_rxtx_callback")
        .allowlist_var("DPDK_.*");
    for name in FUNCTIONS.iter().chain(INLINE_FUNCTIONS) {
        builder = builder.allowlist_function(name);
    }
    let generated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || builder.generate()));
    match generated {
        Ok(Ok(code)) => code.write_to_file(bindings).expect("OUT_DIR is writable"),
        Ok(Err(error)) => fail(&format!("DPDK's headers could not be read: {error}")),
        Err(_) => fail("libclang could not be loaded (its message is above)"),
    }
}

fn compile_inline(include_args: &[String], source: &Path) {
    let mut build = cc::Build::new();
    build.file(source).include(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).opt_level(3);
    for argument in include_args {
        build.flag(argument);
    }
    build.warnings(false).compile("dpdk_inline");
}

fn fail(reason: &str) -> ! {
    eprintln!(
        "\n{reason}\n\n\
         The DPDK data plane needs its development packages. On Debian or Ubuntu:\n\
         \n    apt-get install --no-install-recommends libdpdk-dev libclang-14-dev pkg-config gcc\n\n\
         (any libclang of version 14 or newer does). To build without DPDK:\n\
         \n    cargo build --no-default-features\n"
    );
    exit(1);
}
