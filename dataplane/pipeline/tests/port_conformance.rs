//! What every port must do, run over each kind of port.

use roko_pipeline::port::inprocess::{InProcessPool, pair};
use roko_pipeline::port::{BURST, Burst, FrameBuf, FramePool, Port, RxPort, TxPort};
use roko_wire::limits::FRAME_BYTES_MAX;

fn filled<P: FramePool>(pool: &P, len: usize, byte: u8) -> P::Buf {
    let mut buf = pool.alloc().expect("a frame is free");
    assert!(buf.data().is_empty(), "a fresh frame is empty");
    buf.set_len(len);
    buf.data_mut().fill(byte);
    buf
}

/// Two ports, joined; each direction holds at least a burst and at most `depth_max` frames, each pool at least twice
/// that.
fn conforms<A: Port, B: Port<Buf = A::Buf>>(a: A, b: B, depth_max: usize) {
    assert!(!a.kind().is_empty() && !b.kind().is_empty());
    let (mut a_rx, mut a_tx, a_pool) = a.split();
    let (mut b_rx, mut b_tx, b_pool) = b.split();
    let mut burst = Burst::new();

    // Frames of every size arrive as they were sent, in order, in both directions, and in the same memory.
    for round in 0..3 * depth_max {
        let sizes = [1, 60, 64, 1000, FRAME_BYTES_MAX];
        for (index, len) in sizes.into_iter().enumerate() {
            let buf = filled(&a_pool, len, (round + index) as u8);
            assert!(buf.capacity() >= FRAME_BYTES_MAX);
            burst.push(buf);
        }
        let place = burst[0].data().as_ptr();
        assert_eq!(a_tx.tx_burst(&mut burst), sizes.len());
        assert!(burst.is_empty());
        assert_eq!(b_rx.rx_burst(&mut burst), sizes.len());
        assert_eq!(burst[0].data().as_ptr(), place, "nothing is copied");
        for (index, buf) in burst.iter().enumerate() {
            assert_eq!(buf.data().len(), sizes[index]);
            assert!(buf.data().iter().all(|byte| *byte == (round + index) as u8));
        }
        // Back they go, and home when they are dropped.
        assert_eq!(b_tx.tx_burst(&mut burst), sizes.len());
        assert_eq!(a_rx.rx_burst(&mut burst), sizes.len());
        burst.clear();
    }
    assert_eq!(a_rx.rx_burst(&mut burst), 0, "an empty port gives nothing");

    // A burst that already holds frames keeps them.
    burst.push(filled(&a_pool, 7, 7));
    a_tx.tx_burst(&mut burst);
    burst.push(filled(&b_pool, 9, 9));
    assert_eq!(b_rx.rx_burst(&mut burst), 1);
    assert_eq!((burst[0].data()[0], burst[1].data()[0]), (9, 7));
    burst.clear();

    // A full port leaves what it does not take, and nothing is lost or reordered.
    let mut sent = 0u32;
    let number = |buf: &A::Buf| u32::from_le_bytes(buf.data()[..4].try_into().expect("four bytes"));
    loop {
        while !burst.is_full() {
            let mut buf = filled(&a_pool, 64, 0);
            let next = sent + burst.len() as u32;
            buf.data_mut()[..4].copy_from_slice(&next.to_le_bytes());
            burst.push(buf);
        }
        let taken = a_tx.tx_burst(&mut burst);
        sent += taken as u32;
        assert_eq!(burst.len(), BURST - taken);
        if taken < BURST {
            break;
        }
        assert!(sent as usize <= depth_max, "the port is deeper than it says");
    }
    assert_eq!(number(&burst[0]), sent, "the first unsent is the next");
    burst.clear();
    let mut arrived = 0;
    while b_rx.rx_burst(&mut burst) > 0 {
        for buf in burst.drain(..) {
            assert_eq!(number(&buf), arrived);
            arrived += 1;
        }
    }
    assert_eq!(arrived, sent);

    // An exhausted pool says so and recovers.
    let mut held = Vec::new();
    while let Some(buf) = a_pool.alloc() {
        held.push(buf);
    }
    let all = held.len();
    held.clear();
    assert!(all >= depth_max && a_pool.alloc().is_some());

    // The halves work from other threads.
    let thread = std::thread::spawn(move || {
        let mut burst = Burst::new();
        burst.push(filled(&a_pool, 64, 0xee));
        a_tx.tx_burst(&mut burst)
    });
    assert_eq!(thread.join().expect("it does not panic"), 1);
    assert_eq!(b_rx.rx_burst(&mut burst), 1);
    assert_eq!(burst[0].data(), [0xee; 64]);
}

#[test]
fn the_in_process_port_conforms() {
    let (a, b) = pair(64, (InProcessPool::new(256), InProcessPool::new(256)));
    conforms(a, b, 64);
}

#[cfg(feature = "dpdk")]
#[test]
fn ports_over_dpdk_conform() {
    use roko_dpdk::{Eal, EalConfig, PoolConfig, PortConfig, ring_link, ring_pair, ring_port};
    use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort};
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    // No cache: an exhausted pool is then empty to the last frame.
    let config = PoolConfig { mbufs: 511, cache_mbufs: 0, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("a small pool");
    let start = |port: &mut roko_dpdk::Port| {
        let mut queues = port.start(&PortConfig::default(), &pool).expect("it starts");
        let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        DpdkPort::new(rx, tx, pool.clone(), "net_ring", None)
    };
    let (mut left, mut right) = ring_pair(&eal, "left", "right", 64).expect("a pair");
    conforms(start(&mut left), start(&mut right), 64);
    let (mut port, end) = ring_port(&eal, "single", 64).expect("a port");
    conforms(start(&mut port), DpdkLink::new(end, pool.clone()), 64);
    let (one, other) = ring_link(&eal, "link", 64).expect("a link");
    conforms(DpdkLink::new(one, pool.clone()), DpdkLink::new(other, pool.clone()), 64);
}
