//! Membership, node keys and session keys.
