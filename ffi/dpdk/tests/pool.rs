//! Pools: what is taken comes back, from registered and other threads, one by one and in bursts.

use arrayvec::ArrayVec;
use roko_dpdk::{Burst, Eal, EalConfig, Error, Mbuf, PoolConfig};

const MBUFS: u32 = 4095;
const ROUND_TRIPS: usize = 1_000_000;

#[test]
fn a_pool_is_full_again_after_a_million_mbufs() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config = PoolConfig { mbufs: MBUFS, cache_mbufs: 128, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("4,095 mbufs fit into 64 MiB");
    assert_eq!((pool.name(), pool.count(), pool.data_room_bytes()), ("frames", 4095, 2176));
    assert_eq!(pool.available_count(), pool.count());

    let guard = eal.register_thread().expect("a free lcore");
    assert_eq!(
        eal.register_thread().expect_err("registered already"),
        Error::ThreadRegistered { lcore: guard.lcore() }
    );
    let mut burst = Burst::new();
    for round in 0..ROUND_TRIPS / 64 {
        assert_eq!(pool.alloc_burst(32, &mut burst), 32);
        if round % 2 == 0 {
            Mbuf::free_burst(&mut burst)
        } else {
            burst.clear()
        }
        for _ in 0..32 {
            burst.push(pool.alloc().expect("the pool is large enough"));
        }
        burst.clear();
    }
    assert_eq!(pool.available_count(), pool.count());

    from_many_threads(&eal);
    drop(guard);
    packed(&eal);
    exhaustion(&eal);
    refusals(&eal);
    assert_eq!(pool.available_count(), pool.count());
    let held = pool.clone();
    assert_eq!(held.available_count(), 4095);
    drop(pool);
    drop(held);
    eal.shutdown().expect("nothing is held");
    assert_eq!(
        Eal::start(&EalConfig::unprivileged(64)).expect_err("once a process"),
        Error::EalStartedBefore
    );
}

/// Mbufs of a packed pool lie one behind the other without a gap, across pages.
fn packed(eal: &Eal) {
    let config = PoolConfig { mbufs: 1023, cache_mbufs: 0, packed: true, ..PoolConfig::default() };
    let pool = eal.pool("packed", &config).expect("1,023 mbufs fit beside");
    let all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 1023);
    let mut places: Vec<usize> = all.iter().map(|mbuf| mbuf.data().as_ptr().addr()).collect();
    places.sort_unstable();
    let step = places[1] - places[0];
    assert!(step < 4096 && places.windows(2).all(|two| two[1] - two[0] == step), "steps of {step} bytes");
    drop(all);
    assert_eq!(pool.available_count(), pool.count());
}

/// Two registered threads and two others share the pool; mbufs also cross from thread to thread.
fn from_many_threads(eal: &Eal) {
    let pool = eal.pool_by_name("frames").expect("made above");
    std::thread::scope(|scope| {
        for worker in 0..4_u8 {
            let pool = pool.clone();
            scope.spawn(move || {
                let _guard = (worker % 2 == 0).then(|| eal.register_thread().expect("a free lcore"));
                let (send, receive) = std::sync::mpsc::channel::<Mbuf>();
                scope.spawn(move || receive.into_iter().for_each(|mbuf| assert_eq!(mbuf.data(), [7; 60])));
                for _ in 0..20_000 {
                    // The receiver may lag, and then the pool runs dry for a while.
                    if let Some(mbuf) = pool.alloc_from(&[7; 60]) {
                        send.send(mbuf).expect("the receiver outlives the sender");
                    }
                }
            });
        }
    });
    assert_eq!(pool.available_count(), pool.count());
}

fn exhaustion(eal: &Eal) {
    let config = PoolConfig { mbufs: 63, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("small", &config).expect("a small pool");
    let mut held: ArrayVec<Mbuf, 128> = ArrayVec::new();
    assert_eq!(pool.alloc_burst(64, &mut held), 0, "all or nothing");
    assert_eq!(pool.alloc_burst(63, &mut held), 63);
    assert!(pool.alloc().is_none());
    assert!(pool.alloc_from(b"x").is_none());
    assert_eq!(pool.available_count(), 0);
    held.truncate(61);
    assert_eq!(pool.available_count(), 2);
    let mut full: ArrayVec<Mbuf, 1> = ArrayVec::new();
    assert_eq!(pool.alloc_burst(5, &mut full), 1, "no more than the burst has room for");
    assert!(pool.alloc_from(&[0; 2049]).is_none(), "longer than the data room");
    drop(full);
    Mbuf::free_burst(&mut held);
    assert_eq!(pool.available_count(), 63);
}

fn refusals(eal: &Eal) {
    let config = PoolConfig { mbufs: 63, cache_mbufs: 0, ..PoolConfig::default() };
    let missing = eal.pool_by_name("nowhere").expect_err("never made");
    assert_eq!(missing, Error::NoSuchPool { name: "nowhere".to_owned() });
    assert!(missing.to_string().contains("nowhere"));
    assert!(matches!(eal.pool("small", &config), Err(Error::PoolCreate { .. })), "the name is taken");
    assert!(matches!(eal.pool("", &config), Err(Error::BadName { .. })));
    assert!(matches!(eal.pool("a\0b", &config), Err(Error::BadName { .. })));
    assert!(matches!(eal.pool(&"n".repeat(26), &config), Err(Error::BadName { bytes_max: 25, .. })));
    let longest = eal.pool(&"n".repeat(25), &config).expect("25 bytes fit");
    assert_eq!(longest.name().len(), 25);
    let cache = PoolConfig { cache_mbufs: 43, ..config.clone() };
    assert!(matches!(eal.pool("cache", &cache), Err(Error::OutOfRange { max: 42, .. })));
    let room = PoolConfig { data_room_bytes: 100, ..config };
    assert!(matches!(eal.pool("room", &room), Err(Error::OutOfRange { .. })));
    let huge = PoolConfig { mbufs: 1 << 20, ..PoolConfig::default() };
    assert!(matches!(eal.pool("huge", &huge), Err(Error::PoolCreate { .. })), "2 GiB out of 64 MiB");
}
