//! Genesis: one JSON file that every node of a chain shares. Its hash is what peers compare.

use crate::codec::Sink;
use crate::ids::{Address, BlockId, ChainId, Hash32, ValidatorIndex};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX, VALIDATORS_MAX};
use crate::nano::NanoMoment;
use crate::rules::TxRules;
use crate::vote::{BLS_PUBLIC_KEY_BYTES, BLS_SIGNATURE_BYTES};
use core::net::IpAddr;
use ruint::aliases::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Least stake of a validator, whole ROKO.
pub const STAKE_MIN_ROKO: u64 = 32_000;

/// How a chain's quorums are chosen; see the consensus crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// One third may be Byzantine; fast commits need everybody.
    Classic,
    /// 28 % may be Byzantine; fast commits need about 92 %.
    Balanced,
    /// 20 % may be Byzantine; fast commits need 80 %.
    Fast,
}

/// Defines a fixed-size byte string that is hexadecimal in JSON.
macro_rules! hex_bytes {
    ($(#[$meta:meta])* $name:ident, $len:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub struct $name(pub [u8; $len]);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&hex::encode(self.0))
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                let mut bytes = [0; $len];
                hex::decode_to_slice(text.as_ref(), &mut bytes).map_err(|_| {
                    serde::de::Error::custom(format!("\"{text}\" is not {} bytes in hexadecimal", $len))
                })?;
                Ok($name(bytes))
            }
        }
    };
}

hex_bytes!(
    /// A compressed BLS12-381 public key in G1.
    BlsPublicKey,
    BLS_PUBLIC_KEY_BYTES
);
hex_bytes!(
    /// A proof that the registrant holds the BLS secret key.
    ProofOfPossession,
    BLS_SIGNATURE_BYTES
);
hex_bytes!(
    /// An ed25519 public key.
    NodeKey,
    32
);

/// Where a node's data plane is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// IPv4 or IPv6 address.
    pub ip: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// A validator of the first epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// BLS key for votes.
    pub bls_key: BlsPublicKey,
    /// Its proof of possession.
    pub bls_proof: ProofOfPossession,
    /// ed25519 key for stamps, proposals and sessions.
    pub node_key: NodeKey,
    /// Where its stake is paid out.
    pub withdrawal: Address,
    /// Stake in whole ROKO.
    pub stake_roko: u64,
    /// Hash of a long-lived ML-DSA identity key; zero until one is registered.
    #[serde(default)]
    pub ml_dsa_key_hash: Hash32,
    /// Where its data plane is reached.
    pub endpoint: Endpoint,
}

/// An account that exists at height 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisBalance {
    /// The account.
    pub address: Address,
    /// Its balance in the smallest unit, a decimal string.
    #[serde(with = "decimal")]
    pub balance: U256,
}

/// U256 as a decimal string.
mod decimal {
    use super::{Deserialize, Deserializer, Serializer, U256};

    pub(super) fn serialize<S: Serializer>(value: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        // The parser skips underscores and takes no digits at all for zero: a balance is digits only.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        U256::from_str_radix(&text, 10).ok().filter(|_| digits).ok_or_else(|| {
            serde::de::Error::custom(format!("\"{text}\" is not a decimal number below 2^256"))
        })
    }
}

/// Limits and intervals that may differ between chains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisLimits {
    /// Bound on dissemination, validation and sync together, milliseconds; timeouts are multiples of it.
    pub delta_ms: u32,
    /// Shortest time between two blocks, milliseconds.
    pub min_block_interval_ms: u32,
    /// Time after which an idle chain makes an empty block, milliseconds.
    pub empty_block_interval_ms: u32,
    /// Blocks in an epoch.
    pub epoch_blocks: u64,
    /// Most bytes of a block's body.
    pub block_bytes_max: u32,
    /// Most transactions of a block.
    pub block_txs_max: u32,
    /// Most gas of a block.
    pub block_gas_limit: u64,
    /// Base fee of the first block, smallest unit per gas.
    pub base_fee_initial: u64,
    /// Longest validity window, seconds.
    pub window_s_max: u32,
    /// How far behind the proposer's clock a block's watermark lies, microseconds: time for stamps to spread.
    pub watermark_lag_us: u32,
    /// Precision of the validators' clocks, milliseconds: how far in the future a block's time may lie.
    pub precision_ms: u32,
    /// Longest delay of a timely proposal, milliseconds.
    pub message_delay_ms: u32,
    /// Above this error bound a clock is degraded and its node does not propose, microseconds.
    pub clock_error_bound_us_max: u32,
    /// Most implausible stamps in a block, per thousand of those seen first-hand.
    pub implausible_stamps_permille_max: u32,
}

impl Default for GenesisLimits {
    fn default() -> Self {
        GenesisLimits {
            delta_ms: 100,
            min_block_interval_ms: 10,
            empty_block_interval_ms: 1_000,
            epoch_blocks: 86_400,
            block_bytes_max: BLOCK_BYTES_MAX as u32,
            block_txs_max: BLOCK_TXS_MAX as u32,
            block_gas_limit: BLOCK_TXS_MAX as u64 * 42_000,
            base_fee_initial: 1_000_000_000,
            window_s_max: 86_400,
            watermark_lag_us: 3_000,
            precision_ms: 50,
            message_delay_ms: 500,
            clock_error_bound_us_max: 100_000,
            implausible_stamps_permille_max: 50,
        }
    }
}

/// A chain's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The chain.
    pub chain_id: ChainId,
    /// Height 0's time and first watermark.
    pub time: NanoMoment,
    /// TAI less the chain's timescale, seconds.
    pub tai_offset_s: i32,
    /// How quorums are chosen.
    pub preset: Preset,
    /// Seed of the first epoch's leader schedule and tie-breaks.
    pub seed: Hash32,
    /// Validators of the first epoch, in index order.
    pub validators: Vec<GenesisValidator>,
    /// Accounts at height 0.
    pub balances: Vec<GenesisBalance>,
    /// Limits and intervals.
    pub limits: GenesisLimits,
}

/// What is wrong with a genesis file. All problems are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisProblem {
    /// Not JSON of this shape.
    #[error("{0}")]
    Shape(String),
    /// Too few or too many validators.
    #[error("validators: {0} are given; a chain has 1 to {VALIDATORS_MAX}")]
    ValidatorCount(usize),
    /// Stake below the minimum.
    #[error("validators[{0}].stake_roko: {1} is below the minimum of {STAKE_MIN_ROKO}")]
    Stake(usize, u64),
    /// A key or an endpoint that another validator has too.
    #[error("validators[{0}].{1}: the same as validators[{2}]'s: every validator needs its own")]
    Shared(usize, &'static str, usize),
    /// An IPv4 address in its IPv6 form.
    #[error("validators[{0}].endpoint.ip: {1} is an IPv4 address in IPv6 form: write it as {2}")]
    MappedAddress(usize, IpAddr, IpAddr),
    /// A limit outside its range.
    #[error("limits.{0}: {1} is not in {2}..={3}")]
    Limit(&'static str, u64, u64, u64),
    /// Two balances of one account.
    #[error("balances: {0} appears twice: give each account one entry")]
    TwiceGiven(Address),
    /// The balances together are over 2^256.
    #[error("balances: their sum is over 2^256")]
    SumOverflow,
}

impl Genesis {
    /// Reads a genesis file and checks it; every problem is reported.
    pub fn parse(text: &str) -> Result<Genesis, Vec<GenesisProblem>> {
        let genesis: Genesis =
            serde_json::from_str(text).map_err(|error| vec![GenesisProblem::Shape(error.to_string())])?;
        let problems = genesis.problems();
        if problems.is_empty() { Ok(genesis) } else { Err(problems) }
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a genesis has no map with keys that are not text")
    }

    /// Everything wrong with it, in the file's order; signatures (proofs of possession) are checked by the consensus crate.
    #[must_use]
    pub fn problems(&self) -> Vec<GenesisProblem> {
        let mut out = Vec::new();
        if self.validators.is_empty() || self.validators.len() > VALIDATORS_MAX {
            out.push(GenesisProblem::ValidatorCount(self.validators.len()));
        }
        for (index, validator) in self.validators.iter().enumerate() {
            if validator.stake_roko < STAKE_MIN_ROKO {
                out.push(GenesisProblem::Stake(index, validator.stake_roko));
            }
            // The canonical layout holds an IPv4 address in its IPv6 form: two files would share one hash.
            let (ip, plain) = (validator.endpoint.ip, validator.endpoint.ip.to_canonical());
            out.extend((ip != plain).then_some(GenesisProblem::MappedAddress(index, ip, plain)));
            for (other, before) in self.validators[..index].iter().enumerate() {
                let shared = |name| GenesisProblem::Shared(index, name, other);
                out.extend((before.bls_key == validator.bls_key).then(|| shared("bls_key")));
                out.extend((before.node_key == validator.node_key).then(|| shared("node_key")));
                out.extend((before.endpoint == validator.endpoint).then(|| shared("endpoint")));
            }
        }
        let mut seen = std::collections::HashSet::new();
        out.extend(
            self.balances
                .iter()
                .filter(|b| !seen.insert(b.address))
                .map(|b| GenesisProblem::TwiceGiven(b.address)),
        );
        if self.supply().is_none() {
            out.push(GenesisProblem::SumOverflow);
        }
        out.extend(self.limits.problems());
        out
    }

    /// The sum of all balances; `None` over 2^256.
    #[must_use]
    pub fn supply(&self) -> Option<U256> {
        self.balances.iter().try_fold(U256::ZERO, |sum, account| sum.checked_add(account.balance))
    }

    /// The chain's identity: SHA-256 over the canonical layout of every field.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        let mut out = Sha256::new();
        out.put(b"roko/genesis/1");
        out.put_u64(self.chain_id.0);
        out.put_u128(self.time.0);
        out.put_u32(self.tai_offset_s as u32);
        out.put_u8(self.preset as u8);
        out.put(&self.seed.0);
        out.put_u16(self.validators.len() as u16);
        for validator in &self.validators {
            validator.write(&mut out);
        }
        out.put_u64(self.balances.len() as u64);
        for account in &self.balances {
            out.put(&account.address.0);
            out.put(&account.balance.to_le_bytes::<32>());
        }
        self.limits.write(&mut out);
        Hash32(out.finalize().into())
    }

    /// The id of the block at height 0, which has no header: the chain's identity under its own domain.
    #[must_use]
    pub fn block_id(&self) -> BlockId {
        let mut out = Sha256::new();
        out.put(b"roko/genesis-block/1");
        out.put(&self.hash().0);
        BlockId(out.finalize().into())
    }

    /// The index of the validator with this node key.
    #[must_use]
    pub fn index_of(&self, node_key: &NodeKey) -> Option<ValidatorIndex> {
        let at = self.validators.iter().position(|validator| validator.node_key == *node_key)?;
        Some(ValidatorIndex(at as u16))
    }

    /// The transaction rules of this chain.
    #[must_use]
    pub fn tx_rules(&self) -> TxRules {
        TxRules {
            chain_id: self.chain_id,
            window_ns_max: u64::from(self.limits.window_s_max) * 1_000_000_000,
            gas_max: self.limits.block_gas_limit,
        }
    }
}

impl GenesisValidator {
    /// Appends the canonical layout: keys, proof, withdrawal account, stake, ML-DSA hash, endpoint.
    pub fn write(&self, out: &mut impl Sink) {
        out.put(&self.bls_key.0);
        out.put(&self.bls_proof.0);
        out.put(&self.node_key.0);
        out.put(&self.withdrawal.0);
        out.put_u64(self.stake_roko);
        out.put(&self.ml_dsa_key_hash.0);
        let ip = match self.endpoint.ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        out.put(&ip.octets());
        out.put_u16(self.endpoint.port);
    }
}

impl GenesisLimits {
    /// Every field with its range; the canonical layout is their values in this order, 64 bits each.
    fn fields(&self) -> [(&'static str, u64, u64, u64); 14] {
        [
            ("delta_ms", self.delta_ms.into(), 5, 60_000),
            ("min_block_interval_ms", self.min_block_interval_ms.into(), 1, 60_000),
            ("empty_block_interval_ms", self.empty_block_interval_ms.into(), 1, 3_600_000),
            ("epoch_blocks", self.epoch_blocks, 8, u64::MAX),
            ("block_bytes_max", self.block_bytes_max.into(), 4_096, BLOCK_BYTES_MAX as u64),
            ("block_txs_max", self.block_txs_max.into(), 1, BLOCK_TXS_MAX as u64),
            ("block_gas_limit", self.block_gas_limit, 21_000, u64::MAX / 1_024),
            ("base_fee_initial", self.base_fee_initial, 7, u64::MAX),
            ("window_s_max", self.window_s_max.into(), 1, 31_536_000),
            ("watermark_lag_us", self.watermark_lag_us.into(), 0, 60_000_000),
            ("precision_ms", self.precision_ms.into(), 0, 60_000),
            ("message_delay_ms", self.message_delay_ms.into(), 1, 600_000),
            ("clock_error_bound_us_max", self.clock_error_bound_us_max.into(), 1, 60_000_000),
            ("implausible_stamps_permille_max", self.implausible_stamps_permille_max.into(), 0, 1_000),
        ]
    }

    fn problems(&self) -> impl Iterator<Item = GenesisProblem> {
        self.fields()
            .into_iter()
            .filter(|(_, value, least, most)| value < least || value > most)
            .map(|(name, value, least, most)| GenesisProblem::Limit(name, value, least, most))
    }

    fn write(&self, out: &mut impl Sink) {
        self.fields().iter().for_each(|(_, value, ..)| out.put_u64(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(ip: &str) -> Genesis {
        let validator = GenesisValidator {
            bls_key: BlsPublicKey([1; 48]),
            bls_proof: ProofOfPossession([2; 96]),
            node_key: NodeKey([3; 32]),
            withdrawal: Address([4; 20]),
            stake_roko: STAKE_MIN_ROKO,
            ml_dsa_key_hash: Hash32::ZERO,
            endpoint: Endpoint { ip: ip.parse().expect("an address"), port: 9_000 },
        };
        Genesis {
            chain_id: ChainId(7),
            time: NanoMoment(1),
            tai_offset_s: 37,
            preset: Preset::Balanced,
            seed: Hash32::ZERO,
            validators: vec![validator],
            balances: vec![GenesisBalance { address: Address([5; 20]), balance: U256::from(1_000) }],
            limits: GenesisLimits::default(),
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_gave_two_files_one_hash() {
        let (plain, mapped) = (genesis("10.0.0.1"), genesis("::ffff:10.0.0.1"));
        assert_eq!(plain.hash(), mapped.hash());
        assert_eq!(plain.problems(), []);
        let (have, want) = (mapped.validators[0].endpoint.ip, plain.validators[0].endpoint.ip);
        assert_eq!(mapped.problems(), [GenesisProblem::MappedAddress(0, have, want)]);
    }

    #[test]
    fn a_balance_without_digits_was_zero() {
        let text = genesis("10.0.0.1").to_json();
        assert_eq!(Genesis::parse(&text), Ok(genesis("10.0.0.1")));
        for balance in ["", "1_000", "_", "+5", "-5", "0x10", " 1"] {
            let edited = text.replace("\"1000\"", &format!("\"{balance}\""));
            assert_ne!(edited, text);
            let problems = Genesis::parse(&edited).expect_err(balance);
            assert!(matches!(&problems[..], [GenesisProblem::Shape(_)]), "{balance:?}: {problems:?}");
        }
    }
}
