//! Why a handshake ends, by name, and how often each reason came up at this end and at the other.

use crate::round_trips::RoundTrips;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the enum, its labels, its codes on the wire and its words.
macro_rules! refusals {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, $label:literal, $words:literal; )+) => {
        /// Why this node refuses another, or another refuses this one. The number is the code on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Refusal {
            $( $(#[doc = $doc])+ $name = $code, )+
        }

        impl Refusal {
            /// All of them, in the order of their codes.
            pub const ALL: &[Refusal] = &[$(Refusal::$name),+];

            /// Its label in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Refusal::$name => $label,)+ }
            }

            /// What is wrong and what mends it.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Refusal::$name => $words,)+ }
            }

            /// The refusal of a code; `None` for a code that this version does not know.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Refusal> {
                match code { $($code => Some(Refusal::$name),)+ _ => None }
            }
        }
    };
}

refusals! {
    /// The certificate's key is no member's.
    Stranger = 1, "stranger", "its node key is neither a validator's in genesis nor a configured client's";
    /// Another genesis.
    WrongGenesis = 2, "wrong_genesis", "its genesis differs: compare the hashes that `roko genesis inspect` prints";
    /// Another chain id.
    WrongChain = 3, "wrong_chain", "its chain id differs: it belongs to another chain";
    /// Another consensus preset.
    WrongPreset = 4, "wrong_preset", "its consensus preset differs: use one genesis file everywhere";
    /// The certificate is past its window.
    CertificateExpired = 5, "certificate_expired", "its certificate is past its last day: check both hosts' clocks, or restart it";
    /// The certificate's window has not begun.
    CertificateNotYetValid = 6, "certificate_not_yet_valid", "its certificate is not valid yet: check both hosts' clocks";
    /// Not a certificate as nodes make them.
    BadCertificate = 7, "bad_certificate", "its certificate is not one that a node makes of its node key";
    /// The certificate was presented by somebody who does not hold its key.
    StolenCertificate = 8, "stolen_certificate", "it presents a certificate whose key it does not hold";
    /// No application protocol that is spoken here.
    WrongAlpn = 9, "wrong_alpn", "it speaks no application protocol (ALPN) that is spoken here: run one version everywhere";
    /// TLS, but not 1.3 with what is spoken here.
    WrongTlsVersion = 10, "wrong_tls_version", "it does not speak TLS 1.3 with a cipher suite that is spoken here";
    /// A first message of another version, or a garbled one.
    WrongHello = 11, "wrong_hello", "its first message is of another version or garbled: run one version everywhere";
    /// It dialed, and the other one should have.
    WrongDialer = 12, "wrong_dialer", "it dialed a session that this node has to dial";
    /// Another member answers at a peer's address.
    WrongPeer = 13, "wrong_peer", "another member answers at its address: correct the peer's address";
    /// What comes is not TLS.
    NotTls = 14, "not_tls", "it does not speak TLS";
    /// The handshake takes too long.
    Timeout = 15, "timeout", "its handshake took longer than handshake.time_ms_max";
    /// Too many handshakes are under way.
    TooManyHalfOpen = 16, "too_many_half_open", "too many handshakes were under way";
    /// One address has too many handshakes under way.
    TooManyOfAddress = 17, "too_many_of_address", "too many handshakes of its address were under way";
    /// One address comes too often.
    TooOften = 18, "too_often", "its address comes more often than handshake.per_address_per_second";
    /// A newer handshake took the place of this slow one.
    Displaced = 19, "displaced", "a newer handshake took the place of its slow one";
    /// The other end went away in the middle.
    Closed = 20, "closed", "the connection ended in the middle";
    /// Nobody here takes a stream of this protocol now.
    Busy = 21, "busy", "nobody takes a stream of this protocol at the moment";
    /// A message after the handshake that makes no sense.
    BadMessage = 22, "bad_message", "it sent a message that is not of this protocol";
    /// Its score is over the limit; the ban ends by itself.
    Banned = 23, "banned", "it is banned for a while for what it sent: its offences are in roko_peer_offences_total of the node that bans";
}

const COUNT: usize = Refusal::ALL.len();

/// Counters of one node's handshakes. Written on the handshake thread, read by any.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    refused: [AtomicU64; COUNT],
    refused_by_peer: [AtomicU64; COUNT],
    /// Connections that came in, before any limit.
    pub connections: AtomicU64,
    /// Handshakes that ended with an authenticated stream, dialed and accepted ones together.
    pub completed: AtomicU64,
    /// Dials that found nobody listening.
    pub unreachable: AtomicU64,
    /// Key phases begun after a session's first, as a sender.
    pub rekeyed: AtomicU64,
    /// Times a ring to the data plane had no room for keys and was tried again.
    pub ring_full: AtomicU64,
    /// Peers whose session is open now.
    pub sessions: AtomicU64,
    /// Connections whose handshake is under way now.
    pub half_open: AtomicU64,
    /// Round trips to peers over their sessions' connections.
    pub round_trips: RoundTrips,
}

impl HandshakeCounters {
    /// Counters of a node with so many peers in its table.
    pub(crate) fn new(peers: usize) -> HandshakeCounters {
        HandshakeCounters { round_trips: RoundTrips::new(peers), ..HandshakeCounters::default() }
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refused[refusal as usize - 1].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_by_peer(&self, refusal: Refusal) {
        self.refused_by_peer[refusal as usize - 1].fetch_add(1, Ordering::Relaxed);
    }

    /// How often this node refused for `refusal`.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize - 1].load(Ordering::Relaxed)
    }

    /// How often another node refused this one for `refusal`, as far as it said so.
    #[must_use]
    pub fn refusals_by_peers(&self, refusal: Refusal) -> u64 {
        self.refused_by_peer[refusal as usize - 1].load(Ordering::Relaxed)
    }
}

/// Why there is no authenticated stream.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// This node refuses.
    #[error("refused ({}): {}", .0.label(), .0.words())]
    Refused(Refusal),
    /// The other one refuses, and says why. By a TLS alert a certificate that is not valid yet looks like an expired one.
    #[error("the other end refuses this node ({}): {}", .0.label(), .0.words())]
    RefusedByPeer(Refusal),
    /// Nobody listens, or the network fails.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl HandshakeError {
    /// The reason, of either end.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            HandshakeError::Refused(refusal) | HandshakeError::RefusedByPeer(refusal) => Some(*refusal),
            HandshakeError::Io(_) => None,
        }
    }
}

/// Between two lines of one refusal, milliseconds: whoever floods shall not fill the log.
const LOG_INTERVAL_MS: u64 = 1_000;

/// Says which refusals are logged: pure, time comes as an argument.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    /// By refusal: when the next line may come, and how many were kept back since the last.
    next: [(u64, u64); COUNT],
}

impl LogGate {
    /// How many lines were kept back since the last one, when this one may be said; else `None`.
    pub(crate) fn pass(&mut self, refusal: Refusal, now_ms: u64) -> Option<u64> {
        let (next_ms, kept) = &mut self.next[refusal as usize - 1];
        if now_ms < *next_ms {
            *kept += 1;
            return None;
        }
        *next_ms = now_ms.saturating_add(LOG_INTERVAL_MS);
        Some(std::mem::take(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_a_line_a_second() {
        let mut gate = LogGate::default();
        let said: Vec<u64> = (0..2_500).filter_map(|now_ms| gate.pass(Refusal::NotTls, now_ms)).collect();
        assert_eq!(said, [0, 999, 999]);
        assert_eq!(gate.pass(Refusal::Stranger, 2_500), Some(0), "another reason is another line");
    }

    #[test]
    fn codes_count_from_one_and_labels_differ() {
        for (place, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, place + 1);
            assert_eq!(Refusal::from_code(*refusal as u8), Some(*refusal));
            assert!(Refusal::ALL[..place].iter().all(|other| other.label() != refusal.label()));
        }
        assert_eq!((Refusal::from_code(0), Refusal::from_code(200)), (None, None));
    }
}
