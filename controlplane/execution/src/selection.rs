//! What a proposer leaves out of its block: one pass over the drained candidates, after which what remains passes
//! [`crate::validity::check`].
//!
//! Candidates come in the canonical order (see `roko_wire::order`), displaced ones behind their predecessors. A removal
//! can take away what excused a displaced transaction's place, or make room for an earlier moment; so order and moments
//! are worked out here again, for what is kept.

use crate::senders::{SenderRefusal, Senders};
use crate::validity::BlockRules;
use crate::view::StateView;
use roko_wire::order::Ordered;
use roko_wire::rules::Terms;
use roko_wire::{Address, NanoMoment, TxId};
use ruint::aliases::U256;
use std::collections::{HashMap, HashSet};

/// A drained transaction, already checked by itself: rules, signature, stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the order; the moment is assigned here and not read.
    pub order: Ordered,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Most it pays per gas.
    pub max_fee: u128,
    /// The most it can cost its sender; `None` over 2^256.
    pub cost_max: Option<U256>,
    /// End of its window.
    pub valid_until: NanoMoment,
    /// What it adds to the body: wire bytes, its record, its stamp's path and its share of the batch.
    pub body_bytes: usize,
    /// What this node thinks of its stamp.
    pub stamp: StampStanding,
}

/// A node's opinion of a stamp, by its own receive time of the same transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampStanding {
    /// It did not see the transaction come with this stamp.
    Unknown,
    /// The stamp's time is within what the way here and the clocks allow.
    Plausible,
    /// It is not.
    Implausible,
}

impl Candidate {
    /// The candidate for a parsed transaction, under the rules of its chain.
    #[must_use]
    pub fn new(
        order: Ordered,
        terms: &Terms,
        rules: &BlockRules,
        body_bytes: usize,
        stamp: StampStanding,
    ) -> Candidate {
        Candidate {
            order,
            gas_limit: terms.gas_limit,
            max_fee: terms.max_fee,
            cost_max: terms.cost_max(),
            valid_until: rules.tx.valid_until(terms, order.time),
            body_bytes,
            stamp,
        }
    }
}

/// Why a candidate is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exclusion {
    /// Nonce or balance. Stale ones never get in; the others may, later.
    #[error(transparent)]
    Sender(#[from] SenderRefusal),
    /// Among the candidates before.
    #[error("the same transaction came before")]
    Duplicate,
    /// The block holds as many implausible stamps as its proposer puts up with: it must be stamped anew.
    #[error("its stamp is implausible here, and the block holds as many such as it may")]
    ImplausibleStamp,
    /// It does not pay the base fee of this block.
    #[error("max_fee is below the block's base fee {base_fee}: it waits for a lower one")]
    FeeBelowBase {
        /// The block's.
        base_fee: u128,
    },
    /// The block is full: it and all that follow wait. The watermark should then be at most its stamp's time.
    #[error("the block is full")]
    BlockFull,
    /// Stamped before the block's span: it must be stamped anew.
    #[error("its stamp is before the block's span")]
    BeforeSpan,
    /// No free moment below the watermark: it belongs in the next block.
    #[error("there is no free moment below the watermark")]
    NoMoment,
    /// The next free moment is after its window: it never gets in.
    #[error("the next free moment {moment} is after its valid_until")]
    MomentExpired {
        /// The moment.
        moment: NanoMoment,
    },
    /// What excused its place is left out itself: it must be stamped anew.
    #[error("it is out of order without its predecessor")]
    OutOfOrder,
}

/// The block that is to be made.
#[derive(Clone, Copy)]
pub struct BlockFrame<'a> {
    /// Rules from genesis.
    pub rules: &'a BlockRules,
    /// The state after the parent.
    pub state: &'a dyn StateView,
    /// The parent's watermark: the first moment that a stamp may have.
    pub from: NanoMoment,
    /// Every stamp and moment is below it.
    pub watermark: NanoMoment,
    /// Moment of the last transaction before this block.
    pub last_moment: NanoMoment,
    /// The block's base fee.
    pub base_fee: u128,
    /// Bytes of an empty body.
    pub body_bytes_empty: usize,
    /// Most implausible stamps, per thousand of those that this node can judge. A proposer takes half of what genesis
    /// allows: other nodes saw other transactions first-hand, and count against their own.
    pub implausible_permille_max: u32,
}

/// What is in and what is out; together all candidates, by their index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The block's transactions, in chain order, each with its moment.
    pub kept: Vec<(usize, NanoMoment)>,
    /// The others, each with the reason.
    pub excluded: Vec<(usize, Exclusion)>,
}

/// Picks the block's transactions in one pass.
#[must_use]
pub fn select(frame: &BlockFrame<'_>, candidates: &[Candidate]) -> Selection {
    let mut pass = Pass {
        frame,
        senders: Senders::new(frame.state, candidates.len()),
        seen: HashSet::with_capacity(candidates.len()),
        places: Places {
            chains: HashMap::with_capacity(candidates.len()),
            last_key: None,
            last_moment: frame.last_moment,
            count: 0,
        },
        stamps: Stamps::default(),
        room: Room { gas: 0, bytes: frame.body_bytes_empty, full: false },
    };
    let mut out = Selection { kept: Vec::with_capacity(candidates.len()), excluded: Vec::new() };
    for (index, candidate) in candidates.iter().enumerate() {
        match pass.take(candidate) {
            Ok(moment) => out.kept.push((index, moment)),
            Err(exclusion) => out.excluded.push((index, exclusion)),
        }
    }
    out
}

type Key = (NanoMoment, u64, TxId);

struct Pass<'a> {
    frame: &'a BlockFrame<'a>,
    senders: Senders<'a>,
    seen: HashSet<TxId>,
    places: Places,
    stamps: Stamps,
    room: Room,
}

impl Pass<'_> {
    /// The moment of a candidate that gets in. One that does not leaves the others' places and balances as they were,
    /// except that behind a full block nothing gets in.
    fn take(&mut self, candidate: &Candidate) -> Result<NanoMoment, Exclusion> {
        let order = &candidate.order;
        if !self.seen.insert(order.id) {
            return Err(Exclusion::Duplicate);
        }
        if candidate.max_fee < self.frame.base_fee {
            return Err(Exclusion::FeeBelowBase { base_fee: self.frame.base_fee });
        }
        let stamps = self.stamps.with(candidate.stamp, self.frame.implausible_permille_max)?;
        let after = self.senders.after(&order.sender, order.nonce, candidate.cost_max)?;
        let (moment, stands_at, displaced) = self.places.place(self.frame, candidate)?;
        // Taken even if the block is full: then nothing more gets in, and his later ones wait for room, not for this one.
        after.take();
        self.room.make(self.frame.rules, candidate, self.places.count)?;
        self.places.take(order, moment, stands_at, displaced);
        self.stamps = stamps;
        Ok(moment)
    }
}

/// Order and moments of what is kept so far.
struct Places {
    /// Per sender: the key at which its last kept transaction stands, and its place among the kept.
    chains: HashMap<Address, (Key, usize)>,
    last_key: Option<Key>,
    last_moment: NanoMoment,
    count: usize,
}

impl Places {
    /// The rule of `check_order`, one step of it: the moment, the key at which the transaction stands, and whether that
    /// is its predecessor's.
    fn place(
        &self,
        frame: &BlockFrame<'_>,
        candidate: &Candidate,
    ) -> Result<(NanoMoment, Key, bool), Exclusion> {
        let order = &candidate.order;
        if order.time < frame.from {
            return Err(Exclusion::BeforeSpan);
        }
        let moment = self.last_moment.saturating_add(1).max(order.time);
        if order.time >= frame.watermark || moment >= frame.watermark {
            return Err(Exclusion::NoMoment);
        }
        if moment > candidate.valid_until {
            return Err(Exclusion::MomentExpired { moment });
        }
        let key = (order.time, order.tie_break, order.id);
        match self.chains.get(&order.sender) {
            Some((before, at)) if *before > key && at + 1 == self.count => Ok((moment, *before, true)),
            _ if self.last_key.is_some_and(|last| last >= key) => Err(Exclusion::OutOfOrder),
            _ => Ok((moment, key, false)),
        }
    }

    fn take(&mut self, order: &Ordered, moment: NanoMoment, stands_at: Key, displaced: bool) {
        if !displaced {
            self.last_key = Some(stands_at);
        }
        self.chains.insert(order.sender, (stands_at, self.count));
        self.last_moment = moment;
        self.count += 1;
    }
}

/// The stamps kept so far of which this node has an opinion.
#[derive(Clone, Copy, Default)]
struct Stamps {
    judged: u64,
    implausible: u64,
}

impl Stamps {
    /// The counts with one more, when they are within the limit.
    fn with(self, standing: StampStanding, permille_max: u32) -> Result<Stamps, Exclusion> {
        let implausible = self.implausible + u64::from(standing == StampStanding::Implausible);
        let judged = self.judged + u64::from(standing != StampStanding::Unknown);
        if implausible > self.implausible && implausible * 1_000 > judged * u64::from(permille_max) {
            return Err(Exclusion::ImplausibleStamp);
        }
        Ok(Stamps { judged, implausible })
    }
}

/// What the block has used of its limits.
struct Room {
    gas: u64,
    bytes: usize,
    full: bool,
}

impl Room {
    /// Once one does not fit, none that follows gets in: those left out are then a suffix of the span, and the watermark
    /// can be put before them.
    fn make(&mut self, rules: &BlockRules, candidate: &Candidate, count: usize) -> Result<(), Exclusion> {
        let gas = self.gas.saturating_add(candidate.gas_limit);
        let bytes = self.bytes.saturating_add(candidate.body_bytes);
        self.full |= gas > rules.gas_limit || bytes > rules.body_bytes_max || count >= rules.txs_max;
        if self.full {
            return Err(Exclusion::BlockFull);
        }
        (self.gas, self.bytes) = (gas, bytes);
        Ok(())
    }
}
