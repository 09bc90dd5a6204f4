//! Senders' keys, decompressed: the square root that turns 32 bytes into a curve point costs a fifth of a signature check,
//! and most senders come again.
//!
//! Direct-mapped: a new key takes the place of whatever was there. A place compares the whole key, so a hit is the same
//! point that decompression would give; who floods with new keys costs the others the square root, no more.

use ed25519_zebra::VerificationKey;

/// Keys remembered; a power of two. Each takes about 200 bytes.
const KEYS: usize = 4096;

pub(super) struct SenderKeys {
    places: Box<[Option<VerificationKey>]>,
    salt: u64,
}

impl SenderKeys {
    /// `salt` is secret, so that nobody can aim at another sender's place.
    pub(super) fn new(salt: u64) -> SenderKeys {
        SenderKeys { places: vec![None; KEYS].into_boxed_slice(), salt }
    }

    /// The point of a key; `None` when it is none.
    pub(super) fn get(&mut self, bytes: &[u8; 32]) -> Option<VerificationKey> {
        let words =
            bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
        // Multiplication by an odd secret and folding: one cycle a word, and unpredictable from outside.
        let hash = words.fold(self.salt, |hash, word| {
            let product = u128::from(hash ^ word) * u128::from(self.salt | 1);
            (product >> 64) as u64 ^ product as u64
        });
        let place = &mut self.places[hash as usize & (KEYS - 1)];
        if let Some(known) = place.filter(|known| known.as_ref() == bytes.as_slice()) {
            return Some(known);
        }
        let key = VerificationKey::try_from(*bytes).ok()?;
        *place = Some(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_zebra::SigningKey;

    #[test]
    fn a_key_is_the_same_from_the_table_and_a_wrong_one_is_none() {
        let mut keys = SenderKeys::new(0x1234_5678_9abc_def1);
        for round in 0..2 {
            for seed in 0..200u8 {
                let key = VerificationKey::from(&SigningKey::from([seed; 32]));
                assert_eq!(keys.get(&key.into()), Some(key), "{seed} in round {round}");
            }
        }
        let mut no_point = [0xff; 32];
        no_point[0] = 2;
        assert_eq!(keys.get(&no_point).is_some(), VerificationKey::try_from(no_point).is_ok());
    }
}
