//! What every bench here shares: the host's fingerprint, paired comparisons, and transactions to work on.
//!
//! A bench states its cases once, as closures that run `n` iterations and say how long they took. [`Comparison`]
//! gives them to criterion one by one, and then runs them against each other in turns and prints ratios, because on
//! a shared machine the figures of two minutes cannot be compared and those of two milliseconds can.
//!
//! `README.md` beside this crate says how to read the output and holds measured figures with their machine.
#![forbid(unsafe_code)]

pub mod comparison;
pub mod fingerprint;
pub mod fixtures;
pub mod plane;
pub mod plot;
pub mod testpmd;
pub mod two_threads;

pub use comparison::{Comparison, Report};
