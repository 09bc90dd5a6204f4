//! The third stage: reads the frame's header and finds its session.
//!
//! The index of sessions here holds names only; keys and replay windows are in the next stage. A session that is not
//! indexed is admitted through [`KeySource`], a limited number a poll, and stays a *candidate* until the next stage
//! reports that one of its frames verified. So a forged header can displace a candidate and nothing else.

use crate::link::{Datagram, SealedFrame};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::{KeySource, PeerIndex, Role};
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
        /// Sessions that no known peer can have.
        UnknownSession = "unknown_session",
        /// Frames of unknown sessions beyond what one poll admits.
        AdmissionLimited = "admission_limited",
        /// Sessions admitted for a frame; their frame must still verify.
        Admitted = "admitted",
        /// Sessions of which a frame verified.
        Established = "established",
    }
);

/// A session of which a frame verified, reported by the next stage.
#[derive(Clone, Copy, Debug)]
pub struct Established {
    /// Whose.
    pub peer: PeerIndex,
    /// The peer's role.
    pub role: Role,
    /// The session.
    pub session: u64,
}

/// Sessions of a peer that work at the same time: the newest and the one before it.
pub const LIVE_SESSIONS: usize = 2;
/// Unknown sessions looked up in one poll; each lookup may cost a key derivation.
const ADMISSIONS_PER_POLL: usize = 4;

#[derive(Clone, Copy, Default)]
struct PeerSessions {
    live: [Option<u64>; LIVE_SESSIONS],
    candidate: Option<u64>,
}

/// The stage.
pub struct Decode<B> {
    input: Consumer<Datagram<B>>,
    out: Producer<SealedFrame<B>>,
    established: Consumer<Established>,
    source: Box<dyn KeySource>,
    /// At most three sessions a peer; twice the room, so that it never grows.
    sessions: HashMap<u64, (PeerIndex, Role)>,
    peers: Box<[PeerSessions]>,
    counters: Counters<DecodeCounter>,
}

impl<B: FrameBuf> Decode<B> {
    /// The stage, for at most `peers_max` peers.
    #[must_use]
    pub fn new(
        peers_max: usize,
        source: Box<dyn KeySource>,
        input: Consumer<Datagram<B>>,
        established: Consumer<Established>,
        out: Producer<SealedFrame<B>>,
    ) -> Decode<B> {
        Decode {
            input,
            out,
            established,
            source,
            sessions: HashMap::with_capacity(2 * (LIVE_SESSIONS + 1) * peers_max),
            peers: vec![PeerSessions::default(); peers_max].into_boxed_slice(),
            counters: Counters::new("decode"),
        }
    }

    fn establish(&mut self, event: Established) {
        let Some(peer) = self.peers.get_mut(event.peer.as_usize()) else { return };
        if peer.live.contains(&Some(event.session)) {
            return;
        }
        if peer.candidate == Some(event.session) {
            peer.candidate = None;
        }
        if let Some(oldest) = peer.live[LIVE_SESSIONS - 1].take() {
            self.sessions.remove(&oldest);
        }
        peer.live.rotate_right(1);
        peer.live[0] = Some(event.session);
        self.sessions.insert(event.session, (event.peer, event.role));
        self.counters.count(DecodeCounter::Established);
    }

    fn admit(&mut self, session: u64) -> Result<(PeerIndex, Role, u64, AeadKeys), DecodeCounter> {
        let admission = self.source.admit(session).ok_or(DecodeCounter::UnknownSession)?;
        let index = admission.peer.as_usize();
        let peer = self.peers.get_mut(index).ok_or(DecodeCounter::UnknownSession)?;
        if let Some(before) = peer.candidate.replace(session) {
            self.sessions.remove(&before);
        }
        self.sessions.insert(session, (admission.peer, admission.role));
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
        let (peer, role, admitted) = match self.sessions.get(&header.session) {
            Some((peer, role)) => (*peer, *role, None),
            None if *admissions == 0 => return Err(DecodeCounter::AdmissionLimited),
            None => {
                *admissions -= 1;
                let (peer, role, generation, keys) = self.admit(header.session)?;
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
        let room = self.out.free_slots();
        let (mut work, mut admissions) = (0, ADMISSIONS_PER_POLL);
        while work < BURST.min(room) {
            let Some(datagram) = self.input.pop() else { break };
            work += 1;
            match self.decode(datagram, &mut admissions) {
                Ok(frame) => {
                    let pushed = self.out.push(frame);
                    debug_assert!(pushed.is_ok(), "room was checked");
                    self.counters.count(DecodeCounter::Passed);
                }
                Err(refusal) => self.counters.count(refusal),
            }
        }
        Progress { work, backpressured: room == 0 && !self.input.is_empty() }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
