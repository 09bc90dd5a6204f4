//! Every peer's keys, in three arrays: names and edges of the replay windows, what opens frames, and the windows.
//!
//! A frame touches a line of the first, seven of the second and one of the third. Ten thousand peers' keys do not fit
//! a cache, and it is their pages that cost most: so what is touched for each frame lies densely, and what is not lies
//! elsewhere. A key keeps its place in the arrays while it grows older; only its name moves.

use super::OpenCounter;
use crate::decode::{Admitted, LIVE_SESSIONS, Retired, close_gap};
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
    /// One above the highest generation that was ever live. A key of a lower one may have been, and its replay window is gone:
    /// a recorded frame of it would be new.
    generation_min: u64,
}

const _: () = assert!(size_of::<PeerKeys>() == 128, "two cache lines");

impl PeerKeys {
    /// A place that no live key has.
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

/// Overwrites a key that no name leads to any more; its cipher clears what it held.
#[cold]
fn wipe(columns: &mut [Column; PLACES], peer: PeerIndex, place: Place) {
    columns[place as usize].openers[peer.as_usize()] = vacant();
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
    /// When a newer one is, or was.
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
        if generation < keys.generation_min {
            return Err(OpenCounter::StaleSession);
        }
        if let Some(displaced) = keys.candidate.take() {
            wipe(&mut self.columns, peer, displaced.place);
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
            keys.generation_min = key.generation.saturating_add(1);
            keys.live.rotate_right(1);
            if let Some(oldest) = core::mem::replace(&mut keys.live[0], keys.candidate.take()) {
                wipe(&mut self.columns, peer, oldest.place);
            }
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
                wipe(&mut self.columns, peer, key.place);
            }
        }
        close_gap(&mut keys.live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{SEAL_BYTES, Sealer};
    use proptest::prelude::*;
    use roko_wire::frame::PriorityClass;

    const PEER: PeerIndex = PeerIndex(1);
    const DECODES: usize = 2;

    fn name(number: u64) -> KeyName {
        KeyName { session: number, core: 0, phase: 0 }
    }

    fn keys(number: u64) -> AeadKeys {
        AeadKeys { key: [number as u8; 32], iv: [7; 12] }
    }

    /// The `sequence`th frame of a key.
    fn frame(number: u64, sequence: u64) -> Vec<u8> {
        let mut sealer = Sealer::new(&keys(number), number, 0, 0);
        let mut payload = vec![0; SEAL_BYTES + 5];
        for _ in 0..=sequence {
            payload.fill(9);
            sealer.seal(PriorityClass::Client, &mut payload).expect("it has room");
        }
        payload
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admit(u64),
        Open(u64, u64),
        Retire(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_u64..7).prop_map(Step::Admit),
            (1_u64..7, 0_u64..4).prop_map(|(key, sequence)| Step::Open(key, sequence)),
            (1_u64..7, 0..DECODES).prop_map(|(key, decode)| Step::Retire(key, decode)),
        ]
    }

    /// A key as the model has it: number, what was opened, who has forgotten it.
    type ModelKey = (u64, Vec<u64>, [bool; DECODES]);

    #[derive(Default)]
    struct Model {
        newest_ever: u64,
        live: Vec<ModelKey>,
        candidate: Option<ModelKey>,
    }

    impl Model {
        fn admit(&mut self, number: u64) -> bool {
            if self.live.iter().any(|key| key.0 == number) {
                return true;
            }
            let is_newer = number > self.newest_ever;
            if is_newer {
                self.candidate = Some((number, Vec::new(), [false; DECODES]));
            }
            is_newer
        }

        fn open(&mut self, number: u64, sequence: u64) -> Result<bool, OpenCounter> {
            if let Some(key) = self.live.iter_mut().find(|key| key.0 == number) {
                if key.1.contains(&sequence) {
                    return Err(OpenCounter::Replayed);
                }
                key.1.push(sequence);
                return Ok(false);
            }
            let Some(mut key) = self.candidate.take_if(|key| key.0 == number) else {
                return Err(OpenCounter::StaleSession);
            };
            key.1.push(sequence);
            self.newest_ever = number;
            self.live.insert(0, key);
            self.live.truncate(LIVE_SESSIONS);
            Ok(true)
        }

        fn retire(&mut self, number: u64, decode: usize) {
            let forget = |key: &mut ModelKey| {
                key.2[decode] |= key.0 == number;
                key.2 == [true; DECODES]
            };
            self.live.retain_mut(|key| !forget(key));
            self.candidate.take_if(forget);
        }
    }

    proptest! {
        #[test]
        fn keys_live_as_in_a_list(steps in prop::collection::vec(step(), 1..60)) {
            let (mut sessions, mut model) = (Sessions::new(3), Model::default());
            for step in steps {
                match step {
                    Step::Admit(number) => {
                        let admitted = Admitted { generation: number, keys: keys(number) };
                        let is_in = sessions.admit(PEER, name(number), &admitted).is_ok();
                        prop_assert_eq!(is_in, model.admit(number));
                    }
                    Step::Open(number, sequence) => {
                        sessions.ask_for_name(PEER);
                        sessions.ask_for_key(PEER, sequence);
                        let opened = sessions.open(PEER, name(number), sequence, &mut frame(number, sequence));
                        let opened = opened.map(|opened| {
                            assert_eq!(opened.message_bytes, 5);
                            opened.first
                        });
                        prop_assert_eq!(opened, model.open(number, sequence));
                    }
                    Step::Retire(number, decode) => {
                        sessions.retire(Retired { peer: PEER, key: name(number) }, decode, DECODES);
                        model.retire(number, decode);
                    }
                }
            }
            prop_assert!(sessions.peers[0].live[0].is_none() && sessions.peers[2].live[0].is_none(), "another peer");
        }
    }
}
