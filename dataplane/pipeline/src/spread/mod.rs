//! The eighth stage: every frame that leaves this node is written and sealed here, once per destination.
//!
//! Three inputs, in this order of urgency: messages of the control plane, this node's own stamp batches, blocks. Beside
//! them come links: with which key, and to which address, each peer's frames go. A block
//! is thousands of frames, so it is sent piece by piece as the tx ring has room, and a vote that comes meanwhile goes
//! ahead of the next piece. What must not be lost (consensus messages, blocks) waits for room; a batch that finds none
//! for too long is dropped and counted, because the transactions stay in this node's own pool.

mod outbox;
mod task;

pub use outbox::OutLinks;
pub(crate) use outbox::write_sealed;
pub use task::{SpreadBlock, SpreadBlockTask};

use crate::clock::ClockPage;
use crate::lanes::FanIn;
use crate::latency::{Origin, Since};
use crate::link::OwnBatch;
use crate::metrics::StageMetrics;
use crate::peer::{LinkCommand, PeerIndex, PeerLink, Role, Worn};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{FrameBuf, FramePool};
use arrayvec::ArrayVec;
use outbox::{Outbox, Sent};
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::NanoMoment;
use roko_wire::frame::PriorityClass;
use roko_wire::limits::MESSAGE_BYTES_MAX;
use std::sync::Arc;
use task::BlockJob;

crate::counters!(
    /// Counters of [`Spread`].
    SpreadCounter {
        /// Frames sealed for the consensus class.
        FramesConsensus = "frames_consensus",
        /// Frames sealed for the block class.
        FramesBlock = "frames_block",
        /// Frames sealed for the relay class.
        FramesRelay = "frames_relay",
        /// Frames sealed for the client class.
        FramesClient = "frames_client",
        /// Messages to a peer that has no link.
        NoLink = "no_link",
        /// Frames of the relay class given up because the tx ring stayed full.
        DroppedRelay = "dropped_relay",
        /// Polls that ended because the tx ring or the pool had nothing left.
        Stalled = "stalled",
        /// Sealing failed: the key has sealed as many frames as it may, or a message exceeds a frame.
        SealFailed = "seal_failed",
        /// Blocks sent to all their destinations.
        BlocksDone = "blocks_done",
        /// Links that were set or changed.
        Linked = "linked",
        /// Keys reported as worn.
        Worn = "worn",
    }
);

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every validator but this one.
    Validators,
    /// One peer.
    Peer(PeerIndex),
}

/// A message of the control plane: its first byte is its kind.
pub type MessageBytes = ArrayVec<u8, MESSAGE_BYTES_MAX>;

/// What the control plane asks of spread.
pub enum SpreadCommand {
    /// Sends a message.
    Send {
        /// Where to.
        to: Target,
        /// How urgent.
        class: PriorityClass,
        /// What.
        message: MessageBytes,
        /// When the control plane asked.
        asked: NanoMoment,
    },
}

/// The rings and the pool of [`Spread`].
pub struct SpreadLinks<P: FramePool> {
    /// Messages of the control plane.
    pub commands: Consumer<SpreadCommand>,
    /// The ways to peers, from the handshakes.
    pub sessions: Consumer<LinkCommand>,
    /// Keys that are worn, to the handshakes.
    pub worn: Producer<Worn>,
    /// Blocks of the control plane.
    pub blocks: Consumer<SpreadBlockTask>,
    /// Blocks given back, so that this stage never frees memory.
    pub returned: Producer<Arc<SpreadBlock>>,
    /// Own batches from every verify.
    pub batches: FanIn<OwnBatch<P::Buf>>,
    /// To tx.
    pub out: OutLinks<P::Buf>,
    /// Frames to write.
    pub pool: P,
}

/// Polls that a batch waits for room before the rest of its destinations are given up.
const RELAY_STALLS_MAX: u32 = 64;
/// Messages, batches and chunks begun in one poll.
const MESSAGES_PER_POLL: usize = 32;
const BATCHES_PER_POLL: usize = 16;
const CHUNK_FRAMES_PER_POLL: usize = 64;

/// A message on its way to its destinations.
struct Fan<T> {
    message: T,
    to: Target,
    class: PriorityClass,
    origin: Origin,
    next: usize,
    stalls: u32,
}

/// The stage.
pub struct Spread<P: FramePool> {
    commands: Consumer<SpreadCommand>,
    sessions: Consumer<LinkCommand>,
    blocks: Consumer<SpreadBlockTask>,
    returned: Producer<Arc<SpreadBlock>>,
    batches: FanIn<OwnBatch<P::Buf>>,
    outbox: Outbox<P>,
    message: Option<Fan<MessageBytes>>,
    batch: Option<Fan<OwnBatch<P::Buf>>>,
    block: Option<BlockJob>,
}

/// Whether a fan has reached all its destinations.
#[derive(PartialEq, Eq)]
enum Reached {
    All,
    Stalled,
}

impl<P: FramePool> Spread<P> {
    /// The stage, for at most `peers_max` peers.
    #[must_use]
    pub fn new(peers_max: usize, clock: &ClockPage, links: SpreadLinks<P>) -> Spread<P> {
        Spread {
            commands: links.commands,
            sessions: links.sessions,
            blocks: links.blocks,
            returned: links.returned,
            batches: links.batches,
            outbox: Outbox::new(peers_max, clock, links.pool, links.out, links.worn),
            message: None,
            batch: None,
            block: None,
        }
    }

    /// The same, which leaves the checksums that IPv6 demands to the port.
    #[must_use]
    pub fn leaving_checksums_to_port(mut self, leaving: bool) -> Spread<P> {
        if leaving {
            self.outbox.leave_checksums_to_port();
        }
        self
    }

    /// Sets a peer's link before the stage runs.
    pub fn link(&mut self, peer: PeerIndex, role: Role, link: &PeerLink) {
        self.outbox.link(peer, role, link);
    }

    /// Takes changes of the ways to peers; a few a second at most.
    fn follow_sessions(&mut self) -> usize {
        let mut work = 0;
        while let Some(command) = self.sessions.pop() {
            work += 1;
            match command {
                LinkCommand::Link { peer, role, link } => self.outbox.link(peer, role, &link),
                LinkCommand::Move { peer, addresses } => self.outbox.readdress(peer, addresses),
                LinkCommand::Unlink { peer } => self.outbox.unlink(peer),
            }
        }
        work
    }

    fn send_messages(&mut self) -> usize {
        let mut work = 0;
        while work < MESSAGES_PER_POLL {
            if self.message.is_none() {
                match self.commands.pop() {
                    Some(SpreadCommand::Send { to, class, message, asked }) => {
                        let origin = Origin { since: Since::Asked, moment: asked };
                        self.message = Some(Fan { message, to, class, origin, next: 0, stalls: 0 });
                    }
                    None => break,
                }
                work += 1;
            }
            let Some(mut fan) = self.message.take() else { continue };
            let message = core::mem::take(&mut fan.message);
            let reached = fan_out(&mut self.outbox, &mut fan, &message);
            let give_up = fan.class >= PriorityClass::Relay && fan.stalls >= RELAY_STALLS_MAX;
            if reached == Reached::Stalled && !give_up {
                fan.message = message;
                self.message = Some(fan);
                break;
            }
            self.outbox.counters.add(SpreadCounter::DroppedRelay, u64::from(reached == Reached::Stalled));
        }
        work
    }

    fn send_batches(&mut self) -> usize {
        let mut work = 0;
        while work < BATCHES_PER_POLL {
            let next = || {
                let message = self.batches.pop()?;
                work += 1;
                let (to, class) = (Target::Validators, PriorityClass::Relay);
                let origin = Origin { since: Since::Wire, moment: message.received };
                Some(Fan { message, to, class, origin, next: 0, stalls: 0 })
            };
            let Some(mut fan) = self.batch.take().or_else(next) else { break };
            // The frame moves out of the fan for the length of the call: the fan is written while it is read.
            let Fan { message, to, class, origin, next, stalls } = fan;
            let mut cursor = Fan { message: (), to, class, origin, next, stalls };
            let reached = fan_out(&mut self.outbox, &mut cursor, message.buf.data());
            fan = Fan { message, to, class, origin, next: cursor.next, stalls: cursor.stalls };
            if reached == Reached::Stalled {
                if fan.stalls < RELAY_STALLS_MAX {
                    self.batch = Some(fan);
                    break;
                }
                let left = self.outbox.validators().saturating_sub(fan.next);
                self.outbox.counters.add(SpreadCounter::DroppedRelay, left as u64);
            }
        }
        work
    }

    fn send_blocks(&mut self) -> usize {
        let mut frames = 0;
        while frames < CHUNK_FRAMES_PER_POLL {
            if self.returned.free_slots() == 0 {
                break;
            }
            let next = || self.blocks.pop().map(BlockJob::new);
            let Some(mut job) = self.block.take().or_else(next) else { break };
            let (sent, done) = job.send(&mut self.outbox, CHUNK_FRAMES_PER_POLL - frames);
            frames += sent;
            if done {
                self.outbox.counters.count(SpreadCounter::BlocksDone);
                let returned = self.returned.push(job.into_block());
                debug_assert!(returned.is_ok(), "the room was checked");
                frames += 1;
            } else {
                self.block = Some(job);
                break;
            }
        }
        frames
    }
}

/// Sends `message` to the destinations that `fan` has not reached yet.
fn fan_out<P: FramePool, T>(outbox: &mut Outbox<P>, fan: &mut Fan<T>, message: &[u8]) -> Reached {
    let destinations = match fan.to {
        Target::Validators => outbox.validators(),
        Target::Peer(_) => 1,
    };
    while fan.next < destinations {
        let peer = match fan.to {
            Target::Validators => outbox.validator(fan.next),
            Target::Peer(peer) => peer,
        };
        let copy = |place: &mut [u8]| place.copy_from_slice(message);
        let sent = outbox.send(peer, fan.class, Some(fan.origin), message.len(), copy);
        if sent == Sent::NoRoom {
            fan.stalls += 1;
            return Reached::Stalled;
        }
        fan.next += 1;
    }
    Reached::All
}

impl<P: FramePool> Stage for Spread<P> {
    fn name(&self) -> &'static str {
        "spread"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        let work = self.follow_sessions() + self.send_messages() + self.send_batches() + self.send_blocks();
        self.outbox.latency.settle();
        let held = self.message.is_some() || self.batch.is_some();
        self.outbox.counters.add(SpreadCounter::Stalled, u64::from(held));
        Progress { work, backpressured: held && work == 0 }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.outbox.latency.publish();
        self.outbox.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.outbox.counters.shared()
    }
}
