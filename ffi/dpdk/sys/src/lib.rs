//! Raw bindings to DPDK, generated from the headers installed on the machine that builds.
//!
//! Place in the line: under `roko-dpdk`, which is the only crate that calls these symbols.
//!
//! What is bound is an allowlist (`build.rs`), as small as the safe face needs. Inline functions
//! are reached through C wrappers that are compiled beside the bindings. Everything named `dpdk_*`
//! or `DPDK_*` comes from this crate's `wrapper.h`: it flattens macros, bit fields and structures
//! whose layout moves between DPDK versions, so that the text is the same from 22.11 on.
//!
//! Drivers are plugins: the libraries are linked dynamically and the EAL loads the drivers.

#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(unsafe_op_in_unsafe_fn, unreachable_pub)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
