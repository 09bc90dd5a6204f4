//! The rules a transaction meets before any account is read: one function for the data plane, the RPC and block
//! validation, so that they cannot disagree.

use crate::ids::{Address, ChainId};
use crate::nano::NanoMoment;
use crate::stamp::Stamp;
use crate::tx::NativeTx;
use ruint::aliases::U256;

/// Gas of a transfer.
pub const TRANSFER_GAS: u64 = 21_000;
/// Highest fee per gas that anyone can mean: 1 ROKO per gas makes a transfer cost 21,000 ROKO.
pub const FEE_ABSURD: u128 = 1_000_000_000_000_000_000;

/// The chain's settings that these rules need, from genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxRules {
    /// The chain.
    pub chain_id: ChainId,
    /// How long `valid_from..=valid_until` may be, nanoseconds.
    pub window_ns_max: u64,
    /// Most gas of one transaction.
    pub gas_max: u64,
}

/// The moments that a native transaction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First moment at which it may be stamped.
    pub from: NanoMoment,
    /// Last moment at which it may be stamped or executed.
    pub until: NanoMoment,
}

/// What the rules, the pool and the ledger see of a transaction, whoever signed it in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The chain it is for; `None` for an Ethereum transaction from before EIP-155.
    pub chain_id: Option<ChainId>,
    /// The sender's count of executed transactions.
    pub nonce: u64,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Gas charged before anything runs.
    pub intrinsic_gas: u64,
    /// Most it pays per gas, base fee included.
    pub max_fee: u128,
    /// Most of that which goes to the proposer.
    pub max_priority_fee: u128,
    /// When it is valid; `None` for an Ethereum transaction, which does not say: see [`TxRules::valid_until`].
    pub window: Option<Window>,
    /// What it transfers.
    pub value: U256,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
}

impl Terms {
    /// The most it can cost its sender: value plus gas at the highest fee. `None` when it is over 2^256.
    #[must_use]
    pub fn cost_max(&self) -> Option<U256> {
        U256::from(self.max_fee).checked_mul(U256::from(self.gas_limit))?.checked_add(self.value)
    }
}

/// Why a transaction is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxRefusal {
    /// For another chain.
    #[error("the transaction is for chain {have}; this chain is {want}: sign it again for chain {want}")]
    WrongChain {
        /// The transaction's chain.
        have: ChainId,
        /// This chain.
        want: ChainId,
    },
    /// For every chain: a legacy Ethereum transaction from before EIP-155.
    #[error(
        "the transaction names no chain, so that it is valid on every one: sign it again with a chain id (EIP-155)"
    )]
    NoChainId,
    /// Its window is over.
    #[error(
        "valid_until {valid_until} is before the stamp {time} plus its bound: sign it again with a later window"
    )]
    Expired {
        /// End of the window.
        valid_until: NanoMoment,
        /// The stamp.
        time: NanoMoment,
    },
    /// Its window has not begun.
    #[error(
        "valid_from {valid_from} is after the stamp {time} less its bound: send it again when the window opens"
    )]
    NotYetValid {
        /// Begin of the window.
        valid_from: NanoMoment,
        /// The stamp.
        time: NanoMoment,
    },
    /// Its window is longer than the chain allows, or reversed.
    #[error(
        "the window of {window_ns} ns is longer than the {window_ns_max} ns that genesis allows, or ends before it begins"
    )]
    BadWindow {
        /// The window's length; 0 when reversed.
        window_ns: u64,
        /// The limit.
        window_ns_max: u64,
    },
    /// A fee that nobody can mean, or a priority fee above the maximum fee.
    #[error(
        "max_fee {max_fee} with max_priority_fee {max_priority_fee} is absurd: at most {FEE_ABSURD} per gas, and the priority fee at most max_fee"
    )]
    FeeAbsurd {
        /// Offered maximum.
        max_fee: u128,
        /// Offered priority fee.
        max_priority_fee: u128,
    },
    /// Gas below what the bytes alone cost, or above the limit.
    #[error("gas_limit {gas_limit} is not between the intrinsic {intrinsic} and the maximum {gas_max}")]
    BadGas {
        /// Offered.
        gas_limit: u64,
        /// What the transaction costs before it runs.
        intrinsic: u64,
        /// The chain's limit.
        gas_max: u64,
    },
}

impl TxRules {
    /// Checks everything that needs neither the signature nor an account. The stamp's error bound counts against the
    /// sender on both sides of the window.
    pub fn check(&self, terms: &Terms, stamp: &Stamp) -> Result<(), TxRefusal> {
        let have = terms.chain_id.ok_or(TxRefusal::NoChainId)?;
        if have != self.chain_id {
            return Err(TxRefusal::WrongChain { have, want: self.chain_id });
        }
        if let Some(window) = terms.window {
            let window_ns = window.until.nanos_since(window.from);
            if window_ns > self.window_ns_max || window.until < window.from {
                return Err(TxRefusal::BadWindow { window_ns, window_ns_max: self.window_ns_max });
            }
        }
        let valid_until = self.valid_until(terms, stamp.time);
        if stamp.time.saturating_add(stamp.bound_ns) > valid_until {
            return Err(TxRefusal::Expired { valid_until, time: stamp.time });
        }
        if let Some(Window { from, .. }) = terms.window
            && stamp.time.saturating_sub(stamp.bound_ns) < from
        {
            return Err(TxRefusal::NotYetValid { valid_from: from, time: stamp.time });
        }
        let Terms { max_fee, max_priority_fee, gas_limit, intrinsic_gas: intrinsic, .. } = *terms;
        if max_fee > FEE_ABSURD || max_priority_fee > max_fee {
            return Err(TxRefusal::FeeAbsurd { max_fee, max_priority_fee });
        }
        if gas_limit < intrinsic || gas_limit > self.gas_max {
            return Err(TxRefusal::BadGas { gas_limit, intrinsic, gas_max: self.gas_max });
        }
        Ok(())
    }

    /// Last moment that a transaction stamped at `time` may have. One that names no window has the longest that genesis
    /// allows, counted from its stamp.
    #[must_use]
    pub fn valid_until(&self, terms: &Terms, time: NanoMoment) -> NanoMoment {
        terms.window.map_or(time.saturating_add(self.window_ns_max), |window| window.until)
    }
}

/// Gas that a native transaction is charged before anything runs; see [`intrinsic`].
#[must_use]
pub fn intrinsic_gas(tx: &NativeTx<'_>) -> u64 {
    intrinsic(tx.input, tx.to.is_none(), tx.access_items, tx.access_keys)
}

/// Gas charged before anything runs: Ethereum's schedule (EIP-2028 call data, EIP-2930 access lists, 32,000 for a
/// creation).
#[must_use]
pub fn intrinsic(input: &[u8], creates: bool, access_items: u16, access_keys: u32) -> u64 {
    let data: u64 = input.iter().map(|byte| if *byte == 0 { 4 } else { 16 }).sum();
    let creation = if creates { 32_000 } else { 0 };
    TRANSFER_GAS + creation + data + 2_400 * u64::from(access_items) + 1_900 * u64::from(access_keys)
}
