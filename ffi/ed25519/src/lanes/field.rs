//! Arithmetic modulo p = 2^255 - 19 on eight field elements at once, one per 64-bit lane.
//!
//! An element is five limbs of radix 2^51. The multiplier is `vpmadd52luq` / `vpmadd52huq` (Intel AVX-512 IFMA): it
//! takes the low 52 bits of two limbs and adds the low or the high half of their 104-bit product. A high half has
//! weight 2^52 where the next limb has 2^51, so high halves count double.
//!
//! Bounds are kept by type. With U = 2^59:
//!
//! * [`Fe`]: each limb below 2^51 + 2^15. What multiplication takes, and what [`Wide::carry`] gives.
//! * [`Wide`]: each limb below 4 U = 2^61. A product is below 0.99 U; each addition or subtraction states its part.

use core::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpeq_epi64_mask, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_mask_sub_epi64, _mm512_mullo_epi64,
    _mm512_or_si512, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_sub_epi64, _mm512_test_epi64_mask,
};

/// The low 51 bits.
const MASK: i64 = (1 << 51) - 1;
/// U p / 2^255: what is added before a subtraction so that no limb goes below zero.
const BIAS: [i64; 5] = [(MASK - 18) << 8, MASK << 8, MASK << 8, MASK << 8, MASK << 8];

/// Eight field elements; each limb below 2^51 + 2^15.
#[derive(Clone, Copy)]
pub(super) struct Fe(pub(super) [__m512i; 5]);

/// Eight field elements before their carries; each limb below 2^61.
#[derive(Clone, Copy)]
pub(super) struct Wide(pub(super) [__m512i; 5]);

impl Fe {
    /// The same element in every lane; limbs below 2^51.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn splat(limbs: [i64; 5]) -> Self {
        let mut out = [_mm512_setzero_si512(); 5];
        for i in 0..5 {
            out[i] = _mm512_set1_epi64(limbs[i]);
        }
        Self(out)
    }

    /// The small integer `n` in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn small(n: i64) -> Self {
        Self::splat([n, 0, 0, 0, 0])
    }

    /// The low 255 bits of four little-endian words in each lane. The result need not be below p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn from_words(w: &[__m512i; 4]) -> Self {
        let mask = _mm512_set1_epi64(MASK);
        let l1 = _mm512_or_si512(_mm512_srli_epi64(w[0], 51), _mm512_slli_epi64(w[1], 13));
        let l2 = _mm512_or_si512(_mm512_srli_epi64(w[1], 38), _mm512_slli_epi64(w[2], 26));
        let l3 = _mm512_or_si512(_mm512_srli_epi64(w[2], 25), _mm512_slli_epi64(w[3], 39));
        Self([
            _mm512_and_si512(w[0], mask),
            _mm512_and_si512(l1, mask),
            _mm512_and_si512(l2, mask),
            _mm512_and_si512(l3, mask),
            _mm512_and_si512(_mm512_srli_epi64(w[3], 12), mask),
        ])
    }

    /// The element as a term of a sum: below U.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn wide(&self) -> Wide {
        Wide(self.0)
    }

    /// `self * other`: each limb below 0.98 U.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn mul(&self, other: &Self) -> Wide {
        self.mul_biased::<0>(other)
    }

    /// `self * other`, ready to have a sum of `N` products subtracted: each limb below (N + 0.98) U.
    ///
    /// A low half is below 2^52, a high half below 2^50 + 2^16. Limb 0 is the largest: 1 low half, and 19 times
    /// (4 low halves and 2 * 5 high halves): below 124.6 * 2^52, where U = 128 * 2^52.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn mul_biased<const N: i64>(&self, other: &Self) -> Wide {
        let (a, b) = (&self.0, &other.0);
        let mut z = biases::<N, 2>();
        // High halves first: doubled once for all, low halves then come on top.
        for i in 0..5 {
            for j in 0..5 {
                z[i + j + 1] = _mm512_madd52hi_epu64(z[i + j + 1], a[i], b[j]);
            }
        }
        double(&mut z);
        for i in 0..5 {
            for j in 0..5 {
                z[i + j] = _mm512_madd52lo_epu64(z[i + j], a[i], b[j]);
            }
        }
        fold(&z)
    }

    /// `self * self`, with the bounds of [`Fe::mul`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn square(&self) -> Wide {
        self.square_biased::<0>()
    }

    /// `self * self`, with the bounds of [`Fe::mul_biased`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn square_biased<const N: i64>(&self) -> Wide {
        let a = &self.0;
        let mut z = biases::<N, 4>();
        // Products of different limbs count double as well: high halves four times, and so on down.
        for i in 0..5 {
            for j in i + 1..5 {
                z[i + j + 1] = _mm512_madd52hi_epu64(z[i + j + 1], a[i], a[j]);
            }
        }
        double(&mut z);
        for i in 0..5 {
            z[2 * i + 1] = _mm512_madd52hi_epu64(z[2 * i + 1], a[i], a[i]);
            for j in i + 1..5 {
                z[i + j] = _mm512_madd52lo_epu64(z[i + j], a[i], a[j]);
            }
        }
        double(&mut z);
        for i in 0..5 {
            z[2 * i] = _mm512_madd52lo_epu64(z[2 * i], a[i], a[i]);
        }
        fold(&z)
    }

    /// The negative in the given lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn negate_where(&self, lanes: __mmask8) -> Self {
        let mut out = self.0;
        for (limb, bias) in out.iter_mut().zip(BIAS) {
            *limb = _mm512_mask_sub_epi64(*limb, lanes, _mm512_set1_epi64(bias), *limb);
        }
        Wide(out).carry()
    }

    /// `other` in the given lanes, `self` in the rest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn select(&self, other: &Self, lanes: __mmask8) -> Self {
        let mut out = self.0;
        for (limb, other) in out.iter_mut().zip(other.0) {
            *limb = _mm512_mask_blend_epi64(lanes, *limb, other);
        }
        Self(out)
    }

    /// The one representative below p: each limb below 2^51.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn canonical(&self) -> Self {
        let mask = _mm512_set1_epi64(MASK);
        // The value is below 2^255 (1 + 2^-35) < 2 p, so it holds p at most once: exactly when value + 19 reaches
        // 2^255.
        let mut over = _mm512_set1_epi64(19);
        for limb in self.0 {
            over = _mm512_srli_epi64(_mm512_add_epi64(limb, over), 51);
        }
        let mut carry = _mm512_mullo_epi64(over, _mm512_set1_epi64(19));
        let mut out = self.0;
        for limb in &mut out {
            let sum = _mm512_add_epi64(*limb, carry);
            *limb = _mm512_and_si512(sum, mask);
            carry = _mm512_srli_epi64(sum, 51);
        }
        Self(out)
    }

    /// The lanes that hold zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn is_zero(&self) -> __mmask8 {
        let limbs = self.canonical().0;
        let low = _mm512_or_si512(_mm512_or_si512(limbs[0], limbs[1]), _mm512_or_si512(limbs[2], limbs[3]));
        _mm512_cmpeq_epi64_mask(_mm512_or_si512(low, limbs[4]), _mm512_setzero_si512())
    }

    /// The lanes whose canonical value is odd.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn is_odd(&self) -> __mmask8 {
        _mm512_test_epi64_mask(self.canonical().0[0], _mm512_set1_epi64(1))
    }
}

impl Wide {
    /// The sum, limb by limb.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn add(&self, other: &Self) -> Self {
        let mut out = self.0;
        for (limb, other) in out.iter_mut().zip(other.0) {
            *limb = _mm512_add_epi64(*limb, other);
        }
        Self(out)
    }

    /// `self - other`; the bias of `self` covers what `other` is a sum of.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn less(&self, other: &Self) -> Self {
        let mut out = self.0;
        for (limb, other) in out.iter_mut().zip(other.0) {
            *limb = _mm512_sub_epi64(*limb, other);
        }
        Self(out)
    }

    /// `self - other` where `other` is one product or element; adds at most U to the limbs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn sub(&self, other: &Self) -> Self {
        self.biased().less(other)
    }

    /// The same element with U more in the limbs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn biased(&self) -> Self {
        let mut out = self.0;
        for (limb, bias) in out.iter_mut().zip(BIAS) {
            *limb = _mm512_add_epi64(*limb, _mm512_set1_epi64(bias));
        }
        Self(out)
    }

    /// The negative in the given lanes; `self` is one product, and the result is at most U.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn negate_where(&self, lanes: __mmask8) -> Self {
        let mut out = self.0;
        for (limb, bias) in out.iter_mut().zip(BIAS) {
            *limb = _mm512_mask_sub_epi64(*limb, lanes, _mm512_set1_epi64(bias), *limb);
        }
        Self(out)
    }

    /// One parallel round of carries. Below 2^61 a carry is below 2^10, and 19 times that below 2^15.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn carry(&self) -> Fe {
        let mask = _mm512_set1_epi64(MASK);
        let z = &self.0;
        let top = _mm512_srli_epi64(z[4], 51);
        let mut out = [_mm512_setzero_si512(); 5];
        out[0] = _mm512_madd52lo_epu64(_mm512_and_si512(z[0], mask), top, _mm512_set1_epi64(19));
        for i in 1..5 {
            out[i] = _mm512_add_epi64(_mm512_and_si512(z[i], mask), _mm512_srli_epi64(z[i - 1], 51));
        }
        Fe(out)
    }
}

/// Sums to start from that become `N` times the bias when multiplied by `D`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn biases<const N: i64, const D: i64>() -> [__m512i; 10] {
    let mut sums = [_mm512_setzero_si512(); 10];
    for (sum, bias) in sums.iter_mut().zip(BIAS) {
        *sum = _mm512_set1_epi64(N * bias / D);
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn double(z: &mut [__m512i; 10]) {
    for sum in z {
        *sum = _mm512_add_epi64(*sum, *sum);
    }
}

/// Limbs 5 to 9 into limbs 0 to 4: 2^255 = 19.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn fold(z: &[__m512i; 10]) -> Wide {
    let mut out = [_mm512_setzero_si512(); 5];
    for k in 0..5 {
        out[k] = _mm512_add_epi64(z[k], _mm512_mullo_epi64(z[k + 5], _mm512_set1_epi64(19)));
    }
    Wide(out)
}
