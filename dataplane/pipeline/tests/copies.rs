//! What a frame holds is not copied on its way: the memory that the port gave is the memory that order copies the
//! transactions from, into the pool. Copies are told by addresses, on the real stages.

mod common;

use common::*;
use ed25519_zebra::VerificationKey;
use roko_pipeline::clock::ClockPage;
use roko_pipeline::decode::{ADMITTED_DEPTH, Decode, DecodeLanes, ToOpen};
use roko_pipeline::filter::Filter;
use roko_pipeline::lanes::Owners;
use roko_pipeline::link::StampedFrame;
use roko_pipeline::open::{FromDecode, Open, OpenLinks, PeerRates};
use roko_pipeline::poll::{PollContext, Stage};
use roko_pipeline::port::inprocess::{InProcessBuf, InProcessPool, pair};
use roko_pipeline::port::{Burst, FrameBuf, FramePool, Port, RxStamps, TxPort};
use roko_pipeline::rx::Rx;
use roko_pipeline::verify::{Verify, VerifyLinks};
use roko_ring::spsc::{Consumer, ring};
use roko_wire::codec::Sink;
use roko_wire::nano::ClockSource;
use roko_wire::stamp::{Stamp, write_signed_batch};
use roko_wire::{NanoMoment, ValidatorIndex};

/// Sends one frame from a station to validator 0, polls the stages up to verify, and returns the address that its bytes had at
/// the sender's port, and what order would get.
fn through_the_stages(
    from: Station,
    message: &[u8],
) -> (core::ops::Range<usize>, Vec<StampedFrame<InProcessBuf>>) {
    let (_writer, clock) = clock();
    let pool = InProcessPool::new(64);
    let (near, far) = pair(64, (pool.clone(), pool.clone()));
    let (_, mut tx, _) = far.split();
    let (mut stages, mut to_order) = stages(near, pool.clone(), &clock);

    let link = link(from, 0);
    let frame = sealed(&mut sealer(&link), &link.addresses, message);
    let mut buf = pool.alloc().expect("a frame is free");
    buf.set_len(frame.len());
    buf.data_mut().copy_from_slice(&frame);
    let memory = buf.data().as_ptr_range();
    let mut burst = Burst::new();
    burst.push(buf);
    assert_eq!(tx.tx_burst(&mut burst), 1, "the ring has room");

    let mut out = Vec::new();
    for _ in 0..10 {
        for stage in &mut stages {
            stage.poll(&mut PollContext { tsc: roko_os::tsc::tsc() });
        }
        to_order.pop_each(usize::MAX, |frame| out.push(frame));
        // An own batch waits a while for company.
        std::thread::sleep(std::time::Duration::from_micros(300));
    }
    (memory.start.addr()..memory.end.addr(), out)
}

type Stages = Vec<Box<dyn Stage>>;

/// The stages from rx to verify, as a node joins them.
fn stages(
    port: roko_pipeline::port::inprocess::InProcessPort,
    pool: InProcessPool,
    clock: &ClockPage,
) -> (Stages, Consumer<StampedFrame<InProcessBuf>>) {
    let config = config(0, 2);
    let (rx, _, _) = port.split();
    let (rx_out, filter_in) = ring(64);
    let (filter_out, decode_in) = ring(64);
    let (decode_out, open_in) = ring(64);
    let (established, established_in) = ring(16);
    let (retired_out, retired) = ring(16);
    let (admitted_out, admitted) = ring(ADMITTED_DEPTH);
    let (to_verify, verify_in) = ring(64);
    let (to_control, _) = ring(64);
    let (_, moved) = ring(16);
    let (_, injected) = ring(16);
    let (_, finals) = ring(16);
    let (to_order, out) = ring(64);
    let (to_spread, _) = ring(64);
    let sessions = Box::new(NamedSessions { this: 0, validators: 2 });
    let from = vec![FromDecode { frames: open_in, admitted, retired, established }];
    let open = OpenLinks { from, to_verify, to_control };
    let to = vec![ToOpen {
        frames: decode_out,
        admitted: admitted_out,
        retired: retired_out,
        established: established_in,
    }];
    let lanes = DecodeLanes { own: 0, owners: Owners::new(1), to };
    let verify = VerifyLinks { input: verify_in, injected, finals, to_order, to_spread, pool };
    assert_eq!(config.verify.validators[1], VerificationKey::from(&node_key(1)));
    let stages: Stages = vec![
        Box::new(Rx::new((rx, RxStamps::Poll), clock.clone(), None, rx_out)),
        Box::new(Filter::new(config.filter, clock.clone(), moved, filter_in, filter_out)),
        Box::new(Decode::new(8, sessions, clock.clone(), decode_in, lanes)),
        Box::new(Open::new(8, clock.clone(), PeerRates::UNLIMITED, open)),
        Box::new(Verify::new(config.verify, 8, clock.clone(), verify)),
    ];
    (stages, out)
}

#[test]
fn a_validators_batch_stays_where_the_port_put_it_until_order_copies_it() {
    let wires = transfers(0..1, 0..5);
    let ingress = ValidatorIndex(1);
    let time = START.saturating_add(1_000);
    let stamp = Stamp { time, bound_ns: 10, source: ClockSource::Ptp.into(), ingress };
    let txs: Vec<(NanoMoment, &[u8])> = wires.iter().map(|wire| (stamp.time, wire.as_slice())).collect();
    let mut message = Vec::new();
    message.put_u8(2);
    write_signed_batch(&node_key(1), CHAIN, &stamp, &txs, &mut message);
    let (memory, frames) = through_the_stages(1, &message);
    let [frame] = frames.as_slice() else { panic!("one frame, not {}", frames.len()) };
    let read: Vec<&[u8]> = frame.txs.iter().map(|tx| tx.wire.of(frame.buf.data())).collect();
    assert_eq!(read, wires, "the transactions, opened in place");
    for wire in read {
        let from = wire.as_ptr().addr();
        assert!(memory.start <= from && from + wire.len() <= memory.end, "no stage has copied it");
    }
}

#[test]
fn a_clients_transfers_leave_their_frame_for_the_batch_that_goes_to_everybody() {
    let wires = transfers(0..1, 0..3);
    let (memory, frames) = through_the_stages(2, &submit_message(&wires));
    let [frame] = frames.as_slice() else { panic!("one frame, not {}", frames.len()) };
    let read: Vec<&[u8]> = frame.txs.iter().map(|tx| tx.wire.of(frame.buf.data())).collect();
    assert_eq!(read, wires);
    assert!(frame.own && !memory.contains(&frame.buf.data().as_ptr().addr()), "a frame of its own");
}
