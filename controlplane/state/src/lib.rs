//! The durable state store: segments, superblocks, state root, vote log.
