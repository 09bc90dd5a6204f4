//! Tables of multiples: of the base point, built once, and of a lane's own point, built for each check.

use core::arch::x86_64::{
    __m512i, __mmask8, _mm512_abs_epi64, _mm512_cmpeq_epi64_mask, _mm512_cmplt_epi64_mask,
    _mm512_mask_mov_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
};
use std::sync::LazyLock;

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;

use super::LANES;
use super::decompress::decompress;
use super::field::Fe;
use super::point::{Affine, Cached, Niels};
use super::vector::{transpose, words_of};

/// The multiples of a lane's point that a table holds: digits go from -8 to 7.
const MULTIPLES: usize = 8;
/// Digits of the base point's scalar go from -128 to 127; row 0 is the neutral element.
const ROWS: usize = 129;

/// The first multiples of eight points: entry i is i + 1 times the point.
pub(super) struct Multiples([Cached; MULTIPLES]);

impl Multiples {
    /// A table to be filled in place: it is too large to be moved about.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn empty() -> Self {
        let zero = Fe::small(0);
        Self([Cached { sum: zero, difference: zero, t2d: zero, z2: zero }; MULTIPLES])
    }

    /// Makes this the table of `point`.
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn fill(&mut self, point: &Affine) {
        let [one, rest @ ..] = &mut self.0;
        *one = point.extended().cached();
        let mut last = point.projective().double().extended();
        for entry in rest {
            *entry = last.cached();
            last = last.add(one, 0).extended();
        }
    }

    /// The multiple `digit` of the point, up to the sign of its T, and the lanes where that sign is minus. `minus`
    /// takes the negative of the multiple in its lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn select(&self, digit: __m512i, minus: __mmask8) -> (Cached, __mmask8) {
        let magnitude = _mm512_abs_epi64(digit);
        let mut chosen =
            Cached { sum: Fe::small(1), difference: Fe::small(1), t2d: Fe::small(0), z2: Fe::small(2) };
        for (i, entry) in self.0.iter().enumerate() {
            let here = _mm512_cmpeq_epi64_mask(magnitude, _mm512_set1_epi64(i as i64 + 1));
            for limb in 0..5 {
                let take = |to: &mut Fe, from: &Fe| {
                    to.0[limb] = _mm512_mask_mov_epi64(to.0[limb], here, from.0[limb])
                };
                take(&mut chosen.sum, &entry.sum);
                take(&mut chosen.difference, &entry.difference);
                take(&mut chosen.t2d, &entry.t2d);
                take(&mut chosen.z2, &entry.z2);
            }
        }
        let minus = minus ^ _mm512_cmplt_epi64_mask(digit, _mm512_setzero_si512());
        let sum = chosen.sum.select(&chosen.difference, minus);
        let difference = chosen.difference.select(&chosen.sum, minus);
        (Cached { sum, difference, ..chosen }, minus)
    }
}

/// One multiple as an affine summand: five limbs each of y + x, y - x and 2 d x y, and one word unused.
#[derive(Clone, Copy)]
struct Row([__m512i; 2]);

/// The multiples 0 to 128 of a fixed point.
pub(super) struct Base([Row; ROWS]);

/// Tables of B and of 2^128 B: the two halves of a scalar share their doublings.
pub(super) static BASES: LazyLock<[Base; 2]> = LazyLock::new(|| {
    let high = (0..128).fold(ED25519_BASEPOINT_POINT, |point, _| point + point);
    // SAFETY: only the lanes reach this table, and they run after the CPU has been found to have every feature.
    unsafe { [Base::of(&ED25519_BASEPOINT_POINT), Base::of(&high)] }
});

impl Base {
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn of(point: &EdwardsPoint) -> Self {
        let mut rows = [Row([_mm512_setzero_si512(); 2]); ROWS];
        let mut multiple = EdwardsPoint::default();
        for first in (0..ROWS).step_by(LANES) {
            let mut encodings = [[0; 32]; LANES];
            for encoding in &mut encodings {
                *encoding = multiple.compress().to_bytes();
                multiple += point;
            }
            let words = words_of(encodings.each_ref());
            let [(points, _), _] = decompress(&[words, words]);
            let cached = points.extended().cached();
            let limbs = transpose_fields(&cached);
            for (row, limbs) in rows[first..].iter_mut().zip(limbs) {
                *row = limbs;
            }
        }
        Self(rows)
    }

    /// The multiples by signed `digits`, up to the sign of their T, and the lanes where that sign is minus.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn select(&self, digits: &[i8; LANES]) -> (Niels, __mmask8) {
        let mut low = [_mm512_setzero_si512(); LANES];
        let mut high = low;
        let mut minus = 0;
        for lane in 0..LANES {
            let row = &self.0[usize::from(digits[lane].unsigned_abs())];
            [low[lane], high[lane]] = row.0;
            minus |= u8::from(digits[lane] < 0) << lane;
        }
        let (low, high) = (transpose(&low), transpose(&high));
        let sum = Fe([low[0], low[1], low[2], low[3], low[4]]);
        let difference = Fe([low[5], low[6], low[7], high[0], high[1]]);
        let t2d = Fe([high[2], high[3], high[4], high[5], high[6]]);
        let niels =
            Niels { sum: sum.select(&difference, minus), difference: difference.select(&sum, minus), t2d };
        (niels, minus)
    }
}

/// The affine summands of eight points with Z = 1, as rows.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn transpose_fields(points: &Cached) -> [Row; LANES] {
    let (sum, difference, t2d) =
        (points.sum.canonical().0, points.difference.canonical().0, points.t2d.canonical().0);
    let zero = _mm512_setzero_si512();
    let low = [sum[0], sum[1], sum[2], sum[3], sum[4], difference[0], difference[1], difference[2]];
    let high = [difference[3], difference[4], t2d[0], t2d[1], t2d[2], t2d[3], t2d[4], zero];
    let (low, high) = (transpose(&low), transpose(&high));
    let mut rows = [Row([zero; 2]); LANES];
    for lane in 0..LANES {
        rows[lane] = Row([low[lane], high[lane]]);
    }
    rows
}
