//! A safe face over DPDK: EAL, ports, queues, mbufs, timestamps.
