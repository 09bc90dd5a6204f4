//! What every part of a node knows of its chain and never changes while it runs.

use ed25519_zebra::{SigningKey, VerificationKey};
use roko_consensus::set::{SetError, Validator, ValidatorSet};
use roko_consensus::timeliness::TimeWindow;
use roko_consensus::{PublicKey, Quorums, bls};
use roko_execution::BlockRules;
use roko_wire::genesis::{Genesis, Preset};
use roko_wire::vote::SigningDomain;
use roko_wire::{Account, Address, BlockId, Epoch, Hash32, ValidatorIndex};
use std::sync::Arc;

/// The chain, from its genesis.
pub struct Chain {
    /// The genesis file's content.
    pub genesis: Genesis,
    /// Its hash: what peers compare.
    pub genesis_hash: Hash32,
    /// The id of height 0.
    pub genesis_block: BlockId,
    /// Chain and epoch of every consensus signature.
    pub domain: SigningDomain,
    /// The epoch's validators.
    pub set: Arc<ValidatorSet>,
    /// Their thresholds.
    pub quorums: Quorums,
    /// Their node keys, in index order.
    pub node_keys: Vec<VerificationKey>,
    /// Rules of a block.
    pub rules: BlockRules,
    /// Which proposals are timely.
    pub window: TimeWindow,
    /// How far behind the proposer's clock a watermark lies, nanoseconds.
    pub watermark_lag_ns: u64,
}

/// A genesis whose keys or stakes make no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A validator's BLS key or its proof.
    #[error("validators[{index}].{field}: {why}: make the validator's keys again with `roko keys new`")]
    Key {
        /// The validator.
        index: usize,
        /// The field.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The validators make no set.
    #[error("validators: {0}")]
    Set(#[from] SetError),
    /// The preset cannot work with these stakes.
    #[error("preset: {0}")]
    Quorums(#[from] roko_consensus::quorum::QuorumError),
}

impl Chain {
    /// Checks the keys of a genesis and derives what follows from it.
    pub fn new(genesis: Genesis) -> Result<Chain, ChainError> {
        let mut validators = Vec::new();
        let mut node_keys = Vec::new();
        for (index, validator) in genesis.validators.iter().enumerate() {
            let bad = |field, why: String| ChainError::Key { index, field, why };
            let public_key = PublicKey::from_bytes(&validator.bls_key.0)
                .map_err(|error| bad("bls_key", error.to_string()))?;
            bls::verify_possession(&public_key, &validator.bls_proof.0)
                .map_err(|error| bad("bls_proof", error.to_string()))?;
            let node_key = VerificationKey::try_from(validator.node_key.0)
                .map_err(|error| bad("node_key", error.to_string()))?;
            validators.push(Validator { public_key, stake: validator.stake_roko });
            node_keys.push(node_key);
        }
        let set = ValidatorSet::new(validators)?;
        let quorums = Quorums::for_stakes(preset(genesis.preset), &set.stakes())?;
        let limits = &genesis.limits;
        Ok(Chain {
            genesis_hash: genesis.hash(),
            genesis_block: genesis.block_id(),
            domain: SigningDomain { chain_id: genesis.chain_id, epoch: Epoch(0) },
            set: Arc::new(set),
            quorums,
            node_keys,
            rules: BlockRules::of(&genesis),
            window: TimeWindow {
                delay_ns: u64::from(limits.message_delay_ms) * 1_000_000,
                precision_ns: u64::from(limits.precision_ms) * 1_000_000,
            },
            watermark_lag_ns: u64::from(limits.watermark_lag_us) * 1_000,
            genesis,
        })
    }

    /// The accounts of height 0.
    #[must_use]
    pub fn genesis_accounts(&self) -> Vec<(Address, Account)> {
        let account = |balance| Account { balance, ..Account::default() };
        self.genesis.balances.iter().map(|given| (given.address, account(given.balance))).collect()
    }

    /// Where a proposer's tips go.
    #[must_use]
    pub fn tips_to(&self, proposer: ValidatorIndex) -> Address {
        self.genesis.validators.get(proposer.as_usize()).map_or(Address::ZERO, |v| v.withdrawal)
    }

    /// Nanoseconds of a limit in milliseconds.
    #[must_use]
    pub fn millis(ms: u32) -> u64 {
        u64::from(ms) * 1_000_000
    }
}

/// The consensus crate's preset of genesis' name for it.
#[must_use]
pub fn preset(preset: Preset) -> roko_consensus::Preset {
    match preset {
        Preset::Classic => roko_consensus::Preset::Classic,
        Preset::Balanced => roko_consensus::Preset::Balanced,
        Preset::Fast => roko_consensus::Preset::Fast,
    }
}

/// What makes this node a validator.
pub struct Own {
    /// Its place in the set.
    pub index: ValidatorIndex,
    /// Its node key.
    pub node_key: SigningKey,
}
