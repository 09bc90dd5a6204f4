//! After warm-up, thousands of transactions go end to end and the poll thread allocates nothing.

mod common;

use common::*;
use roko_os::alloc_count::{CountingAllocator, allocations_on_this_thread};
use roko_pipeline::builder::BuilderCommand;
use roko_pipeline::idle::Idle;
use roko_pipeline::order::OrderCommand;
use roko_pipeline::poll::PollLoop;
use roko_pipeline::spread::{SpreadBlock, SpreadBlockTask, Target};
use roko_ring::mempool::{Limits, Span};
use roko_wire::{BlockId, View};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Turns the loop until `done`, and returns the allocations of the turns alone.
fn turn_until(poll: &mut PollLoop, mut done: impl FnMut() -> bool) -> u64 {
    let mut allocated = 0;
    for _ in 0..4_000_000 {
        if done() {
            return allocated;
        }
        let before = allocations_on_this_thread();
        poll.turn();
        allocated += allocations_on_this_thread() - before;
    }
    panic!("the stages do not come to an end");
}

/// One round: transactions from the client to both validators, a block at the first, its chunks to the second.
fn round(net: &mut Net, poll: &mut PollLoop, users: core::ops::Range<u32>, tag: u64) -> u64 {
    let txs = users.len() * 10;
    // One sender in ten signs Ethereum transactions.
    let ethereum = users.end - (users.len() / 10) as u32;
    let wires =
        [transfers(users.start..ethereum, 0..10), ethereum_transfers(ethereum..users.end, 0..10)].concat();
    let mut allocated = 0;
    for (number, chunk) in wires.chunks(250).enumerate() {
        let refs: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
        net.client.submit(number % 2, &refs).expect("the port has room");
        let (mut seen, want) = ([0; 2], chunk.len());
        allocated += turn_until(poll, || {
            net.client.flush();
            for (control, seen) in net.controls.iter_mut().zip(&mut seen) {
                while control.seen.pop().is_some() {
                    *seen += 1;
                }
            }
            seen == [want; 2]
        });
    }
    let span = Span { from: START, watermark: now(&net.clock), after: START };
    let limits = Limits { txs: 2_000, bytes: 1 << 20, gas: u64::MAX };
    assert!(net.controls[0].order.push(OrderCommand::Drain { tag, span, limits }).is_ok());
    let mut block = None;
    allocated += turn_until(poll, || {
        block = net.controls[0].built.pop();
        block.is_some()
    });
    let block = block.expect("the turns end with a block");
    assert_eq!(block.included().len(), txs);
    let shared = Arc::new(SpreadBlock::new(
        BlockId([1; 32]),
        View(1),
        [0; 64],
        block.body().to_vec(),
        block.chunks().clone(),
    ));
    let task = SpreadBlockTask { block: Arc::clone(&shared), to: Target::Validators, chunks: 0..u32::MAX };
    assert!(net.controls[0].blocks.push(task).is_ok());
    let mut chunks = 0;
    allocated += turn_until(poll, || {
        while net.controls[1].frames.pop().is_some() {
            chunks += 1;
        }
        chunks == shared.chunk_count()
    });
    assert!(net.controls[0].builder.push(BuilderCommand::Release(block)).is_ok());
    for (control, tag) in net.controls.iter_mut().zip([tag, 0]) {
        assert!(control.order.push(OrderCommand::Finalize { tag, now: now(&net.clock) }).is_ok());
        while control.returned.pop().is_some() {}
    }
    // The second validator did not drain: there the transactions are final one by one.
    for wire in &wires {
        let (id, valid_until) = (roko_wire::tx::tx_id(wire), START.saturating_add(HOUR_NS));
        let command = OrderCommand::FinalizeId { id, valid_until, now: now(&net.clock) };
        assert!(net.controls[1].order.push(command).is_ok());
    }
    allocated + turn_until(poll, || net.controls[1].order.is_empty())
}

#[test]
fn the_poll_thread_allocates_nothing_after_warm_up() {
    let before = allocations_on_this_thread();
    drop(core::hint::black_box(vec![0u8; 64]));
    assert_eq!(allocations_on_this_thread(), before + 1, "the count counts");
    for lanes in [1, 2] {
        let mut net = Net::with_lanes(2, lanes);
        let stages = core::mem::take(&mut net.stages);
        let mut poll = PollLoop::new(stages, Idle::Spin, Arc::default());
        round(&mut net, &mut poll, 0..50, 1);
        let allocated: u64 = (1..4)
            .map(|number| round(&mut net, &mut poll, number * 100..number * 100 + 100, 1 + u64::from(number)))
            .sum();
        assert_eq!(allocated, 0, "3,000 transactions and three blocks in {lanes} lanes");
    }
}

#[test]
fn ports_of_the_kernel_and_of_captures_allocate_nothing_after_warm_up() {
    use roko_pipeline::pcap::PcapWriter;
    use roko_pipeline::port::inprocess::InProcessPool;
    use roko_pipeline::port::replay::ReplayPort;
    use roko_pipeline::port::udp::UdpPort;
    use roko_pipeline::port::{Burst, FrameBuf, FramePool, Port, RxPort, TxPort};
    use roko_wire::net::{Addresses, headers_bytes, write_headers};
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let open =
        |station| UdpPort::open(local, addresses(station, station).source_mac, InProcessPool::new(256), 64);
    let (mut allocated, mut frames) = (0, Vec::new());
    if let (Ok(a), Ok(b)) = (open(0), open(1)) {
        let way = Addresses {
            source_ip: local.ip(),
            destination_ip: local.ip(),
            source_port: a.own().port(),
            destination_port: b.own().port(),
            ..addresses(0, 1)
        };
        let ((_, mut tx, pool), (mut rx, ..)) = (a.split(), b.split());
        for round in 0..1_000 {
            let before = allocations_on_this_thread();
            let (mut burst, mut arrived) = (Burst::new(), 0);
            while let (false, Some(mut buf)) = (burst.is_full(), pool.alloc()) {
                buf.set_len(500);
                write_headers(&way, 500 - headers_bytes(&local.ip()), buf.data_mut()).expect("it fits");
                burst.push(buf);
            }
            while arrived < 32 {
                tx.tx_burst(&mut burst);
                let mut back = Burst::new();
                arrived += rx.rx_burst(&mut back);
                frames.extend(back.first().filter(|_| round == 0).map(|buf| buf.data().to_vec()));
            }
            allocated += if round < 10 { 0 } else { allocations_on_this_thread() - before };
        }
    }
    assert_eq!(allocated, 0, "32,000 datagrams");

    let mut file = Vec::new();
    let mut writer = PcapWriter::new(&mut file).expect("a vector takes everything");
    (0..10_000).for_each(|at| writer.write(at, &[7; 300]).expect("a vector takes everything"));
    let (port, state) = ReplayPort::new(file.as_slice(), InProcessPool::new(64)).expect("a good capture");
    let (mut rx, ..) = port.split();
    let (before, mut burst) = (allocations_on_this_thread(), Burst::new());
    for now in 0..10_000 {
        state.set_now(now);
        assert_eq!(rx.rx_burst(&mut burst), 1);
        burst.clear();
    }
    assert_eq!(allocations_on_this_thread() - before, 0, "10,000 frames of a capture");
}
