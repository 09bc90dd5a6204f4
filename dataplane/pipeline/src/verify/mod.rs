//! The fifth stage: checks transactions and stamps those that arrive here first.
//!
//! A client's transactions are checked against the chain's rules and their signatures, and collected into the open
//! [`ingress`] batch, which this node stamps, pools and sends to every validator. A validator's batch is checked the
//! same way against its own stamps. What was seen a moment ago is recognised before the signature is looked at.

pub mod ingress;
mod keys;
mod recent;

use crate::clock::{ClockPage, Received};
use crate::link::{MessageFrame, OwnBatch, Span, StampedFrame, VerifiedTx};
use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{FrameBuf, FramePool};
use arrayvec::ArrayVec;
use ed25519_zebra::{SigningKey, VerificationKey};
use ingress::{Checked, Ingress, OpenBatch};
use keys::SenderKeys;
use recent::Recent;
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::merkle::Tree;
use roko_wire::message::{Message, MessageKind};
use roko_wire::rules::{TxRefusal, TxRules};
use roko_wire::stamp::{BATCH_HEADER_BYTES, BATCH_TX_BYTES, SignedRoot, Stamp, StampedBatch};
use roko_wire::tx::{self, ParsedTx};
use roko_wire::{Hash32, TxId, ValidatorIndex};
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
        /// Ethereum transactions, which are not carried yet.
        EthereumUnsupported = "ethereum_unsupported",
        /// For another chain.
        WrongChain = "wrong_chain",
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
        /// Transactions dropped because no frame was free for their batch.
        DroppedNoFrame = "dropped_no_frame",
        /// Own batches that spread had no room for; they are in this node's pool only.
        DroppedSpread = "dropped_spread",
    }
);

/// Settings of [`Verify`].
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

/// What is left of a batch after its check.
type GoodTxs = Option<(SignedRoot, ArrayVec<VerifiedTx, TXS_PER_MESSAGE_MAX>)>;

/// The rings and the pool of [`Verify`].
pub struct VerifyLinks<P: FramePool> {
    /// Messages from open.
    pub input: Consumer<MessageFrame<P::Buf>>,
    /// Messages from the node's own RPC.
    pub injected: Consumer<MessageFrame<P::Buf>>,
    /// To order.
    pub to_order: Producer<StampedFrame<P::Buf>>,
    /// To spread.
    pub to_spread: Producer<OwnBatch<P::Buf>>,
    /// Frames for own batches.
    pub pool: P,
}

/// Slots of the ring to order that one message may need: each of a Submit's transactions may close a batch.
const ORDER_SLOTS: usize = TXS_PER_MESSAGE_MAX + 1;

/// The stage.
pub struct Verify<P: FramePool> {
    links: VerifyLinks<P>,
    checker: Checker,
    ingress: Ingress,
    validators: Vec<VerificationKey>,
    messages_per_poll: usize,
    tree: Tree,
    counters: Counters<VerifyCounter>,
}

/// Checks single transactions.
struct Checker {
    rules: TxRules,
    recent: Recent,
    keys: SenderKeys,
}

impl Checker {
    /// Everything that makes a transaction poolable under `stamp`; `id` is its id.
    fn check(&mut self, wire: &[u8], id: TxId, stamp: &Stamp) -> Result<Checked, VerifyCounter> {
        let ParsedTx::Native(signed) = tx::parse(wire).map_err(|_| VerifyCounter::Malformed)? else {
            return Err(VerifyCounter::EthereumUnsupported);
        };
        self.rules.check(&signed.tx, stamp).map_err(|refusal| match refusal {
            TxRefusal::WrongChain { .. } => VerifyCounter::WrongChain,
            TxRefusal::Expired { .. } => VerifyCounter::Expired,
            TxRefusal::NotYetValid { .. } => VerifyCounter::NotYetValid,
            TxRefusal::BadWindow { .. } => VerifyCounter::BadWindow,
            TxRefusal::FeeAbsurd { .. } => VerifyCounter::FeeAbsurd,
            TxRefusal::BadGas { .. } => VerifyCounter::BadGas,
        })?;
        if self.recent.contains(&id, stamp.time) {
            return Err(VerifyCounter::Duplicate);
        }
        let sender = signed.verify_by(|key| self.keys.get(key)).map_err(|_| VerifyCounter::BadSignature)?;
        self.recent.insert(&id, stamp.time);
        Ok(Checked {
            id,
            sender,
            nonce: signed.tx.nonce,
            gas_limit: signed.tx.gas_limit,
            max_fee: signed.tx.max_fee,
            valid_until: signed.tx.valid_until,
        })
    }
}

impl<P: FramePool> Verify<P> {
    /// The stage.
    #[must_use]
    pub fn new(config: VerifyConfig, clock: ClockPage, links: VerifyLinks<P>) -> Verify<P> {
        let chain = config.rules.chain_id;
        Verify {
            links,
            checker: Checker {
                rules: config.rules,
                recent: Recent::new(config.recent_txs),
                keys: SenderKeys::new(config.salt),
            },
            ingress: Ingress::new(config.ingress, config.signing_key, chain, config.stamp_flush_us, clock),
            validators: config.validators,
            messages_per_poll: config.messages_per_poll.max(1),
            tree: Tree::with_capacity(TXS_PER_MESSAGE_MAX),
            counters: Counters::new("verify"),
        }
    }

    fn on_message(&mut self, frame: MessageFrame<P::Buf>, tsc: u64) {
        let handled = match frame.kind {
            MessageKind::Submit => self.on_submit(&frame, tsc),
            MessageKind::Batch => self.on_batch(frame),
            _ => Err(VerifyCounter::MalformedMessage),
        };
        if let Err(refusal) = handled {
            self.counters.count(refusal);
        }
    }

    fn on_submit(&mut self, frame: &MessageFrame<P::Buf>, tsc: u64) -> Result<(), VerifyCounter> {
        let message = Message::read(frame.message()).map_err(|_| VerifyCounter::MalformedMessage)?;
        let Message::Submit(wires) = message else { return Err(VerifyCounter::MalformedMessage) };
        let stamp = self.ingress.stamp(&frame.received);
        for wire in wires {
            match self.checker.check(wire, tx::tx_id(wire), &stamp) {
                Ok(checked) => self.collect(checked, stamp, wire, tsc),
                Err(refusal) => self.counters.count(refusal),
            }
        }
        Ok(())
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
        let leaves = batch.leaves(self.checker.rules.chain_id, &ids);
        let root = batch.signed_root(&leaves);
        self.tree.rebuild(leaves.into_iter());
        let txs = stamped(&batch, 0, &self.tree, |index| Some(checked[index].0));
        let received = batch.txs[0].stamp.time;
        self.send_to_order(StampedFrame { buf, received, own: true, root, txs });
        self.counters.count(VerifyCounter::BatchesStamped);
        let copy = self.links.pool.alloc().map(|mut buf| {
            buf.set_len(message.len());
            buf.data_mut().copy_from_slice(&message);
            self.links.to_spread.push(OwnBatch { buf }).is_ok()
        });
        if copy != Some(true) {
            self.counters.count(VerifyCounter::DroppedSpread);
        }
        self.ingress.batch.clear();
        true
    }

    fn on_batch(&mut self, frame: MessageFrame<P::Buf>) -> Result<(), VerifyCounter> {
        if let Some((root, txs)) = self.check_batch(&frame)? {
            let received = frame.received.moment;
            self.send_to_order(StampedFrame { buf: frame.buf, received, own: false, root, txs });
        }
        Ok(())
    }

    /// The root and the good transactions of a batch; `None` when none is both good and new.
    fn check_batch(&mut self, frame: &MessageFrame<P::Buf>) -> Result<GoodTxs, VerifyCounter> {
        let message = frame.message();
        let Ok(Message::Batch(batch)) = Message::read(message) else {
            return Err(VerifyCounter::MalformedMessage);
        };
        let ids: ArrayVec<TxId, TXS_PER_MESSAGE_MAX> =
            batch.txs.iter().map(|tx| tx::tx_id(tx.wire)).collect();
        let seen = |(id, tx): (&TxId, &roko_wire::stamp::StampedTx<'_>)| {
            self.checker.recent.contains(id, tx.stamp.time)
        };
        if ids.iter().zip(&batch.txs).all(seen) {
            self.counters.add(VerifyCounter::Duplicate, ids.len() as u64);
            return Ok(None);
        }
        let leaves = batch.leaves(self.checker.rules.chain_id, &ids);
        let root: SignedRoot = batch.signed_root(&leaves);
        let key = self.validators.get(batch.ingress.as_usize()).ok_or(VerifyCounter::BadRoot)?;
        if !root.verify(key, self.checker.rules.chain_id) {
            return Err(VerifyCounter::BadRoot);
        }
        self.tree.rebuild(leaves.into_iter());
        let (checker, counters) = (&mut self.checker, &mut self.counters);
        let txs = stamped(&batch, usize::from(frame.span.at), &self.tree, |index| {
            let tx = &batch.txs[index];
            checker.check(tx.wire, ids[index], &tx.stamp).map_err(|refusal| counters.count(refusal)).ok()
        });
        Ok((!txs.is_empty()).then_some((root, txs)))
    }

    fn send_to_order(&mut self, frame: StampedFrame<P::Buf>) {
        self.counters.add(VerifyCounter::Passed, frame.txs.len() as u64);
        let sent = self.links.to_order.push(frame);
        debug_assert!(sent.is_ok(), "the poll checked the room");
    }
}

/// The transactions of `batch` for which `checked` answers, each with its place in the frame and its path. The message
/// starts at `message_at` of its frame.
fn stamped(
    batch: &StampedBatch<'_>,
    message_at: usize,
    tree: &Tree,
    mut checked: impl FnMut(usize) -> Option<Checked>,
) -> ArrayVec<VerifiedTx, TXS_PER_MESSAGE_MAX> {
    let mut at = message_at + 1 + BATCH_HEADER_BYTES;
    let mut out = ArrayVec::new();
    for (index, tx) in batch.txs.iter().enumerate() {
        let wire = Span::new(at + BATCH_TX_BYTES, tx.wire.len());
        at += BATCH_TX_BYTES + tx.wire.len();
        let Some(checked) = checked(index) else { continue };
        let path = tree.path(index).unwrap_or_default();
        out.push(VerifiedTx {
            wire,
            id: checked.id,
            sender: checked.sender,
            nonce: checked.nonce,
            gas_limit: checked.gas_limit,
            max_fee: checked.max_fee,
            valid_until: checked.valid_until,
            stamp: tx.stamp,
            leaf_index: index as u8,
            path: path.iter().copied().collect::<ArrayVec<Hash32, _>>(),
        });
    }
    out
}

impl<P: FramePool> Stage for Verify<P> {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn poll(&mut self, cx: &mut PollContext) -> Progress {
        let mut work = 0;
        while work < self.messages_per_poll {
            if self.links.to_order.free_slots() < ORDER_SLOTS {
                return Progress { work, backpressured: true };
            }
            // The node's own users come second: they can be told to wait, frames cannot.
            let Some(frame) = self.links.input.pop().or_else(|| self.links.injected.pop()) else { break };
            work += 1;
            self.on_message(frame, cx.tsc);
        }
        let mut starved = false;
        if self.ingress.is_due(cx.tsc) {
            starved = !self.flush();
            work += usize::from(!starved);
        }
        Progress { work, backpressured: starved }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.ingress.refresh();
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
        source: received.source,
        ingress,
    }
}
