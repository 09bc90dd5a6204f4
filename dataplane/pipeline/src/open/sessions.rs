//! Every peer's keys, in three arrays: names and edges of the replay windows, what opens frames, and the windows.
//!
//! A frame touches a line of the first, seven of the second and one of the third. Ten thousand peers' keys do not fit
//! a cache, and it is their pages that cost most: so what is touched for each frame lies densely, and what is not lies
//! elsewhere. A key keeps its place in the arrays while it grows older; only its name moves.

use super::OpenCounter;
use crate::decode::{Admitted, LIVE_SESSIONS, Retired};
use crate::lanes::LANES_MAX;
use crate::peer::{KeyName, PeerIndex};
use crate::session::{AeadKeys, Opener, Replay, ReplayWindow, SeenFrames};
use roko_ring::prefetch;

/// Keys of a peer: the live ones, and a candidate.
const PLACES: usize = LIVE_SESSIONS + 1;

/// Which of its peer's places a key has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Second,
    Third,
}

const ALL_PLACES: [Place; PLACES] = [Place::First, Place::Second, Place::Third];

/// What is known of a key beside how it opens frames.
#[derive(Clone, Copy)]
struct Key {
    name: KeyName,
    generation: u64,
    window: ReplayWindow,
    /// The decodes that have forgotten the key, a bit each.
    retired_by: u16,
    place: Place,
}

const _: () = assert!(LANES_MAX <= u16::BITS as usize, "a decode is a bit");

/// A peer's keys.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
struct PeerKeys {
    /// The newest first.
    live: [Option<Key>; LIVE_SESSIONS],
    candidate: Option<Key>,
}

const _: () = assert!(size_of::<PeerKeys>() == 128, "two cache lines");

impl PeerKeys {
    /// A place that no live key has; what a candidate has there is displaced.
    fn place_for_candidate(&self) -> Place {
        let taken = |place| self.live.iter().flatten().any(|key| key.place == place);
        ALL_PLACES.into_iter().find(|place| !taken(*place)).unwrap_or(Place::Third)
    }
}

/// What opens a key's frames, on lines of its own.
#[repr(align(64))]
struct Aligned(Opener);

/// What all peers have in one place.
struct Column {
    openers: Box<[Aligned]>,
    seen: Box<[SeenFrames]>,
}

/// All keys.
pub(super) struct Sessions {
    peers: Box<[PeerKeys]>,
    columns: [Column; PLACES],
}

/// A frame that opened.
pub(super) struct Opened {
    /// Bytes of its message.
    pub(super) message_bytes: usize,
    /// Whether it is the first of its key.
    pub(super) first: bool,
}

/// No key: it opens nothing, because no name leads to it.
fn vacant() -> Aligned {
    Aligned(Opener::new(&AeadKeys { key: [0; 32], iv: [0; 12] }))
}

impl Sessions {
    /// Room for the keys of so many peers.
    pub(super) fn new(peers_max: usize) -> Sessions {
        let column = || Column {
            openers: (0..peers_max).map(|_| vacant()).collect(),
            seen: vec![SeenFrames::ALL; peers_max].into_boxed_slice(),
        };
        let peers = vec![PeerKeys::default(); peers_max].into_boxed_slice();
        Sessions { peers, columns: [column(), column(), column()] }
    }

    /// Asks for the name of a peer's newest key.
    #[inline]
    pub(super) fn ask_for_name(&self, peer: PeerIndex) {
        if let Some(keys) = self.peers.get(peer.as_usize()) {
            prefetch::line(keys);
        }
    }

    /// Asks for what opens a frame of the peer's newest key; its name is here.
    #[inline]
    pub(super) fn ask_for_key(&self, peer: PeerIndex, sequence: u64) {
        if let Some(Some(key)) = self.peers.get(peer.as_usize()).map(|keys| &keys.live[0]) {
            let column = &self.columns[key.place as usize];
            prefetch::value(&column.openers[peer.as_usize()]);
            column.seen[peer.as_usize()].ask_for(sequence);
        }
    }

    /// Makes a key the peer's candidate if it is not live already.
    ///
    /// # Errors
    /// When a newer one is.
    #[cold]
    pub(super) fn admit(
        &mut self,
        peer: PeerIndex,
        name: KeyName,
        admitted: &Admitted,
    ) -> Result<(), OpenCounter> {
        let keys = self.peers.get_mut(peer.as_usize()).ok_or(OpenCounter::StaleSession)?;
        if keys.live.iter().flatten().any(|key| key.name == name) {
            return Ok(());
        }
        let generation = admitted.generation;
        if keys.live[0].as_ref().is_some_and(|newest| newest.generation >= generation) {
            return Err(OpenCounter::StaleSession);
        }
        let place = keys.place_for_candidate();
        let column = &mut self.columns[place as usize];
        column.openers[peer.as_usize()] = Aligned(Opener::new(&admitted.keys));
        column.seen[peer.as_usize()] = SeenFrames::NONE;
        let window = ReplayWindow::default();
        keys.candidate = Some(Key { name, generation, window, retired_by: 0, place });
        Ok(())
    }

    /// Opens a frame's payload in place. The peer's candidate becomes a live key with the first frame that opens.
    #[inline]
    pub(super) fn open(
        &mut self,
        peer: PeerIndex,
        name: KeyName,
        sequence: u64,
        payload: &mut [u8],
    ) -> Result<Opened, OpenCounter> {
        let keys = self.peers.get_mut(peer.as_usize()).ok_or(OpenCounter::StaleSession)?;
        let live = keys.live.iter().position(|slot| slot.as_ref().is_some_and(|key| key.name == name));
        let slot = match live {
            Some(index) => &mut keys.live[index],
            None => &mut keys.candidate,
        };
        let key = slot.as_mut().filter(|key| key.name == name).ok_or(OpenCounter::StaleSession)?;
        let column = &mut self.columns[key.place as usize];
        let seen = &mut column.seen[peer.as_usize()];
        key.window.check(seen, sequence).map_err(|replay| match replay {
            Replay::Seen => OpenCounter::Replayed,
            Replay::TooOld => OpenCounter::TooOld,
        })?;
        let opener = &column.openers[peer.as_usize()].0;
        let message_bytes = opener.open(sequence, payload).ok_or(OpenCounter::BadTag)?;
        key.window.mark(seen, sequence);
        if live.is_none() {
            keys.live.rotate_right(1);
            keys.live[0] = keys.candidate.take();
        }
        Ok(Opened { message_bytes, first: live.is_none() })
    }

    /// Notes that decode number `decode` of `decodes` has forgotten a key, and drops it when all have. One that has not could
    /// still admit it, and without its replay window a recorded frame would be new.
    pub(super) fn retire(&mut self, Retired { peer, key: name }: Retired, decode: usize, decodes: usize) {
        let all = u16::MAX >> (u16::BITS as usize - decodes);
        let Some(keys) = self.peers.get_mut(peer.as_usize()) else { return };
        for slot in keys.live.iter_mut().chain([&mut keys.candidate]) {
            let gone = slot.take_if(|key| {
                key.retired_by |= u16::from(key.name == name) << decode;
                key.retired_by == all
            });
            if let Some(key) = gone {
                self.columns[key.place as usize].openers[peer.as_usize()] = vacant();
            }
        }
    }
}
