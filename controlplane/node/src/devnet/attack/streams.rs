//! What a hostile validator says over TLS: on sessions' connections and on catch-up streams.

use super::Attack;
use crate::catchup::stream::{read, send, send_bytes};
use roko_peers::tls::{Alpn, Listener};
use roko_peers::{PeerStream, TlsEndpoint};
use roko_wire::sync::SyncMessage;
use roko_wire::{BlockId, Height, View};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long the others may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// A tip that nobody has.
const TIP: Height = Height(1 << 40);

/// See the module.
pub(super) struct Streams {
    runtime: Handle,
    addresses: Vec<Option<SocketAddr>>,
    own_slot: usize,
    doing: watch::Sender<Option<Attack>>,
    said: Arc<AtomicU64>,
    answering: Vec<AbortHandle>,
    babbling: Vec<AbortHandle>,
}

impl Streams {
    pub(super) fn new(
        runtime: Handle,
        addresses: Vec<Option<SocketAddr>>,
        own_slot: usize,
        said: Arc<AtomicU64>,
    ) -> Streams {
        let doing = watch::Sender::new(None);
        Streams { runtime, addresses, own_slot, doing, said, answering: Vec::new(), babbling: Vec::new() }
    }

    /// What the attacker does from now on.
    pub(super) fn tell(&self, attack: Option<Attack>) {
        self.doing.send_replace(attack);
    }

    /// Answers catch-up questions: with lies while that is the attack, else as a node that has nothing.
    pub(super) fn answer(&mut self, tls: &Arc<TlsEndpoint>) {
        let mut streams = tls.routes().register(Alpn::SYNC, 16);
        let (doing, said) = (self.doing.subscribe(), Arc::clone(&self.said));
        let task = self.runtime.spawn(async move {
            while let Some(stream) = streams.recv().await {
                let (doing, said) = (doing.clone(), Arc::clone(&said));
                tokio::spawn(async move {
                    // The others end it.
                    let _ = answer(stream, &doing, &said).await;
                });
            }
        });
        self.answering.drain(..).for_each(|task| task.abort());
        self.answering.push(task.abort_handle());
    }

    /// Asks what is no question, again and again, while that is the attack.
    pub(super) fn ask(&mut self, tls: &Arc<TlsEndpoint>) {
        for (slot, address) in self.addresses.iter().enumerate() {
            let Some(address) = address.filter(|_| slot != self.own_slot) else { continue };
            let (tls, doing, said) = (Arc::clone(tls), self.doing.subscribe(), Arc::clone(&self.said));
            self.runtime.spawn(async move {
                for round in 0u8.. {
                    if *doing.borrow() != Some(Attack::SyncGarbage) {
                        return;
                    }
                    let question =
                        [[7, 200, 0, 0], [7, 0xff, 0xff, 0xff], [2, 0, 0, 0]][usize::from(round) % 3];
                    if let Ok(mut stream) = tls.connect(address, slot, Alpn::SYNC).await {
                        said.fetch_add(1, Ordering::Relaxed);
                        // A length, true or not, and something that is not a question.
                        let _ = stream.write_all(&question).await;
                        let _ = stream.write_all(&[9; 64]).await;
                        let _ = stream.flush().await;
                        let _ = tokio::time::timeout(PAUSE, stream.read_u8()).await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    /// Takes everybody's session connections and says nothing sensible on them.
    pub(super) fn babble(&mut self, tls: TlsEndpoint, socket: TcpListener) {
        let (tls, said, runtime) = (Arc::new(tls), Arc::clone(&self.said), self.runtime.clone());
        let mut streams = tls.routes().register(Alpn::FRAMES, 16);
        let listen = self.runtime.spawn(async move {
            let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { return };
            Listener::serve(tls, socket, Vec::new()).await;
        });
        let babble = self.runtime.spawn(async move {
            while let Some(mut stream) = streams.recv().await {
                said.fetch_add(1, Ordering::Relaxed);
                runtime.spawn(async move {
                    let _ = stream.write_all(&[0x66; 20]).await;
                    let _ = stream.flush().await;
                    // The other end hangs up.
                    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
                });
            }
        });
        self.babbling = vec![listen.abort_handle(), babble.abort_handle()];
    }

    pub(super) fn end_babble(&mut self) {
        self.babbling.drain(..).for_each(|task| task.abort());
    }
}

/// Ends everything.
pub(super) fn end(streams: &mut Streams) {
    streams.tell(None);
    streams.end_babble();
    streams.answering.drain(..).for_each(|task| task.abort());
}

async fn answer(
    mut stream: PeerStream,
    doing: &watch::Receiver<Option<Attack>>,
    said: &AtomicU64,
) -> io::Result<()> {
    let mut question = Vec::new();
    while read(&mut stream, &mut question, Duration::from_secs(60)).await? {
        let lies = *doing.borrow() == Some(Attack::SyncLies);
        match SyncMessage::read(&question) {
            Ok(SyncMessage::GetTip) => {
                let height = if lies { TIP } else { Height(0) };
                let tip =
                    SyncMessage::Tip { height, view: View(TIP.0), block: BlockId([6; 32]), first: Height(1) };
                send(&mut stream, &tip, PATIENCE).await?;
            }
            Ok(_) if lies => {
                said.fetch_add(1, Ordering::Relaxed);
                send_bytes(&mut stream, &[12, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], PATIENCE).await?;
            }
            _ => send(&mut stream, &SyncMessage::End, PATIENCE).await?,
        }
    }
    Ok(())
}
