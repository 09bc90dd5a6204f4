//! The node clock: the CPU's time-stamp counter to NanoMoment, with an error bound.
//!
//! [`map`] is pure: samples of a source in, a [`roko_wire::clock::ClockMap`] out. [`port_map`] is its like for the clock of a
//! port, whose stamps it maps to the counter. [`driver`] is the thin thread that takes the samples and publishes the maps;
//! everybody reads time through [`NodeClock`], without a system call. [`phc`] reads clocks of hardware, [`simulated`] is one
//! that goes wrong as a test asks. [`marzullo`] joins the intervals of several sources into one.
//!
//! A source is the host's clock, which is traceable to nothing this node knows, or a PTP hardware clock that something else
//! disciplines. The bound holds relative to it, widened by a configured floor for what the source itself may be off.
#![forbid(unsafe_code)]

pub mod driver;
pub mod map;
pub mod marzullo;
pub mod phc;
pub mod port_map;
pub mod simulated;

pub use driver::{ClockDriver, ClockStatus, NodeClock, Source, Sources, TimeError};
pub use map::{Calibrator, Sample, Settings};
