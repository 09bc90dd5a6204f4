//! Peers as the data plane knows them: an index, a role, addresses and session keys. Who they are is decided in the
//! control plane.

use crate::session::AeadKeys;
use roko_wire::ValidatorIndex;
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

/// A peer's session that the control plane has keys for.
pub struct Admission {
    /// The peer.
    pub peer: PeerIndex,
    /// Its role.
    pub role: Role,
    /// Orders the peer's sessions: a session replaces another only if its generation is higher, so that a recorded
    /// frame of an old session brings nothing back.
    pub generation: u64,
    /// Keys of the direction from the peer to this node.
    pub keys: AeadKeys,
}

/// Derives the keys of a known peer's new session. Called on a poll thread, at most a few times a poll, for frames that
/// anyone may have forged: it neither allocates nor blocks, and remembers nothing.
pub trait KeySource: Send {
    /// The session's peer and keys; `None` when no known peer can have this session.
    fn admit(&mut self, session: u64) -> Option<Admission>;
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
}
