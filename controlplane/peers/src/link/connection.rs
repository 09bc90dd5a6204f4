//! One session's connection: first keys, then messages until it ends or another takes its place.

use super::message::{MESSAGE_BYTES, Message};
use super::phase::{PHASES_MAX, ReceivePhase, SendPhase};
use super::registry::Command;
use super::sink::{CORE, KeyName, PeerKey};
use super::{Shared, lock};
use crate::refusal::{HandshakeError, Refusal};
use crate::session::{KeyChain, SessionId, exporter_context};
use crate::tls::{PeerIdentity, PeerStream};
use roko_wire::genesis::Endpoint;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::{interval, timeout};

/// How often a connection looks at the time.
const TICK: Duration = Duration::from_millis(100);
/// How often it asks whether the other end is there, and how long that may say nothing, milliseconds.
const ASK_MS: u64 = 2_000;
const SILENT_MS_MAX: u64 = 10_000;
/// How long the other end may take to read a message.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// How long last words may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A new session is due.
    Renew,
    /// The other end or the network.
    Closed,
    /// Another connection of the same peer took its place.
    Replaced,
}

/// One end of a session.
struct Connection<'a> {
    shared: &'a Shared,
    stream: PeerStream,
    peer: PeerIdentity,
    number: u64,
    dialed: bool,
    began_ms: u64,
    own_session: SessionId,
    their_session: SessionId,
    /// Taken while the next one is made.
    send_chain: Option<KeyChain>,
    receive_chain: Option<KeyChain>,
    send: SendPhase,
    receive: ReceivePhase,
    endpoint: Endpoint,
    /// Keys of earlier sessions, and when they go.
    old: Vec<(KeyName, u64)>,
    heard_ms: u64,
    asked_ms: u64,
    /// The question that is not answered, and when it was put. Tokens only tell questions apart.
    question: Option<(u64, Instant)>,
    questions: u64,
}

/// Runs a session until its connection ends.
pub(super) async fn run(shared: &Shared, stream: PeerStream, dialed: bool) -> Ended {
    let peer = stream.peer();
    let (number, commands) = lock(&shared.registry).enter(peer.slot);
    let ended = match Connection::new(shared, stream, number, dialed) {
        Ok(mut connection) => {
            let ended = connection.run(commands).await;
            if shared.tls.bans().is_banned(peer.slot) {
                connection.say_banned().await;
                shared.withdraw(peer.slot).await;
            }
            ended
        }
        Err(error) => {
            shared.tls.log(&format!("session with peer {:#06x}: {error}", peer.index));
            Ended::Closed
        }
    };
    lock(&shared.registry).leave(peer.slot, number, shared.tls.counters());
    ended
}

impl<'a> Connection<'a> {
    fn new(
        shared: &'a Shared,
        stream: PeerStream,
        number: u64,
        dialed: bool,
    ) -> Result<Connection<'a>, HandshakeError> {
        let (peer, now_ms) = (stream.peer(), shared.now_ms());
        let own_index = shared.tls.members().peers()[shared.tls.own_slot()].index;
        let (own_session, their_session) = (stream.own_session(), stream.their_session());
        let send = stream.export(&exporter_context(own_index, peer.index, own_session, CORE))?;
        let receive = stream.export(&exporter_context(peer.index, own_index, their_session, CORE))?;
        Ok(Connection {
            shared,
            peer,
            number,
            dialed,
            began_ms: now_ms,
            own_session,
            their_session,
            send_chain: Some(KeyChain::new(send)),
            receive_chain: Some(KeyChain::new(receive)),
            send: SendPhase::new(shared.times, now_ms),
            receive: ReceivePhase::new(shared.times),
            endpoint: stream.endpoint(),
            old: Vec::new(),
            heard_ms: now_ms,
            asked_ms: 0,
            question: None,
            questions: 0,
            stream,
        })
    }

    async fn run(&mut self, mut commands: Receiver<Command>) -> Ended {
        if self.install().await.is_err() {
            return Ended::Closed;
        }
        let (mut buffer, mut have) = ([0; MESSAGE_BYTES], 0);
        let mut ticks = interval(TICK);
        loop {
            let outcome = tokio::select! {
                read = self.stream.read(&mut buffer[have..]) => match read {
                    Ok(0) | Err(_) => Err(Ended::Closed),
                    Ok(count) => {
                        have += count;
                        if have < MESSAGE_BYTES {
                            continue;
                        }
                        have = 0;
                        self.heard_ms = self.shared.now_ms();
                        self.on_message(Message::read(&buffer)).await
                    }
                },
                command = commands.recv() => match command {
                    None => Err(Ended::Replaced),
                    Some(Command::Worn(name)) => self.rekey(name.session == self.own_session && Some(name.phase) == self.send.sealing()).await,
                    Some(Command::Announce(endpoint)) => self.say(Message::Moved(endpoint)).await,
                },
                _ = ticks.tick() => self.tick().await,
            };
            if let Err(ended) = outcome {
                // Keys of earlier sessions go with this one's successor, or now when nobody waits for their frames.
                return ended;
            }
        }
    }

    async fn on_message(&mut self, message: Option<Message>) -> Result<(), Ended> {
        let now_ms = self.shared.now_ms();
        match message {
            Some(Message::Rekey(phase)) => {
                let Some(first) = self.receive.asked(phase) else { return Err(self.senseless()) };
                if let Some(old) = first {
                    self.retire(self.their_key(old)).await;
                }
                self.receive_chain = self.receive_chain.take().and_then(KeyChain::next);
                self.install().await
            }
            Some(Message::Ready(phase)) => {
                if !self.send.ready(phase, now_ms) {
                    return Err(self.senseless());
                }
                self.seal_with(phase).await
            }
            Some(Message::Switched(phase)) => {
                if !self.receive.switched(phase, now_ms) {
                    return Err(self.senseless());
                }
                if phase == 0 {
                    let others =
                        lock(&self.shared.registry).of_other_sessions(self.peer.slot, self.their_key(0));
                    let at_ms = now_ms.saturating_add(self.shared.times.grace_ms);
                    self.old = others.into_iter().map(|name| (name, at_ms)).collect();
                }
                Ok(())
            }
            Some(Message::Moved(endpoint)) => {
                self.endpoint = endpoint;
                let slot = self.peer.slot;
                self.shared.sink(|sink| sink.readdress(slot, endpoint)).await;
                Ok(())
            }
            Some(Message::Ask(token)) => self.say(Message::Answer(token)).await,
            Some(Message::Answer(token)) => match self.question.take_if(|(asked, _)| *asked == token) {
                Some((_, at)) => {
                    self.shared.tls.counters().round_trips.record(self.peer.slot, at.elapsed());
                    Ok(())
                }
                None => Err(self.senseless()),
            },
            Some(Message::Renew) if self.dialed => Err(Ended::Renew),
            Some(Message::Banned) => {
                self.shared.tls.note_banned_by(self.peer.index);
                Err(Ended::Closed)
            }
            Some(Message::Renew) | None => Err(self.senseless()),
        }
    }

    fn senseless(&self) -> Ended {
        self.shared.tls.note_bad_message(self.peer.slot);
        let words = Refusal::BadMessage.words();
        self.shared.tls.log(&format!("session with peer {:#06x}: {words}", self.peer.index));
        Ended::Closed
    }

    const fn their_key(&self, phase: u8) -> KeyName {
        KeyName { session: self.their_session, core: CORE, phase }
    }

    /// Gives the data plane the key that the other end is going to seal with, and says so.
    async fn install(&mut self) -> Result<(), Ended> {
        let Some(chain) = &self.receive_chain else { return Err(Ended::Renew) };
        let (phase, keys) = (chain.phase(), chain.keys());
        let name = self.their_key(phase);
        let generation = lock(&self.shared.registry).next_generation();
        let key = PeerKey { slot: self.peer.slot, role: self.peer.role, name, generation, keys };
        self.shared.sink(|sink| sink.install(&key)).await;
        lock(&self.shared.registry).installed(self.peer.slot, name);
        self.say(Message::Ready(phase)).await
    }

    async fn retire(&self, name: KeyName) {
        self.shared.sink(|sink| sink.retire(self.peer.slot, name)).await;
        lock(&self.shared.registry).retired(self.peer.slot, name);
    }

    /// The other end is ready for `phase`: frames to it are sealed with that from now on.
    async fn seal_with(&mut self, phase: u8) -> Result<(), Ended> {
        if phase > 0 {
            self.send_chain = self.send_chain.take().and_then(KeyChain::next);
            self.shared.tls.counters().rekeyed.fetch_add(1, Ordering::Relaxed);
        }
        let Some(chain) = &self.send_chain else { return Err(Ended::Renew) };
        let slot = self.peer.slot;
        let name = KeyName { session: self.own_session, core: CORE, phase };
        let generation = lock(&self.shared.registry).next_generation();
        let key = PeerKey { slot, role: self.peer.role, name, generation, keys: chain.keys() };
        // A connection that was replaced must not take frames back to its own session.
        if !lock(&self.shared.registry).is_current(slot, self.number) {
            return Err(Ended::Replaced);
        }
        let endpoint = self.endpoint;
        if phase == 0 {
            self.shared.sink(|sink| sink.readdress(slot, endpoint)).await;
        }
        self.shared.sink(|sink| sink.link(&key, endpoint)).await;
        lock(&self.shared.registry).open(slot, self.number, self.shared.tls.counters());
        self.say(Message::Switched(phase)).await
    }

    /// Asks for the next phase when it is time.
    async fn rekey(&mut self, worn: bool) -> Result<(), Ended> {
        match self.send.due(worn, self.shared.now_ms()) {
            Some(phase) => self.say(Message::Rekey(phase)).await,
            None => Ok(()),
        }
    }

    async fn tick(&mut self) -> Result<(), Ended> {
        let now_ms = self.shared.now_ms();
        if now_ms.saturating_sub(self.heard_ms) > SILENT_MS_MAX {
            return Err(Ended::Closed);
        }
        if let Some(phase) = self.receive.retire(now_ms) {
            self.retire(self.their_key(phase)).await;
        }
        while let Some(at) = self.old.iter().position(|(_, at_ms)| *at_ms <= now_ms) {
            let (name, _) = self.old.swap_remove(at);
            self.retire(name).await;
        }
        self.rekey(false).await?;
        let aged = now_ms.saturating_sub(self.began_ms) >= self.shared.times.session_ms;
        if aged || self.send.sealing().is_some_and(|phase| phase >= PHASES_MAX) {
            if self.dialed {
                return Err(Ended::Renew);
            }
            if self.send.sealing().is_some_and(|phase| phase >= PHASES_MAX) {
                return self.say(Message::Renew).await;
            }
        }
        self.ask(now_ms).await
    }

    /// Asks whether the other end is there, when the last question was answered and is a while ago.
    async fn ask(&mut self, now_ms: u64) -> Result<(), Ended> {
        if self.question.is_some() || (self.questions > 0 && now_ms.saturating_sub(self.asked_ms) < ASK_MS) {
            return Ok(());
        }
        self.questions += 1;
        self.asked_ms = now_ms;
        self.question = Some((self.questions, Instant::now()));
        self.say(Message::Ask(self.questions)).await
    }

    /// Tells the other end why the connection ends, if it listens.
    async fn say_banned(&mut self) {
        self.stream.pass_gate();
        if self.say(Message::Banned).await.is_ok() {
            // Closing at once could take the message back.
            let _ = timeout(FAREWELL, self.stream.shutdown()).await;
        }
    }

    async fn say(&mut self, message: Message) -> Result<(), Ended> {
        let write = async {
            self.stream.write_all(&message.to_bytes()).await?;
            self.stream.flush().await
        };
        match timeout(WRITE_MAX, write).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Ended::Closed),
        }
    }
}
