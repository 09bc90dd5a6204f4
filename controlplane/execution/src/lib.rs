//! Deterministic execution of blocks.
