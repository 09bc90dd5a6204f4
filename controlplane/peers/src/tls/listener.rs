//! Takes connections: within limits before a byte is read, then the handshake, then whoever takes the protocol.

use super::{Alpn, TlsEndpoint, lock};
use crate::limits::{Admission, Place};
use crate::membership::Role;
use crate::refusal::{HandshakeError, Refusal};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Pause when the host has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Who dials a session of the data plane: a client always, of two validators the lower slot. So there is one
/// connection a pair, and a second one is its dialer's new beginning.
#[must_use]
pub(crate) const fn dials((slot, role): (usize, Role), (other, other_role): (usize, Role)) -> bool {
    match (role, other_role) {
        (Role::Validator(_), Role::Validator(_)) => slot < other,
        (Role::Client, Role::Validator(_)) => true,
        (_, Role::Client) => false,
    }
}

/// A node's listening socket.
pub struct Listener {
    endpoint: Arc<TlsEndpoint>,
    admission: Mutex<Admission>,
    displace: Mutex<HashMap<Place, oneshot::Sender<()>>>,
    began: Instant,
}

impl Listener {
    /// Takes connections from `socket` until the task that awaits this is dropped. `members` are the addresses at which
    /// members' handshakes are expected: they have places of their own.
    pub async fn serve(endpoint: Arc<TlsEndpoint>, socket: TcpListener, members: Vec<IpAddr>) {
        let admission = Mutex::new(Admission::new(*endpoint.limits(), members));
        let displace = Mutex::default();
        let listener = Arc::new(Listener { endpoint, admission, displace, began: Instant::now() });
        let mut handshakes = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((tcp, from)) => {
                        if let Some((place, displaced)) = listener.admit(from.ip()) {
                            handshakes.spawn(Arc::clone(&listener).handshake(tcp, from, place, displaced));
                        }
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = handshakes.join_next() => {}
            }
        }
    }

    /// A place for a connection, and what ends it early; `None` when it is refused.
    fn admit(&self, ip: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let counters = self.endpoint.counters();
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let now_ms = self.began.elapsed().as_millis() as u64;
        let mut admission = lock(&self.admission);
        let admitted = admission.admit(ip, now_ms);
        counters.half_open.store(admission.half_open() as u64, Ordering::Relaxed);
        drop(admission);
        let mut displace = lock(&self.displace);
        match admitted {
            Ok(admitted) => {
                if let Some(sender) = admitted.displaces.and_then(|place| displace.remove(&place)) {
                    // One whose task has just ended needs no telling.
                    let _ = sender.send(());
                }
                let (sender, displaced) = oneshot::channel();
                displace.insert(admitted.place, sender);
                Some((admitted.place, displaced))
            }
            Err(refusal) => {
                // Counted and not logged: whoever floods shall not fill the log.
                counters.refuse(refusal);
                None
            }
        }
    }

    async fn handshake(
        self: Arc<Self>,
        tcp: TcpStream,
        from: SocketAddr,
        place: Place,
        displaced: oneshot::Receiver<()>,
    ) {
        let endpoint = &self.endpoint;
        let stream = tokio::select! {
            stream = endpoint.accept(tcp, from, |alpn, slot| self.may_open(alpn, slot)) => stream,
            Ok(()) = displaced => {
                endpoint.counters().refuse(Refusal::Displaced);
                Err(HandshakeError::Refused(Refusal::Displaced))
            }
        };
        lock(&self.displace).remove(&place);
        let mut admission = lock(&self.admission);
        admission.release(place);
        endpoint.counters().half_open.store(admission.half_open() as u64, Ordering::Relaxed);
        drop(admission);
        if let Ok(stream) = stream
            && let Err(refusal) = endpoint.routes().deliver(stream)
        {
            endpoint.counters().refuse(refusal);
        }
    }

    fn may_open(&self, alpn: Alpn, slot: usize) -> Result<(), Refusal> {
        let peers = self.endpoint.members().peers();
        let (own, peer) = (self.endpoint.own_slot(), peers[slot].role);
        if alpn == Alpn::FRAMES && !dials((slot, peer), (own, peers[own].role)) {
            return Err(Refusal::WrongDialer);
        }
        self.endpoint.routes().check(alpn)
    }
}
