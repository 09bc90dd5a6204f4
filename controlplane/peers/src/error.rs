//! What can be wrong with keys, key files and the list of peers.

use std::io;
use std::path::PathBuf;

/// A key, a file or a peer that cannot be used, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The operating system refuses.
    #[error("{}: {action} failed: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Others may read a secret.
    #[error("{} may be read by others (mode {mode:o}): run \"chmod 600 {}\", and make a new key if others had access", path.display(), path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file.
    #[error("{} is not a node key file: {what}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Not a stamp file.
    #[error(
        "{} holds no boot stamp: write into it, in decimal, a number of milliseconds since 1970 that is above every earlier start's", path.display()
    )]
    StampFile {
        /// The file.
        path: PathBuf,
    },
    /// The stamps are used up.
    #[error("boot stamps are used up at {0}: check the host's clock and register a new node key")]
    StampsExhausted(u64),
    /// A certificate cannot be made.
    #[error("this node's certificate cannot be made: {what}")]
    Certificate {
        /// Why.
        what: String,
    },
    /// Handshakes cannot begin.
    #[error("handshakes cannot begin: {source}")]
    Runtime {
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A public key whose signatures anyone can make.
    #[error("the node key {key} is no usable ed25519 key: {what}")]
    BadKey {
        /// The key, hexadecimal.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Two peers share what must be their own.
    #[error("peers {first:#06x} and {second:#06x} have the same {what}: each needs its own")]
    Shared {
        /// The one before.
        first: u16,
        /// The one after.
        second: u16,
        /// What they share.
        what: &'static str,
    },
    /// A client's index among the validators'.
    #[error("client index {0:#06x} is below {first:#06x}, where validators are: choose one from {first:#06x} to 0xffff", first = crate::membership::CLIENT_INDEX_FIRST)]
    ClientIndex(u16),
    /// The node's key is not among the peers.
    #[error("the node key {key} is neither a validator's in genesis nor a configured client's")]
    NotMember {
        /// The key, hexadecimal.
        key: String,
    },
}

impl PeersError {
    pub(crate) fn file(path: &std::path::Path, action: &'static str) -> impl FnOnce(io::Error) -> PeersError {
        let path = path.to_owned();
        move |source| PeersError::File { path, action, source }
    }
}
