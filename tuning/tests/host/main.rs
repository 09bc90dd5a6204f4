//! Checks, changes, drawings and plans of recorded machines.

mod changes;
mod checks;
mod common;
mod machines;
