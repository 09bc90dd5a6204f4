//! [`NodeApi`]: what the services ask of the node, and the shapes of its answers.
//!
//! The shapes are what a JSON client sees (camelCase keys; see [`crate::json`] for integers) and what a Rust
//! client reads back. Calls come from the tokio threads of the RPC server: an implementation answers from memory,
//! and returns an error rather than wait.

use std::{borrow::Cow, sync::Arc};

use core::fmt;
use roko_wire::{
    Address, BlockId, Epoch, Hash32, Height, NanoMoment, TxId, ValidatorIndex, View,
    nano::{ClockReading, ClockSource, ClockState},
    port_clock::StampedBy,
};
use ruint::aliases::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::broadcast;

use crate::{
    ethereum::view::EthereumView,
    json,
    metrics::MetricsSnapshot,
    refusal::{RefusalReason, SubmitError},
};

/// A node as its services see it. Every call is cheap, does not block, and may come from several threads at once.
pub trait NodeApi: Send + Sync + 'static {
    /// Checks a transaction's canonical bytes and hands them to the data plane. `Ok` means queued for the
    /// temporal order, not included.
    fn submit(&self, raw: Vec<u8>) -> Result<TxId, SubmitError>;

    /// A transaction that is pending or in a block; `None` when the node does not know it.
    fn transaction(&self, id: TxId) -> Option<TransactionInfo>;

    /// A block; `None` when the node does not have it.
    fn block(&self, selector: BlockSelector) -> Option<Arc<BlockInfo>>;

    /// Height of the first block that the node has; above 1 when it began from a snapshot of the state.
    fn first_block(&self) -> Height {
        Height(1)
    }

    /// An account after the last executed block. An address that was never used has balance 0 and nonce 0.
    fn balance(&self, address: Address) -> AccountInfo;

    /// The node's clock now and the chain's tip.
    fn consensus_time(&self) -> ConsensusTime;

    /// Depths, capacities and drops of the mempool and the rings.
    fn queue_stats(&self) -> QueueStats;

    /// Blocks from now on, in height order, as they become final. The channel is bounded: a receiver that falls
    /// behind is told how many it missed.
    fn subscribe_final(&self) -> broadcast::Receiver<Arc<BlockInfo>>;

    /// Everything the metrics page shows.
    fn metrics(&self) -> MetricsSnapshot;

    /// What a watcher of several nodes asks (`/status`), as one JSON object, with the ids of final blocks from height
    /// `blocks_from` on; `audit` adds what costs a walk over the whole state. `None` for a node that tells nothing.
    fn status(&self, blocks_from: Height, audit: bool) -> Option<String> {
        let _ = (blocks_from, audit);
        None
    }

    /// What Ethereum's clients ask beside; `None` for a node that serves no `eth_*` methods.
    fn ethereum(&self) -> Option<&dyn EthereumView> {
        None
    }
}

/// How far a transaction or a block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In the mempool or in flight in a block that is not certified.
    Pending,
    /// In a certified block that is not final.
    Included,
    /// In a final block.
    Final,
}

/// When and by whom a transaction was first received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StampInfo {
    /// Receive time.
    pub time: NanoMoment,
    /// The true receive time lies within this many nanoseconds of `time`.
    #[serde(with = "json::decimal")]
    pub error_bound_ns: u64,
    /// Where the time comes from.
    pub source: ClockSource,
    /// What took it: `hardware`, `kernel`, or `poll`, which is software.
    pub stamped_by: StampedBy,
    /// The validator that received and stamped it.
    pub ingress: ValidatorIndex,
}

/// Where a transaction is in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Height of its block.
    #[serde(with = "json::decimal")]
    pub height: Height,
    /// Its block.
    pub block: BlockId,
    /// Its place in the block, from 0.
    pub index: u32,
    /// The moment that is the transaction's own, unique in the chain.
    pub time: NanoMoment,
}

/// What execution yielded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// False when the call reverted or ran out of gas; the fee is paid all the same.
    pub success: bool,
    /// Gas used.
    #[serde(with = "json::decimal")]
    pub gas_used: u64,
    /// Fee paid, in the smallest unit (10^-18 ROKO).
    #[serde(with = "json::decimal")]
    pub fee_paid: U256,
}

/// A transaction and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionInfo {
    /// Its id.
    pub id: TxId,
    /// How far it has come.
    pub status: Status,
    /// Its ingress stamp; `None` until the order stage has stamped it.
    pub stamp: Option<StampInfo>,
    /// Its place; `None` while pending.
    pub placement: Option<Placement>,
    /// What execution yielded; `None` until its block is executed.
    pub outcome: Option<Outcome>,
    /// The account that signed it.
    pub sender: Address,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Amount in the smallest unit.
    #[serde(with = "json::decimal")]
    pub value: U256,
    /// The sender's nonce.
    #[serde(with = "json::decimal")]
    pub nonce: u64,
}

/// Which block is meant. In JSON: `"latest"`, `"final"`, a height (number or decimal string) or a block id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSelector {
    /// The highest certified block.
    Latest,
    /// The highest final block.
    Final,
    /// The certified block at a height.
    Height(Height),
    /// The block with an id.
    Id(BlockId),
}

impl fmt::Display for BlockSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockSelector::Latest => f.write_str("latest"),
            BlockSelector::Final => f.write_str("final"),
            BlockSelector::Height(height) => height.fmt(f),
            BlockSelector::Id(id) => id.fmt(f),
        }
    }
}

/// Text that names no block.
#[derive(Debug, thiserror::Error)]
#[error(
    "\"{text}\" names no block: use \"latest\", \"final\", a decimal height, or a block id (\"0x\" and 64 digits)"
)]
pub struct ParseBlockSelectorError {
    text: String,
}

impl core::str::FromStr for BlockSelector {
    type Err = ParseBlockSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseBlockSelectorError> {
        let error = || ParseBlockSelectorError { text: text.chars().take(80).collect() };
        match text {
            "latest" => Ok(BlockSelector::Latest),
            "final" => Ok(BlockSelector::Final),
            id if id.starts_with("0x") => id.parse().map(BlockSelector::Id).map_err(|_| error()),
            height => json::parse_decimal(height).map(BlockSelector::Height).ok_or_else(error),
        }
    }
}

impl Serialize for BlockSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SelectorVisitor;
        impl serde::de::Visitor<'_> for SelectorVisitor {
            type Value = BlockSelector;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"latest\", \"final\", a height or a block id")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BlockSelector, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, height: u64) -> Result<BlockSelector, E> {
                Ok(BlockSelector::Height(Height(height)))
            }
        }
        deserializer.deserialize_any(SelectorVisitor)
    }
}

/// A block without its transactions' bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockInfo {
    /// Its id.
    pub id: BlockId,
    /// Its height.
    #[serde(with = "json::decimal")]
    pub height: Height,
    /// The epoch it belongs to.
    #[serde(with = "json::decimal")]
    pub epoch: Epoch,
    /// The view it was proposed in.
    #[serde(with = "json::decimal")]
    pub view: View,
    /// Its parent.
    pub parent: BlockId,
    /// The validator that proposed it.
    pub proposer: ValidatorIndex,
    /// Final or only included.
    pub status: Status,
    /// The proposer's time.
    pub time: NanoMoment,
    /// Every stamp in it lies below this moment, and every stamp of its child at or above it.
    pub watermark: NanoMoment,
    /// Root of its transactions.
    pub tx_root: Hash32,
    /// State root after its parent.
    pub parent_state_root: Hash32,
    /// Root of its parent's receipts.
    pub parent_receipts_root: Hash32,
    /// Most gas it may use.
    #[serde(with = "json::decimal")]
    pub gas_limit: u64,
    /// Gas it used; `None` until it is executed.
    #[serde(with = "json::decimal_option")]
    pub gas_used: Option<u64>,
    /// Price of a unit of gas, in the smallest unit of ROKO.
    #[serde(with = "json::decimal")]
    pub base_fee: u128,
    /// Size of its body, bytes.
    #[serde(with = "json::decimal")]
    pub bytes: u64,
    /// Its transactions, in chain order.
    pub transactions: Vec<TxId>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountInfo {
    /// Balance in the smallest unit (10^-18 ROKO).
    #[serde(with = "json::decimal")]
    pub balance: U256,
    /// The next transaction's nonce.
    #[serde(with = "json::decimal")]
    pub nonce: u64,
    /// The block after which this holds.
    #[serde(with = "json::decimal")]
    pub at_height: Height,
}

/// The node's clock and the chain's tip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsensusTime {
    /// The best estimate of the chain's time.
    pub now: NanoMoment,
    /// The true time lies within this many nanoseconds of `now`.
    #[serde(with = "json::decimal")]
    pub error_bound_ns: u64,
    /// `now` less the bound.
    pub earliest: NanoMoment,
    /// `now` and the bound.
    pub latest: NanoMoment,
    /// Where the time comes from.
    pub source: ClockSource,
    /// Health of the clock.
    pub state: ClockState,
    /// True when the source leads back to a reference; a host's own system clock does not.
    pub traceable: bool,
    /// Height of the highest final block.
    #[serde(with = "json::decimal")]
    pub height: Height,
    /// Time of that block.
    pub last_block_time: NanoMoment,
}

impl ConsensusTime {
    /// From a clock reading and the highest final block.
    #[must_use]
    pub fn new(clock: ClockReading, height: Height, last_block_time: NanoMoment) -> Self {
        Self {
            now: clock.now,
            error_bound_ns: clock.error_bound_ns,
            earliest: clock.earliest(),
            latest: clock.latest(),
            source: clock.source,
            state: clock.state,
            traceable: clock.source != ClockSource::System,
            height,
            last_block_time,
        }
    }
}

/// What the mempool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MempoolStats {
    /// Transactions that wait for a block.
    pub pending: u32,
    /// Transactions drained into a block that is not final.
    pub in_flight: u32,
    /// Most transactions it holds.
    pub capacity: u32,
    /// Bytes of the transactions it holds.
    #[serde(with = "json::decimal")]
    pub bytes: u64,
    /// Bytes of memory it takes, indices and free space included.
    #[serde(with = "json::decimal")]
    pub memory_bytes: u64,
}

/// How many transactions were refused for one reason since the node started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Why.
    pub reason: RefusalReason,
    /// How many.
    #[serde(with = "json::decimal")]
    pub count: u64,
}

/// One ring between two stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RingStats {
    /// The ring's name in the node's topology.
    pub name: Cow<'static, str>,
    /// Items in it now.
    pub depth: u32,
    /// Most items it holds.
    pub capacity: u32,
    /// Items dropped because it was full, since the node started.
    #[serde(with = "json::decimal")]
    pub drops: u64,
}

/// Queues from end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStats {
    /// The mempool.
    pub mempool: MempoolStats,
    /// Refused transactions by reason; reasons that never occurred may be left out.
    pub refused: Vec<Refused>,
    /// The rings in packet order.
    pub rings: Vec<RingStats>,
    /// How far the watermark of the last block lies behind the node's clock, nanoseconds.
    #[serde(with = "json::decimal")]
    pub watermark_lag_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_selectors_read_every_form() {
        let id = BlockId([0xab; 32]);
        let cases = [
            ("\"latest\"".to_owned(), BlockSelector::Latest),
            ("\"final\"".to_owned(), BlockSelector::Final),
            ("12".to_owned(), BlockSelector::Height(Height(12))),
            ("\"18446744073709551615\"".to_owned(), BlockSelector::Height(Height(u64::MAX))),
            (format!("\"{id}\""), BlockSelector::Id(id)),
        ];
        for (text, selector) in cases {
            assert_eq!(serde_json::from_str::<BlockSelector>(&text).unwrap(), selector, "{text}");
            let written = serde_json::to_string(&selector).unwrap();
            assert_eq!(serde_json::from_str::<BlockSelector>(&written).unwrap(), selector);
        }
    }

    #[test]
    fn block_selectors_refuse_the_rest() {
        for text in [
            "\"\"",
            "\"newest\"",
            "-1",
            "1.5",
            "\"-1\"",
            "\"0x12\"",
            "null",
            "[]",
            "\"18446744073709551616\"",
        ] {
            assert!(serde_json::from_str::<BlockSelector>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_clock_is_shown_as_untraceable() {
        let reading = ClockReading {
            now: NanoMoment(1_000),
            error_bound_ns: 300,
            source: ClockSource::System,
            state: ClockState::Converged,
        };
        let time = ConsensusTime::new(reading, Height(1), NanoMoment(900));
        assert!(!time.traceable);
        assert_eq!((time.earliest, time.latest), (NanoMoment(700), NanoMoment(1_300)));
        let ptp = ConsensusTime::new(
            ClockReading { source: ClockSource::Ptp, ..reading },
            Height(1),
            NanoMoment(900),
        );
        assert!(ptp.traceable);
    }
}
