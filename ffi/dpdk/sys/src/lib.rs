//! Raw bindings to DPDK, made by bindgen from the installed headers.
