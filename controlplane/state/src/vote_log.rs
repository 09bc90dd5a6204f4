//! The vote log: what this validator has signed, durable before it leaves the node.
//!
//! A file of fixed size, filled with zeros once and then overwritten in a circle, so that a sync has no metadata to
//! write. One [`VoteLog::append_batch`] is one frame, one write, one sync. A frame is overwritten only when every
//! record in it is below the *durable* watermark (the one in the newest frame on disk), so a torn append never
//! costs a vote that is still needed. Frames start on sectors and share none.

use crate::error::is_full;
use crate::storage::{SECTOR_BYTES, Storage, StorageFile, SyncSite, whole_sectors};
use crate::vote_frame::{self as frame, Frame, VOTE_BYTES_MAX, frame_bytes};
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// The file's name.
pub const NAME: &str = "votes";
/// Smallest log: a few batches of the largest votes.
pub const LOG_BYTES_MIN: u64 = 16 * 1024;

/// What can be chosen about a vote log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteLogOptions {
    /// Bytes of the file; fixed once it is created.
    pub bytes: u64,
}

impl Default for VoteLogOptions {
    /// 4 MiB: 8,192 batches of one sector, an hour of two batches a second without pruning.
    fn default() -> VoteLogOptions {
        VoteLogOptions { bytes: 4 << 20 }
    }
}

/// What can go wrong with the vote log.
#[derive(Debug, thiserror::Error)]
pub enum VoteLogError {
    /// A record is too large.
    #[error("a vote of {bytes} bytes is above the limit of {VOTE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The log is full of records that are still needed.
    #[error(
        "the vote log of {bytes} bytes is full of votes that are still needed: prune below the last final view"
    )]
    Full {
        /// Size of the log.
        bytes: u64,
    },
    /// Votes that were acknowledged are gone.
    #[error(
        "the vote log is damaged: {what}; `roko repair` puts it aside, and the validator votes again when the views that it may \
         have voted in are over"
    )]
    Corrupt {
        /// What and where.
        what: String,
    },
    /// An earlier append failed.
    #[error(
        "an earlier append failed and the vote log is closed: open it again, which checks what is on the disk"
    )]
    Poisoned,
    /// The disk is full; only creating a log can meet this.
    #[error("there is no room for a vote log of {bytes} bytes: make room and start again")]
    NoSpace {
        /// Size of the log.
        bytes: u64,
    },
    /// The disk or the operating system failed.
    #[error("{action} failed: {source}; check the disk and the kernel log")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoteLogReport {
    /// Whether no frame was there: the log is new, or everything in it is lost.
    pub created: bool,
    /// Sequence of the oldest record that is needed.
    pub first: u64,
    /// Records that are needed.
    pub records: usize,
    /// Whether the newest frame was torn; it was never acknowledged, and is gone.
    pub torn: bool,
}

/// A frame that must not be overwritten.
#[derive(Clone, Copy, Debug)]
struct Placed {
    offset: u64,
    bytes: u64,
    /// Sequence after its last record.
    end: u64,
}

/// The circular log. One per validator.
pub struct VoteLog<S: Storage> {
    file: S::File,
    bytes: u64,
    /// Oldest first; the last one is the newest frame and is kept whatever it holds.
    live: VecDeque<Placed>,
    next_frame: u64,
    next_record: u64,
    watermark: u64,
    durable_watermark: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

/// The newest unbroken run of frames.
#[derive(Default)]
struct Run {
    /// Frames with their offset and length, oldest first.
    frames: VecDeque<(Frame, u64, u64)>,
    torn: bool,
}

fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> VoteLogError {
    move |source| VoteLogError::Io { action, source }
}

impl<S: Storage> VoteLog<S> {
    /// Opens the log, or creates it.
    pub fn open(storage: &S, options: VoteLogOptions) -> Result<(VoteLog<S>, VoteLogReport), VoteLogError> {
        let wanted = whole_sectors(options.bytes.max(LOG_BYTES_MIN));
        let existing = storage.open(NAME).map_err(io_error("opening the vote log"))?;
        let file = match existing {
            Some(file) => file,
            None => VoteLog::<S>::create(storage, wanted)?,
        };
        let run = scan(&file)?;
        let found = file.len_bytes().map_err(io_error("reading the vote log's length"))?;
        if found < wanted {
            // A crash during creation leaves it short.
            VoteLog::<S>::fill(&file, found, wanted)?;
        }
        // A killed process leaves votes in the page cache that a power cut would still take.
        let sync = file.write_sync(0, &mut Vec::new(), SyncSite::VotesReopen);
        sync.map_err(io_error("syncing the vote log"))?;
        let mut log = VoteLog {
            file,
            bytes: found.max(wanted),
            live: VecDeque::new(),
            next_frame: 0,
            next_record: 0,
            watermark: 0,
            durable_watermark: 0,
            poisoned: false,
            buffer: Vec::new(),
        };
        log.adopt(&run);
        let created = log.live.is_empty();
        if created {
            // A log that was in use is known by its frames.
            log.write(0, &[])?;
        }
        let records = needed(&run).count();
        let report =
            VoteLogReport { created, first: log.next_record - records as u64, records, torn: run.torn };
        Ok((log, report))
    }

    /// The records that are needed of an existing log, which is left as it is; `None` where no log was in use.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn inspect(storage: &S) -> Result<Option<Vec<Vec<u8>>>, VoteLogError> {
        let Some(file) = storage.open(NAME).map_err(io_error("opening the vote log"))? else {
            return Ok(None);
        };
        let run = scan(&file)?;
        let in_use = !run.frames.is_empty();
        Ok(in_use.then(|| needed(&run).map(|(_, record)| record.clone()).collect()))
    }

    /// Removes the log, durably. Only for a validator that first made durable until when it casts no vote.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(storage: &S) -> Result<(), VoteLogError> {
        let there = storage.open(NAME).map_err(io_error("opening the vote log"))?.is_some();
        if there {
            storage.remove(NAME).map_err(io_error("removing the vote log"))?;
        }
        storage.sync_dir(SyncSite::DirectoryVotes).map_err(io_error("removing the vote log"))
    }

    fn create(storage: &S, bytes: u64) -> Result<S::File, VoteLogError> {
        let file = storage.create(NAME).map_err(io_error("creating the vote log"))?;
        VoteLog::<S>::fill(&file, 0, bytes)?;
        storage.sync_dir(SyncSite::DirectoryVotes).map_err(io_error("creating the vote log"))?;
        Ok(file)
    }

    fn fill(file: &S::File, from: u64, to: u64) -> Result<(), VoteLogError> {
        file.preallocate(from, to).map_err(|source| {
            if is_full(&source) {
                return VoteLogError::NoSpace { bytes: to };
            }
            VoteLogError::Io { action: "preallocating the vote log", source }
        })
    }

    fn adopt(&mut self, run: &Run) {
        for (frame, offset, bytes) in &run.frames {
            let end = frame.first + frame.records.len() as u64;
            self.live.push_back(Placed { offset: *offset, bytes: *bytes, end });
            (self.next_frame, self.next_record) = (frame.number + 1, end);
            self.durable_watermark = frame.watermark;
        }
        self.watermark = self.durable_watermark;
        self.drop_pruned();
    }

    /// Appends records as one batch; returns the sequence of the first. When it returns `Ok` they are durable.
    pub fn append_batch(&mut self, records: &[&[u8]]) -> Result<u64, VoteLogError> {
        if self.poisoned {
            return Err(VoteLogError::Poisoned);
        }
        if let Some(record) = records.iter().find(|record| record.len() > VOTE_BYTES_MAX) {
            return Err(VoteLogError::TooLarge { bytes: record.len() });
        }
        let first = self.next_record;
        if records.is_empty() {
            return Ok(first);
        }
        let bytes = frame_bytes(records);
        let offset = match self.place(bytes, true) {
            Some(offset) => offset,
            None => {
                // Only the durable watermark frees frames: an empty frame carries the newer one to the disk.
                self.persist_watermark()?;
                self.place(bytes, true).ok_or(VoteLogError::Full { bytes: self.bytes })?
            }
        };
        self.write(offset, records)?;
        Ok(first)
    }

    fn persist_watermark(&mut self) -> Result<(), VoteLogError> {
        let full = VoteLogError::Full { bytes: self.bytes };
        if self.watermark == self.durable_watermark {
            return Err(full);
        }
        let offset = self.place(SECTOR_BYTES, false).ok_or(full)?;
        self.write(offset, &[])
    }

    /// Writes one frame durably.
    fn write(&mut self, offset: u64, records: &[&[u8]]) -> Result<(), VoteLogError> {
        frame::encode(self.next_frame, self.next_record, self.watermark, records, &mut self.buffer);
        let bytes = self.buffer.len() as u64;
        if let Err(source) = self.file.write_sync(offset, &mut self.buffer, SyncSite::Votes) {
            self.poisoned = true;
            return Err(VoteLogError::Io { action: "appending votes", source });
        }
        self.next_frame += 1;
        self.next_record += records.len() as u64;
        self.live.push_back(Placed { offset, bytes, end: self.next_record });
        self.durable_watermark = self.watermark;
        self.drop_pruned();
        Ok(())
    }

    /// Frees the frames whose records are all below the durable watermark.
    fn drop_pruned(&mut self) {
        while self.live.len() > 1
            && self.live.front().is_some_and(|oldest| oldest.end <= self.durable_watermark)
        {
            self.live.pop_front();
        }
    }

    /// Where a frame of this length goes, if it costs nothing that is needed. With `reserve` there must be room for
    /// an empty frame behind it, so that a watermark can always be written.
    fn place(&self, bytes: u64, reserve: bool) -> Option<u64> {
        let head = self.live.back().map_or(0, |newest| newest.offset + newest.bytes);
        let offset = self.free_at(head, bytes)?;
        if reserve {
            let behind = self.free_at(offset + bytes, SECTOR_BYTES)?;
            // Going round must not meet the frame itself.
            if behind < offset + bytes && offset < behind + SECTOR_BYTES {
                return None;
            }
        }
        Some(offset)
    }

    /// `head`, or the start when it does not fit before the end, if that range is free.
    fn free_at(&self, head: u64, bytes: u64) -> Option<u64> {
        let offset = if head + bytes <= self.bytes { head } else { 0 };
        let end = offset + bytes;
        let free = |frame: &Placed| end <= frame.offset || frame.offset + frame.bytes <= offset;
        (end <= self.bytes && self.live.iter().all(free)).then_some(offset)
    }

    /// Says that records below `sequence` are not needed any more. It becomes durable with the next batch.
    pub fn prune_below(&mut self, sequence: u64) {
        self.watermark = self.watermark.max(sequence.min(self.next_record));
    }

    /// The sequence that the next record gets.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.next_record
    }

    /// The records that are needed, oldest first, read from the file.
    pub fn recover(&self) -> Result<Vec<Vec<u8>>, VoteLogError> {
        let run = scan(&self.file)?;
        Ok(needed(&run).map(|(_, record)| record.clone()).collect())
    }
}

/// The records of a run at or above its watermark, with their sequence.
fn needed(run: &Run) -> impl Iterator<Item = (u64, &Vec<u8>)> {
    let watermark = run.frames.back().map_or(0, |(newest, _, _)| newest.watermark);
    let all = run.frames.iter().flat_map(|(frame, _, _)| (frame.first..).zip(&frame.records));
    all.filter(move |(sequence, _)| *sequence >= watermark)
}

/// Finds the newest run of frames, and refuses when it does not reach down to the watermark.
fn scan(file: &impl StorageFile) -> Result<Run, VoteLogError> {
    let len = file.len_bytes().map_err(io_error("reading the vote log"))?;
    let mut bytes = vec![0; len as usize];
    file.read_at(0, &mut bytes).map_err(io_error("reading the vote log"))?;
    let mut frames = BTreeMap::new();
    let mut broken_at = Vec::new();
    for at in (0..bytes.len()).step_by(SECTOR_BYTES as usize) {
        match frame::decode(&bytes[at..]) {
            Some((frame, whole)) => drop(frames.insert(frame.number, (frame, at as u64, whole))),
            None if frame::begins(&bytes[at..]) => broken_at.push(at as u64),
            None => {}
        }
    }
    let mut run = Run::default();
    while let Some((number, found)) = frames.pop_last() {
        if run.frames.front().is_some_and(|(oldest, _, _)| oldest.number != number + 1) {
            break;
        }
        run.frames.push_front(found);
    }
    check_run(&run)?;
    // What was being written goes right behind the newest frame, or to the start.
    let head = run.frames.back().map_or(0, |(_, offset, whole)| offset + whole);
    run.torn = broken_at.iter().any(|at| *at == head || (*at == 0 && head != 0));
    Ok(run)
}

fn check_run(run: &Run) -> Result<(), VoteLogError> {
    let (Some((oldest, _, _)), Some((newest, _, _))) = (run.frames.front(), run.frames.back()) else {
        return Ok(());
    };
    if oldest.first > newest.watermark {
        let what = format!("votes {} to {} are missing", newest.watermark, oldest.first - 1);
        return Err(VoteLogError::Corrupt { what });
    }
    Ok(())
}
