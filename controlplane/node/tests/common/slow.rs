//! Storage on which a commit takes long, while votes are as fast as ever.

use roko_os::Mapping;
use roko_state::fault::{FaultFile, FaultStorage};
use roko_state::storage::{Storage, StorageFile, SyncSite};
use std::io;
use std::time::Duration;

/// A directory whose block records take `commit` longer to be durable.
#[derive(Clone)]
pub(crate) struct SlowCommits {
    /// What it is kept on.
    pub(crate) storage: FaultStorage,
    /// How much longer.
    pub(crate) commit: Duration,
}

/// A file of it.
pub(crate) struct SlowFile {
    file: FaultFile,
    commit: Duration,
}

impl SlowCommits {
    fn file(&self, file: FaultFile) -> SlowFile {
        SlowFile { file, commit: self.commit }
    }
}

impl Storage for SlowCommits {
    type File = SlowFile;

    fn create(&self, name: &str) -> io::Result<SlowFile> {
        self.storage.create(name).map(|file| self.file(file))
    }
    fn open(&self, name: &str) -> io::Result<Option<SlowFile>> {
        Ok(self.storage.open(name)?.map(|file| self.file(file)))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.storage.list()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove(name)
    }
    fn sync_dir(&self, site: SyncSite) -> io::Result<()> {
        self.storage.sync_dir(site)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.storage.free_bytes()
    }
    fn kind(&self) -> &'static str {
        "in memory, slow"
    }
    fn random_key(&self) -> io::Result<[u8; 32]> {
        self.storage.random_key()
    }
}

impl StorageFile for SlowFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn write_sync(&self, offset: u64, bytes: &mut Vec<u8>, site: SyncSite) -> io::Result<()> {
        if site == SyncSite::Record {
            std::thread::sleep(self.commit);
        }
        self.file.write_sync(offset, bytes, site)
    }
    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.preallocate(from, to)
    }
    fn map_sealed(&self) -> io::Result<Option<Mapping>> {
        self.file.map_sealed()
    }
}
