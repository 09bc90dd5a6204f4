//! Points from their 32-byte encodings (RFC 8032, 5.1.3, as ZIP-215 reads it): y need not be below p, and the sign
//! of x = 0 is free.

use core::arch::x86_64::{__m512i, __mmask8, _mm512_cmplt_epi64_mask, _mm512_setzero_si512};

use super::field::Fe;
use super::point::Affine;

/// d = -121665 / 121666.
const D: [i64; 5] = [929955233495203, 466365720129213, 1662059464998953, 2033849074728123, 1442794654840575];
/// A square root of -1.
const SQRT_M1: [i64; 5] =
    [1718705420411056, 234908883556509, 2233514472574048, 2117202627021982, 765476049583133];

/// The points that the words encode, and the lanes where they encode one. Two sets of eight at a time, because one
/// chain of squarings alone would wait on its own latency.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn decompress(words: &[[__m512i; 4]; 2]) -> [(Affine, __mmask8); 2] {
    let ratios = [Ratio::of(&words[0]), Ratio::of(&words[1])];
    let roots = pow_p58(&[ratios[0].base, ratios[1].base]);
    [ratios[0].point(&roots[0], &words[0]), ratios[1].point(&roots[1], &words[1])]
}

/// x^2 = u / v, with u = y^2 - 1 and v = d y^2 + 1; v is never zero, for -1/d is no square.
struct Ratio {
    y: Fe,
    u: Fe,
    v: Fe,
    /// u v^3
    uv3: Fe,
    /// u v^7
    base: Fe,
}

impl Ratio {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn of(words: &[__m512i; 4]) -> Self {
        let one = Fe::small(1).wide();
        let y = Fe::from_words(words);
        let yy = y.square().carry();
        let u = yy.wide().sub(&one).carry();
        let v = yy.mul(&Fe::splat(D)).add(&one).carry();
        let v2 = v.square().carry();
        let uv3 = v2.mul(&v).carry().mul(&u).carry();
        let base = uv3.mul(&v2.square().carry()).carry();
        Self { y, u, v, uv3, base }
    }

    /// The point, given (u v^7)^((p - 5) / 8): the candidate r = u v^3 (u v^7)^((p - 5) / 8) has v r^2 = u, or -u
    /// when r sqrt(-1) is the root, or neither when there is none.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn point(&self, root: &Fe, words: &[__m512i; 4]) -> (Affine, __mmask8) {
        let r = self.uv3.mul(root).carry();
        let check = r.square().carry().mul(&self.v);
        let plus = check.sub(&self.u.wide()).carry().is_zero();
        let minus = check.add(&self.u.wide()).carry().is_zero();
        let x = r.select(&r.mul(&Fe::splat(SQRT_M1)).carry(), minus & !plus);
        let sign = _mm512_cmplt_epi64_mask(words[3], _mm512_setzero_si512());
        let x = x.negate_where(x.is_odd() ^ sign);
        (Affine { x, y: self.y }, plus | minus)
    }
}

/// `z^((p - 5) / 8)`, (p - 5) / 8 = 2^252 - 3.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn pow_p58(z: &[Fe; 2]) -> [Fe; 2] {
    let z2 = squares(z, 1);
    let z9 = products(&squares(&z2, 2), z);
    let z11 = products(&z9, &z2);
    // From here an index n stands for z^(2^n - 1).
    let z_5 = products(&squares(&z11, 1), &z9);
    let z_10 = products(&squares(&z_5, 5), &z_5);
    let z_20 = products(&squares(&z_10, 10), &z_10);
    let z_40 = products(&squares(&z_20, 20), &z_20);
    let z_50 = products(&squares(&z_40, 10), &z_10);
    let z_100 = products(&squares(&z_50, 50), &z_50);
    let z_200 = products(&squares(&z_100, 100), &z_100);
    let z_250 = products(&squares(&z_200, 50), &z_50);
    products(&squares(&z_250, 2), z)
}

/// `z^(2^n)`.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn squares(z: &[Fe; 2], n: usize) -> [Fe; 2] {
    let [mut first, mut second] = *z;
    for _ in 0..n {
        first = first.square().carry();
        second = second.square().carry();
    }
    [first, second]
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn products(a: &[Fe; 2], b: &[Fe; 2]) -> [Fe; 2] {
    [a[0].mul(&b[0]).carry(), a[1].mul(&b[1]).carry()]
}
