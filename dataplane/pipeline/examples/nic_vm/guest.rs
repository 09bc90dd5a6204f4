//! The guest's half: opens the cards on `vfio-pci`, runs the stages, prints what the cards stamped, gives them back.

use crate::DEVICE;
use crate::turn::{Turn, Turned};
use roko_dpdk::{
    Eal, EalConfig, Error, MbufPool, PciDevices, PoolConfig, Port, PortConfig, Timesync, dpdk_version,
};
use roko_pipeline::event::event_ring;
use roko_pipeline::idle::Idle;
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::dpdk::{DpdkPort, DpdkStamps};
use roko_pipeline::port::{Port as _, RxStamps};
use roko_pipeline::rx::Rx;
use roko_pipeline::tx::Tx;
use roko_ring::seqlock::page;
use roko_ring::spsc::{Consumer, ring};
use roko_wire::NanoMoment;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Slots between two stages: the harness has one frame a port on its way.
const RING_SLOTS: usize = 64;
/// How long a link may take to come up: twice what auto-negotiation takes at most (IEEE 802.3, 28.3.2: about 5 s).
const LINK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the links.
const LINK_LOOK: Duration = Duration::from_millis(50);
/// How long the cards may see no event message before the guest gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A card in use.
struct Card {
    port: Port,
    name: String,
    metrics: [Arc<StageMetrics>; 3],
}

/// Turns `frames` event messages around on each of `devices` and prints one JSON line a message.
pub(crate) fn run(frames: u16, devices: &[&str]) -> Result<(), Error> {
    let pci = PciDevices::Only(devices.iter().map(|&device| device.to_owned()).collect());
    let eal = Eal::start(&EalConfig::hugepages(64, pci))?;
    let pool = eal.pool("frames", &PoolConfig { mbufs: 4095, ..PoolConfig::default() })?;
    let (mut cards, mut stages, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for (index, device) in devices.iter().enumerate() {
        let (card, of_card, turned) = open(&eal, &pool, index, device)?;
        cards.push(card);
        stages.extend(of_card);
        lines.push(turned);
    }
    let ports: Vec<Value> = cards.iter().map(describe).collect::<Result<_, _>>()?;
    say(&json!({ "line": "ready", "dpdk": dpdk_version(), "device": DEVICE, "ports": ports }));

    let stop = Arc::new(AtomicBool::new(false));
    let poll = PollLoop::new(stages, Idle::devnet(), Arc::clone(&stop));
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let guard = eal.register_thread();
            // The stages hold queues and frames: they end here, where the pool's cache is this thread's.
            drop(poll.run());
            guard.map(drop)
        });
        print_until(usize::from(frames) * cards.len(), &mut lines, &cards);
        stop.store(true, Ordering::Relaxed);
        poller.join().expect("no stage panics")
    })?;
    for card in cards {
        close(card)?;
    }
    drop(pool);
    eal.shutdown()?;
    say(&json!({ "line": "released" }));
    Ok(())
}

type Stages = Vec<Box<dyn Stage>>;

/// Starts a port with its clock, and makes its stages in packet order.
fn open(
    eal: &Eal,
    pool: &MbufPool,
    index: usize,
    device: &str,
) -> Result<(Card, Stages, Consumer<Turned>), Error> {
    let mut port = Port::by_name(eal, device)?;
    // PTP's frames go to a multicast address that is not the card's.
    let config = PortConfig { promiscuous: true, checksums: true, ..PortConfig::default() };
    let mut queues = port.start(&config, pool)?;
    let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
    let clock = clock_of(&port)?;
    let node = DpdkPort::new(rx, tx, pool.clone(), "net_e1000_igb", DpdkStamps::None);
    let (rx, tx, _pool) = node.with_offloads(queues.offloads).split();
    let (to_turn, frames) = ring(RING_SLOTS);
    let (out, to_tx) = ring(RING_SLOTS);
    let (turned, lines) = ring(RING_SLOTS);
    let unused = [ring(2).1, ring(2).1, ring(2).1];
    // The turn-around stage reads the departures itself: it wants to know which polls they took.
    let (events, no_events) = (ring(2), ring(2));
    let (_, no_events) = event_ring((events.0, no_events.1), (events.1, no_events.0));
    let [second, third, fourth] = unused;
    // Nobody reads what the counter says here: the card's stamps are what this is about.
    let (_writer, counter) = page(ticks());
    let stages: Stages = vec![
        Box::new(Rx::new((rx, RxStamps::PtpFrames), counter.clone(), None, to_turn)),
        Box::new(Turn::new(index, clock, frames, out, turned)),
        Box::new(Tx::new(tx, [to_tx, second, third, fourth], no_events, (counter, None))),
    ];
    let metrics = [stages[0].metrics(), stages[1].metrics(), stages[2].metrics()];
    Ok((Card { port, name: device.to_owned(), metrics }, stages, lines))
}

fn clock_of(port: &Port) -> Result<Timesync, Error> {
    let began = Instant::now();
    while !port.link()?.up && began.elapsed() < LINK_TIMEOUT {
        std::thread::sleep(Duration::from_millis(20));
    }
    match port.timesync()? {
        Some(clock) => Ok(clock),
        None => Err(Error::NoSuchPort { port: format!("{} with a clock", port.name()?) }),
    }
}

/// The counter as it is, one tick a nanosecond.
fn ticks() -> ClockMap {
    ClockMap {
        tsc_base: 0,
        base: NanoMoment(0),
        nanos_per_tick_q32: 1 << 32,
        bound_ns: 0,
        drift_ppb: 0,
        bound_ns_max: 0,
        source: ClockSource::System,
        state: ClockState::Initializing,
    }
}

fn describe(card: &Card) -> Result<Value, Error> {
    let mac: Vec<String> = card.port.mac()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let (driver, link) = (card.port.capabilities()?.driver, card.port.link()?);
    Ok(json!({ "port": card.name, "driver": driver, "mac": mac.join(":"), "link_up": link.up }))
}

/// Prints messages as they come, and changes of the links, until `wanted` messages did or none came for long.
fn print_until(wanted: usize, lines: &mut [Consumer<Turned>], cards: &[Card]) {
    let (mut printed, mut last, mut looked) = (0, Instant::now(), Instant::now());
    let up = |card: &Card| card.port.link().is_ok_and(|link| link.up);
    let mut links: Vec<bool> = cards.iter().map(up).collect();
    while printed < wanted && last.elapsed() < SILENCE_MAX {
        if looked.elapsed() >= LINK_LOOK {
            looked = Instant::now();
            for (card, was) in cards.iter().zip(&mut links) {
                let now = up(card);
                if core::mem::replace(was, now) != now {
                    say(&json!({ "line": "link", "port": card.name, "up": now }));
                }
            }
        }
        for line in lines.iter_mut() {
            while let Some(turned) = line.pop() {
                say(&json!({
                    "line": "frame", "port": turned.port, "message": turned.event.name(),
                    "sequence": turned.sequence, "flagged": turned.flagged, "rx_ns": turned.rx_ns,
                    "tx_ns": turned.tx_ns, "clock_ns": turned.clock_ns,
                }));
                (printed, last) = (printed + 1, Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Stops the port and prints what it counted, then gives the card back.
fn close(mut card: Card) -> Result<(), Error> {
    let stats = card.port.stats()?;
    let clock = clock_answers(&card.port)?;
    card.port.stop()?;
    let [rx, turn, tx] = &card.metrics;
    say(&json!({
        "line": "counters", "port": card.name, "rx_received": rx.value("received"),
        "turned": turn.value("turned"), "datagrams": turn.value("datagrams"), "other": turn.value("other"),
        "bad_checksums": rx.value("port_dropped"),
        "dropped": rx.value("dropped_ring_full") + turn.value("dropped_ring_full"), "tx_sent": tx.value("sent"),
        "card_rx_packets": stats.rx_packets, "card_tx_packets": stats.tx_packets,
        "card_rx_missed": stats.rx_missed, "clock": clock,
    }));
    Ok(())
}

/// How far the clock is from where it was moved and set, ns, a while after it was last read. It is enabled anew for it.
fn clock_answers(port: &Port) -> Result<Value, Error> {
    const SECOND: i64 = 1_000_000_000;
    let mut clock = clock_of(port)?;
    let before = clock.read_ns()?;
    clock.adjust_ns(SECOND)?;
    let moved = clock.read_ns()? - before - SECOND;
    std::thread::sleep(Duration::from_millis(100));
    clock.write_ns(SECOND)?;
    let set = clock.read_ns()? - SECOND;
    Ok(json!({ "moved_error_ns": moved, "set_error_ns": set }))
}

fn say(line: &Value) {
    println!("{line}");
}
