//! The third stage: reads the frame's header and finds its session.
//!
//! The index of sessions here holds names only, one for each key: session, core and phase; keys and replay windows are in
//! the next stage. A key that is not indexed is looked up in the [`KeySource`], a limited number a poll, and stays a
//! *candidate* until the next stage reports that one of its frames verified. So a forged header can displace a candidate
//! and nothing else. Keys that the control plane retires are forgotten here and in the next stage.

use crate::clock::ClockPage;
use crate::keyed::{Keyed, keyed};
use crate::latency::{LatencyRecorder, Since};
use crate::link::{Datagram, SealedFrame};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::{KeyName, KeySource, PeerIndex, Role};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, FrameBuf};
use crate::session::AeadKeys;
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::codec::Reader;
use roko_wire::frame::FrameHeader;
use std::collections::HashMap;
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

/// Keys of a peer that work at the same time: the newest and the one before it.
pub const LIVE_SESSIONS: usize = 2;
/// Unknown keys looked up in one poll.
const ADMISSIONS_PER_POLL: usize = 4;

#[derive(Clone, Copy, Default)]
struct PeerSessions {
    live: [Option<KeyName>; LIVE_SESSIONS],
    candidate: Option<KeyName>,
}

/// The stage.
pub struct Decode<B> {
    input: Consumer<Datagram<B>>,
    out: Producer<SealedFrame<B>>,
    established: Consumer<Established>,
    retired: Producer<Retired>,
    source: Box<dyn KeySource>,
    /// At most three keys a peer; twice the room, so that it never grows.
    sessions: HashMap<KeyName, (PeerIndex, Role), Keyed>,
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
        (established, retired): (Consumer<Established>, Producer<Retired>),
        out: Producer<SealedFrame<B>>,
    ) -> Decode<B> {
        let latency = LatencyRecorder::new(Since::Wire, clock);
        Decode {
            input,
            out,
            established,
            retired,
            source,
            sessions: HashMap::with_capacity_and_hasher(2 * (LIVE_SESSIONS + 1) * peers_max, keyed()),
            peers: vec![PeerSessions::default(); peers_max].into_boxed_slice(),
            counters: Counters::timed("decode", &[&latency]),
            latency,
        }
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
        self.sessions.insert(event.key, (event.peer, event.role));
        self.counters.count(DecodeCounter::Established);
    }

    /// Forgets the keys that the control plane retires, and tells the next stage.
    fn retire(&mut self) {
        while self.retired.free_slots() > 0 {
            let Some((peer, key)) = self.source.next_retired() else { break };
            self.sessions.remove(&key);
            if let Some(names) = self.peers.get_mut(peer.as_usize()) {
                names.live.iter_mut().chain([&mut names.candidate]).for_each(|name| {
                    name.take_if(|name| *name == key);
                });
            }
            let pushed = self.retired.push(Retired { peer, key });
            debug_assert!(pushed.is_ok(), "room was checked");
        }
    }

    fn admit(&mut self, key: KeyName) -> Result<(PeerIndex, Role, u64, AeadKeys), DecodeCounter> {
        let admission = self.source.admit(key).ok_or(DecodeCounter::UnknownSession)?;
        let index = admission.peer.as_usize();
        let peer = self.peers.get_mut(index).ok_or(DecodeCounter::UnknownSession)?;
        if let Some(before) = peer.candidate.replace(key) {
            self.sessions.remove(&before);
        }
        self.sessions.insert(key, (admission.peer, admission.role));
        self.counters.count(DecodeCounter::Admitted);
        Ok((admission.peer, admission.role, admission.generation, admission.keys))
    }

    fn decode(
        &mut self,
        datagram: Datagram<B>,
        admissions: &mut usize,
    ) -> Result<SealedFrame<B>, DecodeCounter> {
        let Datagram { buf, received, payload } = datagram;
        let header = FrameHeader::read(&mut Reader::new(payload.of(buf.data())))
            .map_err(|_| DecodeCounter::BadHeader)?;
        let key = KeyName::of(&header);
        let (peer, role, admitted) = match self.sessions.get(&key) {
            Some((peer, role)) => (*peer, *role, None),
            None if *admissions == 0 => return Err(DecodeCounter::AdmissionLimited),
            None => {
                *admissions -= 1;
                let (peer, role, generation, keys) = self.admit(key)?;
                (peer, role, Some((generation, keys)))
            }
        };
        Ok(SealedFrame { buf, received, payload, header, peer, role, admitted })
    }
}

impl<B: FrameBuf> Stage for Decode<B> {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        while let Some(event) = self.established.pop() {
            self.establish(event);
        }
        self.retire();
        let room = self.out.free_slots();
        let (mut work, mut admissions) = (0, ADMISSIONS_PER_POLL);
        while work < BURST.min(room) {
            let Some(datagram) = self.input.pop() else { break };
            work += 1;
            match self.decode(datagram, &mut admissions) {
                Ok(frame) => {
                    self.latency.note(frame.received.moment);
                    let pushed = self.out.push(frame);
                    debug_assert!(pushed.is_ok(), "room was checked");
                    self.counters.count(DecodeCounter::Passed);
                }
                Err(refusal) => self.counters.count(refusal),
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
