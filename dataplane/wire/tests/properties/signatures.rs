//! secp256k1: low s only, both halves of the border, and recovery.

use crate::samples::{secp_sender, transfer};
use proptest::prelude::*;
use roko_wire::tx::{self, ParsedTx, SignatureError, recover_secp256k1};
use ruint::aliases::U256;
use ruint::uint;

/// The order of secp256k1's group.
const ORDER: U256 = uint!(0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141_U256);

fn address() -> roko_wire::Address {
    let point = secp_sender().verifying_key().to_sec1_point(false);
    roko_wire::account::address_of_secp256k1(point.as_bytes()[1..].try_into().expect("x and y"))
}

fn sign(digest: &[u8; 32]) -> [u8; 65] {
    let (signature, recovery) = secp_sender().sign_prehash_recoverable(digest);
    let mut out = [0; 65];
    out[..64].copy_from_slice(&signature.to_bytes());
    out[64] = recovery.to_byte();
    out
}

fn with_s(signature: &[u8; 65], s: U256) -> [u8; 65] {
    let mut out = *signature;
    out[32..64].copy_from_slice(&s.to_be_bytes::<32>());
    out
}

fn s_of(signature: &[u8; 65]) -> U256 {
    U256::from_be_slice(&signature[32..64])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_signer_is_recovered_and_the_other_s_refused(digest in any::<[u8; 32]>()) {
        let signature = sign(&digest);
        prop_assert_eq!(recover_secp256k1(&signature, &digest), Ok(address()));
        // The malleated twin would verify to the same key without the rule.
        let mut twin = with_s(&signature, ORDER - s_of(&signature));
        twin[64] ^= 1;
        prop_assert_eq!(recover_secp256k1(&twin, &digest), Err(SignatureError::HighS));
        let mut other_parity = signature;
        other_parity[64] ^= 1;
        prop_assert_ne!(recover_secp256k1(&other_parity, &digest), Ok(address()));
        for recovery in [2, 3, 4, 27, 28, 255] {
            let mut wrong = signature;
            wrong[64] = recovery;
            prop_assert_eq!(recover_secp256k1(&wrong, &digest), Err(SignatureError::BadSignature));
        }
    }

    #[test]
    fn random_signatures_never_panic(r in any::<[u8; 32]>(), s in any::<[u8; 32]>(), recovery in 0u8..5) {
        let mut signature = [0; 65];
        signature[..32].copy_from_slice(&r);
        signature[32..64].copy_from_slice(&s);
        signature[64] = recovery;
        let _ = recover_secp256k1(&signature, &[1; 32]);
    }
}

#[test]
fn the_border_of_s_is_half_the_order() {
    let digest = [9; 32];
    let signature = sign(&digest);
    let half = ORDER >> 1;
    assert!(recover_secp256k1(&with_s(&signature, half), &digest).is_ok());
    let above = with_s(&signature, half + U256::from(1));
    assert_eq!(recover_secp256k1(&above, &digest), Err(SignatureError::HighS));
    assert!(recover_secp256k1(&with_s(&signature, U256::from(1)), &digest).is_ok());
    let last = with_s(&signature, ORDER - U256::from(1));
    assert_eq!(recover_secp256k1(&last, &digest), Err(SignatureError::HighS));
    for s in [U256::ZERO, ORDER, U256::MAX] {
        assert_eq!(
            recover_secp256k1(&with_s(&signature, s), &digest),
            Err(SignatureError::BadSignature),
            "s {s}"
        );
    }
}

#[test]
fn a_transaction_with_the_other_s_is_refused() {
    let mut wire = transfer().sign_secp256k1(&secp_sender());
    let at = wire.len() - 65;
    let signature: [u8; 65] = wire[at..].try_into().expect("65 bytes");
    let verify = |wire: &[u8]| match tx::parse(wire).expect("it has the shape") {
        ParsedTx::Native(native) => native.verify(),
        ParsedTx::Ethereum(_) => panic!("it is native"),
    };
    assert_eq!(verify(&wire), Ok(address()));
    let mut twin = with_s(&signature, ORDER - s_of(&signature));
    twin[64] ^= 1;
    wire[at..].copy_from_slice(&twin);
    assert_eq!(verify(&wire), Err(SignatureError::HighS));
}
