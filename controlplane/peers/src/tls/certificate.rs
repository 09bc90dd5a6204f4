//! This node's certificate: self-signed by the node key, made anew long before its window ends.
//!
//! Its key *is* the node key, so a certificate proves nothing that TLS' CertificateVerify (RFC 8446, 4.4.3) does not: it
//! carries the key and a window. A copied certificate ends with its window, and is of no use without the key anyway.

use crate::NodeIdentity;
use crate::error::PeersError;
use rcgen::{CertificateParams, DnType, PKCS_ED25519, PublicKeyData, SerialNumber};
use roko_wire::genesis::NodeKey;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use x509_time::OffsetDateTime;

/// How long a certificate is valid, seconds: a day is far more than any handshake takes.
pub const WINDOW_S: u64 = 24 * 3_600;
/// How far before now its window begins, seconds: what two hosts' clocks may differ by.
pub const WINDOW_BEFORE_S: u64 = 3_600;

/// An ed25519 key's SubjectPublicKeyInfo up to the key (RFC 8410, 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The node key in a SubjectPublicKeyInfo; `None` for a key of another kind.
#[must_use]
pub(super) fn node_key_of(spki: &[u8]) -> Option<NodeKey> {
    Some(NodeKey(spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?))
}

/// Signs with the node key, for rcgen and for TLS.
#[derive(Clone)]
struct NodeSigner {
    identity: Arc<NodeIdentity>,
    public: [u8; 32],
    spki: [u8; 44],
}

impl fmt::Debug for NodeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSigner").finish_non_exhaustive()
    }
}

impl NodeSigner {
    fn new(identity: Arc<NodeIdentity>) -> NodeSigner {
        let NodeKey(public) = identity.node_key();
        let mut spki = [0; 44];
        spki[..12].copy_from_slice(&SPKI_PREFIX);
        spki[12..].copy_from_slice(&public);
        NodeSigner { identity, public, spki }
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.identity.signing_key().sign(message).to_bytes().to_vec()
    }
}

impl PublicKeyData for NodeSigner {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for NodeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.signature(message))
    }
}

impl SigningKey for NodeSigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }
    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_slice()))
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for NodeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.signature(message))
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// A certificate of `identity`, valid from `from_s` to `until_s`, seconds since 1970.
pub fn certificate(
    identity: &Arc<NodeIdentity>,
    from_s: u64,
    until_s: u64,
) -> Result<CertificateDer<'static>, PeersError> {
    let bad = |what: String| PeersError::Certificate { what };
    let moment = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or_else(|| bad(format!("{seconds} s since 1970 is no moment that a certificate can name")))
    };
    let mut params = CertificateParams::default();
    params.not_before = moment(from_s)?;
    params.not_after = moment(until_s)?;
    params.distinguished_name.push(DnType::CommonName, "roko node");
    // Nobody looks certificates up by their number; the window's start tells those of one node apart.
    params.serial_number = Some(SerialNumber::from(from_s));
    let signer = NodeSigner::new(Arc::clone(identity));
    let made = params.self_signed(&signer).map_err(|error| bad(error.to_string()))?;
    Ok(made.der().clone())
}

/// A certificate with the key that signs for it. With `identity` another than the certificate's it is a stolen one.
pub fn certified(certificate: CertificateDer<'static>, identity: &Arc<NodeIdentity>) -> CertifiedKey {
    CertifiedKey::new(vec![certificate], Arc::new(NodeSigner::new(Arc::clone(identity))))
}

/// Where a node's certificate comes from: made at the first use, and again when half of its window is over.
#[derive(Debug)]
pub(super) struct OwnCertificate {
    identity: Arc<NodeIdentity>,
    clock: super::WallClock,
    made: Mutex<Option<(u64, Arc<CertifiedKey>)>>,
}

impl OwnCertificate {
    pub(super) fn new(identity: Arc<NodeIdentity>, clock: super::WallClock) -> OwnCertificate {
        OwnCertificate { identity, clock, made: Mutex::new(None) }
    }

    /// The certificate to present now; `None` only when the clock stands where no certificate can name it.
    pub(super) fn present(&self) -> Option<Arc<CertifiedKey>> {
        let now_s = self.clock.seconds();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at_s, key)) = &*made
            && now_s.abs_diff(*at_s) < WINDOW_S / 2
        {
            return Some(Arc::clone(key));
        }
        let from_s = now_s.saturating_sub(WINDOW_BEFORE_S);
        let der = certificate(&self.identity, from_s, now_s.saturating_add(WINDOW_S)).ok()?;
        let key = Arc::new(certified(der, &self.identity));
        *made = Some((now_s, Arc::clone(&key)));
        Some(key)
    }
}

impl rustls::server::ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.present()
    }
}

impl rustls::client::ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.present()
    }
    fn has_certs(&self) -> bool {
        true
    }
}
