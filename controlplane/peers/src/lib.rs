//! Membership, node keys and session keys.
//!
//! It says who the peers are ([`membership`]), holds this node's key ([`identity`]) and derives from both the keys that seal
//! frames ([`session`]). The data plane gets the results: addresses, and one AEAD key for each direction, session, core
//! and key phase.
//!
//! # What this key exchange lacks
//!
//! It has no handshake: both ends derive a session's keys from their long-lived node keys and the session id in the
//! frame. That authenticates both ends and never uses a key twice, and it has two gaps that a handshake with fresh keys
//! on both sides closes:
//!
//! - **No forward secrecy.** Whoever learns a node's key later can open what was recorded before.
//! - **Replay after a restart of the receiver.** A receiver that restarts forgets a session's replay window, so recorded
//!   frames of a peer's *current* session pass once more, until the peer's own restart. Frames of sessions older than
//!   the newest that was accepted are refused. What frames carry is built to be received twice: transactions and votes
//!   are recognised by their hash, chunks by their place.
#![forbid(unsafe_code)]

mod error;
mod file;
pub mod identity;
pub mod membership;
pub mod session;

pub use error::PeersError;
pub use identity::NodeIdentity;
pub use membership::{ClientEntry, Membership, Peer, PeerEndpoint, Role};
pub use session::{Admitted, BootStamp, FrameKeys, KeyDeriver, SessionId};
