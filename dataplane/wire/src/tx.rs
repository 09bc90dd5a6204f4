//! Transactions: one enum on the wire, told apart by the first byte.
//!
//! A native transaction's wire bytes *are* its canonical layout followed by its signature: the id and the
//! signature are computed over the bytes as received, and no second encoding of the same transaction exists.

use crate::account::{address_of_ed25519, address_of_secp256k1};
use crate::codec::{DecodeError, Reader, Sink};
use crate::ethereum::SignedEthereum;
use crate::ids::{Address, ChainId, Hash32, TxId};
use crate::limits::{ACCESS_LIST_MAX, TX_BYTES_MAX};
use crate::nano::NanoMoment;
use crate::rules::{Terms, Window, intrinsic_gas};
use ed25519_zebra::{Signature, SigningKey, VerificationKey};
use ruint::aliases::U256;
use sha3::{Digest, Keccak256};

/// First byte of a native transaction.
pub const KIND_NATIVE: u8 = 0;
/// First byte of an Ethereum transaction; the raw EIP-2718 bytes follow.
pub const KIND_ETHEREUM: u8 = 1;
const SCHEME_ED25519: u8 = 0;
const SCHEME_SECP256K1: u8 = 1;
const SIGNING_DOMAIN: &[u8] = b"roko/tx/1\0";

/// Who signed, and the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// ed25519 by the ZIP-215 rule.
    Ed25519 {
        /// The sender's key.
        public_key: [u8; 32],
        /// R and s.
        signature: [u8; 64],
    },
    /// secp256k1 with low s; the key is recovered.
    Secp256k1 {
        /// r, s and the recovery id (0 or 1).
        signature: [u8; 65],
    },
}

/// A parsed native transaction that borrows its variable parts.
#[derive(Clone, Copy, Debug)]
pub struct NativeTx<'a> {
    /// The chain it is for.
    pub chain_id: ChainId,
    /// The sender's count of executed transactions.
    pub nonce: u64,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Most it pays per gas, base fee included, in the smallest unit.
    pub max_fee: u128,
    /// Most of that which goes to the proposer.
    pub max_priority_fee: u128,
    /// First moment at which it may be stamped.
    pub valid_from: NanoMoment,
    /// Last moment at which it may be stamped or executed.
    pub valid_until: NanoMoment,
    /// What it transfers.
    pub value: U256,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Call data or init code.
    pub input: &'a [u8],
    /// The access list's encoded items: each an address, a 16-bit count and that many 32-byte keys.
    pub access_list: &'a [u8],
    /// How many items the access list has.
    pub access_items: u16,
    /// How many storage keys the access list has.
    pub access_keys: u32,
}

/// A native transaction with its authorization and the bytes that the signature covers.
#[derive(Clone, Copy, Debug)]
pub struct SignedNative<'a> {
    /// The fields.
    pub tx: NativeTx<'a>,
    /// Key and signature.
    pub authorization: Authorization,
    layout: &'a [u8],
}

/// A signature that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not a curve point.
    #[error("the public key is not a point of the curve")]
    BadKey,
    /// The signature is wrong for these bytes and this key.
    #[error("the signature does not match the transaction's bytes and key")]
    BadSignature,
    /// s is in the upper half of the group order (EIP-2).
    #[error("the signature's s is in the upper half of the group order; negate s and flip the recovery id")]
    HighS,
}

/// Keccak-256 of a transaction's wire bytes (native) or raw bytes (Ethereum).
#[must_use]
pub fn tx_id(wire: &[u8]) -> TxId {
    let hashed = if wire.first() == Some(&KIND_ETHEREUM) { &wire[1..] } else { wire };
    TxId(Keccak256::digest(hashed).into())
}

impl<'a> NativeTx<'a> {
    /// Appends the canonical layout, without key and signature.
    pub fn write(&self, scheme_byte: u8, out: &mut impl Sink) {
        out.put_u8(KIND_NATIVE);
        out.put_u8(scheme_byte);
        out.put_u64(self.chain_id.0);
        out.put_u64(self.nonce);
        out.put_u64(self.gas_limit);
        out.put_u128(self.max_fee);
        out.put_u128(self.max_priority_fee);
        out.put_u128(self.valid_from.0);
        out.put_u128(self.valid_until.0);
        out.put(&self.value.to_le_bytes::<32>());
        out.put_u8(u8::from(self.to.is_some()));
        if let Some(to) = self.to {
            out.put(&to.0);
        }
        out.put_u32(self.input.len() as u32);
        out.put(self.input);
        out.put_u16(self.access_items);
        out.put(self.access_list);
    }

    /// What the rules see of it.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            chain_id: Some(self.chain_id),
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            intrinsic_gas: intrinsic_gas(self),
            max_fee: self.max_fee,
            max_priority_fee: self.max_priority_fee,
            window: Some(Window { from: self.valid_from, until: self.valid_until }),
            value: self.value,
            to: self.to,
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<NativeTx<'a>, DecodeError> {
        let tx = NativeTx {
            chain_id: ChainId(reader.u64("transaction chain id")?),
            nonce: reader.u64("transaction nonce")?,
            gas_limit: reader.u64("gas limit")?,
            max_fee: reader.u128("max fee")?,
            max_priority_fee: reader.u128("max priority fee")?,
            valid_from: NanoMoment(reader.u128("valid_from")?),
            valid_until: NanoMoment(reader.u128("valid_until")?),
            value: U256::from_le_bytes(reader.array::<32>("value")?),
            to: match reader.u8("recipient flag")? {
                0 => None,
                1 => Some(Address(reader.array("recipient")?)),
                flag => {
                    return Err(DecodeError::BadValue { field: "recipient flag", value: u64::from(flag) });
                }
            },
            input: {
                let len = reader.u32("input length")?;
                if len as usize > TX_BYTES_MAX {
                    let limit = TX_BYTES_MAX as u64;
                    return Err(DecodeError::OverLimit {
                        field: "input length",
                        value: u64::from(len),
                        limit,
                    });
                }
                reader.bytes("input", len as usize)?
            },
            access_list: &[],
            access_items: 0,
            access_keys: 0,
        };
        tx.with_access_list(reader)
    }

    fn with_access_list(mut self, reader: &mut Reader<'a>) -> Result<NativeTx<'a>, DecodeError> {
        self.access_items = reader.count_u16("access list length", ACCESS_LIST_MAX)? as u16;
        let start = reader.rest();
        for _ in 0..self.access_items {
            reader.bytes("access list address", 20)?;
            let keys = reader.count_u16("access list keys", ACCESS_LIST_MAX)?;
            reader.bytes("access list key", 32 * keys)?;
            self.access_keys += keys as u32;
        }
        self.access_list = &start[..start.len() - reader.rest().len()];
        Ok(self)
    }

    /// Signs with an ed25519 key and returns the wire bytes.
    #[must_use]
    pub fn sign_ed25519(&self, key: &SigningKey) -> Vec<u8> {
        let mut message = SIGNING_DOMAIN.to_vec();
        self.write(SCHEME_ED25519, &mut message);
        let public_key: [u8; 32] = VerificationKey::from(key).into();
        message.put(&public_key);
        let signature = key.sign(&message);
        let mut wire = message.split_off(SIGNING_DOMAIN.len());
        wire.put(&signature.to_bytes());
        wire
    }

    /// Signs with a secp256k1 key and returns the wire bytes.
    #[must_use]
    pub fn sign_secp256k1(&self, key: &k256::ecdsa::SigningKey) -> Vec<u8> {
        let mut wire = Vec::new();
        self.write(SCHEME_SECP256K1, &mut wire);
        let (signature, recovery) = key.sign_prehash_recoverable(&secp_digest(&wire));
        wire.put(&signature.to_bytes());
        wire.put_u8(recovery.to_byte());
        wire
    }
}

fn secp_digest(layout: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    hasher.put(SIGNING_DOMAIN);
    hasher.put(layout);
    hasher.finalize().into()
}

impl<'a> SignedNative<'a> {
    /// Checks the signature and returns the sender's address.
    pub fn verify(&self) -> Result<Address, SignatureError> {
        match &self.authorization {
            Authorization::Ed25519 { public_key, signature } => {
                let key = VerificationKey::try_from(*public_key).map_err(|_| SignatureError::BadKey)?;
                let mut message = arrayvec::ArrayVec::<u8, { TX_BYTES_MAX + SIGNING_DOMAIN.len() }>::new();
                message.put(SIGNING_DOMAIN);
                message.put(self.layout);
                key.verify(&Signature::from(*signature), &message)
                    .map_err(|_| SignatureError::BadSignature)?;
                Ok(address_of_ed25519(public_key))
            }
            Authorization::Secp256k1 { signature } => recover_secp256k1(signature, &secp_digest(self.layout)),
        }
    }
}

/// What a check of an ed25519 signature needs, for whoever checks several at once.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519Check<'a> {
    /// The public key.
    pub key: &'a [u8; 32],
    /// The signature.
    pub signature: &'a [u8; 64],
    /// The signed bytes, in two parts.
    pub message: [&'a [u8]; 2],
}

impl SignedNative<'_> {
    /// What [`SignedNative::verify`] checks when the key is of ed25519; the sender is then [`address_of_ed25519`] of it.
    #[must_use]
    pub fn ed25519_check(&self) -> Option<Ed25519Check<'_>> {
        match &self.authorization {
            Authorization::Ed25519 { public_key, signature } => {
                Some(Ed25519Check { key: public_key, signature, message: [SIGNING_DOMAIN, self.layout] })
            }
            Authorization::Secp256k1 { .. } => None,
        }
    }
}

/// The address that signed `digest`, from r, s and the recovery id; s must be in the lower half (EIP-2).
pub fn recover_secp256k1(signature: &[u8; 65], digest: &[u8; 32]) -> Result<Address, SignatureError> {
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
    let recovery = RecoveryId::from_byte(signature[64])
        .filter(|id| !id.is_x_reduced())
        .ok_or(SignatureError::BadSignature)?;
    let parsed = Signature::from_slice(&signature[..64]).map_err(|_| SignatureError::BadSignature)?;
    if parsed.normalize_s() != parsed {
        return Err(SignatureError::HighS);
    }
    let key = VerifyingKey::recover_from_prehash(digest, &parsed, recovery)
        .map_err(|_| SignatureError::BadSignature)?;
    let point = key.to_sec1_point(false);
    let mut xy = [0; 64];
    xy.copy_from_slice(&point.as_bytes()[1..]);
    Ok(address_of_secp256k1(&xy))
}

/// Reads a transaction from its wire bytes, all of them.
pub fn parse(wire: &[u8]) -> Result<ParsedTx<'_>, DecodeError> {
    if wire.len() > TX_BYTES_MAX {
        let limit = TX_BYTES_MAX as u64;
        return Err(DecodeError::OverLimit { field: "transaction length", value: wire.len() as u64, limit });
    }
    let mut reader = Reader::new(wire);
    match reader.u8("transaction kind")? {
        KIND_NATIVE => parse_native(wire, reader).map(ParsedTx::Native),
        KIND_ETHEREUM => SignedEthereum::parse(reader.rest()).map(ParsedTx::Ethereum),
        kind => Err(DecodeError::BadValue { field: "transaction kind", value: u64::from(kind) }),
    }
}

/// Whether raw bytes that begin with `first` are an EIP-2718 envelope that this chain has: type 1 (EIP-2930), type 2
/// (EIP-1559), or the RLP list of a legacy transaction. Bytes that begin with 0 would share a native transaction's id.
#[must_use]
pub const fn is_ethereum_envelope(first: u8) -> bool {
    matches!(first, 1 | 2 | 0xc0..=0xfe)
}

/// A transaction that was read from its wire bytes.
#[derive(Clone, Copy, Debug)]
// It lives on the stack for the length of one check; boxing the large variant would allocate.
#[allow(clippy::large_enum_variant)]
pub enum ParsedTx<'a> {
    /// A native transaction with its authorization.
    Native(SignedNative<'a>),
    /// An Ethereum transaction with its signature.
    Ethereum(SignedEthereum<'a>),
}

impl<'a> ParsedTx<'a> {
    /// What the rules see of it.
    #[must_use]
    pub fn terms(&self) -> Terms {
        match self {
            ParsedTx::Native(signed) => signed.tx.terms(),
            ParsedTx::Ethereum(signed) => signed.tx.terms(),
        }
    }

    /// Checks the signature and returns the sender's address.
    pub fn verify(&self) -> Result<Address, SignatureError> {
        match self {
            ParsedTx::Native(signed) => signed.verify(),
            ParsedTx::Ethereum(signed) => signed.verify(),
        }
    }

    /// What [`ParsedTx::verify`] checks when the key is of ed25519; `None` when the key is recovered.
    #[must_use]
    pub fn ed25519_check(&self) -> Option<Ed25519Check<'_>> {
        match self {
            ParsedTx::Native(signed) => signed.ed25519_check(),
            ParsedTx::Ethereum(_) => None,
        }
    }

    /// The sender of a transaction whose signature was checked before: an ed25519 key's address needs no second check.
    pub fn sender_once_verified(&self) -> Result<Address, SignatureError> {
        match self.ed25519_check() {
            Some(check) => Ok(address_of_ed25519(check.key)),
            None => self.verify(),
        }
    }

    /// Call data or init code.
    #[must_use]
    pub const fn input(&self) -> &'a [u8] {
        match self {
            ParsedTx::Native(signed) => signed.tx.input,
            ParsedTx::Ethereum(signed) => signed.tx.input,
        }
    }

    /// Appends the access list's items in a native transaction's layout: address, 16-bit count of keys, keys.
    pub fn write_access_list(&self, out: &mut impl Sink) {
        match self {
            ParsedTx::Native(signed) => out.put(signed.tx.access_list),
            ParsedTx::Ethereum(signed) => {
                for item in signed.tx.items() {
                    out.put(&item.address.0);
                    out.put_u16(item.keys().len() as u16);
                    item.keys().for_each(|key| out.put(key));
                }
            }
        }
    }
}

fn parse_native<'a>(wire: &'a [u8], mut reader: Reader<'a>) -> Result<SignedNative<'a>, DecodeError> {
    let scheme = reader.u8("signature scheme")?;
    let tx = NativeTx::read(&mut reader)?;
    let authorization;
    let layout;
    match scheme {
        SCHEME_ED25519 => {
            let public_key = reader.array("ed25519 public key")?;
            layout = &wire[..wire.len() - reader.rest().len()];
            authorization =
                Authorization::Ed25519 { public_key, signature: reader.array("ed25519 signature")? };
        }
        SCHEME_SECP256K1 => {
            layout = &wire[..wire.len() - reader.rest().len()];
            authorization = Authorization::Secp256k1 { signature: reader.array("secp256k1 signature")? };
        }
        _ => return Err(DecodeError::BadValue { field: "signature scheme", value: u64::from(scheme) }),
    }
    reader.finish()?;
    Ok(SignedNative { tx, authorization, layout })
}

/// Orders transactions whose times are equal: the first 8 bytes of `SHA-256(seed || id)`, which a sender cannot grind
/// because the epoch's seed is not known when he signs.
#[must_use]
pub fn tie_break(epoch_seed: &Hash32, id: &TxId) -> u64 {
    let mut hasher = sha2::Sha256::new();
    hasher.put(&epoch_seed.0);
    hasher.put(&id.0);
    let hash: [u8; 32] = sha2::Digest::finalize(hasher).into();
    u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethereum_wrapper_around_a_native_transaction_shared_its_id() {
        let native = NativeTx {
            chain_id: ChainId(7),
            nonce: 1,
            gas_limit: 21_000,
            max_fee: 10,
            max_priority_fee: 1,
            valid_from: NanoMoment(1),
            valid_until: NanoMoment(2),
            value: U256::from(3),
            to: Some(Address([4; 20])),
            input: &[],
            access_list: &[],
            access_items: 0,
            access_keys: 0,
        }
        .sign_ed25519(&SigningKey::from([1; 32]));
        let wrapped = [&[KIND_ETHEREUM], &native[..]].concat();
        assert_eq!(tx_id(&wrapped), tx_id(&native));
        let refused = DecodeError::BadValue { field: "Ethereum transaction type", value: 0 };
        assert_eq!(parse(&wrapped).unwrap_err(), refused);
    }

    #[test]
    fn only_the_envelopes_that_the_chain_has_are_read() {
        let field = "Ethereum transaction type";
        for first in 0..=u8::MAX {
            let refused = DecodeError::BadValue { field, value: u64::from(first) };
            let of_type = parse(&[KIND_ETHEREUM, first, 0]).err() != Some(refused);
            assert_eq!(of_type, is_ethereum_envelope(first), "first raw byte {first:#04x}");
        }
        assert_eq!(parse(&[KIND_ETHEREUM]).err(), Some(DecodeError::BadValue { field, value: 0 }));
    }
}
