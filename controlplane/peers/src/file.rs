//! Small files that must be private or durable.

use crate::error::PeersError;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Refuses a file that the group or others may touch.
pub(crate) fn require_private(path: &Path) -> Result<(), PeersError> {
    let metadata = fs::metadata(path).map_err(PeersError::file(path, "reading its permissions"))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PeersError::Readable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Creates a file that only its owner may read, durably. Fails when it exists: a key is never overwritten.
pub(crate) fn create_private(path: &Path, contents: &[u8]) -> Result<(), PeersError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(PeersError::file(path, "creating it"))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(PeersError::file(path, "writing it"))?;
    sync_directory(path)
}

/// Replaces a file so that after a crash it holds either the old contents or the new.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), PeersError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let mut file = File::create(beside).map_err(PeersError::file(beside, "creating it"))?;
    file.write_all(contents)
        .and_then(|()| file.sync_all())
        .map_err(PeersError::file(beside, "writing it"))?;
    fs::rename(beside, path).map_err(PeersError::file(path, "replacing it"))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), PeersError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(PeersError::file(directory, "syncing the directory"))
}
