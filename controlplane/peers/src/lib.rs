//! Membership, node keys, handshakes and the keys that seal frames.
//!
//! It says who the peers are ([`membership`]), holds this node's key ([`identity`]), opens authenticated streams to other
//! members ([`tls`]) and derives from them the keys that seal frames ([`session`]). The data plane gets the results:
//! addresses, and one AEAD key for each direction, session, core and key phase.
#![forbid(unsafe_code)]

pub mod backoff;
mod error;
mod file;
pub mod hello;
pub mod identity;
pub mod limits;
pub mod link;
pub mod membership;
pub mod refusal;
pub mod round_trips;
pub mod score;
pub mod session;
pub mod tls;

pub use error::PeersError;
pub use hello::ChainFacts;
pub use identity::NodeIdentity;
pub use limits::HandshakeLimits;
pub use link::{Banning, KeyName, KeySink, PeerKey, PhaseTimes, RingFull, Sessions, SessionsConfig};
pub use membership::{ClientEntry, Membership, Peer, PeerEndpoint, Role};
pub use refusal::{HandshakeCounters, HandshakeError, Refusal};
pub use round_trips::{RoundTripSummary, RoundTrips};
pub use score::{Offence, ScoreConfig, Scores, Verdict};
pub use session::{BootStamp, FrameKeys, SessionId};
pub use tls::{Alpn, PeerIdentity, PeerStream, TlsConfig, TlsEndpoint};
