//! Catch-up over the members' authenticated streams: who is asked, and who is answered.

use super::driver::{Dial, Dialing, Driver, Settings};
use super::server::serve;
use super::stream::Stream;
use crate::chain::Chain;
use crate::observe::Observer;
use crate::validator::CatchupEnds;
use roko_peers::tls::Alpn;
use roko_peers::{HandshakeError, Offence, Refusal, Role, TlsEndpoint};
use roko_state::Reader;
use roko_state::storage::Storage;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Streams of one peer that are answered at once.
const STREAMS_PER_PEER: usize = 2;
/// Streams that wait to be taken.
const WAITING_MAX: usize = 8;

/// Both ends of a node's catch-up. They end when this is dropped.
pub struct Catchup {
    tasks: Vec<AbortHandle>,
}

impl Drop for Catchup {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What a node's catch-up is made of.
pub struct CatchupParts<S: Storage> {
    /// Where streams come and go.
    pub tls: Arc<TlsEndpoint>,
    /// Where peers listen, by slot.
    pub addresses: Vec<Option<SocketAddr>>,
    /// The chain.
    pub chain: Arc<Chain>,
    /// What is answered from.
    pub reader: Reader<S>,
    /// The control thread.
    pub ends: CatchupEnds,
    /// Where progress is shown.
    pub observer: Arc<Observer>,
    /// When to fetch.
    pub settings: Settings,
}

/// Begins to answer, and to ask where this node is behind.
#[must_use]
pub fn start<S: Storage>(parts: CatchupParts<S>, runtime: &Handle) -> Catchup {
    let CatchupParts { tls, addresses, chain, reader, ends, observer, settings } = parts;
    let mut streams = tls.routes().register(Alpn::SYNC, WAITING_MAX);
    let answered: Arc<Mutex<HashMap<usize, usize>>> = Arc::default();
    let noted = Arc::clone(&observer.conduct);
    let answers_for = Arc::clone(&observer);
    let answer = runtime.spawn(async move {
        while let Some(stream) = streams.recv().await {
            let (slot, answered, reader) = (stream.peer().slot, Arc::clone(&answered), reader.clone());
            let observer = Arc::clone(&answers_for);
            {
                let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
                let count = answered.entry(slot).or_default();
                if *count >= STREAMS_PER_PEER {
                    continue;
                }
                *count += 1;
            }
            let conduct = Arc::clone(&noted);
            tokio::spawn(async move {
                // Whoever breaks the protocol or goes away loses the stream and may come again, unless it is banned for it.
                if let Err(error) = serve(stream, reader, observer).await
                    && error.kind() == io::ErrorKind::InvalidData
                {
                    conduct.note_slot(slot, Offence::BadSyncQuestion);
                }
                let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
                answered.entry(slot).and_modify(|count| *count -= 1);
            });
        }
    });
    let dial = validators(tls, addresses);
    let driver = Driver::new(chain, dial, settings, ends.control, ends.waker, observer);
    let ask = runtime.spawn(driver.run());
    Catchup { tasks: vec![answer.abort_handle(), ask.abort_handle()] }
}

/// How the validators are reached that listen somewhere.
#[must_use]
pub fn validators(tls: Arc<TlsEndpoint>, addresses: Vec<Option<SocketAddr>>) -> Arc<dyn Dial> {
    Arc::new(TlsPeers { tls, addresses })
}

struct TlsPeers {
    tls: Arc<TlsEndpoint>,
    addresses: Vec<Option<SocketAddr>>,
}

impl Dial for TlsPeers {
    fn peers(&self) -> Vec<usize> {
        let members = self.tls.members().peers().iter().enumerate();
        let listens = |slot: usize| self.addresses.get(slot).is_some_and(Option::is_some);
        members
            .filter(|(slot, peer)| {
                matches!(peer.role, Role::Validator(_)) && *slot != self.tls.own_slot() && listens(*slot)
            })
            .map(|(slot, _)| slot)
            .collect()
    }

    fn dial(&self, peer: usize) -> Dialing {
        let (tls, address) = (Arc::clone(&self.tls), self.addresses.get(peer).copied().flatten());
        Box::pin(async move {
            let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
            match tls.connect(address, peer, Alpn::SYNC).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(HandshakeError::Io(error)) => Err(error),
                // Refused for now, or for good; either way it is no fault in what it sent.
                Err(HandshakeError::Refused(refusal) | HandshakeError::RefusedByPeer(refusal)) => {
                    Err(refused(refusal))
                }
            }
        })
    }
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionRefused,
        format!("the handshake was refused: {}", refusal.words()),
    )
}
