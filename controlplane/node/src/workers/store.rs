//! The store's thread: commits final blocks, several with one sync when they come faster than the disk.
//!
//! A full disk loses nothing: the blocks wait here, the control thread is told so and stops voting, and the commit is
//! tried again until there is room.

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use roko_state::storage::Storage;
use roko_state::tree::Tree;
use roko_state::{CommitBlock, StateError, StateStore};
use roko_wire::Height;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Blocks in the thread's own queue; the control thread keeps the rest.
const QUEUE: usize = 1_024;
/// Blocks that wait for a full disk, at most: beyond it the node stops, for its memory is not endless either.
pub const WAITING_MAX: usize = 16_384;
/// Most blocks of one sync: two ranges of a catch-up, so that a slow disk does not hold it up.
const BATCH_MAX: usize = 512;
/// Bytes of bodies after which a sync takes no more blocks, so that what is written at once stays bounded.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// How long to wait before a full disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What the store's thread reports.
#[derive(Debug)]
pub enum StoreDone {
    /// Everything up to this height is durable.
    Durable(Height),
    /// The disk is full; the commit is tried again.
    NoSpace(String),
    /// The store is closed to commits; the node must stop.
    Failed(String),
}

/// The control thread's ends of the store. Dropping it writes a last checkpoint and ends the thread.
pub struct Store {
    jobs: Option<Sender<(CommitBlock, Tree)>>,
    waiting: VecDeque<(CommitBlock, Tree)>,
    done: Receiver<StoreDone>,
    thread: Option<std::thread::JoinHandle<()>>,
    ending: Arc<AtomicBool>,
}

impl Store {
    /// Starts the store's thread. `start` is called first on it, to name and pin it.
    pub fn spawn<S: Storage>(
        store: StateStore<S>,
        start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Store> {
        let (jobs, jobs_in) = bounded(QUEUE);
        let (done_out, done) = bounded(QUEUE);
        let ending = Arc::new(AtomicBool::new(false));
        let thread_ending = Arc::clone(&ending);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            start();
            run(store, &jobs_in, &done_out, &thread_ending);
        })?;
        Ok(Store { jobs: Some(jobs), waiting: VecDeque::new(), done, thread: Some(thread), ending })
    }

    /// Queues a block with the state after it. A final block is never dropped: what the thread cannot take yet waits here.
    /// Returns how many wait here; the caller stops the node at [`WAITING_MAX`].
    pub fn commit(&mut self, block: CommitBlock, after: Tree) -> usize {
        self.waiting.push_back((block, after));
        self.flush();
        self.waiting.len()
    }

    fn flush(&mut self) {
        let Some(jobs) = &self.jobs else { return };
        while let Some(job) = self.waiting.pop_front() {
            match jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => return self.waiting.push_front(job),
                // A thread that has ended has said why.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }

    /// The next report.
    #[must_use]
    pub fn poll(&mut self) -> Option<StoreDone> {
        self.flush();
        self.done.try_recv().ok()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread may wait to report; nobody reads any more.
            while !thread.is_finished() {
                self.done.try_iter().for_each(drop);
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = thread.join();
        }
    }
}

fn run<S: Storage>(
    mut store: StateStore<S>,
    jobs: &Receiver<(CommitBlock, Tree)>,
    done: &Sender<StoreDone>,
    ending: &AtomicBool,
) {
    loop {
        let first = match jobs.recv_timeout(RETRY) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                // Nothing to do: a good time for checkpoints and the next segment. A failure shows at the next commit.
                let _ = store.maintain();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let (batch, versions) = gather(first, jobs);
        if !commit(&mut store, &batch, &versions, done, ending) {
            return;
        }
        let _ = store.maintain();
    }
    let _ = store.close();
}

/// The first job and what waits behind it, as much as goes with one sync.
fn gather(first: (CommitBlock, Tree), jobs: &Receiver<(CommitBlock, Tree)>) -> (Vec<CommitBlock>, Vec<Tree>) {
    let mut bytes = first.0.body.len();
    let (mut blocks, mut versions) = (vec![first.0], vec![first.1]);
    while blocks.len() < BATCH_MAX
        && bytes < BATCH_BYTES_MAX
        && let Ok((block, version)) = jobs.try_recv()
    {
        bytes += block.body.len();
        blocks.push(block);
        versions.push(version);
    }
    (blocks, versions)
}

/// Commits until it works; false when the store or the control thread is gone, or the node ends while the disk is full:
/// what was never durable was never told, and the others have it.
fn commit<S: Storage>(
    store: &mut StateStore<S>,
    batch: &[CommitBlock],
    versions: &[Tree],
    done: &Sender<StoreDone>,
    ending: &AtomicBool,
) -> bool {
    loop {
        let report = match store.commit_executed(batch, versions) {
            Ok(_) => {
                let height = batch.last().map_or(Height(0), |block| block.height);
                return done.send(StoreDone::Durable(height)).is_ok();
            }
            Err(error @ StateError::NoSpace { .. }) => StoreDone::NoSpace(error.to_string()),
            Err(error) => {
                let _ = done.send(StoreDone::Failed(error.to_string()));
                return false;
            }
        };
        // A full report queue already says that the disk is full.
        let _ = done.try_send(report);
        if ending.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(RETRY);
    }
}
