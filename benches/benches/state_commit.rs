//! A final block of 100 transactions made durable by the store, against the floor: one write of as many bytes at the
//! end of a preallocated file, and fdatasync; and against redb, a B-tree in one file that is made durable by one commit.
//!
//! redb does less: as `redb_accounts` it only keeps the changed accounts, as `redb_accounts_and_block` also the block's bytes
//! under its height. It computes no state root, proves nothing, and keeps no index of transactions. The store appends what
//! redb writes into pages, and computes the root of all accounts at each block.
//!
//! The directory is `ROKO_BENCH_DIR` or the system's for temporary files; on a file system in memory the sync costs
//! nothing and the figures say only what the store computes.

use arrayvec::ArrayVec;
use redb::{Database, TableDefinition};
use roko_benches::fixtures::Noise;
use roko_benches::{Comparison, Report};
use roko_os::file::{fdatasync, preallocate, pwrite_all};
use roko_state::file::WritePath;
use roko_state::{CommitBlock, FileStorage, StateStore, Storage, Tree};
use roko_wire::{Account, Address, BlockId, Height, TxId};
use std::path::Path;
use std::time::{Duration, Instant};

const TXS: usize = 100;
const TX_BYTES: usize = 480;
const RECEIPT_BYTES: usize = 60;
const ACCOUNTS: u64 = 10_000;
const CHANGES: u64 = 160;
const REDB_ACCOUNTS: TableDefinition<'_, [u8; 20], [u8; Account::BYTES]> = TableDefinition::new("accounts");
const REDB_BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");

fn address(index: u64) -> Address {
    let mut address = Address::ZERO;
    address.0[..8].copy_from_slice(&index.to_le_bytes());
    address
}

fn account(nonce: u64) -> Account {
    Account { nonce, balance: ruint::aliases::U256::from(nonce) << 64, ..Account::default() }
}

fn bytes(noise: &mut Noise, len: usize) -> Vec<u8> {
    (0..len).map(|_| noise.next_number() as u8).collect()
}

fn changes(height: u64, noise: &mut Noise) -> Vec<(Address, Option<Account>)> {
    (0..CHANGES).map(|_| (address(noise.below(ACCOUNTS)), Some(account(height)))).collect()
}

fn block(height: u64, tree: &Tree, noise: &mut Noise) -> CommitBlock {
    let changes = changes(height, noise);
    CommitBlock {
        height: Height(height),
        block_id: BlockId(noise.bytes()),
        header: bytes(noise, 300),
        body: bytes(noise, TXS * TX_BYTES),
        certificates: bytes(noise, 400),
        receipts: bytes(noise, TXS * RECEIPT_BYTES),
        tx_ids: (0..TXS).map(|_| TxId(noise.bytes())).collect(),
        expected_root: tree.update(&changes).root(),
        changes,
    }
}

/// Bytes of a block as the store must at least write them.
fn payload_bytes(block: &CommitBlock) -> usize {
    let parts = [&block.header, &block.body, &block.certificates, &block.receipts];
    parts.iter().map(|part| part.len()).sum::<usize>() + 32 * block.tx_ids.len() + 64 * block.changes.len()
}

/// redb in a file of its own, with all accounts of genesis in it.
struct Redb {
    database: Database,
    height: u64,
    noise: Noise,
    /// What is kept of a block beside the accounts; empty to keep nothing.
    payload: Vec<u8>,
}

impl Redb {
    fn create(path: &Path, payload: Vec<u8>) -> Result<Redb, redb::Error> {
        let mut redb = Redb { database: Database::create(path)?, height: 0, noise: Noise(5), payload };
        let genesis: Vec<_> = (0..ACCOUNTS).map(|index| (address(index), Some(account(0)))).collect();
        redb.commit(&genesis)?;
        Ok(redb)
    }

    /// One durable commit: redb's default, which is on disk when it returns.
    fn commit(&mut self, changes: &[(Address, Option<Account>)]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut accounts = write.open_table(REDB_ACCOUNTS)?;
            for (address, account) in changes {
                let mut bytes = ArrayVec::<u8, { Account::BYTES }>::new();
                account.unwrap_or_default().write(&mut bytes);
                let bytes = bytes.into_inner().expect("the layout has one length");
                accounts.insert(address.0, bytes)?;
            }
        }
        if !self.payload.is_empty() {
            write.open_table(REDB_BLOCKS)?.insert(self.height, self.payload.as_slice())?;
        }
        write.commit()?;
        self.height += 1;
        Ok(())
    }

    /// Commits so many blocks; returns the time of the commits alone.
    fn blocks(&mut self, count: u64) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..count {
            let changes = changes(self.height, &mut self.noise);
            let began = Instant::now();
            self.commit(&changes).expect("the block is durable");
            total += began.elapsed();
        }
        total
    }
}

fn main() {
    let mut report = Report::new("state_commit", "none; a file");
    let mut criterion = Report::criterion();
    let base = std::env::var_os("ROKO_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(base).expect("the directory can be written");
    let storage =
        FileStorage::open(&directory.path().join("store"), WritePath::Best).expect("a store's directory");
    report.note(format!("write path: {}", storage.kind()));
    let genesis: Vec<_> = (0..ACCOUNTS).map(|index| (address(index), account(0))).collect();
    let (mut store, _) = StateStore::open(storage, &genesis, BlockId::ZERO).expect("a new store opens");
    let mut noise = Noise(5);
    let sample = block(1, &store.tree(), &mut noise);
    let len = payload_bytes(&sample);
    report.note(format!("a block of {TXS} transactions: {len} bytes and {CHANGES} changed accounts"));

    let mut height = 0;
    let commit = move |blocks: u64| {
        let mut total = Duration::ZERO;
        for _ in 0..blocks {
            height += 1;
            let block = block(height, &store.tree(), &mut noise);
            let began = Instant::now();
            store.commit(&block).expect("the block is durable");
            total += began.elapsed();
            store.maintain().expect("the next segment is ready");
        }
        total
    };

    let file = std::fs::File::options()
        .create_new(true)
        .write(true)
        .open(directory.path().join("floor"))
        .expect("a new file");
    const ROOM: u64 = 64 << 20;
    preallocate(&file, 0, ROOM).expect("the disk has room");
    let (payload, mut at) = (vec![7; len], 0);
    let append = move |blocks: u64| {
        let began = Instant::now();
        for _ in 0..blocks {
            pwrite_all(&file, &payload, at).expect("the disk has room");
            fdatasync(&file).expect("the disk syncs");
            at = if at + 2 * len as u64 > ROOM { 0 } else { at + len as u64 };
        }
        began.elapsed()
    };
    let create = |name: &str, payload| {
        Redb::create(&directory.path().join(name), payload).expect("redb's file is made")
    };
    let mut accounts = create("accounts.redb", Vec::new());
    let mut accounts_and_block = create("blocks.redb", vec![7; len - 64 * sample.changes.len()]);
    Comparison::new("state_commit/txs=100", 1)
        .case("roko_state", commit)
        .case("append_fdatasync", append)
        .case("redb_accounts", |blocks| accounts.blocks(blocks))
        .case("redb_accounts_and_block", |blocks| accounts_and_block.blocks(blocks))
        .run(&mut criterion, &mut report);
    report.finish(criterion);
}
