//! A read-only view of a file that nobody writes any more.

use crate::OsError;
use std::fs::File;

/// A sealed file's bytes, mapped. The pages are shared with the page cache and can be evicted at no cost.
#[derive(Debug)]
pub struct Mapping {
    map: memmap2::Mmap,
}

impl Mapping {
    /// Maps all of `file`. The caller's duty is that the file is sealed: this process neither writes nor shortens
    /// it while the mapping lives, and the data directory's lock keeps other nodes away. A caller that breaks
    /// this reads changing bytes or gets SIGBUS past the new end; checksums catch the first.
    pub fn of_sealed(file: &File) -> Result<Mapping, OsError> {
        // SAFETY: the mapping is read-only. Writers of the file are excluded by the store: segments are mapped
        // only once sealed, are never written or truncated after that, and the directory is locked by flock.
        let map =
            unsafe { memmap2::Mmap::map(file) }.map_err(|source| OsError::Call { call: "mmap", source })?;
        Ok(Mapping { map })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl core::ops::Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_mapping_shows_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 5000]).unwrap();
        let mapping = Mapping::of_sealed(&file).unwrap();
        assert_eq!(mapping.len(), 5000);
        assert!(mapping.iter().all(|byte| *byte == 7));
    }
}
