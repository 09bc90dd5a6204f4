//! Where keys go: the data plane, as the handshakes see it.

use crate::membership::Role;
use crate::session::{FrameKeys, SessionId};
use roko_wire::genesis::Endpoint;

/// The transmit core of every session: a node has one.
pub const CORE: u8 = 0;

/// How a frame names its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The sender's session.
    pub session: SessionId,
    /// The sender's transmit core.
    pub core: u8,
    /// The key's generation within the session.
    pub phase: u8,
}

/// A key with whom it is shared.
pub struct PeerKey {
    /// The peer's slot in the membership.
    pub slot: usize,
    /// What the peer is.
    pub role: Role,
    /// How frames name it.
    pub name: KeyName,
    /// Orders the keys of a peer.
    pub generation: u64,
    /// It.
    pub keys: FrameKeys,
}

/// A ring to the data plane has no room at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFull;

/// The data plane's ends of rings. Calls never block; what finds no room is tried again.
pub trait KeySink: Send + 'static {
    /// Frames of the peer may come that are sealed with this key.
    fn install(&mut self, key: &PeerKey) -> Result<(), RingFull>;
    /// No frame of the peer is opened with this key any more.
    fn retire(&mut self, slot: usize, name: KeyName) -> Result<(), RingFull>;
    /// Frames to the peer, who is reached at `endpoint`, are sealed with this key from now on.
    fn link(&mut self, key: &PeerKey, endpoint: Endpoint) -> Result<(), RingFull>;
    /// Frames to the peer go to `endpoint` from now on, sealed as before; and its frames come from there.
    fn readdress(&mut self, slot: usize, endpoint: Endpoint) -> Result<(), RingFull>;
    /// The peer is banned, or is not any more: until then its address has no more room in the filter than a stranger's.
    fn banned(&mut self, slot: usize, banned: bool) -> Result<(), RingFull>;
    /// A key of this node that is worn: the peer's slot, and the key.
    fn worn(&mut self) -> Option<(usize, KeyName)>;
}
