//! Checks up to eight ed25519 signatures at once, one in each lane of AVX-512.
//!
//! The rule is that of ZIP-215, to the last bit as `ed25519-zebra` has it: A and R are any encodings that decompress,
//! also those with y at or above p; s is below l; and `[8][s]B = [8]R + [8][k]A` with k = SHA-512(R || A || M) modulo l.
//! There is no batch equation and no randomness: each check has its own verdict, the same in whatever company.
//!
//! On a CPU with AVX-512 IFMA the checks run side by side; on any other, one by one through `ed25519-zebra`.
//! Sources: RFC 8032; ZIP-215; Hisil, Wong, Carter and Dawson, "Twisted Edwards Curves Revisited" (2008); the Intel
//! 64 and IA-32 manual on VPMADD52LUQ and VPMADD52HUQ.

#[cfg(target_arch = "x86_64")]
mod lanes;
mod single;
#[cfg(test)]
mod tests;

use core::fmt;
use std::sync::LazyLock;

/// The most checks that [`verify`] takes at once.
pub const LANES: usize = 8;

/// From how many checks on the lanes pay, also for a caller that keeps decompressed keys and could do its own single
/// checks. The lanes take as long for one check as for eight: about one and a half single ones. Fewer than this go one
/// by one through `ed25519-zebra`.
pub const BREAK_EVEN: usize = 2;

/// One signature to check.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The encoded verification key, A.
    pub key: &'a [u8; 32],
    /// The signature: R, then s.
    pub signature: &'a [u8; 64],
    /// What was signed, M.
    pub message: &'a [u8],
}

impl<'a> Check<'a> {
    /// The encoded R.
    fn nonce(&self) -> &'a [u8; 32] {
        &self.signature.as_chunks().0[0]
    }

    /// The encoded s.
    fn s(&self) -> &'a [u8; 32] {
        &self.signature.as_chunks().0[1]
    }
}

/// How [`verify`] works on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Eight checks at once with AVX-512 IFMA.
    Avx512Ifma,
    /// One check after the other with `ed25519-zebra`.
    Single,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512Ifma => "avx512-ifma",
            Self::Single => "single",
        })
    }
}

/// What [`verify`] runs on this CPU, for reports.
#[must_use]
pub fn method() -> Method {
    static METHOD: LazyLock<Method> = LazyLock::new(detect);
    *METHOD
}

/// Builds the tables of the base point, so that the first [`verify`] does not have to. About a millisecond, once.
pub fn prepare() {
    #[cfg(target_arch = "x86_64")]
    if method() == Method::Avx512Ifma {
        // SAFETY: the method says that the CPU has the features that the lanes are compiled for.
        unsafe { lanes::prepare() };
    }
}

/// Bit i is set when `checks[i]` holds. At most [`LANES`] checks: any further are not looked at (a debug build
/// panics).
#[must_use]
pub fn verify(checks: &[Check<'_>]) -> u8 {
    debug_assert!(checks.len() <= LANES, "{} checks for {LANES} lanes", checks.len());
    let checks = &checks[..checks.len().min(LANES)];
    #[cfg(target_arch = "x86_64")]
    if checks.len() >= BREAK_EVEN && method() == Method::Avx512Ifma {
        // SAFETY: the method says that the CPU has the features that the lanes are compiled for.
        let verdict = unsafe { lanes::verify(checks) };
        return verdict.holds | single::verify(checks, !verdict.known);
    }
    single::verify(checks, u8::MAX)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Method {
    if lanes::supported() { Method::Avx512Ifma } else { Method::Single }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Method {
    Method::Single
}
