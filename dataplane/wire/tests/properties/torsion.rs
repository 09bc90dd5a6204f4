//! ed25519 at its edges: the test set of ZIP 215. Libraries disagree here, and a disagreement forks a chain: single
//! verification as ZIP 215 states it is the rule, cofactored and with non-canonical points.

use crate::samples::transfer;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use roko_wire::account::address_of_ed25519;
use roko_wire::ids::Address;
use roko_wire::tx::{self, ParsedTx, SignatureError};
use ruint::aliases::U256;
use ruint::uint;
use sha2::{Digest, Sha512};
use std::collections::BTreeSet;

/// The field's modulus, 2^255 - 19.
const FIELD: U256 = uint!(0x7fffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffff_ffffffed_U256);
/// The order of the prime-order subgroup.
const ORDER: U256 = uint!(0x10000000_00000000_00000000_00000000_14def9de_a2f79cd6_5812631a_5cf5d3ed_U256);
const DOMAIN: &[u8] = b"roko/tx/1\0";

/// Every encoding, canonical or not, of a point of small order.
fn small_order_encodings() -> BTreeSet<[u8; 32]> {
    let mut out = BTreeSet::new();
    let mut try_encoding = |y: U256, sign: u8| {
        let mut bytes = y.to_le_bytes::<32>();
        bytes[31] |= sign << 7;
        let point = CompressedEdwardsY(bytes).decompress();
        if point.is_some_and(|point| point.is_small_order()) {
            out.insert(bytes);
        }
    };
    for point in EIGHT_TORSION {
        let mut y = point.compress().to_bytes();
        y[31] &= 0x7f;
        let y = U256::from_le_bytes(y);
        for sign in [0, 1] {
            try_encoding(y, sign);
            // A second encoding of y exists when y + p still has 255 bits.
            if y < U256::from(19) {
                try_encoding(y + FIELD, sign);
            }
        }
    }
    out
}

/// The plain transfer with this key and signature, verified.
fn verify(public_key: &[u8; 32], r: &[u8; 32], s: &[u8; 32]) -> Result<Address, SignatureError> {
    let mut wire = layout(public_key);
    wire.extend(r);
    wire.extend(s);
    match tx::parse(&wire).expect("it has the shape") {
        ParsedTx::Native(native) => native.verify(),
        ParsedTx::Ethereum(_) => panic!("it is native"),
    }
}

/// What an ed25519 signature covers, without the domain.
fn layout(public_key: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::new();
    transfer().write(0, &mut out);
    out.extend(public_key);
    out
}

/// The challenge of RFC 8032.
fn challenge(r: &[u8; 32], public_key: &[u8; 32]) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(public_key);
    hash.update(DOMAIN);
    hash.update(layout(public_key));
    let wide: [u8; 64] = hash.finalize().into();
    Scalar::from_bytes_mod_order_wide(&wide)
}

#[test]
fn every_pair_of_small_order_encodings_verifies_with_s_zero() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14, "eight canonical encodings and six that are not");
    for public_key in &encodings {
        for r in &encodings {
            let verified = verify(public_key, r, &[0; 32]);
            assert_eq!(verified, Ok(address_of_ed25519(public_key)), "{public_key:02x?} {r:02x?}");
        }
    }
}

#[test]
fn one_point_encoded_twice_is_two_senders() {
    let encodings = small_order_encodings();
    let addresses: BTreeSet<_> = encodings.iter().map(address_of_ed25519).collect();
    assert_eq!(addresses.len(), encodings.len());
}

#[test]
fn verification_is_cofactored() {
    let (secret, nonce) = (Scalar::from(0x1234_5678_9abc_u64), Scalar::from(0x0fed_cba9_8765_u64));
    for (key_torsion, r_torsion) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
        // The equation holds only after both sides are multiplied by 8.
        let key = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[key_torsion]).compress().to_bytes();
        let r = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[r_torsion]).compress().to_bytes();
        let s = nonce + challenge(&r, &key) * secret;
        assert_eq!(
            verify(&key, &r, &s.to_bytes()),
            Ok(address_of_ed25519(&key)),
            "{key_torsion} {r_torsion}"
        );
        let wrong = (s + Scalar::ONE).to_bytes();
        assert_eq!(verify(&key, &r, &wrong), Err(SignatureError::BadSignature));
    }
}

#[test]
fn s_is_below_the_group_order() {
    let (secret, nonce) = (Scalar::from(77u64), Scalar::from(88u64));
    let key = (ED25519_BASEPOINT_POINT * secret).compress().to_bytes();
    let r = (ED25519_BASEPOINT_POINT * nonce).compress().to_bytes();
    let s = nonce + challenge(&r, &key) * secret;
    assert!(verify(&key, &r, &s.to_bytes()).is_ok());
    let twin = U256::from_le_bytes(s.to_bytes()) + ORDER;
    assert_eq!(verify(&key, &r, &twin.to_le_bytes::<32>()), Err(SignatureError::BadSignature));
    let identity = EIGHT_TORSION[0].compress().to_bytes();
    assert_eq!(verify(&identity, &identity, &ORDER.to_le_bytes::<32>()), Err(SignatureError::BadSignature));
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    let no_point = (2u8..)
        .map(|y| U256::from(y).to_le_bytes::<32>())
        .find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none())
        .expect("half of all y have no x");
    assert_eq!(verify(&no_point, &[0; 32], &[0; 32]), Err(SignatureError::BadKey));
    let identity = EIGHT_TORSION[0].compress().to_bytes();
    assert_eq!(verify(&identity, &no_point, &[0; 32]), Err(SignatureError::BadSignature));
}
