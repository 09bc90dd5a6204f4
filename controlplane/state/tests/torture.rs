//! Crashes at every operation and every named point, with what was not synced dropped, torn and reordered.
//!
//! The rule: after reopening, the state is the oracle's at the acknowledged height or a later one. The suite itself
//! is tested: with the syncs of any one site left out, it must find a loss.

mod common;

use common::{Chain, GENESIS_ID, genesis, options};
use roko_state::fault::{Crash, FaultStorage};
use roko_state::{CrashPoint, OpenReport, SnapshotBuilder, StateError, StateStore, Storage, SyncSite};

type Store = StateStore<FaultStorage>;

/// The sites of the store; the vote log has its own suite.
const SITES: [SyncSite; 10] = [
    SyncSite::Base,
    SyncSite::DirectoryBase,
    SyncSite::Record,
    SyncSite::SuperblockCreate,
    SyncSite::SuperblockRoll,
    SyncSite::SuperblockCheckpoint,
    SyncSite::SuperblockReopen,
    SyncSite::RecordReopen,
    SyncSite::DirectoryCreate,
    SyncSite::DirectoryRoll,
];

fn open(chain: &Chain, storage: &FaultStorage) -> Result<(Store, OpenReport), StateError> {
    chain.open(storage)
}

/// Runs the chain until it ends or the machine stops; returns the last acknowledged height.
fn run(chain: &Chain, storage: &FaultStorage) -> u64 {
    let Ok((mut store, _)) = open(chain, storage) else { return 0 };
    chain.commit_rest(&mut store).0
}

/// Opens what a crash left, holds it against the oracle, and returns the store.
fn reopen(chain: &Chain, storage: &FaultStorage, acknowledged: u64, when: &str) -> Result<Store, String> {
    let (store, report) = open(chain, storage).map_err(|error| format!("{when}: {error}"))?;
    let height = store.last().height.0;
    if height < acknowledged {
        return Err(format!("{when}: height {height} after {acknowledged} was acknowledged"));
    }
    if report.height.0 != height || report.root != store.last().root {
        return Err(format!("{when}: the report is not the store's"));
    }
    chain.check(&store).map_err(|error| format!("{when}: {error}"))?;
    Ok(store)
}

fn stopped_at(operation: u64, ignored: Option<SyncSite>) -> FaultStorage {
    let storage = FaultStorage::new();
    storage.ignore_syncs(ignored);
    storage.stop_at(operation);
    storage
}

/// After a crash: recover, go on to the end, lose power, and everything is still there.
fn crash_and_go_on(
    chain: &Chain,
    storage: &FaultStorage,
    how: Crash,
    acknowledged: u64,
    when: &str,
) -> Result<(), String> {
    let storage = storage.crash(how);
    let mut store = reopen(chain, &storage, acknowledged, when)?;
    let (end, whole) = chain.commit_rest(&mut store);
    if !whole {
        return Err(format!("{when}: the store does not go on after height {end}"));
    }
    drop(store);
    reopen(chain, &storage.crash(Crash::DropAll), end, &format!("{when}, then to the end")).map(drop)
}

/// Every operation, every kind of crash.
fn torture_operations(chain: &Chain, ignored: Option<SyncSite>) -> Result<(), String> {
    let whole = FaultStorage::new();
    run(chain, &whole);
    for operation in 0..=whole.operations() {
        for how in
            [Crash::DropAll, Crash::KeepAll, Crash::Random(operation), Crash::Random(operation + 1_000_000)]
        {
            let storage = stopped_at(operation, ignored);
            let acknowledged = run(chain, &storage);
            crash_and_go_on(chain, &storage, how, acknowledged, &format!("operation {operation}, {how:?}"))?;
        }
    }
    Ok(())
}

/// The process is killed at every operation and restarted; what the new process relies on survives a power cut.
fn torture_restarts(chain: &Chain, ignored: Option<SyncSite>) -> Result<(), String> {
    let whole = FaultStorage::new();
    run(chain, &whole);
    for operation in 0..=whole.operations() {
        for commits in [false, true] {
            let storage = stopped_at(operation, ignored);
            let acknowledged = run(chain, &storage);
            let when = format!("killed at operation {operation}");
            let storage = storage.restart();
            let mut store = reopen(chain, &storage, acknowledged, &when)?;
            let relied_on = if commits { chain.commit_rest(&mut store).0 } else { store.last().height.0 };
            drop(store);
            reopen(chain, &storage.crash(Crash::DropAll), relied_on, &format!("{when}, then power lost"))?;
        }
    }
    Ok(())
}

/// Fetching a snapshot is stopped at every operation: what was kept is there, and the rest follows.
fn torture_fetch(chain: &Chain, ignored: Option<SyncSite>) -> Result<(), String> {
    if chain.base == 0 {
        return Ok(());
    }
    for operation in 0.. {
        let storage = stopped_at(operation, ignored);
        let mut kept = 0;
        let done = chain.fetch(&storage, &mut kept).is_ok();
        for how in [Crash::DropAll, Crash::Random(operation)] {
            let storage = storage.crash(how);
            let when = format!("fetching, operation {operation}, {how:?}");
            let resumed = SnapshotBuilder::resume(&storage, &genesis(), GENESIS_ID);
            let resumed = resumed.map_err(|error| format!("{when}: {error}"))?;
            let there = resumed.map_or(0, |builder| builder.covered().len());
            if there < kept {
                return Err(format!("{when}: {there} ranges after {kept} were kept"));
            }
            reopen(chain, &storage, chain.base as u64, &when)?;
        }
        if done {
            break;
        }
    }
    Ok(())
}

/// Each named crash point, each time it is passed.
fn torture_points(chain: &Chain, ignored: Option<SyncSite>) -> Result<(), String> {
    for point in CrashPoint::ALL {
        let mut reached = 0;
        for commits in 0..chain.batches.len() {
            for how in [Crash::DropAll, Crash::Random(commits as u64)] {
                let storage = FaultStorage::new();
                storage.ignore_syncs(ignored);
                let (mut store, _) = open(chain, &storage).map_err(|error| error.to_string())?;
                let done: usize = chain.batches[..commits].iter().sum();
                store
                    .commit_batch(&chain.blocks[chain.base..done.max(chain.base)])
                    .map_err(|error| error.to_string())?;
                storage.stop_at_point(point);
                let (acknowledged, _) = chain.commit_rest(&mut store);
                reached += u64::from(storage.is_stopped());
                crash_and_go_on(chain, &storage, how, acknowledged, &format!("{point:?}, {how:?}"))?;
            }
        }
        if reached == 0 {
            return Err(format!("{point:?} is never passed"));
        }
    }
    Ok(())
}

/// After a clean close, damage to the last record is damage and not a torn end, even if power was lost since.
fn torture_close(chain: &Chain, ignored: Option<SyncSite>) -> Result<(), String> {
    let storage = FaultStorage::new();
    storage.ignore_syncs(ignored);
    let (mut store, _) = open(chain, &storage).map_err(|error| error.to_string())?;
    store.commit_batch(&chain.blocks[..1]).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    let storage = storage.crash(Crash::DropAll);
    storage.flip_bit("segment-00000000", 8 * 200);
    match open(chain, &storage) {
        Err(StateError::Corrupt { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok((_, report)) => Err(format!("damage passed for a torn end: {:?}", report.cut)),
    }
}

fn torture(ignored: Option<SyncSite>) -> Result<(), String> {
    torture_close(&Chain::random(1, 3), ignored)?;
    for (seed, base) in [(3, 0), (4, 0), (13, 5)] {
        let chain = Chain::random(seed, 14);
        let chain = if base > 0 { chain.beginning_at(base) } else { chain };
        let named = |error| format!("seed {seed}, base {base}: {error}");
        torture_fetch(&chain, ignored).map_err(named)?;
        torture_operations(&chain, ignored).map_err(named)?;
        torture_restarts(&chain, ignored).map_err(named)?;
        torture_points(&chain, ignored).map_err(named)?;
    }
    Ok(())
}

#[test]
fn no_crash_loses_an_acknowledged_block() {
    torture(None).unwrap();
}

#[test]
fn leaving_out_any_one_sync_is_found() {
    for site in SITES {
        let found = torture(Some(site));
        assert!(found.is_err(), "the suite does not notice that {site:?} is not synced");
    }
}

#[test]
fn crashes_while_recovering_lose_nothing() {
    let chain = Chain::random(5, 12);
    let whole = FaultStorage::new();
    run(&chain, &whole);
    for operation in (0..whole.operations()).step_by(3) {
        for inner in 0.. {
            let storage = stopped_at(operation, None);
            let acknowledged = run(&chain, &storage);
            let storage = storage.crash(Crash::Random(operation ^ inner << 32));
            storage.stop_at(inner);
            let stopped = open(&chain, &storage).is_err();
            crash_and_go_on(
                &chain,
                &storage,
                Crash::Random(inner),
                acknowledged,
                &format!("{operation}, {inner}"),
            )
            .unwrap();
            if !stopped {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_changes_nothing_and_the_commit_can_be_tried_again() {
    let chain = Chain::random(6, 14);
    let mut refusals = 0;
    for spare in (0..20_000).step_by(512) {
        let storage = FaultStorage::new();
        let (mut store, _) = open(&chain, &storage).unwrap();
        let used = 8 * 1024 + 8192;
        storage.set_space_bytes(Some(used + spare));
        let mut height = 0;
        while height < chain.blocks.len() {
            match store.commit(&chain.blocks[height]) {
                Ok(_) => height += 1,
                Err(StateError::NoSpace { .. }) => {
                    refusals += 1;
                    assert_eq!(store.last().height.0 as usize, height);
                    chain.check(&store).unwrap();
                    if height % 2 == 0 {
                        // Half of the time the node does not live to see room again.
                        drop(store);
                        let after = storage.crash(Crash::Random(spare));
                        reopen(&chain, &after, height as u64, "disk full").unwrap();
                        return_to_room(&chain, &after);
                        break;
                    }
                    storage.set_space_bytes(None);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refusals > 20, "{refusals}");
}

fn return_to_room(chain: &Chain, storage: &FaultStorage) {
    let (mut store, _) = open(chain, storage).unwrap();
    assert!(chain.commit_rest(&mut store).1);
    chain.check(&store).unwrap();
}

#[test]
fn each_refused_operation_is_retried_or_closes_the_store() {
    let chain = Chain::random(7, 10);
    let whole = FaultStorage::new();
    run(&chain, &whole);
    for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
        for operation in 5..whole.operations() {
            let storage = FaultStorage::new();
            let (mut store, _) = open(&chain, &storage).unwrap();
            storage.refuse(operation, kind);
            let (mut acknowledged, whole) = chain.commit_rest(&mut store);
            if !whole {
                let again = chain.commit_rest(&mut store);
                if kind == std::io::ErrorKind::StorageFull {
                    assert!(again.1, "operation {operation}: a full disk is not retried");
                } else {
                    assert!(
                        !again.1 && again.0 == acknowledged,
                        "operation {operation}: commits after an I/O error"
                    );
                }
                acknowledged = again.0;
            }
            drop(store);
            let when = format!("operation {operation} refused with {kind}");
            reopen(&chain, &storage.crash(Crash::Random(operation)), acknowledged, &when).unwrap();
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    flip_every_bit(&Chain::random(8, 12));
    flip_every_bit(&Chain::random(14, 6).beginning_at(4));
}

fn flip_every_bit(chain: &Chain) {
    let storage = FaultStorage::new();
    let (mut store, _) = open(chain, &storage).unwrap();
    assert!(chain.commit_rest(&mut store).1);
    let end = store.last().height.0;
    store.close().unwrap();
    let mut flips = 0;
    for name in storage.list().unwrap() {
        let contents = storage.contents(&name).unwrap();
        for (byte, value) in contents.iter().enumerate() {
            // Zeros between records carry nothing; a bit of each other byte is flipped.
            if *value == 0 && contents[byte & !511..(byte & !511) + 512].iter().all(|byte| *byte == 0) {
                continue;
            }
            let storage = storage.restart();
            assert!(storage.flip_bit(&name, (byte * 8 + byte % 8) as u64));
            flips += 1;
            match open(chain, &storage) {
                Err(StateError::Corrupt { .. }) => assert!(name.starts_with("segment"), "{name} {byte}"),
                Err(StateError::BaseDamaged { .. }) => assert_eq!(name, "base", "{byte}"),
                Err(error) => panic!("{name} {byte}: {error}"),
                Ok((store, report)) => {
                    assert!(name == "superblock" && report.superblock_damaged.is_some(), "{name} {byte}");
                    assert_eq!(store.last().height.0, end);
                    chain.check(&store).unwrap();
                }
            }
        }
    }
    assert!(flips > 1000, "{flips}");
}

#[test]
fn a_damaged_superblock_does_not_hide_the_segment_that_only_it_listed() {
    let chain = Chain::random(12, 14);
    let storage = FaultStorage::new();
    let never = roko_state::StoreOptions { checkpoint_blocks: u64::MAX, ..options() };
    let (mut store, _) = StateStore::open_with(storage.clone(), &genesis(), GENESIS_ID, never).unwrap();
    for block in &chain.blocks {
        store.commit(block).unwrap();
        let listed = storage.list().unwrap().iter().filter(|name| name.starts_with("segment")).count();
        // The superblock of segment n has sequence n + 1, and its slot is that sequence's parity.
        if listed == 2 {
            let storage = storage.crash(Crash::DropAll);
            storage.flip_bit("superblock", (listed as u64 % 2) * 4096 * 8 + 700);
            let mut store = reopen(&chain, &storage, block.height.0, "newest superblock damaged").unwrap();
            assert_eq!(open(&chain, &storage).unwrap().1.superblock_damaged, None, "it is repaired");
            assert!(chain.commit_rest(&mut store).1);
            reopen(&chain, &storage.crash(Crash::DropAll), chain.blocks.len() as u64, "repaired").unwrap();
            return;
        }
    }
    panic!("the chain fits one segment");
}

#[test]
fn a_bit_flipped_under_an_open_store_is_found_by_the_first_read() {
    let chain = Chain::random(9, 4);
    let storage = FaultStorage::new();
    let (mut store, _) = open(&chain, &storage).unwrap();
    chain.commit_rest(&mut store);
    storage.flip_bit("segment-00000000", 8 * 300 + 1);
    let damaged = chain.blocks.iter().filter(|block| store.block(block.height).is_err()).count();
    assert_eq!(damaged, 1);
}

#[test]
fn another_genesis_and_wrong_blocks_are_refused() {
    let chain = Chain::random(10, 4);
    let storage = FaultStorage::new();
    let (mut store, report) = open(&chain, &storage).unwrap();
    assert!(report.created);
    assert!(matches!(store.commit(&chain.blocks[1]), Err(StateError::WrongHeight { expected: 1, got: 2 })));
    let mut wrong = chain.blocks[0].clone();
    wrong.expected_root.0[0] ^= 1;
    assert!(matches!(store.commit(&wrong), Err(StateError::RootMismatch { height: 1, .. })));
    store.commit(&chain.blocks[0]).unwrap();
    chain.check(&store).unwrap();
    drop(store);
    let other = StateStore::open_with(storage.restart(), &genesis()[..3], GENESIS_ID, options());
    assert!(matches!(other, Err(StateError::WrongGenesis { .. })));
}

#[test]
fn old_transactions_are_forgotten_past_the_limit_and_after_reopening() {
    let chain = Chain::random(11, 20);
    let storage = FaultStorage::new();
    let few = roko_state::StoreOptions { indexed_transactions_max: 7, ..options() };
    let (mut store, _) = StateStore::open_with(storage.clone(), &genesis(), GENESIS_ID, few).unwrap();
    assert!(chain.commit_rest(&mut store).1);
    let known = |store: &Store| -> Vec<_> {
        chain.blocks.iter().flat_map(|block| &block.tx_ids).map(|id| store.transaction(id)).collect()
    };
    let before = known(&store);
    let found = before.iter().flatten().count();
    assert!(found <= 7 && found > 3 && before.len() > 20, "{found} of {}", before.len());
    drop(store);
    let (store, _) = StateStore::open_with(storage.restart(), &genesis(), GENESIS_ID, few).unwrap();
    assert_eq!(known(&store), before);
}
