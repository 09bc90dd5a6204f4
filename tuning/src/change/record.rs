//! The record of what was there before: a JSON file that is durable before the machine is changed.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What was there before, newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The kernel's id of the boot: settings do not outlive it, and so neither does the record.
    pub boot_id: String,
    /// The settings.
    pub settings: Vec<Recorded>,
}

/// One setting as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The file, without the leading slash.
    pub path: String,
    /// What it held before the first change.
    pub before: String,
    /// What was written last.
    pub after: String,
}

/// The record cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error("the record {path}: {why}: name another file with --state, or use sudo")]
    Io {
        /// The record.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
    /// It is no record.
    #[error(
        "the record {path} cannot be understood ({why}): what it recorded has to be put back by hand; then remove it"
    )]
    Broken {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        why: serde_json::Error,
    },
    /// Another program holds it.
    #[error("another `roko tune` is changing this machine: wait for its end (it holds {path})")]
    Busy {
        /// The lock.
        path: PathBuf,
    },
}

impl RecordError {
    /// Whether more privilege would mend it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, RecordError::Io { why, .. } if why.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

impl Record {
    /// Reads a record; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Record>, RecordError> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|why| RecordError::Broken { path: path.to_owned(), why }),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(RecordError::Io { path: path.to_owned(), why }),
        }
    }

    /// Makes it durable: a new file, synced, takes the old one's place in one step.
    pub(super) fn save(&self, path: &Path) -> Result<(), RecordError> {
        let failed = |why| RecordError::Io { path: path.to_owned(), why };
        let text = serde_json::to_string_pretty(self)
            .map_err(|why| RecordError::Broken { path: path.to_owned(), why })?;
        let new = path.with_extension("new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        sync_folder(path).map_err(failed)
    }

    /// Removes it: everything is as it was.
    pub(super) fn remove(path: &Path) -> Result<(), RecordError> {
        let failed = |why| RecordError::Io { path: path.to_owned(), why };
        std::fs::remove_file(path).map_err(failed)?;
        sync_folder(path).map_err(failed)
    }

    /// Remembers a setting. What was there before the first change stays.
    pub(super) fn note(&mut self, path: &str, before: &str, after: &str) {
        match self.settings.iter_mut().find(|setting| setting.path == path) {
            Some(setting) => after.clone_into(&mut setting.after),
            None => self.settings.push(Recorded {
                path: path.to_owned(),
                before: before.to_owned(),
                after: after.to_owned(),
            }),
        }
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Held while a record is in use, so that two programs do not mix theirs. The lock goes with the process.
pub(super) fn lock(path: &Path) -> Result<File, RecordError> {
    let failed = |why| RecordError::Io { path: path.to_owned(), why };
    std::fs::create_dir_all(folder(path)).map_err(failed)?;
    let lock = path.with_extension("lock");
    let file = File::create(&lock).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(RecordError::Busy { path: lock }),
        Err(std::fs::TryLockError::Error(why)) => Err(failed(why)),
    }
}
