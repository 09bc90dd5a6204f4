//! The Rust loop, a process that waits for orders.

use roko_dpdk::{
    Burst, Eal, EalConfig, MbufPool, PoolConfig, PortConfig, RxQueue, TxQueue, null_port, ring_pair,
    vdev_port,
};
use std::time::Instant;

/// Packets of a burst.
pub(crate) const BURST: usize = 32;
/// Set in the process that is to be the loop; its value says over what, and what it does to packets.
pub(crate) const LOOP_OVER: &str = "ROKO_POLL_LOOP_OVER";

type Ends = (RxQueue, TxQueue);

/// Swaps destination and source.
#[inline]
fn swap_addresses(burst: &mut Burst) {
    for mbuf in burst.iter_mut() {
        let Some(addresses) = mbuf.data_mut().first_chunk_mut::<12>() else { continue };
        let (destination, source) = addresses.split_at_mut(6);
        destination.swap_with_slice(source);
    }
}

/// One turn: what arrived at the port goes out of it, with its addresses swapped where that is asked for.
#[inline]
fn forward<const SWAP: bool>((rx, tx): &mut Ends, burst: &mut Burst) -> usize {
    rx.rx_burst(burst);
    if SWAP {
        swap_addresses(burst);
    }
    let sent = tx.tx_burst(burst);
    burst.clear();
    sent
}

fn queues(port: &mut roko_dpdk::Port, pool: &MbufPool) -> Ends {
    let mut queues = port.start(&PortConfig::default(), pool).expect("a virtual port starts");
    (queues.rx.remove(0), queues.tx.remove(0))
}

/// Answers each line with a number of bursts by the nanoseconds and packets of as many. `over` is `null`, `ring` (two ports
/// back to back) or `loop` (a port whose ring leads back to it), then a space and `io` or `macswap`.
pub(crate) fn obey(over: &str) {
    let (over, engine) = over.split_once(' ').unwrap_or((over, "macswap"));
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("the EAL starts without privilege");
    let pool = eal.pool("frames", &PoolConfig { mbufs: 4095, ..PoolConfig::default() }).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");
    let mut burst = Burst::new();
    let mut ports = match over {
        "ring" => {
            let (near, far) = ring_pair(&eal, "near", "far", 512).expect("two ports");
            vec![near, far]
        }
        "loop" => vec![vdev_port(&eal, "net_ring0", "").expect("a port")],
        _ => vec![null_port(&eal, 0).expect("a port")],
    };
    let mut ends: Vec<Ends> = ports.iter_mut().map(|port| queues(port, &pool)).collect();
    if over != "null" {
        burst.extend((0..BURST).map(|at| pool.alloc_from(&[at as u8; 64]).expect("the pool has mbufs")));
        // The loop polls the first port first, so this is what it finds, and no turn is short.
        let last = ends.last_mut().expect("one port or two");
        assert_eq!(last.1.tx_burst(&mut burst), BURST, "the ring has room");
    }
    for line in std::io::stdin().lines() {
        let Some(bursts) = line.ok().and_then(|line| line.trim().parse::<u64>().ok()) else { return };
        let began = Instant::now();
        let packets = match engine {
            "io" => turns::<false>(bursts, &mut ends, &mut burst),
            _ => turns::<true>(bursts, &mut ends, &mut burst),
        };
        println!("{} {packets}", began.elapsed().as_nanos());
    }
}

fn turns<const SWAP: bool>(bursts: u64, ends: &mut [Ends], burst: &mut Burst) -> usize {
    let mut packets = 0;
    for _ in 0..bursts {
        for ends in ends.iter_mut() {
            packets += forward::<SWAP>(ends, burst);
        }
    }
    packets
}
