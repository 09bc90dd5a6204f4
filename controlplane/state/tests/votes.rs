//! The vote log under crashes at every operation, round the circle many times.

mod common;

use common::bytes;
use roko_state::fault::{Crash, FaultStorage, Sequence};
use roko_state::{Storage, SyncSite, VoteLog, VoteLogError, VoteLogOptions};

const OPTIONS: VoteLogOptions = VoteLogOptions { bytes: 16 * 1024 };

/// Batches of votes, and where the log is pruned to before each.
struct Votes {
    batches: Vec<(u64, Vec<Vec<u8>>)>,
}

impl Votes {
    fn random(seed: u64, count: usize) -> Votes {
        let mut random = Sequence(seed);
        let mut sequence = 0_u64;
        let batches = (0..count)
            .map(|_| {
                let prune = sequence.saturating_sub(random.below(6));
                let votes: Vec<_> = (0..1 + random.below(3)).map(|_| bytes(&mut random, 700)).collect();
                sequence += votes.len() as u64;
                (prune, votes)
            })
            .collect();
        Votes { batches }
    }

    fn all(&self) -> Vec<&Vec<u8>> {
        self.batches.iter().flat_map(|(_, votes)| votes).collect()
    }

    /// Appends from record `from` on (a batch boundary); returns the next sequence and the pruning that were
    /// acknowledged.
    fn append(&self, log: &mut VoteLog<FaultStorage>) -> (u64, u64) {
        let mut pruned = 0;
        let mut sequence = 0;
        for (prune, votes) in &self.batches {
            let start = sequence;
            sequence += votes.len() as u64;
            if start < log.next_sequence() {
                pruned = pruned.max(*prune);
                continue;
            }
            log.prune_below(*prune);
            let votes: Vec<_> = votes.iter().map(Vec::as_slice).collect();
            match log.append_batch(&votes) {
                Ok(first) => assert_eq!(first, start),
                Err(_) => return (start, pruned.max(*prune)),
            }
            pruned = pruned.max(*prune);
        }
        (sequence, pruned)
    }
}

/// Opens what a crash left: no record from the pruning on may be missing, and none may be wrong.
fn reopen(
    votes: &Votes,
    storage: &FaultStorage,
    acknowledged: (u64, u64),
    when: &str,
) -> Result<VoteLog<FaultStorage>, String> {
    let (next, pruned) = acknowledged;
    let (log, report) = VoteLog::open(storage, OPTIONS).map_err(|error| format!("{when}: {error}"))?;
    let recovered = log.recover().map_err(|error| format!("{when}: {error}"))?;
    let all = votes.all();
    let range = report.first as usize..report.first as usize + recovered.len();
    if log.next_sequence() < next
        || report.first > pruned.max(next)
        || range.end as u64 != log.next_sequence()
    {
        return Err(format!("{when}: votes {range:?}, acknowledged below {next}, pruned below {pruned}"));
    }
    if !all[range].iter().copied().eq(recovered.iter()) {
        return Err(format!("{when}: a vote is not what was written"));
    }
    Ok(log)
}

fn run(votes: &Votes, storage: &FaultStorage) -> (u64, u64) {
    match VoteLog::open(storage, OPTIONS) {
        Ok((mut log, _)) => votes.append(&mut log),
        Err(_) => (0, 0),
    }
}

fn torture(ignored: Option<SyncSite>) -> Result<(), String> {
    for seed in 1..4 {
        let votes = Votes::random(seed, 60);
        let whole = FaultStorage::new();
        assert_eq!(run(&votes, &whole).0 as usize, votes.all().len());
        for operation in 0..=whole.operations() {
            for how in [None, Some(Crash::DropAll), Some(Crash::KeepAll), Some(Crash::Random(operation))] {
                let storage = FaultStorage::new();
                storage.ignore_syncs(ignored);
                storage.stop_at(operation);
                let acknowledged = run(&votes, &storage);
                let when = format!("seed {seed}, operation {operation}, {how:?}");
                let storage = how.map_or_else(|| storage.restart(), |how| storage.crash(how));
                let log = reopen(&votes, &storage, acknowledged, &when)?;
                // What the new process relies on survives a power cut at once...
                let relied_on = (log.next_sequence(), acknowledged.1);
                drop(log);
                let storage = storage.crash(Crash::DropAll);
                let mut log = reopen(&votes, &storage, relied_on, &format!("{when}, then power lost"))?;
                // ... and at the end.
                let end = votes.append(&mut log);
                if end.0 as usize != votes.all().len() {
                    return Err(format!("{when}: the log does not go on"));
                }
                reopen(&votes, &storage.crash(Crash::DropAll), end, &format!("{when}, at the end"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn no_crash_loses_an_acknowledged_vote() {
    torture(None).unwrap();
}

#[test]
fn leaving_out_any_one_sync_is_found() {
    for site in [SyncSite::Votes, SyncSite::DirectoryVotes, SyncSite::VotesReopen] {
        assert!(torture(Some(site)).is_err(), "the suite does not notice that {site:?} is not synced");
    }
}

#[test]
fn a_full_log_refuses_and_pruning_makes_room() {
    let storage = FaultStorage::new();
    let (mut log, _) = VoteLog::open(&storage, OPTIONS).unwrap();
    let vote = [7_u8; 900];
    let mut appended = 0_u64;
    let full = loop {
        match log.append_batch(&[&vote]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, VoteLogError::Full { .. }), "{full}");
    assert!(appended >= 14, "{appended}");
    assert_eq!(log.recover().unwrap().len() as u64, appended);
    // Pruning everything but two frees all others, though the watermark was not durable before.
    log.prune_below(appended - 2);
    for _ in 0..5 {
        log.append_batch(&[&vote]).unwrap();
    }
    drop(log);
    let (log, report) = VoteLog::open(&storage.crash(Crash::DropAll), OPTIONS).unwrap();
    assert_eq!((report.first, log.recover().unwrap().len()), (appended - 2, 7));
    assert!(matches!(log_too_large(), VoteLogError::TooLarge { bytes: 2049 }));
}

fn log_too_large() -> VoteLogError {
    let (mut log, _) = VoteLog::open(&FaultStorage::new(), OPTIONS).unwrap();
    log.append_batch(&[&[0; 2049]]).unwrap_err()
}

#[test]
fn a_flipped_bit_in_any_needed_vote_is_found() {
    let storage = FaultStorage::new();
    let (mut log, _) = VoteLog::open(&storage, OPTIONS).unwrap();
    for index in 0..4_u8 {
        log.append_batch(&[&[index; 300], &[index; 5]]).unwrap();
    }
    drop(log);
    let contents = storage.contents("votes").unwrap();
    assert!(storage.list().unwrap().contains(&"votes".to_owned()));
    // The first sector is the frame that says that the log is in use.
    for byte in 512..5 * 512 {
        let storage = storage.restart();
        storage.flip_bit("votes", (byte * 8 + byte % 8) as u64);
        assert_ne!(storage.contents("votes").unwrap(), contents);
        match VoteLog::open(&storage, OPTIONS) {
            // Damage before the newest frame leaves a gap; in the newest it is what a torn append looks like, told
            // unless the very mark of a frame was hit.
            Err(VoteLogError::Corrupt { .. }) => assert!(byte < 4 * 512, "{byte}"),
            Err(error) => panic!("{byte}: {error}"),
            Ok((log, report)) => {
                assert!(byte >= 4 * 512, "{byte}");
                assert_eq!(log.recover().unwrap().len(), 6);
                assert!(report.torn || (4 * 512 + 32..4 * 512 + 36).contains(&byte), "{byte}");
            }
        }
    }
}

#[test]
fn a_damaged_log_is_told_from_a_new_one_and_begins_anew_when_it_is_removed() {
    let storage = FaultStorage::new();
    assert_eq!(VoteLog::inspect(&storage).unwrap(), None);
    let (mut log, report) = VoteLog::open(&storage, OPTIONS).unwrap();
    assert!(report.created);
    drop(log);
    assert_eq!(VoteLog::inspect(&storage).unwrap(), Some(vec![]), "in use, without a vote");
    (log, _) = VoteLog::open(&storage, OPTIONS).unwrap();
    for index in 0..4_u8 {
        log.append_batch(&[&[index; 300]]).unwrap();
    }
    drop(log);
    assert_eq!(VoteLog::inspect(&storage).unwrap().map(|votes| votes.len()), Some(4));
    storage.flip_bit("votes", (2 * 512 + 100) * 8);
    assert!(matches!(VoteLog::inspect(&storage), Err(VoteLogError::Corrupt { .. })));
    VoteLog::remove(&storage).unwrap();
    let storage = storage.crash(Crash::DropAll);
    assert_eq!(VoteLog::inspect(&storage).unwrap(), None);
    let (_, report) = VoteLog::open(&storage, OPTIONS).unwrap();
    assert!(report.created && report.records == 0);
    let (_, report) = VoteLog::open(&storage.crash(Crash::DropAll), OPTIONS).unwrap();
    assert!(!report.created, "it is known to be in use, whatever power takes");
}
