//! What is on the wire and in a block.
//!
//! This crate is the contract of every other crate: ids, time, frames, transactions, stamps, blocks, votes,
//! certificates, genesis, and the limits of all of them. It does no I/O and reads no clock. `WIRE.md` beside
//! this crate describes each layout field by field, with golden vectors that the tests check.
//!
//! Two encodings are used. Whatever is signed or hashed has a *canonical layout*: fixed-order little-endian
//! fields written by [`codec`], one encoding a value, so that bytes can be compared, deduplicated and used as
//! evidence. Block bodies are rkyv archives that are checked once and then read in place.
//!
//! In the order in which a packet meets them:
//!
//! 1. [`net`] and [`frame`]: Ethernet, IP and UDP, then our header, the sealed message and its tag.
//! 2. [`message`]: what a frame seals. It borrows from the frame; nothing is copied.
//! 3. [`tx`], [`ethereum`] (in [`rlp`]), [`rules`] and [`stamp`]: a transaction, what it is checked for before any
//!    account is read, and when it reached a validator.
//! 4. [`order`] and [`block`]: how stamps become unique moments, and the header and body that hold them.
//! 5. [`chunk`] and [`merkle`]: how a body travels, and how a piece proves where it belongs.
//! 6. [`vote`]: ballots, certificates, and what their signatures cover.
//! 7. [`genesis`] and [`account`]: what a chain starts from, and what its state holds.
//! 8. [`sync`] and [`snapshot`]: how a node that is behind or new gets blocks and state.
//!
//! [`ids`], [`nano`], [`clock`], [`port_clock`], [`codec`] and [`limits`] serve all of them.
//!
//! Reading checks shape and limits only; signatures, stake and roots are checked by whoever has the keys. No input makes
//! a reader panic: each gives a typed error that names its field. A writer panics only when a caller of our own breaks a
//! limit, as its documentation says.
#![forbid(unsafe_code)]

pub mod account;
pub mod block;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod ethereum;
pub mod frame;
pub mod genesis;
pub mod host_frame;
pub mod ids;
pub mod limits;
pub mod merkle;
pub mod message;
pub mod nano;
pub mod net;
pub mod order;
pub mod port_clock;
pub mod rlp;
pub mod rss;
pub mod rules;
pub mod snapshot;
pub mod stamp;
pub mod sync;
pub mod tx;
pub mod vlan;
pub mod vote;

pub use account::Account;
pub use ids::{Address, BlockId, ChainId, Epoch, Hash32, Height, TxId, ValidatorIndex, View};
pub use nano::NanoMoment;
