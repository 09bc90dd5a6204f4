//! What the fuzz target `rx_path` runs on bytes, shared with the test that replays its corpus: the bytes are a script of
//! frames, and every frame ends in exactly one counter of each stage that it comes to.
#![allow(dead_code, reason = "the fuzz target and the test each use a part")]

use crate::common::*;
use roko_os::tsc::tsc;
use roko_pipeline::assembly::{ControlEnds, DataPlaneConfig, assemble};
use roko_pipeline::filter::{FilterConfig, RateLimit};
use roko_pipeline::order::OrderConfig;
use roko_pipeline::pcap::PcapWriter;
use roko_pipeline::peer::KeySource;
use roko_pipeline::poll::PollContext;
use roko_pipeline::port::inprocess::{InProcessPool, pair};
use roko_pipeline::port::replay::ReplayPort;
use roko_pipeline::port::{Burst, FrameBuf, FramePool, Port, TxPort};
use roko_ring::seqlock::page;
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Frames of one script, at most: all fit every ring.
const FRAMES_MAX: usize = 64;
/// The longest frame that a script can make.
const FRAME_BYTES_MAX: usize = 1_600;

/// Messages that everyone may say in a good frame, before they are altered.
fn messages() -> &'static [Vec<u8>] {
    static MESSAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let mut all = vec![
            submit_message(&transfers(0..1, 0..1)),
            submit_message(&transfers(0..1, 0..5)),
            submit_message(&ethereum_transfers(0..1, 0..3)),
            batch(&transfers(1..2, 0..2), 1),
        ];
        all.extend((3..=8).map(|kind| vec![kind, 0, 0, 0]));
        all
    })
}

/// Reads a script: what is missing at its end is zero.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = (self.number() % FRAME_BYTES_MAX).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    fn alter(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.byte() % 4 {
            let (at, with) = (self.number(), self.byte());
            let len = bytes.len().max(1);
            match bytes.get_mut(at % len) {
                Some(_) if with == 0 => bytes.truncate(at % len),
                Some(byte) => *byte ^= with,
                None => bytes.push(with),
            }
        }
    }
}

/// The frames of a script. Each begins with a byte that says how it is made: raw; a message of the script's own, sealed by a
/// validator or by a client; a good message that is altered before it is sealed; the frame before, as it was or altered.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut script = Script(bytes);
    let links = [link(1, 0), link(2, 0)];
    let mut sealers = [sealer(&links[0]), sealer(&links[1])];
    let mut frames: Vec<Vec<u8>> = Vec::new();
    while !script.0.is_empty() && frames.len() < FRAMES_MAX {
        let how = script.byte();
        let peer = usize::from(how >> 3 & 1);
        let message = match how & 7 {
            0 => {
                frames.push(script.bytes());
                continue;
            }
            1 => script.bytes(),
            2..=4 => {
                let good = messages();
                let mut message = good[usize::from(script.byte()) % good.len()].clone();
                if how & 7 > 2 {
                    script.alter(&mut message);
                }
                message
            }
            _ => {
                let mut frame = frames.last().cloned().unwrap_or_default();
                if how & 7 > 5 {
                    script.alter(&mut frame);
                }
                frames.push(frame);
                continue;
            }
        };
        frames.push(sealed(&mut sealers[peer], &links[peer].addresses, &message));
    }
    frames
}

/// A validator of two whose buckets do not fill up while a script runs, however slow the machine is.
fn settings() -> DataPlaneConfig {
    let config = config(0, 2);
    DataPlaneConfig {
        filter: FilterConfig {
            stranger: RateLimit { frames_per_second: 1, burst_frames: 8 },
            ..config.filter
        },
        order: OrderConfig { mempool: roko_ring::mempool::Config::for_txs(512, 99), ..config.order },
        ..config
    }
}

/// What a stage counted, by name. What hangs on the time that the machine takes is left out.
pub(crate) type Counts = Vec<(&'static str, &'static str, u64)>;

/// Runs all stages over `port`, with a clock that shows [`START`] at the count `began_at`, until nothing is left to do and stamps are due, and checks that every frame is accounted for.
fn run<P: Port>(port: P, sent: usize, began_at: u64) -> Counts
where
    P::Pool: Sync,
{
    // Two counts of any machine's counter are about a nanosecond: nothing here needs it to be exact.
    let (_clock, clock) = page(ClockMap {
        tsc_base: began_at,
        base: START,
        nanos_per_tick_q32: 1 << 31,
        bound_ns: 1_000,
        drift_ppb: 1_000,
        bound_ns_max: 1_000_000,
        source: ClockSource::System,
        state: ClockState::Converged,
    });
    let keys: Box<dyn KeySource> = Box::new(NamedSessions { this: 0, validators: 2 });
    let plane = assemble(port, settings(), vec![keys], clock).expect("the settings fit");
    let (mut stages, mut control) = (plane.stages, plane.control);
    let (began, mut worked_at, mut quiet) = (Instant::now(), Instant::now(), 0);
    // A stamp batch waits for company for half as long after the last frame; polls count that come after that.
    while quiet < 3 {
        let due = worked_at.elapsed() >= Duration::from_micros(400);
        let mut cx = PollContext { tsc: tsc() };
        if stages.iter_mut().map(|(_, stage)| stage.poll(&mut cx).work).sum::<usize>() > 0 {
            (worked_at, quiet) = (Instant::now(), 0);
        } else {
            quiet += u32::from(due);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the stages never come to rest");
    }
    for (_, stage) in &mut stages {
        stage.housekeeping(&mut PollContext { tsc: tsc() });
    }
    check(&mut control, sent as u64)
}

fn check<P: Port>(control: &mut ControlEnds<P>, sent: u64) -> Counts {
    let mut counts = Counts::new();
    for metrics in control.metrics.iter().filter(|metrics| metrics.stage() != "rx") {
        let counters = metrics.counters().filter(|(label, _)| *label != "batches_stamped");
        counts.extend(counters.map(|(label, value)| (metrics.stage(), label, value)));
    }
    let of = |stage: &str, label: &str| {
        counts
            .iter()
            .filter(|(at, name, _)| *at == stage && *name == label)
            .map(|(.., value)| value)
            .sum::<u64>()
    };
    let all = |stage: &str, but: &[&str]| {
        let counted = counts.iter().filter(|(at, label, _)| *at == stage && !but.contains(label));
        counted.map(|(.., value)| value).sum::<u64>()
    };
    assert_eq!(all("filter", &[]), sent, "{counts:?}");
    assert_eq!(all("decode", &["admitted", "established"]), of("filter", "passed"), "{counts:?}");
    // "opened" counts what the passed and dropped counters split.
    assert_eq!(all("open", &["opened"]), of("decode", "passed"), "{counts:?}");
    let mut to_control = 0;
    while control.frames.pop().is_some() {
        to_control += 1;
    }
    assert_eq!(to_control, of("open", "passed_control"), "{counts:?}");
    counts.retain(|(stage, ..)| ["filter", "decode", "open", "verify"].contains(stage));
    counts
}

/// Sends the frames to a validator through a port of this process.
pub(crate) fn in_process(frames: &[Vec<u8>]) -> Counts {
    let pools = (InProcessPool::new(512), InProcessPool::new(FRAMES_MAX));
    let (near, far) = pair(256, pools);
    let (_rx, mut tx, pool) = far.split();
    for frame in frames {
        let mut buf = pool.alloc().expect("a frame is free");
        buf.set_len(frame.len());
        buf.data_mut().copy_from_slice(frame);
        let mut burst = Burst::new();
        burst.push(buf);
        assert_eq!(tx.tx_burst(&mut burst), 1, "the ring has room");
    }
    run(near, frames.len(), tsc())
}

/// Writes the frames as a capture, and plays it to a validator. A capture's time is the count of the node's clock.
pub(crate) fn as_capture(frames: &[Vec<u8>]) -> Counts {
    let (mut file, began_at) = (Vec::new(), tsc());
    let mut writer = PcapWriter::new(&mut file).expect("a vector takes everything");
    for frame in frames {
        writer.write(began_at, frame).expect("a vector takes everything");
    }
    let (port, state) = ReplayPort::new(file.as_slice(), InProcessPool::new(512)).expect("a good capture");
    state.set_now(u64::MAX);
    let counts = run(port, frames.len(), began_at);
    assert_eq!((state.delivered(), state.left_out()), (frames.len() as u64, 0));
    counts
}

/// The fuzz target.
pub(crate) fn rx_path(bytes: &[u8]) {
    in_process(&frames(bytes));
}
