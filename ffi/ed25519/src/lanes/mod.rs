//! Eight checks at once: lane i of every vector belongs to check i.
//!
//! A lane holds when A and R decompress, s is below l, and `[8](t s B - t R - r A)` is the neutral element, where t and
//! r are the half-length scalars of k ([`mod@halve`]). All lanes do the same work, and no lane's numbers reach another.

mod decompress;
mod field;
mod halve;
mod point;
mod sha512;
mod table;
mod vector;

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod halve_tests;
#[cfg(test)]
mod sha512_tests;

use core::arch::x86_64::{
    __m128i, __m512i, __mmask8, _mm_cvtsi64_si128, _mm512_add_epi64, _mm512_and_si512,
    _mm512_cmplt_epu64_mask, _mm512_mask_add_epi64, _mm512_set1_epi64, _mm512_srl_epi64, _mm512_sub_epi64,
};
use std::sync::LazyLock;

use curve25519_dalek::Scalar;

use crate::Check;
use halve::{Halves, halve};
use point::{Affine, Projective};
use table::{BASES, Multiples};
use vector::{lanes_of, words_of};

/// The lanes of a vector.
const LANES: usize = crate::LANES;
/// Digits of four bits of a half-length scalar.
const DIGITS: usize = 32;

/// What the lanes found.
pub(crate) struct Verdict {
    /// The lanes whose check holds.
    pub(crate) holds: u8,
    /// The lanes whose verdict is known: all but once in about 2^43 checks. The others are to be checked one by one.
    pub(crate) known: u8,
}

/// Whether this CPU has what the functions here are compiled for.
pub(crate) fn supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
}

/// Builds the tables of the base point.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(crate) fn prepare() {
    LazyLock::force(&BASES);
}

/// The verdicts of the first eight checks. Lanes without one repeat the first check, and do not hold.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(crate) fn verify(checks: &[Check<'_>]) -> Verdict {
    let Some(first) = checks.first() else { return Verdict { holds: 0, known: u8::MAX } };
    let mut lanes = [first; LANES];
    let mut keys = [first.key; LANES];
    let mut nonces = [first.nonce(); LANES];
    let mut s = [Scalar::ZERO; LANES];
    let mut valid = 0;
    for (i, check) in checks.iter().take(LANES).enumerate() {
        lanes[i] = check;
        keys[i] = check.key;
        nonces[i] = check.nonce();
        if let Some(scalar) = Option::from(Scalar::from_canonical_bytes(*check.s())) {
            s[i] = scalar;
            valid |= 1 << i;
        }
    }
    let [(key, key_valid), (nonce, nonce_valid)] =
        decompress::decompress(&[words_of(keys), words_of(nonces)]);
    let halves = halve(&challenges(&lanes));
    let sums = combination(&key, &nonce, &halves, &base_digits(&s, &halves.t));
    Verdict { holds: valid & key_valid & nonce_valid & sums & halves.done, known: halves.done }
}

/// k = SHA-512(R || A || M) modulo l, as words.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn challenges(lanes: &[&Check<'_>; LANES]) -> [__m512i; 4] {
    let words = sha512::hash(lanes);
    let mut k = [[0; 32]; LANES];
    for (lane, k) in k.iter_mut().enumerate() {
        let mut hash = [0; 64];
        for (bytes, words) in hash.as_chunks_mut().0.iter_mut().zip(&words) {
            *bytes = words[lane].to_be_bytes();
        }
        *k = Scalar::from_bytes_mod_order_wide(&hash).to_bytes();
    }
    words_of(k.each_ref())
}

/// The signed digits of t s modulo l, 8 bits each, from the lowest: for each position those of all lanes.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn base_digits(s: &[Scalar; LANES], t: &[__m512i; 2]) -> [[i8; LANES]; 32] {
    let [low, high] = [lanes_of(t[0]), lanes_of(t[1])];
    let mut digits = [[0; LANES]; 32];
    for lane in 0..LANES {
        let t = u128::from(low[lane]) | u128::from(high[lane]) << 64;
        let product = (Scalar::from(t) * s[lane]).to_bytes();
        // A byte above 127 is a negative digit, and one more in the next; the last byte is at most 16.
        let mut carry = 0;
        for (byte, digit) in product.iter().zip(&mut digits) {
            let sum = u16::from(*byte) + carry;
            digit[lane] = sum as u8 as i8;
            carry = u16::from(sum > 127);
        }
    }
    digits
}

/// The lanes where `[8](w B - t R - r A)` is the neutral element, given the digits of w.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn combination(key: &Affine, nonce: &Affine, halves: &Halves, base: &[[i8; LANES]; 32]) -> __mmask8 {
    let [low, high] = &*BASES;
    let (mut keys, mut nonces) = (Multiples::empty(), Multiples::empty());
    keys.fill(key);
    nonces.fill(nonce);
    let (r, t) = (offset(&halves.r), offset(&halves.t));
    let mut sum = Projective::identity();
    for i in (0..DIGITS).rev() {
        let doubled =
            sum.double().projective().double().projective().double().projective().double().extended();
        let (multiple, minus) = keys.select(digit(&r, i), !halves.negative);
        let with_key = doubled.add(&multiple, minus).extended();
        let (multiple, minus) = nonces.select(digit(&t, i), u8::MAX);
        let with_nonce = with_key.add(&multiple, minus);
        sum = if i % 2 == 0 {
            let (multiple, minus) = low.select(&base[i / 2]);
            let with_low = with_nonce.extended().add_affine(&multiple, minus).extended();
            let (multiple, minus) = high.select(&base[i / 2 + 16]);
            with_low.add_affine(&multiple, minus).projective()
        } else {
            with_nonce.projective()
        };
    }
    sum.double().projective().double().projective().double().projective().is_identity()
}

/// `c` plus 8 at each digit: then digit i is the plain digit less 8. `c` is at most 2^126, so that nothing is lost.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn offset(c: &[__m512i; 2]) -> [__m512i; 2] {
    let eights = _mm512_set1_epi64(0x8888_8888_8888_8888_u64.cast_signed());
    let low = _mm512_add_epi64(c[0], eights);
    let high = _mm512_add_epi64(c[1], eights);
    let carry = _mm512_cmplt_epu64_mask(low, eights);
    [low, _mm512_mask_add_epi64(high, carry, high, _mm512_set1_epi64(1))]
}

/// Digit `i`, from -8 to 7, of an offset scalar.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn digit(offset: &[__m512i; 2], i: usize) -> __m512i {
    let shift: __m128i = _mm_cvtsi64_si128((i % 16 * 4) as i64);
    let plain = _mm512_and_si512(_mm512_srl_epi64(offset[i / 16], shift), _mm512_set1_epi64(15));
    _mm512_sub_epi64(plain, _mm512_set1_epi64(8))
}
