//! One check after the other, by `ed25519-zebra`.

use ed25519_zebra::{Signature, VerificationKey};

use crate::Check;

/// The checks that hold, of those in `wanted`.
pub(crate) fn verify(checks: &[Check<'_>], wanted: u8) -> u8 {
    let mut holds = 0;
    for (i, check) in checks.iter().enumerate() {
        if wanted >> i & 1 == 1 && holds_alone(check) {
            holds |= 1 << i;
        }
    }
    holds
}

fn holds_alone(check: &Check<'_>) -> bool {
    VerificationKey::try_from(*check.key)
        .is_ok_and(|key| key.verify(&Signature::from(*check.signature), check.message).is_ok())
}
