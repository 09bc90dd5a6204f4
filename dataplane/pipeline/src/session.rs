//! Sealing and opening frames: AES-256-GCM in place, and the replay window.
//!
//! The nonce is the key's IV with the sequence number XORed into its last 8 bytes (RFC 8446, 5.3); the 20-byte header
//! is the associated data. Key schedules are computed once a session.

use crate::peer::{KeyLimits, PeerLink};
use aes_gcm::aead::AeadInOut;
use aes_gcm::aes::{Aes256Enc, cipher::consts::U12};
use aes_gcm::{AesGcm, KeyInit};
use roko_ring::prefetch;
use roko_wire::frame::{FRAME_HEADER_BYTES, FrameHeader, NONCE_BYTES, PriorityClass, TAG_BYTES, nonce};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Keys of one direction of one session on one core.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AeadKeys {
    /// AES-256 key.
    pub key: [u8; 32],
    /// What the sequence number is combined with.
    pub iv: [u8; NONCE_BYTES],
}

/// AES-256-GCM, which only ever encrypts blocks: without the key schedule that decrypts them, a key is 400 bytes and not 640, of
/// which every frame reads all.
type Cipher = AesGcm<Aes256Enc, U12>;

/// Bytes that sealing adds to a message.
pub const SEAL_BYTES: usize = FRAME_HEADER_BYTES + TAG_BYTES;

/// Frames that one key seals at most: AES-GCM's confidentiality limit for packets of up to 2^11 bytes (RFC 9001, B.1.1).
/// The limit on forgeries of the same appendix, 2^57, is beyond what a link carries in a key's life.
pub const SEAL_FRAMES_MAX: u64 = 1 << 28;

const _: () = assert!(roko_wire::limits::MESSAGE_BYTES_MAX + SEAL_BYTES <= 1 << 11);

/// The sealing end of a session's direction.
pub struct Sealer {
    cipher: Cipher,
    iv: [u8; NONCE_BYTES],
    header: FrameHeader,
    limits: KeyLimits,
    bytes: u64,
}

impl Sealer {
    /// A sealer whose first frame has sequence number 0. A key never gets a second sealer.
    #[must_use]
    pub fn new(keys: &AeadKeys, session: u64, core: u8, key_phase: u8) -> Sealer {
        let header = FrameHeader { key_phase, core, class: PriorityClass::Client, session, sequence: 0 };
        let limits = KeyLimits::default();
        Sealer { cipher: Cipher::new(&keys.key.into()), iv: keys.iv, header, limits, bytes: 0 }
    }

    /// The sealer of a link.
    #[must_use]
    pub fn of(link: &PeerLink) -> Sealer {
        Sealer { limits: link.limits, ..Sealer::new(&link.keys, link.session, link.core, link.key_phase) }
    }

    /// Whether the key has sealed as much as its limits say: it is time for the next one.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.header.sequence >= self.limits.frames || self.bytes >= self.limits.bytes
    }

    /// The session and the key's generation.
    #[must_use]
    pub const fn key(&self) -> (u64, u8) {
        (self.header.session, self.header.key_phase)
    }

    /// Seals `payload` in place: the header's place, the message, the tag's place. `None` when it has no room for the
    /// three or the key has sealed [`SEAL_FRAMES_MAX`] frames.
    #[must_use]
    pub fn seal(&mut self, class: PriorityClass, payload: &mut [u8]) -> Option<()> {
        let next = self.header.sequence.checked_add(1)?;
        if payload.len() < SEAL_BYTES || next > SEAL_FRAMES_MAX {
            return None;
        }
        self.header.class = class;
        let header = self.header.to_bytes();
        let (head, rest) = payload.split_at_mut(FRAME_HEADER_BYTES);
        let (message, tag_place) = rest.split_at_mut(rest.len() - TAG_BYTES);
        head.copy_from_slice(&header);
        let nonce = nonce(&self.iv, self.header.sequence).into();
        let tag = self.cipher.encrypt_inout_detached(&nonce, &header, message.into()).ok()?;
        tag_place.copy_from_slice(&tag);
        self.header.sequence = next;
        self.bytes += (payload.len() - SEAL_BYTES) as u64;
        Some(())
    }
}

/// The opening end of a session's direction.
pub struct Opener {
    cipher: Cipher,
    iv: [u8; NONCE_BYTES],
}

impl Opener {
    /// An opener.
    #[must_use]
    pub fn new(keys: &AeadKeys) -> Opener {
        Opener { cipher: Cipher::new(&keys.key.into()), iv: keys.iv }
    }

    /// Opens `payload` (header, sealed message, tag) in place and returns the message's length; the message follows
    /// the header. `None` when the tag does not verify.
    #[must_use]
    pub fn open(&self, sequence: u64, payload: &mut [u8]) -> Option<usize> {
        if payload.len() < SEAL_BYTES {
            return None;
        }
        let (header, rest) = payload.split_at_mut(FRAME_HEADER_BYTES);
        let (message, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let tag = aes_gcm::Tag::try_from(&*tag).ok()?;
        let nonce = nonce(&self.iv, sequence).into();
        self.cipher.decrypt_inout_detached(&nonce, header, (&mut *message).into(), &tag).ok()?;
        Some(message.len())
    }
}

/// Sequence numbers that may arrive out of order.
pub const REPLAY_WINDOW_FRAMES: u64 = 8192;
const WINDOW_WORDS: usize = (REPLAY_WINDOW_FRAMES / 64) as usize;

/// Why a sequence number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It was seen.
    Seen,
    /// It is below the window.
    TooOld,
}

/// The sequence numbers of a [`ReplayWindow`] that were seen, a bit each.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
pub struct SeenFrames([u64; WINDOW_WORDS]);

/// The sliding window of sequence numbers (RFC 4303, 3.4.3): its edge. What was seen lies apart, because the edge is read
/// with the key's name. Check first, mark once the tag verified.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayWindow {
    /// One above the highest seen.
    next: u64,
}

impl SeenFrames {
    /// What a window begins with.
    pub const NONE: SeenFrames = SeenFrames([0; WINDOW_WORDS]);
    /// Every frame.
    pub const ALL: SeenFrames = SeenFrames([u64::MAX; WINDOW_WORDS]);

    const fn place(sequence: u64) -> (usize, u64) {
        let bit = sequence % REPLAY_WINDOW_FRAMES;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Asks for what checking and marking `sequence` touches.
    #[inline]
    pub(crate) fn ask_for(&self, sequence: u64) {
        prefetch::value(&self.0[Self::place(sequence).0]);
    }
}

impl ReplayWindow {
    /// Whether `sequence` may still be accepted.
    pub const fn check(&self, seen: &SeenFrames, sequence: u64) -> Result<(), Replay> {
        if sequence == u64::MAX {
            return Err(Replay::TooOld);
        }
        if sequence >= self.next {
            return Ok(());
        }
        if self.next - sequence > REPLAY_WINDOW_FRAMES {
            return Err(Replay::TooOld);
        }
        let (word, bit) = SeenFrames::place(sequence);
        if seen.0[word] & bit == 0 { Ok(()) } else { Err(Replay::Seen) }
    }

    /// Marks `sequence`, which [`ReplayWindow::check`] accepted, as seen.
    pub fn mark(&mut self, seen: &mut SeenFrames, sequence: u64) {
        if sequence >= self.next {
            if sequence - self.next >= REPLAY_WINDOW_FRAMES {
                *seen = SeenFrames::NONE;
            } else {
                for passed in self.next..=sequence {
                    let (word, bit) = SeenFrames::place(passed);
                    seen.0[word] &= !bit;
                }
            }
            self.next = sequence.saturating_add(1);
        }
        let (word, bit) = SeenFrames::place(sequence);
        seen.0[word] |= bit;
    }
}

const _: () = assert!(size_of::<Opener>() <= 448);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn keys() -> AeadKeys {
        AeadKeys { key: [3; 32], iv: [5; 12] }
    }

    #[test]
    fn a_sealed_frame_opens_and_a_changed_one_does_not() {
        let (mut sealer, opener) = (Sealer::new(&keys(), 9, 1, 2), Opener::new(&keys()));
        for sequence in 0..3 {
            let mut payload = [7; SEAL_BYTES + 100];
            sealer.seal(PriorityClass::Relay, &mut payload).unwrap();
            let header = FrameHeader::read(&mut roko_wire::codec::Reader::new(&payload)).unwrap();
            assert_eq!((header.session, header.sequence, header.class), (9, sequence, PriorityClass::Relay));
            for at in [0, 5, FRAME_HEADER_BYTES, payload.len() - 1] {
                let mut changed = payload;
                changed[at] ^= 1;
                assert_eq!(opener.open(sequence, &mut changed), None, "byte {at}");
            }
            assert_eq!(opener.open(sequence + 1, &mut payload.clone()), None);
            assert_eq!(opener.open(sequence, &mut payload), Some(100));
            assert_eq!(payload[FRAME_HEADER_BYTES..][..100], [7; 100]);
        }
        assert_eq!(opener.open(0, &mut [0; SEAL_BYTES - 1]), None);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(steps in prop::collection::vec((0u64..3000, 0u64..2000), 1..200)) {
            let (mut window, mut bits) = (ReplayWindow::default(), SeenFrames::NONE);
            let (mut seen, mut base) = (HashSet::new(), 0u64);
            let mut highest: Option<u64> = None;
            for (forward, back) in steps {
                base += forward / 8;
                let sequence = base.saturating_sub(back);
                let want = match highest {
                    Some(high) if sequence <= high && high - sequence >= REPLAY_WINDOW_FRAMES => Err(Replay::TooOld),
                    _ if seen.contains(&sequence) => Err(Replay::Seen),
                    _ => Ok(()),
                };
                prop_assert_eq!(window.check(&bits, sequence), want);
                if want.is_ok() {
                    window.mark(&mut bits, sequence);
                    seen.insert(sequence);
                    highest = highest.max(Some(sequence));
                }
            }
        }
    }
}
