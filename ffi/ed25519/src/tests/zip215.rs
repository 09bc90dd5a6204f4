//! The points at which rules for ed25519 differ: small order, mixed order, encodings that are not canonical.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::{Scalar, traits::IsIdentity};
use sha2::{Digest, Sha512};

use super::*;

/// The encodings of points with y at or above p, or with x = 0 and a sign.
fn not_canonical() -> Vec<[u8; 32]> {
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    let mut one = [0; 32];
    (one[0], one[31]) = (1, 0x80);
    let raised = (0xed..=0xff).flat_map(|low| {
        [0x7f, 0xff].map(|high| {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (low, high);
            y
        })
    });
    let all = [one, minus_one].into_iter().chain(raised);
    all.filter(|encoding| CompressedEdwardsY(*encoding).decompress().is_some()).collect()
}

/// The eight points of small order, and their encodings that are not canonical.
fn small_order() -> Vec<[u8; 32]> {
    let low = |encoding: &[u8; 32]| {
        let point = CompressedEdwardsY(*encoding).decompress().expect("was filtered");
        point.mul_by_cofactor().is_identity()
    };
    let canonical = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes());
    canonical.chain(not_canonical().into_iter().filter(low)).collect()
}

fn joined(nonce: [u8; 32], s: Scalar) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&nonce);
    signature[32..].copy_from_slice(s.as_bytes());
    signature
}

fn challenge(nonce: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(nonce).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

#[test]
fn points_of_small_order_hold_with_s_zero_alone() {
    let encodings = small_order();
    assert_eq!(encodings.len(), 14);
    let pairs = encodings.iter().flat_map(|key| encodings.iter().map(move |nonce| (*key, *nonce)));
    for s in [Scalar::ZERO, Scalar::ONE] {
        let cases: Vec<_> = pairs
            .clone()
            .map(|(key, nonce)| Case { key, signature: joined(nonce, s), message: b"Zcash".to_vec() })
            .collect();
        assert_eq!(cases.len(), 196);
        let holding: u32 = cases.chunks(LANES).map(|cases| agreed(cases).count_ones()).sum();
        assert_eq!(holding, if s == Scalar::ZERO { 196 } else { 0 });
    }
}

#[test]
fn points_of_mixed_order_hold() {
    let (a, r) = (Scalar::from(1_234_567_890_123_u64).invert(), Scalar::from(987_654_321_u64).invert());
    let mut cases = Vec::new();
    for low_a in EIGHT_TORSION {
        for low_r in EIGHT_TORSION {
            let message = vec![cases.len() as u8; 100];
            let key = (ED25519_BASEPOINT_POINT * a + low_a).compress().to_bytes();
            let nonce = (ED25519_BASEPOINT_POINT * r + low_r).compress().to_bytes();
            let s = r + challenge(&nonce, &key, &message) * a;
            cases.push(Case { key, signature: joined(nonce, s), message });
        }
    }
    for cases in cases.chunks(LANES) {
        assert_eq!(agreed(cases), u8::MAX);
    }
}

#[test]
fn encodings_that_are_not_canonical_agree() {
    let encodings = not_canonical();
    assert_eq!(encodings.len(), 26);
    let good = Case::signed([5; 32], b"message".to_vec());
    let as_key = encodings.iter().map(|key| Case { key: *key, ..good.clone() });
    let as_nonce = encodings.iter().map(|nonce| {
        let mut case = good.clone();
        case.signature[..32].copy_from_slice(nonce);
        case
    });
    // A key of small order makes R = s B hold whatever the message is.
    let s = Scalar::from(77_u64);
    let nonce = EdwardsPoint::mul_base(&s).compress().to_bytes();
    let holding =
        encodings.iter().map(|key| Case { key: *key, signature: joined(nonce, s), message: vec![] });
    let cases: Vec<_> = as_key.chain(as_nonce).chain(holding).collect();
    let holding: u32 = cases.chunks(LANES).map(|cases| agreed(cases).count_ones()).sum();
    assert_eq!(holding, 6);
}

#[test]
fn bytes_that_are_no_point_agree() {
    let good = Case::signed([6; 32], b"message".to_vec());
    let mut seen = 0;
    for low in 0..64 {
        let mut y = [0; 32];
        y[0] = low;
        if CompressedEdwardsY(y).decompress().is_some() {
            continue;
        }
        seen += 1;
        let mut nonce = good.clone();
        nonce.signature[..32].copy_from_slice(&y);
        assert_eq!(agreed(&[Case { key: y, ..good.clone() }, good.clone(), nonce]), 0b010);
    }
    assert!(seen > 16);
}
