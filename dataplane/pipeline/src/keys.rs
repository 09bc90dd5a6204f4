//! Keys that the control plane's handshakes agreed on, as decode meets them: they come through a ring, are kept until
//! they are to be forgotten, and are handed out when a frame names them.
//!
//! A peer has a few at a time: the phases of its present session, and those of the one before while its last frames
//! arrive. One more displaces the oldest, so that the table is bounded whatever the control plane does. Every decode has a
//! table of its own, and all are told the same.

use crate::lanes::FanOut;
use crate::peer::{Admission, KeyName, KeySource, PeerIndex, Role};
use crate::session::AeadKeys;
use arrayvec::ArrayVec;
use roko_ring::spsc::{Consumer, Producer, ring};
use std::collections::HashMap;

/// Keys of one peer at a time: two phases of each of two sessions.
pub const KEYS_PER_PEER: usize = 4;

/// What the control plane tells decode about keys. Keys that are dropped are wiped.
// The largest variant is the common one, and a box for it would allocate on one thread and free on another.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
pub enum KeyCommand {
    /// Frames may come that are sealed with these keys.
    Install {
        /// Who seals with them.
        peer: PeerIndex,
        /// Its role.
        role: Role,
        /// How frames name them.
        name: KeyName,
        /// Higher than that of all keys of this peer before.
        generation: u64,
        /// The keys.
        keys: AeadKeys,
    },
    /// No frame is opened with these keys any more.
    Retire {
        /// Who sealed with them.
        peer: PeerIndex,
        /// How frames named them.
        name: KeyName,
    },
}

struct Entry {
    peer: PeerIndex,
    role: Role,
    generation: u64,
    keys: AeadKeys,
}

/// The table, on decode's thread.
pub struct InstalledKeys {
    commands: Consumer<KeyCommand>,
    /// At most [`KEYS_PER_PEER`] a peer; twice the room, so that it never grows.
    entries: HashMap<KeyName, Entry>,
    /// Each peer's keys, the oldest first.
    of_peer: Box<[ArrayVec<KeyName, KEYS_PER_PEER>]>,
}

impl InstalledKeys {
    /// An empty table for at most `peers_max` peers, and the ring that fills it.
    #[must_use]
    pub fn new(peers_max: usize) -> (Producer<KeyCommand>, InstalledKeys) {
        let (producer, commands) = ring(sessions_depth(peers_max));
        let entries = HashMap::with_capacity(2 * KEYS_PER_PEER * peers_max);
        let of_peer = (0..peers_max).map(|_| ArrayVec::new()).collect();
        (producer, InstalledKeys { commands, entries, of_peer })
    }

    /// A table for each of `queues` decodes, and what fills them all.
    #[must_use]
    pub fn for_queues(peers_max: usize, queues: usize) -> (FanOut<KeyCommand>, Vec<InstalledKeys>) {
        let (rings, tables) = (0..queues).map(|_| InstalledKeys::new(peers_max)).unzip();
        (FanOut::new(rings), tables)
    }

    /// Puts keys in. Returns the name of those that they displace.
    fn install(&mut self, name: KeyName, entry: Entry) -> Option<(PeerIndex, KeyName)> {
        let peer = entry.peer;
        let names = self.of_peer.get_mut(peer.as_usize())?;
        let displaced = if names.is_full() { names.pop_at(0) } else { None };
        if let Some(oldest) = displaced {
            self.entries.remove(&oldest);
        }
        names.push(name);
        self.entries.insert(name, entry);
        displaced.map(|oldest| (peer, oldest))
    }
}

/// Depth of the rings that sessions come by: every peer can have a new key and an old one to retire at once, and the
/// control plane tries again what finds no room.
#[must_use]
pub const fn sessions_depth(peers_max: usize) -> usize {
    let depth = (2 * peers_max).next_power_of_two();
    if depth < 16 { 16 } else { depth }
}

impl KeySource for InstalledKeys {
    fn admit(&mut self, name: KeyName) -> Option<Admission> {
        let entry = self.entries.get(&name)?;
        Some(Admission {
            peer: entry.peer,
            role: entry.role,
            generation: entry.generation,
            keys: entry.keys.clone(),
        })
    }

    fn next_retired(&mut self) -> Option<(PeerIndex, KeyName)> {
        while let Some(command) = self.commands.pop() {
            match command {
                KeyCommand::Install { peer, role, name, generation, keys } => {
                    let displaced = self.install(name, Entry { peer, role, generation, keys });
                    if displaced.is_some() {
                        return displaced;
                    }
                }
                KeyCommand::Retire { peer, name } => {
                    self.entries.remove(&name);
                    if let Some(names) = self.of_peer.get_mut(peer.as_usize()) {
                        names.retain(|kept| *kept != name);
                        return Some((peer, name));
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(session: u64, phase: u8) -> KeyName {
        KeyName { session, core: 0, phase }
    }

    fn install(session: u64, phase: u8) -> KeyCommand {
        let keys = AeadKeys { key: [phase; 32], iv: [0; 12] };
        let name = name(session, phase);
        KeyCommand::Install { peer: PeerIndex(1), role: Role::Client, name, generation: session, keys }
    }

    #[test]
    fn keys_are_there_until_they_are_retired_or_displaced() {
        let (mut commands, mut keys) = InstalledKeys::new(2);
        for session in 1..=4 {
            assert!(commands.push(install(session, 7)).is_ok());
        }
        assert_eq!(keys.next_retired(), None);
        let admitted = keys.admit(name(2, 7)).unwrap();
        assert_eq!((admitted.peer, admitted.generation, admitted.keys.key), (PeerIndex(1), 2, [7; 32]));
        assert!(keys.admit(name(2, 8)).is_none(), "another phase");
        assert!(commands.push(KeyCommand::Retire { peer: PeerIndex(1), name: name(2, 7) }).is_ok());
        assert_eq!(keys.next_retired(), Some((PeerIndex(1), name(2, 7))));
        assert!(keys.admit(name(2, 7)).is_none());
        for session in 5..=6 {
            assert!(commands.push(install(session, 7)).is_ok());
        }
        assert_eq!(keys.next_retired(), Some((PeerIndex(1), name(1, 7))), "the oldest gives way");
        assert_eq!(keys.next_retired(), None);
        assert!(keys.admit(name(1, 7)).is_none() && keys.admit(name(6, 7)).is_some());
    }
}
