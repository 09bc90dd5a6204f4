//! Lock-free structures: SPSC ring, broadcast ring, seqlock page, temporal mempool ring.
