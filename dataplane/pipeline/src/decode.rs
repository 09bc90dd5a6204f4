//! The third stage: reads the frame's header and finds its session.
//!
//! The index of sessions here holds names only, one for each key: session, core and phase; keys and replay windows are in
//! the next stage. A key that is not indexed is looked up in the [`KeySource`], a limited number a poll, and stays a
//! *candidate* until the next stage reports that one of its frames verified. So a forged header can displace a candidate
//! and nothing else. Keys that the control plane retires are forgotten here and in the next stage. The next stage is that of
//! the session's owner among the [`crate::lanes`], whatever queue the frame came by.

use crate::clock::ClockPage;
use crate::keyed::secret;
use crate::lanes::Owners;
use crate::latency::{LatencyRecorder, Since};
use crate::link::{Datagram, SealedFrame};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::{Admission, KeyName, KeySource, PeerIndex, Role};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, FrameBuf};
use crate::session::AeadKeys;
use arrayvec::ArrayVec;
use roko_ring::spsc::{Consumer, Producer};
use roko_ring::table::{Hash, Table};
use roko_wire::codec::Reader;
use roko_wire::frame::{FrameHeader, PriorityClass};
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Decode`].
    DecodeCounter {
        /// Frames passed on.
        Passed = "passed",
        /// Headers of another version or an unknown class.
        BadHeader = "bad_header",
        /// Keys that no peer's handshake has agreed on.
        UnknownSession = "unknown_session",
        /// Frames of unknown keys beyond what one poll looks up.
        AdmissionLimited = "admission_limited",
        /// Keys admitted for a frame; their frame must still verify.
        Admitted = "admitted",
        /// Keys of which a frame verified.
        Established = "established",
        /// Frames passed on to another lane than that of the queue they came by.
        Crossed = "crossed",
        /// Frames dropped because their lane has no room: one that is slow does not hold up the others.
        DroppedLaneFull = "dropped_lane_full",
    }
);

/// A key of which a frame verified, reported by the next stage.
#[derive(Clone, Copy, Debug)]
pub struct Established {
    /// Whose.
    pub peer: PeerIndex,
    /// The peer's role.
    pub role: Role,
    /// The key.
    pub key: KeyName,
}

/// A key of which no frame is opened any more, told to the next stage.
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    /// Whose.
    pub peer: PeerIndex,
    /// The key.
    pub key: KeyName,
}

/// A key for a frame that is marked as admitted. Such frames and these come to the next stage in the same order, one for one.
pub struct Admitted {
    /// Orders the peer's keys, as [`Admission::generation`].
    pub generation: u64,
    /// The key.
    pub keys: AeadKeys,
}

/// Frames with new keys between this stage and the next, at most.
pub const ADMITTED_DEPTH: usize = 64;

/// What stands in the place of a header that could not be read.
const NO_HEADER: FrameHeader =
    FrameHeader { key_phase: 0, core: 0, class: PriorityClass::Client, session: 0, sequence: 0 };
const _: () = assert!(BURST <= 32, "a burst's frames are bits of a word");

/// Keys of a peer that work at the same time: the newest and the one before it.
pub const LIVE_SESSIONS: usize = 2;
/// Moves the place of a live key that was dropped behind the others, or the next new key would displace one that still works.
pub(crate) fn close_gap<T>(live: &mut [Option<T>; LIVE_SESSIONS]) {
    for at in 1..LIVE_SESSIONS {
        if live[at - 1].is_none() {
            live.swap(at - 1, at);
        }
    }
}

/// Unknown keys looked up in one poll.
const ADMISSIONS_PER_POLL: usize = 4;

#[derive(Clone, Copy, Default)]
struct PeerSessions {
    live: [Option<KeyName>; LIVE_SESSIONS],
    candidate: Option<KeyName>,
}

/// The rings between this stage and one lane's open.
pub struct ToOpen<B> {
    /// Frames.
    pub frames: Producer<SealedFrame<B>>,
    /// Keys beside the frames that name them first.
    pub admitted: Producer<Admitted>,
    /// Keys to forget.
    pub retired: Producer<Retired>,
    /// Keys of which a frame verified, back.
    pub established: Consumer<Established>,
}

/// The lanes as a decode sees them.
pub struct DecodeLanes<B> {
    /// Its own.
    pub own: usize,
    /// Which lane has a session.
    pub owners: Owners,
    /// The rings to each lane.
    pub to: Vec<ToOpen<B>>,
}

/// The stage.
pub struct Decode<B> {
    input: Consumer<Datagram<B>>,
    lanes: DecodeLanes<B>,
    source: Box<dyn KeySource>,
    /// At most three keys a peer.
    sessions: Table<KeyName, (PeerIndex, Role)>,
    peers: Box<[PeerSessions]>,
    latency: LatencyRecorder,
    counters: Counters<DecodeCounter>,
}

impl<B: FrameBuf> Decode<B> {
    /// The stage, for at most `peers_max` peers.
    #[must_use]
    pub fn new(
        peers_max: usize,
        source: Box<dyn KeySource>,
        clock: ClockPage,
        input: Consumer<Datagram<B>>,
        lanes: DecodeLanes<B>,
    ) -> Decode<B> {
        let latency = LatencyRecorder::new(Since::Wire, clock);
        Decode {
            input,
            lanes,
            source,
            sessions: Table::new((LIVE_SESSIONS + 1) * peers_max, secret()),
            peers: vec![PeerSessions::default(); peers_max].into_boxed_slice(),
            counters: Counters::timed("decode", &[&latency]),
            latency,
        }
    }

    /// The same, as the stage of one lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Option<u8>) -> Decode<B> {
        self.counters = self.counters.in_lane(lane);
        self
    }

    fn establish(&mut self, event: Established) {
        let Some(peer) = self.peers.get_mut(event.peer.as_usize()) else { return };
        if peer.live.contains(&Some(event.key)) {
            return;
        }
        if peer.candidate == Some(event.key) {
            peer.candidate = None;
        }
        if let Some(oldest) = peer.live[LIVE_SESSIONS - 1].take() {
            self.sessions.remove(&oldest);
        }
        peer.live.rotate_right(1);
        peer.live[0] = Some(event.key);
        self.remember(event.key, event.peer, event.role);
        self.counters.count(DecodeCounter::Established);
    }

    /// Forgets the keys that the control plane retires, and tells their owner.
    fn retire(&mut self) {
        while self.lanes.to.iter_mut().all(|lane| lane.retired.free_slots() > 0) {
            let Some((peer, key)) = self.source.next_retired() else { break };
            self.sessions.remove(&key);
            if let Some(names) = self.peers.get_mut(peer.as_usize()) {
                names.live.iter_mut().chain([&mut names.candidate]).for_each(|name| {
                    name.take_if(|name| *name == key);
                });
                close_gap(&mut names.live);
            }
            let owner = self.lanes.owners.of(key.session);
            let pushed = self.lanes.to[owner].retired.push(Retired { peer, key });
            debug_assert!(pushed.is_ok(), "room was checked");
        }
    }

    /// Looks an unknown key up, and gives it to its owner before the frame that names it.
    fn admit(&mut self, key: KeyName, owner: usize) -> Result<(PeerIndex, Role), DecodeCounter> {
        let Admission { peer: index, role, generation, keys } =
            self.source.admit(key).ok_or(DecodeCounter::UnknownSession)?;
        let peer = self.peers.get_mut(index.as_usize()).ok_or(DecodeCounter::UnknownSession)?;
        if let Some(before) = peer.candidate.replace(key) {
            self.sessions.remove(&before);
        }
        self.remember(key, index, role);
        let pushed = self.lanes.to[owner].admitted.push(Admitted { generation, keys });
        debug_assert!(pushed.is_ok(), "room was checked");
        self.counters.count(DecodeCounter::Admitted);
        Ok((index, role))
    }

    fn remember(&mut self, key: KeyName, peer: PeerIndex, role: Role) {
        let fits = self.sessions.insert(key, (peer, role));
        debug_assert!(fits, "there is room for every key that a peer can have here");
    }

    /// Frames that may be taken in. One lane holds its queue up when it is behind; of several, a full one gets no frame
    /// and the others go on.
    fn room(&mut self) -> usize {
        match self.lanes.to.as_mut_slice() {
            [only] => only.frames.free_slots(),
            _ => BURST,
        }
    }

    #[inline]
    fn pass(
        &mut self,
        datagram: Datagram<B>,
        header: FrameHeader,
        hash: Hash,
        admissions: &mut usize,
    ) -> Result<(), DecodeCounter> {
        let key = KeyName::of(&header);
        let owner = self.lanes.owners.of(key.session);
        let to = &mut self.lanes.to[owner];
        let (peer, role, admitted) = match self.sessions.get(hash, &key) {
            Some((peer, role)) => (*peer, *role, false),
            None if *admissions == 0 || to.admitted.free_slots() == 0 => {
                return Err(DecodeCounter::AdmissionLimited);
            }
            // The key goes before the frame, so there is room for both or neither goes.
            None if to.frames.free_slots() == 0 => return Err(DecodeCounter::DroppedLaneFull),
            None => {
                *admissions -= 1;
                let (peer, role) = self.admit(key, owner)?;
                (peer, role, true)
            }
        };
        let Datagram { buf, received, payload } = datagram;
        let frame = SealedFrame { buf, received, payload, header, peer, role, admitted };
        self.lanes.to[owner].frames.push(frame).map_err(|_| DecodeCounter::DroppedLaneFull)?;
        self.latency.note(received.moment);
        self.counters.add(DecodeCounter::Crossed, u64::from(owner != self.lanes.own));
        Ok(())
    }
}

impl<B: FrameBuf> Stage for Decode<B> {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        for lane in 0..self.lanes.to.len() {
            while let Some(event) = self.lanes.to[lane].established.pop() {
                self.establish(event);
            }
        }
        self.retire();
        // A burst at a time, so that its cache misses overlap: the index, the sessions.
        let room = self.room();
        let mut burst = ArrayVec::<_, BURST>::new();
        self.input.pop_each(BURST.min(room), |datagram| burst.push(datagram));
        // Plain numbers in fixed places: what is read back at once must have been written whole.
        let (mut headers, mut hashes) = ([NO_HEADER; BURST], [Hash::default(); BURST]);
        let mut read = 0_u32;
        for (place, datagram) in burst.iter().enumerate() {
            let mut reader = Reader::new(datagram.payload.of(datagram.buf.data()));
            let Ok(header) = FrameHeader::read(&mut reader) else {
                self.counters.count(DecodeCounter::BadHeader);
                continue;
            };
            (headers[place], hashes[place]) = (header, self.sessions.hash(&KeyName::of(&header)));
            self.sessions.prefetch(hashes[place]);
            read |= 1 << place;
        }
        for hash in &mut hashes[..burst.len()] {
            self.sessions.prefetch_record(hash);
        }
        let (work, mut admissions) = (burst.len(), ADMISSIONS_PER_POLL);
        for (place, datagram) in burst.into_iter().enumerate() {
            if read >> place & 1 == 1 {
                let passed = self.pass(datagram, headers[place], hashes[place], &mut admissions);
                self.counters.count(passed.err().unwrap_or(DecodeCounter::Passed));
            }
        }
        self.latency.settle();
        Progress { work, backpressured: room == 0 && !self.input.is_empty() }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.latency.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
