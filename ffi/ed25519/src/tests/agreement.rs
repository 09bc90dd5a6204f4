//! Random cases, sound and spoilt in every mix.

use curve25519_dalek::Scalar;
use proptest::prelude::*;

use super::*;

/// l as little-endian bytes.
fn order() -> [u8; 32] {
    let mut bytes = (-Scalar::ONE).to_bytes();
    bytes[0] += 1;
    bytes
}

/// `a + b`, or nothing on overflow.
fn sum(a: &[u8], b: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    core::array::from_fn(|i| {
        let sum = u16::from(a[i]) + u16::from(b[i]) + carry;
        carry = sum >> 8;
        sum as u8
    })
}

#[derive(Clone, Debug)]
enum Spoilt {
    Not,
    Key(usize, u8),
    Signature(usize, u8),
    Message(usize, u8),
    /// s + l: the same residue, not canonical.
    Raised,
    /// Random bytes for the key.
    RandomKey([u8; 32]),
    /// Random bytes for R and s.
    RandomSignature([u8; 32], [u8; 32]),
}

fn spoilt() -> impl Strategy<Value = Spoilt> {
    prop_oneof![
        8 => Just(Spoilt::Not),
        1 => (0..32_usize, 0..8_u8).prop_map(|(i, bit)| Spoilt::Key(i, bit)),
        3 => (0..64_usize, 0..8_u8).prop_map(|(i, bit)| Spoilt::Signature(i, bit)),
        1 => (0..1000_usize, 0..8_u8).prop_map(|(i, bit)| Spoilt::Message(i, bit)),
        1 => Just(Spoilt::Raised),
        1 => any::<[u8; 32]>().prop_map(Spoilt::RandomKey),
        1 => any::<([u8; 32], [u8; 32])>().prop_map(|(r, s)| Spoilt::RandomSignature(r, s)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let message = proptest::collection::vec(any::<u8>(), 0..=1000);
    (any::<[u8; 32]>(), message, spoilt()).prop_map(|(seed, message, spoilt)| {
        let mut case = Case::signed(seed, message);
        match spoilt {
            Spoilt::Not => {}
            Spoilt::Key(i, bit) => case.key[i] ^= 1 << bit,
            Spoilt::Signature(i, bit) => case.signature[i] ^= 1 << bit,
            Spoilt::Message(i, bit) => {
                if let Some(byte) = case.message.get_mut(i) {
                    *byte ^= 1 << bit;
                }
            }
            Spoilt::Raised => {
                let raised = sum(&case.signature[32..], &order());
                case.signature[32..].copy_from_slice(&raised);
            }
            Spoilt::RandomKey(key) => case.key = key,
            Spoilt::RandomSignature(r, s) => case.signature.as_chunks_mut::<32>().0.copy_from_slice(&[r, s]),
        }
        case
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_cases_agree(cases in proptest::collection::vec(case(), 1..=LANES)) {
        agreed(&cases);
    }
}

#[test]
fn every_pattern_of_good_and_bad_agrees() {
    let good: Vec<_> =
        (0..LANES as u8).map(|i| Case::signed([i; 32], vec![i; 40 * usize::from(i)])).collect();
    for pattern in 0..=u8::MAX {
        let mut cases = good.clone();
        for (i, case) in cases.iter_mut().enumerate() {
            if pattern >> i & 1 == 0 {
                case.signature[33] ^= 1;
            }
        }
        assert_eq!(agreed(&cases), pattern);
    }
}

#[test]
fn every_length_around_the_blocks_of_the_hash_agrees() {
    let cases: Vec<_> = (0..=400).map(|len| Case::signed([9; 32], vec![3; len])).collect();
    for cases in cases.chunks(LANES) {
        assert_eq!(agreed(cases).count_ones() as usize, cases.len());
    }
}

#[test]
fn scalars_at_the_edges_of_the_range_agree() {
    let edges =
        [Scalar::ZERO.to_bytes(), Scalar::ONE.to_bytes(), (-Scalar::ONE).to_bytes(), order(), [0xff; 32]];
    let good = Case::signed([4; 32], b"edges".to_vec());
    let cases: Vec<_> = edges
        .into_iter()
        .map(|s| {
            let mut case = good.clone();
            case.signature[32..].copy_from_slice(&s);
            case
        })
        .chain([good.clone()])
        .collect();
    assert_eq!(agreed(&cases), 0b10_0000);
    for bit in [252, 253, 254, 255] {
        let mut case = good.clone();
        case.signature[32 + bit / 8] |= 1 << (bit % 8);
        assert_eq!(agreed(&[case, good.clone()]), 0b10, "bit {bit} of s");
    }
}
