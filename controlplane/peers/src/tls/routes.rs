//! Who takes which protocol's streams.

use super::{Alpn, PeerStream, lock};
use crate::refusal::Refusal;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Streams that came in, by protocol.
#[derive(Debug, Default)]
pub struct Routes {
    takers: Mutex<HashMap<Alpn, Sender<PeerStream>>>,
}

impl Routes {
    /// Takes all streams of `alpn` from now on; at most `depth` wait, more are refused as [`Refusal::Busy`].
    pub fn register(&self, alpn: Alpn, depth: usize) -> Receiver<PeerStream> {
        let (sender, receiver) = mpsc::channel(depth.max(1));
        lock(&self.takers).insert(alpn, sender);
        receiver
    }

    /// Whether somebody takes a stream of `alpn` now.
    pub(super) fn check(&self, alpn: Alpn) -> Result<(), Refusal> {
        let takers = lock(&self.takers);
        let taker = takers.get(&alpn).filter(|taker| !taker.is_closed() && taker.capacity() > 0);
        taker.map(|_| ()).ok_or(Refusal::Busy)
    }

    /// Hands a stream over. One that finds no room after all is closed.
    pub(super) fn deliver(&self, stream: PeerStream) -> Result<(), Refusal> {
        let alpn = stream.alpn();
        let takers = lock(&self.takers);
        let taker = takers.get(&alpn).ok_or(Refusal::Busy)?;
        taker.try_send(stream).map_err(|_| Refusal::Busy)
    }
}
