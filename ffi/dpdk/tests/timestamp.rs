//! Receive times: the dynamic field, and clocks that stamp what a queue receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roko_dpdk::{
    Burst, Eal, EalConfig, ManualClock, MbufPool, PoolConfig, PortConfig, RxClock, StampEvery,
    TimestampField, TscClock, null_port, ring_port,
};

#[test]
fn received_packets_bear_the_clock() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config = PoolConfig { mbufs: 2047, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("a pool");
    let field = TimestampField::register(&eal).expect("room in the dynamic area");
    assert_eq!(TimestampField::register(&eal).expect("the same"), field);
    by_hand(&pool, field);
    stamped(&eal, &pool, field);
    null_device(&eal, &pool, field);
    assert_eq!(pool.available_count(), pool.count());
    drop(pool);
    eal.shutdown().expect("nothing is held");
}

fn by_hand(pool: &MbufPool, field: TimestampField) {
    let mut mbuf = pool.alloc_from(b"frame").expect("a fresh pool");
    assert_eq!(field.get(&mbuf), None);
    field.set(&mut mbuf, u64::MAX - 1);
    assert_eq!(field.get(&mbuf), Some(u64::MAX - 1));
    assert_eq!(mbuf.data(), b"frame");
    field.clear(&mut mbuf);
    assert_eq!(field.get(&mbuf), None);
    field.set(&mut mbuf, 5);
    drop(mbuf);
    let mut all: arrayvec::ArrayVec<_, 2048> = arrayvec::ArrayVec::new();
    assert_eq!(pool.alloc_burst(2047, &mut all), 2047);
    assert!(all.iter().all(|mbuf| field.get(mbuf).is_none()), "a reused mbuf bears no old stamp");
}

/// Says when it is dropped, so that a leaked clock is seen.
struct Watched(ManualClock, Arc<AtomicU64>);

impl RxClock for Watched {
    fn read(&mut self) -> u64 {
        self.0.read()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn stamped(eal: &Eal, pool: &MbufPool, field: TimestampField) {
    let (mut port, mut end) = ring_port(eal, "stamped", 64).expect("a port");
    let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
    let rx = &mut queues.rx[0];
    let (now, dropped) = (Arc::new(AtomicU64::new(1000)), Arc::new(AtomicU64::new(0)));
    let clock = || Box::new(Watched(ManualClock::new(Arc::clone(&now), 10), Arc::clone(&dropped)));
    let mut pass = |rx: &mut roko_dpdk::RxQueue| -> Vec<Option<u64>> {
        let mut burst = Burst::new();
        assert_eq!(pool.alloc_burst(4, &mut burst), 4);
        assert_eq!(end.tx_burst(&mut burst), 4);
        assert_eq!(rx.rx_burst(&mut burst), 4);
        burst.iter().map(|mbuf| field.get(mbuf)).collect()
    };
    assert_eq!(pass(rx), [None; 4]);
    rx.stamp_with(field, StampEvery::Packet, clock()).expect("callbacks are built in");
    assert_eq!(pass(rx), [1000, 1010, 1020, 1030].map(Some));
    assert_eq!(rx.rx_burst(&mut Burst::new()), 0);
    assert_eq!(now.load(Ordering::Relaxed), 1040, "an empty poll reads no clock");
    rx.stamp_with(field, StampEvery::Burst, clock()).expect("it replaces the first");
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert_eq!(pass(rx), [Some(1040); 4]);
    assert_eq!(pass(rx), [Some(1050); 4]);
    rx.unstamp();
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
    assert_eq!(pass(rx), [None; 4]);
    rx.stamp_with(field, StampEvery::Burst, Box::new(TscClock)).expect("as before");
    let (first, second) = (pass(rx), pass(rx));
    assert!(first[0].is_some() && first[0] < second[0], "{first:?} {second:?}");
    rx.stamp_with(field, StampEvery::Burst, clock()).expect("as before");
    drop(queues);
    assert_eq!(dropped.load(Ordering::Relaxed), 3, "a dropped queue takes its clock along");
    port.stop().expect("no handle is left");
}

fn null_device(eal: &Eal, pool: &MbufPool, field: TimestampField) {
    let mut port = null_port(eal, 0).expect("the null driver is installed");
    let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
    assert!(port.timesync().expect("an answer").is_none(), "no virtual device has a clock");
    assert!(port.tick_clock().expect("an answer").is_none(), "of either kind");
    assert_eq!(port.capabilities().expect("capabilities").driver, "net_null");
    let mut burst = Burst::new();
    queues.rx[0].stamp_with(field, StampEvery::Burst, Box::new(TscClock)).expect("any port takes a callback");
    for _ in 0..1000 {
        assert_eq!(queues.rx[0].rx_burst(&mut burst), 32);
        assert!(burst.iter().all(|mbuf| field.get(mbuf).is_some() && mbuf.port() == port.id()));
        assert_eq!(queues.tx[0].tx_burst(&mut burst), 32);
    }
    assert!(port.stats().expect("counters").tx_packets >= 32_000);
}
