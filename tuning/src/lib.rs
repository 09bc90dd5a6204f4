//! Core-pinning profiles and host topology.
