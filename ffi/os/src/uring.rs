//! A durable write as one submission: write, and a linked fdatasync that runs only when the write was complete.
//!
//! A [`Uring`] has one operation in flight at most. [`Uring::write_sync`] takes the buffer and gives it back when
//! the kernel has finished with it; should the ring itself fail, the buffer is leaked, since the kernel may
//! still read it.

use crate::OsError;
use io_uring::{IoUring, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The largest write of one submission; the kernel's own limit is 2 GiB less a page.
const WRITE_BYTES_MAX: usize = 1 << 30;
/// Submission slots: a write and its fdatasync, rounded up.
const ENTRIES: u32 = 4;
/// Marks the write's completion.
const WRITE: u64 = 1;
/// Marks the fdatasync's completion.
const SYNC: u64 = 2;

/// An io_uring for durable writes.
pub struct Uring {
    ring: IoUring,
    /// Set when the ring failed with an operation in flight; nothing is submitted after that.
    broken: bool,
}

impl core::fmt::Debug for Uring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Uring").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Uring {
    /// Sets a ring up; [`OsError::UringRefused`] where the kernel or a container's filter does not permit it.
    pub fn new() -> Result<Uring, OsError> {
        let ring = IoUring::new(ENTRIES).map_err(OsError::UringRefused)?;
        Ok(Uring { ring, broken: false })
    }

    /// Writes `bytes` at `offset` of `file` and flushes the file's data. When it returns `Ok` the bytes are
    /// durable. The buffer comes back either way (empty when the ring broke and the kernel may still hold it).
    pub fn write_sync(&mut self, file: &File, offset: u64, bytes: Vec<u8>) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = bytes;
        let mut done = 0;
        loop {
            let (returned, written) = self.submit(file, offset + done as u64, bytes, done);
            bytes = returned;
            match written {
                Ok(count) if done + count >= bytes.len() => return (bytes, Ok(())),
                // A write of nothing would repeat for ever.
                Ok(0) => return (bytes, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (bytes, Err(error)),
            }
        }
    }

    /// One linked pair for `bytes[from..]`; returns how many bytes were written (and flushed, if that was all).
    fn submit(
        &mut self,
        file: &File,
        offset: u64,
        bytes: Vec<u8>,
        from: usize,
    ) -> (Vec<u8>, io::Result<usize>) {
        if self.broken {
            return (bytes, Err(io::Error::other("the io_uring failed before: reopen the store")));
        }
        let part = &bytes[from..];
        let len = part.len().min(WRITE_BYTES_MAX);
        let fd = types::Fd(file.as_raw_fd());
        let write = opcode::Write::new(fd, part.as_ptr(), len as u32)
            .offset(offset)
            .build()
            .flags(squeue::Flags::IO_LINK)
            .user_data(WRITE);
        let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build().user_data(SYNC);
        // SAFETY: `bytes` is owned by this call and neither moved out, changed nor freed until both completions
        // have been reaped (or it is leaked below); `file` is borrowed for as long, so the descriptor stays open.
        // The queue is empty here, as every call reaps what it submits, so both entries fit.
        if unsafe { self.ring.submission().push_multiple(&[write, sync]) }.is_err() {
            self.broken = true;
            return (bytes, Err(io::Error::other("the io_uring queue is full: reopen the store")));
        }
        match self.wait() {
            Ok((write, sync)) => (bytes, outcome(write, sync, len)),
            Err(error) => {
                // The kernel may still read the buffer: leaking it is what keeps this sound.
                self.broken = true;
                core::mem::forget(bytes);
                (Vec::new(), Err(error))
            }
        }
    }

    /// Submits what is queued and waits for both completions: their raw results.
    fn wait(&mut self) -> io::Result<(i32, i32)> {
        let (mut write, mut sync) = (None, None);
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(4 | 11 | 16)) => {} // EINTR, EAGAIN, EBUSY
                Err(error) => return Err(error),
            }
            for entry in self.ring.completion() {
                match entry.user_data() {
                    WRITE => write = Some(entry.result()),
                    SYNC => sync = Some(entry.result()),
                    _ => {}
                }
            }
            if let (Some(write), Some(sync)) = (write, sync) {
                return Ok((write, sync));
            }
        }
    }
}

/// Reads the two results. A short write breaks the link, and the fdatasync is then cancelled.
fn outcome(write: i32, sync: i32, len: usize) -> io::Result<usize> {
    let written = usize::try_from(write).map_err(|_| io::Error::from_raw_os_error(-write))?;
    if written == len && sync < 0 {
        return Err(io::Error::from_raw_os_error(-sync));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_written_is_read_back_and_the_buffer_returns() {
        let Ok(mut ring) = Uring::new() else { return };
        let file = tempfile::tempfile().unwrap();
        let mut buffer = Vec::new();
        for (index, len) in [1_usize, 511, 4096, 3_000_000].into_iter().enumerate() {
            buffer = vec![index as u8 + 1; len];
            let (returned, result) = ring.write_sync(&file, 100 * index as u64, buffer);
            result.unwrap();
            buffer = returned;
            let mut back = vec![0; len];
            file.read_exact_at(&mut back, 100 * index as u64).unwrap();
            assert!(back == buffer);
        }
        assert_eq!(buffer.len(), 3_000_000);
    }

    #[test]
    fn a_refused_write_is_an_error_and_the_ring_lives_on() {
        let Ok(mut ring) = Uring::new() else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let writable = File::create(&path).unwrap();
        let read_only = File::open(&path).unwrap();
        let (buffer, result) = ring.write_sync(&read_only, 0, vec![1; 10]);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(9)); // EBADF
        assert_eq!(buffer.len(), 10);
        ring.write_sync(&writable, 0, buffer).1.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), vec![1; 10]);
    }

    #[test]
    fn a_failed_sync_after_a_whole_write_is_an_error() {
        assert_eq!(outcome(10, 0, 10).unwrap(), 10);
        assert_eq!(outcome(4, -125, 10).unwrap(), 4);
        assert_eq!(outcome(10, -5, 10).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(outcome(-28, -125, 10).unwrap_err().raw_os_error(), Some(28));
    }
}
