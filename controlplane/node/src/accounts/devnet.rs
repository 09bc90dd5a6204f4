//! A chain whose every key follows from one seed: what the devnet, the load generator and tests start from.
//!
//! Whoever knows the seed holds every key, so such a chain carries nothing of value.

use super::{AccountKey, AccountsError, Scheme, parse_roko};
use core::net::{IpAddr, Ipv4Addr};
use roko_consensus::bls::SecretKey;
use roko_peers::NodeIdentity;
use roko_wire::genesis::{
    BlsPublicKey, Endpoint, Genesis, GenesisBalance, GenesisLimits, GenesisValidator, Preset,
    ProofOfPossession, STAKE_MIN_ROKO,
};
use roko_wire::{ChainId, Hash32, NanoMoment};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Chain of a devnet that names no other.
pub const DEVNET_CHAIN_ID: ChainId = ChainId(7_700);
/// Seed of a devnet that names no other. It is no secret: a devnet guards nothing.
pub const DEVNET_SEED: &str = "roko devnet";
/// UDP port of every devnet validator; each has its own address.
pub const DEVNET_PORT: u16 = 7_700;
/// What each account of a devnet has at height 0, whole ROKO.
pub const DEVNET_ACCOUNT_ROKO: u64 = 1_000_000;
/// TAI less UTC since 2017, seconds.
const TAI_OFFSET_S: i32 = 37;

/// A chain's genesis with every secret key of it.
pub struct DevnetGenesis {
    /// The genesis file's content.
    pub genesis: Genesis,
    /// The validators' node keys, in index order.
    pub node_identities: Vec<NodeIdentity>,
    /// The validators' voting keys, in index order.
    pub bls_keys: Vec<SecretKey>,
    /// The accounts that the validators' stake is paid out to, in index order.
    pub withdrawals: Vec<AccountKey>,
    /// Accounts with [`DEVNET_ACCOUNT_ROKO`] each.
    pub accounts: Vec<AccountKey>,
}

/// The address of a devnet's validator: 10.77.0.1 for the first.
#[must_use]
pub fn devnet_ip(index: u16) -> IpAddr {
    let [high, low] = (index + 1).to_be_bytes();
    Ipv4Addr::new(10, 77, high, low).into()
}

/// The genesis of a seed: the same arguments give the same chain. `time` is height 0's.
pub fn devnet_genesis(
    validators: u16,
    accounts: u32,
    preset: Preset,
    chain_id: ChainId,
    seed: &[u8],
    time: NanoMoment,
) -> Result<DevnetGenesis, AccountsError> {
    let mut out = DevnetGenesis {
        genesis: Genesis {
            chain_id,
            time,
            tai_offset_s: TAI_OFFSET_S,
            preset,
            seed: Hash32(*derive(seed, "epoch", 0)),
            validators: Vec::new(),
            balances: Vec::new(),
            limits: GenesisLimits::default(),
        },
        node_identities: Vec::new(),
        bls_keys: Vec::new(),
        withdrawals: Vec::new(),
        accounts: (0..accounts).map(|index| devnet_account(seed, index)).collect(),
    };
    for index in 0..validators {
        out.add_validator(seed, index);
    }
    let balance = parse_roko(&DEVNET_ACCOUNT_ROKO.to_string()).expect("a whole number");
    let given = |key: &AccountKey| GenesisBalance { address: key.address(), balance };
    out.genesis.balances = out.accounts.iter().map(given).collect();
    let problems: Vec<String> = out.genesis.problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(out) } else { Err(AccountsError::Genesis(problems.join("; "))) }
}

impl DevnetGenesis {
    fn add_validator(&mut self, seed: &[u8], index: u16) {
        let node = NodeIdentity::from_seed(&derive(seed, "node", index.into()));
        let bls =
            SecretKey::from_seed(derive(seed, "bls", index.into()).as_slice()).expect("32 bytes of seed");
        let withdrawal = account(seed, "withdrawal", index.into());
        self.genesis.validators.push(GenesisValidator {
            bls_key: BlsPublicKey(bls.public_key().to_bytes()),
            bls_proof: ProofOfPossession(bls.prove_possession()),
            node_key: node.node_key(),
            withdrawal: withdrawal.address(),
            stake_roko: STAKE_MIN_ROKO,
            ml_dsa_key_hash: Hash32::ZERO,
            endpoint: Endpoint { ip: devnet_ip(index), port: DEVNET_PORT },
        });
        self.node_identities.push(node);
        self.bls_keys.push(bls);
        self.withdrawals.push(withdrawal);
    }
}

/// The rich account with this index of a seed's chain.
#[must_use]
pub fn devnet_account(seed: &[u8], index: u32) -> AccountKey {
    account(seed, "account", index)
}

fn account(seed: &[u8], role: &str, index: u32) -> AccountKey {
    let secret = derive(seed, role, index);
    AccountKey::from_secret(Scheme::Ed25519, &secret).expect("every 32 bytes are an ed25519 seed")
}

/// A secret of a seed: SHA-256 over a domain, the role, its index, and the seed last, as its length is free.
fn derive(seed: &[u8], role: &str, index: u32) -> Zeroizing<[u8; 32]> {
    let mut hasher = Sha256::new();
    hasher.update(b"roko/devnet-key/1\0");
    hasher.update(role.as_bytes());
    hasher.update([0]);
    hasher.update(index.to_le_bytes());
    hasher.update(seed);
    Zeroizing::new(hasher.finalize().into())
}
