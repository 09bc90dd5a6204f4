//! Readers: snapshots of the final state, and blocks and transactions by what is known of them.

use crate::index::Index;
use crate::pins::Pins;
use crate::record::{self, BlockRecord};
use crate::segment::{self, Segment};
use crate::storage::{Storage, StorageFile};
use crate::{StateError, Tree};
use roko_wire::{BlockId, Hash32, Height, TxId};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The last final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its height; 0 is genesis.
    pub height: Height,
    /// Its id.
    pub block_id: BlockId,
    /// The state root after it.
    pub root: Hash32,
}

/// One version of the final state: stays as it is whatever is committed later.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The block it is the state after.
    pub last: Last,
    /// Its accounts.
    pub tree: Tree,
}

/// What writer and readers share.
pub(crate) struct Shared<F> {
    pub(crate) snapshot: RwLock<Snapshot>,
    pub(crate) index: Index,
    pub(crate) segments: RwLock<Vec<Arc<Segment<F>>>>,
    /// The block that the store begins from, without its body, when that is not genesis.
    pub(crate) anchor: Option<BlockRecord>,
    pub(crate) pins: Mutex<Pins>,
}

/// Reads the store from any thread. Cheap to clone.
pub struct Reader<S: Storage> {
    pub(crate) shared: Arc<Shared<S::File>>,
}

impl<S: Storage> Clone for Reader<S> {
    fn clone(&self) -> Reader<S> {
        Reader { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Storage> Reader<S> {
    /// The final state now; it stays as it is whatever is committed later.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// See [`crate::StateStore::block`].
    pub fn block(&self, height: Height) -> Result<Option<BlockRecord>, StateError> {
        self.shared.read_block(height.0)
    }

    /// Height of the first block that is here; 1 when the store begins at genesis.
    #[must_use]
    pub fn first(&self) -> Height {
        Height(self.shared.index.base() + 1)
    }

    /// The block that the store begins from, without its body; `None` when that is genesis.
    #[must_use]
    pub fn anchor(&self) -> Option<&BlockRecord> {
        self.shared.anchor.as_ref()
    }

    /// The newest state that is kept for a while; see [`crate::pins`].
    #[must_use]
    pub fn newest_pin(&self) -> Option<Snapshot> {
        self.shared.pins.lock().unwrap_or_else(PoisonError::into_inner).newest()
    }

    /// The state after the block at `height`, if it is kept; see [`crate::pins`].
    #[must_use]
    pub fn pin(&self, height: Height) -> Option<Snapshot> {
        self.shared.pins.lock().unwrap_or_else(PoisonError::into_inner).at(height.0)
    }

    /// See [`crate::StateStore::height_of`].
    #[must_use]
    pub fn height_of(&self, block_id: &BlockId) -> Option<Height> {
        self.shared.index.height_of(block_id).map(Height)
    }

    /// See [`crate::StateStore::transaction`].
    #[must_use]
    pub fn transaction(&self, id: &TxId) -> Option<(Height, u32)> {
        self.shared.index.transaction(id)
    }
}

impl<F: StorageFile> Shared<F> {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn segment(&self, number: u32) -> Arc<Segment<F>> {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner)[number as usize])
    }

    pub(crate) fn read_block(&self, height: u64) -> Result<Option<BlockRecord>, StateError> {
        self.with_payload(height, |payload| record::read(height, payload))
    }

    pub(crate) fn read_ids(&self, height: u64) -> Result<Option<Vec<TxId>>, StateError> {
        self.with_payload(height, record::read_tx_ids)
    }

    /// Hands a block's payload to `read`, after checking the record's hash once.
    fn with_payload<T>(
        &self,
        height: u64,
        read: impl FnOnce(&[u8]) -> Result<T, roko_wire::codec::DecodeError>,
    ) -> Result<Option<T>, StateError> {
        let Some((number, offset, bytes, checked)) = self.index.locate(height) else { return Ok(None) };
        let segment = self.segment(number);
        let result = segment.with_bytes(offset, bytes, |record| {
            let header = if checked {
                record.first_chunk().and_then(record::RecordHeader::read)
            } else {
                record::check(segment.key(), record)
            };
            // The length is held against the index' too: a checked record could have been damaged since.
            let header = header.filter(|header| header.height == height && header.record_bytes() == bytes)?;
            read(record::payload(record, &header)).ok()
        });
        match result.map_err(StateError::io("reading a block's record"))? {
            Some(value) => {
                self.index.set_checked(height);
                Ok(Some(value))
            }
            None => {
                Err(segment::damaged(number, offset, &format!("the record of block {height} is damaged")))
            }
        }
    }
}
