//! Accounts, as Ethereum's: what the state tree commits to.

use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{Address, Hash32};
use ruint::aliases::U256;
use sha3::{Digest, Keccak256};

/// One account's state. Balances have 18 decimals; 1 ROKO is 10^18 units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Transactions executed from this account.
    pub nonce: u64,
    /// Balance in the smallest unit.
    pub balance: U256,
    /// Keccak-256 of the account's code; zero where there is none.
    pub code_hash: Hash32,
    /// Root of the account's storage; zero where there is none.
    pub storage_root: Hash32,
}

impl Account {
    /// Bytes of the canonical layout: nonce, balance, code hash, storage root.
    pub const BYTES: usize = 8 + 32 + 32 + 32;

    /// Appends the canonical layout.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_u64(self.nonce);
        out.put(&self.balance.to_le_bytes::<32>());
        out.put(&self.code_hash.0);
        out.put(&self.storage_root.0);
    }

    /// Reads the canonical layout.
    pub fn read(reader: &mut Reader<'_>) -> Result<Account, DecodeError> {
        Ok(Account {
            nonce: reader.u64("account nonce")?,
            balance: U256::from_le_bytes(reader.array::<32>("account balance")?),
            code_hash: Hash32(reader.array("account code hash")?),
            storage_root: Hash32(reader.array("account storage root")?),
        })
    }
}

/// The address of an ed25519 key: the last 20 bytes of `keccak256(0x01 || key)`.
#[must_use]
pub fn address_of_ed25519(public_key: &[u8; 32]) -> Address {
    let mut hasher = Keccak256::new();
    hasher.put_u8(1);
    hasher.put(public_key);
    last_20(hasher)
}

/// The address of a secp256k1 key, as Ethereum's: the last 20 bytes of `keccak256(x || y)`.
#[must_use]
pub fn address_of_secp256k1(public_key_xy: &[u8; 64]) -> Address {
    let mut hasher = Keccak256::new();
    hasher.put(public_key_xy);
    last_20(hasher)
}

fn last_20(hasher: Keccak256) -> Address {
    let hash: [u8; 32] = hasher.finalize().into();
    let mut address = Address::ZERO;
    address.0.copy_from_slice(&hash[12..]);
    address
}
