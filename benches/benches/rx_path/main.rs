//! What a frame costs before its transactions are looked at: 10,000 sources, each with an address and a session of its own,
//! valid sealed frames, over net_ring.
//!
//! `rx_path` takes 256 frames from the port through rx, filter and decode: the stages that strangers' frames reach. Beside it
//! testpmd's `csum`, which parses the headers of 32 frames that go round and computes their checksums. Floor: 60 ns a frame.
//!
//! `open_path` takes sealed frames through decode and open, replay windows included. Beside it the AEAD alone, on the same
//! frames under the same 10,000 keys. Floor: 1.3 times the AEAD.
//!
//! `full_path` is the whole way into the pool: rx, filter, decode, open, verify and order, a transfer a frame, each signed by its
//! source, while more than 10,000 others stand in the pool. What each stage takes is printed. Beside it testpmd's `csum`.
//!
//! Every frame that is fed must come out, or be pooled, or the bench fails.

mod feed;
mod full;

use feed::{Content, FRAMES, Line, SOURCES, Senders, keys_of};
use roko_benches::testpmd::Testpmd;
use roko_benches::{Comparison, Report};
use roko_dpdk::{Eal, EalConfig, MbufPool, PoolConfig};
use roko_os::tsc::tsc;
use roko_pipeline::poll::{PollContext, Stage};
use roko_pipeline::session::{Opener, SEAL_BYTES};
use std::time::{Duration, Instant};

/// Polls that an iteration's frames take: bursts of 32.
const POLLS: usize = FRAMES / 32;
/// Sessions that are new to the line in one poll, at most.
const ADMITTED_AT_ONCE: usize = 4;

/// Polls a stage until it has handled an iteration's frames.
fn poll_all(stage: &mut impl Stage) {
    poll_until(stage, FRAMES, 2 * POLLS);
}

/// Polls a stage until it has handled so much, in so many polls at most.
fn poll_until(stage: &mut impl Stage, wanted: usize, polls: usize) {
    let mut work = 0;
    for _ in 0..polls {
        work += stage.poll(&mut PollContext { tsc: tsc() }).work;
        if work >= wanted {
            return;
        }
    }
    panic!("{}: {work} of {wanted} frames", stage.name());
}

/// Takes out what was opened; all of it must be there.
fn take_opened(line: &mut Line) {
    let mut count = 0;
    line.opened.pop_each(usize::MAX, |_| count += 1);
    assert_eq!(count, FRAMES, "every frame is authentic and comes out");
}

/// A line whose sessions are all established, and its senders.
fn warm_line(eal: &Eal, pool: &MbufPool, name: &str, content: Content) -> (Line, Senders) {
    let (mut line, mut senders) = (Line::new(eal, pool, name), Senders::new(content));
    let mut opened = 0;
    // Few unknown sessions are looked up in one poll.
    for _ in 0..SOURCES / ADMITTED_AT_ONCE {
        line.feed(&mut senders, ADMITTED_AT_ONCE);
        for stage in [&mut line.rx as &mut dyn Stage, &mut line.filter, &mut line.decode, &mut line.open] {
            stage.poll(&mut PollContext { tsc: tsc() });
        }
        line.opened.pop_each(usize::MAX, |_| opened += 1);
    }
    assert_eq!(opened, SOURCES, "every session is established");
    (line, senders)
}

/// Which stages are timed; those before and after them run too.
#[derive(Clone, Copy)]
enum Timed {
    Rx,
    Filter,
    Decode,
    UntilDecode,
    DecodeAndOpen,
}

fn case(mut line: Line, mut senders: Senders, timed: Timed) -> impl FnMut(u64) -> Duration {
    move |iterations| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            line.feed(&mut senders, FRAMES);
            let mut at = [Instant::now(); 5];
            poll_all(&mut line.rx);
            at[1] = Instant::now();
            poll_all(&mut line.filter);
            at[2] = Instant::now();
            poll_all(&mut line.decode);
            at[3] = Instant::now();
            poll_all(&mut line.open);
            at[4] = Instant::now();
            take_opened(&mut line);
            let (from, to) = match timed {
                Timed::Rx => (0, 1),
                Timed::Filter => (1, 2),
                Timed::Decode => (2, 3),
                Timed::UntilDecode => (0, 3),
                Timed::DecodeAndOpen => (2, 4),
            };
            total += at[to] - at[from];
        }
        total
    }
}

/// The AEAD alone, on the frames that the line would get.
fn aead_alone(message_bytes: usize) -> impl FnMut(u64) -> Duration {
    let mut senders = Senders::new(Content::Bytes(message_bytes));
    let openers: Vec<Opener> = (0..SOURCES as u64).map(|session| Opener::new(&keys_of(session))).collect();
    let payload_bytes = message_bytes + SEAL_BYTES;
    let mut payloads = vec![0; FRAMES * payload_bytes];
    let mut next = 0;
    move |iterations| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            for payload in payloads.chunks_exact_mut(payload_bytes) {
                let frame = senders.next_frame();
                payload.copy_from_slice(&frame[frame.len() - payload_bytes..]);
            }
            let began = Instant::now();
            for payload in payloads.chunks_exact_mut(payload_bytes) {
                let (opener, sequence) = (&openers[next % SOURCES], (next / SOURCES) as u64);
                assert!(opener.open(sequence, payload).is_some(), "it is authentic");
                next += 1;
            }
            total += began.elapsed();
        }
        total
    }
}

fn main() {
    let mut report = Report::new("rx_path", "net_ring without hugepages: virtual, no NIC");
    let mut criterion = Report::criterion();
    let eal = Eal::start(&EalConfig::unprivileged(128)).expect("the EAL starts without privilege");
    let pool = eal.pool("frames", &PoolConfig { mbufs: 16_383, ..PoolConfig::default() }).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");
    let line = |name: &str, timed: Timed, bytes: usize| {
        let (line, senders) = warm_line(&eal, &pool, name, Content::Bytes(bytes));
        case(line, senders, timed)
    };
    let mut rx_path = Comparison::new(format!("rx_path/sources={SOURCES}"), FRAMES as u64)
        .case("rx_filter_decode", line("all", Timed::UntilDecode, 256))
        .floor_rate(1e9 / 60.0)
        .case("rx", line("rx", Timed::Rx, 256))
        .case("filter", line("filter", Timed::Filter, 256))
        .case("decode", line("decode", Timed::Decode, 256));
    match Testpmd::new("net_ring0", "csum") {
        Ok(testpmd) => rx_path = rx_path.case("testpmd_csum", testpmd.case(FRAMES as u64)),
        Err(why) => report.note(format!("testpmd's csum is left out: {why}")),
    }
    rx_path.run(&mut criterion, &mut report);
    for bytes in [64, 256, 1_372] {
        Comparison::new(format!("open_path/sources={SOURCES},message_bytes={bytes}"), FRAMES as u64)
            .case("decode_open", line(&format!("open{bytes}"), Timed::DecodeAndOpen, bytes))
            .case("aead_alone", aead_alone(bytes))
            .floor_ratio(1.3)
            .run(&mut criterion, &mut report);
    }
    let (line, senders) = warm_line(&eal, &pool, "full", Content::Transfer);
    let stages = full::Stages::default();
    let mut full_path = Comparison::new(format!("full_path/sources={SOURCES}"), full::FRAMES as u64)
        .case("rx_to_order", full::case(line, senders, &pool, &stages));
    match Testpmd::new("net_ring0", "csum") {
        Ok(testpmd) => full_path = full_path.case("testpmd_csum", testpmd.case(full::FRAMES as u64)),
        Err(why) => report.note(format!("testpmd's csum is left out: {why}")),
    }
    full_path.run(&mut criterion, &mut report);
    stages.note(&mut report);
    report.finish(criterion);
}
