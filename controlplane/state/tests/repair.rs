//! Damage anywhere in a segment: what stands before it is kept, and the chain goes on from there. A repair that is
//! stopped at any operation can be made again.

mod common;

use common::{Chain, GENESIS_ID, genesis, options};
use roko_state::fault::{Crash, FaultStorage};
use roko_state::{OpenReport, Repair, StateError, StateStore, Storage, repair};

type Store = StateStore<FaultStorage>;

fn open(storage: &FaultStorage) -> Result<(Store, OpenReport), StateError> {
    StateStore::open_with(storage.clone(), &genesis(), GENESIS_ID, options())
}

/// A chain that begins from a snapshot, ended in order.
fn written_from_snapshot() -> (Chain, FaultStorage) {
    let chain = Chain::random(32, 14).beginning_at(6);
    let storage = FaultStorage::new();
    let (mut store, _) = chain.open(&storage).unwrap();
    assert!(chain.commit_rest(&mut store).1);
    store.close().unwrap();
    (chain, storage)
}

fn mend(storage: &FaultStorage) -> Result<Repair, StateError> {
    repair(storage, &genesis(), GENESIS_ID, options())
}

/// A chain on several segments, ended in order.
fn written() -> (Chain, FaultStorage) {
    let chain = Chain::random(31, 14);
    let storage = FaultStorage::new();
    let (mut store, _) = open(&storage).unwrap();
    assert!(chain.commit_rest(&mut store).1);
    store.close().unwrap();
    (chain, storage)
}

fn segments(storage: &FaultStorage) -> Vec<String> {
    let mut names = storage.list().unwrap();
    names.retain(|name| name.starts_with("segment"));
    names.sort();
    names
}

/// The kept part is the oracle's, and takes the rest of the chain, which then survives a loss of power.
fn goes_on(chain: &Chain, storage: &FaultStorage, kept: u64) {
    let (mut store, report) = open(storage).unwrap();
    assert_eq!(report.height.0, kept);
    chain.check(&store).unwrap();
    assert!(chain.commit_rest(&mut store).1);
    let (store, report) = open(&storage.crash(Crash::DropAll)).unwrap();
    assert_eq!(report.height.0, chain.blocks.len() as u64);
    chain.check(&store).unwrap();
}

#[test]
fn what_stands_before_the_damage_is_kept() {
    let (chain, storage) = written();
    let names = segments(&storage);
    assert!(names.len() >= 3, "{names:?}");
    let (mut least, mut most) = (u64::MAX, 0);
    for name in &names {
        let contents = storage.contents(name).unwrap();
        let used = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in (0..used).step_by(211) {
            let storage = storage.restart();
            assert!(storage.flip_bit(name, byte as u64 * 8 + 3));
            assert!(matches!(open(&storage), Err(StateError::Corrupt { .. })), "{name} {byte}");
            let mended = mend(&storage).unwrap();
            assert!(mended.segment <= *name && mended.kept.0 < chain.blocks.len() as u64, "{mended:?}");
            goes_on(&chain, &storage, mended.kept.0);
            (least, most) = (least.min(mended.kept.0), most.max(mended.kept.0));
        }
    }
    assert!(least == 0 && most + 4 > chain.blocks.len() as u64, "kept {least} to {most}");
}

#[test]
fn a_repair_that_is_stopped_anywhere_can_be_made_again() {
    let (chain, storage) = written();
    let name = &segments(&storage)[1];
    storage.flip_bit(name, 8 * 700);
    let kept = mend(&storage.restart()).unwrap().kept.0;
    let mut stops = 0;
    for operation in 1.. {
        let stopped = storage.restart();
        stopped.stop_at(operation);
        if mend(&stopped).is_ok() {
            break;
        }
        stops += 1;
        for crash in [Crash::DropAll, Crash::Random(operation)] {
            let after = stopped.crash(crash);
            match open(&after) {
                Ok((_, report)) => assert_eq!(report.height.0, kept, "stopped at {operation}"),
                Err(StateError::Corrupt { .. }) => assert_eq!(mend(&after).unwrap().kept.0, kept),
                Err(error) => panic!("stopped at {operation}: {error}"),
            }
            goes_on(&chain, &after, kept);
        }
    }
    assert!(stops >= 4, "{stops} operations");
}

#[test]
fn a_missing_segment_ends_what_is_kept() {
    let (chain, storage) = written();
    let names = segments(&storage);
    storage.remove(&names[1]).unwrap();
    assert!(matches!(open(&storage), Err(StateError::Corrupt { .. })));
    let mended = mend(&storage).unwrap();
    assert_eq!(mended.segment, names[0]);
    assert_eq!(mended.removed, names[2..]);
    goes_on(&chain, &storage, mended.kept.0);
}

#[test]
fn a_store_that_begins_from_a_snapshot_is_repaired_down_to_it() {
    let (chain, storage) = written_from_snapshot();
    let names = segments(&storage);
    assert!(names.len() >= 2, "{names:?}");
    let (mut least, mut most) = (u64::MAX, 0);
    for name in &names {
        let contents = storage.contents(name).unwrap();
        let used = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in (0..used).step_by(487) {
            let storage = storage.restart();
            assert!(storage.flip_bit(name, byte as u64 * 8 + 3));
            assert!(matches!(open(&storage), Err(StateError::Corrupt { .. })), "{name} {byte}");
            let kept = mend(&storage).unwrap().kept.0;
            goes_on(&chain, &storage, kept);
            (least, most) = (least.min(kept), most.max(kept));
        }
    }
    assert!(least == 6 && most + 4 > chain.blocks.len() as u64, "kept {least} to {most}");
    // Nothing stands before the snapshot itself.
    for byte in [40, 900, 2_000] {
        let storage = storage.restart();
        assert!(storage.flip_bit("base", byte * 8));
        assert!(matches!(open(&storage), Err(StateError::BaseDamaged { .. })), "{byte}");
        assert!(matches!(mend(&storage), Err(StateError::BaseDamaged { .. })), "{byte}");
    }
}
