//! Keys of sessions that no handshake has opened: derived from the long-lived node keys. Handshakes replace it.

use crate::error::PeersError;
use crate::identity::NodeIdentity;
use crate::membership::{Membership, Role};
use crate::session::{BootStamp, FrameKeys, SessionId};
use curve25519_dalek::edwards::CompressedEdwardsY;
use hkdf::Hkdf;
use roko_wire::Hash32;
use roko_wire::genesis::NodeKey;
use sha2::{Digest, Sha256, Sha512};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

const INFO_DOMAIN: &[u8; 12] = b"roko/frame/1";
const INFO_BYTES: usize = INFO_DOMAIN.len() + 2 + 2 + 8 + 1 + 1;

fn shared_secret(identity: &NodeIdentity, peer: &NodeKey) -> Result<Zeroizing<[u8; 32]>, PeersError> {
    let mut hash = Sha512::digest(identity.signing_key().as_bytes());
    let mut half = Zeroizing::new([0; 32]);
    half.copy_from_slice(&hash[..32]);
    hash.as_mut_slice().zeroize();
    let point = CompressedEdwardsY(peer.0).decompress().expect("the membership has checked it");
    let exchange = StaticSecret::from(*half);
    Ok(Zeroizing::new(exchange.diffie_hellman(&PublicKey::from(point.to_montgomery().to_bytes())).to_bytes()))
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
                let secret = shared_secret(identity, &peer.node_key)?;
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
        (session.boot().milliseconds() >= newest).then_some(Admitted {
            slot,
            role: link.role,
            boot: session.boot(),
        })
    }

    /// Records that a frame of `session` has verified: the peer's older sessions are over.
    pub fn accept(&self, session: SessionId) {
        if let Some(slot) = self.slots.get(&session.sender_index()) {
            self.links[*slot].accepted.fetch_max(session.boot().milliseconds(), Ordering::Relaxed);
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
