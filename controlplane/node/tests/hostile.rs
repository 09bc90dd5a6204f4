//! A stranger with a port of the network floods one validator with frames that are cut, too long, flipped, replayed or
//! sealed with no known key, while the network works. Every one is refused and counted, memory does not grow, and honest
//! transfers become final all the same.
//!
//! `ROKO_HOSTILE_FRAMES` says how many frames; without it 100,000.

mod common;

use common::PATIENCE;
use common::net::{Net, Stranger, Tap, VALIDATORS, reached};
use roko_node::devnet::report::rss_mb;
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::port::inprocess::InProcessPool;
use roko_pipeline::port::{Burst, FrameBuf, FramePool, Port, TxPort};
use roko_state::fault::{FaultStorage, Sequence};
use roko_wire::limits::MESSAGE_BYTES_MAX;
use roko_wire::net::{Mac, headers_bytes, parse_udp, write_headers};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The validator that is flooded.
const TARGET: usize = 0;
/// Frames of members that the attacker has listened to.
const OVERHEARD: usize = 2_000;
/// Honest transfers a second.
const RATE: u64 = 100;
/// How much the process may grow during the flood, MiB, beside the chain: allocator slack.
const GROWTH_MB_MAX: u64 = 64;
/// The attacker's own Ethernet address.
const MAC: Mac = Mac([2, 0, 0, 0, 6, 66]);

/// What a hostile frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    Truncated,
    Oversized,
    Flipped,
    Replayed,
    WrongKey,
    UnknownSession,
    Stranger,
}

const ATTACKS: [Attack; 7] = [
    Attack::Truncated,
    Attack::Oversized,
    Attack::Flipped,
    Attack::Replayed,
    Attack::WrongKey,
    Attack::UnknownSession,
    Attack::Stranger,
];

/// Makes hostile frames of overheard ones.
fn forge(attack: Attack, overheard: &[u8], random: &mut Sequence) -> Vec<u8> {
    let mut frame = overheard.to_vec();
    // The switch follows source addresses: with the victim's it would only cut the victim off.
    frame[6..12].copy_from_slice(&MAC.0);
    let span = parse_udp(&frame).expect("an honest frame");
    match attack {
        Attack::Truncated => frame.truncate(12 + random.below(frame.len() as u64 - 12) as usize),
        Attack::Oversized => {
            let payload = MESSAGE_BYTES_MAX + 200;
            frame = vec![0xa5; headers_bytes(&span.addresses.source_ip) + payload];
            let mut addresses = span.addresses;
            addresses.source_mac = MAC;
            write_headers(&addresses, payload, &mut frame).expect("the buffer is as long as the frame");
        }
        Attack::Flipped => {
            // Behind the Ethernet addresses: with another destination the switch would not bring it.
            let bit = 12 * 8 + random.below((frame.len() as u64 - 12) * 8);
            frame[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        Attack::Replayed => {}
        Attack::WrongKey => {
            // A sequence number that was never used, so that the seal is what refuses it.
            frame[span.payload_at + 12..][..8]
                .copy_from_slice(&(1 << 40 | random.below(1 << 30)).to_le_bytes());
            frame[span.payload_at + 20..].iter_mut().for_each(|byte| *byte = random.next_number() as u8);
        }
        Attack::UnknownSession => {
            frame[span.payload_at + 4..][..8].copy_from_slice(&random.next_number().to_le_bytes());
        }
        Attack::Stranger => {
            let mut addresses = span.addresses;
            addresses.source_mac = MAC;
            addresses.source_ip = [203, 0, 113, 7].into();
            write_headers(&addresses, span.payload_bytes, &mut frame).expect("both addresses are IPv4");
        }
    }
    frame
}

/// The attacker's port.
struct Attacker {
    tx: <roko_pipeline::port::inprocess::InProcessPort as Port>::Tx,
    pool: InProcessPool,
    switch: Arc<StageMetrics>,
    sent: u64,
}

impl Attacker {
    fn new(stranger: Stranger) -> Attacker {
        let (_, tx, pool) = stranger.port.split();
        Attacker { tx, pool, switch: stranger.switch, sent: 0 }
    }

    fn flood(&mut self, count: u64, overheard: &[Vec<u8>]) {
        let mut random = Sequence(66);
        let mut burst: Burst<_> = Burst::new();
        let until = Instant::now() + PATIENCE;
        for number in 0..count {
            let attack = ATTACKS[number as usize % ATTACKS.len()];
            let model = &overheard[random.below(overheard.len() as u64) as usize];
            let bytes = forge(attack, model, &mut random);
            let mut buf = loop {
                match self.pool.alloc() {
                    Some(buf) => break buf,
                    None => std::thread::yield_now(),
                }
                assert!(Instant::now() < until || count > 1_000_000, "the network takes no frames any more");
            };
            buf.set_len(bytes.len());
            buf.data_mut().copy_from_slice(&bytes);
            burst.push(buf);
            while burst.is_full() {
                self.sent += self.tx.tx_burst(&mut burst) as u64;
                // About 60,000 a second: two cores also have to carry the network itself.
                std::thread::sleep(Duration::from_micros(400));
            }
        }
        while !burst.is_empty() {
            self.sent += self.tx.tx_burst(&mut burst) as u64;
            std::thread::yield_now();
        }
    }
}

/// The counters of what the first stages refuse.
fn refused(node: &roko_node::api::NodeHandle<FaultStorage>) -> BTreeMap<String, u64> {
    use roko_services::NodeApi;
    let first = ["rx", "filter", "decode", "open"];
    let drops = node.metrics().drops;
    drops
        .iter()
        .filter(|drop| first.contains(&drop.stage.as_ref()))
        .map(|drop| (format!("{}.{}", drop.stage, drop.reason), drop.count))
        .collect()
}

/// Every reason for which a flood's frames are refused was counted often.
fn each_kind_was_refused(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, sent: u64) {
    for name in [
        "filter.truncated",
        "filter.too_long",
        "filter.bad_checksum",
        "filter.rate_limited",
        "decode.unknown_session",
        "open.replayed",
        "open.bad_tag",
    ] {
        let grown = after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        assert!(grown > sent / 1_000, "{name} grew by {grown}: {after:?}");
    }
}

#[test]
fn a_flood_of_hostile_frames_is_refused_and_counted_while_the_network_works() {
    let count = std::env::var("ROKO_HOSTILE_FRAMES").map_or(100_000, |text| text.parse().expect("a number"));
    let storages: Vec<FaultStorage> = (0..VALIDATORS).map(|_| FaultStorage::new()).collect();
    let target_mac = Net::mac(TARGET);
    let tap = Tap::new(move |_, frame| frame.starts_with(&target_mac.0));
    let net = Net::new(Arc::clone(&tap));
    let mut running = net.start(&storages).expect("it starts");
    let counts = running.load(RATE);
    let mut overheard = Vec::new();
    let heard = reached(|| {
        overheard.extend(tap.take().into_iter().map(|tapped| tapped.frame));
        overheard.len() >= OVERHEARD
    });
    assert!(heard, "{} frames went to the target", overheard.len());
    overheard.truncate(OVERHEARD);
    // What was overheard arrives first, so that a replay is one.
    std::thread::sleep(Duration::from_millis(300));

    let node = Arc::clone(&running.nodes()[TARGET]);
    // The disks are in memory here; each keeps what is synced and what is written apart. The indexes of the blocks take
    // half as much again: without a flood the process grows by as much in the same time.
    let disks_mb = || (3 * storages.iter().map(FaultStorage::used_bytes).sum::<u64>()) >> 20;
    let (before, rss_before, disks_before) = (refused(&node), rss_mb(), disks_mb());
    let finals = || node.observer.progress(|progress| progress.transactions_final);
    let (final_before, height_before) = (finals(), running.durable(TARGET));
    let mut attacker = Attacker::new(running.stranger.take().expect("the network has one more port"));
    attacker.flood(count, &overheard);
    assert_eq!(attacker.sent, count);
    let final_during = finals() - final_before;

    let switch_dropped = || attacker.switch.value("dropped_full") + attacker.switch.value("unknown_address");
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let all_refused = reached(|| sum(&refused(&node)) - sum(&before) + switch_dropped() >= count);
    let after = refused(&node);
    assert!(
        all_refused,
        "{count} sent, {} dropped by the switch: {before:?} then {after:?}",
        switch_dropped()
    );
    each_kind_was_refused(&before, &after, count);
    let (rss_after, chain_mb) = (rss_mb(), disks_mb() - disks_before);
    eprintln!(
        "{count} frames: from {rss_before} to {rss_after} MiB, of which the chain about {chain_mb} MiB"
    );
    assert!(
        rss_after <= rss_before + chain_mb + GROWTH_MB_MAX,
        "from {rss_before} to {rss_after} MiB, of which the chain about {chain_mb} MiB"
    );

    // The network worked all the time, and goes on.
    assert!(final_during > 0, "no transfer became final during the flood");
    let height = running.durable(TARGET);
    assert!(height > height_before);
    assert!(reached(|| running.durable(TARGET) > height + 10), "the target stands still");
    let fresh = counts.submitted.load(Ordering::Relaxed);
    assert!(reached(|| counts.submitted.load(Ordering::Relaxed) > fresh + RATE), "the load goes on");
    running.stop_load();
    assert_eq!(node.observer.problem(), None);
    assert_eq!(running.devnet.forks(), 0);
    running.stop();
}
