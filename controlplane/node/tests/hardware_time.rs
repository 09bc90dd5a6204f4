//! A card's clock end to end: a simulated card stamps the frames of a `net_ring` port, the clock's thread maps its clock, and
//! the stamp in the mempool says what the card said, within the stated bound. The card drifts, is stepped and fails.
//!
//! The card is emulated: a receive callback of DPDK's stamps with a clock that follows from the CPU's counter, so the truth
//! is known. Everything behind it is what a real card would meet.
#![cfg(feature = "dpdk")]

#[path = "../../../dataplane/pipeline/tests/common/mod.rs"]
mod common;

use common::*;
use roko_dpdk::{
    Eal, EalConfig, MbufPool, PoolConfig, PortConfig, RxClock, StampEvery, TimestampField, ring_link,
    ring_port,
};
use roko_os::tsc::tsc;
use roko_pipeline::assembly::{ControlEnds, Depths, assemble};
use roko_pipeline::client::ClientPort;
use roko_pipeline::idle::Idle;
use roko_pipeline::link::Seen;
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::RxStamps;
use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort, DpdkStamps};
use roko_pipeline::switch::Switch;
use roko_time::map::Settings;
use roko_time::port_map::PortSettings;
use roko_time::simulated::{SimulatedControl, SimulatedPhc};
use roko_time::{ClockDriver, NodeClock, Source, Sources};
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::port_clock::{PortMap, PortUnit, StampedBy};
use roko_wire::stamp::StampSource;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How often maps are renewed; shorter than a node's, so that the test is.
const INTERVAL: Duration = Duration::from_millis(20);
/// What every wait of this test may take, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(30);
/// The frame was at the wire so many ticks before the receive callback ran: some 50 microseconds.
const WIRE_TICKS: u64 = 120_000;

/// The simulated card: it stamps each frame with its clock at the wire, and tells the test the counter then.
struct Card {
    clock: SimulatedPhc,
    truth: Sender<u64>,
}

impl RxClock for Card {
    fn read(&mut self) -> u64 {
        let at_wire = tsc() - WIRE_TICKS;
        // The test has ended when nobody listens.
        let _ = self.truth.send(at_wire);
        self.clock.count_at(at_wire)
    }
}

/// A validator on a `net_ring` port with a simulated card, and a client.
struct Rig {
    poll: PollLoop,
    control: ControlEnds<DpdkPort>,
    client: ClientPort<DpdkLink>,
    clock: NodeClock,
    _driver: ClockDriver,
    truth: Receiver<u64>,
    card: SimulatedControl,
    /// Transactions not yet sent.
    wires: Vec<Vec<u8>>,
    _keep: Box<dyn std::any::Any>,
}

impl Rig {
    fn new(eal: &Eal, pool: &MbufPool, unit: PortUnit, number: usize) -> Rig {
        let (mut port, far) = ring_port(eal, &format!("card{number}"), 256).expect("a port");
        let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
        let (mut rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
        let field = TimestampField::register(eal).expect("the field exists everywhere");
        // Nanoseconds at about the right rate: some 40 ppm off whatever the counter's is. Ticks: a 156.25 MHz oscillator.
        let per_tick_q32 = match unit {
            PortUnit::Nanoseconds => nanos_per_tick_q32() + (nanos_per_tick_q32() / 25_000),
            PortUnit::Ticks => nanos_per_tick_q32() / 100 * 15,
        };
        let (phc, card) = SimulatedPhc::new(unit, 3_000_000_000_000, per_tick_q32);
        let (truth_out, truth) = channel();
        let stamper = Card { clock: phc.clone(), truth: truth_out };
        rx.stamp_with(field, StampEvery::Packet, Box::new(stamper)).expect("a callback can be added");

        // A source without an error of its own, so that the stamps' bound is that of the maps.
        let (reference, _) = SimulatedPhc::new(PortUnit::Nanoseconds, START.0 as u64, nanos_per_tick_q32());
        let node = Source::Phc { clock: Box::new(reference), ahead_ns: 0 };
        let sources = Sources { node, port: Some((Box::new(phc), PortSettings::card(unit))) };
        let settings = Settings::phc(ClockSource::Ptp, 0, 1_000_000, 5_000);
        let (clock, driver) =
            ClockDriver::start(sources, settings, INTERVAL, true, |_| {}).expect("both clocks run");

        let mut config = config(0, 1);
        config.port_clock = clock.port_page();
        config.depths = Depths { to_verify: 512, ..Depths::default() };
        let stamps = DpdkStamps::EveryFrame(field, unit);
        let node_port = DpdkPort::new(rx, tx, pool.clone(), "net_ring", stamps);
        let sessions = Box::new(NamedSessions { this: 0, validators: 1 });
        let plane = assemble(node_port, config, vec![sessions], clock.page()).expect("the settings fit");
        assert_eq!(plane.control.rx_stamps, RxStamps::EveryFrame(unit));
        let (near, other) = ring_link(eal, &format!("client{number}"), 256).expect("a link");
        let client = ClientPort::new(DpdkLink::new(near, pool.clone()), &[link(1, 0)]);
        let mut switch = Switch::new(vec![(far.rx, far.tx), (other.rx, other.tx)]);
        switch.learn(addresses(0, 0).source_mac, 0);
        let mut stages: Vec<Box<dyn Stage>> = plane.stages.into_iter().map(|(_, stage)| stage).collect();
        stages.push(Box::new(switch));
        let poll = PollLoop::new(stages, Idle::Spin, Arc::default());
        let wires = transfers(0..200, 0..1);
        Rig {
            poll,
            control: plane.control,
            client,
            clock,
            _driver: driver,
            truth,
            card,
            wires,
            _keep: Box::new(port),
        }
    }

    fn port_map(&self) -> PortMap {
        self.clock.port_page().expect("the port has a clock").read()
    }

    /// Waits until the port's map is as asked.
    fn wait(&self, what: &str, fits: impl Fn(&PortMap) -> bool) -> PortMap {
        let until = Instant::now() + PATIENCE;
        loop {
            let map = self.port_map();
            if fits(&map) {
                return map;
            }
            assert!(Instant::now() < until, "the map does not become {what}: {map:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends one transaction and returns its report from the mempool and the counter when it was at the wire.
    fn receive(&mut self) -> (Seen, u64) {
        // The queue is seen empty, so that what the poll knows of the frame is as fresh as on a machine of its own.
        self.poll.turn();
        let wire = self.wires.pop().expect("there are enough");
        self.client.submit(0, &[&wire]).expect("the link has room");
        let until = Instant::now() + PATIENCE;
        loop {
            self.poll.turn();
            if let Some(seen) = self.control.seen.pop() {
                return (seen, self.truth.try_recv().expect("the card stamped it"));
            }
            assert!(Instant::now() < until, "the transaction is not pooled");
        }
    }

    /// A frame that the card stamps: the stamp is the card's, and the truth is within its bound. Returns the bound.
    fn card_stamps(&mut self, what: &str) -> u64 {
        let refused = self.count("stamp_refused");
        let (seen, at_wire) = self.receive();
        let truth = self.clock.map().reading(at_wire);
        let (stamp, off) = (seen.stamp, seen.stamp.time.0.abs_diff(truth.now.0));
        assert!(off <= u128::from(stamp.bound_ns + truth.error_bound_ns), "{what}: {off} ns off, {stamp:?}");
        let by_card = StampSource { clock: ClockSource::Ptp, by: StampedBy::Hardware };
        assert_eq!((stamp.source, self.count("stamp_refused")), (by_card, refused), "{what}");
        assert!(off < 20_000, "{what}: {off} ns off: the poll's time would be 50 us off");
        stamp.bound_ns
    }

    /// A frame whose stamp cannot be used: the poll's time is in the stamp, and the truth is within its bound.
    fn poll_stamps(&mut self, what: &str) {
        let (by_poll, refused) = (self.count("poll_stamped"), self.count("stamp_refused"));
        let before = tsc();
        let (seen, _) = self.receive();
        let (from, to) = (self.clock.map().reading(before), self.clock.map().reading(tsc()));
        let stamp = seen.stamp;
        assert_eq!(stamp.source.by, StampedBy::Poll, "{what}");
        assert!(stamp.time.saturating_add(stamp.bound_ns) >= from.earliest(), "{what}: {stamp:?}");
        assert!(stamp.time.saturating_sub(stamp.bound_ns) <= to.latest(), "{what}: {stamp:?}");
        let counted = (self.count("poll_stamped"), self.count("stamp_refused"));
        assert_eq!(counted, (by_poll + 1, refused + 1), "{what}");
    }

    fn count(&mut self, label: &str) -> u64 {
        self.poll.keep_house();
        let rx = self.control.metrics.iter().find(|metrics| metrics.stage() == "rx");
        rx.expect("every data plane has it").value(label)
    }
}

/// The counter's rate, measured over 20 ms.
fn nanos_per_tick_q32() -> u64 {
    static RATE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *RATE.get_or_init(|| {
        let (began, from) = (roko_os::clock::monotonic_raw_ns(), tsc());
        std::thread::sleep(Duration::from_millis(20));
        let (ended, to) = (roko_os::clock::monotonic_raw_ns(), tsc());
        ((u128::from(ended - began) << 32) / u128::from(to - from)) as u64
    })
}

#[test]
fn the_stamp_in_the_mempool_is_what_the_card_said() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let pool_config = PoolConfig { mbufs: 8_191, ..PoolConfig::default() };
    let pool = eal.pool("frames", &pool_config).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");

    let mut rig = Rig::new(&eal, &pool, PortUnit::Nanoseconds, 0);
    rig.wait("converged", |map| map.state == ClockState::Converged);
    let bounds: Vec<u64> = (0..30).map(|_| rig.card_stamps("in lock")).collect();
    eprintln!(
        "bounds of the stamps in lock: {} to {} ns",
        bounds.iter().min().unwrap(),
        bounds.iter().max().unwrap()
    );
    assert!(bounds.iter().all(|bound| *bound < 100_000), "{bounds:?}");

    // Its oscillator runs 30 ppm faster from now on: followed, without a step.
    rig.card.drift(30_000);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        rig.card_stamps("drifting");
    }
    assert_eq!(rig.clock.status().port_faults(), (0, 0));

    // It is set forward and back by more than a frame may wait: before the clock's thread knows, rx does.
    for (number, step) in [50_000_000, -70_000_000].into_iter().enumerate() {
        rig.card.step(step);
        rig.poll_stamps("just stepped");
        rig.wait("measured anew", |map| map.state == ClockState::Initializing);
        rig.poll_stamps("stepped and known to be");
        rig.wait("usable again", |map| map.state == ClockState::Converging);
        rig.card_stamps("after the step");
        assert_eq!(rig.clock.status().port_faults().0, number as u64 + 1);
    }

    // It cannot be read: held over with a bound that grows, until its stamps are not used any more.
    rig.wait("converged again", |map| map.state == ClockState::Converged);
    let before = rig.card_stamps("before the failure");
    rig.card.fail(true);
    rig.wait("held over", |map| map.state == ClockState::Holdover);
    let held = rig.card_stamps("held over");
    std::thread::sleep(Duration::from_millis(600));
    let later = rig.card_stamps("held over for longer");
    assert!(later > held && later > before, "{before} {held} {later}");
    let limit_ns = PortSettings::card(PortUnit::Nanoseconds).bound_ns_max;
    let until = Instant::now() + PATIENCE;
    let count = |rig: &Rig| rig.port_map().bound_ticks_at(card_count(rig));
    while count(&rig) <= rig.port_map().bound_ticks_max {
        assert!(Instant::now() < until, "the bound does not reach {limit_ns} ns: {:?}", rig.port_map());
        std::thread::sleep(Duration::from_millis(20));
    }
    rig.poll_stamps("past the limit");
    rig.card.fail(false);
    rig.wait("followed again", |map| map.state == ClockState::Converged);
    rig.card_stamps("after the failure");
    drop(rig);

    // The other mode: free-running ticks, whose rate nobody tells.
    let mut rig = Rig::new(&eal, &pool, PortUnit::Ticks, 1);
    rig.wait("converged", |map| map.state == ClockState::Converged);
    (0..10).for_each(|_| assert!(rig.card_stamps("ticks") < 100_000));
    drop(rig);
    assert_eq!(pool.available_count(), pool.count(), "every frame came home");
}

/// What the card shows now, by its map: good enough to ask how far the map may be off.
fn card_count(rig: &Rig) -> u64 {
    let (map, now) = (rig.port_map(), tsc());
    let ticks = u128::from(now.saturating_sub(map.tsc_base));
    map.base + ((ticks << 32) / u128::from(map.tsc_per_count_q32)) as u64
}
