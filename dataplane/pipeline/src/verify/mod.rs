//! The fifth stage: checks transactions and stamps those that arrive here first.
//!
//! A client's transactions are checked against the chain's rules and their signatures, and collected into the open
//! [`ingress`] batch, which this node stamps, pools and sends to every validator. A validator's batch is checked the
//! same way against its own stamps. What was seen a moment ago is recognised before the signature is looked at.
//!
//! A poll reads several messages, carries out their signature checks together, and then settles them in the order in
//! which they came.

mod checker;
pub mod ingress;
mod job;
mod keys;
mod recent;
mod signatures;

use crate::by_peer::{PeerCounters, PeerMetrics};
use crate::clock::{ClockPage, Received};
use crate::latency::{LatencyRecorder, Since};
use crate::link::{FinalTx, MessageFrame, OwnBatch, Span, StampedFrame, VerifiedTx};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::PeerIndex;
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{FrameBuf, FramePool};
use arrayvec::ArrayVec;
use checker::Checker;
use ed25519_zebra::{SigningKey, VerificationKey};
use ingress::{Checked, Ingress, OpenBatch};
use job::{Admitted, CHECKS_MAX, Job, Origin};
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::merkle::Tree;
use roko_wire::message::{Message, MessageKind, SUBMIT_HEADER_BYTES, SUBMIT_TX_BYTES};
use roko_wire::rules::TxRules;
use roko_wire::stamp::{BATCH_HEADER_BYTES, BATCH_TX_BYTES, Stamp, StampSource, StampedBatch};
use roko_wire::tx::{self, Ed25519Check};
use roko_wire::{ChainId, NanoMoment, TxId, ValidatorIndex};
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Verify`].
    VerifyCounter {
        /// Transactions passed on to order.
        Passed = "passed",
        /// Batches stamped by this node.
        BatchesStamped = "batches_stamped",
        /// Messages that are not what their first byte says.
        MalformedMessage = "malformed_message",
        /// Transactions that cannot be read.
        Malformed = "malformed",
        /// For another chain.
        WrongChain = "wrong_chain",
        /// Legacy Ethereum transactions that name no chain (from before EIP-155).
        NoChainId = "no_chain_id",
        /// Window over.
        Expired = "expired",
        /// Window not begun.
        NotYetValid = "not_yet_valid",
        /// Window too long or reversed.
        BadWindow = "bad_window",
        /// A fee that nobody can mean.
        FeeAbsurd = "fee_absurd",
        /// Gas below the intrinsic cost or above the limit.
        BadGas = "bad_gas",
        /// Seen a moment ago.
        Duplicate = "duplicate",
        /// Wrong signature or key.
        BadSignature = "bad_signature",
        /// Batches whose root signature does not verify; their transactions are not looked at.
        BadRoot = "bad_root",
        /// Batches with a stamp, or an error bound, over an hour off this node's clock.
        AbsurdStamp = "absurd_stamp",
        /// Transactions dropped because no frame was free for their batch.
        DroppedNoFrame = "dropped_no_frame",
        /// Own batches that spread had no room for; they are in this node's pool only.
        DroppedSpread = "dropped_spread",
    }
);

crate::counters!(
    /// What a peer's authentic messages are refused for.
    VerifyRefusal {
        /// See [`VerifyCounter::MalformedMessage`].
        BadMessage = "bad_message",
        /// See [`VerifyCounter::BadRoot`].
        BadRoot = "bad_root",
        /// See [`VerifyCounter::AbsurdStamp`].
        AbsurdStamp = "absurd_stamp",
        /// A transaction that its validator should not have stamped.
        BadTransaction = "bad_transaction",
        /// A transaction that should not have been submitted.
        BadSubmission = "bad_submission",
    }
);

impl VerifyRefusal {
    /// What the sender of a message of `kind` is blamed for; nothing where its own view of the time, or a copy on
    /// another way, explains it.
    const fn of(kind: MessageKind, counter: VerifyCounter) -> Option<VerifyRefusal> {
        Some(match counter {
            VerifyCounter::MalformedMessage => VerifyRefusal::BadMessage,
            VerifyCounter::BadRoot => VerifyRefusal::BadRoot,
            VerifyCounter::AbsurdStamp => VerifyRefusal::AbsurdStamp,
            VerifyCounter::Malformed
            | VerifyCounter::WrongChain
            | VerifyCounter::NoChainId
            | VerifyCounter::BadWindow
            | VerifyCounter::FeeAbsurd
            | VerifyCounter::BadGas
            | VerifyCounter::BadSignature => match kind {
                MessageKind::Batch => VerifyRefusal::BadTransaction,
                _ => VerifyRefusal::BadSubmission,
            },
            _ => return None,
        })
    }
}

/// Settings of [`Verify`].
#[derive(Clone)]
pub struct VerifyConfig {
    /// The chain's rules.
    pub rules: TxRules,
    /// This node's place in the validator set.
    pub ingress: ValidatorIndex,
    /// This node's ed25519 node key.
    pub signing_key: SigningKey,
    /// Node keys of all validators, by index.
    pub validators: Vec<VerificationKey>,
    /// How long a batch of stamps stays open, microseconds.
    pub stamp_flush_us: u32,
    /// Messages checked in one poll: bounds how long votes wait when all stages share a thread. A message costs up to
    /// five signature checks.
    pub messages_per_poll: usize,
    /// Transaction ids remembered to recognise duplicates, a power of two.
    pub recent_txs: usize,
    /// Secret of the sender keys' table, drawn at start.
    pub salt: u64,
}

/// The rings and the pool of [`Verify`].
pub struct VerifyLinks<P: FramePool> {
    /// Messages from open.
    pub input: Consumer<MessageFrame<P::Buf>>,
    /// Messages from the node's own RPC.
    pub injected: Consumer<MessageFrame<P::Buf>>,
    /// What became final without passing here.
    pub finals: Consumer<FinalTx>,
    /// To order.
    pub to_order: Producer<StampedFrame<P::Buf>>,
    /// To spread.
    pub to_spread: Producer<OwnBatch<P::Buf>>,
    /// Frames for own batches.
    pub pool: P,
}

/// Slots of the ring to order that one message may need: each of a Submit's transactions may close a batch.
const ORDER_SLOTS: usize = TXS_PER_MESSAGE_MAX + 1;

/// Reports of final transactions taken in one poll.
const FINALS_PER_POLL: usize = 64;

/// How far a stamp may be off this node's clock, nanoseconds: an hour is beyond every delay and every clock whose bound
/// lets a node take part. Such a transaction would sit in the pool until the watermark passes its stamp.
const STAMP_OFF_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// Whether a stamp's time or bound is beyond what a slow network or a poor clock explains.
fn is_absurd(stamp: &Stamp, now: NanoMoment) -> bool {
    let off_ns = now.nanos_since(stamp.time).max(stamp.time.nanos_since(now));
    off_ns.max(stamp.bound_ns) > STAMP_OFF_NS_MAX
}

/// What is left of a message when it is read.
type Admission = (Origin, ArrayVec<Admitted, TXS_PER_MESSAGE_MAX>);

/// The stage.
pub struct Verify<P: FramePool> {
    links: VerifyLinks<P>,
    checker: Checker,
    chain: ChainId,
    ingress: Ingress,
    validators: Vec<VerificationKey>,
    messages_per_poll: usize,
    jobs: Vec<Job<P::Buf>>,
    tree: Tree,
    latency: LatencyRecorder,
    refused: PeerCounters<VerifyRefusal>,
    counters: Counters<VerifyCounter>,
}

impl<P: FramePool> Verify<P> {
    /// The stage, for at most `peers_max` peers.
    #[must_use]
    pub fn new(config: VerifyConfig, peers_max: usize, clock: ClockPage, links: VerifyLinks<P>) -> Verify<P> {
        let chain = config.rules.chain_id;
        let messages = config.messages_per_poll.max(1);
        let latency = LatencyRecorder::new(Since::Wire, clock.clone());
        Verify {
            links,
            checker: Checker::new(config.rules, config.recent_txs, messages * CHECKS_MAX, config.salt),
            chain,
            ingress: Ingress::new(config.ingress, config.signing_key, chain, config.stamp_flush_us, clock),
            validators: config.validators,
            messages_per_poll: messages,
            jobs: Vec::with_capacity(messages),
            tree: Tree::with_capacity(TXS_PER_MESSAGE_MAX),
            refused: PeerCounters::new(peers_max),
            counters: Counters::timed("verify", &[&latency]),
            latency,
        }
    }

    /// The same, as the stage of one lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Option<u8>) -> Verify<P> {
        self.counters = self.counters.in_lane(lane);
        self
    }

    /// What each peer's messages were refused for.
    #[must_use]
    pub fn refused_by_peer(&self) -> Arc<PeerMetrics> {
        self.refused.shared()
    }

    fn refuse(&mut self, (peer, kind): (PeerIndex, MessageKind), counter: VerifyCounter) {
        self.counters.count(counter);
        if let Some(refusal) = VerifyRefusal::of(kind, counter) {
            self.refused.count(peer, refusal);
        }
    }

    /// Reads a message and queues its signature checks.
    fn admit(&mut self, frame: MessageFrame<P::Buf>) {
        let sender = (frame.peer, frame.kind);
        let admitted = match frame.kind {
            MessageKind::Submit => self.admit_submit(&frame),
            MessageKind::Batch => self.admit_batch(&frame),
            _ => Err(VerifyCounter::MalformedMessage),
        };
        match admitted {
            Ok((_, txs)) if txs.is_empty() => {}
            Ok((origin, txs)) => self.jobs.push(Job { frame, origin, txs }),
            Err(refusal) => self.refuse(sender, refusal),
        }
    }

    fn admit_submit(&mut self, frame: &MessageFrame<P::Buf>) -> Result<Admission, VerifyCounter> {
        let message = Message::read(frame.message()).map_err(|_| VerifyCounter::MalformedMessage)?;
        let Message::Submit(wires) = message else { return Err(VerifyCounter::MalformedMessage) };
        let stamp = self.ingress.stamp(&frame.received);
        let mut txs = ArrayVec::new();
        let mut at = usize::from(frame.span.at) + SUBMIT_HEADER_BYTES;
        for (index, wire) in wires.into_iter().enumerate() {
            at += SUBMIT_TX_BYTES;
            match self.checker.admit(index, at, wire, tx::tx_id(wire), &stamp) {
                Ok(admitted) => txs.push(admitted),
                Err(refusal) => self.refuse((frame.peer, frame.kind), refusal),
            }
            at += wire.len();
        }
        Ok((Origin::Client, txs))
    }

    /// Nothing is left of a batch of which nothing is new: its root is not looked at.
    fn admit_batch(&mut self, frame: &MessageFrame<P::Buf>) -> Result<Admission, VerifyCounter> {
        let Ok(Message::Batch(batch)) = Message::read(frame.message()) else {
            return Err(VerifyCounter::MalformedMessage);
        };
        let key = *self.validators.get(batch.ingress.as_usize()).ok_or(VerifyCounter::BadRoot)?;
        let now = frame.received.moment;
        if batch.txs.iter().any(|tx| is_absurd(&tx.stamp, now)) {
            return Err(VerifyCounter::AbsurdStamp);
        }
        let ids: ArrayVec<TxId, TXS_PER_MESSAGE_MAX> =
            batch.txs.iter().map(|tx| tx::tx_id(tx.wire)).collect();
        let mut txs = ArrayVec::new();
        let mut at = usize::from(frame.span.at) + 1 + BATCH_HEADER_BYTES;
        for (index, (tx, id)) in batch.txs.iter().zip(&ids).enumerate() {
            at += BATCH_TX_BYTES;
            match self.checker.admit(index, at, tx.wire, *id, &tx.stamp) {
                Ok(admitted) => txs.push(admitted),
                Err(refusal) => self.refuse((frame.peer, frame.kind), refusal),
            }
            at += tx.wire.len();
        }
        let leaves = batch.leaves(self.chain, &ids);
        let root = batch.signed_root(&leaves);
        let mut check = 0;
        if !txs.is_empty() {
            let message = root.signing_bytes(self.chain);
            let signed =
                Ed25519Check { key: &key.into(), signature: &root.signature, message: [&message, &[]] };
            check = self.checker.signatures.add(&signed);
        }
        Ok((Origin::Validator { root, check, leaves }, txs))
    }

    /// Carries out the queued signature checks and passes on what holds, in the order of the messages.
    fn settle(&mut self, tsc: u64) {
        self.checker.signatures.run();
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in jobs.drain(..) {
            let Job { frame, origin, txs } = job;
            match origin {
                Origin::Client => self.settle_submit(&frame, &txs, tsc),
                Origin::Validator { root, check, leaves } => {
                    if !self.checker.signatures.holds(check) {
                        self.refuse((frame.peer, frame.kind), VerifyCounter::BadRoot);
                        continue;
                    }
                    self.tree.rebuild(leaves.into_iter());
                    let txs = self.good(&frame, &txs);
                    if !txs.is_empty() {
                        let received = frame.received.moment;
                        self.send_to_order(StampedFrame { buf: frame.buf, received, own: false, root, txs });
                    }
                }
            }
        }
        self.jobs = jobs;
        self.checker.signatures.clear();
    }

    fn settle_submit(&mut self, frame: &MessageFrame<P::Buf>, txs: &[Admitted], tsc: u64) {
        for tx in txs {
            match self.checker.settle(tx) {
                Ok(checked) => self.collect(checked, tx.stamp, tx.wire.of(frame.buf.data()), tsc),
                Err(refusal) => self.refuse((frame.peer, frame.kind), refusal),
            }
        }
    }

    /// The transactions of a validator's batch whose signatures hold, with their paths in the tree.
    fn good(
        &mut self,
        frame: &MessageFrame<P::Buf>,
        txs: &[Admitted],
    ) -> ArrayVec<VerifiedTx, TXS_PER_MESSAGE_MAX> {
        let mut good = ArrayVec::new();
        for tx in txs {
            match self.checker.settle(tx) {
                Ok(checked) => good.push(verified(&checked, tx.wire, tx.stamp, tx.index, &self.tree)),
                Err(refusal) => self.refuse((frame.peer, frame.kind), refusal),
            }
        }
        good
    }

    /// Puts a checked transaction into the open batch, closing batches as they fill.
    fn collect(&mut self, checked: Checked, stamp: Stamp, wire: &[u8], tsc: u64) {
        if !self.ingress.batch.fits(&stamp, wire) && !self.flush() {
            self.checker.recent.forget(&checked.id);
            self.counters.count(VerifyCounter::DroppedNoFrame);
            return;
        }
        self.ingress.batch.push(checked, stamp, wire, tsc);
        if self.ingress.batch.is_full() {
            self.flush();
        }
    }

    /// Stamps the open batch and passes it on; false, and the batch stays open, when no frame is free.
    fn flush(&mut self) -> bool {
        if self.ingress.batch.is_empty() {
            return true;
        }
        let Some(mut buf) = self.links.pool.alloc() else { return false };
        let message = self.ingress.sign();
        buf.set_len(message.len());
        buf.data_mut().copy_from_slice(&message);
        let batch = StampedBatch::read(&mut roko_wire::codec::Reader::new(&message[1..]));
        let Ok(batch) = batch else { unreachable!("a batch that was just written is readable") };
        let OpenBatch { checked, .. } = &self.ingress.batch;
        let ids: ArrayVec<TxId, TXS_PER_MESSAGE_MAX> = checked.iter().map(|(tx, _, _)| tx.id).collect();
        let leaves = batch.leaves(self.chain, &ids);
        let root = batch.signed_root(&leaves);
        self.tree.rebuild(leaves.into_iter());
        let mut at = 1 + BATCH_HEADER_BYTES;
        let mut txs = ArrayVec::new();
        for (index, (tx, (checked, _, _))) in batch.txs.iter().zip(checked).enumerate() {
            let wire = Span::new(at + BATCH_TX_BYTES, tx.wire.len());
            txs.push(verified(checked, wire, tx.stamp, index, &self.tree));
            at += BATCH_TX_BYTES + tx.wire.len();
        }
        let received = batch.txs[0].stamp.time;
        self.send_to_order(StampedFrame { buf, received, own: true, root, txs });
        self.counters.count(VerifyCounter::BatchesStamped);
        let copy = self.links.pool.alloc().map(|mut buf| {
            buf.set_len(message.len());
            buf.data_mut().copy_from_slice(&message);
            self.links.to_spread.push(OwnBatch { buf, received }).is_ok()
        });
        if copy != Some(true) {
            self.counters.count(VerifyCounter::DroppedSpread);
        }
        self.ingress.batch.clear();
        true
    }

    /// Remembers what is final already: a node that lags behind the blocks would check each signature twice.
    fn learn_finals(&mut self) -> usize {
        let mut learnt = 0;
        while learnt < FINALS_PER_POLL {
            let Some(tx) = self.links.finals.pop() else { break };
            self.checker.recent.insert(&tx.id, tx.now);
            learnt += 1;
        }
        learnt
    }

    fn send_to_order(&mut self, frame: StampedFrame<P::Buf>) {
        for tx in &frame.txs {
            self.latency.note(frame.received_of(tx));
        }
        self.counters.add(VerifyCounter::Passed, frame.txs.len() as u64);
        let sent = self.links.to_order.push(frame);
        debug_assert!(sent.is_ok(), "the poll checked the room");
    }
}

/// A transaction for order, with its path in the tree of its batch.
fn verified(checked: &Checked, wire: Span, stamp: Stamp, index: usize, tree: &Tree) -> VerifiedTx {
    VerifiedTx {
        wire,
        id: checked.id,
        sender: checked.sender,
        nonce: checked.nonce,
        gas_limit: checked.gas_limit,
        max_fee: checked.max_fee,
        valid_until: checked.valid_until,
        stamp,
        leaf_index: index as u8,
        path: tree.path(index).unwrap_or_default().into_iter().collect(),
    }
}

impl<P: FramePool> Stage for Verify<P> {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn poll(&mut self, cx: &mut PollContext) -> Progress {
        let mut work = self.learn_finals();
        let room = self.links.to_order.free_slots() / ORDER_SLOTS;
        let mut read = 0;
        while read < self.messages_per_poll.min(room) {
            // The node's own users come second: they can be told to wait, frames cannot.
            let Some(frame) = self.links.input.pop().or_else(|| self.links.injected.pop()) else { break };
            read += 1;
            self.admit(frame);
        }
        if read > 0 {
            work += read;
            self.settle(cx.tsc);
        }
        if room == 0 {
            self.latency.settle();
            return Progress { work, backpressured: true };
        }
        let mut starved = false;
        if self.ingress.is_due(cx.tsc) {
            starved = !self.flush();
            work += usize::from(!starved);
        }
        self.latency.settle();
        Progress { work, backpressured: starved }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.ingress.refresh();
        self.latency.publish();
        self.refused.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}

/// What the rules see of a frame's time, for whoever checks before injecting.
#[must_use]
pub const fn stamp_of(received: &Received, ingress: ValidatorIndex) -> Stamp {
    Stamp {
        time: received.moment,
        bound_ns: ingress::coarse_bound(received.bound_ns),
        source: StampSource { clock: received.source, by: received.by },
        ingress,
    }
}
