//! [`Tree`]: the kernel's files under a root, `/` for this machine and a folder for a recorded one.
//!
//! Everything that this crate reads or writes below `/sys` and `/proc` goes through here. Paths are given without the
//! leading slash, as `sys/devices/system/cpu/online`.

use crate::host::HostCores;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The files of a machine.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

/// A file that cannot be read or written, or that holds what is not understood.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The kernel does not have it, or this user may not read it.
    #[error("cannot read {path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        why: std::io::Error,
    },
    /// It is there and cannot be changed.
    #[error("cannot write {value:?} to {path}: {why}")]
    Unwritable {
        /// The file.
        path: String,
        /// What should have been in it.
        value: String,
        /// The system's reason.
        why: std::io::Error,
    },
    /// It holds something else than what the kernel documents.
    #[error("{path} holds {text:?}, which is not {expected}")]
    Unexpected {
        /// The file.
        path: String,
        /// What is in it.
        text: String,
        /// What should be.
        expected: &'static str,
    },
}

impl TreeError {
    /// Whether the file is not there, as opposed to there and closed to this user.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, TreeError::Unreadable { why, .. } if why.kind() == std::io::ErrorKind::NotFound)
    }

    /// Whether more privilege would mend it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self {
            TreeError::Unreadable { why, .. } => why.kind() == PermissionDenied,
            TreeError::Unwritable { why, .. } => matches!(why.kind(), PermissionDenied | ReadOnlyFilesystem),
            TreeError::Unexpected { .. } => false,
        }
    }
}

impl Tree {
    /// This machine.
    #[must_use]
    pub fn host() -> Tree {
        Tree::at("/")
    }

    /// A machine whose files were recorded under `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// Whether this is the running machine.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.root == Path::new("/")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file's text without the white space around it.
    pub fn read(&self, path: &str) -> Result<String, TreeError> {
        let text = std::fs::read_to_string(self.path(path));
        text.map(|text| text.trim().to_owned())
            .map_err(|why| TreeError::Unreadable { path: format!("/{path}"), why })
    }

    /// A number.
    pub fn number(&self, path: &str) -> Result<u64, TreeError> {
        let text = self.read(path)?;
        text.parse().map_err(|_| unexpected(path, text, "a whole number"))
    }

    /// A number that the kernel writes as -1 where there is none.
    pub fn number_or_none(&self, path: &str) -> Result<Option<u32>, TreeError> {
        let text = self.read(path)?;
        let number: i64 = text.parse().map_err(|_| unexpected(path, text, "a whole number"))?;
        Ok(u32::try_from(number).ok())
    }

    /// A list of CPUs; empty where the file is empty or says `(null)`, as `nohz_full` does.
    pub fn cpus(&self, path: &str) -> Result<HostCores, TreeError> {
        let text = self.read(path)?;
        if text.is_empty() || text == "(null)" {
            return Ok(HostCores::default());
        }
        HostCores::parse_list(&text).ok_or_else(|| unexpected(path, text, "a list of CPUs like 0-3,8"))
    }

    /// A setting: of `always [madvise] never` the word in brackets, of anything else all of it.
    pub fn setting(&self, path: &str) -> Result<String, TreeError> {
        let text = self.read(path)?;
        let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        Ok(chosen.map_or(text.as_str(), |(word, _)| word).to_owned())
    }

    /// The names in a folder; numbers in them order as numbers, so that `cpu10` comes after `cpu9`.
    pub fn names(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let unreadable = |why| TreeError::Unreadable { path: format!("/{path}"), why };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(path)).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_by_key(|name| {
            let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
            let number: String = name[digits..].chars().take_while(char::is_ascii_digit).collect();
            (name[..digits].to_owned(), number.parse::<u64>().unwrap_or(0), name.clone())
        });
        Ok(names)
    }

    /// The numbers of `<prefix><number>` in a folder, in order.
    pub fn numbered(&self, path: &str, prefix: &str) -> Result<Vec<u32>, TreeError> {
        let names = self.names(path)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect())
    }

    /// The last part of where a symbolic link leads, for instance the driver of a device.
    #[must_use]
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether there is such a file or folder.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Whether this user may write the file; it is opened, and nothing is written.
    pub fn writable(&self, path: &str) -> Result<(), TreeError> {
        let opened = std::fs::OpenOptions::new().write(true).open(self.path(path));
        opened.map(drop).map_err(|why| unwritable(path, "", why))
    }

    /// Gives a setting a value. The file must be there: the kernel makes its own.
    pub fn write(&self, path: &str, value: &str) -> Result<(), TreeError> {
        let opened = std::fs::OpenOptions::new().write(true).truncate(true).open(self.path(path));
        // One write call: the kernel takes each for a whole value.
        opened
            .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()))
            .map_err(|why| unwritable(path, value, why))
    }
}

fn unexpected(path: &str, text: String, expected: &'static str) -> TreeError {
    TreeError::Unexpected { path: format!("/{path}"), text, expected }
}

fn unwritable(path: &str, value: &str, why: std::io::Error) -> TreeError {
    TreeError::Unwritable { path: format!("/{path}"), value: value.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = Tree::at(folder.path());
        (folder, tree)
    }

    #[test]
    fn the_kernels_ways_to_write_values_are_read() {
        let (_folder, tree) = tree(&[
            ("sys/thp", "always [madvise] never\n"),
            ("sys/governor", "performance\n"),
            ("sys/node", "-1\n"),
            ("sys/full", "(null)\n"),
            ("sys/list", "0-1,4\n"),
            ("sys/bad", "four\n"),
            ("sys/c/cpu10/x", ""),
            ("sys/c/cpu9/x", ""),
            ("sys/c/cpufreq/x", ""),
        ]);
        assert_eq!(tree.setting("sys/thp").unwrap(), "madvise");
        assert_eq!(tree.setting("sys/governor").unwrap(), "performance");
        assert_eq!(tree.number_or_none("sys/node").unwrap(), None);
        assert_eq!(tree.cpus("sys/full").unwrap().count(), 0);
        assert_eq!(tree.cpus("sys/list").unwrap().to_string(), "0-1,4");
        assert_eq!(tree.numbered("sys/c", "cpu").unwrap(), [9, 10]);
        assert!(tree.number("sys/bad").unwrap_err().to_string().contains("/sys/bad holds \"four\""));
        assert!(tree.cpus("sys/bad").unwrap_err().to_string().contains("list of CPUs"));
    }

    #[test]
    fn a_missing_file_is_named_and_never_made() {
        let (folder, tree) = tree(&[]);
        let error = tree.read("sys/none").unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("/sys/none"), "{error}");
        assert!(tree.write("sys/none", "1").is_err() && !folder.path().join("sys/none").exists());
    }
}
