//! Criterion benches, each with a peer or a floor beside it.
