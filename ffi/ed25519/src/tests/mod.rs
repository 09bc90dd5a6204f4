//! The verdicts of the lanes and of the single checks against `ed25519-zebra`.

mod agreement;
mod vectors;
mod zip215;

use ed25519_zebra::{Signature, SigningKey, VerificationKey};

use super::*;

/// A check that owns its parts.
#[derive(Clone, Debug)]
struct Case {
    key: [u8; 32],
    signature: [u8; 64],
    message: Vec<u8>,
}

impl Case {
    fn signed(seed: [u8; 32], message: Vec<u8>) -> Self {
        let key = SigningKey::from(seed);
        let signature = key.sign(&message).to_bytes();
        Self { key: VerificationKey::from(&key).into(), signature, message }
    }

    fn check(&self) -> Check<'_> {
        Check { key: &self.key, signature: &self.signature, message: &self.message }
    }

    /// What `ed25519-zebra` says.
    fn holds(&self) -> bool {
        let signature = Signature::from(self.signature);
        VerificationKey::try_from(self.key).is_ok_and(|key| key.verify(&signature, &self.message).is_ok())
    }
}

/// The verdicts of at most eight cases by every way there is, which must be those of `ed25519-zebra`.
fn agreed(cases: &[Case]) -> u8 {
    let checks: Vec<_> = cases.iter().map(Case::check).collect();
    let expected = cases.iter().rev().fold(0, |bits, case| bits << 1 | u8::from(case.holds()));
    assert_eq!(verify(&checks), expected, "verify, {cases:02x?}");
    assert_eq!(single::verify(&checks, u8::MAX), expected, "single, {cases:02x?}");
    #[cfg(target_arch = "x86_64")]
    if method() == Method::Avx512Ifma {
        // SAFETY: the method says that the CPU has the features that the lanes are compiled for.
        let verdict = unsafe { lanes::verify(&checks) };
        assert_eq!(verdict.holds, expected, "lanes, {cases:02x?}");
        assert_eq!(verdict.known, u8::MAX, "lanes, {cases:02x?}");
    }
    expected
}

#[test]
fn no_check_gives_no_bit() {
    assert_eq!(agreed(&[]), 0);
}

#[test]
fn single_checks_keep_to_the_wanted() {
    let case = Case::signed([1; 32], vec![2; 3]);
    assert_eq!(single::verify(&[case.check(); LANES], 0b0101_0010), 0b0101_0010);
}

#[test]
fn a_method_has_a_name() {
    assert_eq!(Method::Avx512Ifma.to_string(), "avx512-ifma");
    assert_eq!(Method::Single.to_string(), "single");
}
