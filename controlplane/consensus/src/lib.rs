//! Temporal proof of stake: a pure state machine for views, votes and certificates.
