//! A shutdown says how many mbufs are outside their pools.

use roko_dpdk::{Eal, EalConfig, Error, PoolConfig};

#[test]
fn shutdown_counts_what_is_held() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config = PoolConfig { mbufs: 16_000, cache_mbufs: 32, ..PoolConfig::default() };
    let held = {
        let guard = eal.register_thread().expect("a free lcore");
        let pool = eal.pool("frames", &config).expect("64 MiB hold 16,000 mbufs");
        let held = [pool.alloc(), pool.alloc(), pool.alloc()];
        drop(guard);
        held
    };
    assert_eq!(eal.shutdown().expect_err("three are out"), Error::MbufsHeld { mbufs: 3 });
    assert!(held.iter().flatten().all(|mbuf| mbuf.is_empty()));
}
