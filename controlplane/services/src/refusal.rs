//! Why a transaction is refused: one error with the figures, one counter's label, one JSON-RPC code per reason.

use roko_wire::{
    ChainId, Height, NanoMoment, TxId,
    rules::{FEE_ABSURD, TxRefusal},
};
use ruint::aliases::U256;
use serde::{Deserialize, Serialize};

use crate::json;

/// Lowest refusal code. -32000 to -32011 are the RPC server's own.
const CODE_FIRST: i32 = -32_020;
/// The code of a question for a block before the snapshot that a node began from.
pub const BEFORE_SNAPSHOT_CODE: i32 = -32_019;

/// What is said of a block that is not here because the node began from a snapshot; `None` when that is not the reason.
#[must_use]
pub fn before_snapshot(asked: Height, first: Height) -> Option<String> {
    (first.0 > 1 && asked < first).then(|| {
        format!("block {asked} is before this node's snapshot: the first block that it has is {first}")
    })
}

/// Defines [`RefusalReason`] from rows `Variant = offset from CODE_FIRST, "label"`.
macro_rules! reasons {
    ($($(#[$meta:meta])* $name:ident = $offset:literal, $label:literal;)*) => {
        /// Why a transaction was refused, without the figures: the label of a counter. Codes are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum RefusalReason {
            $($(#[$meta])* #[serde(rename = $label)] $name = $offset,)*
        }

        impl RefusalReason {
            /// Every reason, in the order of [`RefusalReason::index`].
            pub const ALL: &'static [RefusalReason] = &[$(RefusalReason::$name,)*];
            /// How many reasons there are: the length of an array of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// Place in an array of counters.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The `kind` of the JSON-RPC error and the label of the metric.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(RefusalReason::$name => $label,)* }
            }

            /// The JSON-RPC error code.
            #[must_use]
            pub const fn code(self) -> i32 {
                CODE_FIRST - self as i32
            }
        }
    };
}

reasons! {
    /// The bytes are no transaction.
    Malformed = 0, "malformed";
    /// The signature does not verify.
    BadSignature = 1, "bad_signature";
    /// The nonce was used.
    StaleNonce = 2, "stale_nonce";
    /// The nonce is too far ahead.
    NonceGap = 3, "nonce_gap";
    /// The validity window is over.
    Expired = 4, "expired";
    /// The validity window has not begun.
    NotYetValid = 5, "not_yet_valid";
    /// The validity window is longer than the chain allows, or ends before it begins.
    BadWindow = 6, "bad_window";
    /// The fee is below the base fee.
    FeeTooLow = 7, "fee_too_low";
    /// The fee is so high that it must be a mistake, or the priority fee is above it.
    FeeAbsurd = 8, "fee_absurd";
    /// The gas limit is below the intrinsic cost or above a block's.
    GasOutOfRange = 9, "gas_out_of_range";
    /// Signed for another chain.
    WrongChain = 10, "wrong_chain";
    /// The sender cannot pay.
    OverBalance = 11, "over_balance";
    /// The mempool is full of transactions that pay more.
    PoolFull = 12, "pool_full";
    /// Already known.
    Duplicate = 13, "duplicate";
    /// More bytes than a message holds.
    TooLarge = 14, "too_large";
    /// A kind of transaction that this chain does not run.
    Unsupported = 15, "unsupported";
    /// The submission ring is full for a moment.
    NodeBusy = 16, "node_busy";
    /// The node takes no transactions until an operator acts.
    NodeStopped = 17, "node_stopped";
    /// A legacy Ethereum transaction that names no chain (from before EIP-155).
    NoChainId = 18, "no_chain_id";
}

/// Why a submitted transaction was not taken, with the figures and what mends it. The message is the JSON-RPC
/// error's `message`; the fields are its `data`, tagged by `kind`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum SubmitError {
    /// The bytes are no transaction.
    #[error("the bytes are no transaction: {detail}; send the canonical layout and signature, whole")]
    Malformed {
        /// What does not parse, and where.
        detail: String,
    },
    /// The signature does not verify.
    #[error("the signature does not verify: sign this chain's domain, this chain id and exactly these bytes")]
    BadSignature,
    /// The nonce was used.
    #[error("nonce {have} is used: the sender's next nonce is {need}")]
    StaleNonce {
        /// The transaction's nonce.
        #[serde(with = "json::decimal")]
        have: u64,
        /// The sender's next nonce.
        #[serde(with = "json::decimal")]
        need: u64,
    },
    /// The nonce is too far ahead.
    #[error(
        "nonce {have} is more than {gap_max} ahead of the sender's next nonce {need}: send the ones between first"
    )]
    NonceGap {
        /// The transaction's nonce.
        #[serde(with = "json::decimal")]
        have: u64,
        /// The sender's next nonce.
        #[serde(with = "json::decimal")]
        need: u64,
        /// How far ahead a nonce may be.
        #[serde(with = "json::decimal")]
        gap_max: u64,
    },
    /// The validity window is over.
    #[error(
        "the validity window ends at {valid_until} and it is {now} here, the clock's error bound counted against the sender: sign again with a later valid_until"
    )]
    Expired {
        /// End of the window.
        valid_until: NanoMoment,
        /// The stamp's time, without its error bound.
        now: NanoMoment,
    },
    /// The validity window has not begun.
    #[error(
        "the validity window starts at {valid_from} and it is {now} here, the clock's error bound counted against the sender: send it when the window is open"
    )]
    NotYetValid {
        /// Start of the window.
        valid_from: NanoMoment,
        /// The stamp's time, without its error bound.
        now: NanoMoment,
    },
    /// The validity window is longer than the chain allows, or ends before it begins.
    #[error(
        "the validity window is {window_ns} ns long (0: it ends before it begins): bring valid_until to at most {window_ns_max} ns past valid_from"
    )]
    BadWindow {
        /// Length of the window; 0 when it ends before it begins.
        #[serde(with = "json::decimal")]
        window_ns: u64,
        /// Longest window, from genesis.
        #[serde(with = "json::decimal")]
        window_ns_max: u64,
    },
    /// The fee is below the base fee.
    #[error("the fee of {offered} a gas is below the base fee of {base_fee}: raise max_fee")]
    FeeTooLow {
        /// The transaction's max_fee.
        #[serde(with = "json::decimal")]
        offered: u128,
        /// What the next block asks.
        #[serde(with = "json::decimal")]
        base_fee: u128,
    },
    /// The fee is so high that it must be a mistake, or the priority fee is above it.
    #[error(
        "max_fee {max_fee} with max_priority_fee {max_priority_fee} must be a slip: at most {fee_max} a gas, and the priority fee at most max_fee"
    )]
    FeeAbsurd {
        /// The transaction's max_fee.
        #[serde(with = "json::decimal")]
        max_fee: u128,
        /// The transaction's max_priority_fee.
        #[serde(with = "json::decimal")]
        max_priority_fee: u128,
        /// The limit.
        #[serde(with = "json::decimal")]
        fee_max: u128,
    },
    /// The gas limit is below the intrinsic cost or above a block's.
    #[error(
        "the gas limit of {offered} is outside {gas_min} (what these bytes cost) to {gas_max} (a block's limit)"
    )]
    GasOutOfRange {
        /// The transaction's gas_limit.
        #[serde(with = "json::decimal")]
        offered: u64,
        /// What the transaction costs before any code runs.
        #[serde(with = "json::decimal")]
        gas_min: u64,
        /// A block's gas limit.
        #[serde(with = "json::decimal")]
        gas_max: u64,
    },
    /// Signed for another chain.
    #[error(
        "signed for chain {have}, this is chain {want}: sign with chain_id {want}, or send it to a node of {have}"
    )]
    WrongChain {
        /// The transaction's chain.
        #[serde(with = "json::decimal")]
        have: ChainId,
        /// This node's chain.
        #[serde(with = "json::decimal")]
        want: ChainId,
    },
    /// The sender cannot pay.
    #[error(
        "it may cost {cost} and the sender has {balance} left beside its pending transactions: lower the value or the fee"
    )]
    OverBalance {
        /// Value and the most it can pay for gas.
        #[serde(with = "json::decimal")]
        cost: U256,
        /// The sender's balance less what its pending transactions may cost.
        #[serde(with = "json::decimal")]
        balance: U256,
    },
    /// The mempool is full of transactions that pay more.
    #[error(
        "the mempool holds {capacity} transactions that pay as much or more: raise max_priority_fee or send it later"
    )]
    PoolFull {
        /// Most transactions it holds.
        capacity: u32,
    },
    /// Already known.
    #[error("transaction {id} is known already: ask temporal_getTransaction what became of it")]
    Duplicate {
        /// Its id.
        id: TxId,
    },
    /// More bytes than a message holds.
    #[error(
        "{bytes} bytes are more than the {bytes_max} of a transaction: shorten the input or the access list"
    )]
    TooLarge {
        /// Its size.
        #[serde(with = "json::decimal")]
        bytes: u64,
        /// Largest size.
        #[serde(with = "json::decimal")]
        bytes_max: u64,
    },
    /// A kind of transaction that this chain does not run.
    #[error("this chain does not run {what}")]
    Unsupported {
        /// What it is, in words.
        what: String,
    },
    /// The submission ring is full for a moment.
    #[error(
        "the node is busy (its submission ring is full): send it again in a few milliseconds, or to another node"
    )]
    NodeBusy,
    /// The node takes no transactions until an operator acts.
    #[error("the node takes no transactions: {detail}; send it to another node")]
    NodeStopped {
        /// Why, and what the operator has to do.
        detail: String,
    },
    /// A legacy Ethereum transaction that names no chain (from before EIP-155).
    #[error(
        "the transaction names no chain, so that it is valid on every one: sign it with this chain's id (EIP-155)"
    )]
    NoChainId,
}

impl SubmitError {
    /// The reason without the figures.
    #[must_use]
    pub const fn reason(&self) -> RefusalReason {
        match self {
            SubmitError::Malformed { .. } => RefusalReason::Malformed,
            SubmitError::BadSignature => RefusalReason::BadSignature,
            SubmitError::StaleNonce { .. } => RefusalReason::StaleNonce,
            SubmitError::NonceGap { .. } => RefusalReason::NonceGap,
            SubmitError::Expired { .. } => RefusalReason::Expired,
            SubmitError::NotYetValid { .. } => RefusalReason::NotYetValid,
            SubmitError::BadWindow { .. } => RefusalReason::BadWindow,
            SubmitError::FeeTooLow { .. } => RefusalReason::FeeTooLow,
            SubmitError::FeeAbsurd { .. } => RefusalReason::FeeAbsurd,
            SubmitError::GasOutOfRange { .. } => RefusalReason::GasOutOfRange,
            SubmitError::WrongChain { .. } => RefusalReason::WrongChain,
            SubmitError::OverBalance { .. } => RefusalReason::OverBalance,
            SubmitError::PoolFull { .. } => RefusalReason::PoolFull,
            SubmitError::Duplicate { .. } => RefusalReason::Duplicate,
            SubmitError::TooLarge { .. } => RefusalReason::TooLarge,
            SubmitError::Unsupported { .. } => RefusalReason::Unsupported,
            SubmitError::NodeBusy => RefusalReason::NodeBusy,
            SubmitError::NodeStopped { .. } => RefusalReason::NodeStopped,
            SubmitError::NoChainId => RefusalReason::NoChainId,
        }
    }

    /// The JSON-RPC error code.
    #[must_use]
    pub const fn code(&self) -> i32 {
        self.reason().code()
    }
}

impl From<TxRefusal> for SubmitError {
    fn from(refusal: TxRefusal) -> Self {
        match refusal {
            TxRefusal::WrongChain { have, want } => SubmitError::WrongChain { have, want },
            TxRefusal::NoChainId => SubmitError::NoChainId,
            TxRefusal::Expired { valid_until, time } => SubmitError::Expired { valid_until, now: time },
            TxRefusal::NotYetValid { valid_from, time } => SubmitError::NotYetValid { valid_from, now: time },
            TxRefusal::BadWindow { window_ns, window_ns_max } => {
                SubmitError::BadWindow { window_ns, window_ns_max }
            }
            TxRefusal::FeeAbsurd { max_fee, max_priority_fee } => {
                SubmitError::FeeAbsurd { max_fee, max_priority_fee, fee_max: FEE_ABSURD }
            }
            TxRefusal::BadGas { gas_limit, intrinsic, gas_max } => {
                SubmitError::GasOutOfRange { offered: gas_limit, gas_min: intrinsic, gas_max }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_an_array_and_codes_stay_in_the_server_range() {
        for (index, reason) in RefusalReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!((-32_099..=-32_012).contains(&reason.code()), "{reason:?}");
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.label());
        }
    }

    #[test]
    fn published_codes_do_not_move() {
        assert_eq!(SubmitError::BadSignature.code(), -32_021);
        assert_eq!(SubmitError::StaleNonce { have: 1, need: 2 }.code(), -32_022);
        assert_eq!(SubmitError::NodeBusy.code(), -32_036);
        assert_eq!(SubmitError::NodeStopped { detail: String::new() }.code(), -32_037);
    }
}
