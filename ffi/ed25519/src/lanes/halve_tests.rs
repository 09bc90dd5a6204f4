//! Half-length scalars against arithmetic modulo l.

use curve25519_dalek::Scalar;
use proptest::prelude::*;

use super::halve::halve;
use super::vector::{lanes_of, words_of};
use super::{LANES, supported};

const MOST: u128 = 1 << 126;

/// Asserts t k = r and the bounds in every lane that came to an end; gives those lanes.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn check(k: &[Scalar; LANES]) -> u8 {
    let bytes = k.map(|k| k.to_bytes());
    let halves = halve(&words_of(bytes.each_ref()));
    let number = |words: [_; 2], lane: usize| {
        let [low, high] = [lanes_of(words[0])[lane], lanes_of(words[1])[lane]];
        u128::from(low) | u128::from(high) << 64
    };
    for (lane, k) in k.iter().enumerate().filter(|(lane, _)| halves.done >> lane & 1 == 1) {
        let (r, t) = (number(halves.r, lane), number(halves.t, lane));
        assert!(r <= MOST && (1..=MOST).contains(&t), "r {r:x}, t {t:x} for {k:?}");
        let signed = if halves.negative >> lane & 1 == 1 { -Scalar::from(t) } else { Scalar::from(t) };
        assert_eq!(signed * k, Scalar::from(r), "r {r:x}, t {t:x} for {k:?}");
    }
    halves.done
}

/// A scalar, or one with a long quotient, which is near a fraction of l of small numbers.
fn scalar() -> impl Strategy<Value = Scalar> {
    let wide = any::<[u8; 32]>().prop_map(Scalar::from_bytes_mod_order);
    let fraction = (1..1_u64 << 40, 1..1_u64 << 40, any::<u32>())
        .prop_map(|(a, b, c)| Scalar::from(a) * Scalar::from(b).invert() + Scalar::from(c));
    let short = (any::<u128>(), 0..128_u32).prop_map(|(n, shift)| Scalar::from(n >> shift));
    prop_oneof![4 => wide, 1 => fraction, 1 => short.clone(), 1 => short.prop_map(|n| -n)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn halves_are_a_row_of_the_lattice(k in proptest::array::uniform8(scalar())) {
        if supported() {
            // SAFETY: the CPU has the features.
            unsafe { check(&k) };
        }
    }

    #[test]
    fn random_scalars_come_to_an_end(k in proptest::array::uniform8(any::<[u8; 32]>())) {
        if supported() {
            // SAFETY: the CPU has the features.
            prop_assert_eq!(unsafe { check(&k.map(Scalar::from_bytes_mod_order)) }, u8::MAX);
        }
    }
}

#[test]
fn scalars_at_the_edges_keep_the_bounds() {
    let edges = [
        Scalar::ZERO,
        Scalar::ONE,
        Scalar::from(MOST - 1),
        Scalar::from(MOST),
        Scalar::from(MOST + 1),
        Scalar::from(u128::MAX),
        -Scalar::from(MOST * 2 - 1),
        Scalar::from(MOST) * Scalar::from(MOST - 1),
    ];
    if supported() {
        // SAFETY: the CPU has the features.
        assert_eq!(unsafe { check(&edges) } & 0b111, 0b111);
    }
}

#[test]
fn long_quotients_keep_the_bounds_and_come_to_an_end() {
    if supported() {
        for bits in 1..126 {
            let small = Scalar::from(1_u128 << bits);
            let half = small.invert();
            let near = [half, -half, half + Scalar::ONE, half * Scalar::from(3_u64)];
            // SAFETY: the CPU has the features.
            let done = unsafe {
                check(&[near[0], near[1], near[2], near[3], small, -small, small + half, small - half])
            };
            assert!(bits > 50 || done & 0b1111 == 0b1111, "2^{bits}: {done:b}");
        }
    }
}
