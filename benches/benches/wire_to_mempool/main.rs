//! From a client's frame to the validator's pool: client, switch, and the stages rx, filter, decode, open, verify and
//! order, all polled by one thread, over the in-process port and over DPDK's net_ring.
//!
//! Frames carry five transfers, as many as fit. The floor is the work that no design saves: opening the frame (AEAD),
//! and of each transaction the signature check and the id's hash; it is measured on the same frames in turns. What
//! the chain does on top: two hops of frames, sealing at the client, a signed stamp a frame, nine stages and their
//! rings, the pool.

mod chain;

use chain::{Chain, FRAME_TXS, dpdk_chain, in_process_chain, keys_of, sealed_frame};
use roko_benches::{Comparison, Report, fixtures};
use roko_dpdk::{Eal, EalConfig, PoolConfig};
use roko_pipeline::port::Port;
use roko_pipeline::session::Opener;
use roko_wire::tx::{ParsedTx, parse, tx_id};
use std::time::{Duration, Instant};

/// Frames sent before the pool is emptied again, outside the time measured; the pool holds 8,192 transactions.
const FRAMES_AT_ONCE: u64 = 256;
/// Frames under way at once: enough to keep every stage busy, few enough that no ring fills.
const FRAMES_IN_FLIGHT: usize = 32;
/// Frames of a latency run.
const LATENCY_FRAMES: usize = 2_000;

/// Signed transfers of senders that never come again, a frame's worth at a time.
struct Source {
    next_user: u32,
}

impl Source {
    fn frame(&mut self, txs: usize) -> Vec<Vec<u8>> {
        self.next_user += 1;
        let key = fixtures::user(self.next_user);
        (0..txs as u64).map(|nonce| fixtures::transfer(nonce).sign_ed25519(&key)).collect()
    }
}

/// Pushes frames through the chain until all their transactions are pooled.
fn push<P: Port, C: Port>(chain: &mut Chain<P, C>, frames: &[Vec<Vec<u8>>]) -> Duration {
    let (mut sent, mut pooled) = (0, 0);
    let began = Instant::now();
    while pooled < frames.len() * FRAME_TXS {
        if sent < frames.len() && sent - pooled / FRAME_TXS < FRAMES_IN_FLIGHT {
            chain.submit(&frames[sent]);
            sent += 1;
        }
        pooled += chain.turn();
        assert!(began.elapsed() < Duration::from_secs(20), "{pooled} of {} pooled", frames.len() * FRAME_TXS);
    }
    let took = began.elapsed();
    chain.empty();
    took
}

/// One iteration: one frame of five transactions.
fn throughput<P: Port, C: Port>(mut chain: Chain<P, C>) -> impl FnMut(u64) -> Duration {
    let mut source = Source { next_user: 0 };
    move |iterations| {
        let (mut total, mut left) = (Duration::ZERO, iterations);
        while left > 0 {
            let count = left.min(FRAMES_AT_ONCE);
            let frames: Vec<_> = (0..count).map(|_| source.frame(FRAME_TXS)).collect();
            total += push(&mut chain, &frames);
            left -= count;
        }
        total
    }
}

/// The same frame's cryptography and nothing else.
fn floor() -> impl FnMut(u64) -> Duration {
    let wires = Source { next_user: 0 }.frame(FRAME_TXS);
    let frame = sealed_frame(&wires);
    let (opener, mut payload) = (Opener::new(&keys_of(chain::CLIENT)), frame.clone());
    move |iterations| {
        let began = Instant::now();
        for _ in 0..iterations {
            payload.copy_from_slice(&frame);
            core::hint::black_box(opener.open(0, &mut payload).expect("the tag verifies"));
            for wire in &wires {
                let Ok(ParsedTx::Native(tx)) = parse(wire) else { panic!("a native transaction") };
                core::hint::black_box((tx.verify().expect("it is signed"), tx_id(wire)));
            }
        }
        began.elapsed()
    }
}

/// One frame at a time: from the client's call to the report that its last transaction is pooled.
fn latency<P: Port, C: Port>(name: &str, chain: &mut Chain<P, C>, txs: usize, report: &mut Report) {
    let mut source = Source { next_user: 1_000_000 * txs as u32 };
    let mut ns: Vec<u128> = (0..LATENCY_FRAMES)
        .map(|_| {
            let frame = source.frame(txs);
            let (mut pooled, began) = (0, Instant::now());
            chain.submit(&frame);
            while pooled < txs {
                pooled += chain.turn();
                assert!(began.elapsed() < Duration::from_secs(20), "the transaction is pooled in time");
            }
            let took = began.elapsed().as_nanos();
            chain.empty();
            took
        })
        .collect();
    ns.sort_unstable();
    let us = |share: usize| ns[(ns.len() - 1) * share / 1000] as f64 / 1000.0;
    report.note(format!(
        "wire_to_mempool_latency/port={name},txs={txs}: p50 {:.0} us, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
        us(500),
        us(900),
        us(990),
        us(999),
        us(1000)
    ));
}

fn main() {
    let mut report =
        Report::new("wire_to_mempool", "in-process, and net_ring without hugepages: virtual, no NIC");
    let mut criterion = Report::criterion();
    let eal = Eal::start(&EalConfig::unprivileged(128)).expect("the EAL starts without privilege");
    let pool = eal.pool("frames", &PoolConfig { mbufs: 16_383, ..PoolConfig::default() }).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");
    if report.measures() {
        for txs in [1, FRAME_TXS] {
            latency("in_process", &mut in_process_chain(), txs, &mut report);
        }
        let mut chain = dpdk_chain(&eal, &pool, "latency");
        latency("net_ring", &mut chain, 1, &mut report);
        latency("net_ring", &mut chain, FRAME_TXS, &mut report);
    }
    Comparison::new("wire_to_mempool/frame_txs=5", FRAME_TXS as u64)
        .case("in_process_port", throughput(in_process_chain()))
        .case("net_ring_port", throughput(dpdk_chain(&eal, &pool, "rate")))
        .case("open_verify_hash_alone", floor())
        .run(&mut criterion, &mut report);
    report.finish(criterion);
}
