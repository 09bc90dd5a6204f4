//! An mbuf that outlives the EAL's last handle keeps its memory.

use roko_dpdk::{Eal, EalConfig, Error, PoolConfig};

#[test]
fn an_mbuf_held_past_the_end_stays_readable() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config = PoolConfig { mbufs: 255, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("a small pool");
    let mut first = pool.alloc_from(b"still here").expect("a fresh pool");
    let second = pool.alloc_from(b"and here").expect("a fresh pool");
    assert_eq!(eal.shutdown().expect_err("the pool's handle is in use"), Error::EalInUse { handles: 1 });
    drop(pool);
    assert_eq!(first.data(), b"still here");
    first.extend_from_slice(b", writable").expect("room");
    assert_eq!(first.data(), b"still here, writable");
    std::thread::spawn(move || assert_eq!(second.data(), b"and here")).join().expect("no panic there");
    drop(first);
    assert_eq!(Eal::start(&EalConfig::unprivileged(64)).expect_err("once"), Error::EalStartedBefore);
}
