//! Measures the store on the disk of a directory: `cargo run --release -p roko-state --example measure -- DIR`.
//!
//! Every figure is taken on both write paths, in turns, in one run, since absolute figures move with the host.
#![allow(missing_docs)]

use roko_state::fault::Sequence;
use roko_state::file::WritePath;
use roko_state::{
    CommitBlock, FileStorage, StateStore, Storage, StorageFile, SyncSite, Tree, VoteLog, VoteLogOptions,
};
use roko_wire::{Account, Address, BlockId, Hash32, Height, TxId};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// Transactions of a block, and bytes of one in body and receipts.
const BLOCK_TXS: usize = 100;
const TX_BYTES: usize = 260;
const RECEIPT_BYTES: usize = 60;
/// Accounts of the state and accounts that a block changes.
const ACCOUNTS: u64 = 10_000;
const CHANGES: u64 = 160;

fn address(index: u64) -> Address {
    let mut address = Address::ZERO;
    address.0[..8].copy_from_slice(&index.to_le_bytes());
    address
}

fn account(nonce: u64) -> Account {
    Account { nonce, balance: ruint::aliases::U256::from(nonce) << 64, ..Account::default() }
}

fn bytes(random: &mut Sequence, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next_number() as u8).collect()
}

/// The next block on `tree`.
fn block(height: u64, tree: &Tree, random: &mut Sequence) -> CommitBlock {
    let changes: Vec<_> =
        (0..CHANGES).map(|_| (address(random.below(ACCOUNTS)), Some(account(height)))).collect();
    let hash = |random: &mut Sequence| core::array::from_fn(|_| random.next_number() as u8);
    CommitBlock {
        height: Height(height),
        block_id: BlockId(hash(random)),
        header: bytes(random, 300),
        body: bytes(random, BLOCK_TXS * TX_BYTES),
        certificates: bytes(random, 400),
        receipts: bytes(random, BLOCK_TXS * RECEIPT_BYTES),
        tx_ids: (0..BLOCK_TXS).map(|_| TxId(hash(random))).collect(),
        expected_root: tree.update(&changes).root(),
        changes,
    }
}

fn print(what: &str, mut nanoseconds: Vec<u64>) {
    nanoseconds.sort_unstable();
    let at = |share: usize| nanoseconds[(nanoseconds.len() - 1) * share / 1000] as f64 / 1000.0;
    let max = at(1000);
    println!(
        "{what:56} p50 {:9.1} us  p99 {:9.1} us  max {max:9.1} us  n {}",
        at(500),
        at(990),
        nanoseconds.len()
    );
}

fn timed<T>(times: &mut Vec<u64>, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = act();
    times.push(start.elapsed().as_nanos() as u64);
    value
}

fn genesis() -> Vec<(Address, Account)> {
    (0..ACCOUNTS).map(|index| (address(index), account(0))).collect()
}

fn commits(directory: &Path, path: WritePath, blocks: u64, maintained: bool) -> Result<(), Box<dyn Error>> {
    let storage = FileStorage::open(directory, path)?;
    let (mut store, _) = StateStore::open(storage.clone(), &genesis(), BlockId::ZERO)?;
    let mut random = Sequence(1);
    let mut times = Vec::new();
    for height in 1..=blocks {
        let block = block(height, &store.tree(), &mut random);
        timed(&mut times, || store.commit(&block))?;
        if maintained {
            store.maintain()?;
        }
    }
    print(
        &format!("commit, {}, {}", storage.kind(), if maintained { "maintained" } else { "not maintained" }),
        times,
    );
    Ok(())
}

fn votes(directory: &Path, path: WritePath) -> Result<(), Box<dyn Error>> {
    let storage = FileStorage::open(directory, path)?;
    let (mut log, _) = VoteLog::open(&storage, VoteLogOptions::default())?;
    let mut times = Vec::new();
    for _ in 0..2000 {
        log.prune_below(log.next_sequence().saturating_sub(8));
        timed(&mut times, || log.append_batch(&[&[1; 200], &[2; 200]]))?;
    }
    print(&format!("vote batch, {}", storage.kind()), times);
    Ok(())
}

/// The same sectors on a file that is not preallocated: what preallocation is worth.
fn appended(directory: &Path, path: WritePath, preallocated: bool) -> Result<(), Box<dyn Error>> {
    let storage = FileStorage::open(directory, path)?;
    let file = storage.create("appended")?;
    if preallocated {
        file.preallocate(0, 32 << 20)?;
    }
    let mut times = Vec::new();
    let mut buffer = vec![3; 32 << 10];
    for index in 0..800 {
        timed(&mut times, || file.write_sync(index * (32 << 10), &mut buffer, SyncSite::Record))?;
    }
    let how = if preallocated { "zeroed before" } else { "appended" };
    print(&format!("32 KiB write and sync, {how}, {}", storage.kind()), times);
    storage.remove("appended")?;
    Ok(())
}

fn trees() {
    let changes: Vec<_> = genesis().into_iter().map(|(address, account)| (address, Some(account))).collect();
    let mut times = Vec::new();
    let mut tree = timed(&mut times, || Tree::new().update(&changes));
    print("tree, building 10,000 accounts", times);
    let mut random = Sequence(2);
    let mut times = Vec::new();
    for round in 0..500 {
        let changes: Vec<_> =
            (0..CHANGES).map(|_| (address(random.below(ACCOUNTS)), Some(account(round)))).collect();
        tree = timed(&mut times, || tree.update(&changes));
    }
    print("tree, update of 160 accounts of 10,000", times);
    let mut times = Vec::new();
    let root: Hash32 = tree.root();
    for _ in 0..1000 {
        let address = address(random.below(ACCOUNTS));
        let proof = timed(&mut times, || tree.prove(&address));
        assert!(proof.verify(&root, &address, tree.get(&address).as_ref()));
    }
    print("tree, proof", times);
}

fn opening(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let storage = FileStorage::open(directory, WritePath::Best)?;
        let (_, report) = timed(&mut times, || StateStore::open(storage, &genesis(), BlockId::ZERO))?;
        println!(
            "opened: height {}, {} segments, {} transactions",
            report.height, report.segments, report.transactions
        );
    }
    print("open", times);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args().nth(1).ok_or("give a directory on the disk to be measured")?;
    let base = Path::new(&base);
    trees();
    for round in 0..3 {
        for (path, name) in [(WritePath::Best, "best"), (WritePath::Plain, "plain")] {
            let directory = base.join(format!("{name}-{round}"));
            appended(&directory, path, false)?;
            appended(&directory, path, true)?;
            votes(&directory, path)?;
            commits(&directory, path, 1000, true)?;
            std::fs::remove_dir_all(&directory)?;
        }
    }
    let directory = base.join("open");
    commits(&directory, WritePath::Best, 10_000, true)?;
    opening(&directory)?;
    std::fs::remove_dir_all(&directory)?;
    let directory = base.join("unmaintained");
    commits(&directory, WritePath::Best, 3_000, false)?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
