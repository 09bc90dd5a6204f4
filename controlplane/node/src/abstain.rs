//! A validator whose store was cut back, or begun from a snapshot, votes on nothing until the chain is past that moment.
//!
//! The store and the journal together are what keeps a validator from voting twice in a view: votes of final views are
//! pruned from the journal. With blocks cut, views could open here in which it has voted. Every such vote was cast
//! before the cut, and a block whose time is after it belongs to a later view. So once such a block is final here, the
//! rules of voting hold again by themselves.

use roko_wire::NanoMoment;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "abstain-until";
/// Proposers' clocks, and the way of the last vote, are within this of the moment of the cut, nanoseconds.
pub const MARGIN_NS: u64 = 10_000_000_000;

/// Until when a validator abstains.
#[derive(Debug)]
pub struct Abstention {
    until: NanoMoment,
    path: PathBuf,
}

impl Abstention {
    /// What the data directory says; `None` when the validator may vote.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood: voting without knowing would not be safe.
    pub fn load(data_dir: &Path) -> io::Result<Option<Abstention>> {
        let path = data_dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let bad = |_| {
            let text = format!("{} holds no time in nanoseconds: make the repair again", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let until = NanoMoment(text.trim().parse().map_err(bad)?);
        Ok(Some(Abstention { until, path }))
    }

    /// Makes durable that nothing is voted on until the chain is past `until`; a later time that is there stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(data_dir: &Path, until: NanoMoment) -> io::Result<()> {
        let before =
            Abstention::load(data_dir).ok().flatten().map_or(NanoMoment::ZERO, |before| before.until);
        let beside = data_dir.join("abstain-until.new");
        let mut file = File::create(&beside)?;
        writeln!(file, "{}", before.max(until).0)?;
        file.sync_all()?;
        fs::rename(&beside, data_dir.join(NAME))?;
        File::open(data_dir)?.sync_all()
    }

    /// Whether the chain is past it, now that a block of this time is final.
    #[must_use]
    pub fn is_over(&self, final_time: NanoMoment) -> bool {
        final_time > self.until
    }

    /// Forgets it. That the file is gone need not be durable: the next start comes to the same.
    pub fn end(self) {
        // A file that stays is looked at again at the next start, and is over then.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_a_block_of_a_later_time_is_final() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Abstention::load(dir.path()).unwrap().is_none());
        Abstention::write(dir.path(), NanoMoment(1_000)).unwrap();
        Abstention::write(dir.path(), NanoMoment(900)).unwrap();
        let abstention = Abstention::load(dir.path()).unwrap().unwrap();
        assert!(!abstention.is_over(NanoMoment(1_000)) && abstention.is_over(NanoMoment(1_001)));
        abstention.end();
        assert!(Abstention::load(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(NAME), "soon").unwrap();
        assert!(Abstention::load(dir.path()).is_err(), "what is not understood is no leave to vote");
    }
}
