//! From a port's queues to the pool in one lane on one core, and in two lanes on two: rx, filter, decode, open, verify of
//! each lane, and the one order, which runs beside the first.
//!
//! 256 senders each have a session; their frames of five signed transfers lie in the port's queues when the time begins,
//! spread by the hash that a card uses. Sessions are owned by a hash of their own, so about half of all frames cross. The
//! time ends when the last transaction is pooled. What order alone takes of each transaction is read from its regimes in the
//! same run: it is what more lanes would meet next.

use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::{AtomicBool, Ordering};
use roko_benches::fixtures::{self, HOUR_NS, START};
use roko_benches::two_threads::{cores, run_pinned};
use roko_benches::{Comparison, Report, plane};
use roko_pipeline::DataPlaneConfig;
use roko_pipeline::assembly::{ControlEnds, DataPlane, assemble};
use roko_pipeline::idle::Idle;
use roko_pipeline::metrics::Regime;
use roko_pipeline::order::OrderCommand;
use roko_pipeline::peer::{Admission, KeyName, KeySource, PeerIndex, Role};
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::inprocess::{InProcessPool, InProcessPort, pair_of_queues};
use roko_pipeline::port::{Burst, FrameBuf, FramePool, Port, TxPort};
use roko_pipeline::session::{AeadKeys, SEAL_BYTES, Sealer};
use roko_ring::seqlock::PageWriter;
use roko_ring::spsc::Gauge;
use roko_wire::TxId;
use roko_wire::clock::ClockMap;
use roko_wire::frame::{FRAME_HEADER_BYTES, PriorityClass};
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::message::write_submit;
use roko_wire::net::{Addresses, Mac, headers_bytes, write_headers};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SENDERS: u16 = 256;
/// Senders whose first frames decode lets through at once.
const NEW_SENDERS: u16 = 4;
/// Frames of one timed round; the pool holds 8,192 transactions.
const FRAMES_AT_ONCE: u64 = 512;
const NODE: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4_000);

fn keys_of(session: u64) -> AeadKeys {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&session.to_le_bytes());
    AeadKeys { key, iv: [session as u8; 12] }
}

/// As handshakes name them: the sender above a stamp in milliseconds.
fn session_of(sender: u16) -> u64 {
    u64::from(sender) << 48 | (1_800_000_000_000 + u64::from(sender) * 977)
}

fn addresses_of(sender: u16) -> Addresses {
    let [high, low] = sender.to_be_bytes();
    Addresses {
        source_mac: Mac([2, 0, 0, 1, high, low]),
        destination_mac: Mac([2, 0, 0, 0, 0, 0]),
        source_ip: Ipv4Addr::new(10, 1, high, low).into(),
        destination_ip: NODE.0,
        source_port: 4_000,
        destination_port: NODE.1,
    }
}

struct Senders;

impl KeySource for Senders {
    fn admit(&mut self, name: KeyName) -> Option<Admission> {
        let sender = (name.session >> 48) as u16;
        let known = sender < SENDERS && name == KeyName { session: session_of(sender), core: 0, phase: 0 };
        known.then(|| Admission {
            peer: PeerIndex(sender),
            role: Role::Client,
            generation: 1,
            keys: keys_of(name.session),
        })
    }
}

/// A data plane in lanes, and the far end of its port.
struct Bed {
    /// The first core's stages, with order and what is behind it; and the other's, where there are two lanes.
    threads: Vec<PollLoop>,
    control: ControlEnds<InProcessPort>,
    commands: Gauge,
    tx: <InProcessPort as Port>::Tx,
    pool: InProcessPool,
    sealers: Vec<Sealer>,
    next_user: u32,
    pooled: Vec<TxId>,
    _clock: PageWriter<ClockMap>,
}

impl Bed {
    fn new(lanes: usize) -> Bed {
        let pool = InProcessPool::new(FRAMES_AT_ONCE as usize + 64);
        let pools = (InProcessPool::new(8_192), pool.clone());
        let (near, far) = pair_of_queues(FRAMES_AT_ONCE.next_power_of_two() as usize, pools, (lanes, 1));
        let known = (0..SENDERS).map(|sender| addresses_of(sender).source_ip).collect();
        let config = DataPlaneConfig { lanes, ..plane::config(NODE, known, SENDERS.into()) };
        let (writer, clock) = plane::clock();
        let sources = (0..lanes).map(|_| Box::new(Senders) as Box<dyn KeySource>).collect();
        let DataPlane { stages, control } = assemble(near, config, sources, clock).expect("the settings fit");
        let mut by_thread: Vec<Vec<Box<dyn Stage>>> = (0..lanes).map(|_| Vec::new()).collect();
        for (_, stage) in stages {
            let lane = stage.metrics().lane().unwrap_or(0);
            by_thread[usize::from(lane)].push(stage);
        }
        let thread = |stages| PollLoop::new(stages, Idle::Spin, Arc::default());
        let (_, tx, _) = far.split();
        let sealer = |sender| Sealer::new(&keys_of(session_of(sender)), session_of(sender), 0, 0);
        let mut bed = Bed {
            threads: by_thread.into_iter().map(thread).collect(),
            commands: control.order.depth_gauge(),
            control,
            tx,
            pool,
            sealers: (0..SENDERS).map(sealer).collect(),
            next_user: 0,
            pooled: Vec::with_capacity(8_192),
            _clock: writer,
        };
        // Decode looks up a few new keys a poll: every session is met before anything is measured.
        (0..SENDERS / NEW_SENDERS).for_each(|_| _ = bed.round(NEW_SENDERS.into()));
        bed
    }

    /// Puts frames of new transfers into the port's queues.
    fn fill(&mut self, frames: u64) {
        for _ in 0..frames {
            self.next_user += 1;
            let key = fixtures::user(self.next_user);
            let txs = 0..TXS_PER_MESSAGE_MAX as u64;
            let wires: Vec<Vec<u8>> = txs.map(|nonce| fixtures::transfer(nonce).sign_ed25519(&key)).collect();
            let refs: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
            let mut message = Vec::new();
            write_submit(&refs, &mut message);
            let sender = (self.next_user % u32::from(SENDERS)) as u16;
            let way = addresses_of(sender);
            let start = headers_bytes(&way.source_ip);
            let mut buf = self.pool.alloc().expect("the last round's frames are back");
            buf.set_len(start + message.len() + SEAL_BYTES);
            write_headers(&way, message.len() + SEAL_BYTES, buf.data_mut()).expect("it fits");
            buf.data_mut()[start + FRAME_HEADER_BYTES..][..message.len()].copy_from_slice(&message);
            let sealer = &mut self.sealers[usize::from(sender)];
            sealer.seal(PriorityClass::Client, &mut buf.data_mut()[start..]).expect("it fits");
            let mut burst: Burst<_> = [buf].into_iter().collect();
            assert_eq!(self.tx.tx_burst(&mut burst), 1, "a queue holds a whole round");
        }
    }

    /// Polls until all transactions of a round are pooled.
    fn drain(&mut self, frames: u64) -> Duration {
        let want = frames as usize * TXS_PER_MESSAGE_MAX;
        let done = AtomicBool::new(false);
        let (seen, pooled) = (&mut self.control.seen, &mut self.pooled);
        let (first, second) = self.threads.split_at_mut(1);
        let near = || {
            let began = Instant::now();
            while pooled.len() < want {
                first[0].turn();
                seen.pop_each(usize::MAX, |seen| pooled.push(seen.id));
                assert!(began.elapsed() < Duration::from_secs(60), "{} of {want} pooled", pooled.len());
            }
            let took = began.elapsed();
            done.store(true, Ordering::Release);
            took
        };
        let far = || {
            while let (Some(second), false) = (second.first_mut(), done.load(Ordering::Acquire)) {
                second.turn();
            }
        };
        run_pinned(near, far).expect("there are two cores").0
    }

    /// Makes everything pooled final.
    fn empty(&mut self) {
        let valid_until = START.saturating_add(HOUR_NS);
        for id in self.pooled.drain(..) {
            let pushed = self.control.order.push(OrderCommand::FinalizeId { id, valid_until, now: START });
            assert!(pushed.is_ok(), "the ring holds as many commands as the pool transactions");
        }
        while self.commands.depth() > 0 {
            self.threads.iter_mut().for_each(|thread| _ = thread.turn());
        }
    }

    fn round(&mut self, frames: u64) -> Duration {
        self.fill(frames);
        let took = self.drain(frames);
        self.empty();
        took
    }

    /// Ticks that a stage has worked, over all lanes.
    fn worked(&mut self, stage: &str) -> u64 {
        self.threads.iter_mut().for_each(PollLoop::keep_house);
        let of_stage = self.control.metrics.iter().filter(|metrics| metrics.stage() == stage);
        of_stage.map(|metrics| metrics.regime_ticks(Regime::Processing)).sum()
    }
}

/// One iteration: one frame of five transactions.
fn throughput(mut bed: Bed) -> impl FnMut(u64) -> Duration {
    move |iterations| {
        let (mut total, mut left) = (Duration::ZERO, iterations);
        while left > 0 {
            let frames = left.min(FRAMES_AT_ONCE);
            total += bed.round(frames);
            left -= frames;
        }
        total
    }
}

/// What each stage takes of a transaction, in one lane: what bounds how many lanes help.
fn by_stage(report: &mut Report) {
    const STAGES: [&str; 6] = ["rx", "filter", "decode", "open", "verify", "order"];
    let mut bed = Bed::new(1);
    bed.round(FRAMES_AT_ONCE);
    let (began, tsc) = (Instant::now(), roko_os::tsc::tsc());
    let (mut ticks, rounds) = ([0; STAGES.len()], 8);
    for _ in 0..rounds {
        bed.fill(FRAMES_AT_ONCE);
        let before = STAGES.map(|stage| bed.worked(stage));
        bed.drain(FRAMES_AT_ONCE);
        let after = STAGES.map(|stage| bed.worked(stage));
        ticks
            .iter_mut()
            .zip(after.iter().zip(before))
            .for_each(|(sum, (after, before))| *sum += after - before);
        bed.empty();
    }
    let ns_per_tick = began.elapsed().as_nanos() as f64 / (roko_os::tsc::tsc() - tsc) as f64;
    let txs = f64::from(rounds) * (FRAMES_AT_ONCE as usize * TXS_PER_MESSAGE_MAX) as f64;
    let ns = ticks.map(|ticks| ticks as f64 * ns_per_tick / txs);
    let lane: f64 = ns[..5].iter().sum();
    let each: Vec<String> = STAGES.iter().zip(ns).map(|(stage, ns)| format!("{stage} {ns:.0}")).collect();
    report.note(format!("scaling/lanes=1: ns of a transaction by stage: {}", each.join(", ")));
    report.note(format!(
        "scaling: a lane takes {lane:.0} ns of a transaction and order {:.0}: order's one core keeps up with {:.0} lanes",
        ns[5],
        lane / ns[5]
    ));
}

fn main() {
    let mut report = Report::new("scaling", "in-process port, queues filled by the hash of a card");
    let mut criterion = Report::criterion();
    if cores().len() < 2 {
        eprintln!("two lanes want two cores: there is one");
        return;
    }
    if report.measures() {
        by_stage(&mut report);
    }
    Comparison::new("scaling/frame_txs=5", TXS_PER_MESSAGE_MAX as u64)
        .case("lanes=2", throughput(Bed::new(2)))
        .case("lanes=1", throughput(Bed::new(1)))
        .run(&mut criterion, &mut report);
    report.finish(criterion);
}
