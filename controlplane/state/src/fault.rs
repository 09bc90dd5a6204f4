//! [`FaultStorage`]: a directory in memory that loses what was not synced.
//!
//! It models a disk under a page cache. Writes, lengths and names are pending until a sync of their file or of the
//! directory; [`FaultStorage::crash`] keeps, drops and tears pending writes sector by sector, in any combination,
//! so that later writes survive earlier ones. [`FaultStorage::restart`] is a killed process instead: everything is
//! still there and still pending. It can stop at the n-th operation or at a named crash point, refuse one
//! operation, run out of room, flip bits, and leave out the syncs of one [`SyncSite`]. Everything is
//! deterministic: the only randomness is the seed given to `crash`.

use crate::storage::{CrashPoint, SECTOR_BYTES, Storage, StorageFile, SyncSite};
use roko_os::Mapping;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a crash does to pending writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing pending survives.
    DropAll,
    /// Everything pending survives.
    KeepAll,
    /// Each pending sector and name survives or not, by this seed.
    Random(u64),
}

/// A change to a file that is not yet durable.
#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Clone, Debug, Default)]
struct FileState {
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// What a reader sees.
    visible: Vec<u8>,
    pending: Vec<Pending>,
}

/// A change to the directory that is not yet durable.
#[derive(Clone, Debug)]
enum PendingName {
    Set(String, usize),
    Remove(String),
}

#[derive(Clone, Debug, Default)]
struct Inner {
    files: Vec<FileState>,
    durable_names: BTreeMap<String, usize>,
    names: BTreeMap<String, usize>,
    pending_names: Vec<PendingName>,
    operations: u64,
    stop_at: Option<u64>,
    stop_point: Option<CrashPoint>,
    refuse: Option<(u64, io::ErrorKind)>,
    stopped: bool,
    ignored: Option<SyncSite>,
    ignored_syncs: u64,
    syncs: u64,
    space_bytes: Option<u64>,
}

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct FaultStorage {
    inner: Arc<Mutex<Inner>>,
}

/// A file of a [`FaultStorage`].
#[derive(Debug)]
pub struct FaultFile {
    inner: Arc<Mutex<Inner>>,
    file: usize,
}

/// The error of everything after the machine has stopped.
fn stopped() -> io::Error {
    io::Error::other("the machine has crashed")
}

/// A pseudo-random sequence (SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
pub struct Sequence(pub u64);

impl Sequence {
    /// The next number.
    pub const fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next_number() % limit
    }
}

impl FileState {
    fn apply(bytes: &mut Vec<u8>, change: &Pending) {
        match change {
            Pending::Write { offset, bytes: new } => {
                let (from, to) = (*offset as usize, *offset as usize + new.len());
                if bytes.len() < to {
                    bytes.resize(to, 0);
                }
                bytes[from..to].copy_from_slice(new);
            }
            Pending::Length(len) => bytes.resize(*len as usize, 0),
        }
    }

    fn change(&mut self, change: Pending) {
        FileState::apply(&mut self.visible, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            FileState::apply(&mut self.durable, &change);
        }
    }

    /// Applies a random choice of the pending sectors, in their order.
    fn tear(&mut self, random: &mut Sequence) {
        // Now and then nearly all or nearly nothing survives, which is what real crashes look like.
        let odds = [1, 4, 8, 12, 15][random.below(5) as usize];
        for change in core::mem::take(&mut self.pending) {
            match change {
                Pending::Length(_) if random.below(16) < odds => FileState::apply(&mut self.durable, &change),
                Pending::Length(_) => {}
                Pending::Write { offset, bytes } => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let sector_end = (offset + at as u64 + 1).next_multiple_of(SECTOR_BYTES);
                        let end = bytes.len().min((sector_end - offset) as usize);
                        if random.below(16) < odds {
                            let part = bytes[at..end].to_vec();
                            let part = Pending::Write { offset: offset + at as u64, bytes: part };
                            FileState::apply(&mut self.durable, &part);
                        }
                        at = end;
                    }
                }
            }
        }
    }
}

impl Inner {
    /// Counts an operation and says whether it may go on: an error after it was noted as pending, as a crash in
    /// the middle of it would leave it.
    fn operation(&mut self) -> io::Result<()> {
        if self.stopped {
            return Err(stopped());
        }
        let index = self.operations;
        self.operations += 1;
        if self.stop_at == Some(index) {
            self.stopped = true;
            return Err(stopped());
        }
        match self.refuse {
            Some((at, kind)) if at == index => {
                self.refuse = None;
                Err(io::Error::new(kind, "injected"))
            }
            _ => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].visible.len() as u64).sum()
    }

    /// Whether a file may become `len` long.
    fn grow(&self, file: usize, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.files[file].visible.len() as u64);
        match self.space_bytes {
            Some(space) if more > 0 && self.used_bytes() + more > space => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "injected"))
            }
            _ => Ok(()),
        }
    }

    fn sync(&mut self, site: SyncSite) -> bool {
        self.syncs += 1;
        let ignored = self.ignored == Some(site);
        self.ignored_syncs += u64::from(ignored);
        !ignored
    }
}

impl FaultStorage {
    /// An empty directory.
    #[must_use]
    pub fn new() -> FaultStorage {
        FaultStorage::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changing operations so far: the range of [`FaultStorage::stop_at`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Stops the machine in the middle of operation `index`, counted from 0.
    pub fn stop_at(&self, index: u64) {
        self.lock().stop_at = Some(index);
    }

    /// Stops the machine when this point is passed next.
    pub fn stop_at_point(&self, point: CrashPoint) {
        self.lock().stop_point = Some(point);
    }

    /// Whether the machine has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Refuses operation `index` with this error, once. Its writes may or may not have reached the disk.
    pub fn refuse(&self, index: u64, kind: io::ErrorKind) {
        self.lock().refuse = Some((index, kind));
    }

    /// Bytes that the files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Limits the sum of all files' lengths; `None` lifts the limit.
    pub fn set_space_bytes(&self, space: Option<u64>) {
        self.lock().space_bytes = space;
    }

    /// Leaves out the syncs of one site: they say that they succeeded and do nothing.
    pub fn ignore_syncs(&self, site: Option<SyncSite>) {
        self.lock().ignored = site;
    }

    /// How many syncs were left out.
    #[must_use]
    pub fn ignored_syncs(&self) -> u64 {
        self.lock().ignored_syncs
    }

    /// How many syncs were asked for.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The directory after a power cut, with no fault armed but the ignored site. This one is dead from now on.
    #[must_use]
    pub fn crash(&self, how: Crash) -> FaultStorage {
        let mut after = self.take();
        let mut random = Sequence(if let Crash::Random(seed) = how { seed } else { 0 });
        for file in &mut after.files {
            match how {
                Crash::DropAll => {}
                Crash::KeepAll => file.sync(),
                Crash::Random(_) => file.tear(&mut random),
            }
            file.pending.clear();
            file.visible.clone_from(&file.durable);
        }
        for change in core::mem::take(&mut after.pending_names) {
            let kept = match how {
                Crash::DropAll => false,
                Crash::KeepAll => true,
                Crash::Random(_) => random.below(2) == 0,
            };
            match change {
                PendingName::Set(name, file) if kept => drop(after.durable_names.insert(name, file)),
                PendingName::Remove(name) if kept => drop(after.durable_names.remove(&name)),
                _ => {}
            }
        }
        after.names.clone_from(&after.durable_names);
        FaultStorage { inner: Arc::new(Mutex::new(after)) }
    }

    /// The directory as the next process finds it after this one was killed: the page cache is intact, and what
    /// was pending still is.
    #[must_use]
    pub fn restart(&self) -> FaultStorage {
        FaultStorage { inner: Arc::new(Mutex::new(self.take())) }
    }

    /// The contents, without armed faults; the old handles stop.
    fn take(&self) -> Inner {
        let mut inner = self.lock();
        inner.stopped = true;
        let mut after = inner.clone();
        after.stopped = false;
        (after.stop_at, after.stop_point, after.refuse, after.space_bytes) = (None, None, None, None);
        after.operations = 0;
        after
    }

    /// Flips one bit of a file, in the cache and on the disk. `false` when there is no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) -> bool {
        let mut inner = self.lock();
        let Some(file) = inner.names.get(name).copied() else { return false };
        let state = &mut inner.files[file];
        let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        for bytes in [&mut state.visible, &mut state.durable] {
            match bytes.get_mut(byte) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    /// A file's visible contents.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        inner.names.get(name).map(|file| inner.files[*file].visible.clone())
    }
}

impl Storage for FaultStorage {
    type File = FaultFile;

    fn create(&self, name: &str) -> io::Result<FaultFile> {
        let mut inner = self.lock();
        let result = inner.operation();
        let file = match inner.names.get(name).copied() {
            Some(file) => {
                inner.files[file].change(Pending::Length(0));
                file
            }
            None => {
                inner.files.push(FileState::default());
                let file = inner.files.len() - 1;
                inner.names.insert(name.to_owned(), file);
                inner.pending_names.push(PendingName::Set(name.to_owned(), file));
                file
            }
        };
        result.map(|()| FaultFile { inner: Arc::clone(&self.inner), file })
    }

    fn open(&self, name: &str) -> io::Result<Option<FaultFile>> {
        let inner = self.lock();
        if inner.stopped {
            return Err(stopped());
        }
        Ok(inner.names.get(name).map(|file| FaultFile { inner: Arc::clone(&self.inner), file: *file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.lock();
        if inner.stopped { Err(stopped()) } else { Ok(inner.names.keys().cloned().collect()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.operation()?;
        inner.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        inner.pending_names.push(PendingName::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, site: SyncSite) -> io::Result<()> {
        let mut inner = self.lock();
        inner.operation()?;
        if inner.sync(site) {
            inner.durable_names = inner.names.clone();
            inner.pending_names.clear();
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.lock();
        Ok(inner.space_bytes.map_or(u64::MAX, |space| space.saturating_sub(inner.used_bytes())))
    }

    fn kind(&self) -> &'static str {
        "in memory, with faults"
    }

    fn random_key(&self) -> io::Result<[u8; 32]> {
        Ok(*b"a key that nobody has to predict")
    }

    fn crash_point(&self, point: CrashPoint) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.stop_point == Some(point) {
            inner.stopped = true;
        }
        if inner.stopped { Err(stopped()) } else { Ok(()) }
    }
}

impl FaultFile {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageFile for FaultFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().files[self.file].visible.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lock();
        if inner.stopped {
            return Err(stopped());
        }
        let from = offset as usize;
        let bytes = inner.files[self.file].visible.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.stopped {
            return Err(stopped());
        }
        inner.grow(self.file, offset + bytes.len() as u64)?;
        let result = inner.operation();
        inner.files[self.file].change(Pending::Write { offset, bytes: bytes.to_vec() });
        result
    }

    fn write_sync(&self, offset: u64, bytes: &mut Vec<u8>, site: SyncSite) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        let mut inner = self.lock();
        if inner.sync(site) {
            inner.files[self.file].sync();
        }
        Ok(())
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.stopped {
            return Err(stopped());
        }
        if to <= from {
            return Ok(());
        }
        inner.grow(self.file, to)?;
        let result = inner.operation();
        let len = (inner.files[self.file].visible.len() as u64).max(to);
        let zeros = vec![0; (to - from) as usize];
        inner.files[self.file].change(Pending::Length(len));
        inner.files[self.file].change(Pending::Write { offset: from, bytes: zeros });
        result
    }

    fn map_sealed(&self) -> io::Result<Option<Mapping>> {
        Ok(None)
    }
}
