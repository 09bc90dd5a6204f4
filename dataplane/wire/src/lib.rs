//! What is on the wire and in a block.
//!
//! This crate is the contract of every other crate: ids, time, frames, transactions, stamps, blocks, votes,
//! certificates, genesis, and the limits of all of them. It does no I/O and reads no clock. `WIRE.md` beside
//! this crate describes each layout field by field, with golden vectors that the tests check.
//!
//! Two encodings are used. Whatever is signed or hashed has a *canonical layout*: fixed-order little-endian
//! fields written by [`codec`]. Block bodies are rkyv archives that are checked once and then read in place.
#![forbid(unsafe_code)]

pub mod account;
pub mod block;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod frame;
pub mod genesis;
pub mod ids;
pub mod limits;
pub mod merkle;
pub mod message;
pub mod nano;
pub mod net;
pub mod order;
pub mod rules;
pub mod stamp;
pub mod tx;
pub mod vote;

pub use account::Account;
pub use ids::{Address, BlockId, ChainId, Epoch, Hash32, Height, TxId, ValidatorIndex, View};
pub use nano::NanoMoment;
