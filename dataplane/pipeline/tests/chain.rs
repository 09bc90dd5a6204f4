//! The whole way: client, switch, two validators, mempools, a drain, a body that validators would accept, its chunks.

mod common;

use common::*;
use core::sync::atomic::{AtomicBool, Ordering};
use ed25519_zebra::VerificationKey;
use roko_pipeline::assembly::ControlEnds;
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::builder::BuilderCommand;
use roko_pipeline::clock::ClockPage;
use roko_pipeline::idle::Idle;
use roko_pipeline::latency::PublishedLatency;
use roko_pipeline::metrics::{Regime, StageMetrics};
use roko_pipeline::order::OrderCommand;
use roko_pipeline::peer::PeerIndex;
use roko_pipeline::poll::PollLoop;
use roko_pipeline::port::inprocess::InProcessPort;
use roko_pipeline::spread::{SpreadBlock, SpreadBlockTask, SpreadCommand, Target};
use roko_ring::mempool::{Limits, Span};
use roko_wire::block::{BodyView, chunk_leaves, tx_leaf};
use roko_wire::frame::PriorityClass;
use roko_wire::merkle::{root_from_path, root_in_place};
use roko_wire::message::{Message, MessageKind};
use roko_wire::order::{Ordered, check_order};
use roko_wire::tx::{ParsedTx, parse, tie_break, tx_id};
use roko_wire::{BlockId, Hash32, NanoMoment, View};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Control = ControlEnds<InProcessPort>;

const LIMITS: Limits = Limits { txs: 2_000, bytes: 1 << 20, gas: u64::MAX };

fn value(control: &Control, stage: &str, label: &str) -> u64 {
    control.metrics.iter().find(|metrics| metrics.stage() == stage).expect("it exists").value(label)
}

/// How often each stage has told a latency, by what it counts from.
fn latencies(control: &Control) -> Vec<(&'static str, &'static str, u64)> {
    let of = |stage: &Arc<StageMetrics>| {
        let read = |latency: &Arc<PublishedLatency>| {
            let histogram = latency.read();
            assert!(histogram.max_ns() < 60_000_000_000, "{}: {} ns", stage.stage(), histogram.max_ns());
            (stage.stage(), latency.since().label(), histogram.count())
        };
        stage.latencies().iter().map(read).collect::<Vec<_>>()
    };
    control.metrics.iter().flat_map(of).collect()
}

/// Waits until `done`; the stages run elsewhere or in `step`.
fn wait(what: &str, mut step: impl FnMut(), mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        step();
        assert!(began.elapsed() < Duration::from_secs(20), "{what} takes too long");
    }
}

fn count_seen(control: &mut Control, seen: &mut usize) -> usize {
    while control.seen.pop().is_some() {
        *seen += 1;
    }
    *seen
}

fn drain(control: &mut Control, tag: u64, span: Span, step: &mut dyn FnMut()) -> Box<BlockBuffer> {
    control.order.push(OrderCommand::Drain { tag, span, limits: LIMITS }).expect("it has room");
    built(control, step)
}

fn built(control: &mut Control, step: &mut dyn FnMut()) -> Box<BlockBuffer> {
    let mut block = None;
    let blocks = &mut control.built;
    let began = Instant::now();
    while block.is_none() {
        step();
        block = blocks.pop();
        assert!(began.elapsed() < Duration::from_secs(20), "the build takes too long");
    }
    block.expect("the loop ends with a block")
}

/// Everything that a validator checks of a body without an account, done again from its bytes alone.
fn check_body(block: &BlockBuffer, txs: usize) {
    let view = BodyView::access(block.body()).expect("the body is an archive");
    assert_eq!((view.len(), block.included().len()), (txs, txs));
    let (mut ordered, mut leaves, mut gas) = (Vec::new(), Vec::new(), 0);
    for entry in view.entries() {
        let id = tx_id(entry.wire);
        let ParsedTx::Native(signed) = parse(entry.wire).expect("it is readable") else {
            panic!("native only")
        };
        let sender = signed.verify().expect("the signature holds");
        gas += signed.tx.gas_limit;
        let root = view.batch(entry.batch).expect("it is in the body");
        let path: Vec<Hash32> = entry.path.iter().map(|hash| Hash32(*hash)).collect();
        let leaf = entry.stamp.leaf(CHAIN, &id);
        assert_eq!(root_from_path(leaf, entry.leaf_index, root.leaves.into(), &path), Some(root.root));
        assert!(root.verify(&VerificationKey::from(&node_key(root.ingress.0 as u8)), CHAIN));
        ordered.push(Ordered {
            id,
            sender,
            nonce: signed.tx.nonce,
            time: entry.stamp.time,
            tie_break: tie_break(&SEED, &id),
            moment: entry.moment,
        });
        leaves.push(tx_leaf(&id, entry.moment, &entry.stamp));
    }
    let span = block.span();
    check_order(&ordered, span.from, span.watermark, span.after).expect("the order is canonical");
    assert_eq!(block.gas(), gas);
    assert_eq!(block.tx_root(), root_in_place(&mut leaves));
    let mut chunks = Vec::new();
    chunk_leaves(block.body(), &mut chunks);
    assert_eq!(block.chunks().root(), root_in_place(&mut chunks));
}

/// The control plane's part of a block's life at validator 0, with validator 1 receiving.
fn run_a_block(clock: &ClockPage, controls: &mut [Control], txs: usize, step: &mut dyn FnMut()) {
    let (first, rest) = controls.split_at_mut(1);
    let (zero, one) = (&mut first[0], &mut rest[0]);
    let span = Span { from: START, watermark: now(clock), after: START };
    let mut block = drain(zero, 1, span, step);
    check_body(&block, txs);
    assert_eq!((block.tag(), block.report().txs), (1, txs));

    // Leaving one out leaves its sender's later ones out, and the rest is canonical again.
    let sender = block.candidates()[0].sender;
    let out = block.candidates().iter().filter(|candidate| candidate.sender == sender).count();
    block.exclude(0);
    assert!(zero.builder.push(BuilderCommand::Rebuild(block)).is_ok());
    let block = built(zero, step);
    check_body(&block, txs - out);

    travels(clock, zero, one, &block, step);
    // What was left out is pending again at once; the rest when the block is abandoned.
    for (index, candidate) in
        block.candidates().iter().enumerate().filter(|(index, _)| block.is_excluded(*index))
    {
        assert!(candidate.sender == sender && !block.wire(index).is_empty());
        assert!(zero.order.push(OrderCommand::Return { id: candidate.id }).is_ok());
    }
    assert!(zero.builder.push(BuilderCommand::Release(block)).is_ok());
    wait("the return", &mut *step, || value(zero, "order", "pending") == out as u64);
    assert_eq!(value(zero, "order", "in_flight"), (txs - out) as u64);
    is_abandoned(clock, zero, txs, step);
}

/// The body reaches validator 1 in chunks that prove their place, behind a vote that was sent after them.
fn travels(
    clock: &ClockPage,
    zero: &mut Control,
    one: &mut Control,
    block: &BlockBuffer,
    step: &mut dyn FnMut(),
) {
    let id = BlockId([5; 32]);
    let shared =
        Arc::new(SpreadBlock::new(id, View(3), [1; 64], block.body().to_vec(), block.chunks().clone()));
    let task = SpreadBlockTask { block: Arc::clone(&shared), to: Target::Validators, chunks: 0..u32::MAX };
    assert!(zero.blocks.push(task).is_ok());
    let mut message = roko_pipeline::spread::MessageBytes::new();
    Message::PullCertificate(View(9)).write(&mut message);
    let to = Target::Peer(PeerIndex(1));
    let send = SpreadCommand::Send { to, class: PriorityClass::Consensus, message, asked: now(clock) };
    assert!(zero.spread.push(send).is_ok());
    let (mut body, mut pulls) = (vec![0; shared.body().len()], 0);
    let mut missing = shared.chunk_count();
    let began = Instant::now();
    while missing > 0 || pulls == 0 {
        step();
        assert!(began.elapsed() < Duration::from_secs(20), "chunks take too long");
        let Some(frame) = one.frames.pop() else { continue };
        assert_eq!(frame.peer, PeerIndex(0));
        match Message::read(frame.message()).expect("it is readable") {
            Message::Chunk(chunk) => {
                let leaf = roko_wire::block::chunk_leaf(chunk.index, chunk.data);
                let root = root_from_path(leaf, chunk.index as usize, chunk.count as usize, &chunk.path);
                assert_eq!((root, chunk.block, chunk.view), (Some(shared.chunk_root()), id, View(3)));
                let at = chunk.index as usize * roko_wire::limits::CHUNK_DATA_BYTES;
                body[at..at + chunk.data.len()].copy_from_slice(chunk.data);
                missing -= 1;
            }
            Message::PullCertificate(view) => {
                assert_eq!((view, frame.kind), (View(9), MessageKind::PullCertificate));
                pulls += 1;
            }
            other => panic!("not sent here: {other:?}"),
        }
    }
    assert_eq!(body, block.body());
    let mut back = None;
    wait("the block's return", &mut *step, || {
        back = zero.returned.pop();
        back.is_some()
    });
    drop(back);
    assert_eq!(Arc::strong_count(&shared), 1, "spread keeps nothing");
}

/// Abandoned, the transactions are pending again, and below the next watermark they are stamped anew.
fn is_abandoned(clock: &ClockPage, zero: &mut Control, txs: usize, step: &mut dyn FnMut()) {
    assert!(zero.order.push(OrderCommand::PutBack { tag: 1 }).is_ok());
    let watermark = now(clock);
    assert!(zero.order.push(OrderCommand::Watermark { watermark }).is_ok());
    wait("stamping anew", &mut *step, || value(zero, "order", "stamped_late") == txs as u64);
    let span = Span { from: watermark, watermark: now(clock).saturating_add(1_000_000), after: watermark };
    let again = drain(zero, 2, span, step);
    check_body(&again, txs);
    assert!(again.candidates().iter().all(|candidate| candidate.proof.late_times > 0));
    assert!(zero.builder.push(BuilderCommand::Release(again)).is_ok());
    assert!(zero.order.push(OrderCommand::Finalize { tag: 2, now: now(clock) }).is_ok());
    wait("finality", &mut *step, || value(zero, "order", "in_flight") == 0);
    assert_eq!(value(zero, "order", "pending"), 0);
}

fn submit_all(net_client: &mut roko_pipeline::client::ClientPort<InProcessPort>, wires: &[Vec<u8>]) {
    for (number, chunk) in wires.chunks(10).enumerate() {
        let refs: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
        net_client.submit(number % 2, &refs).expect("the port has room");
    }
    assert!(net_client.flush());
}

#[test]
fn a_block_goes_all_the_way_on_one_thread() {
    let Net { stages, mut controls, mut client, clock, .. } = Net::new(2);
    let mut poll = PollLoop::new(stages, Idle::Spin, Arc::default());
    let wires = transfers(0..20, 0..10);
    submit_all(&mut client, &wires);
    let mut seen = [0; 2];
    let mut step = || {
        poll.turn();
        poll.keep_house();
    };
    wait("pooling", &mut step, || {
        controls.iter_mut().zip(&mut seen).all(|(control, seen)| count_seen(control, seen) == wires.len())
    });
    run_a_block(&clock, &mut controls, wires.len(), &mut step);
    // Half of the transactions came by the other validator's batches, of up to five each.
    let stamped: u64 = controls.iter().map(|control| value(control, "verify", "batches_stamped")).sum();
    assert_eq!(stamped, wires.len() as u64 / 5);
    // Each stage tells a latency for each item that passed it, and no other.
    for control in &controls {
        let is = |stage, since, label| {
            let told = latencies(control).into_iter().find(|row| (row.0, row.1) == (stage, since));
            let of = if stage == "tx" { "spread" } else { stage };
            assert_eq!(told, Some((stage, since, value(control, of, label))), "{stage} since {since}");
        };
        is("filter", "wire", "passed");
        is("decode", "wire", "passed");
        is("open", "wire", "opened");
        is("verify", "wire", "passed");
        is("order", "wire", "inserted");
        for stage in ["spread", "tx"] {
            is(stage, "wire", "frames_relay");
            is(stage, "asked", "frames_consensus");
        }
    }
    // Validator 0 stamped half of the first block, and all of the second one anew; it built the first one twice.
    let built = latencies(&controls[0]).into_iter().find(|row| row.0 == "builder").expect("a row").2;
    assert!(built > 100 + 200 && built < 100 + 100 + 200, "{built} latencies of built transactions");
    let verify = controls[0].metrics.iter().find(|metrics| metrics.stage() == "verify").unwrap();
    let ticks = |regime| verify.regime_ticks(regime);
    assert!(ticks(Regime::Processing) > ticks(Regime::Housekeeping), "200 signatures outweigh a few stores");
}

#[test]
fn a_block_goes_all_the_way_with_a_thread_for_every_stage() {
    let Net { stages, mut controls, mut client, clock, .. } = Net::new(2);
    let stop = Arc::new(AtomicBool::new(false));
    let idle = Idle::Backoff { spins: 0, yields: 1, sleep_us_max: 200 };
    let threads: Vec<_> = stages
        .into_iter()
        .map(|stage| {
            let poll = PollLoop::new(vec![stage], idle, Arc::clone(&stop));
            std::thread::spawn(move || poll.run().len())
        })
        .collect();
    let wires = transfers(0..20, 0..10);
    submit_all(&mut client, &wires);
    let mut step = || std::thread::sleep(Duration::from_micros(200));
    let mut seen = [0; 2];
    wait("pooling", &mut step, || {
        controls.iter_mut().zip(&mut seen).all(|(control, seen)| count_seen(control, seen) == wires.len())
    });
    run_a_block(&clock, &mut controls, wires.len(), &mut step);
    stop.store(true, Ordering::Relaxed);
    assert!(threads.into_iter().all(|thread| thread.join().expect("no stage panics") == 1));
}

#[test]
fn the_nodes_own_rpc_is_stamped_as_system_time_and_told_when_the_node_is_busy() {
    let mut node = Lone::new();
    let received = roko_pipeline::clock::Received {
        moment: now(&node.clock),
        bound_ns: 5_000,
        source: roko_wire::nano::ClockSource::Ptp,
        by: roko_wire::port_clock::StampedBy::Hardware,
    };
    let wires = transfers(0..300, 0..1);
    let taken = wires.iter().take_while(|wire| node.control.injector.submit(wire, received).is_ok()).count();
    assert_eq!(taken, 256, "the ring's depth");
    node.settle();
    assert_eq!(node.count("order", "inserted"), 256);
    let seen = node.control.seen.pop().expect("it is reported");
    assert_eq!((seen.stamp.source, seen.own), (roko_wire::nano::ClockSource::System.into(), true));
    assert!(node.control.injector.submit(&wires[299], received).is_ok());
    assert!(node.control.injector.submit(&[0; 2_000], received).is_err());
}

#[test]
fn a_new_epochs_seed_reorders_what_is_pooled() {
    let mut node = Lone::new();
    let received = roko_pipeline::clock::Received {
        moment: now(&node.clock),
        bound_ns: 5,
        source: roko_wire::nano::ClockSource::System,
        by: roko_wire::port_clock::StampedBy::Poll,
    };
    for wire in transfers(0..50, 0..1) {
        node.control.injector.submit(&wire, received).expect("it has room");
    }
    node.settle();
    let span = Span { from: START, watermark: NanoMoment(received.moment.0 + 1_000_000), after: START };
    let seed = Hash32([8; 32]);
    let commands = [
        OrderCommand::Seed { seed },
        OrderCommand::Drain { tag: 1, span, limits: LIMITS },
        OrderCommand::Drain { tag: 2, span, limits: LIMITS },
    ];
    for command in commands {
        node.control.order.push(command).expect("it has room");
    }
    node.settle();
    // The first drain finds the places of the old seed and mends them; the second has all.
    let (old, new) = (node.control.built.pop().unwrap(), node.control.built.pop().unwrap());
    assert_eq!((old.candidates().len(), new.candidates().len()), (0, 50));
    let keys: Vec<_> = new.candidates().iter().map(|candidate| tie_break(&seed, &candidate.id)).collect();
    assert!(keys.is_sorted(), "one time, so the seed decides");
    check_body_is_empty(&old);
}

fn check_body_is_empty(block: &BlockBuffer) {
    assert!(BodyView::access(block.body()).expect("an empty body is a body").is_empty());
}
