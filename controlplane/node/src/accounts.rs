//! Account keys, transfers, amounts, and a chain whose every key follows from one seed.
//!
//! The command line, the devnet and the load generator sign with what is here; the node itself never holds an account's
//! key.

mod amount;
mod devnet;
mod files;
#[cfg(test)]
mod tests;

pub use amount::{AmountError, format_roko, parse_roko};
pub use devnet::{
    DEVNET_ACCOUNT_ROKO, DEVNET_CHAIN_ID, DEVNET_PORT, DEVNET_SEED, DevnetGenesis, devnet_account,
    devnet_genesis, devnet_ip,
};
pub use files::{KeyFile, create_private, load_account, load_bls, save_account, save_bls};

use ed25519_zebra::{SigningKey, VerificationKey};
use rand::TryRng;
use roko_wire::account::{address_of_ed25519, address_of_secp256k1};
use roko_wire::rules::TRANSFER_GAS;
use roko_wire::tx::{NativeTx, tx_id};
use roko_wire::{Address, ChainId, NanoMoment, TxId};
use ruint::aliases::U256;
use std::path::PathBuf;
use zeroize::{Zeroize, Zeroizing};

/// Keys and key files that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The operating system refuses a file.
    #[error("{}: {action} failed: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A key is never overwritten.
    #[error("{} exists and a key is never overwritten: move it away, or name another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others may read a secret.
    #[error("{} may be read by others (mode {mode:o}): run \"chmod 600 {}\", and make a new key if others had access", path.display(), path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file, or another kind of key.
    #[error("{} is no {want} key file: {what}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The kind of key that was wanted.
        want: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The host gives no random bytes.
    #[error("the host gives no random bytes ({0}): a key cannot be made here")]
    NoRandomness(String),
    /// The seed's chain makes no genesis.
    #[error("this chain makes no genesis: {0}")]
    Genesis(String),
}

/// How an account signs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Fast to check in batches; the default.
    #[default]
    Ed25519,
    /// Ethereum's curve: the same key has the same address there.
    Secp256k1,
}

impl Scheme {
    /// The name in a key file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Ed25519 => "ed25519",
            Scheme::Secp256k1 => "secp256k1",
        }
    }
}

enum Signer {
    Ed25519(Box<SigningKey>),
    Secp256k1(Box<k256::ecdsa::SigningKey>),
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The other library's key wipes itself.
        if let Signer::Ed25519(key) = self {
            key.zeroize();
        }
    }
}

/// An account's secret key. Wiped when dropped; never printed.
pub struct AccountKey {
    secret: Zeroizing<[u8; 32]>,
    signer: Signer,
    address: Address,
}

impl core::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "AccountKey({}, {})", self.scheme().name(), self.address)
    }
}

impl AccountKey {
    /// A new key from the host's randomness.
    pub fn generate(scheme: Scheme) -> Result<AccountKey, AccountsError> {
        loop {
            // A number of 32 bytes is outside secp256k1's group order about once in 2^128 draws.
            let secret = random_seed()?;
            if let Some(key) = AccountKey::from_secret(scheme, &secret) {
                return Ok(key);
            }
        }
    }

    /// The key of 32 secret bytes: RFC 8032's seed, or secp256k1's big-endian number; `None` when that is no such
    /// number.
    #[must_use]
    pub fn from_secret(scheme: Scheme, secret: &[u8; 32]) -> Option<AccountKey> {
        let (signer, address) = match scheme {
            Scheme::Ed25519 => {
                let key = SigningKey::from(*secret);
                let public: [u8; 32] = VerificationKey::from(&key).into();
                (Signer::Ed25519(Box::new(key)), address_of_ed25519(&public))
            }
            Scheme::Secp256k1 => {
                let key = k256::ecdsa::SigningKey::from_slice(secret).ok()?;
                let point = key.verifying_key().to_sec1_point(false);
                let xy: &[u8; 64] = point.as_bytes()[1..].try_into().ok()?;
                let address = address_of_secp256k1(xy);
                (Signer::Secp256k1(Box::new(key)), address)
            }
        };
        Some(AccountKey { secret: Zeroizing::new(*secret), signer, address })
    }

    /// How it signs.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self.signer {
            Signer::Ed25519(_) => Scheme::Ed25519,
            Signer::Secp256k1(_) => Scheme::Secp256k1,
        }
    }

    /// The account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a transaction and returns its wire bytes.
    #[must_use]
    pub fn sign(&self, tx: &NativeTx<'_>) -> Vec<u8> {
        match &self.signer {
            Signer::Ed25519(key) => tx.sign_ed25519(key),
            Signer::Secp256k1(key) => tx.sign_secp256k1(key),
        }
    }
}

/// 32 secret bytes from the host.
pub fn random_seed() -> Result<Zeroizing<[u8; 32]>, AccountsError> {
    let mut seed = Zeroizing::new([0; 32]);
    let drawn = rand::rngs::SysRng.try_fill_bytes(seed.as_mut_slice());
    drawn.map_err(|error| AccountsError::NoRandomness(error.to_string()))?;
    Ok(seed)
}

/// A payment, before it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The chain.
    pub chain_id: ChainId,
    /// The sender's count of executed transactions.
    pub nonce: u64,
    /// The recipient.
    pub to: Address,
    /// Amount in the smallest unit.
    pub value: U256,
    /// Most paid per gas, base fee included, in the smallest unit.
    pub max_fee: u128,
    /// Most of that which goes to the proposer.
    pub max_priority_fee: u128,
    /// First moment at which it may be stamped.
    pub valid_from: NanoMoment,
    /// Last moment at which it may be stamped or executed.
    pub valid_until: NanoMoment,
}

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransfer {
    /// Its id.
    pub id: TxId,
    /// Its wire bytes.
    pub raw: Vec<u8>,
}

impl Transfer {
    /// Signs it.
    #[must_use]
    pub fn sign(&self, key: &AccountKey) -> SignedTransfer {
        let tx = NativeTx {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: TRANSFER_GAS,
            max_fee: self.max_fee,
            max_priority_fee: self.max_priority_fee,
            valid_from: self.valid_from,
            valid_until: self.valid_until,
            value: self.value,
            to: Some(self.to),
            input: &[],
            access_list: &[],
            access_items: 0,
            access_keys: 0,
        };
        let raw = key.sign(&tx);
        SignedTransfer { id: tx_id(&raw), raw }
    }
}
