//! What the store asks of a disk: a directory of files, durable writes, and the names of every sync and crash point.
//!
//! A write is durable only after a [`StorageFile::write_sync`] on the same file has returned, and a created or
//! removed name only after [`Storage::sync_dir`]. Everything else may be lost, torn by sector or reordered by a
//! crash. Each sync says which one it is, so that tests can take any single one out and see the loss noticed.

use roko_os::Mapping;
use std::io;

/// What a disk writes as a whole: every record, slot and frame starts on such a boundary, so that writing one
/// never rewrites a byte of another that is already acknowledged.
pub const SECTOR_BYTES: u64 = 512;

/// Rounds a length up to whole sectors.
#[must_use]
pub const fn whole_sectors(len: u64) -> u64 {
    len.next_multiple_of(SECTOR_BYTES)
}

/// Each place of this crate that makes something durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncSite {
    /// A batch of block records.
    Record,
    /// The first superblock of a new store.
    SuperblockCreate,
    /// The superblock that lists a new segment.
    SuperblockRoll,
    /// The superblock of a checkpoint or a clean close.
    SuperblockCheckpoint,
    /// The superblocks as a restarted process finds them: perhaps only in the page cache.
    SuperblockReopen,
    /// The newest segment as a restarted process finds it.
    RecordReopen,
    /// The names of a new store's files.
    DirectoryCreate,
    /// The name of a new segment.
    DirectoryRoll,
    /// Ranges of a snapshot, and that all of it is there.
    Base,
    /// The name of a snapshot's file.
    DirectoryBase,
    /// A batch of votes.
    Votes,
    /// The name of a new vote log.
    DirectoryVotes,
    /// The vote log as a restarted process finds it.
    VotesReopen,
}

impl SyncSite {
    /// All of them.
    pub const ALL: [SyncSite; 13] = [
        SyncSite::Record,
        SyncSite::SuperblockCreate,
        SyncSite::SuperblockRoll,
        SyncSite::SuperblockCheckpoint,
        SyncSite::SuperblockReopen,
        SyncSite::RecordReopen,
        SyncSite::DirectoryCreate,
        SyncSite::DirectoryRoll,
        SyncSite::Base,
        SyncSite::DirectoryBase,
        SyncSite::Votes,
        SyncSite::DirectoryVotes,
        SyncSite::VotesReopen,
    ];
}

/// The named points of a commit at which a crash is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// A new segment exists and is not yet listed.
    SegmentCreated,
    /// The superblock lists the new segment; it holds no record.
    SegmentListed,
    /// The batch is checked and encoded; nothing is written.
    BeforeRecord,
    /// The batch is durable; no reader sees it yet.
    RecordDurable,
    /// Readers see the batch; the caller does not know yet.
    Published,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [CrashPoint; 5] = [
        CrashPoint::SegmentCreated,
        CrashPoint::SegmentListed,
        CrashPoint::BeforeRecord,
        CrashPoint::RecordDurable,
        CrashPoint::Published,
    ];
}

/// A directory of files. Clones are the same directory.
pub trait Storage: Clone + Send + Sync + 'static {
    /// An open file of this directory.
    type File: StorageFile;

    /// Creates a file, or empties the one of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file; `None` when there is none of that name.
    fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created and removed names durable.
    fn sync_dir(&self, site: SyncSite) -> io::Result<()>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;

    /// How durable writes are done, for the start-up report.
    fn kind(&self) -> &'static str;

    /// Thirty-two bytes that nobody outside can predict: the key of a new store's record hashes.
    fn random_key(&self) -> io::Result<[u8; 32]>;

    /// Called at each named crash point; a test's storage stops here. An error ends the operation.
    fn crash_point(&self, _point: CrashPoint) -> io::Result<()> {
        Ok(())
    }
}

/// An open file. Positions and lengths are in bytes.
pub trait StorageFile: Send + Sync + 'static {
    /// The file's length.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Fills `out` from `offset`; an end of file inside it is an error.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes without making it durable.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes and makes durable, as one operation: when it returns `Ok`, this and every earlier write to the
    /// file survives a crash. The buffer keeps its contents and its allocation.
    fn write_sync(&self, offset: u64, bytes: &mut Vec<u8>, site: SyncSite) -> io::Result<()>;

    /// Fills `[from, to)` with zeros and reserves the room, so that a later overwrite needs no metadata. It may
    /// be flushed or not: nothing relies on its durability.
    fn preallocate(&self, from: u64, to: u64) -> io::Result<()>;

    /// A read-only view of all of a file that is not written any more; `None` where the storage has no mappings.
    fn map_sealed(&self) -> io::Result<Option<Mapping>>;
}
