//! Which connection is each peer's: the newest, as only the dialer makes new ones and knows why.

use super::sink::KeyName;
use crate::refusal::HandshakeCounters;
use roko_wire::genesis::Endpoint;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// What a connection is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// A key of this node is worn.
    Worn(KeyName),
    /// This node's data plane is reached there from now on.
    Announce(Endpoint),
}

/// Commands that wait for a connection; one that does not take them has worse troubles.
const COMMANDS_MAX: usize = 16;

#[derive(Default)]
struct Place {
    /// Number of the connection whose place it is.
    connection: u64,
    commands: Option<Sender<Command>>,
    /// Frames go both ways.
    open: bool,
    /// The last connection over which frames went both ways has ended, and no other took its place.
    lost: bool,
    /// Keys of the peer that the data plane has, the oldest first.
    installed: Vec<KeyName>,
}

/// See the module.
pub(super) struct Registry {
    places: Vec<Place>,
    next: u64,
}

impl Registry {
    pub(super) fn new(peers: usize) -> Registry {
        Registry { places: (0..peers).map(|_| Place::default()).collect(), next: 1 }
    }

    /// Makes a new connection the peer's. The one before ends, as its commands do.
    pub(super) fn enter(&mut self, slot: usize) -> (u64, Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        let connection = self.next_generation();
        let place = &mut self.places[slot];
        (place.connection, place.commands, place.open) = (connection, Some(sender), false);
        (connection, receiver)
    }

    /// A number above all before: connections and keys are ordered by it.
    pub(super) fn next_generation(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether a connection is still the peer's.
    pub(super) fn is_current(&self, slot: usize, connection: u64) -> bool {
        self.places[slot].connection == connection
    }

    /// Frames go both ways over a connection's session.
    pub(super) fn open(&mut self, slot: usize, connection: u64, counters: &HandshakeCounters) {
        if self.is_current(slot, connection) {
            (self.places[slot].open, self.places[slot].lost) = (true, false);
        }
        self.count(counters);
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, slot: usize, connection: u64, counters: &HandshakeCounters) {
        if self.is_current(slot, connection) {
            let place = &mut self.places[slot];
            place.lost |= place.open;
            (place.open, place.commands) = (false, None);
        }
        self.count(counters);
    }

    /// Whether the peer was there and its connection has ended: a process that is killed ends it at once.
    pub(super) fn is_lost(&self, slot: usize) -> bool {
        self.places.get(slot).is_some_and(|place| place.lost)
    }

    fn count(&self, counters: &HandshakeCounters) {
        let open = self.places.iter().filter(|place| place.open).count();
        counters.sessions.store(open as u64, Ordering::Relaxed);
    }

    pub(super) fn installed(&mut self, slot: usize, name: KeyName) {
        self.places[slot].installed.push(name);
    }

    pub(super) fn retired(&mut self, slot: usize, name: KeyName) {
        self.places[slot].installed.retain(|kept| *kept != name);
    }

    /// Takes all keys of the peer that the data plane has: they are about to be retired.
    pub(super) fn take_installed(&mut self, slot: usize) -> Vec<KeyName> {
        self.places.get_mut(slot).map_or_else(Vec::new, |place| std::mem::take(&mut place.installed))
    }

    /// Keys of the peer's other sessions.
    pub(super) fn of_other_sessions(&self, slot: usize, name: KeyName) -> Vec<KeyName> {
        let other = |kept: &&KeyName| kept.session != name.session;
        self.places[slot].installed.iter().filter(other).copied().collect()
    }

    pub(super) fn tell(&self, slot: usize, command: Command) {
        if let Some(commands) = self.places.get(slot).and_then(|place| place.commands.as_ref()) {
            // A connection that takes no command is about to end.
            let _ = commands.try_send(command);
        }
    }

    pub(super) fn tell_all(&self, command: Command) {
        (0..self.places.len()).for_each(|slot| self.tell(slot, command));
    }
}
