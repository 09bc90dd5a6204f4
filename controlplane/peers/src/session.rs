//! Session ids, and the keys that seal frames.
//!
//! ```text
//! secret(0)     = TLS-Exporter("EXPORTER-roko-frame/1", sender u16 | receiver u16 | session u64 | core u8, 32)   (RFC 8446, 7.5)
//! keys(phase)   = HKDF-Expand(secret(phase), "roko/frame/1 keys", 44) -> key 32 | iv 12                          (RFC 5869, SHA-256)
//! secret(n + 1) = HKDF-Expand(secret(n), "roko/frame/1 next", 32)
//! ```
//! Integers are little-endian. A session belongs to its *sender*: its id is the sender's index and a stamp that grows with
//! every handshake and every start. The secrets are fresh with every handshake (X25519MLKEM768), so who learns a node's
//! key later opens nothing that was recorded; and a secret is wiped when the next one is made, so who takes a node now
//! opens nothing of earlier phases. What follows from a taken secret ends with the next handshake.

use crate::error::PeersError;
use crate::file;
use hkdf::Hkdf;
use sha2::Sha256;
use std::path::Path;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The exporter's label.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-roko-frame/1";
const KEYS_INFO: &[u8] = b"roko/frame/1 keys";
const NEXT_INFO: &[u8] = b"roko/frame/1 next";
const BOOT_STAMP_BITS: u32 = 48;
const BOOT_STAMP_MAX: u64 = (1 << BOOT_STAMP_BITS) - 1;

/// When a node started: milliseconds since 1970, 48 bits (until the year 10889), higher at every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootStamp(u64);

impl BootStamp {
    /// A stamp of this value; `None` over 48 bits.
    #[must_use]
    pub const fn new(milliseconds: u64) -> Option<BootStamp> {
        if milliseconds <= BOOT_STAMP_MAX { Some(BootStamp(milliseconds)) } else { None }
    }

    /// The stamp of this start: `now_ms`, or one above the previous start's when the host's clock went back. It is on disk
    /// when this returns, so it never comes again.
    pub fn next(path: &Path, now_ms: u64) -> Result<BootStamp, PeersError> {
        let previous = match std::fs::read_to_string(path) {
            Ok(text) => {
                let bad = |_| PeersError::StampFile { path: path.to_owned() };
                Some(text.trim().parse::<u64>().map_err(bad)?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(PeersError::file(path, "reading it")(error)),
        };
        let next = previous.map_or(now_ms, |previous| now_ms.max(previous.saturating_add(1)));
        let stamp = BootStamp::new(next).ok_or(PeersError::StampsExhausted(next))?;
        file::replace(path, format!("{next}\n").as_bytes())?;
        Ok(stamp)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn milliseconds(self) -> u64 {
        self.0
    }
}

/// A session's id: the sender's index in the top 16 bits, its boot stamp below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The session of peer `index` since its start at `boot`.
    #[must_use]
    pub const fn new(index: u16, boot: BootStamp) -> SessionId {
        SessionId((index as u64) << BOOT_STAMP_BITS | boot.0)
    }

    /// The sender's index.
    #[must_use]
    pub const fn sender_index(self) -> u16 {
        (self.0 >> BOOT_STAMP_BITS) as u16
    }

    /// When the sender started.
    #[must_use]
    pub const fn boot(self) -> BootStamp {
        BootStamp(self.0 & BOOT_STAMP_MAX)
    }
}

/// AES-256-GCM key and IV of one direction of one session on one core in one phase.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct FrameKeys {
    /// The key.
    pub key: [u8; 32],
    /// What the sequence number is combined with.
    pub iv: [u8; 12],
}

/// The exporter's context: which direction of which session on which transmit core.
#[must_use]
pub fn exporter_context(sender: u16, receiver: u16, session: SessionId, core: u8) -> [u8; 13] {
    let mut context = [0; 13];
    context[..2].copy_from_slice(&sender.to_le_bytes());
    context[2..4].copy_from_slice(&receiver.to_le_bytes());
    context[4..12].copy_from_slice(&session.0.to_le_bytes());
    context[12] = core;
    context
}

/// The secrets of one direction of one session on one core, phase by phase. Only the present one is kept.
pub struct KeyChain {
    secret: Zeroizing<[u8; 32]>,
    phase: u8,
}

impl KeyChain {
    /// The chain that begins with an exported secret.
    #[must_use]
    pub fn new(secret: Zeroizing<[u8; 32]>) -> KeyChain {
        KeyChain { secret, phase: 0 }
    }

    /// The phase whose keys [`KeyChain::keys`] gives.
    #[must_use]
    pub const fn phase(&self) -> u8 {
        self.phase
    }

    /// This phase's keys.
    #[must_use]
    pub fn keys(&self) -> FrameKeys {
        let mut output = Zeroizing::new([0; 44]);
        expand(&self.secret, KEYS_INFO, output.as_mut_slice());
        let mut keys = FrameKeys { key: [0; 32], iv: [0; 12] };
        keys.key.copy_from_slice(&output[..32]);
        keys.iv.copy_from_slice(&output[32..]);
        keys
    }

    /// The next phase's chain; this one's secret is wiped. `None` after phase 255: a new handshake is due long before.
    #[must_use]
    pub fn next(self) -> Option<KeyChain> {
        let phase = self.phase.checked_add(1)?;
        let mut secret = Zeroizing::new([0; 32]);
        expand(&self.secret, NEXT_INFO, secret.as_mut_slice());
        Some(KeyChain { secret, phase })
    }
}

fn expand(secret: &[u8; 32], info: &[u8], output: &mut [u8]) {
    Hkdf::<Sha256>::from_prk(secret)
        .expect("the secret has the hash's length")
        .expand(info, output)
        .expect("44 bytes are below HKDF's limit of 255 hashes");
}

/// Names this node's sessions: each gets a stamp above all before it, this start's and earlier ones'.
#[derive(Debug)]
pub struct SessionNames {
    index: u16,
    next: u64,
}

impl SessionNames {
    /// Names of the member with this index since its start at `boot`.
    #[must_use]
    pub const fn new(index: u16, boot: BootStamp) -> SessionNames {
        SessionNames { index, next: boot.0 }
    }

    /// The next session's id. The stamps of one start run ahead of the clock only when handshakes come faster than one a
    /// millisecond; the next start's stamp is above all the same, as nobody keeps sessions of before.
    pub fn next_id(&mut self) -> SessionId {
        let id = SessionId::new(self.index, BootStamp(self.next & BOOT_STAMP_MAX));
        self.next += 1;
        id
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
