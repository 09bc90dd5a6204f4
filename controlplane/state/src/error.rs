//! What can go wrong with the store, and what mends it.

use roko_wire::Hash32;
use std::io;

/// An error of the store. After anything but [`StateError::NoSpace`] and the refusals of a wrong block the store
/// takes no more commits until it is opened again.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk is full. Nothing has changed; the same commit can be tried again.
    #[error(
        "the disk is full: {needed_bytes} bytes are needed, {free_bytes} are free; make room and the node goes on"
    )]
    NoSpace {
        /// What the commit needs.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// A block does not follow the last one.
    #[error("block {got} does not follow: the next height is {expected}")]
    WrongHeight {
        /// The height that would follow.
        expected: u64,
        /// The block's height.
        got: u64,
    },
    /// The changes lead to another root than the block says.
    #[error(
        "block {height} leads to state root {computed}, its certificate says {expected}: execution differs from the chain's"
    )]
    RootMismatch {
        /// The block's height.
        height: u64,
        /// What the block says.
        expected: Hash32,
        /// What its changes lead to.
        computed: Hash32,
    },
    /// A block is larger than a record may be.
    #[error("block {height} takes {bytes} bytes, a record holds {limit} at most")]
    TooLarge {
        /// The block's height.
        height: u64,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Something that was acknowledged is damaged or gone.
    #[error(
        "the store is damaged: {what}; `roko repair` keeps what stands before the damage, and the rest comes again from peers"
    )]
    Corrupt {
        /// What and where.
        what: String,
    },
    /// The snapshot that the store begins from is damaged: nothing stands before that.
    #[error(
        "the snapshot that the store begins from is damaged: {what}; nothing of the store can be kept: move the files \
         superblock, base and segment-* away, and start the node with catchup.start = \"snapshot\" or \"genesis\""
    )]
    BaseDamaged {
        /// What and where.
        what: String,
    },
    /// The directory belongs to another chain.
    #[error(
        "the data directory holds the chain of genesis {stored}, not {given}: use another directory or the right genesis file"
    )]
    WrongGenesis {
        /// The directory's genesis: block id and state root.
        stored: String,
        /// The genesis that was given.
        given: String,
    },
    /// The directory was written by another version.
    #[error(
        "the data directory has format {found}, this node reads format {known}: use the node version that wrote it, or sync again"
    )]
    WrongFormat {
        /// What the directory says.
        found: u32,
        /// What this code knows.
        known: u32,
    },
    /// An earlier write failed, so what is on the disk is not known.
    #[error(
        "an earlier write failed and the store is closed to commits: open it again, which checks what is on the disk"
    )]
    Poisoned,
    /// The disk or the operating system failed.
    #[error("{action} failed: {source}; check the disk and the kernel log")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl StateError {
    /// Wraps an I/O error.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> StateError {
        move |source| StateError::Io { action, source }
    }

    /// Whether the same call can be tried again without opening the store anew.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, StateError::NoSpace { .. })
    }
}

/// Whether an I/O error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
