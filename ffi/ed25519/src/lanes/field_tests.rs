//! The field against a model in 256-bit integers, with limbs up to the bounds of each type.

use core::arch::x86_64::{__m512i, _mm512_setzero_si512};
use core::array::from_fn;

use proptest::prelude::*;
use ruint::aliases::U256;

use super::field::{Fe, Wide};
use super::vector::{lanes_of, vector};
use super::{LANES, supported};

/// Above every limb of an [`Fe`].
const FE: u64 = (1 << 51) + (1 << 15);
/// Above every limb of a product.
const PRODUCT: u64 = (1 << 59) / 128 * 127;
/// Above every limb of a [`Wide`].
const WIDE: u64 = 1 << 61;

/// The limbs of one element, from the lowest.
type Limbs = [u64; 5];

fn p() -> U256 {
    (U256::from(1) << 255) - U256::from(19)
}

fn value(limbs: &Limbs) -> U256 {
    let mut sum = U256::ZERO;
    for (i, limb) in limbs.iter().enumerate() {
        sum = sum.add_mod(U256::from(*limb).mul_mod(U256::from(1) << (51 * i), p()), p());
    }
    sum
}

fn minus(a: U256, b: U256) -> U256 {
    a.add_mod(p() - b, p())
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn fe(limbs: &[Limbs; LANES]) -> Fe {
    let mut out = [_mm512_setzero_si512(); 5];
    for (i, out) in out.iter_mut().enumerate() {
        *out = vector(&from_fn(|lane| limbs[lane][i].cast_signed()));
    }
    Fe(out)
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn limbs(words: &[__m512i; 5]) -> [Limbs; LANES] {
    let mut columns = [[0; LANES]; 5];
    for (column, word) in columns.iter_mut().zip(words) {
        *column = lanes_of(*word);
    }
    from_fn(|lane| columns.map(|column| column[lane]))
}

/// Asserts that every lane is what `expected` makes of its number, with limbs below `bound`.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn same(words: &[__m512i; 5], bound: u64, expected: &[U256; LANES], what: &str) {
    for (limbs, expected) in limbs(words).iter().zip(expected) {
        assert!(limbs.iter().all(|limb| *limb < bound), "{what}: {limbs:x?}");
        assert_eq!(value(limbs), *expected, "{what}");
    }
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn check_elements(a: &[Limbs; LANES], b: &[Limbs; LANES], lanes: u8) {
    let (x, y) = (fe(a), fe(b));
    let (u, v) = (a.map(|a| value(&a)), b.map(|b| value(&b)));
    let each = |f: &dyn Fn(usize) -> U256| from_fn::<_, LANES, _>(f);
    let product = x.mul(&y);
    same(&product.0, PRODUCT, &each(&|i| u[i].mul_mod(v[i], p())), "product");
    same(
        &x.mul_biased::<1>(&y).0,
        PRODUCT + (1 << 59),
        &each(&|i| u[i].mul_mod(v[i], p())),
        "product, biased",
    );
    let least = limbs(&x.mul_biased::<1>(&y).0).into_iter().flatten().min();
    assert!(least >= Some((1 << 59) - 4864), "a product does not go below its bias: {least:x?}");
    for (square, bias) in [(x.square_biased::<1>(), 1), (x.square_biased::<3>(), 3)] {
        same(&square.0, PRODUCT + (bias << 59), &each(&|i| u[i].mul_mod(u[i], p())), "square, biased");
        let least = limbs(&square.0).into_iter().flatten().min();
        assert!(least >= Some(bias * ((1 << 59) - 4864)), "a square does not go below its bias: {least:x?}");
    }
    same(&product.carry().0, FE, &each(&|i| u[i].mul_mod(v[i], p())), "carried product");
    same(&x.square().0, PRODUCT, &each(&|i| u[i].mul_mod(u[i], p())), "square");
    same(&x.wide().add(&y.wide()).carry().0, FE, &each(&|i| u[i].add_mod(v[i], p())), "sum");
    same(&x.wide().sub(&y.wide()).carry().0, FE, &each(&|i| minus(u[i], v[i])), "difference");
    let chosen = |i: usize, yes: U256, no: U256| if lanes >> i & 1 == 1 { yes } else { no };
    same(&x.negate_where(lanes).0, FE, &each(&|i| chosen(i, minus(U256::ZERO, u[i]), u[i])), "negative");
    same(&x.select(&y, lanes).0, FE, &each(&|i| chosen(i, v[i], u[i])), "selection");
    let canonical = x.canonical();
    same(&canonical.0, 1 << 51, &u, "canonical");
    for (limbs, u) in limbs(&canonical.0).iter().zip(u) {
        let plain = limbs.iter().rev().fold(U256::ZERO, |sum, limb| (sum << 51) | U256::from(*limb));
        assert_eq!(plain, u);
    }
    assert_eq!(x.is_zero(), u.iter().rev().fold(0, |bits, u| bits << 1 | u8::from(u.is_zero())));
    assert_eq!(x.is_odd(), u.iter().rev().fold(0, |bits, u| bits << 1 | u8::from(u.bit(0))));
}

/// Sums of products, as the formulas for points form them.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn check_sums(a: &[Limbs; LANES], b: &[Limbs; LANES], lanes: u8) {
    let (x, y) = (Wide(fe(a).0), Wide(fe(b).0));
    let (u, v) = (a.map(|a| value(&a)), b.map(|b| value(&b)));
    same(&x.sub(&y).0, 2 << 59, &from_fn(|i| minus(u[i], v[i])), "difference");
    let negative = x.negate_where(lanes);
    let sign = |i: usize| if lanes >> i & 1 == 1 { minus(U256::ZERO, u[i]) } else { u[i] };
    same(&negative.0, 1 << 59, &from_fn(sign), "negative");
    same(&y.sub(&negative).0, 2 << 59, &from_fn(|i| minus(v[i], sign(i))), "less a negative");
}

/// A limb below `bound`, often at its edges.
fn limb(bound: u64) -> impl Strategy<Value = u64> {
    let mask = (1 << 51) - 1;
    prop_oneof![Just(0), Just(1), Just(bound - 1), Just(mask), Just(mask - 18), Just(mask + 1), 0..bound,]
}

fn elements(bound: u64) -> impl Strategy<Value = [Limbs; LANES]> {
    let limbs = proptest::array::uniform5(limb(bound));
    let mask = (1 << 51) - 1;
    let p = Just([mask - 18, mask, mask, mask, mask]);
    proptest::array::uniform8(prop_oneof![8 => limbs, 1 => p, 1 => Just([bound - 1; 5])])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elements_follow_the_model(a in elements(FE), b in elements(FE), lanes: u8) {
        if supported() {
            // SAFETY: the CPU has the features.
            unsafe { check_elements(&a, &b, lanes) };
        }
    }

    #[test]
    fn sums_follow_the_model(a in elements(PRODUCT), b in elements(PRODUCT), lanes: u8) {
        if supported() {
            // SAFETY: the CPU has the features.
            unsafe { check_sums(&a, &b, lanes) };
        }
    }

    #[test]
    fn carries_follow_the_model(a in elements(WIDE)) {
        if supported() {
            // SAFETY: the CPU has the features.
            unsafe { same(&Wide(fe(&a).0).carry().0, FE, &a.map(|a| value(&a)), "carry") };
        }
    }
}

#[test]
fn the_largest_limbs_stay_within_bounds() {
    if supported() {
        let largest = [[FE - 1; 5]; LANES];
        // SAFETY: the CPU has the features.
        unsafe { check_elements(&largest, &largest, 0b0101_0101) };
    }
}
