//! Session ids and the keys that seal frames.
//!
//! ```text
//! secret = X25519(own node key, peer's node key)
//! keys   = HKDF-SHA256(salt = genesis hash, ikm = secret,
//!                      info = "roko/frame/1" | sender u16 | receiver u16 | session u64 | core u8 | phase u8) -> key 32 | iv 12
//! ```
//! Integers are little-endian. A session belongs to its *sender*: its id is the sender's index and the sender's boot
//! stamp, which never repeats, so no restart uses a key twice. The crate's first page says what this exchange lacks.

use crate::error::PeersError;
use crate::file;
use crate::identity::NodeIdentity;
use crate::membership::{Membership, Role};
use hkdf::Hkdf;
use roko_wire::Hash32;
use sha2::Sha256;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const INFO_DOMAIN: &[u8; 12] = b"roko/frame/1";
const INFO_BYTES: usize = INFO_DOMAIN.len() + 2 + 2 + 8 + 1 + 1;
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

/// A session of a known peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The peer's slot in the membership.
    pub slot: usize,
    /// What the peer is.
    pub role: Role,
    /// Orders the peer's sessions.
    pub boot: BootStamp,
}

struct Link {
    index: u16,
    role: Role,
    /// HKDF's extracted key; `None` for this node itself.
    extracted: Option<Zeroizing<[u8; 32]>>,
    /// Boot stamp of the newest session of which a frame has verified.
    accepted: AtomicU64,
}

/// Derives frame keys. Shared by threads; after construction it neither allocates nor blocks.
pub struct KeyDeriver {
    own_index: u16,
    links: Vec<Link>,
    slots: HashMap<u16, usize>,
}

impl KeyDeriver {
    /// The deriver of a member. Every peer's shared secret is computed here, once.
    pub fn new(
        identity: &NodeIdentity,
        members: &Membership,
        genesis_hash: &Hash32,
    ) -> Result<KeyDeriver, PeersError> {
        let own_slot = members.slot_of_key(&identity.node_key())?;
        let mut links = Vec::with_capacity(members.peers().len());
        for (slot, peer) in members.peers().iter().enumerate() {
            let extracted = if slot == own_slot {
                None
            } else {
                let secret = identity.shared_secret(&peer.node_key)?;
                let (mut output, _) = Hkdf::<Sha256>::extract(Some(&genesis_hash.0), &*secret);
                let mut extracted = Zeroizing::new([0; 32]);
                extracted.copy_from_slice(&output);
                output.as_mut_slice().zeroize();
                Some(extracted)
            };
            let accepted = AtomicU64::new(0);
            links.push(Link { index: peer.index, role: peer.role, extracted, accepted });
        }
        let slots = links.iter().enumerate().map(|(slot, link)| (link.index, slot)).collect();
        Ok(KeyDeriver { own_index: members.peers()[own_slot].index, links, slots })
    }

    /// This node's index.
    #[must_use]
    pub fn own_index(&self) -> u16 {
        self.own_index
    }

    /// The peer of a session, if it is a known one's and not older than its newest accepted session. Anyone may have
    /// forged the id: nothing is remembered until [`KeyDeriver::accept`].
    #[must_use]
    pub fn admit(&self, session: SessionId) -> Option<Admitted> {
        let slot = *self.slots.get(&session.sender_index())?;
        let link = self.links.get(slot).filter(|link| link.extracted.is_some())?;
        let newest = link.accepted.load(Ordering::Relaxed);
        (session.boot().0 >= newest).then_some(Admitted { slot, role: link.role, boot: session.boot() })
    }

    /// Records that a frame of `session` has verified: the peer's older sessions are over.
    pub fn accept(&self, session: SessionId) {
        if let Some(slot) = self.slots.get(&session.sender_index()) {
            self.links[*slot].accepted.fetch_max(session.boot().0, Ordering::Relaxed);
        }
    }

    /// Keys of frames from the peer in `slot` to this node. `None` when that is this node or nobody, or the session is
    /// another's.
    #[must_use]
    pub fn receiving(&self, slot: usize, session: SessionId, core: u8, phase: u8) -> Option<FrameKeys> {
        let link = self.links.get(slot).filter(|link| link.index == session.sender_index())?;
        derive(link, link.index, self.own_index, session, core, phase)
    }

    /// Keys of frames from this node to the peer in `slot`. `None` when that is this node or nobody, or the session is
    /// not this node's.
    #[must_use]
    pub fn sending(&self, slot: usize, session: SessionId, core: u8, phase: u8) -> Option<FrameKeys> {
        let link = self.links.get(slot).filter(|_| session.sender_index() == self.own_index)?;
        derive(link, self.own_index, link.index, session, core, phase)
    }
}

fn derive(
    link: &Link,
    sender: u16,
    receiver: u16,
    session: SessionId,
    core: u8,
    phase: u8,
) -> Option<FrameKeys> {
    let extracted = link.extracted.as_ref()?;
    let mut info = [0; INFO_BYTES];
    info[..12].copy_from_slice(INFO_DOMAIN);
    info[12..14].copy_from_slice(&sender.to_le_bytes());
    info[14..16].copy_from_slice(&receiver.to_le_bytes());
    info[16..24].copy_from_slice(&session.0.to_le_bytes());
    info[24..].copy_from_slice(&[core, phase]);
    let mut output = Zeroizing::new([0; 44]);
    Hkdf::<Sha256>::from_prk(extracted.as_slice())
        .expect("the extracted key has the hash's length")
        .expand(&info, output.as_mut_slice())
        .expect("44 bytes are below HKDF's limit of 255 hashes");
    let mut keys = FrameKeys { key: [0; 32], iv: [0; 12] };
    keys.key.copy_from_slice(&output[..32]);
    keys.iv.copy_from_slice(&output[32..]);
    Some(keys)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
