//! The hash against the `sha2` crate.

use proptest::prelude::*;
use sha2::{Digest, Sha512};

use super::sha512::hash;
use super::{LANES, supported};
use crate::Check;

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn check(messages: &[Vec<u8>; LANES], key: &[u8; 32], signature: &[u8; 64]) {
    let checks = messages.each_ref().map(|message| Check { key, signature, message });
    let words = hash(&checks.each_ref());
    for (lane, message) in messages.iter().enumerate() {
        let expected =
            Sha512::new().chain_update(&signature[..32]).chain_update(key).chain_update(message).finalize();
        let bytes: Vec<_> = words.iter().flat_map(|word| word[lane].to_be_bytes()).collect();
        assert_eq!(bytes[..], expected[..], "lane {lane}, {} bytes", message.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lanes_of_any_lengths_hash_alike(
        messages in proptest::array::uniform8(proptest::collection::vec(any::<u8>(), 0..=1000)),
        key: [u8; 32],
    ) {
        if supported() {
            // SAFETY: the CPU has the features.
            unsafe { check(&messages, &key, &[0x5a; 64]) };
        }
    }
}

#[test]
fn every_length_around_a_block_hashes_alike() {
    if supported() {
        for from in (0..400).step_by(LANES) {
            let messages = core::array::from_fn(|i| vec![i as u8; from + i]);
            // SAFETY: the CPU has the features.
            unsafe { check(&messages, &[1; 32], &[2; 64]) };
        }
    }
}
