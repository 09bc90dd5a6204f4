//! The node clock: the CPU's time-stamp counter to NanoMoment, with an error bound.
//!
//! [`map`] is pure: samples of the host's clocks in, a [`roko_wire::clock::ClockMap`] out. [`driver`] is the thin thread that
//! takes the samples and publishes the maps; everybody reads time through [`NodeClock`], without a system call.
//! [`marzullo`] joins the intervals of several sources into one.
//!
//! The only source so far is the host's clock, which is traceable to nothing this node knows. Its bound holds relative
//! to that clock, widened by a configured floor for what the host itself may be off.
#![forbid(unsafe_code)]

pub mod driver;
pub mod map;
pub mod marzullo;
pub mod phc;
pub mod port_map;
pub mod simulated;

pub use driver::{ClockDriver, ClockStatus, NodeClock, TimeError};
pub use map::{Calibrator, Sample, Settings};
