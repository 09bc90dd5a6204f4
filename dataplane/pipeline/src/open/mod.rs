//! The fourth stage: replay check, opening in place, who may send what; then transactions go one way, the rest another.
//!
//! Nothing before this stage is proof of anything. A key's replay window moves only when a tag verified, and a candidate
//! takes its place among the peer's live keys only by its first authentic frame.
//!
//! The ring to verify fills up when clients send more than signatures can be checked; frames are then dropped here and
//! counted, so that votes behind them are not held up. The ring to control is everybody's: so that one peer's flood takes
//! no other's place in it, each peer has its own rate, counted after a frame has proved whose it is.

mod sessions;

use crate::by_peer::{PeerCounters, PeerMetrics};
use crate::clock::ClockPage;
use crate::decode::{Admitted, Established, Retired};
use crate::filter::{Bucket, Pace, RateLimit};
use crate::latency::{LatencyRecorder, Since};
use crate::link::{ControlFrame, MessageFrame, SealedFrame, Span};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::{KeyName, PeerIndex, Role};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, FrameBuf};
use arrayvec::ArrayVec;
use roko_ring::prefetch;
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::NanoMoment;
use roko_wire::frame::FRAME_HEADER_BYTES;
use roko_wire::message::MessageKind;
use sessions::Sessions;
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Open`].
    OpenCounter {
        /// Frames that opened and may be what they are.
        Opened = "opened",
        /// Seen before.
        Replayed = "replayed",
        /// Below the replay window.
        TooOld = "too_old",
        /// The tag does not verify.
        BadTag = "bad_tag",
        /// The key is older than the peer's live ones, was retired, or was displaced before a frame of it verified.
        StaleSession = "stale_session",
        /// The first byte names no message.
        UnknownKind = "unknown_kind",
        /// The sender's role may not send this.
        WrongRole = "wrong_role",
        /// A batch of another validator's stamps.
        WrongIngress = "wrong_ingress",
        /// Votes, certificates, proposals and requests beyond their sender's rate.
        OverRate = "over_rate",
        /// Chunks beyond their sender's rate.
        ChunkOverRate = "chunk_over_rate",
        /// Submits and batches beyond their sender's rate.
        TransactionsOverRate = "transactions_over_rate",
        /// Submits passed to verify.
        PassedSubmit = "passed_submit",
        /// Batches passed to verify.
        PassedBatch = "passed_batch",
        /// Messages passed to the control plane.
        PassedControl = "passed_control",
        /// Submits dropped: verify is behind.
        DroppedSubmit = "dropped_submit",
        /// Batches dropped: verify is behind.
        DroppedBatch = "dropped_batch",
        /// Proposals dropped: the control plane is behind.
        DroppedPropose = "dropped_propose",
        /// Votes dropped: the control plane is behind.
        DroppedVote = "dropped_vote",
        /// Certificates dropped: the control plane is behind.
        DroppedCertificate = "dropped_certificate",
        /// Chunks dropped: the control plane is behind.
        DroppedChunk = "dropped_chunk",
        /// Requests dropped: the control plane is behind.
        DroppedPull = "dropped_pull",
    }
);

crate::counters!(
    /// What a peer's authentic frames are refused for.
    OpenRefusal {
        /// See [`OpenCounter::UnknownKind`].
        UnknownKind = "unknown_kind",
        /// See [`OpenCounter::WrongRole`].
        WrongRole = "wrong_role",
        /// See [`OpenCounter::WrongIngress`].
        WrongIngress = "wrong_ingress",
        /// See [`OpenCounter::OverRate`].
        OverRate = "over_rate",
    }
);

/// What each peer may send, in authentic messages. A peer's burst is what it may take of a ring at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRates {
    /// Votes, certificates, proposals and requests.
    pub consensus: RateLimit,
    /// Chunks of blocks.
    pub chunks: RateLimit,
    /// Submits and batches.
    pub transactions: RateLimit,
}

impl PeerRates {
    /// No limits: for a capture that is played back, where time goes as fast as frames do.
    pub const UNLIMITED: PeerRates = {
        let unlimited = RateLimit { frames_per_second: u32::MAX, burst_frames: u32::MAX };
        PeerRates { consensus: unlimited, chunks: unlimited, transactions: unlimited }
    };

    /// Rates for rings of these depths. A validator says about eight consensus messages a view (a proposal, three votes, four
    /// certificates) and a view takes a millisecond at least: 8,000 a second, and as much again when it repeats itself. 100,000
    /// chunks are 86 MB, 50,000 stamp batches 200,000 transactions. All bursts of one peer leave a quarter of each ring free.
    #[must_use]
    pub const fn for_rings(to_control: usize, to_verify: usize) -> PeerRates {
        const fn limit(frames_per_second: u32, burst: usize) -> RateLimit {
            RateLimit { frames_per_second, burst_frames: if burst == 0 { 1 } else { burst as u32 } }
        }
        PeerRates {
            consensus: limit(20_000, to_control / 4),
            chunks: limit(100_000, to_control / 2),
            transactions: limit(50_000, to_verify / 4 * 3),
        }
    }
}

/// How many frames before its turn a frame's key is asked for.
const SOON: usize = 4;

/// Something for each kind of message that has a rate of its own.
#[derive(Clone, Copy, Default)]
struct Rates<T> {
    consensus: T,
    chunks: T,
    transactions: T,
}

/// The rings between this stage and one decode.
pub struct FromDecode<B> {
    /// Sealed frames.
    pub frames: Consumer<SealedFrame<B>>,
    /// Keys beside the frames that name them first.
    pub admitted: Consumer<Admitted>,
    /// Keys to forget.
    pub retired: Consumer<Retired>,
    /// Keys of which a frame verified, back.
    pub established: Producer<Established>,
}

/// The rings of [`Open`].
pub struct OpenLinks<B> {
    /// From every decode.
    pub from: Vec<FromDecode<B>>,
    /// Transactions.
    pub to_verify: Producer<MessageFrame<B>>,
    /// The rest.
    pub to_control: Producer<ControlFrame<B>>,
}

/// The stage.
pub struct Open<B> {
    links: OpenLinks<B>,
    /// The decode whose frames come first in the next poll.
    first: usize,
    paces: Rates<Pace>,
    sessions: Sessions,
    /// What each peer may send, apart from its keys: one cache line, not three behind them.
    buckets: Box<[Rates<Bucket>]>,
    refused: PeerCounters<OpenRefusal>,
    latency: LatencyRecorder,
    counters: Counters<OpenCounter>,
}

impl<B: FrameBuf> Open<B> {
    /// The stage, for at most `peers_max` peers.
    #[must_use]
    pub fn new(peers_max: usize, clock: ClockPage, rates: PeerRates, links: OpenLinks<B>) -> Open<B> {
        let sessions = Sessions::new(peers_max);
        let PeerRates { consensus, chunks, transactions } = rates;
        let paces = Rates {
            consensus: Pace::of(consensus),
            chunks: Pace::of(chunks),
            transactions: Pace::of(transactions),
        };
        let latency = LatencyRecorder::new(Since::Wire, clock);
        let counters = Counters::timed("open", &[&latency]);
        let buckets = vec![Rates::default(); peers_max].into_boxed_slice();
        let refused = PeerCounters::new(peers_max);
        Open { links, first: 0, paces, sessions, buckets, refused, latency, counters }
    }

    /// The same, as the stage of one lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Option<u8>) -> Open<B> {
        self.counters = self.counters.in_lane(lane);
        self
    }

    /// What each peer's frames were refused for.
    #[must_use]
    pub fn refused_by_peer(&self) -> Arc<PeerMetrics> {
        self.refused.shared()
    }

    /// Opens the frame in place and returns where its message is. It came from the decode `from`.
    fn open(&mut self, frame: &mut SealedFrame<B>, from: usize) -> Result<Span, OpenCounter> {
        let from = &mut self.links.from[from];
        let (name, sequence) = (KeyName::of(&frame.header), frame.header.sequence);
        // Taken out for every such frame, or the next one would get this one's key.
        if frame.admitted
            && let Some(admitted) = from.admitted.pop()
        {
            self.sessions.admit(frame.peer, name, &admitted)?;
        }
        let payload = frame.payload.of_mut(frame.buf.data_mut());
        let opened = self.sessions.open(frame.peer, name, sequence, payload)?;
        if opened.first || frame.admitted {
            // A full ring loses the report only; decode then admits the session again and its keys are ignored here.
            let _ = from.established.push(Established { peer: frame.peer, role: frame.role, key: name });
        }
        Ok(Span::new(usize::from(frame.payload.at) + FRAME_HEADER_BYTES, opened.message_bytes))
    }

    /// Drops the keys that every decode has forgotten.
    fn retire(&mut self) {
        let decodes = self.links.from.len();
        for (decode, from) in self.links.from.iter_mut().enumerate() {
            while let Some(retired) = from.retired.pop() {
                self.sessions.retire(retired, decode, decodes);
            }
        }
    }

    /// Which message it is, if its sender may send it.
    fn authorize(frame: &SealedFrame<B>, span: Span) -> Result<MessageKind, OpenCounter> {
        let message = span.of(frame.buf.data());
        let kind = message.first().and_then(|byte| MessageKind::from_byte(*byte));
        let kind = kind.ok_or(OpenCounter::UnknownKind)?;
        if !frame.role.may_send(kind) {
            return Err(OpenCounter::WrongRole);
        }
        if kind == MessageKind::Batch {
            let ingress = message.get(1..3).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
            if !matches!((frame.role, ingress), (Role::Validator(sender), Some(index)) if sender.0 == index) {
                return Err(OpenCounter::WrongIngress);
            }
        }
        Ok(kind)
    }

    /// Whether the sender may send another message of this kind now.
    fn admit(&mut self, peer: PeerIndex, kind: MessageKind, now: NanoMoment) -> Result<(), OpenCounter> {
        let Some(sender) = self.buckets.get_mut(peer.as_usize()) else { return Ok(()) };
        let (bucket, pace, refusal) = match kind {
            MessageKind::Submit | MessageKind::Batch => {
                (&mut sender.transactions, self.paces.transactions, OpenCounter::TransactionsOverRate)
            }
            MessageKind::Chunk => (&mut sender.chunks, self.paces.chunks, OpenCounter::ChunkOverRate),
            _ => (&mut sender.consensus, self.paces.consensus, OpenCounter::OverRate),
        };
        if bucket.take(pace, now) { Ok(()) } else { Err(refusal) }
    }

    fn handle(&mut self, mut frame: SealedFrame<B>, from: usize) -> Result<(), OpenCounter> {
        let span = self.open(&mut frame, from)?;
        let peer = frame.peer;
        let allowed = Self::authorize(&frame, span)
            .and_then(|kind| self.admit(peer, kind, frame.received.moment).map(|()| kind));
        let kind = allowed.inspect_err(|refusal| {
            if let Some(refusal) = OpenRefusal::of(*refusal) {
                self.refused.count(peer, refusal);
            }
        })?;
        self.counters.count(OpenCounter::Opened);
        self.latency.note(frame.received.moment);
        let SealedFrame { buf, received, header, peer, role, .. } = frame;
        let message = MessageFrame { buf, received, peer, role, class: header.class, kind, span };
        let (sent, passed, dropped) = match kind {
            MessageKind::Submit => {
                (self.links.to_verify.push(message), OpenCounter::PassedSubmit, OpenCounter::DroppedSubmit)
            }
            MessageKind::Batch => {
                (self.links.to_verify.push(message), OpenCounter::PassedBatch, OpenCounter::DroppedBatch)
            }
            _ => (self.links.to_control.push(message), OpenCounter::PassedControl, dropped_control(kind)),
        };
        self.counters.count(if sent.is_ok() { passed } else { dropped });
        Ok(())
    }
}

impl<B: FrameBuf> Open<B> {
    /// Opens at most `most` frames of one decode, together, so that the cache misses of their sessions overlap.
    #[inline]
    fn open_from(&mut self, from: usize, most: usize) -> usize {
        let mut burst = ArrayVec::<SealedFrame<B>, BURST>::new();
        let (sessions, buckets) = (&self.sessions, &self.buckets);
        self.links.from[from].frames.pop_each(most, |frame| {
            sessions.ask_for_name(frame.peer);
            if let Some(bucket) = buckets.get(frame.peer.as_usize()) {
                prefetch::value(bucket);
            }
            burst.push(frame);
        });
        let work = burst.len();
        let mut names = [(PeerIndex(0), 0); BURST];
        for (name, frame) in names.iter_mut().zip(&burst) {
            *name = (frame.peer, frame.header.sequence);
        }
        for (place, frame) in burst.into_iter().enumerate() {
            if place + SOON < work {
                let (peer, sequence) = names[place + SOON];
                self.sessions.ask_for_key(peer, sequence);
            }
            if let Err(refusal) = self.handle(frame, from) {
                self.counters.count(refusal);
            }
        }
        work
    }
}

impl OpenRefusal {
    const fn of(counter: OpenCounter) -> Option<OpenRefusal> {
        Some(match counter {
            OpenCounter::UnknownKind => OpenRefusal::UnknownKind,
            OpenCounter::WrongRole => OpenRefusal::WrongRole,
            OpenCounter::WrongIngress => OpenRefusal::WrongIngress,
            OpenCounter::OverRate => OpenRefusal::OverRate,
            _ => return None,
        })
    }
}

const fn dropped_control(kind: MessageKind) -> OpenCounter {
    match kind {
        MessageKind::Propose => OpenCounter::DroppedPropose,
        MessageKind::Vote => OpenCounter::DroppedVote,
        MessageKind::Certificate => OpenCounter::DroppedCertificate,
        MessageKind::Chunk => OpenCounter::DroppedChunk,
        _ => OpenCounter::DroppedPull,
    }
}

impl<B: FrameBuf> Stage for Open<B> {
    fn name(&self) -> &'static str {
        "open"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        self.retire();
        let (decodes, mut work) = (self.links.from.len(), 0);
        for from in (self.first..decodes).chain(0..self.first) {
            work += self.open_from(from, BURST - work);
        }
        self.first = if self.first + 1 == decodes { 0 } else { self.first + 1 };
        self.latency.settle();
        Progress::worked(work)
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.latency.publish();
        self.refused.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
