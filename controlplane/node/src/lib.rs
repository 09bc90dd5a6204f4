//! The roko node: command line, configuration, wiring, shutdown.
//!
//! [`replica`] decides, [`workers`] wait for pairings and disks, [`chain`] is what genesis fixes, [`observe`] is what the
//! node shows, and [`cli`] is what a person types.
#![forbid(unsafe_code)]

pub mod abstain;
pub mod accounts;
pub mod api;
pub mod bench;
pub mod catchup;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod conduct;
pub mod config;
pub mod control;
pub mod devnet;
mod disk;
pub mod follower;
pub mod handshake;
pub mod jitter;
pub mod observe;
pub mod replay;
pub mod replica;
pub mod ring_plane;
pub mod sandbox;
pub mod slow_path;
pub mod top;
pub mod topology;
pub mod validator;
pub mod wake;
pub mod workers;
