//! The floors of this crate on the machine at hand: a poll loop on the null device, a hop through a ring port,
//! and taking and returning mbufs, with a registered thread and without.
//!
//! `cargo run --release -p roko-dpdk --example poll_loop`

use std::time::Instant;

use roko_dpdk::{
    Burst, Eal, EalConfig, Error, Mbuf, MbufPool, PoolConfig, PortConfig, dpdk_version, null_port, ring_port,
};

/// A run is short, about a millisecond, so that on a shared machine some runs pass undisturbed.
const BURSTS: usize = 2_000;
const REPEATS: usize = 500;

fn main() -> Result<(), Error> {
    let eal = Eal::start(&EalConfig::unprivileged(64))?;
    let pool = eal.pool("frames", &PoolConfig { mbufs: 4095, ..PoolConfig::default() })?;
    println!("{}, no hugepages, {REPEATS} runs, ns a packet: best, median", dpdk_version());
    alloc_free(&pool, "thread=plain");
    let _guard = eal.register_thread()?;
    alloc_free(&pool, "thread=registered");
    null_loop(&eal, &pool)?;
    ring_hop(&eal, &pool)
}

fn report(name: &str, packets: usize, mut run: impl FnMut()) {
    let mut runs: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos() as f64 / packets as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{name}: {:.2}, {:.2}", runs[0], runs[REPEATS / 2]);
}

fn alloc_free(pool: &MbufPool, thread: &str) {
    report(&format!("alloc_free_single/{thread}"), BURSTS * 32, || {
        for _ in 0..BURSTS * 32 {
            drop(std::hint::black_box(pool.alloc()));
        }
    });
    let mut burst = Burst::new();
    report(&format!("alloc_burst_drop_each/{thread}"), BURSTS * 32, || {
        for _ in 0..BURSTS {
            pool.alloc_burst(32, &mut burst);
            burst.clear();
        }
    });
    report(&format!("alloc_free_burst/{thread}"), BURSTS * 32, || {
        for _ in 0..BURSTS {
            pool.alloc_burst(32, &mut burst);
            Mbuf::free_burst(&mut burst);
        }
    });
}

fn null_loop(eal: &Eal, pool: &MbufPool) -> Result<(), Error> {
    let mut port = null_port(eal, 0)?;
    let mut queues = port.start(&PortConfig::default(), pool)?;
    let (rx, tx, mut burst) = (&mut queues.rx[0], &mut queues.tx[0], Burst::new());
    report("null_forward/burst=32", BURSTS * 32, || {
        for _ in 0..BURSTS {
            rx.rx_burst(&mut burst);
            tx.tx_burst(&mut burst);
        }
    });
    Ok(())
}

fn ring_hop(eal: &Eal, pool: &MbufPool) -> Result<(), Error> {
    let (mut port, mut end) = ring_port(eal, "hop", 512)?;
    let mut queues = port.start(&PortConfig::default(), pool)?;
    let (rx, tx, mut burst) = (&mut queues.rx[0], &mut queues.tx[0], Burst::new());
    pool.alloc_burst(32, &mut burst);
    report("ring_port_there_and_back/burst=32", BURSTS * 32, || {
        for _ in 0..BURSTS {
            tx.tx_burst(&mut burst);
            end.rx_burst(&mut burst);
            end.tx_burst(&mut burst);
            rx.rx_burst(&mut burst);
        }
    });
    Ok(())
}
