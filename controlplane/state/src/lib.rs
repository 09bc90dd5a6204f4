//! The durable state of the chain: final blocks, accounts, the root that commits to them, and proofs from it.
//!
//! One writer, one batch a block (or a group of blocks), snapshot readers on other threads, and everything
//! replayable from the blocks. The way of a block: [`store::StateStore::commit`] checks its root against the
//! [`tree`], encodes a [`segment`] record, writes and syncs it in one operation of a [`storage::Storage`], and
//! only then publishes the new version to readers. [`superblock`] says which segments exist, and whether the store begins
//! at genesis or from a snapshot, whose accounts are in [`base`]. The consensus
//! machine's votes go to the [`vote_log`], which is durable before a vote leaves the node.
//!
//! [`fault`] is a storage in memory that loses, tears and reorders what was not synced; the tests of every crate
//! that needs durable storage use it.
#![forbid(unsafe_code)]

pub mod base;
mod error;
pub mod fault;
pub mod file;
pub mod index;
pub mod pins;
pub mod proof;
pub mod range;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod segment;
pub mod storage;
pub mod store;
pub mod superblock;
pub mod tree;
pub mod vote_frame;
pub mod vote_log;

pub use base::SnapshotBuilder;
pub use error::StateError;
pub use file::FileStorage;
pub use proof::Proof;
pub use range::{ProvenRange, RangeError};
pub use reader::{Last, Reader, Snapshot};
pub use record::{BlockRecord, CommitBlock};
pub use recovery::OpenReport;
pub use repair::{Repair, repair};
pub use storage::{CrashPoint, Storage, StorageFile, SyncSite};
pub use store::{Committed, StateStore, StoreOptions};
pub use tree::Tree;
pub use vote_log::{VoteLog, VoteLogError, VoteLogOptions, VoteLogReport};
