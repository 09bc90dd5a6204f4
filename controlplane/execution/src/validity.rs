//! The check of a block without executing it: what a validator does before it votes.
//!
//! Everything is read from the header, the body and the state after the parent, so that executing the block can overlap
//! the voting on it (deferred execution, as EIP-7886). The header commits to the *parent's* results; those are compared
//! here. Not checked here: parent id, view, proposer and its signature, justification, time window, next set root
//! (consensus), and the chunk root (whoever put the body together from chunks).

use crate::senders::{After, SenderRefusal, Senders};
use crate::tx::ExecutableTx;
use crate::view::StateView;
use arrayvec::ArrayVec;
use ed25519_zebra::VerificationKey;
use roko_wire::block::{BodyEntry, BodyView, Header, tx_leaf};
use roko_wire::codec::DecodeError;
use roko_wire::genesis::Genesis;
use roko_wire::limits::{STAMP_DEPTH_MAX, TXS_PER_MESSAGE_MAX};
use roko_wire::order::{OrderError, Ordered, check_order};
use roko_wire::rules::{TxRefusal, TxRules};
use roko_wire::stamp::SignedRoot;
use roko_wire::tx::{ParsedTx, SignatureError, parse, tie_break, tx_id};
use roko_wire::{Address, ChainId, Hash32, Height, NanoMoment, TxId, ValidatorIndex, merkle};

/// The chain's settings that a block must keep, from genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRules {
    /// Rules of each transaction.
    pub tx: TxRules,
    /// Most bytes of a body.
    pub body_bytes_max: usize,
    /// Most transactions.
    pub txs_max: usize,
    /// Most gas; the header repeats it.
    pub gas_limit: u64,
    /// The base fee never falls below it.
    pub base_fee_floor: u128,
}

impl BlockRules {
    /// The rules of a chain. Its first base fee is also the floor.
    #[must_use]
    pub fn of(genesis: &Genesis) -> BlockRules {
        BlockRules {
            tx: genesis.tx_rules(),
            body_bytes_max: genesis.limits.block_bytes_max as usize,
            txs_max: genesis.limits.block_txs_max as usize,
            gas_limit: genesis.limits.block_gas_limit,
            base_fee_floor: genesis.limits.base_fee_initial.into(),
        }
    }
}

/// What stays the same for an epoch.
#[derive(Clone, Copy)]
pub struct Chain<'a> {
    /// Rules from genesis.
    pub rules: &'a BlockRules,
    /// The epoch's seed, for ties.
    pub epoch_seed: &'a Hash32,
    /// The validators' node keys, in index order.
    pub node_keys: &'a [VerificationKey],
}

/// The parent and what its execution yielded.
#[derive(Clone, Copy)]
pub struct Parent<'a> {
    /// Its height.
    pub height: Height,
    /// Its watermark: the first moment that a stamp may have now.
    pub watermark: NanoMoment,
    /// Moment of the last transaction at or before it.
    pub last_moment: NanoMoment,
    /// The state after it.
    pub state: &'a dyn StateView,
    /// Root of that state.
    pub state_root: Hash32,
    /// Root of its receipts.
    pub receipts_root: Hash32,
    /// The base fee that follows from its gas; see [`crate::base_fee::next`].
    pub base_fee_next: u128,
}

/// Signatures that this node has checked before, so that it does not check them twice.
pub trait Verified {
    /// The sender of the transaction at this place of the body, whose signature was checked; the id covers the signature.
    fn sender(&self, place: usize, id: &TxId) -> Option<Address>;

    /// The id of the transaction at this place, when it was computed before from the same bytes.
    fn id(&self, place: usize) -> Option<TxId> {
        let _ = place;
        None
    }

    /// Whether this very root with this signature was checked against the ingress validator's key.
    fn stamp_root(&self, root: &SignedRoot) -> bool {
        let _ = root;
        false
    }
}

impl<F: Fn(&TxId) -> Option<Address>> Verified for F {
    fn sender(&self, _: usize, id: &TxId) -> Option<Address> {
        self(id)
    }
}

/// A block that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its transactions, parsed, in chain order.
    pub txs: Vec<ExecutableTx>,
    /// Moment of the last transaction at or before this block.
    pub last_moment: NanoMoment,
}

/// A block that is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// For another chain.
    #[error("the block is for chain {have}; this chain is {want}")]
    ChainId {
        /// In the header.
        have: ChainId,
        /// This chain.
        want: ChainId,
    },
    /// Not one above its parent.
    #[error("the block has height {have}; its parent's next is {want}")]
    Height {
        /// In the header.
        have: Height,
        /// By the parent.
        want: Height,
    },
    /// Below the parent's, or after the block's own time: that would shut out stamps yet to come.
    #[error("watermark {watermark} is not between the parent's {parent} and the block's time {time}")]
    Watermark {
        /// In the header.
        watermark: NanoMoment,
        /// The parent's.
        parent: NanoMoment,
        /// The block's time.
        time: NanoMoment,
    },
    /// Not genesis' gas limit.
    #[error("the header's gas limit is {have}; genesis gives {want}")]
    GasLimit {
        /// In the header.
        have: u64,
        /// By genesis.
        want: u64,
    },
    /// Not the base fee that follows from the parent.
    #[error("the header's base fee is {have}; the parent's gas gives {want}")]
    BaseFee {
        /// In the header.
        have: u128,
        /// By EIP-1559.
        want: u128,
    },
    /// A root that this node does not get.
    #[error("the header's {name} is {have}; this node gets {want}")]
    Root {
        /// Which.
        name: &'static str,
        /// In the header.
        have: Hash32,
        /// Computed here.
        want: Hash32,
    },
    /// A count in the header that the body does not have.
    #[error("the header counts {have} {what}; the body has {want}")]
    Count {
        /// Of what.
        what: &'static str,
        /// In the header.
        have: u64,
        /// In the body.
        want: u64,
    },
    /// Over a limit of genesis.
    #[error("the body has {have} {what}, above genesis' limit {limit}")]
    OverLimit {
        /// Of what.
        what: &'static str,
        /// In the body.
        have: u64,
        /// The limit.
        limit: u64,
    },
    /// A stamp batch that is not one, or that no transaction refers to.
    #[error("stamp batch {batch} of validator {ingress}: {what}")]
    Batch {
        /// Place in the body.
        batch: usize,
        /// Who is said to have signed it.
        ingress: ValidatorIndex,
        /// What is wrong.
        what: &'static str,
    },
    /// The transactions' order or moments.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A transaction.
    #[error("transaction {index}: {reason}")]
    Tx {
        /// Place in the body.
        index: usize,
        /// What is wrong with it.
        reason: TxError,
    },
}

/// A transaction that may not be in this block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// Not a transaction.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Against the chain's rules or outside its window.
    #[error(transparent)]
    Refused(#[from] TxRefusal),
    /// The signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The stamp is not in the batch that it names.
    #[error("its stamp's path does not lead to the signed root of batch {batch}")]
    StampPath {
        /// The batch.
        batch: usize,
    },
    /// It does not pay the base fee.
    #[error("max_fee {max_fee} is below the block's base fee {base_fee}: raise max_fee")]
    FeeBelowBase {
        /// Offered.
        max_fee: u128,
        /// Asked.
        base_fee: u128,
    },
    /// The gas limits up to it are over the block's.
    #[error("the gas limits up to it are {gas}, above the block's {gas_limit}")]
    GasOverLimit {
        /// Sum with it.
        gas: u64,
        /// The block's.
        gas_limit: u64,
    },
    /// Its moment was moved past its window.
    #[error("its moment {moment} is after its valid_until {valid_until}")]
    MomentExpired {
        /// Assigned.
        moment: NanoMoment,
        /// End of the window.
        valid_until: NanoMoment,
    },
    /// Twice in this block.
    #[error("the same transaction is at {first} already")]
    Duplicate {
        /// Where it is first.
        first: usize,
    },
    /// Nonce or balance.
    #[error(transparent)]
    Sender(#[from] SenderRefusal),
}

/// Checks a block; `body_bytes` is the length of the archive that `body` views.
pub fn check(
    chain: &Chain<'_>,
    parent: &Parent<'_>,
    header: &Header,
    body: &BodyView<'_>,
    body_bytes: usize,
    verified: &dyn Verified,
) -> Result<Checked, BlockError> {
    check_header(chain.rules, parent, header)?;
    check_sizes(chain.rules, header, body, body_bytes)?;
    let roots = check_batches(chain, body, verified)?;
    let mut pass = Pass {
        chain,
        header,
        verified,
        roots: &roots,
        gas: 0,
        senders: Senders::new(parent.state, body.len()),
        txs: Vec::with_capacity(body.len()),
        order: Vec::with_capacity(body.len()),
        leaves: Vec::with_capacity(body.len()),
    };
    for (index, entry) in body.entries().enumerate() {
        pass.take(index, &entry).map_err(|reason| BlockError::Tx { index, reason })?;
    }
    check_order(&pass.order, parent.watermark, header.watermark, parent.last_moment)?;
    let tx_root = merkle::root_in_place(&mut pass.leaves);
    same_root("transaction root", header.tx_root, tx_root)?;
    let last_moment = pass.txs.last().map_or(parent.last_moment, |tx| tx.moment);
    Ok(Checked { txs: pass.txs, last_moment })
}

fn same_root(name: &'static str, have: Hash32, want: Hash32) -> Result<(), BlockError> {
    if have == want { Ok(()) } else { Err(BlockError::Root { name, have, want }) }
}

fn check_header(rules: &BlockRules, parent: &Parent<'_>, header: &Header) -> Result<(), BlockError> {
    if header.chain_id != rules.tx.chain_id {
        return Err(BlockError::ChainId { have: header.chain_id, want: rules.tx.chain_id });
    }
    let want = parent.height.next();
    if header.height != want {
        return Err(BlockError::Height { have: header.height, want });
    }
    if header.watermark < parent.watermark || header.watermark > header.time {
        let (watermark, time) = (header.watermark, header.time);
        return Err(BlockError::Watermark { watermark, parent: parent.watermark, time });
    }
    if header.gas_limit != rules.gas_limit {
        return Err(BlockError::GasLimit { have: header.gas_limit, want: rules.gas_limit });
    }
    if header.base_fee != parent.base_fee_next {
        return Err(BlockError::BaseFee { have: header.base_fee, want: parent.base_fee_next });
    }
    same_root("parent state root", header.parent_state_root, parent.state_root)?;
    same_root("parent receipts root", header.parent_receipts_root, parent.receipts_root)
}

fn check_sizes(
    rules: &BlockRules,
    header: &Header,
    body: &BodyView<'_>,
    body_bytes: usize,
) -> Result<(), BlockError> {
    let sizes = [
        ("bytes", header.body_bytes, body_bytes, rules.body_bytes_max),
        ("transactions", header.tx_count, body.len(), rules.txs_max),
    ];
    for (what, in_header, in_body, limit) in sizes {
        let (have, limit) = (in_body as u64, limit as u64);
        if u64::from(in_header) != have {
            return Err(BlockError::Count { what, have: in_header.into(), want: have });
        }
        if have > limit {
            return Err(BlockError::OverLimit { what, have, limit });
        }
    }
    Ok(())
}

/// The signed roots of the body's batches: each signature is checked once, and each batch is one that some transaction
/// refers to, so that a proposer cannot make the others check signatures for nothing.
fn check_batches(
    chain: &Chain<'_>,
    body: &BodyView<'_>,
    verified: &dyn Verified,
) -> Result<Vec<SignedRoot>, BlockError> {
    let roots: Vec<SignedRoot> = (0..body.batch_count()).filter_map(|index| body.batch(index)).collect();
    let mut used = vec![false; roots.len()];
    body.entries().for_each(|entry| used[entry.batch] = true);
    for (batch, root) in roots.iter().enumerate() {
        let bad = |what| BlockError::Batch { batch, ingress: root.ingress, what };
        if !used[batch] {
            return Err(bad("no transaction refers to it"));
        }
        if usize::from(root.leaves) > TXS_PER_MESSAGE_MAX {
            return Err(bad("it has more leaves than a message holds"));
        }
        let key = chain
            .node_keys
            .get(root.ingress.as_usize())
            .ok_or_else(|| bad("this validator is not in the epoch's set"))?;
        if !verified.stamp_root(root) && !root.verify(key, chain.rules.tx.chain_id) {
            return Err(bad("the signature over its root is wrong"));
        }
    }
    Ok(roots)
}

/// The pass over a body's transactions.
struct Pass<'a> {
    chain: &'a Chain<'a>,
    header: &'a Header,
    verified: &'a dyn Verified,
    roots: &'a [SignedRoot],
    gas: u64,
    senders: Senders<'a>,
    txs: Vec<ExecutableTx>,
    order: Vec<Ordered>,
    leaves: Vec<Hash32>,
}

impl Pass<'_> {
    fn take(&mut self, place: usize, entry: &BodyEntry<'_>) -> Result<(), TxError> {
        let parsed = parse(entry.wire)?;
        let terms = parsed.terms();
        let rules = &self.chain.rules.tx;
        rules.check(&terms, &entry.stamp)?;
        let valid_until = rules.valid_until(&terms, entry.stamp.time);
        if entry.moment > valid_until {
            return Err(TxError::MomentExpired { moment: entry.moment, valid_until });
        }
        let (max_fee, base_fee) = (terms.max_fee, self.header.base_fee);
        if max_fee < base_fee {
            return Err(TxError::FeeBelowBase { max_fee, base_fee });
        }
        self.gas = self.gas.saturating_add(terms.gas_limit);
        if self.gas > self.header.gas_limit {
            return Err(TxError::GasOverLimit { gas: self.gas, gas_limit: self.header.gas_limit });
        }
        let id = self.verified.id(place).unwrap_or_else(|| tx_id(entry.wire));
        self.check_stamp(entry, &id)?;
        let sender = self.sender(place, &parsed, &id)?;
        self.senders
            .after(&sender, terms.nonce, terms.cost_max())
            .map(After::take)
            .map_err(|refusal| repeated(&self.txs, &id).unwrap_or(TxError::Sender(refusal)))?;
        self.leaves.push(tx_leaf(&id, entry.moment, &entry.stamp));
        self.order.push(Ordered {
            id,
            sender,
            nonce: terms.nonce,
            time: entry.stamp.time,
            tie_break: tie_break(self.chain.epoch_seed, &id),
            moment: entry.moment,
        });
        self.txs.push(ExecutableTx::new(id, sender, &parsed, entry.moment));
        Ok(())
    }

    fn check_stamp(&self, entry: &BodyEntry<'_>, id: &TxId) -> Result<(), TxError> {
        let root = &self.roots[entry.batch];
        let leaf = entry.stamp.leaf(self.chain.rules.tx.chain_id, id);
        let path: ArrayVec<Hash32, STAMP_DEPTH_MAX> = entry.path.iter().map(|hash| Hash32(*hash)).collect();
        let reached = merkle::root_from_path(leaf, entry.leaf_index, usize::from(root.leaves), &path);
        if reached == Some(root.root) { Ok(()) } else { Err(TxError::StampPath { batch: entry.batch }) }
    }

    fn sender(&self, place: usize, parsed: &ParsedTx<'_>, id: &TxId) -> Result<Address, TxError> {
        match self.verified.sender(place, id) {
            Some(sender) => Ok(sender),
            None => Ok(parsed.verify()?),
        }
    }
}

/// A repeated transaction always breaks its sender's nonces, so it is looked for only once they are broken.
fn repeated(txs: &[ExecutableTx], id: &TxId) -> Option<TxError> {
    let first = txs.iter().position(|tx| tx.id == *id)?;
    Some(TxError::Duplicate { first })
}
