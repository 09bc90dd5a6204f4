//! Several lanes: a session is on one of them whatever queue its frames come by, and the pool is one.

mod common;

use common::*;
use roko_pipeline::assembly::AssemblyError;
use roko_pipeline::idle::Idle;
use roko_pipeline::keys::KeyCommand;
use roko_pipeline::peer::{KeyName, PeerIndex, Role};
use roko_pipeline::poll::PollLoop;
use roko_pipeline::port::inprocess::{InProcessPool, pair_of_queues};
use roko_pipeline::session::{AeadKeys, Sealer};
use roko_pipeline::{DataPlaneConfig, assemble};
use roko_wire::net::{Addresses, parse_udp, write_headers};
use roko_wire::rss::queue_of_frame;
use roko_wire::{TxId, tx::tx_id};
use std::collections::HashSet;
use std::sync::Arc;

const CLIENT: u8 = 2;

/// A sealed frame of the client as it comes by queue `queue`: from another port of its own, where that must be.
fn by_queue(frame: &[u8], queue: usize, queues: usize) -> Vec<u8> {
    let mut moved = frame.to_vec();
    let payload = parse_udp(frame).expect("a frame of ours").payload_bytes;
    for source_port in 4_000..5_000 {
        let from = Addresses { source_port, ..addresses(CLIENT, 0) };
        write_headers(&from, payload, &mut moved).expect("it fits");
        if queue_of_frame(&moved, queues) == queue {
            return moved;
        }
    }
    panic!("no port leads to queue {queue}");
}

fn client_sealer(generation: u8) -> Sealer {
    sealer(&link_of(CLIENT, 0, generation))
}

fn sealed_by(sealer: &mut Sealer, message: &[u8]) -> Vec<u8> {
    sealed(sealer, &addresses(CLIENT, 0), message)
}

#[test]
fn a_recorded_frame_meets_the_same_replay_window_on_every_queue() {
    for lanes in [2, 3, 4] {
        let mut node = Lone::with_lanes(lanes, lanes);
        for generation in 1..=24 {
            let mut sealer = client_sealer(generation);
            let wire = |nonce| {
                submit_message(&transfers(generation.into()..u32::from(generation) + 1, nonce..nonce + 1))
            };
            let (first, second) = (sealed_by(&mut sealer, &wire(0)), sealed_by(&mut sealer, &wire(1)));
            let queue = usize::from(generation) % lanes;
            node.send_raw(&[by_queue(&first, queue, lanes)]);
            node.settle();
            let copies: Vec<Vec<u8>> = (0..lanes).map(|queue| by_queue(&first, queue, lanes)).collect();
            node.send_raw(&copies);
            node.settle();
            // The client's address changes, its session does not.
            node.send_raw(&[by_queue(&second, (queue + 1) % lanes, lanes)]);
            node.settle();
            let n = u64::from(generation);
            assert_eq!(node.count("open", "opened"), 2 * n, "{lanes} lanes, session {n}");
            assert_eq!(node.count("open", "replayed"), lanes as u64 * n, "{lanes} lanes, session {n}");
        }
        assert_eq!(node.count("order", "inserted"), 48);
        let received = node.count_by_lane("rx", "received");
        assert!(received.len() == lanes && received.iter().all(|count| *count > 0), "{received:?}");
        assert!(node.count("decode", "crossed") > 0);
        let opened = node.count_by_lane("open", "opened");
        assert!(opened.iter().filter(|count| **count > 0).count() > 1, "24 sessions on one lane: {opened:?}");
        let lost = ["dropped_lane_full", "unknown_session", "admission_limited"];
        assert!(lost.iter().all(|label| node.count("decode", label) == 0));
    }
}

#[test]
fn a_key_goes_when_every_decode_has_forgotten_it_and_no_sooner() {
    let (mut node, mut keys) = Lone::with_keys_and_lanes(2);
    let name = KeyName { session: 9, core: 0, phase: 0 };
    let aead = AeadKeys { key: [3; 32], iv: [9; 12] };
    let (peer, role) = (PeerIndex(CLIENT.into()), Role::Client);
    assert!(keys.push(KeyCommand::Install { peer, role, name, generation: 1, keys: aead.clone() }).is_ok());
    let mut sealer = Sealer::new(&aead, 9, 0, 0);
    let mut frame = |nonce| sealed_by(&mut sealer, &submit_message(&transfers(0..1, nonce..nonce + 1)));
    let (first, second) = (frame(0), frame(1));
    node.send_raw(&[by_queue(&first, 0, 2)]);
    node.settle();
    assert_eq!(node.count("open", "opened"), 1);
    // A copy by the other queue is admitted there, and has not reached open when the key is retired.
    node.send_raw(&[by_queue(&first, 1, 2)]);
    (0..4).for_each(|_| _ = node.turn_those(|stage, _| stage != "open"));
    assert_eq!(node.count_by_lane("decode", "admitted"), [1, 1]);
    assert!(keys.push(KeyCommand::Retire { peer, name }).is_ok());
    (0..4).for_each(|_| _ = node.turn_those(|stage, lane| (stage, lane) != ("decode", Some(1))));
    assert_eq!(
        (node.count("open", "opened"), node.count("open", "replayed")),
        (1, 1),
        "its window is still there"
    );
    node.settle();
    node.send_raw(&[by_queue(&second, 0, 2), by_queue(&second, 1, 2)]);
    node.settle();
    assert_eq!((node.count("open", "opened"), node.count("decode", "unknown_session")), (1, 2));
}

#[test]
fn the_pool_has_a_transaction_once_by_however_many_sessions_it_comes() {
    let mut node = Lone::with_lanes(2, 2);
    let wires = transfers(0..1, 0..4);
    for generation in 1..=16 {
        let frame = sealed_by(&mut client_sealer(generation), &submit_message(&wires));
        node.send_raw(&[by_queue(&frame, usize::from(generation) % 2, 2)]);
        node.settle();
    }
    let received = roko_pipeline::clock::Received::from_map(
        &node.clock.read(),
        roko_os::tsc::tsc(),
        roko_wire::port_clock::StampedBy::Poll,
    );
    let injected = transfers(7..8, 0..32);
    for wire in injected.iter().chain(&injected) {
        node.control.injector.submit(wire, received).expect("the rings have room");
    }
    node.settle();
    let mut seen: Vec<TxId> = Vec::new();
    while let Some(report) = node.control.seen.pop() {
        assert!(
            report.own && report.root.verify(&(&node_key(0)).into(), CHAIN),
            "each lane signs its batches"
        );
        seen.push(report.id);
    }
    let ids: HashSet<TxId> = wires.iter().chain(&injected).map(|wire| tx_id(wire)).collect();
    assert_eq!((seen.len(), seen.iter().copied().collect::<HashSet<_>>()), (36, ids));
    let (by_verify, by_order) = (node.count("verify", "duplicate"), node.count("order", "duplicate"));
    assert_eq!(by_verify + by_order, 16 * 4 + 2 * 32 - 36);
    assert!(by_order <= 4, "each lane checks a signature once: {by_order}");
    assert_eq!(node.count("verify", "passed"), 36 + by_order);
    assert!(node.count_by_lane("verify", "passed").iter().all(|count| *count > 0), "RPC goes to all lanes");
}

#[test]
fn a_port_of_one_queue_feeds_every_lane() {
    let mut node = Lone::with_lanes(1, 3);
    let frames: Vec<Vec<u8>> = (1..=24)
        .map(|generation| {
            let user = u32::from(generation);
            sealed_by(&mut client_sealer(generation), &submit_message(&transfers(user..user + 1, 0..1)))
        })
        .collect();
    for frame in &frames {
        node.send_raw(std::slice::from_ref(frame));
        node.settle();
    }
    assert_eq!(node.count("order", "inserted"), 24);
    assert_eq!(
        (node.count_by_lane("rx", "received"), node.count_by_lane("open", "opened").len()),
        (vec![24], 3)
    );
    let opened = node.count_by_lane("open", "opened");
    assert_eq!(node.count("decode", "crossed"), opened[1] + opened[2]);
}

#[test]
fn a_lane_that_stands_still_does_not_hold_up_the_others() {
    let mut node = Lone::with_lanes(2, 2);
    let mut sealers: [Option<Sealer>; 2] = [None, None];
    // Finds a session of each lane: owners are drawn by a secret.
    for generation in 1..=40 {
        let before = node.count_by_lane("open", "unknown_kind");
        let mut sealer = client_sealer(generation);
        node.send_raw(&[sealed_by(&mut sealer, &[77])]);
        node.settle();
        let after = node.count_by_lane("open", "unknown_kind");
        let lane = usize::from(after[1] > before[1]);
        assert_eq!(after[lane], before[lane] + 1);
        sealers[lane] = Some(sealer);
        if sealers.iter().all(Option::is_some) {
            break;
        }
    }
    let [Some(slow), Some(quick)] = &mut sealers else { panic!("40 sessions on one lane") };
    let before = node.count_by_lane("open", "unknown_kind");
    for _ in 0..30 {
        let frames: Vec<Vec<u8>> = (0..20).map(|_| sealed_by(slow, &[77])).collect();
        node.send_raw(&frames);
        node.send_raw(&[sealed_by(quick, &[77])]);
        (0..4).for_each(|_| _ = node.turn_those(|stage, lane| (stage, lane) != ("open", Some(0))));
    }
    let opened = node.count_by_lane("open", "unknown_kind");
    assert_eq!((opened[0], opened[1] - before[1]), (before[0], 30), "the other lane gets all of its frames");
    let dropped = node.count("decode", "dropped_lane_full");
    assert!(dropped > 0, "600 frames fit no ring");
    node.settle();
    assert_eq!(
        node.count_by_lane("open", "unknown_kind")[0] - before[0] + dropped,
        600,
        "each is accounted for"
    );
}

#[test]
fn validators_of_several_lanes_agree_with_each_other() {
    let mut net = Net::with_lanes(3, 3);
    let mut poll = PollLoop::new(core::mem::take(&mut net.stages), Idle::Spin, Arc::default());
    let wires = transfers(0..60, 0..5);
    let mut seen: Vec<HashSet<TxId>> = vec![HashSet::new(); 3];
    for (number, chunk) in wires.chunks(20).enumerate() {
        let refs: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
        net.client.submit(number % 3, &refs).expect("the port has room");
        let want = (number + 1) * 20;
        for _ in 0..2_000_000 {
            net.client.flush();
            poll.turn();
            for (control, seen) in net.controls.iter_mut().zip(&mut seen) {
                while let Some(report) = control.seen.pop() {
                    assert!(seen.insert(report.id), "a transaction is pooled once");
                }
            }
            if seen.iter().all(|seen| seen.len() == want) {
                break;
            }
        }
        assert!(seen.iter().all(|seen| seen.len() == want), "{number}: {:?}", seen.iter().map(HashSet::len));
    }
    assert_eq!(seen[0], wires.iter().map(|wire| tx_id(wire)).collect::<HashSet<_>>());
    assert!(seen[1] == seen[0] && seen[2] == seen[0]);
}

#[test]
fn lanes_that_cannot_be_are_refused_by_name() {
    let (_writer, clock) = clock();
    let plane = |queues: usize, lanes: usize, sources: usize| {
        let pools = (InProcessPool::new(64), InProcessPool::new(64));
        let (near, _far) = pair_of_queues(64, pools, (queues, 1));
        let sources = (0..sources).map(|_| NamedSessions::boxed(0, 2)).collect();
        let config = DataPlaneConfig { lanes, ..config(0, 2) };
        assemble(near, config, sources, clock.clone()).map(drop)
    };
    assert_eq!(plane(2, 3, 2), Ok(()));
    assert_eq!(plane(1, 0, 1), Err(AssemblyError::Lanes(0)));
    assert_eq!(plane(1, 17, 1), Err(AssemblyError::Lanes(17)));
    let kind = "in-process";
    assert_eq!(plane(3, 2, 3), Err(AssemblyError::Queues { kind, queues: 3, lanes: 2 }));
    assert_eq!(plane(2, 2, 1), Err(AssemblyError::KeySources { sources: 1, queues: 2 }));
}

#[test]
fn figures_bear_the_lane_where_there_are_several() {
    for (lanes, rx, ring) in [(1, "rx", "decode_open"), (2, "rx/0", "decode_open/0")] {
        let node = Lone::with_lanes(lanes, lanes);
        assert_eq!(node.control.metrics[0].label(), rx);
        let gauge =
            node.control.gauges.iter().find(|gauge| gauge.name == "decode_open").expect("it is there");
        // Rings from both queues count as one, and hold together what one queue's would.
        assert_eq!((&*gauge.label(), gauge.capacity(), gauge.depth()), (ring, 512, 0));
    }
}
