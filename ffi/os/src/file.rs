//! Plain durable file operations: what the store uses where io_uring is refused, and for everything rare.

use rustix::fs::{FallocateFlags, FlockOperation};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes written at once when a range is filled with zeros: large enough to hide the call, small enough for cache.
const ZERO_CHUNK_BYTES: usize = 256 * 1024;

/// Reserves `[from, to)` and fills it with zeros that are flushed to the device, so that a later overwrite and
/// fdatasync have no metadata to write. A full disk is refused before anything is written.
pub fn preallocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    if to <= from {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, to - from) {
        // A file system without the call has no reservations either: the zeros below find a full disk.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno.into()),
    }
    let zeros = vec![0; ZERO_CHUNK_BYTES];
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZERO_CHUNK_BYTES as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    file.sync_all()
}

/// Writes all of `bytes` at `offset`.
pub fn pwrite_all(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Flushes the file's data, and metadata only where reading the data back needs it.
pub fn fdatasync(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Fills `out` from `offset`; an end of file inside it is an error.
pub fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(out, offset)
}

/// Makes created and removed names of the directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Bytes an unprivileged process can still write on the directory's file system.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Takes the exclusive lock of `file` until it is closed; `false` when another process holds it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preallocated_range_reads_as_zeros_and_keeps_what_is_before_it() {
        let file = tempfile::tempfile().unwrap();
        pwrite_all(&file, b"kept", 0).unwrap();
        preallocate(&file, 4, 600_001).unwrap();
        fdatasync(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 600_001);
        let mut bytes = vec![1; 600_001];
        read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(&bytes[..4], b"kept");
        assert!(bytes[4..].iter().all(|byte| *byte == 0));
        assert!(read_exact_at(&file, &mut bytes, 1).is_err());
    }

    #[test]
    fn a_lock_is_held_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (one, two) = (File::create(&path).unwrap(), File::create(&path).unwrap());
        assert!(try_lock(&one).unwrap());
        assert!(!try_lock(&two).unwrap());
        drop(one);
        assert!(try_lock(&two).unwrap());
        sync_directory(directory.path()).unwrap();
        assert!(free_bytes(directory.path()).unwrap() > 0);
    }
}
