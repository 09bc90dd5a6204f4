//! BLS12-381 keys and signatures: a narrow face over `blst`, minimal public keys, proof-of-possession ciphersuite.
//!
//! Signatures over the same message are summed and checked against the sum of the keys. That is safe only among
//! keys whose owners proved that they hold the secret ([`verify_possession`]), which registration demands.
//! Everything here runs on the calling thread: `blst`'s own thread pool would wake up on cores that poll.
//! Formats: IETF draft-irtf-cfrg-bls-signature-05, sections 4.2.3 (ciphersuite) and 3.3 (proof of possession).

use blst::min_pk as raw;
use blst::{BLST_ERROR, Pairing, blst_p1_affine, blst_p2_affine};
use core::fmt;
use roko_wire::vote::{BLS_PUBLIC_KEY_BYTES, BlsSignature};
use zeroize::Zeroizing;

/// Ciphersuite of votes.
pub const SIGNATURE_DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Ciphersuite of proofs of possession.
pub const POSSESSION_DST: &[u8] = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Fewest bytes of seed for [`SecretKey::from_seed`].
pub const SEED_BYTES_MIN: usize = 32;

/// Bytes that are no usable key or signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlsError {
    /// The seed is too short for the key's strength.
    #[error("a BLS seed needs at least {SEED_BYTES_MIN} bytes, this one has {bytes}")]
    ShortSeed {
        /// Bytes given.
        bytes: usize,
    },
    /// The bytes are no secret key.
    #[error("the bytes are no BLS secret key: it is a big-endian number from 1 to the group order less one")]
    SecretKey,
    /// The bytes are no public key.
    #[error(
        "the bytes are no BLS public key: it is a compressed point of G1's prime-order subgroup, not infinity"
    )]
    PublicKey,
    /// The bytes are no signature.
    #[error("the bytes are no BLS signature: it is a compressed point of G2's prime-order subgroup")]
    Signature,
    /// The signature does not fit key and message.
    #[error("the BLS signature does not verify")]
    Mismatch,
}

/// A voting key. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(raw::SecretKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    /// Derives a key from secret seed material of at least [`SEED_BYTES_MIN`] bytes.
    pub fn from_seed(seed: &[u8]) -> Result<SecretKey, BlsError> {
        let short = |_| BlsError::ShortSeed { bytes: seed.len() };
        raw::SecretKey::key_gen(seed, b"roko/vote-key/1").map(SecretKey).map_err(short)
    }

    /// Reads the 32 big-endian bytes of [`SecretKey::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<SecretKey, BlsError> {
        raw::SecretKey::from_bytes(bytes).map(SecretKey).map_err(|_| BlsError::SecretKey)
    }

    /// The key's 32 big-endian bytes, wiped when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.sk_to_pk())
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message, SIGNATURE_DST, &[]))
    }

    /// Proves that this key's holder knows it, for registration.
    #[must_use]
    pub fn prove_possession(&self) -> BlsSignature {
        self.0.sign(&self.public_key().to_bytes(), POSSESSION_DST, &[]).to_bytes()
    }
}

/// A voting key's public half: a point of G1's subgroup other than infinity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(raw::PublicKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl PublicKey {
    /// Reads a compressed key and checks that it is in the subgroup and not infinity.
    pub fn from_bytes(bytes: &[u8; BLS_PUBLIC_KEY_BYTES]) -> Result<PublicKey, BlsError> {
        raw::PublicKey::key_validate(bytes).map(PublicKey).map_err(|_| BlsError::PublicKey)
    }

    /// The compressed key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BLS_PUBLIC_KEY_BYTES] {
        self.0.to_bytes()
    }
}

/// Checks a proof of possession.
pub fn verify_possession(key: &PublicKey, proof: &BlsSignature) -> Result<(), BlsError> {
    let proof = Signature::from_bytes(proof)?;
    let message = key.to_bytes();
    let fits = product_is_one(POSSESSION_DST, &proof, &[(key.0, &message)]);
    if fits { Ok(()) } else { Err(BlsError::Mismatch) }
}

/// A signature as a point of G2's subgroup, ready to be summed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(raw::Signature);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x?}..)", &self.to_bytes()[..4])
    }
}

impl Signature {
    /// Reads a compressed signature and checks that it is in the subgroup and not infinity.
    pub fn from_bytes(bytes: &BlsSignature) -> Result<Signature, BlsError> {
        raw::Signature::sig_validate(bytes, true).map(Signature).map_err(|_| BlsError::Signature)
    }

    /// The compressed signature.
    #[must_use]
    pub fn to_bytes(&self) -> BlsSignature {
        self.0.to_bytes()
    }

    /// Checks one signature.
    pub fn verify(&self, key: &PublicKey, message: &[u8]) -> Result<(), BlsError> {
        if product_is_one(SIGNATURE_DST, self, &[(key.0, message)]) {
            Ok(())
        } else {
            Err(BlsError::Mismatch)
        }
    }

    /// Checks an aggregate: every key of a group signed the group's message. An empty group counts as absent,
    /// and at least one must not be empty.
    pub fn verify_groups(&self, groups: &[(&[&PublicKey], &[u8])]) -> Result<(), BlsError> {
        let mut terms = Vec::with_capacity(groups.len());
        for (keys, message) in groups.iter().filter(|(keys, _)| !keys.is_empty()) {
            terms.push((sum_keys(keys), *message));
        }
        if !terms.is_empty() && product_is_one(SIGNATURE_DST, self, &terms) {
            Ok(())
        } else {
            Err(BlsError::Mismatch)
        }
    }
}

/// The sum of signatures; `None` of none.
#[must_use]
pub fn sum_signatures<'a>(signatures: impl IntoIterator<Item = &'a Signature>) -> Option<Signature> {
    let mut signatures = signatures.into_iter();
    let mut sum = raw::AggregateSignature::from_signature(&signatures.next()?.0);
    for signature in signatures {
        // Cannot fail: the only failure is of the subgroup check, which is off because the type carries it.
        let _ = sum.add_signature(&signature.0, false);
    }
    Some(Signature(sum.to_signature()))
}

/// One signed message of a batch, with the weight that makes the batch as strict as single checks.
#[derive(Clone, Copy, Debug)]
pub struct WeightedTerm<'a> {
    /// Who signed.
    pub key: &'a PublicKey,
    /// The signature.
    pub signature: &'a Signature,
    /// A coefficient that the signers could not choose; not zero.
    pub weight: u64,
}

/// Checks many signatures at once: for each message the weighted sum of its signers' keys, against the weighted
/// sum of all signatures, in one product of pairings. Without weights two signers could add and subtract the same
/// point, pass together and leave a vote behind that spoils every certificate it goes into alone.
#[must_use]
pub fn batch_verifies(groups: &[(Vec<WeightedTerm<'_>>, &[u8])]) -> bool {
    let all: Vec<&WeightedTerm<'_>> = groups.iter().flat_map(|(terms, _)| terms).collect();
    let Some(signature) = weigh_signatures(&all) else { return false };
    let terms: Vec<(raw::PublicKey, &[u8])> =
        groups.iter().filter_map(|(terms, message)| weigh_keys(terms).map(|key| (key, *message))).collect();
    product_is_one(SIGNATURE_DST, &signature, &terms)
}

/// Whether e(-g, signature) times the product of e(key, H(message)) is one.
fn product_is_one(dst: &[u8], signature: &Signature, terms: &[(raw::PublicKey, &[u8])]) -> bool {
    let mut pairing = Pairing::new(true, dst);
    let point: blst_p2_affine = signature.0.into();
    for (place, (key, message)) in terms.iter().enumerate() {
        let key: blst_p1_affine = (*key).into();
        // The signature goes in once; keys and signature carry their checks in their types.
        let code = if place == 0 {
            pairing.aggregate(&key, false, &point, false, message, &[])
        } else {
            pairing.aggregate(&key, false, &(), false, message, &[])
        };
        if code != BLST_ERROR::BLST_SUCCESS {
            return false;
        }
    }
    pairing.commit();
    !terms.is_empty() && pairing.finalverify(None)
}

fn sum_keys(keys: &[&PublicKey]) -> raw::PublicKey {
    let mut sum = raw::AggregatePublicKey::from_public_key(&keys[0].0);
    for key in &keys[1..] {
        // Cannot fail: the check that could is off because the type carries it.
        let _ = sum.add_public_key(&key.0, false);
    }
    sum.to_public_key()
}

/// Sum of weight times key: all weights are walked together from their top bit, so the doublings are shared.
fn weigh_keys(terms: &[WeightedTerm<'_>]) -> Option<raw::PublicKey> {
    let mut sum: Option<raw::AggregatePublicKey> = None;
    for bit in (0..u64::BITS).rev() {
        if let Some(sum) = &mut sum {
            let double = *sum;
            sum.add_aggregate(&double);
        }
        for term in terms.iter().filter(|term| term.weight >> bit & 1 == 1) {
            match &mut sum {
                None => sum = Some(raw::AggregatePublicKey::from_public_key(&term.key.0)),
                Some(sum) => {
                    let _ = sum.add_public_key(&term.key.0, false);
                }
            }
        }
    }
    sum.map(|sum| sum.to_public_key())
}

/// Sum of weight times signature, as [`weigh_keys`].
fn weigh_signatures(terms: &[&WeightedTerm<'_>]) -> Option<Signature> {
    let mut sum: Option<raw::AggregateSignature> = None;
    for bit in (0..u64::BITS).rev() {
        if let Some(sum) = &mut sum {
            let double = *sum;
            sum.add_aggregate(&double);
        }
        for term in terms.iter().filter(|term| term.weight >> bit & 1 == 1) {
            match &mut sum {
                None => sum = Some(raw::AggregateSignature::from_signature(&term.signature.0)),
                Some(sum) => {
                    let _ = sum.add_signature(&term.signature.0, false);
                }
            }
        }
    }
    sum.map(|sum| Signature(sum.to_signature()))
}
