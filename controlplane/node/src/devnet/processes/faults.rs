//! Faults on purpose: validators are killed in turn, and started again on what their disks hold.

use super::node::Node;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the end is looked for.
const STEP: Duration = Duration::from_millis(20);

/// When validators are killed.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// From one kill to the next; for half of it the validator stays away.
    pub every: Duration,
    /// How long after the start none is killed any more; without it, never.
    pub until: Option<Duration>,
}

/// Kills validators until it is dropped.
pub struct Killer {
    restarts: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Killer {
    /// Begins with the first validator, after one period. `back` is told of each that was started again.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        faults: Faults,
        nodes: Arc<Vec<Node>>,
        mut back: impl FnMut(usize) + Send + 'static,
    ) -> std::io::Result<Killer> {
        let (restarts, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&restarts), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("faults".into()).spawn(move || {
            let (began, away) = (Instant::now(), faults.every / 2);
            for node in nodes.iter().cycle() {
                let over = faults.until.is_some_and(|until| began.elapsed() + faults.every > until);
                // What this thread has started ends with it, so it stays.
                while over && pause(faults.every, &ended) {}
                if over || !pause(faults.every - away, &ended) {
                    return;
                }
                eprintln!("fault: validator {} is killed", node.index);
                node.kill();
                let goes_on = pause(away, &ended);
                if let Err(error) = node.start_again() {
                    eprintln!("validator {} cannot be started again: {error}", node.index);
                    return;
                }
                eprintln!("fault: validator {} is started again", node.index);
                count.fetch_add(1, Ordering::Relaxed);
                if !goes_on {
                    return;
                }
                back(node.index);
            }
        })?;
        Ok(Killer { restarts, stop, thread: Some(thread) })
    }

    /// Validators started again so far.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It starts whom it has killed before it ends.
            let _ = thread.join();
        }
    }
}

/// Sleeps; false when the end came meanwhile.
fn pause(length: Duration, ended: &AtomicBool) -> bool {
    let until = Instant::now() + length;
    while Instant::now() < until {
        if ended.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(STEP);
    }
    true
}
