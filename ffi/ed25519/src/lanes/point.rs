//! Points of edwards25519, -x^2 + y^2 = 1 + d x^2 y^2, eight at once.
//!
//! Formulas: "dbl-2008-hwcd" and "add-2008-hwcd-3" of Hisil, Wong, Carter and Dawson, "Twisted Edwards Curves
//! Revisited" (2008). They are complete here: -1 is a square and d is none, so that no input needs a special case.
//! Limb bounds are those of [`super::field`], in units of U.

use core::arch::x86_64::__mmask8;

use super::field::{Fe, Wide};

/// 2 d.
const D2: [i64; 5] = [1859910466990425, 932731440258426, 1072319116312658, 1815898335770999, 633789495995903];

/// (x, y).
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) x: Fe,
    pub(super) y: Fe,
}

/// (X : Y : Z), x = X/Z, y = Y/Z.
#[derive(Clone, Copy)]
pub(super) struct Projective {
    pub(super) x: Fe,
    pub(super) y: Fe,
    pub(super) z: Fe,
}

/// (X : Y : Z : T) with T = XY/Z, as additions take it: (Y + X, Y - X, Z, T).
#[derive(Clone, Copy)]
pub(super) struct Extended {
    pub(super) sum: Fe,
    pub(super) difference: Fe,
    pub(super) z: Fe,
    pub(super) t: Fe,
}

/// The four factors of a sum before the last multiplications: X = EF, Y = GH, Z = FG, T = EH.
#[derive(Clone, Copy)]
pub(super) struct Completed {
    e: Fe,
    f: Fe,
    g: Fe,
    h: Fe,
}

/// A summand, prepared: (Y + X, Y - X, 2 d T, 2 Z).
#[derive(Clone, Copy)]
pub(super) struct Cached {
    pub(super) sum: Fe,
    pub(super) difference: Fe,
    pub(super) t2d: Fe,
    pub(super) z2: Fe,
}

/// An affine summand, prepared: (y + x, y - x, 2 d x y).
#[derive(Clone, Copy)]
pub(super) struct Niels {
    pub(super) sum: Fe,
    pub(super) difference: Fe,
    pub(super) t2d: Fe,
}

impl Affine {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn projective(&self) -> Projective {
        Projective { x: self.x, y: self.y, z: Fe::small(1) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn extended(&self) -> Extended {
        let (x, y) = (self.x.wide(), self.y.wide());
        Extended {
            sum: y.add(&x).carry(),
            difference: y.sub(&x).carry(),
            z: Fe::small(1),
            t: self.x.mul(&self.y).carry(),
        }
    }
}

impl Projective {
    /// The neutral element.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn identity() -> Self {
        Self { x: Fe::small(0), y: Fe::small(1), z: Fe::small(1) }
    }

    /// Twice the point. F and H here are the paper's with the other sign, so that all four products are, which
    /// is the same projective point.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn double(&self) -> Completed {
        let a = self.x.square();
        let b = self.y.square_biased::<1>();
        let c = self.z.square_biased::<1>();
        let s = self.x.wide().add(&self.y.wide()).carry().square_biased::<3>();
        let h = a.add(&b); // below 2.96 U
        let g = b.less(&a); // below 1.98 U
        let e = s.less(&h); // below 3.98 U
        let f = c.add(&c).less(&g); // below 3.96 U
        Completed { e: e.carry(), f: f.carry(), g: g.carry(), h: h.carry() }
    }

    /// The lanes that hold the neutral element: X = 0 and Y = Z.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn is_identity(&self) -> __mmask8 {
        self.x.is_zero() & self.y.wide().sub(&self.z.wide()).carry().is_zero()
    }
}

impl Completed {
    /// Three multiplications: enough where a doubling follows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn projective(&self) -> Projective {
        Projective {
            x: self.e.mul(&self.f).carry(),
            y: self.g.mul(&self.h).carry(),
            z: self.f.mul(&self.g).carry(),
        }
    }

    /// Four multiplications: what an addition takes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn extended(&self) -> Extended {
        let x = self.e.mul(&self.f);
        let y = self.g.mul_biased::<1>(&self.h);
        Extended {
            sum: y.add(&x).carry(),
            difference: y.less(&x).carry(),
            z: self.f.mul(&self.g).carry(),
            t: self.e.mul(&self.h).carry(),
        }
    }

    /// The four factors of a sum: E = B - A, H = B + A; F = D - C, G = D + C. B and D come with a bias.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    fn of(a: &Wide, b: &Wide, c: &Wide, d: &Wide) -> Self {
        Self { e: b.less(a).carry(), f: d.less(c).carry(), g: d.add(c).carry(), h: b.add(a).carry() }
    }
}

impl Extended {
    /// The point as a summand.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn cached(&self) -> Cached {
        let z = self.z.wide();
        Cached {
            sum: self.sum,
            difference: self.difference,
            t2d: self.t.mul(&Fe::splat(D2)).carry(),
            z2: z.add(&z).carry(),
        }
    }

    /// `self + other`, or `self - other` in the lanes of `minus`, for which the caller has already exchanged the
    /// sum and the difference of `other`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn add(&self, other: &Cached, minus: __mmask8) -> Completed {
        let a = self.difference.mul(&other.difference);
        let b = self.sum.mul_biased::<1>(&other.sum);
        let c = self.t.mul(&other.t2d).negate_where(minus);
        let d = self.z.mul_biased::<1>(&other.z2);
        Completed::of(&a, &b, &c, &d)
    }

    /// As [`Extended::add`], with an affine summand.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
    pub(super) fn add_affine(&self, other: &Niels, minus: __mmask8) -> Completed {
        let a = self.difference.mul(&other.difference);
        let b = self.sum.mul_biased::<1>(&other.sum);
        let c = self.t.mul(&other.t2d).negate_where(minus);
        let d = self.z.wide().biased().add(&self.z.wide());
        Completed::of(&a, &b, &c, &d)
    }
}
