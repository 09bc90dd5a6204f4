//! The node clock: TSC to NanoMoment, with an error bound.
