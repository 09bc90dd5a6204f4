//! [`Storage`] on a real directory: io_uring where the host permits it, plain writes where not.

use crate::storage::{Storage, StorageFile, SyncSite};
use roko_os::uring::Uring;
use roko_os::{Mapping, OsError, file as os};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file whose lock keeps a second node away from the directory.
const LOCK_NAME: &str = "lock";

/// How a durable write is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePath {
    /// io_uring if the host permits it, else plain writes.
    Best,
    /// pwrite and fdatasync: two system calls.
    Plain,
}

/// A directory that this process has locked.
#[derive(Clone, Debug)]
pub struct FileStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// One ring for all files: there is one writer, so it is never contended on the commit path.
    ring: Option<Mutex<Uring>>,
    /// Holds the lock for as long as the storage or one of its files lives.
    _lock: File,
}

impl FileStorage {
    /// Opens (and creates) a directory and locks it.
    pub fn open(directory: &Path, path: WritePath) -> io::Result<FileStorage> {
        std::fs::create_dir_all(directory)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(LOCK_NAME))?;
        if !os::try_lock(&lock)? {
            let message = format!("{} is in use by another process: stop it first", directory.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        let ring = match path {
            WritePath::Best => Uring::new().ok().map(Mutex::new),
            WritePath::Plain => None,
        };
        let shared = Shared { directory: directory.to_owned(), ring, _lock: lock };
        Ok(FileStorage { shared: Arc::new(shared) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.directory.join(name)
    }

    fn disk_file(&self, file: File) -> DiskFile {
        DiskFile { file, shared: Arc::clone(&self.shared) }
    }
}

impl Storage for FileStorage {
    type File = DiskFile;

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(name))?;
        Ok(self.disk_file(file))
    }

    fn open(&self, name: &str) -> io::Result<Option<DiskFile>> {
        match OpenOptions::new().read(true).write(true).open(self.path(name)) {
            Ok(file) => Ok(Some(self.disk_file(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.shared.directory)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_dir(&self, _site: SyncSite) -> io::Result<()> {
        os::sync_directory(&self.shared.directory)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        os::free_bytes(&self.shared.directory)
    }

    fn random_key(&self) -> io::Result<[u8; 32]> {
        let mut key = [0; 32];
        io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut key)?;
        Ok(key)
    }

    fn kind(&self) -> &'static str {
        if self.shared.ring.is_some() {
            "io_uring: linked write and fdatasync"
        } else {
            "pwrite, then fdatasync"
        }
    }
}

/// A file of a [`FileStorage`].
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    shared: Arc<Shared>,
}

impl StorageFile for DiskFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        os::read_exact_at(&self.file, out, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        os::pwrite_all(&self.file, bytes, offset)
    }

    fn write_sync(&self, offset: u64, bytes: &mut Vec<u8>, _site: SyncSite) -> io::Result<()> {
        let Some(ring) = &self.shared.ring else {
            os::pwrite_all(&self.file, bytes, offset)?;
            return os::fdatasync(&self.file);
        };
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let (returned, result) = ring.write_sync(&self.file, offset, core::mem::take(bytes));
        *bytes = returned;
        result
    }

    fn preallocate(&self, from: u64, to: u64) -> io::Result<()> {
        os::preallocate(&self.file, from, to)
    }

    fn map_sealed(&self) -> io::Result<Option<Mapping>> {
        Mapping::of_sealed(&self.file).map(Some).map_err(|error| match error {
            OsError::Call { source, .. } => source,
            other => io::Error::other(other),
        })
    }
}
