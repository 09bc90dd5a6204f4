//! The asking end of a snapshot: which height, which peers, and when to begin anew.

use super::keeper::{self, Arrived, Kept};
use super::space::Space;
use crate::catchup::driver::{Channel, Dial, PENALTY, RETRY};
use crate::catchup::talk::{Answer, Ask, PATIENCE, converse};
use crate::chain::Chain;
use crossbeam::channel::{Sender, bounded};
use roko_state::storage::Storage;
use roko_state::{BlockRecord, SnapshotBuilder, StateError, StoreOptions};
use roko_wire::Height;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long others may take to show a newer snapshot than the first that was seen.
const COLLECT: Duration = Duration::from_secs(1);
/// How long a peer that does not keep a height is not asked for it again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// After so long without anybody who keeps the height, a newer one is fetched.
const GONE: Duration = Duration::from_secs(5);
/// How often peers are dialled again and clocks looked at.
const TICK: Duration = Duration::from_millis(100);

/// What a snapshot is fetched with.
pub struct FetchParts<S: Storage> {
    /// The chain.
    pub chain: Arc<Chain>,
    /// How peers are reached.
    pub dial: Arc<dyn Dial>,
    /// Where the store will be.
    pub storage: S,
    /// Its options.
    pub options: StoreOptions,
    /// How long peers may say that they have none, before it is given up.
    pub none_patience: Duration,
    /// How long nobody may be reached, before it is given up.
    pub silence_patience: Duration,
    /// Done when all of the state is here and before there is a store.
    pub before_install: BeforeInstall,
}

/// See [`FetchParts::before_install`].
pub type BeforeInstall = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// How far a fetch is; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// The height whose state is fetched; 0 before one is found.
    pub height: AtomicU64,
    /// How much of the state is proven, of a million.
    pub done_ppm: AtomicU64,
    /// Accounts on the disk.
    pub accounts: AtomicU64,
    /// Bytes on the disk.
    pub bytes: AtomicU64,
    /// Peers left alone because what they sent does not hold.
    pub refused: AtomicU64,
    /// Times that it began anew at another height.
    pub begun_anew: AtomicU64,
}

/// How a fetch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is a store now, which begins after the block at this height.
    Installed(Height),
    /// There is nothing to fetch, for this reason.
    NoSnapshot(&'static str),
}

/// Why a fetch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk.
    #[error("the snapshot on disk: {0}")]
    State(#[from] StateError),
    /// A thread.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Fetches a snapshot and makes the store that begins from it.
///
/// # Errors
/// When the disk fails.
pub async fn fetch<S: Storage>(parts: FetchParts<S>, progress: Arc<Progress>) -> Result<Ending, FetchError> {
    let mut session = Session::new(&parts, progress);
    let accounts = parts.chain.genesis_accounts();
    let genesis = parts.chain.genesis_block;
    let (storage, given) = (parts.storage.clone(), accounts.clone());
    let mut resumed = blocking(move || SnapshotBuilder::resume(&storage, &given, genesis)).await?;
    loop {
        let builder = match resumed.take() {
            Some(builder) => builder,
            None => match session.anchor(&parts).await {
                Ok(anchor) => {
                    let (storage, given) = (parts.storage.clone(), accounts.clone());
                    blocking(move || SnapshotBuilder::begin(&storage, &given, genesis, anchor)).await?
                }
                Err(why) => return Ok(Ending::NoSnapshot(why)),
            },
        };
        let height = builder.anchor().height;
        session.progress.height.store(height.0, Ordering::Relaxed);
        match session.ranges(builder).await? {
            (builder, true) => {
                let options = parts.options;
                (parts.before_install)()?;
                blocking(move || builder.install(options)).await?;
                return Ok(Ending::Installed(height));
            }
            (builder, false) => {
                session.progress.begun_anew.fetch_add(1, Ordering::Relaxed);
                blocking(move || builder.discard()).await?;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, FetchError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??)
}

/// What is known of a peer.
struct Peer {
    asks: Option<mpsc::Sender<Ask>>,
    /// The question that it has not answered, or whose answer was not looked at.
    question: Option<usize>,
    /// Since when it says that it has nothing of what is wanted.
    nothing: Option<Instant>,
    /// Whether it showed a snapshot in this round.
    told: bool,
    left_alone_until: Instant,
}

struct Session {
    chain: Arc<Chain>,
    dial: Arc<dyn Dial>,
    progress: Arc<Progress>,
    peers: BTreeMap<usize, Peer>,
    answers: Channel<(usize, Answer)>,
    questions: usize,
}

impl Session {
    fn new<S: Storage>(parts: &FetchParts<S>, progress: Arc<Progress>) -> Session {
        let now = Instant::now();
        let peer = |number| {
            (number, Peer { asks: None, question: None, nothing: None, told: false, left_alone_until: now })
        };
        let peers = parts.dial.peers().into_iter().map(peer).collect();
        Session {
            chain: Arc::clone(&parts.chain),
            dial: Arc::clone(&parts.dial),
            progress,
            peers,
            answers: mpsc::channel(64),
            questions: 0,
        }
    }

    fn connect(&mut self) {
        let now = Instant::now();
        for (number, peer) in &mut self.peers {
            if peer.asks.is_none() && peer.left_alone_until <= now {
                peer.left_alone_until = now + PATIENCE;
                let (chain, answers) = (Arc::clone(&self.chain), self.answers.0.clone());
                tokio::spawn(converse(chain, *number, self.dial.dial(*number), answers));
            }
        }
    }

    /// Ends the stream to a peer and leaves it alone for a while.
    fn leave(&mut self, number: usize, why: &str, penalty: Duration) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let known = peer.asks.take().is_some();
        (peer.question, peer.left_alone_until) = (None, Instant::now() + penalty);
        if known && penalty == PENALTY {
            self.progress.refused.fetch_add(1, Ordering::Relaxed);
            eprintln!("snapshot: peer {number} is left alone for {} s: {why}", PENALTY.as_secs());
        }
    }

    fn failed(&mut self, number: usize, error: &io::Error) {
        let penalty = if error.kind() == io::ErrorKind::InvalidData { PENALTY } else { RETRY };
        self.leave(number, &error.to_string(), penalty);
    }

    /// The newest block whose state somebody has, proven; or why there is none.
    async fn anchor<S: Storage>(&mut self, parts: &FetchParts<S>) -> Result<BlockRecord, &'static str> {
        let began = Instant::now();
        let mut best: Option<(BlockRecord, Instant)> = None;
        let mut tick = tokio::time::interval(TICK);
        for peer in self.peers.values_mut() {
            (peer.question, peer.nothing, peer.told) = (None, None, false);
        }
        loop {
            tokio::select! {
                Some((number, answer)) = self.answers.1.recv() => {
                    if let Some(found) = self.on_anchor(number, answer)
                        && best.as_ref().is_none_or(|(best, _)| best.height < found.height)
                    {
                        let since = best.map_or_else(Instant::now, |(_, since)| since);
                        best = Some((found, since));
                    }
                }
                _ = tick.tick() => self.connect(),
            }
            let connected: Vec<&Peer> = self.peers.values().filter(|peer| peer.asks.is_some()).collect();
            let all_told = connected.iter().all(|peer| peer.told);
            if let Some((found, since)) = best.take() {
                if all_told && connected.len() == self.peers.len() || since.elapsed() > COLLECT {
                    return Ok(found);
                }
                best = Some((found, since));
            } else if connected.iter().any(|peer| peer.nothing.is_some()) {
                if began.elapsed() > parts.none_patience {
                    return Err("no peer has a snapshot yet, the chain is young");
                }
            } else if began.elapsed() > parts.silence_patience {
                return Err("no peer that can be reached has a snapshot that holds");
            }
            for peer in self.peers.values_mut() {
                let again = peer.nothing.is_none_or(|since| since.elapsed() > ASK_AGAIN);
                if !peer.told && again && peer.question.is_none() {
                    peer.ask(0, Ask::Snapshot);
                }
            }
        }
    }

    fn on_anchor(&mut self, number: usize, answer: Answer) -> Option<BlockRecord> {
        let peer = self.peers.get_mut(&number)?;
        match answer {
            Answer::Connected(asks) => (peer.asks, peer.question) = (Some(asks), None),
            Answer::Snapshot(None) => (peer.question, peer.nothing) = (None, Some(Instant::now())),
            Answer::Snapshot(Some(anchor)) => {
                (peer.question, peer.told) = (None, true);
                match anchor.check(&self.chain) {
                    Ok(found) => return Some(found),
                    Err(error) => self.leave(number, &error.to_string(), PENALTY),
                }
            }
            Answer::Failed(error) => self.failed(number, &error),
            // To a question of the round before.
            Answer::Tip(..) | Answer::Blocks(_) | Answer::Range(..) => peer.question = None,
        }
        None
    }

    /// Fetches what is missing. False when nobody keeps that height any more.
    async fn ranges<S: Storage>(
        &mut self,
        builder: SnapshotBuilder<S>,
    ) -> Result<(SnapshotBuilder<S>, bool), FetchError> {
        let (height, mut space) = (builder.anchor().height, Space::without(builder.covered()));
        let (arrived, arrivals) = bounded(self.peers.len().max(1));
        let (said, mut kept) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(move || keeper::run(builder, &arrivals, &said))?;
        for peer in self.peers.values_mut() {
            (peer.question, peer.nothing) = (None, None);
        }
        let (mut tick, mut last) = (tokio::time::interval(TICK), Instant::now());
        let done = loop {
            self.progress.done_ppm.store(space.done_ppm(), Ordering::Relaxed);
            self.ask_ranges(height, &mut space);
            if space.is_done() {
                break true;
            }
            tokio::select! {
                Some((number, answer)) = self.answers.1.recv() => self.on_range(number, answer, height, &mut space, &arrived),
                Some(kept) = kept.recv() => {
                    if let Some(error) = self.on_kept(kept, &mut space, &mut last) {
                        return Err(error.into());
                    }
                }
                _ = tick.tick() => self.connect(),
            }
            let mut connected = self.peers.values().filter(|peer| peer.asks.is_some()).peekable();
            if connected.peek().is_none() || connected.any(|peer| peer.nothing.is_none()) {
                // Somebody may have it, or nobody can be asked: what is here is worth waiting for.
                last = last.max(Instant::now() - GONE / 2);
            }
            if last.elapsed() > GONE {
                break false;
            }
        };
        drop(arrived);
        loop {
            match kept.recv().await {
                Some(Kept::Ended(builder)) => return Ok((*builder, done)),
                Some(Kept::Failed(error)) => return Err(error.into()),
                Some(kept) => drop(self.on_kept(kept, &mut space, &mut last)),
                None => return Err(io::Error::other("the snapshot's thread has ended").into()),
            }
        }
    }

    fn ask_ranges(&mut self, height: Height, space: &mut Space) {
        for peer in self.peers.values_mut() {
            let again = peer.nothing.is_none_or(|since| since.elapsed() > ASK_AGAIN);
            if peer.asks.is_none() || peer.question.is_some() || !again {
                continue;
            }
            self.questions += 1;
            let Some(question) = space.ask(self.questions) else { return };
            if !peer.ask(self.questions, Ask::Range(height, question)) {
                space.failed(self.questions);
            }
        }
    }

    fn on_range(
        &mut self,
        number: usize,
        answer: Answer,
        height: Height,
        space: &mut Space,
        arrived: &Sender<Arrived>,
    ) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        match answer {
            Answer::Connected(asks) => (peer.asks, peer.question, peer.nothing) = (Some(asks), None, None),
            Answer::Range(of, question, range) => {
                // What comes late, from a stream or a round before, is no answer to what was asked last.
                let asked = peer.question.filter(|asked| space.question(*asked) == Some(question));
                let Some(asked) = asked.filter(|_| of == height) else { return };
                peer.nothing = range.is_none().then(Instant::now);
                // There is room for one of each peer.
                let kept = range.is_some_and(|range| {
                    arrived.try_send(Arrived { peer: number, asked, question, range }).is_ok()
                });
                if !kept {
                    space.failed(asked);
                    peer.question = None;
                }
            }
            Answer::Failed(error) => {
                peer.question.take().into_iter().for_each(|asked| space.failed(asked));
                self.failed(number, &error);
            }
            // To a question of the round before.
            Answer::Tip(..) | Answer::Blocks(_) | Answer::Snapshot(_) => {}
        }
    }

    fn on_kept<S: Storage>(
        &mut self,
        kept: Kept<S>,
        space: &mut Space,
        last: &mut Instant,
    ) -> Option<StateError> {
        match kept {
            Kept::Proven { peer, asked, depth } => {
                *last = Instant::now();
                space.proven(asked, depth);
                self.answered(peer, asked);
            }
            Kept::Wrong { peer, asked, error } => {
                space.failed(asked);
                self.answered(peer, asked);
                self.leave(peer, &error.to_string(), PENALTY);
            }
            Kept::Durable { accounts, bytes } => {
                self.progress.accounts.store(accounts, Ordering::Relaxed);
                self.progress.bytes.store(bytes, Ordering::Relaxed);
            }
            Kept::Failed(error) => return Some(error),
            Kept::Ended(_) => {}
        }
        None
    }

    fn answered(&mut self, number: usize, asked: usize) {
        if let Some(peer) = self.peers.get_mut(&number).filter(|peer| peer.question == Some(asked)) {
            peer.question = None;
        }
    }
}

impl Peer {
    /// Whether it is asked now.
    fn ask(&mut self, question: usize, ask: Ask) -> bool {
        let asked = self.asks.as_ref().is_some_and(|asks| asks.try_send(ask).is_ok());
        if asked {
            self.question = Some(question);
        }
        asked
    }
}
