//! Faults on purpose: validators are killed and started again on what their disks hold, the network is cut in two and
//! joined again.

pub mod schedule;

use super::node::Node;
use super::watch::height_of;
use super::wire::Wires;
use crate::devnet::report::FaultCounts;
use schedule::{Fault, Faults, Schedule, Step};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the end is looked for.
const STEP: Duration = Duration::from_millis(20);
/// How often a height is asked for while the chain is expected to go on. An answer costs a node about a millisecond.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How many more blocks must be final before the chain counts as going on: what was on its way when the fault came does not.
const BLOCKS_ON: u64 = 4;
/// How long the chain is waited for.
const ON_MAX: Duration = Duration::from_secs(10);

/// Does faults until it is dropped.
pub struct Drill {
    counts: Arc<Mutex<FaultCounts>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the drill's thread works with.
struct Hand<F> {
    nodes: Arc<Vec<Node>>,
    wires: Arc<Wires>,
    counts: Arc<Mutex<FaultCounts>>,
    stop: Arc<AtomicBool>,
    back: F,
}

impl Drill {
    /// Begins. `back` is told of validators that were away and are there again.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        faults: Faults,
        nodes: Arc<Vec<Node>>,
        wires: Arc<Wires>,
        back: impl FnMut(&[usize]) + Send + 'static,
    ) -> std::io::Result<Drill> {
        let (counts, stop) = (Arc::default(), Arc::default());
        let hand = Hand { nodes, wires, counts: Arc::clone(&counts), stop: Arc::clone(&stop), back };
        let thread = std::thread::Builder::new().name("faults".into()).spawn(move || hand.run(&faults))?;
        Ok(Drill { counts, stop, thread: Some(thread) })
    }

    /// What has gone wrong so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It takes back what it has done before it ends.
            let _ = thread.join();
        }
    }
}

impl<F: FnMut(&[usize])> Hand<F> {
    fn run(mut self, faults: &Faults) {
        let began = Instant::now();
        for step in Schedule::new(faults, self.nodes.len()) {
            let takes = step.pause + step.lasts;
            let over = faults.until.is_some_and(|until| began.elapsed() + takes > until);
            // What this thread has started ends with it, so it stays.
            while over && self.pause(takes) {}
            if over || !self.pause(step.pause) {
                return;
            }
            match self.fault(&step) {
                Ok(true) => (self.back)(step.fault.away()),
                Ok(false) => return,
                Err(error) => {
                    eprintln!("fault: it cannot be taken back: {error}");
                    return;
                }
            }
        }
    }

    /// Does a fault and takes it back. False when the end came meanwhile.
    fn fault(&self, step: &Step) -> Result<bool, String> {
        let until = Instant::now() + step.lasts;
        let rest = || until.saturating_duration_since(Instant::now());
        match &step.fault {
            Fault::Kill(index) => {
                let node = &self.nodes[*index];
                eprintln!("fault: validator {index} is killed");
                node.kill();
                let others_on = self.goes_on((index + 1) % self.nodes.len());
                self.note(|counts, ms| counts.others_on_ms_max = counts.others_on_ms_max.max(ms), others_on);
                let goes_on = self.pause(rest());
                node.start_again().map_err(|error| format!("validator {index}: {error}"))?;
                eprintln!(
                    "fault: validator {index} is started again; the others went on after {}",
                    said(others_on)
                );
                self.count(|counts| counts.restarts += 1);
                Ok(goes_on)
            }
            Fault::Cut(half) => {
                eprintln!("fault: validators {half:?} are cut off");
                self.wires.cut(half).map_err(|error| error.to_string())?;
                let goes_on = self.pause(rest());
                self.wires.join_again(half).map_err(|error| error.to_string())?;
                let on = self.goes_on(half[0]);
                self.note(|counts, ms| counts.joined_on_ms_max = counts.joined_on_ms_max.max(ms), on);
                eprintln!("fault: the network is whole again; blocks became final after {}", said(on));
                self.count(|counts| counts.cuts += 1);
                Ok(goes_on)
            }
        }
    }

    /// How long until a validator has a few more final blocks than now; `None` when that takes too long or the end comes.
    fn goes_on(&self, index: usize) -> Option<Duration> {
        let (began, ip, stop) = (Instant::now(), self.nodes[index].ip, &self.stop);
        let ask = || {
            let first = height_of(ip)?;
            while began.elapsed() < ON_MAX && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(ASK_EVERY);
                if height_of(ip)? >= first + BLOCKS_ON {
                    return Some(began.elapsed());
                }
            }
            None
        };
        self.wires.hub().within(ask).ok().flatten()
    }

    fn count(&self, change: impl FnOnce(&mut FaultCounts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn note(&self, change: impl FnOnce(&mut FaultCounts, u64), took: Option<Duration>) {
        // What was waited for in vain took at least as long as the wait; at the end nothing is known.
        let took = took.or((!self.stop.load(Ordering::Relaxed)).then_some(ON_MAX));
        if let Some(took) = took {
            self.count(|counts| change(counts, took.as_millis() as u64));
        }
    }

    /// Sleeps; false when the end came meanwhile.
    fn pause(&self, length: Duration) -> bool {
        let until = Instant::now() + length;
        while Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(STEP.min(until.saturating_duration_since(Instant::now())));
        }
        true
    }
}

fn said(took: Option<Duration>) -> String {
    took.map_or_else(|| "too long to wait for".to_owned(), |took| format!("{} ms", took.as_millis()))
}
