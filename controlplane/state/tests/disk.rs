//! The store and the vote log on a real directory, on both write paths.

mod common;

use common::{Chain, GENESIS_ID, genesis, options};
use roko_state::file::WritePath;
use roko_state::{FileStorage, StateStore, VoteLog, VoteLogOptions};

#[test]
fn a_store_on_a_disk_survives_reopening_on_either_path() {
    for path in [WritePath::Best, WritePath::Plain] {
        let directory = tempfile::tempdir().unwrap();
        let chain = Chain::random(20, 30);
        let half = chain.blocks.len() / 2;
        let storage = FileStorage::open(directory.path(), path).unwrap();
        let (mut store, report) =
            StateStore::open_with(storage.clone(), &genesis(), GENESIS_ID, options()).unwrap();
        assert!(report.created);
        store.commit_batch(&chain.blocks[..half]).unwrap();
        chain.check(&store).unwrap();
        drop(store);
        let (mut log, _) = VoteLog::open(&storage, VoteLogOptions::default()).unwrap();
        log.append_batch(&[b"one", b"two"]).unwrap();
        drop((log, storage));

        let storage = FileStorage::open(directory.path(), path).unwrap();
        let (mut store, report) =
            StateStore::open_with(storage.clone(), &genesis(), GENESIS_ID, options()).unwrap();
        assert_eq!((report.height.0 as usize, report.created, report.cut), (half, false, None));
        let reader = store.reader();
        let before = reader.snapshot();
        assert!(chain.commit_rest(&mut store).1);
        assert_eq!(before.tree.root(), chain.roots[half]);
        // Sealed segments are read through mappings, by another thread.
        let count = chain.blocks.len() as u64;
        let read = std::thread::spawn(move || {
            (1..=count)
                .map(|height| reader.block(roko_wire::Height(height)).unwrap().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(read.join().unwrap(), chain.blocks);
        store.close().unwrap();
        let (log, report) = VoteLog::open(&storage, VoteLogOptions::default()).unwrap();
        assert_eq!((report.created, log.recover().unwrap()), (false, vec![b"one".to_vec(), b"two".to_vec()]));
    }
}

#[test]
fn a_torn_end_on_a_disk_is_cut_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Chain::random(21, 2);
    let open = || {
        let storage = FileStorage::open(directory.path(), WritePath::Best).unwrap();
        StateStore::open_with(storage, &genesis(), GENESIS_ID, options()).unwrap()
    };
    let (mut store, _) = open();
    store.commit(&chain.blocks[0]).unwrap();
    store.commit(&chain.blocks[1]).unwrap();
    drop(store);
    let path = directory.path().join("segment-00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (mut store, report) = open();
    let cut = report.cut.unwrap();
    assert_eq!((cut.height.0, report.height.0), (2, 1));
    store.commit(&chain.blocks[1]).unwrap();
    chain.check(&store).unwrap();
}

#[test]
fn a_directory_is_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let first = FileStorage::open(directory.path(), WritePath::Best).unwrap();
    let second = FileStorage::open(directory.path(), WritePath::Best);
    assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::ResourceBusy);
    drop(first);
    FileStorage::open(directory.path(), WritePath::Best).unwrap();
}
