//! A client and a validator over DPDK's virtual ports: what the port's clock says is what the stamp says.
#![cfg(feature = "dpdk")]

mod common;

use common::*;
use core::sync::atomic::{AtomicU64, Ordering};
use roko_dpdk::{
    Eal, EalConfig, ManualClock, PoolConfig, PortConfig, StampEvery, TimestampField, ring_link, ring_port,
};
use roko_pipeline::assembly::{Depths, assemble};
use roko_pipeline::client::ClientPort;
use roko_pipeline::idle::Idle;
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::TimestampKind;
use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort};
use roko_pipeline::switch::Switch;
use roko_ring::seqlock::page;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use std::sync::Arc;

#[test]
fn the_ports_receive_time_becomes_the_stamp() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config_of_pool = PoolConfig { mbufs: 8_191, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config_of_pool).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");

    let (mut port, far) = ring_port(&eal, "validator", 256).expect("a port");
    let mut queues = port.start(&PortConfig::default(), &pool).expect("it starts");
    let (mut rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
    let field = TimestampField::register(&eal).expect("the field exists everywhere");
    // The simulated NIC clock counts microseconds, and its page says so.
    let ticks = Arc::new(AtomicU64::new(1_000_000));
    rx.stamp_with(field, StampEvery::Packet, Box::new(ManualClock::new(Arc::clone(&ticks), 1)))
        .expect("a callback can be added");
    let nic_map = ClockMap {
        tsc_base: 0,
        base: START,
        nanos_per_tick_q32: 1_000 << 32,
        bound_ns: 15,
        drift_ppb: 0,
        bound_ns_max: 100,
        source: ClockSource::Ptp,
        state: ClockState::Converged,
    };
    let (_nic_writer, nic_clock) = page(nic_map);
    let (_writer, clock) = clock();
    let mut settings = config(0, 1);
    settings.port_clock = Some(nic_clock);
    settings.depths = Depths { to_verify: 512, ..Depths::default() };
    let port = DpdkPort::new(rx, tx, pool.clone(), "net_ring", Some(field));
    let sessions = Box::new(NamedSessions { this: 0, validators: 1 });
    let plane = assemble(port, settings, sessions, clock.clone()).expect("the settings fit");
    let mut control = plane.control;
    assert_eq!((control.port_kind, control.timestamps), ("net_ring", TimestampKind::Hardware));

    let (near_client, far_client) = ring_link(&eal, "client", 256).expect("a link");
    let mut client = ClientPort::new(DpdkLink::new(near_client, pool.clone()), &[link(1, 0)]);
    let mut switch = Switch::new(vec![(far.rx, far.tx), (far_client.rx, far_client.tx)]);
    switch.learn(addresses(0, 0).source_mac, 0);
    let mut stages: Vec<Box<dyn Stage>> = plane.stages.into_iter().map(|(_, stage)| stage).collect();
    stages.push(Box::new(switch));
    let mut poll = PollLoop::new(stages, Idle::Spin, Arc::default());

    let wires = transfers(0..30, 0..5);
    for (number, wires) in wires.chunks(5).enumerate() {
        let refs: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
        let time = 2_000_000 + 1_000 * number as u64;
        ticks.store(time, Ordering::Relaxed);
        client.submit(0, &refs).expect("the link has room");
        let began = std::time::Instant::now();
        let mut seen = Vec::new();
        while seen.len() < 5 {
            poll.turn();
            seen.extend(control.seen.pop());
            assert!(began.elapsed().as_secs() < 20, "pooling takes too long");
        }
        for one in seen {
            assert_eq!(one.stamp.time, nic_map.moment(time), "frame {number}");
            assert_eq!((one.stamp.bound_ns, one.stamp.source), (15, ClockSource::Ptp));
        }
    }
    poll.keep_house();
    let rx = control.metrics.iter().find(|metrics| metrics.stage() == "rx").expect("it exists");
    assert_eq!((rx.value("hardware_stamped"), rx.value("passed")), (30, 30));
    drop((poll, control, client));
    assert_eq!(pool.available_count(), pool.count(), "every frame came home");
}
