//! What makes a proposal's place in the chain lawful: a certificate of its parent, and skip certificates for
//! every higher position below its view.
//!
//! Positions are ordered by view first, then Fast below Slow. The hash of the certificates is in the block's
//! header, so that a vote for an unlawful block is provable.

use roko_wire::Hash32;
use roko_wire::codec::Sink;
use roko_wire::vote::Certificate;
use sha2::{Digest, Sha256};

/// Hash of one certificate, which may stand for it in a Propose.
#[must_use]
pub fn certificate_hash(certificate: &Certificate) -> Hash32 {
    let mut hash = Sha256::new();
    hash.put(b"roko/certificate/1\0");
    certificate.write(&mut hash);
    Hash32(hash.finalize().into())
}

/// The justification hash of a header, over the hashes of its certificates in order: a Propose that carries only
/// hashes of the later ones can be checked as well.
#[must_use]
pub fn justification_hash_of(hashes: &[Hash32]) -> Hash32 {
    let mut hash = Sha256::new();
    hash.put(b"roko/justification/1\0");
    hash.put_u64(hashes.len() as u64);
    hashes.iter().for_each(|one| hash.put(&one.0));
    Hash32(hash.finalize().into())
}

/// The justification hash of a header.
#[must_use]
pub fn justification_hash(certificates: &[Certificate]) -> Hash32 {
    justification_hash_of(&certificates.iter().map(certificate_hash).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::View;
    use roko_wire::vote::{Bitmap, CertificateKind};

    fn certificate(view: u64) -> Certificate {
        let (signers, fallback_signers) = (Bitmap::default(), Bitmap::default());
        Certificate {
            view: View(view),
            kind: CertificateKind::SlowSkip,
            signers,
            fallback_signers,
            signature: [0; 96],
        }
    }

    #[test]
    fn the_hash_depends_on_content_order_and_count() {
        let (a, b) = (certificate(1), certificate(2));
        let hashes = [
            justification_hash(&[]),
            justification_hash(std::slice::from_ref(&a)),
            justification_hash(&[a.clone(), a.clone()]),
            justification_hash(&[a.clone(), b.clone()]),
            justification_hash(&[b.clone(), a.clone()]),
        ];
        for (place, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..place].contains(hash), "{place}");
        }
        assert_eq!(justification_hash(&[a.clone(), b.clone()]), hashes[3]);
        assert_eq!(justification_hash_of(&[certificate_hash(&a), certificate_hash(&b)]), hashes[3]);
    }
}
