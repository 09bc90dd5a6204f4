//! A client and a validator over DPDK's virtual ports: what the port's clock says is what the stamp says, for frames that come
//! and for event frames that leave.
#![cfg(feature = "dpdk")]

mod common;

use common::*;
use core::sync::atomic::{AtomicU64, Ordering};
use roko_dpdk::{
    Eal, EalConfig, ManualClock, Mbuf, PoolConfig, PortConfig, StampEvery, TimestampField, ring_link,
    ring_port,
};
use roko_os::tsc::tsc;
use roko_pipeline::assembly::{Depths, assemble};
use roko_pipeline::client::ClientPort;
use roko_pipeline::event::{Departure, EventPort};
use roko_pipeline::idle::Idle;
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::RxStamps;
use roko_pipeline::port::dpdk::{Departures, DpdkLink, DpdkPort, DpdkStamps};
use roko_pipeline::switch::Switch;
use roko_ring::seqlock::page;
use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::port_clock::{PortMap, PortTime, PortUnit, StampedBy};
use roko_wire::stamp::{Stamp, StampSource};
use std::sync::Arc;

/// A simulated card's departure register: it is stamped when the test says so.
struct Register(Arc<RegisterState>);

#[derive(Default)]
struct RegisterState {
    marked: AtomicU64,
    sent: AtomicU64,
    /// The stamp to give next, ticks; 0 is none.
    stamp: AtomicU64,
}

impl Departures for Register {
    fn mark(&mut self, frame: &mut Mbuf) {
        frame.request_tx_register_timestamp();
        self.0.marked.fetch_add(1, Ordering::Relaxed);
    }
    fn sent(&mut self) {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
    }
    fn take(&mut self) -> Option<PortTime> {
        match self.0.stamp.swap(0, Ordering::Relaxed) {
            0 => None,
            ticks => Some(PortTime::Ticks(ticks)),
        }
    }
}

/// The card's clock by the node's counter.
fn map_of_card(began_tsc: u64) -> PortMap {
    PortMap {
        tsc_base: began_tsc,
        tsc_per_count_q32: 1 << 32,
        tsc_per_count_q32_before: 1 << 32,
        bound_ticks: 40,
        bound_ticks_max: 100,
        state: ClockState::Converged,
        ..PortMap::none(PortUnit::Ticks)
    }
}

/// The node's time by its counter: two ticks are a nanosecond.
fn map_of_node(began_tsc: u64) -> ClockMap {
    ClockMap {
        tsc_base: began_tsc,
        base: START,
        nanos_per_tick_q32: 1 << 31,
        bound_ns: 15,
        drift_ppb: 0,
        bound_ns_max: 100,
        source: ClockSource::Ptp,
        state: ClockState::Converged,
    }
}

/// A stamp is what the card `said`, or of the poll between these moments when the card cannot be believed.
fn check_stamp(stamp: &Stamp, said: Option<NanoMoment>, (sent, now): (NanoMoment, NanoMoment)) {
    let by = if said.is_some() { StampedBy::Hardware } else { StampedBy::Poll };
    assert_eq!(stamp.source, StampSource { clock: ClockSource::Ptp, by });
    if let Some(moment) = said {
        // A bound is rounded up to four bits.
        assert_eq!((stamp.time, stamp.bound_ns), (moment, 36));
    } else {
        assert!(stamp.time >= sent && stamp.time <= now, "the poll's time");
        assert!(stamp.bound_ns > 36, "the time since the queue was empty is part of it: {stamp:?}");
    }
}

#[test]
fn the_ports_times_become_the_stamps() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config_of_pool = PoolConfig { mbufs: 8_191, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config_of_pool).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");

    let (mut port, far) = ring_port(&eal, "validator", 256).expect("a port");
    let mut queues = port.start(&PortConfig::default(), &pool).expect("it starts");
    let (mut rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
    let field = TimestampField::register(&eal).expect("the field exists everywhere");
    // The simulated card's clock began at 0 some ticks ago and runs as the counter does; its map says so.
    let began_tsc = tsc() - 1_000_000;
    let ticks = Arc::new(AtomicU64::new(0));
    rx.stamp_with(field, StampEvery::Packet, Box::new(ManualClock::new(Arc::clone(&ticks), 1)))
        .expect("a callback can be added");
    let (_nic_writer, nic_clock) = page(map_of_card(began_tsc));
    let map = map_of_node(began_tsc);
    let (_writer, clock) = page(map);
    let mut settings = config(0, 1);
    settings.port_clock = Some(nic_clock);
    settings.depths = Depths { to_verify: 512, ..Depths::default() };
    let register = Arc::new(RegisterState::default());
    let stamps = DpdkStamps::EveryFrame(field, PortUnit::Ticks);
    let port = DpdkPort::new(rx, tx, pool.clone(), "net_ring", stamps)
        .with_departures(Box::new(Register(Arc::clone(&register))));
    let sessions = Box::new(NamedSessions { this: 0, validators: 1 });
    let plane = assemble(port, settings, vec![sessions], clock.clone()).expect("the settings fit");
    let mut control = plane.control;
    assert_eq!((control.port_kind, control.rx_stamps), ("net_ring", RxStamps::EveryFrame(PortUnit::Ticks)));

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
        // Every third frame bears a time that has not come yet: the card was set forward.
        let is_true = number % 3 != 2;
        let time = tsc() - began_tsc + if is_true { 0 } else { 1 << 40 };
        ticks.store(time, Ordering::Relaxed);
        client.submit(0, &refs).expect("the link has room");
        let (sent, began) = (tsc(), std::time::Instant::now());
        let mut seen = Vec::new();
        while seen.len() < 5 {
            poll.turn();
            seen.extend(control.seen.pop());
            assert!(began.elapsed().as_secs() < 20, "pooling takes too long");
        }
        for one in seen {
            let said = is_true.then(|| map.moment(began_tsc + time));
            check_stamp(&one.stamp, said, (map.moment(sent), map.moment(tsc())));
        }
    }
    departures(&mut control.events, &mut poll, (&pool, &register), (began_tsc, &map));
    poll.keep_house();
    let rx = control.metrics.iter().find(|metrics| metrics.stage() == "rx").expect("it exists");
    let counted = ["hardware_stamped", "stamp_refused", "poll_stamped", "passed"].map(|name| rx.value(name));
    assert_eq!(counted, [20, 10, 10, 30]);
    let tx = control.metrics.iter().find(|metrics| metrics.stage() == "tx").expect("it exists");
    let counted =
        ["events_sent", "departures_stamped", "departures_late", "departures_missed", "departures_stray"];
    assert_eq!(counted.map(|name| tx.value(name)), [4, 1, 1, 2, 2]);
    drop((poll, control, client));
    assert_eq!(pool.available_count(), pool.count(), "every frame came home");
}

/// Four event frames: one that is stamped at once, one late, one whose register holds what cannot be true, one that is never
/// stamped.
fn departures(
    events: &mut EventPort<Mbuf>,
    poll: &mut PollLoop,
    (pool, register): (&roko_dpdk::MbufPool, &RegisterState),
    (began_tsc, map): (u64, &ClockMap),
) {
    let mut send = |poll: &mut PollLoop, stamped: &mut dyn FnMut(u64, u64) -> u64| {
        let frame = pool.alloc_from(&[0x5a; 64]).expect("a frame is free");
        let id = events.send(frame).expect("few are under way");
        // A stamp that nobody waited for is in the register: it must not be taken for this frame's.
        let stale = if id.0 == 0 { tsc() - began_tsc } else { 0 };
        register.stamp.store(stale, Ordering::Relaxed);
        let began = std::time::Instant::now();
        let from = tsc();
        loop {
            poll.turn();
            if let Some(report) = events.departed() {
                assert_eq!(report.id, id);
                break report.departure;
            }
            if register.sent.load(Ordering::Relaxed) == id.0 + 1 {
                let stamp = stamped(from, tsc());
                if stamp > 0 {
                    register.stamp.store(stamp - began_tsc, Ordering::Relaxed);
                }
            }
            assert!(began.elapsed().as_secs() < 20, "no departure is forgotten");
        }
    };
    let mut left_at = 0;
    let mut stamp_at_once = || {
        send(poll, &mut |_, now| {
            left_at = now;
            now
        })
    };
    // A thread that loses its core meanwhile asks too late: then another frame is sent.
    let at = (0..50).find_map(|_| match stamp_at_once() {
        Departure::Stamped(at) => Some(at),
        Departure::Late(_) | Departure::Missed => None,
    });
    let at = at.expect("one of fifty departures is asked for in time");
    // Between the register's setting and its reading the test sets it again: what counts is a time after the sending.
    assert!(at.moment <= map.moment(left_at) && at.bound_ns == 35 && at.by == StampedBy::Hardware, "{at:?}");
    let mut stamp_late = || send(poll, &mut |from, now| if now - from > 4 * 2_500_000 { now } else { 0 });
    assert!(
        (0..50).any(|_| matches!(stamp_late(), Departure::Late(_))),
        "one of fifty is late and not missed"
    );
    let mut is_first = true;
    let before = send(poll, &mut |from, _| if core::mem::take(&mut is_first) { from - 900_000 } else { 0 });
    assert_eq!(before, Departure::Missed, "a stamp from before the frame was sent is not its own");
    assert_eq!(send(poll, &mut |_, _| 0), Departure::Missed);
    assert_eq!(register.marked.load(Ordering::Relaxed), 4);
    assert_eq!(events.tally().read(), [4, 1, 1, 2]);
}
