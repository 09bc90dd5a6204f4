//! An epoch's validators and who leads which view.
//!
//! The leader of a view is a function of the epoch's seed, the view and the stakes alone, so that anybody who
//! holds the set can check it. How the seed comes about is not this module's concern: it is an argument.

use crate::bls::PublicKey;
use roko_wire::codec::Sink;
use roko_wire::limits::VALIDATORS_MAX;
use roko_wire::vote::Bitmap;
use roko_wire::{ValidatorIndex, View};
use sha2::{Digest, Sha256};

/// A validator as consensus sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// The voting key; its proof of possession has been checked when it was registered.
    pub public_key: PublicKey,
    /// Stake in whole ROKO.
    pub stake: u64,
}

/// Why validators make no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No validators.
    #[error("a validator set needs at least one validator: add validators to genesis")]
    Empty,
    /// More than a certificate's bitmap holds.
    #[error(
        "{count} validators are more than {VALIDATORS_MAX}: only the {VALIDATORS_MAX} largest can be in a set"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A validator without stake.
    #[error("validator {index} has no stake: give it stake or leave it out")]
    NoStake {
        /// Its place in the list.
        index: usize,
    },
    /// Two validators with one key would let one signature count twice.
    #[error("validators {first} and {second} have the same voting key: each needs its own")]
    SharedKey {
        /// The first one's place.
        first: usize,
        /// The second one's place.
        second: usize,
    },
    /// The sum of the stakes is not representable.
    #[error("the validators' stake adds up to more than {} ROKO", u64::MAX)]
    StakeOverflow,
}

/// The validators of one epoch, by index.
#[derive(Clone, Debug)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
    /// Sum of the stakes up to and including each index.
    stake_sums: Vec<u64>,
}

impl ValidatorSet {
    /// A set in the given order.
    pub fn new(validators: Vec<Validator>) -> Result<ValidatorSet, SetError> {
        if validators.is_empty() {
            return Err(SetError::Empty);
        }
        if validators.len() > VALIDATORS_MAX {
            return Err(SetError::TooMany { count: validators.len() });
        }
        let mut seen = std::collections::HashMap::new();
        let mut stake_sums = Vec::with_capacity(validators.len());
        let mut sum = 0u64;
        for (index, validator) in validators.iter().enumerate() {
            if validator.stake == 0 {
                return Err(SetError::NoStake { index });
            }
            if let Some(first) = seen.insert(validator.public_key.to_bytes(), index) {
                return Err(SetError::SharedKey { first, second: index });
            }
            sum = sum.checked_add(validator.stake).ok_or(SetError::StakeOverflow)?;
            stake_sums.push(sum);
        }
        Ok(ValidatorSet { validators, stake_sums })
    }

    /// How many validators.
    #[must_use]
    pub fn len(&self) -> usize {
        self.validators.len()
    }

    /// Never true: a set has a validator.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.validators.is_empty()
    }

    /// Total stake.
    #[must_use]
    pub fn total_stake(&self) -> u64 {
        *self.stake_sums.last().expect("a set has a validator")
    }

    /// The validator at an index, `None` outside the set.
    #[must_use]
    pub fn get(&self, index: ValidatorIndex) -> Option<&Validator> {
        self.validators.get(index.as_usize())
    }

    /// Stake of an index, 0 outside the set.
    #[must_use]
    pub fn stake(&self, index: ValidatorIndex) -> u64 {
        self.get(index).map_or(0, |validator| validator.stake)
    }

    /// Stake of a bitmap's members; `None` when it names anybody outside the set.
    #[must_use]
    pub fn stake_of(&self, bitmap: &Bitmap) -> Option<u64> {
        bitmap.iter().try_fold(0u64, |sum, index| Some(sum + self.get(index)?.stake))
    }

    /// The stakes by index.
    #[must_use]
    pub fn stakes(&self) -> Vec<u64> {
        self.validators.iter().map(|validator| validator.stake).collect()
    }

    /// The leader of `view`: the holder of the stake unit that SHA-256("roko/leader/1\0", seed, view) falls on.
    #[must_use]
    pub fn leader(&self, seed: &[u8; 32], view: View) -> ValidatorIndex {
        let mut hash = Sha256::new();
        hash.put(b"roko/leader/1\0");
        hash.put(seed);
        hash.put_u64(view.0);
        let digest = hash.finalize();
        let draw = u128::from_le_bytes(digest[..16].try_into().expect("a digest has 32 bytes"));
        // 128 bits modulo a 64-bit total: the bias of any validator is below 2^-64.
        let unit = (draw % u128::from(self.total_stake())) as u64;
        ValidatorIndex(self.stake_sums.partition_point(|sum| *sum <= unit) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::SecretKey;

    fn set(stakes: &[u64]) -> ValidatorSet {
        let key = |i: usize| SecretKey::from_seed(&[i as u8 + 1; 32]).unwrap().public_key();
        let validators = stakes.iter().enumerate().map(|(i, s)| Validator { public_key: key(i), stake: *s });
        ValidatorSet::new(validators.collect()).unwrap()
    }

    #[test]
    fn leaders_are_drawn_by_stake() {
        let set = set(&[10, 20, 70]);
        let mut counts = [0u32; 3];
        for view in 0..10_000 {
            counts[set.leader(&[7; 32], View(view)).as_usize()] += 1;
        }
        // Five standard deviations of a binomial with 10,000 draws are at most 250.
        for (count, expected) in counts.iter().zip([1_000u32, 2_000, 7_000]) {
            assert!(count.abs_diff(expected) < 250, "{counts:?}");
        }
    }

    #[test]
    fn the_seed_and_the_view_decide_the_leader() {
        let set = set(&[1; 16]);
        let draws = |seed: u8| (0..64).map(|v| set.leader(&[seed; 32], View(v))).collect::<Vec<_>>();
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_eq!(set.leader(&[0; 32], View(u64::MAX)), set.leader(&[0; 32], View(u64::MAX)));
    }

    #[test]
    fn unusable_sets_are_refused() {
        let key = SecretKey::from_seed(&[1; 32]).unwrap().public_key();
        let one = |stake| Validator { public_key: key, stake };
        assert_eq!(ValidatorSet::new(vec![]).unwrap_err(), SetError::Empty);
        assert_eq!(ValidatorSet::new(vec![one(0)]).unwrap_err(), SetError::NoStake { index: 0 });
        let shared = ValidatorSet::new(vec![one(1), one(2)]).unwrap_err();
        assert_eq!(shared, SetError::SharedKey { first: 0, second: 1 });
        assert!(matches!(ValidatorSet::new(vec![one(1); 257]), Err(SetError::TooMany { count: 257 })));
    }

    #[test]
    fn a_bitmap_that_names_an_outsider_has_no_stake() {
        let set = set(&[1, 2]);
        let mut bitmap = Bitmap::default();
        bitmap.insert(ValidatorIndex(1));
        assert_eq!(set.stake_of(&bitmap), Some(2));
        bitmap.insert(ValidatorIndex(200));
        assert_eq!(set.stake_of(&bitmap), None);
    }
}
