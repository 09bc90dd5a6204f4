//! The jitter ledger against causes that are made on purpose: a thread that takes the core, fresh pages, work that takes
//! too long, housekeeping, and a process that is stopped.
//!
//! A gap is found by the time-stamp counter of what made it. On a shared machine the host makes gaps of its own meanwhile:
//! where the kernel's clocks say that an injected moment was not all its own, what it was is not known, and it is made
//! again. That is judged by the injecting side alone, never by what the ledger said.

use roko_node::jitter::{Sample, TickRate, Watch, watch};
use roko_os::affinity::{allowed_cores, pin_current_thread};
use roko_os::tsc::tsc;
use roko_ring::spsc::ring;
use roko_tuning::jitter::{Activity, Cause};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Injected moments of each kind that must be made and found.
const EACH: usize = 20;
/// No injection goes on for longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A moment at which the loop was held up on purpose, by the time-stamp counter.
#[derive(Clone, Copy, Debug)]
struct Injected {
    start: u64,
    end: u64,
}

/// The gap that covers most of a moment.
fn found(samples: &[Sample], moment: Injected) -> Option<&Sample> {
    let common =
        |sample: &Sample| sample.end_tsc.min(moment.end).saturating_sub(sample.start_tsc.max(moment.start));
    samples.iter().filter(|sample| common(sample) > 0).max_by_key(|sample| common(sample))
}

/// At least nine in ten of the moments have the right name.
fn judge(cause: Cause, moments: &[Injected], samples: &[Sample]) {
    let named: Vec<Option<&Sample>> = moments.iter().map(|moment| found(samples, *moment)).collect();
    let right = named.iter().filter(|sample| sample.is_some_and(|sample| sample.cause == cause)).count();
    println!("{}: {right} of {} named right", cause.name(), moments.len());
    let wrong = named.iter().filter(|sample| sample.is_none_or(|sample| sample.cause != cause));
    let wrong: Vec<String> = wrong.map(|sample| format!("\n  {sample:?}")).collect();
    assert!(moments.len() >= EACH, "{}: only {} were undisturbed", cause.name(), moments.len());
    assert!(
        right * 10 >= moments.len() * 9,
        "{}: {right} of {}:{}",
        cause.name(),
        moments.len(),
        wrong.concat()
    );
}

/// The last core: the first one is where most interrupts go.
fn core_to_use() -> (usize, Vec<usize>) {
    let allowed = allowed_cores().expect("the kernel tells");
    (*allowed.last().expect("there is one"), allowed)
}

/// Runs `work` in a watched loop on a core of its own, until it has no more to inject.
fn watched(mut work: impl FnMut(u64) -> Option<Activity> + Send) -> Vec<Sample> {
    let (core, allowed) = core_to_use();
    let (mut out, mut gaps) = ring(1 << 16);
    let stop = AtomicBool::new(false);
    let plan = Watch { core, above_ns: 20_000, length: PATIENCE };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin_current_thread(core, &allowed).expect("pinned");
            let turn = |now| {
                work(now).unwrap_or_else(|| {
                    stop.store(true, Ordering::Relaxed);
                    Activity::Idle
                })
            };
            let watched = watch(&plan, TickRate::measure(), turn, &mut out, &stop).expect("the kernel tells");
            assert_eq!(watched.lost, 0);
            assert!(watched.reading_ns < watched.watched_ns);
        });
    });
    std::iter::from_fn(|| gaps.pop()).collect()
}

/// Injects `act` every other millisecond until enough of them had the core to themselves, and has the ledger name them.
fn inject(cause: Cause, activity: Activity, mut act: impl FnMut() + Send) {
    let (mut moments, mut next, pause) = (Vec::new(), 0, TickRate::measure().ticks(2_000_000));
    let (began, mut before) = (Instant::now(), None);
    let samples = watched(|now| {
        let off_core = off_core_since_start(began);
        // From before a moment to the turn after it: what the thread was not on a core for, somebody else made.
        if let Some((moment, length, off_core_before)) = before.take() {
            let disturbed: Duration = off_core.saturating_sub(off_core_before);
            moments.extend((disturbed * 10 < length).then_some(moment));
        }
        if moments.len() == EACH || began.elapsed() > PATIENCE {
            return None;
        }
        // By the turn's own time: who looks at the clock again would act whenever it was just held up.
        if now < next {
            return Some(Activity::Idle);
        }
        let (length, start) = (Instant::now(), tsc());
        act();
        before = Some((Injected { start, end: tsc() }, length.elapsed(), off_core));
        next = tsc() + pause;
        Some(activity)
    });
    judge(cause, &moments, &samples);
}

/// How long the calling thread was on no core since `began`, and a second more: it may have started a little later.
fn off_core_since_start(began: Instant) -> Duration {
    let on_core = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let on_core = Duration::try_from(on_core).expect("a time since its start");
    (began.elapsed() + Duration::from_secs(1)).saturating_sub(on_core)
}

fn burn(length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        std::hint::spin_loop();
    }
}

#[test]
fn too_much_work_housekeeping_and_fresh_pages_have_their_names() {
    inject(Cause::Overrun, Activity::Work, || burn(Duration::from_micros(700)));
    inject(Cause::Housekeeping, Activity::Housekeeping, || burn(Duration::from_micros(300)));
    for activity in [Activity::Idle, Activity::Work] {
        inject(Cause::PageFault, activity, || {
            const PAGE: usize = 4_096;
            let mut fresh = memmap2::MmapMut::map_anon(256 * PAGE).expect("memory");
            // A kernel without huge pages refuses the advice and needs none.
            let _ = fresh.advise(memmap2::Advice::NoHugePage);
            fresh.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
            std::hint::black_box(&fresh);
        });
    }
}

#[test]
fn a_thread_that_takes_the_core_is_preemption() {
    let (core, allowed) = core_to_use();
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (moments, samples) = std::thread::scope(|scope| {
        let rival = scope.spawn(|| {
            pin_current_thread(core, &allowed).expect("pinned");
            let (rate, began, mut moments) = (TickRate::measure(), Instant::now(), Vec::new());
            while moments.len() < EACH && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
                if !begun.load(Ordering::Relaxed) {
                    continue;
                }
                moments.extend(unbroken(rate, Duration::from_millis(3)));
            }
            over.store(true, Ordering::Relaxed);
            moments
        });
        let samples = watched(|_| {
            begun.store(true, Ordering::Relaxed);
            (!over.load(Ordering::Relaxed)).then_some(Activity::Idle)
        });
        (rival.join().expect("it does not panic"), samples)
    });
    judge(Cause::Preemption, &moments, &samples);
}

/// Runs for `length`; the longest moment of it at which this thread certainly had the core. While it has, nobody else on
/// that core does.
fn unbroken(rate: TickRate, length: Duration) -> Option<Injected> {
    let (began, mut start, mut last) = (Instant::now(), tsc(), tsc());
    let mut longest = None::<Injected>;
    while began.elapsed() < length {
        let now = tsc();
        if rate.nanos(now - last) > 100_000 {
            start = now;
        }
        last = now;
        if longest.is_none_or(|moment| moment.end - moment.start <= now - start) {
            longest = Some(Injected { start, end: now });
        }
    }
    longest.filter(|moment| rate.nanos(moment.end - moment.start) >= 1_000_000)
}

/// A child of this test, killed when it is dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_is_stopped_says_so() {
    let (core, _) = core_to_use();
    stops_are_named(&["--for", "8s", "--core", &core.to_string()], Duration::from_millis(500));
}

#[test]
fn the_poll_thread_of_a_devnet_that_is_stopped_says_so() {
    stops_are_named(&["--for", "12s", "--load", "200"], Duration::from_secs(3));
}

/// Stops and continues `roko tune jitter` many times once its thread spins, which takes `until_it_spins`.
fn stops_are_named(more: &[&str], until_it_spins: Duration) {
    let arguments = ["tune", "jitter", "--json", "--gaps", "--above-us", "500"];
    let child = Command::new(env!("CARGO_BIN_EXE_roko"))
        .args(arguments)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the node runs");
    let mut child = Stopped(child);
    let pid = rustix::process::Pid::from_child(&child.0);
    let signal = |signal| rustix::process::kill_process(pid, signal).expect("it runs");
    std::thread::sleep(until_it_spins);
    let mut moments = Vec::new();
    while moments.len() < EACH + 5 {
        signal(rustix::process::Signal::STOP);
        let began = Instant::now();
        while !is_stopped(pid) && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = tsc();
        std::thread::sleep(Duration::from_millis(80));
        let end = tsc();
        signal(rustix::process::Signal::CONT);
        moments.push(Injected { start, end });
        std::thread::sleep(Duration::from_millis(60));
    }
    let mut text = String::new();
    std::io::Read::read_to_string(child.0.stdout.as_mut().expect("piped"), &mut text).expect("it ends");
    let report: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    let gaps = report["gaps"][0]["gaps"].as_array().expect("a list");
    let number = |gap: &serde_json::Value, name: &str| gap[name].as_u64().expect("a number");
    let of = |moment: &Injected| {
        let common = |gap: &&serde_json::Value| {
            let (start, end) = (number(gap, "start_tsc"), number(gap, "end_tsc"));
            end.min(moment.end).saturating_sub(start.max(moment.start))
        };
        gaps.iter().filter(|gap| common(gap) > 0).max_by_key(common)
    };
    let wrong = moments.iter().map(of).filter(|gap| gap.is_none_or(|gap| gap["cause"] != "stop"));
    let wrong: Vec<String> = wrong.map(|gap| format!("\n  {gap:?}")).collect();
    let right = moments.len() - wrong.len();
    println!("stop: {right} of {} named right", moments.len());
    assert!(right * 10 >= moments.len() * 9, "{right} of {}:{}", moments.len(), wrong.concat());
    let row =
        report["cores"][0]["causes"].as_array().expect("a list").iter().find(|row| row["cause"] == "stop");
    // Two stops between which it never got the core are one gap.
    let stops = gaps.iter().filter(|gap| gap["cause"] == "stop").count();
    assert_eq!(row.expect("a row")["count"].as_u64(), Some(stops as u64));
}

/// Whether every thread of a process is stopped.
fn is_stopped(pid: rustix::process::Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("it runs");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}
