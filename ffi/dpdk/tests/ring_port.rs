//! Virtual ports over rings: both ways, in order, content intact, and a full ring leaves what it did not take.

use roko_dpdk::{
    Burst, Eal, EalConfig, Error, MbufPool, PORTS_MAX, PoolConfig, Port, PortConfig, RxQueue, TxQueue,
    port_ids, ring_pair, ring_port, ring_port_of_queues,
};

const DEPTH: usize = 64;

fn frame(number: u64) -> Vec<u8> {
    let len = 60 + (number as usize * 7) % 1400;
    (0..len).map(|at| (number as usize * 31 + at) as u8).collect()
}

fn fill(pool: &MbufPool, burst: &mut Burst, numbers: std::ops::Range<u64>) {
    for number in numbers {
        burst.push(pool.alloc_from(&frame(number)).expect("the pool is large enough"));
    }
}

fn check(burst: &mut Burst, next: &mut u64) {
    for mbuf in burst.drain(..) {
        assert_eq!(mbuf.data(), frame(*next), "frame {next}");
        *next += 1;
    }
}

fn start(port: &mut Port, pool: &MbufPool) -> (RxQueue, TxQueue) {
    let mut queues = port.start(&PortConfig::default(), pool).expect("a ring port starts");
    (queues.rx.remove(0), queues.tx.remove(0))
}

#[test]
fn frames_pass_both_ways() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config = PoolConfig { mbufs: 2047, cache_mbufs: 64, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("a pool");
    back_to_back(&eal, &pool);
    bare_end_opposite(&eal, &pool);
    between_threads(&eal, &pool);
    stop_needs_the_queues_back(&eal, &pool);
    refusals(&eal, &pool);
    queues_of_their_own(&eal, &pool);
    assert!(port_ids(&eal).is_empty(), "dropped ports are closed");
    as_many_as_there_are(&eal);
    assert_eq!(pool.available_count(), pool.count());
    drop(pool);
    eal.shutdown().expect("nothing is held");
}

/// What is put into a queue's ring comes out of that queue and of no other.
fn queues_of_their_own(eal: &Eal, pool: &MbufPool) {
    let (mut port, _from, mut to) = ring_port_of_queues(eal, "several", DEPTH, 3).expect("a port");
    let can = port.capabilities().expect("it tells");
    assert_eq!((can.rx_queues_max, can.rss.udp_ports), (3, false), "whoever fills the rings chooses");
    let config = PortConfig { rx_queues: 3, ..PortConfig::default() };
    let mut queues = port.start(&config, pool).expect("it starts");
    let mut burst = Burst::new();
    for (number, ring) in (0..).zip(&mut to) {
        fill(pool, &mut burst, number * 10..number * 10 + 3);
        assert_eq!(ring.tx_burst(&mut burst), 3);
    }
    for (number, queue) in (0..).zip(&mut queues.rx) {
        assert_eq!(queue.rx_burst(&mut burst), 3);
        let mut next = number * 10;
        check(&mut burst, &mut next);
        assert_eq!((next, queue.rx_burst(&mut burst)), (number * 10 + 3, 0));
    }
    drop(queues);
    let config = PortConfig { rx_queues: 4, ..PortConfig::default() };
    let refusal = port.start(&config, pool).expect_err("it has three").to_string();
    assert!(refusal.contains("rx_queues") && refusal.contains('4') && refusal.contains('3'), "{refusal}");
    let refusal = ring_port_of_queues(eal, "many", DEPTH, 17).expect_err("the driver has room for 16");
    assert!(matches!(refusal, Error::OutOfRange { value: 17, .. }), "{refusal}");
}

fn back_to_back(eal: &Eal, pool: &MbufPool) {
    let (mut a, mut b) = ring_pair(eal, "alice", "bob", DEPTH).expect("two ports");
    assert_ne!(a.id(), b.id());
    assert_eq!(port_ids(eal).len(), 2);
    let (mut a_rx, mut a_tx) = start(&mut a, pool);
    let (mut b_rx, mut b_tx) = start(&mut b, pool);
    let (mut burst, mut at_b, mut at_a) = (Burst::new(), 0, 0);
    for round in 0..100_u64 {
        fill(pool, &mut burst, round * 20..round * 20 + 20);
        assert_eq!(a_tx.tx_burst(&mut burst), 20);
        assert!(burst.is_empty());
        assert_eq!(b_rx.rx_burst(&mut burst), 20);
        check(&mut burst, &mut at_b);
        fill(pool, &mut burst, round..round + 1);
        assert_eq!(b_tx.tx_burst(&mut burst), 1);
        assert_eq!(a_rx.rx_burst(&mut burst), 1);
        check(&mut burst, &mut at_a);
    }
    assert_eq!((at_b, at_a), (2000, 100));
    assert_eq!(a_rx.rx_burst(&mut burst), 0);
    let (sent, received) = (a.stats().expect("counters"), b.stats().expect("counters"));
    assert_eq!((sent.tx_packets, sent.rx_packets), (2000, 100));
    assert_eq!((received.rx_packets, received.tx_packets), (2000, 100));
    assert!(a.link().expect("a link").up);
    assert_eq!(a.mac().expect("an address"), [0; 6]);
    let can = a.capabilities().expect("capabilities");
    assert_eq!((can.driver.as_str(), can.rx_burst_packets, can.rx_timestamp_field), ("net_ring", 32, false));
    assert!(can.rx_queues_max >= 1);
    assert!(a.name().expect("a name").contains("alice"));
    assert!(a.timesync().expect("an answer").is_none(), "no virtual device has a clock");
}

fn bare_end_opposite(eal: &Eal, pool: &MbufPool) {
    let (mut port, mut end) = ring_port(eal, "validator0", DEPTH).expect("a port");
    let (mut rx, mut tx) = start(&mut port, pool);
    let (mut burst, mut seen) = (Burst::new(), 0);
    // The ring holds 64: two bursts go, the third stays with the caller, in order.
    for from in [0, 30] {
        fill(pool, &mut burst, from..from + 30);
        assert_eq!(tx.tx_burst(&mut burst), 30);
    }
    fill(pool, &mut burst, 60..90);
    assert_eq!(tx.tx_burst(&mut burst), 4);
    assert_eq!((burst.len(), tx.refused_packets()), (26, 26));
    assert_eq!(burst[0].data(), frame(64));
    assert_eq!(end.rx.waiting(), DEPTH);
    let mut received = Burst::new();
    assert_eq!(end.rx_burst(&mut received), 32);
    assert_eq!(end.rx_burst(&mut received), 0, "the burst is full");
    check(&mut received, &mut seen);
    assert_eq!(tx.tx_burst(&mut burst), 26);
    while end.rx_burst(&mut received) > 0 {
        check(&mut received, &mut seen);
    }
    assert_eq!(seen, 90);

    // The other way, from the bare end; what comes is put behind what the burst holds.
    fill(pool, &mut burst, 0..32);
    assert_eq!(end.tx_burst(&mut burst), 32);
    fill(pool, &mut burst, 32..64);
    assert_eq!(end.tx_burst(&mut burst), 32);
    fill(pool, &mut burst, 64..65);
    assert_eq!((end.tx_burst(&mut burst), burst.len(), end.tx.refused_packets()), (0, 1, 1));
    burst.clear();
    fill(pool, &mut received, 1000..1010);
    assert_eq!((rx.rx_burst(&mut received), received.len()), (22, 32));
    received.drain(..10).zip(1000..).for_each(|(mbuf, number)| assert_eq!(mbuf.data(), frame(number)));
    let mut back = 0;
    check(&mut received, &mut back);
    assert_eq!(back, 22);
    assert_eq!(rx.chained_packets(), 0);
    // 42 packets are left in the ring: they return to the pool with it.
    assert_eq!(pool.count() - pool.available_count(), 42);
    drop((rx, tx, port));
    drop(end);
    assert_eq!(pool.available_count(), pool.count());
}

/// A thread on each side, far more packets than either ring holds.
fn between_threads(eal: &Eal, pool: &MbufPool) {
    const PACKETS: u64 = 100_000;
    let (mut port, mut end) = ring_port(eal, "validator1", DEPTH).expect("a port");
    let (mut rx, mut tx) = start(&mut port, pool);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _guard = eal.register_thread().expect("a free lcore");
            let mut burst = Burst::new();
            let mut echoed = 0;
            while echoed < PACKETS {
                end.rx_burst(&mut burst);
                echoed += end.tx_burst(&mut burst) as u64;
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            let _guard = eal.register_thread().expect("a free lcore");
            let (mut burst, mut received) = (Burst::new(), Burst::new());
            let (mut next, mut seen) = (0_u64, 0);
            while seen < PACKETS {
                while next < PACKETS && burst.len() < 16 {
                    burst.push(pool.alloc_from(&next.to_le_bytes()).expect("rings hold 128"));
                    next += 1;
                }
                tx.tx_burst(&mut burst);
                rx.rx_burst(&mut received);
                for mbuf in received.drain(..) {
                    assert_eq!(mbuf.data(), u64::to_le_bytes(seen));
                    seen += 1;
                }
                std::thread::yield_now();
            }
        });
    });
}

fn stop_needs_the_queues_back(eal: &Eal, pool: &MbufPool) {
    let (mut port, mut end) = ring_port(eal, "validator2", DEPTH).expect("a port");
    for round in 0..3 {
        let (mut rx, mut tx) = start(&mut port, pool);
        let id = port.id();
        assert_eq!(port.stop().expect_err("both queues are out"), Error::PortInUse { port: id, handles: 2 });
        assert!(matches!(port.start(&PortConfig::default(), pool), Err(Error::PortInUse { .. })));
        let mut burst = Burst::new();
        fill(pool, &mut burst, round..round + 1);
        assert_eq!(tx.tx_burst(&mut burst), 1);
        assert_eq!(end.rx_burst(&mut burst), 1);
        assert_eq!(end.tx_burst(&mut burst), 1);
        assert_eq!(rx.rx_burst(&mut burst), 1);
        check(&mut burst, &mut { round });
        drop((rx, tx));
        if round < 2 {
            port.stop().expect("the queues are back");
            port.stop().expect("stopping twice changes nothing");
        }
    }
}

fn refusals(eal: &Eal, pool: &MbufPool) {
    let (mut port, _end) = ring_port(eal, "validator3", DEPTH).expect("a port");
    let none = PortConfig { rx_queues: 0, ..PortConfig::default() };
    assert!(matches!(port.start(&none, pool), Err(Error::OutOfRange { .. })));
    let stamps = PortConfig { rx_timestamp_field: true, ..PortConfig::default() };
    assert!(matches!(port.start(&stamps, pool), Err(Error::Port { .. })));
    assert_eq!(Port::by_id(eal, port.id()).expect_err("taken"), Error::PortTaken { port: port.id() });
    assert!(matches!(Port::by_id(eal, 31), Err(Error::NoSuchPort { .. })));
    assert!(matches!(Port::by_name(eal, "0000:99:00.0"), Err(Error::NoSuchPort { .. })));
    assert!(matches!(ring_port(eal, "validator3", DEPTH), Err(Error::RingCreate { .. })), "taken");
    assert!(matches!(ring_port(eal, &"n".repeat(20), DEPTH), Err(Error::BadName { .. })));
    assert!(matches!(ring_port(eal, "zero", 0), Err(Error::OutOfRange { .. })));
    assert!(ring_port(eal, &"n".repeat(19), DEPTH).is_ok(), "19 bytes fit");
    let missing = roko_dpdk::vdev_port(eal, "net_nosuchdriver0", "").expect_err("no such driver");
    assert!(matches!(missing, Error::VdevCreate { .. }), "{missing}");
}

fn as_many_as_there_are(eal: &Eal) {
    let mut ports: Vec<_> = (0..PORTS_MAX)
        .map(|number| ring_port(eal, &format!("validator{number}"), 8).expect("within the limit"))
        .collect();
    assert_eq!(port_ids(eal).len(), PORTS_MAX);
    let refused = ring_port(eal, "one_more", 8).expect_err("the table is full");
    assert!(matches!(&refused, Error::VdevCreate { ports_max: PORTS_MAX, .. }), "{refused}");
    ports.pop();
    assert!(ring_port(eal, "one_more", 8).is_ok(), "a closed port makes room");
}
