//! Peers as the data plane knows them: an index, a role, addresses and session keys. Who they are is decided in the
//! control plane.

use crate::session::AeadKeys;
use core::net::IpAddr;
use roko_ring::table::Key;
use roko_wire::ValidatorIndex;
use roko_wire::frame::FrameHeader;
use roko_wire::message::MessageKind;
use roko_wire::net::Addresses;

/// A peer's place in the node's peer table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub u16);

impl PeerIndex {
    /// As an index into a slice.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A validator of the active set.
    Validator(ValidatorIndex),
    /// A full node: it may submit.
    Full,
    /// A load client: it may submit.
    Client,
}

impl Role {
    /// Whether a peer of this role may send messages of `kind`.
    #[must_use]
    pub const fn may_send(self, kind: MessageKind) -> bool {
        matches!((self, kind), (Role::Validator(_), _) | (_, MessageKind::Submit))
    }
}

/// How a frame names the key that seals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The sender's session.
    pub session: u64,
    /// The sender's transmit core.
    pub core: u8,
    /// The key's generation within the session.
    pub phase: u8,
}

impl Key for KeyName {
    fn words(&self) -> [u64; 2] {
        [self.session, u16::from_le_bytes([self.core, self.phase]).into()]
    }
}

impl KeyName {
    /// The name in a frame's header.
    #[must_use]
    pub const fn of(header: &FrameHeader) -> KeyName {
        KeyName { session: header.session, core: header.core, phase: header.key_phase }
    }
}

/// A key of a peer's session that the control plane has agreed on.
pub struct Admission {
    /// The peer.
    pub peer: PeerIndex,
    /// Its role.
    pub role: Role,
    /// Orders the peer's keys: one replaces another only if its generation is higher, so that a recorded frame of an
    /// old key brings nothing back.
    pub generation: u64,
    /// Keys of the direction from the peer to this node.
    pub keys: AeadKeys,
}

/// Knows the keys of peers' sessions. Called on a poll thread, at most a few times a poll, for frames that anyone may
/// have forged: it neither allocates nor blocks, and remembers nothing about them.
pub trait KeySource: Send {
    /// The peer and the keys of this name; `None` when no peer has them.
    fn admit(&mut self, name: KeyName) -> Option<Admission>;

    /// The next key that is to be forgotten; called until there is none, once a poll.
    fn next_retired(&mut self) -> Option<(PeerIndex, KeyName)> {
        None
    }
}

/// How much a key may seal before it is reported as worn, so that the next one is ready long before
/// [`crate::session::SEAL_FRAMES_MAX`] ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// Frames.
    pub frames: u64,
    /// Bytes of messages.
    pub bytes: u64,
}

impl Default for KeyLimits {
    /// A quarter of the frames that end a key; 64 GiB are 2^32 blocks of AES.
    fn default() -> Self {
        KeyLimits { frames: crate::session::SEAL_FRAMES_MAX / 4, bytes: 1 << 36 }
    }
}

/// What the control plane tells spread about the ways to peers.
// The largest variant is the common one, and a box for it would allocate on one thread and free on another.
#[allow(clippy::large_enum_variant)]
pub enum LinkCommand {
    /// A peer is reached in this way from now on.
    Link {
        /// The peer.
        peer: PeerIndex,
        /// Its role.
        role: Role,
        /// How.
        link: PeerLink,
    },
    /// A peer has other addresses; its session and its key stay.
    Move {
        /// The peer.
        peer: PeerIndex,
        /// Addresses of frames to it.
        addresses: Addresses,
    },
    /// A peer is gone.
    Unlink {
        /// The peer.
        peer: PeerIndex,
    },
}

/// A link's key has sealed as much as its [`KeyLimits`] say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worn {
    /// Whose link.
    pub peer: PeerIndex,
    /// The session.
    pub session: u64,
    /// The key's generation.
    pub key_phase: u8,
}

/// What changes about known peers' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownChange {
    /// A peer's frames come from another address from now on.
    Moved {
        /// The address before.
        from: IpAddr,
        /// The address now.
        to: IpAddr,
    },
    /// What comes from this address has no more room than a stranger's.
    Banned(IpAddr),
    /// It is a known peer's again.
    Readmitted(IpAddr),
}

/// How to reach a peer: where to, and sealed with what.
#[derive(Clone)]
pub struct PeerLink {
    /// Addresses of frames to the peer; this node is the source.
    pub addresses: Addresses,
    /// The session's id.
    pub session: u64,
    /// This node's transmit core, part of what the key is derived from.
    pub core: u8,
    /// The key's generation.
    pub key_phase: u8,
    /// Keys of the direction from this node to the peer; each key is used by one link at a time.
    pub keys: AeadKeys,
    /// When the key is worn.
    pub limits: KeyLimits,
}
