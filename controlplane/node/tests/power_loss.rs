//! All four validators lose power at once, at a random moment, and what was not synced is gone: every block that any of
//! them called final is still there, and none contradicts what it had voted or proposed before.
//!
//! The same run with one kind of sync left out must find a loss, or it would prove nothing. `ROKO_POWER_SEEDS` says how
//! many runs the first test makes; without it 3.

mod common;

use common::net::{Net, Tap, Tapped, VALIDATORS, contradictions, reached};
use common::slow::SlowCommits;
use roko_services::NodeApi;
use roko_services::api::BlockSelector;
use roko_state::fault::{Crash, FaultStorage, Sequence};
use roko_state::storage::SyncSite;
use roko_wire::{BlockId, Height};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Transfers a second.
const RATE: u64 = 200;
/// How long the network runs after its first new block, at least, milliseconds.
const RUN_MS_MIN: u64 = 150;
/// And at most.
const RUN_MS_MAX: u64 = 700;
/// Power cuts of a run in which nothing may be lost.
const CUTS: usize = 3;
/// Power cuts within which a left-out sync has to be noticed.
const CUTS_MAX_BROKEN: usize = 8;

/// A chain under power cuts.
struct Trial {
    net: Net,
    tap: Arc<Tap>,
    frames: Vec<Tapped>,
    storages: Vec<SlowCommits>,
    /// By validator: what it has called final, by height.
    acknowledged: Vec<BTreeMap<Height, BlockId>>,
    random: Sequence,
}

impl Trial {
    fn new(seed: u64, left_out: Option<SyncSite>, commit: Duration) -> Trial {
        let storage = |_| SlowCommits { storage: FaultStorage::new(), commit };
        let storages: Vec<SlowCommits> = (0..VALIDATORS).map(storage).collect();
        storages.iter().for_each(|slow| slow.storage.ignore_syncs(left_out));
        let tap = Tap::of_next_validator();
        Trial {
            net: Net::new(Arc::clone(&tap)),
            tap,
            frames: Vec::new(),
            storages,
            acknowledged: vec![BTreeMap::new(); VALIDATORS],
            random: Sequence(seed),
        }
    }

    /// Runs the network from what the disks hold until the next power cut; returns what is wrong.
    fn run_until_cut(&mut self, how: impl Fn(u64) -> Crash) -> Vec<String> {
        let mut running = match self.net.start(&self.storages) {
            Ok(running) => running,
            Err(error) => return vec![format!("it does not start: {error}")],
        };
        let nodes = running.nodes().to_vec();
        let mut wrong = Vec::new();
        for (index, (node, known)) in nodes.iter().zip(&self.acknowledged).enumerate() {
            for (height, id) in known {
                let found = node.block(BlockSelector::Height(*height)).map(|block| block.id);
                if found != Some(*id) {
                    wrong.push(format!("validator {index} called {id} final at {height} and has {found:?}"));
                }
            }
        }
        if wrong.is_empty() {
            running.load(RATE);
            let known = self.acknowledged.iter().filter_map(|known| known.last_key_value());
            let start = known.map(|(height, _)| height.0).max().unwrap_or(0);
            let goes_on = || (0..VALIDATORS).all(|index| running.durable(index) > start);
            if reached(|| goes_on() || nodes.iter().any(|node| node.observer.is_stopped())) && goes_on() {
                let run_ms = RUN_MS_MIN + self.random.below(RUN_MS_MAX - RUN_MS_MIN);
                std::thread::sleep(Duration::from_millis(run_ms));
            } else {
                let problems: Vec<_> = nodes.iter().map(|node| node.observer.problem()).collect();
                wrong.push(format!("the chain stands still at {start}: {problems:?}"));
            }
        }
        // The cut: from here on nothing reaches a disk any more.
        let seed = self.random.next_number();
        for (n, slow) in (0..).zip(&mut self.storages) {
            slow.storage = slow.storage.crash(how(seed.wrapping_add(n)));
        }
        if running.devnet.forks() > 0 {
            wrong.push("the validators are on different chains".to_owned());
        }
        running.stop();
        for (node, known) in nodes.iter().zip(&mut self.acknowledged) {
            let durable = node.observer.durable_height();
            node.observer.progress(|progress| {
                let new = (progress.final_ids_from..).map(Height).zip(progress.final_ids.iter().copied());
                known.extend(new.filter(|(height, _)| *height <= durable));
            });
            if node.observer.counters.evidence.get() > 0 {
                wrong.push(format!("{} holds evidence of a broken rule", node.observer.name));
            }
        }
        self.frames.extend(self.tap.take());
        wrong.extend(contradictions(&self.net.said(&self.frames)));
        wrong
    }

    fn heights(&self) -> Vec<usize> {
        self.acknowledged.iter().map(BTreeMap::len).collect()
    }
}

/// Cuts the power until something is wrong or `cuts` are over.
fn trial(seed: u64, cuts: usize, left_out: Option<SyncSite>, how: impl Fn(u64) -> Crash) -> Vec<String> {
    cut_again_and_again(Trial::new(seed, left_out, Duration::ZERO), cuts, how)
}

fn cut_again_and_again(mut trial: Trial, cuts: usize, how: impl Fn(u64) -> Crash) -> Vec<String> {
    for _ in 0..=cuts {
        let wrong = trial.run_until_cut(&how);
        if !wrong.is_empty() {
            return wrong;
        }
    }
    assert!(trial.heights().iter().all(|height| *height > cuts), "{:?}", trial.heights());
    Vec::new()
}

#[test]
fn nothing_final_is_lost_and_no_vote_contradicted_when_unsynced_writes_are_dropped() {
    let seeds = std::env::var("ROKO_POWER_SEEDS").map_or(3, |text| text.parse().expect("a number"));
    for seed in 1..=seeds {
        assert_eq!(trial(seed, CUTS, None, |_| Crash::DropAll), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn nothing_final_is_lost_and_no_vote_contradicted_when_unsynced_writes_are_torn() {
    for seed in 11..=12 {
        assert_eq!(trial(seed, CUTS, None, Crash::Random), Vec::<String>::new(), "seed {seed}");
    }
}

/// A block can be final and not on disk yet while the votes that made it so are: they are needed until it is.
#[test]
fn votes_for_a_final_block_are_remembered_until_the_block_is_on_disk() {
    let trial = Trial::new(41, None, Duration::from_millis(200));
    assert_eq!(cut_again_and_again(trial, CUTS, |_| Crash::DropAll), Vec::<String>::new());
}

#[test]
fn a_commit_that_is_not_synced_is_noticed() {
    let wrong = trial(21, CUTS_MAX_BROKEN, Some(SyncSite::Record), |_| Crash::DropAll);
    assert!(wrong.iter().any(|one| one.contains("called") || one.contains("start")), "{wrong:?}");
}

#[test]
fn a_vote_that_is_not_synced_is_noticed() {
    let wrong = trial(31, CUTS_MAX_BROKEN, Some(SyncSite::Votes), |_| Crash::DropAll);
    // A vote is contradicted, or the first frame of the log is lost too and the validator does not start.
    let noticed = |one: &String| one.contains("said") || one.contains("there is no vote log");
    assert!(wrong.iter().any(noticed), "{wrong:?}");
}
