//! Segments: append-only files of records, preallocated with zeros, sealed when the next record does not fit.

use crate::StateError;
use crate::record::{self, HEADER_BYTES, RecordHeader};
use crate::storage::{SECTOR_BYTES, StorageFile};
use roko_os::Mapping;
use std::io;
use std::sync::OnceLock;

/// The file name of segment `number`.
#[must_use]
pub fn name(number: u32) -> String {
    format!("segment-{number:08}")
}

/// The number of a segment's file name.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?;
    let number = digits.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

/// One segment, open for reading; the newest one also for appending by the store.
pub(crate) struct Segment<F> {
    /// Gone once the segment is sealed and mapped, so that an archive's descriptors do not run out.
    source: OnceLock<Mapping>,
    file: std::sync::RwLock<Option<F>>,
    /// The store's key for record hashes.
    key: [u8; 32],
}

impl<F: StorageFile> Segment<F> {
    pub(crate) fn new(file: F, key: [u8; 32]) -> Segment<F> {
        Segment { source: OnceLock::new(), file: std::sync::RwLock::new(Some(file)), key }
    }

    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Runs `act` on the open file.
    pub(crate) fn with_file<T>(&self, act: impl FnOnce(&F) -> io::Result<T>) -> io::Result<T> {
        let file = self.file.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match file.as_ref() {
            Some(file) => act(file),
            None => Err(io::Error::other("the segment is sealed")),
        }
    }

    /// No record is appended any more: from now on it is read through a mapping. Where there are no mappings, or
    /// no room for one, it is read through the file as before.
    pub(crate) fn seal(&self) {
        if let Ok(Some(mapping)) = self.with_file(F::map_sealed) {
            let _ = self.source.set(mapping);
            *self.file.write().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        }
    }

    /// Runs `act` on `len` bytes at `offset`: in place where the segment is mapped, else on a copy.
    pub(crate) fn with_bytes<T>(&self, offset: u64, len: u64, act: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        if let Some(mapping) = self.source.get() {
            let bytes = usize::try_from(offset)
                .ok()
                .zip(usize::try_from(offset + len).ok())
                .and_then(|(from, to)| mapping.get(from..to));
            return bytes.map(act).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len as usize];
        match self.with_file(|file| file.read_at(offset, &mut bytes)) {
            Ok(()) => Ok(act(&bytes)),
            // The writer may have sealed it in between.
            Err(_) if self.source.get().is_some() => self.with_bytes(offset, len, act),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn len_bytes(&self) -> io::Result<u64> {
        match self.source.get() {
            Some(mapping) => Ok(mapping.len() as u64),
            None => self.with_file(F::len_bytes),
        }
    }

    /// The record at `offset`, checked by its hash and handed to `act`; `None` when none is there.
    pub(crate) fn record_at<T>(
        &self,
        offset: u64,
        act: impl FnOnce(&RecordHeader, &[u8]) -> T,
    ) -> io::Result<Option<T>> {
        let len = self.len_bytes()?;
        if offset + HEADER_BYTES as u64 > len {
            return Ok(None);
        }
        let header = self.with_bytes(offset, HEADER_BYTES as u64, |bytes| {
            bytes.first_chunk().and_then(RecordHeader::read)
        })?;
        let Some(header) = header else { return Ok(None) };
        if offset + header.record_bytes() > len {
            return Ok(None);
        }
        self.with_bytes(offset, header.record_bytes(), |bytes| {
            record::check(&self.key, bytes).map(|header| act(&header, record::payload(bytes, &header)))
        })
    }

    /// What lies behind the last good record of a segment: where the written part ends, and the first whole
    /// record in it that was written later than the record missing at `from` (sequence `missing`).
    pub(crate) fn tail(&self, from: u64, missing: u64) -> io::Result<Tail> {
        const WINDOW_BYTES: u64 = 1 << 20;
        let len = self.len_bytes()?;
        let mut tail = Tail { written_to: from, later: None };
        let mut at = from;
        while at < len {
            let window = WINDOW_BYTES.min(len - at);
            let mut candidates = Vec::new();
            self.with_bytes(at, window, |bytes| {
                for (index, sector) in bytes.chunks(SECTOR_BYTES as usize).enumerate() {
                    if sector.iter().any(|byte| *byte != 0) {
                        let offset = at + index as u64 * SECTOR_BYTES;
                        tail.written_to = (offset + sector.len() as u64).min(len);
                        if sector.first_chunk().and_then(RecordHeader::read).is_some() {
                            candidates.push(offset);
                        }
                    }
                }
            })?;
            for offset in candidates {
                let batch_start = self.record_at(offset, |header, _| header.batch_start)?;
                if tail.later.is_none() && batch_start.is_some_and(|start| start > missing) {
                    tail.later = Some(offset);
                }
            }
            at += window;
        }
        Ok(tail)
    }
}

/// What lies behind the last good record.
pub(crate) struct Tail {
    /// Everything from here on is zeros.
    pub(crate) written_to: u64,
    /// A record of a later write: what is missing before it was acknowledged, so this is damage, not a torn end.
    pub(crate) later: Option<u64>,
}

/// An error for damage in a segment.
pub(crate) fn damaged(number: u32, offset: u64, what: &str) -> StateError {
    StateError::Corrupt { what: format!("{}, offset {offset}: {what}", name(number)) }
}
