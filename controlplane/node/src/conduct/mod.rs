//! What each peer has been refused for, what its score is, and whether it is banned.
//!
//! ```text
//! open, verify: counters by peer ──┐
//! control, catch-up: Conduct::note ┼─► keeper, twenty times a second ─► Scores ─► Banning: keys, streams, handshakes
//! handshake: bad messages by peer ─┘                                 └► shown: /status, metrics, log; unheard: the machine
//! ```
//! Nothing here is on a packet's path, and nothing here decides what is true: see [`roko_peers::score`].

mod keeper;

pub use keeper::{Keeper, KeeperParts};

use roko_peers::Offence;
use roko_wire::ValidatorIndex;
use roko_wire::limits::VALIDATORS_MAX;
use roko_wire::vote::Bitmap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Clients and full nodes beside the validators whose streams are watched. More of them are served and not scored for
/// what they ask: a stream that breaks the protocol ends all the same.
const OTHERS_MAX: usize = 256;

/// One peer, as `/status`, metrics and `roko top` show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerConduct {
    /// Its index on the wire.
    pub index: u16,
    /// Its score in thousandths of the limit at which it is banned.
    pub score_permille: u64,
    /// How long it is still banned, milliseconds; `None` when it is not.
    pub banned_for_ms: Option<u64>,
    /// Bans since the start.
    pub bans: u64,
    /// Bans that it deserved and that were withheld, because more banned stake than may be Byzantine would cost the quorum.
    pub withheld: u64,
    /// What it was refused for, by reason, since the start.
    pub offences: BTreeMap<String, u64>,
}

/// Shared by who notes, who judges and who shows.
#[derive(Debug)]
pub struct Conduct {
    /// By slot and offence.
    noted: Box<[[AtomicU64; Offence::COUNT]]>,
    shown: Mutex<Vec<PeerConduct>>,
    /// Validators that are banned, and how often that has changed.
    unheard: Mutex<Bitmap>,
    changes: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Conduct {
    fn default() -> Self {
        let none = || std::array::from_fn(|_| AtomicU64::new(0));
        Conduct {
            noted: (0..VALIDATORS_MAX + OTHERS_MAX).map(|_| none()).collect(),
            shown: Mutex::default(),
            unheard: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }
}

impl Conduct {
    /// A validator did what an honest one does not, or what is counted only.
    pub fn note(&self, from: ValidatorIndex, offence: Offence) {
        // Validators come first among the members, in genesis' order: index and slot are the same.
        self.note_slot(from.as_usize(), offence);
    }

    /// The member in `slot` did.
    pub fn note_slot(&self, slot: usize, offence: Offence) {
        if let Some(counts) = self.noted.get(slot) {
            counts[offence as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn noted(&self, slot: usize, offence: Offence) -> u64 {
        self.noted.get(slot).map_or(0, |counts| counts[offence as usize].load(Ordering::Relaxed))
    }

    /// The validators that are not listened to, when that has changed since `seen`.
    #[must_use]
    pub fn unheard_since(&self, seen: &mut u64) -> Option<Bitmap> {
        let changes = self.changes.load(Ordering::Acquire);
        (std::mem::replace(seen, changes) != changes).then(|| *lock(&self.unheard))
    }

    fn set_unheard(&self, unheard: Bitmap) {
        *lock(&self.unheard) = unheard;
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn show(&self, peers: Vec<PeerConduct>) {
        *lock(&self.shown) = peers;
    }

    /// The peers that have been refused for anything, by slot.
    #[must_use]
    pub fn read(&self) -> Vec<PeerConduct> {
        lock(&self.shown).clone()
    }
}
