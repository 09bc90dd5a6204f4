//! Applies changes with a record, and reverts them from it.

use super::record::{Record, RecordError, lock};
use super::wanted::Change;
use crate::tree::{Tree, TreeError};
use core::ops::ControlFlow;
use std::path::Path;

const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

/// What happens while settings are changed; the caller prints it, and may stop between two steps.
#[derive(Debug)]
pub enum Event<'a> {
    /// What was there is on disk now; the write follows.
    Recorded {
        /// The file.
        path: &'a str,
    },
    /// The setting was written and read back.
    Written {
        /// The file.
        path: &'a str,
        /// What it held.
        before: &'a str,
        /// What it holds.
        after: &'a str,
    },
    /// The kernel keeps its own value, or a part of what was asked for.
    Refused {
        /// The file.
        path: &'a str,
        /// Why.
        why: &'a str,
        /// Whether that was to be expected.
        expected: bool,
    },
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Settings that were written.
    pub written: usize,
    /// Settings that were refused, against expectation.
    pub refused: usize,
    /// Settings that the kernel keeps to itself.
    pub kept: usize,
    /// Whether the caller stopped it.
    pub stopped: bool,
}

/// Nothing more can be changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The machine.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl ApplyError {
    /// Whether more privilege would mend it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            ApplyError::Record(error) => error.is_permission(),
            ApplyError::Tree(error) => error.is_permission(),
        }
    }
}

type Observer<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Makes the changes. Each is recorded at `state` before it is made. Nothing is touched when there is no change.
pub fn apply(
    tree: &Tree,
    changes: &[Change],
    state: &Path,
    observe: Observer<'_>,
) -> Result<Outcome, ApplyError> {
    let mut outcome = Outcome::default();
    if changes.is_empty() {
        return Ok(outcome);
    }
    let _lock = lock(state)?;
    let boot_id = tree.read(BOOT_ID)?;
    // A record of an earlier boot describes settings that are gone.
    let mut record = Record::load(state)?.filter(|record| record.boot_id == boot_id).unwrap_or_default();
    record.boot_id = boot_id;
    for change in changes {
        record.note(&change.path, &change.before, &change.after);
        record.save(state)?;
        if observe(Event::Recorded { path: &change.path }).is_break() {
            return Ok(Outcome { stopped: true, ..outcome });
        }
        if let Err(why) = write(tree, &change.path, &change.after) {
            // What holds its old value still, or went away, has nothing to be put back.
            let unchanged = match tree.setting(&change.path) {
                Ok(now) => now == change.before,
                Err(error) => error.is_missing(),
            };
            if unchanged {
                record.settings.retain(|had| had.path != change.path || had.before != change.before);
            }
            match change.may_be_refused {
                true => outcome.kept += 1,
                false => outcome.refused += 1,
            }
            let event = Event::Refused { path: &change.path, why: &why, expected: change.may_be_refused };
            if observe(event).is_break() {
                record.save(state)?;
                return Ok(Outcome { stopped: true, ..outcome });
            }
            continue;
        }
        outcome.written += 1;
        let event = Event::Written { path: &change.path, before: &change.before, after: &change.after };
        if observe(event).is_break() {
            return Ok(Outcome { stopped: true, ..outcome });
        }
    }
    match record.settings.is_empty() {
        true => Record::remove(state)?,
        false => record.save(state)?,
    }
    Ok(outcome)
}

/// Puts everything back that `state` records, the newest first, and removes the record when all of it is back.
pub fn revert(tree: &Tree, state: &Path, observe: Observer<'_>) -> Result<Outcome, ApplyError> {
    let mut outcome = Outcome::default();
    let Some(found) = Record::load(state)? else { return Ok(outcome) };
    let _lock = lock(state)?;
    if found.boot_id != tree.read(BOOT_ID)? {
        // The restart has put everything back.
        Record::remove(state)?;
        return Ok(outcome);
    }
    let mut left = Record { boot_id: found.boot_id, settings: Vec::new() };
    for setting in found.settings.into_iter().rev() {
        let now = match tree.setting(&setting.path) {
            Ok(now) if now == setting.before => continue,
            // An interrupt or a core that went away took its setting with it.
            Err(error) if error.is_missing() => continue,
            now => now.unwrap_or_default(),
        };
        if let Err(why) = write(tree, &setting.path, &setting.before) {
            outcome.refused += 1;
            let stop = observe(Event::Refused { path: &setting.path, why: &why, expected: false }).is_break();
            left.settings.insert(0, setting);
            if stop {
                return Ok(Outcome { stopped: true, ..outcome });
            }
            continue;
        }
        outcome.written += 1;
        let event = Event::Written { path: &setting.path, before: &now, after: &setting.before };
        if observe(event).is_break() {
            return Ok(Outcome { stopped: true, ..outcome });
        }
    }
    match left.settings.is_empty() {
        true => Record::remove(state)?,
        false => left.save(state)?,
    }
    Ok(outcome)
}

/// Writes a setting and sees that it is there.
fn write(tree: &Tree, path: &str, value: &str) -> Result<(), String> {
    tree.write(path, value).map_err(|error| error.to_string())?;
    let now = tree.setting(path).map_err(|error| error.to_string())?;
    match now == value {
        true => Ok(()),
        false => Err(format!("/{path} holds {now} after {value} was written to it")),
    }
}
