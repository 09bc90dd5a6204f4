//! Ethereum transactions: raw EIP-2718 bytes, read in place.
//!
//! Three envelopes are read: the legacy RLP list with EIP-155's chain id in `v`, type 1 (EIP-2930) and type 2 (EIP-1559).
//! Only canonical RLP is accepted, so that a transaction has one encoding, and its id (Keccak-256 of the raw bytes) one
//! meaning. What is signed is the fields as they stand in the raw bytes under a list prefix of their own: they are hashed
//! where they are, and nothing is allocated.

use crate::codec::{DecodeError, Sink};
use crate::ids::{Address, ChainId};
use crate::limits::ACCESS_LIST_MAX;
use crate::rlp::{EMPTY_STRING, Rlp, put_list_prefix, put_string, put_uint};
use crate::rules::{Terms, intrinsic};
use crate::tx::{KIND_ETHEREUM, SignatureError, is_ethereum_envelope, recover_secp256k1};
use arrayvec::ArrayVec;
use ruint::aliases::U256;
use sha3::{Digest, Keccak256};

/// Which envelope a transaction came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A bare RLP list, with or without EIP-155's chain id.
    Legacy,
    /// Type 1: with an access list (EIP-2930).
    AccessList,
    /// Type 2: with a fee market's two fees (EIP-1559).
    DynamicFee,
}

impl Envelope {
    /// EIP-2718's type; a legacy transaction counts as 0.
    #[must_use]
    pub const fn type_byte(self) -> u8 {
        match self {
            Envelope::Legacy => 0,
            Envelope::AccessList => 1,
            Envelope::DynamicFee => 2,
        }
    }
}

/// The fields of an Ethereum transaction, whose variable parts are borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthereumTx<'a> {
    /// The envelope.
    pub envelope: Envelope,
    /// The chain it is for; `None` only in a legacy transaction from before EIP-155, which is valid on every chain.
    pub chain_id: Option<ChainId>,
    /// The sender's count of executed transactions.
    pub nonce: u64,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Most it pays per gas: EIP-1559's `max_fee_per_gas`, or the gas price of the older envelopes.
    pub max_fee: u128,
    /// Most of that which goes to the proposer: `max_priority_fee_per_gas`, or the gas price again.
    pub max_priority_fee: u128,
    /// What it transfers.
    pub value: U256,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Call data or init code.
    pub input: &'a [u8],
    /// The access list's items in RLP, without the list's own prefix; see [`access_list`] and [`AccessItems`].
    pub access_list: &'a [u8],
    /// How many items the access list has.
    pub access_items: u16,
    /// How many storage keys the access list has.
    pub access_keys: u32,
}

/// An Ethereum transaction with its signature and the bytes that the signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedEthereum<'a> {
    /// The fields.
    pub tx: EthereumTx<'a>,
    /// r, s big-endian, and the recovery id (0 or 1).
    pub signature: [u8; 65],
    /// All of the raw bytes.
    pub raw: &'a [u8],
    signed_fields: &'a [u8],
}

impl<'a> SignedEthereum<'a> {
    /// Reads raw EIP-2718 bytes, all of them.
    pub fn parse(raw: &'a [u8]) -> Result<SignedEthereum<'a>, DecodeError> {
        let (envelope, list) = match raw {
            [1, list @ ..] => (Envelope::AccessList, list),
            [2, list @ ..] => (Envelope::DynamicFee, list),
            [first, ..] if is_ethereum_envelope(*first) => (Envelope::Legacy, raw),
            _ => {
                let value = u64::from(raw.first().copied().unwrap_or(0));
                return Err(DecodeError::BadValue { field: "Ethereum transaction type", value });
            }
        };
        let mut outer = Rlp::new(list);
        let mut fields = outer.list("Ethereum transaction")?;
        outer.finish()?;
        let start = fields.rest();
        let mut tx = EthereumTx::read(envelope, &mut fields)?;
        let signed_fields = &start[..start.len() - fields.rest().len()];
        let v = fields.u128("signature v")?;
        let (chain_id, recovery_id) = match envelope {
            Envelope::Legacy => legacy_v(v)?,
            _ => (tx.chain_id, u8::try_from(v).ok().filter(|v| *v <= 1).ok_or_else(|| bad_v(v))?),
        };
        tx.chain_id = chain_id;
        let mut signature = [0; 65];
        signature[..32].copy_from_slice(&fields.uint::<32>("signature r")?);
        signature[32..64].copy_from_slice(&fields.uint::<32>("signature s")?);
        signature[64] = recovery_id;
        fields.finish()?;
        Ok(SignedEthereum { tx, signature, raw, signed_fields })
    }

    /// What the signature covers, hashed: the fields before it under a list prefix of their own, after the type's byte;
    /// behind a legacy transaction's fields the chain id and two empty ones (EIP-155).
    #[must_use]
    pub fn signing_hash(&self) -> [u8; 32] {
        signing_hash(&self.tx, self.signed_fields)
    }

    /// Recovers the sender's address; s must be in the lower half of the group order (EIP-2).
    pub fn verify(&self) -> Result<Address, SignatureError> {
        recover_secp256k1(&self.signature, &self.signing_hash())
    }

    /// Signature value `v` as Ethereum shows it: the recovery id, or EIP-155's number of a legacy transaction.
    #[must_use]
    pub fn v(&self) -> u128 {
        v_of(&self.tx, self.signature[64])
    }

    /// Writes the raw bytes anew from the fields. It allocates: it is for clients and tests.
    pub fn write(&self, out: &mut impl Sink) {
        let mut fields = Vec::new();
        self.tx.write_fields(&mut fields);
        write_raw(&self.tx, fields, &self.signature, out);
    }
}

impl<'a> EthereumTx<'a> {
    /// What the rules see of it.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            intrinsic_gas: intrinsic(self.input, self.to.is_none(), self.access_items, self.access_keys),
            max_fee: self.max_fee,
            max_priority_fee: self.max_priority_fee,
            window: None,
            value: self.value,
            to: self.to,
        }
    }

    /// Signs and returns the raw bytes, as `eth_sendRawTransaction` takes them. It allocates: it is for clients.
    #[must_use]
    pub fn sign(&self, key: &k256::ecdsa::SigningKey) -> Vec<u8> {
        let mut fields = Vec::new();
        self.write_fields(&mut fields);
        let (signature, recovery) = key.sign_prehash_recoverable(&signing_hash(self, &fields));
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = recovery.to_byte();
        let mut out = Vec::new();
        write_raw(self, fields, &bytes, &mut out);
        out
    }

    /// The items of the access list.
    #[must_use]
    pub const fn items(&self) -> AccessItems<'a> {
        AccessItems { rest: Rlp::new(self.access_list) }
    }

    fn read(envelope: Envelope, fields: &mut Rlp<'a>) -> Result<EthereumTx<'a>, DecodeError> {
        let chain_id = match envelope {
            Envelope::Legacy => None,
            _ => Some(ChainId(fields.u64("chain id")?)),
        };
        let nonce = fields.u64("nonce")?;
        let (max_priority_fee, max_fee) = if envelope == Envelope::DynamicFee {
            (fields.u128("max priority fee")?, fields.u128("max fee")?)
        } else {
            let price = fields.u128("gas price")?;
            (price, price)
        };
        let mut tx = EthereumTx {
            envelope,
            chain_id,
            nonce,
            gas_limit: fields.u64("gas limit")?,
            max_fee,
            max_priority_fee,
            to: recipient(fields)?,
            value: U256::from_be_bytes(fields.uint::<32>("value")?),
            input: fields.string("input")?,
            access_list: &[],
            access_items: 0,
            access_keys: 0,
        };
        if envelope != Envelope::Legacy {
            tx.read_access_list(fields)?;
        }
        Ok(tx)
    }

    fn read_access_list(&mut self, fields: &mut Rlp<'a>) -> Result<(), DecodeError> {
        let list = fields.list("access list")?;
        self.access_list = list.rest();
        let mut items = AccessItems { rest: list };
        while let Some(item) = items.step()? {
            self.access_items += 1;
            self.access_keys += item.keys().count() as u32;
            within("access list length", usize::from(self.access_items))?;
        }
        Ok(())
    }

    /// The fields that are signed, in the envelope's order, without a prefix.
    fn write_fields(&self, out: &mut Vec<u8>) {
        if self.envelope != Envelope::Legacy {
            put_uint(&self.chain_id.unwrap_or_default().0.to_be_bytes(), out);
        }
        put_uint(&self.nonce.to_be_bytes(), out);
        if self.envelope == Envelope::DynamicFee {
            put_uint(&self.max_priority_fee.to_be_bytes(), out);
        }
        put_uint(&self.max_fee.to_be_bytes(), out);
        put_uint(&self.gas_limit.to_be_bytes(), out);
        put_string(self.to.as_ref().map_or(&[], |to| &to.0), out);
        put_uint(&self.value.to_be_bytes::<32>(), out);
        put_string(self.input, out);
        if self.envelope != Envelope::Legacy {
            put_list_prefix(self.access_list.len(), out);
            out.put(self.access_list);
        }
    }
}

/// The wire bytes of raw EIP-2718 bytes: the kind before them.
#[must_use]
pub fn wire(raw: &[u8]) -> Vec<u8> {
    [&[KIND_ETHEREUM], raw].concat()
}

/// One item of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessItem<'a> {
    /// The account.
    pub address: Address,
    keys: &'a [u8],
}

/// Bytes of a storage key in RLP: its prefix and itself.
const KEY_RLP_BYTES: usize = 33;

impl<'a> AccessItem<'a> {
    /// Its storage keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.keys.chunks_exact(KEY_RLP_BYTES).map(|key| &key[1..])
    }
}

/// Walks an access list. The list of a transaction that was parsed has no errors left: it ends with its last item.
#[derive(Clone, Copy, Debug)]
pub struct AccessItems<'a> {
    rest: Rlp<'a>,
}

impl<'a> AccessItems<'a> {
    fn step(&mut self) -> Result<Option<AccessItem<'a>>, DecodeError> {
        if self.rest.rest().is_empty() {
            return Ok(None);
        }
        let mut item = self.rest.list("access list item")?;
        let address = Address(item.array("access list address")?);
        let mut keys = item.list("access list keys")?;
        item.finish()?;
        let all = keys.rest();
        within("access list keys", all.len().div_ceil(KEY_RLP_BYTES))?;
        while !keys.rest().is_empty() {
            keys.array::<32>("access list key")?;
        }
        Ok(Some(AccessItem { address, keys: all }))
    }
}

impl<'a> Iterator for AccessItems<'a> {
    type Item = AccessItem<'a>;

    fn next(&mut self) -> Option<AccessItem<'a>> {
        self.step().ok().flatten()
    }
}

/// The RLP of an access list's items, for [`EthereumTx::access_list`].
#[must_use]
pub fn access_list(items: &[(Address, Vec<[u8; 32]>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (address, keys) in items {
        let mut item = Vec::new();
        put_string(&address.0, &mut item);
        put_list_prefix(KEY_RLP_BYTES * keys.len(), &mut item);
        keys.iter().for_each(|key| put_string(key, &mut item));
        put_list_prefix(item.len(), &mut out);
        out.put(&item);
    }
    out
}

fn within(field: &'static str, count: usize) -> Result<(), DecodeError> {
    if count <= ACCESS_LIST_MAX {
        return Ok(());
    }
    Err(DecodeError::OverLimit { field, value: count as u64, limit: ACCESS_LIST_MAX as u64 })
}

fn recipient(fields: &mut Rlp<'_>) -> Result<Option<Address>, DecodeError> {
    let bytes = fields.string("recipient")?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let address = bytes.try_into();
    address
        .map(|address| Some(Address(address)))
        .map_err(|_| DecodeError::BadValue { field: "recipient", value: bytes.len() as u64 })
}

fn bad_v(v: u128) -> DecodeError {
    DecodeError::BadValue { field: "signature v", value: u64::try_from(v).unwrap_or(u64::MAX) }
}

/// Chain id and recovery id of a legacy transaction's `v`: 27 and 28 name no chain, from 35 on EIP-155's do.
fn legacy_v(v: u128) -> Result<(Option<ChainId>, u8), DecodeError> {
    if let 27 | 28 = v {
        return Ok((None, (v - 27) as u8));
    }
    let parity_and_chain = v.checked_sub(35).ok_or_else(|| bad_v(v))?;
    let chain_id = u64::try_from(parity_and_chain / 2).map_err(|_| bad_v(v))?;
    Ok((Some(ChainId(chain_id)), (parity_and_chain % 2) as u8))
}

fn v_of(tx: &EthereumTx<'_>, recovery_id: u8) -> u128 {
    match (tx.envelope, tx.chain_id) {
        (Envelope::Legacy, Some(chain)) => 35 + 2 * u128::from(chain.0) + u128::from(recovery_id),
        (Envelope::Legacy, None) => 27 + u128::from(recovery_id),
        _ => u128::from(recovery_id),
    }
}

/// A chain id in RLP and two empty strings take at most this.
const EIP_155_BYTES: usize = 1 + 8 + 2;

fn signing_hash(tx: &EthereumTx<'_>, fields: &[u8]) -> [u8; 32] {
    let mut behind = ArrayVec::<u8, EIP_155_BYTES>::new();
    let mut hasher = Keccak256::new();
    match (tx.envelope, tx.chain_id) {
        (Envelope::Legacy, Some(chain)) => {
            put_uint(&chain.0.to_be_bytes(), &mut behind);
            behind.put(&[EMPTY_STRING; 2]);
        }
        (Envelope::Legacy, None) => {}
        _ => hasher.put_u8(tx.envelope.type_byte()),
    }
    put_list_prefix(fields.len() + behind.len(), &mut hasher);
    hasher.put(fields);
    hasher.put(&behind);
    hasher.finalize().into()
}

fn write_raw(tx: &EthereumTx<'_>, mut fields: Vec<u8>, signature: &[u8; 65], out: &mut impl Sink) {
    put_uint(&v_of(tx, signature[64]).to_be_bytes(), &mut fields);
    put_uint(&signature[..32], &mut fields);
    put_uint(&signature[32..64], &mut fields);
    if tx.envelope != Envelope::Legacy {
        out.put_u8(tx.envelope.type_byte());
    }
    put_list_prefix(fields.len(), out);
    out.put(&fields);
}
