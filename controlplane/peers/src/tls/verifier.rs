//! Who is at the other end: a certificate is good when its key is the node key of a member and its window holds now.
//!
//! One verifier serves both ends of a connection; names in certificates mean nothing here.

use super::certificate::node_key_of;
use crate::membership::Membership;
use crate::refusal::Refusal;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// Checks the other end's certificate against the members.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    members: Arc<Membership>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MemberVerifier {
    pub(super) fn new(members: Arc<Membership>, provider: &CryptoProvider) -> MemberVerifier {
        MemberVerifier { members, algorithms: provider.signature_verification_algorithms }
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if !others.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        self.slot_of(certificate)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone().into_owned()).map_err(|_| CertificateError::BadEncoding)?;
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, self.algorithms.all).map_err(
            |error| match error {
                // A bad signature of the certificate by itself is told from a bad signature of the handshake.
                Error::InvalidCertificate(CertificateError::BadSignature) => {
                    CertificateError::BadEncoding.into()
                }
                other => other,
            },
        )
    }

    /// The slot of the member whose node key the certificate carries.
    pub(super) fn slot_of(&self, certificate: &CertificateDer<'_>) -> Result<usize, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let key = node_key_of(&parsed.subject_public_key_info()).ok_or(CertificateError::BadEncoding)?;
        self.members.slot_of_key(&key).map_err(|_| CertificateError::UnknownIssuer.into())
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate, others, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate, others, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Whose refusal an error of TLS is, and which: `Ok` is this end's, `Err` the other's.
pub(super) fn refusal_of(error: &Error) -> Option<Result<Refusal, Refusal>> {
    Some(match error {
        Error::AlertReceived(alert) => Err(refusal_of_alert(*alert)?),
        Error::InvalidCertificate(what) => Ok(match what {
            CertificateError::UnknownIssuer => Refusal::Stranger,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Refusal::CertificateExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Refusal::CertificateNotYetValid
            }
            CertificateError::BadSignature => Refusal::StolenCertificate,
            _ => Refusal::BadCertificate,
        }),
        Error::NoCertificatesPresented => Ok(Refusal::BadCertificate),
        Error::NoApplicationProtocol => Ok(Refusal::WrongAlpn),
        Error::PeerIncompatible(_) => Ok(Refusal::WrongTlsVersion),
        Error::InvalidMessage(_) | Error::DecryptError | Error::PeerSentOversizedRecord => {
            Ok(Refusal::NotTls)
        }
        _ => Ok(Refusal::NotTls),
    })
}

/// What an alert of the other end says (RFC 8446, 6.2), as rustls derives it from the errors above.
const fn refusal_of_alert(alert: AlertDescription) -> Option<Refusal> {
    Some(match alert {
        AlertDescription::UnknownCA => Refusal::Stranger,
        AlertDescription::CertificateExpired => Refusal::CertificateExpired,
        AlertDescription::BadCertificate | AlertDescription::CertificateRequired => Refusal::BadCertificate,
        AlertDescription::DecryptError => Refusal::StolenCertificate,
        AlertDescription::NoApplicationProtocol => Refusal::WrongAlpn,
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => Refusal::WrongTlsVersion,
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => return None,
        _ => Refusal::NotTls,
    })
}
