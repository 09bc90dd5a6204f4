//! The sealed frame: our 20-byte header in the clear, then the sealed message and its tag.
//!
//! The header is the AEAD's associated data, the sequence number its nonce (combined with the key's IV as TLS 1.3
//! does, RFC 8446 5.3). One key serves one direction of one session on one core, so no two cores share a nonce space.

use crate::codec::{DecodeError, Reader, Sink};

/// Version of the frame format.
pub const FRAME_VERSION: u8 = 1;
/// Bytes of the header in the clear.
pub const FRAME_HEADER_BYTES: usize = 1 + 1 + 1 + 1 + 8 + 8;
/// Bytes of the AEAD tag after the sealed message.
pub const TAG_BYTES: usize = 16;
/// Bytes of the AEAD nonce, and of the IV that it is made from.
pub const NONCE_BYTES: usize = 12;

/// The AEAD nonce of a frame: the key's IV, its last 8 bytes combined by exclusive or with the sequence number in
/// big-endian order (RFC 8446, 5.3).
#[must_use]
pub const fn nonce(iv: &[u8; NONCE_BYTES], sequence: u64) -> [u8; NONCE_BYTES] {
    let mut out = *iv;
    let counter = sequence.to_be_bytes();
    let mut at = 0;
    while at < counter.len() {
        out[NONCE_BYTES - counter.len() + at] ^= counter[at];
        at += 1;
    }
    out
}

/// How urgent a frame is; the lower number goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PriorityClass {
    /// Votes, certificates, proposals and what asks for them.
    Consensus = 0,
    /// Chunks of blocks.
    Block = 1,
    /// Stamped transactions between validators.
    Relay = 2,
    /// Transactions from clients.
    Client = 3,
}

impl PriorityClass {
    /// Reads the wire's byte; `None` for a byte that names no class.
    #[must_use]
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<PriorityClass> {
        Some(match byte {
            0 => PriorityClass::Consensus,
            1 => PriorityClass::Block,
            2 => PriorityClass::Relay,
            3 => PriorityClass::Client,
            _ => return None,
        })
    }
}

/// The header in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Which generation of the session's key seals the frame.
    pub key_phase: u8,
    /// The sender's transmit core: part of what the key is derived from.
    pub core: u8,
    /// How urgent.
    pub class: PriorityClass,
    /// The session: survives a change of address.
    pub session: u64,
    /// Counts the frames under one key, from 0; never repeats.
    pub sequence: u64,
}

impl FrameHeader {
    /// Appends the layout: version, key phase, core, class, session, sequence.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_u8(FRAME_VERSION);
        out.put_u8(self.key_phase);
        out.put_u8(self.core);
        out.put_u8(self.class as u8);
        out.put_u64(self.session);
        out.put_u64(self.sequence);
    }

    /// The layout as an array.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = arrayvec::ArrayVec::<u8, FRAME_HEADER_BYTES>::new();
        self.write(&mut out);
        out.into_inner().expect("every field is fixed in size")
    }

    /// Reads the layout.
    #[inline]
    pub fn read(reader: &mut Reader<'_>) -> Result<FrameHeader, DecodeError> {
        let version = reader.u8("frame version")?;
        if version != FRAME_VERSION {
            return Err(DecodeError::BadValue { field: "frame version", value: u64::from(version) });
        }
        let (key_phase, core) = (reader.u8("key phase")?, reader.u8("core")?);
        let byte = reader.u8("priority class")?;
        let class = PriorityClass::from_byte(byte)
            .ok_or(DecodeError::BadValue { field: "priority class", value: u64::from(byte) })?;
        Ok(FrameHeader {
            key_phase,
            core,
            class,
            session: reader.u64("session")?,
            sequence: reader.u64("sequence")?,
        })
    }
}
