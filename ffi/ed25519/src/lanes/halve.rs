//! Scalars of half the length.
//!
//! For a scalar k there are r and t with t k = r modulo l, t not zero and both about the square root of l: rows of the
//! extended Euclidean algorithm on (l, k), stopped half-way. In the group of prime order l a multiplication by t loses
//! nothing, so `[8](s B - R - k A)` = 0 holds exactly when `[8](t s B - t R - r A)` = 0, and the second needs half the
//! doublings (Antipa, Brown, Gallant, Lambert, Struik and Vanstone, "Accelerated Verification of ECDSA Signatures",
//! 2005; Pornin, "Optimized Lattice Basis Reduction in Dimension 2, and Fast Schnorr and EdDSA Signature
//! Verification", 2020).
//!
//! Eight lanes run Lehmer's form of the algorithm: quotients come from the leading 52 bits in double precision, where
//! every number below 2^53 is exact, and about 25 bits of progress are then applied to the long numbers at once.

use core::arch::x86_64::{
    __m512d, __m512i, __mmask8, _CMP_GE_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEG_INF, _mm512_add_epi64,
    _mm512_add_pd, _mm512_and_si512, _mm512_castsi512_pd, _mm512_cmp_pd_mask, _mm512_cmple_epu64_mask,
    _mm512_cmplt_epi64_mask, _mm512_cmplt_epu64_mask, _mm512_cvtepu64_pd, _mm512_cvtpd_epu64, _mm512_div_pd,
    _mm512_fmadd_pd, _mm512_fnmadd_pd, _mm512_lzcnt_epi64, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_mask_blend_epi64, _mm512_mask_max_pd, _mm512_mask_mov_pd, _mm512_mask_sub_epi64, _mm512_or_si512,
    _mm512_roundscale_pd, _mm512_set1_epi64, _mm512_set1_pd, _mm512_setzero_pd, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_sllv_epi64, _mm512_srai_epi64, _mm512_srli_epi64, _mm512_srlv_epi64,
    _mm512_sub_epi64, _mm512_sub_pd, _mm512_test_epi64_mask,
};

/// The low 52 bits: long numbers here have limbs of radix 2^52.
const MASK: i64 = (1 << 52) - 1;
/// l = 2^252 + 27742317777372353535851937790883648493, the order of the base point.
const ORDER: [i64; 5] = [0x2631a5cf5d3ed, 0xdea2f79cd6581, 0x14def9, 0, 1 << 44];
/// Remainders stop below 2^126; then t is at most l / 2^126, hence at most 2^126.
const STOP_BITS: i64 = 126;
/// Rounds of leading bits. Six are usual, and a quotient above 2^25 takes two more. One above 2^50 may not come to an
/// end: one in about 2^43 scalars has such a quotient.
const ROUNDS: usize = 16;

/// The half-length scalars of eight lanes.
pub(super) struct Halves {
    /// r, at most 2^126: the low and the high word.
    pub(super) r: [__m512i; 2],
    /// The magnitude of t, from 1 to 2^126: the low and the high word.
    pub(super) t: [__m512i; 2],
    /// The lanes where t is negative.
    pub(super) negative: __mmask8,
    /// The lanes where the algorithm came to its end. The others hold nothing of use.
    pub(super) done: __mmask8,
}

/// The half-length scalars of `k`, little-endian words below l.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn halve(k: &[__m512i; 4]) -> Halves {
    let mut rows = Rows::start(k);
    for _ in 0..ROUNDS {
        let live = !rows.ended();
        if live == 0 {
            break;
        }
        let (steps, stuck) = rows.leading().steps(live);
        rows.apply(&steps);
        if stuck != 0 {
            rows.order(stuck);
        }
    }
    let done = rows.ended() & _mm512_cmple_epu64_mask(rows.tb[2], _mm512_set1_epi64(1 << (STOP_BITS - 104)));
    Halves { r: words(&[rows.b[0], rows.b[1], rows.b[2]]), t: words(&rows.tb), negative: rows.odd, done }
}

/// Two neighbouring rows: remainders a > b, and the magnitudes of their cofactors of k, whose signs alternate.
struct Rows {
    a: [__m512i; 5],
    b: [__m512i; 5],
    ta: [__m512i; 3],
    tb: [__m512i; 3],
    /// The lanes where the cofactor of `b` is negative.
    odd: __mmask8,
}

/// The leading 52 bits of a, the same bits of b, and the least b with which a step may go on.
struct Leading {
    a: __m512d,
    b: __m512d,
    least: __m512d,
}

/// The product of some steps: |x0 a - y0 b| and |x1 a - y1 b| are the new remainders.
struct Steps {
    x0: __m512i,
    y0: __m512i,
    x1: __m512i,
    y1: __m512i,
    /// The lanes with an odd number of steps: there the differences are negative.
    odd: __mmask8,
}

impl Rows {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn start(k: &[__m512i; 4]) -> Self {
        let mask = _mm512_set1_epi64(MASK);
        let zero = _mm512_setzero_si512();
        let mut a = [zero; 5];
        for i in 0..5 {
            a[i] = _mm512_set1_epi64(ORDER[i]);
        }
        let l1 = _mm512_or_si512(_mm512_srli_epi64(k[0], 52), _mm512_slli_epi64(k[1], 12));
        let l2 = _mm512_or_si512(_mm512_srli_epi64(k[1], 40), _mm512_slli_epi64(k[2], 24));
        let l3 = _mm512_or_si512(_mm512_srli_epi64(k[2], 28), _mm512_slli_epi64(k[3], 36));
        let b = [
            _mm512_and_si512(k[0], mask),
            _mm512_and_si512(l1, mask),
            _mm512_and_si512(l2, mask),
            _mm512_and_si512(l3, mask),
            _mm512_srli_epi64(k[3], 16),
        ];
        Self { a, b, ta: [zero; 3], tb: [_mm512_set1_epi64(1), zero, zero], odd: 0 }
    }

    /// The lanes whose b is below 2^126.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn ended(&self) -> __mmask8 {
        let high = _mm512_or_si512(self.b[3], self.b[4]);
        let small = _mm512_cmplt_epu64_mask(self.b[2], _mm512_set1_epi64(1 << (STOP_BITS - 104)));
        small & !_mm512_test_epi64_mask(high, high)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn leading(&self) -> Leading {
        let (a, b) = (&self.a, &self.b);
        // a stays at 2^126 or more, so that its highest limb is the second or a later one.
        let has3 = _mm512_test_epi64_mask(a[3], a[3]);
        let has4 = _mm512_test_epi64_mask(a[4], a[4]);
        let pick = |limbs: &[__m512i; 5], i: usize| {
            let low = _mm512_mask_blend_epi64(has3, limbs[i], limbs[i + 1]);
            _mm512_mask_blend_epi64(has4, low, limbs[i + 2])
        };
        let (a_high, a_low) = (pick(a, 2), pick(a, 1));
        let (b_high, b_low) = (pick(b, 2), pick(b, 1));
        let left = _mm512_sub_epi64(_mm512_lzcnt_epi64(a_high), _mm512_set1_epi64(12));
        let right = _mm512_sub_epi64(_mm512_set1_epi64(52), left);
        let join = |high, low| {
            let bits = _mm512_or_si512(_mm512_sllv_epi64(high, left), _mm512_srlv_epi64(low, right));
            _mm512_cvtepu64_pd(bits)
        };
        // What is dropped is 52 (i - 1) + 52 - left bits of limb i, so b >= 2^126 reads 2^(126 - 52 i + left).
        let exponent = [2, 3, 4].map(|i| 1023 + STOP_BITS - 52 * i);
        let at = |i: usize| _mm512_set1_epi64(exponent[i]);
        let exponent = _mm512_mask_blend_epi64(has4, _mm512_mask_blend_epi64(has3, at(0), at(1)), at(2));
        let least = _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_add_epi64(exponent, left), 52));
        Leading { a: join(a_high, a_low), b: join(b_high, b_low), least }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn apply(&mut self, s: &Steps) {
        let a = difference(&s.x0, &self.a, &s.y0, &self.b, s.odd);
        // The second remainder has had one step more than its sign says.
        let b = difference(&s.x1, &self.a, &s.y1, &self.b, !s.odd);
        let ta = sum(&s.x0, &self.ta, &s.y0, &self.tb);
        let tb = sum(&s.x1, &self.ta, &s.y1, &self.tb);
        *self = Self { a, b, ta, tb, odd: self.odd ^ s.odd };
    }

    /// Exchanges a and b where a is the smaller, in the given lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn order(&mut self, lanes: __mmask8) {
        let mut borrow = _mm512_setzero_si512();
        for (a, b) in self.a.iter().zip(&self.b) {
            borrow = _mm512_srai_epi64(_mm512_add_epi64(_mm512_sub_epi64(*a, *b), borrow), 52);
        }
        let less = lanes & _mm512_cmplt_epi64_mask(borrow, _mm512_setzero_si512());
        exchange(&mut self.a, &mut self.b, less);
        exchange(&mut self.ta, &mut self.tb, less);
        self.odd ^= less;
    }
}

impl Leading {
    /// Euclidean steps as long as the quotients of the leading bits are surely those of the whole numbers: by Collins,
    /// the new remainder is at least its cofactor, and the one before exceeds it by at least the last two cofactors
    /// (Knuth, "The Art of Computer Programming", volume 2, 4.5.2; Jebelean 1993). The floor is exact: the quotient
    /// of two integers below 2^52 that is no integer lies further from one than the rounding goes.
    ///
    /// Where not even the first quotient is sure, the lane is stuck: it takes a quotient that is sure not to be too
    /// large, and its rows may have to be put in order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn steps(&self, lanes: __mmask8) -> (Steps, __mmask8) {
        const FLOOR: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        let (mut a, mut b) = (self.a, self.b);
        let (mut x0, mut y0) = (_mm512_set1_pd(1.0), _mm512_setzero_pd());
        let (mut x1, mut y1) = (y0, x0);
        let mut live = lanes;
        let mut odd = 0;
        let mut stuck = lanes;
        loop {
            let q = _mm512_roundscale_pd::<FLOOR>(_mm512_div_pd(a, b));
            let r = _mm512_fnmadd_pd(q, b, a);
            let x2 = _mm512_fmadd_pd(q, x1, x0);
            let y2 = _mm512_fmadd_pd(q, y1, y0);
            live &= _mm512_cmp_pd_mask::<_CMP_GE_OQ>(b, self.least);
            live &= _mm512_cmp_pd_mask::<_CMP_GE_OQ>(r, y2);
            live &= _mm512_cmp_pd_mask::<_CMP_GE_OQ>(_mm512_sub_pd(b, r), _mm512_add_pd(y1, y2));
            if live == 0 {
                break;
            }
            odd ^= live;
            stuck &= !live;
            (a, b) = (_mm512_mask_mov_pd(a, live, b), _mm512_mask_mov_pd(b, live, r));
            (x0, x1) = (_mm512_mask_mov_pd(x0, live, x1), _mm512_mask_mov_pd(x1, live, x2));
            (y0, y1) = (_mm512_mask_mov_pd(y0, live, y1), _mm512_mask_mov_pd(y1, live, y2));
        }
        if stuck != 0 {
            let one = _mm512_set1_pd(1.0);
            let q = _mm512_roundscale_pd::<FLOOR>(_mm512_div_pd(self.a, _mm512_add_pd(self.b, one)));
            y0 = _mm512_mask_max_pd(y0, stuck, q, one);
        }
        let (x0, y0) = (_mm512_cvtpd_epu64(x0), _mm512_cvtpd_epu64(y0));
        let (x1, y1) = (_mm512_cvtpd_epu64(x1), _mm512_cvtpd_epu64(y1));
        (Steps { x0, y0, x1, y1, odd }, stuck)
    }
}

/// `x a - y b`, or `y b - x a` in the lanes of `minus`; never below zero for the steps made here.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn difference(x: &__m512i, a: &[__m512i; 5], y: &__m512i, b: &[__m512i; 5], minus: __mmask8) -> [__m512i; 5] {
    let mask = _mm512_set1_epi64(MASK);
    let (xa, yb) = (multiple(x, a), multiple(y, b));
    let mut carry = _mm512_setzero_si512();
    let mut out = xa;
    for i in 0..5 {
        let difference = _mm512_mask_sub_epi64(_mm512_sub_epi64(xa[i], yb[i]), minus, yb[i], xa[i]);
        let limb = _mm512_add_epi64(difference, carry);
        out[i] = _mm512_and_si512(limb, mask);
        carry = _mm512_srai_epi64(limb, 52);
    }
    out
}

/// Exchanges the numbers in the given lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn exchange<const N: usize>(a: &mut [__m512i; N], b: &mut [__m512i; N], lanes: __mmask8) {
    for (a, b) in a.iter_mut().zip(b) {
        let first = _mm512_mask_blend_epi64(lanes, *a, *b);
        *b = _mm512_mask_blend_epi64(lanes, *b, *a);
        *a = first;
    }
}

/// `x a + y b`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn sum(x: &__m512i, a: &[__m512i; 3], y: &__m512i, b: &[__m512i; 3]) -> [__m512i; 3] {
    let mask = _mm512_set1_epi64(MASK);
    let (xa, yb) = (multiple(x, a), multiple(y, b));
    let mut carry = _mm512_setzero_si512();
    let mut out = xa;
    for i in 0..3 {
        let limb = _mm512_add_epi64(_mm512_add_epi64(xa[i], yb[i]), carry);
        out[i] = _mm512_and_si512(limb, mask);
        carry = _mm512_srli_epi64(limb, 52);
    }
    out
}

/// The limbs of `x a` without carries, each below 2^53.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn multiple<const N: usize>(x: &__m512i, a: &[__m512i; N]) -> [__m512i; N] {
    let mut out = [_mm512_setzero_si512(); N];
    for i in 0..N {
        out[i] = _mm512_madd52lo_epu64(out[i], *x, a[i]);
        if i > 0 {
            out[i] = _mm512_madd52hi_epu64(out[i], *x, a[i - 1]);
        }
    }
    out
}

/// The low 128 bits as two words.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn words(limbs: &[__m512i; 3]) -> [__m512i; 2] {
    [
        _mm512_or_si512(limbs[0], _mm512_slli_epi64(limbs[1], 52)),
        _mm512_or_si512(_mm512_srli_epi64(limbs[1], 12), _mm512_slli_epi64(limbs[2], 40)),
    ]
}
