//! Transactions, and bodies that hold them.

use ed25519_zebra::SigningKey;
use roko_wire::block::{Body, BodyBatch, BodyTx};
use roko_wire::tx::NativeTx;
use roko_wire::{Address, ChainId, NanoMoment};

/// The chain that the fixtures are for.
pub const CHAIN: ChainId = ChainId(4242);
/// When the fixtures' chain has its first moment: in 2027, in nanoseconds.
pub const START: NanoMoment = NanoMoment(1_800_000_000_000_000_000);
/// An hour.
pub const HOUR_NS: u64 = 3_600_000_000_000;

/// A transfer that is valid for an hour to both sides of [`START`]: 245 bytes once signed with ed25519.
#[must_use]
pub fn transfer(nonce: u64) -> NativeTx<'static> {
    NativeTx {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee: 1_000_000_000,
        max_priority_fee: 1,
        valid_from: START.saturating_sub(HOUR_NS),
        valid_until: START.saturating_add(HOUR_NS),
        value: ruint::aliases::U256::from(1),
        to: Some(Address([9; 20])),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// The key of sender `number`.
#[must_use]
pub fn user(number: u32) -> SigningKey {
    let mut seed = [0x33; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    SigningKey::from(seed)
}

/// Deterministic noise (SplitMix64: Steele, Lea, Flood 2014), so that every run has the same input.
pub struct Noise(pub u64);

impl Noise {
    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_number() % limit
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.next_number() as u8)
    }
}

/// A body of `txs` signed transfers in batches of five, as verify stamps them.
#[must_use]
pub fn body(txs: usize) -> Body {
    const LEAVES: usize = 5;
    const PATH: usize = 3;
    let (mut body, mut noise) = (Body::default(), Noise(1));
    let key = user(1);
    for index in 0..txs {
        if index % LEAVES == 0 {
            let (root, signature) = (noise.bytes(), noise.bytes());
            body.batches.push(BodyBatch { ingress: 1, leaves: LEAVES as u8, root, signature });
        }
        let wire = transfer(index as u64).sign_ed25519(&key);
        let moment = START.0 + 1_000 * index as u128;
        body.txs.push(BodyTx {
            moment,
            stamp_time: moment,
            bound_ns: 1_000,
            source: 0,
            leaf_index: (index % LEAVES) as u8,
            path_len: PATH as u8,
            batch: (index / LEAVES) as u32,
            tx_len: wire.len() as u32,
        });
        body.paths.extend((0..PATH).map(|_| noise.bytes::<32>()));
        body.tx_bytes.extend_from_slice(&wire);
    }
    body
}
