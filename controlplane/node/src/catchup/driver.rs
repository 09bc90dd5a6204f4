//! The asking end: peers, what is asked of them, and what becomes of their answers.

use super::check::{CheckError, Signed, execute_all, proven};
use super::plan::Plan;
use super::stream::Stream;
use super::talk::{Answer, Ask, PATIENCE, converse};
use crate::chain::Chain;
use crate::observe::Observer;
use crate::replica::blocks::Outcome;
use crate::replica::catchup::CaughtUp;
use crate::wake::Waker;
use crossbeam::channel::{Receiver, Sender, bounded};
use roko_peers::Offence;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long the control thread may take: it waits for the disk at most.
const CONTROL_PATIENCE: Duration = Duration::from_secs(60);
/// How long a peer is left alone that sent what does not hold, and one that could not be reached.
pub(super) const PENALTY: Duration = Duration::from_secs(60);
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// Blocks without a proof that they are final, at most: an honest chain commits far more often.
const UNPROVEN_MAX: usize = 4 * roko_wire::limits::SYNC_BLOCKS_MAX;
/// And bytes of their bodies.
const UNPROVEN_BYTES_MAX: usize = 64 << 20;

/// What the control thread is asked.
#[derive(Debug)]
pub enum ToControl {
    /// The last final block.
    Base(Sender<Arc<Outcome>>),
    /// Take these as final; the answer says whether they were.
    Blocks(CaughtUp, Sender<bool>),
}

/// A future of a stream to a peer.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How peers are reached.
pub trait Dial: Send + Sync + 'static {
    /// The peers that can be asked; the numbers name them.
    fn peers(&self) -> Vec<usize>;
    /// Opens a stream to one of them, whose other end is authenticated as that peer.
    fn dial(&self, peer: usize) -> Dialing;
}

/// When to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Fetch when peers are ahead by more than so many blocks.
    pub lag_min: u64,
    /// Fetch also when they are ahead at all and nothing became final here for so long.
    pub stall: Duration,
    /// How often peers are asked for their tips.
    pub poll: Duration,
    /// How long nobody is asked after the start.
    pub delay: Duration,
}

impl Settings {
    /// A validator's: what it misses by little comes by the data plane, and sessions for that open first.
    pub const VALIDATOR: Settings = Settings {
        lag_min: 64,
        stall: Duration::from_secs(1),
        poll: Duration::from_millis(500),
        delay: Duration::from_secs(1),
    };
    /// A full node's: it gets every block like this.
    pub const FOLLOWER: Settings = Settings {
        lag_min: 0,
        stall: Duration::ZERO,
        poll: Duration::from_millis(50),
        delay: Duration::ZERO,
    };
}

/// Both ends of a channel.
pub(super) type Channel<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// What is known of a peer.
struct Peer {
    asks: Option<mpsc::Sender<Ask>>,
    /// The first block that it has, and the last.
    first: u64,
    tip: u64,
    busy: bool,
    /// The fetch for which it was last asked for blocks.
    asked_in: u64,
    left_alone_until: Instant,
}

/// A piece that was checked and handed over.
enum Checked {
    /// It is with the control thread, which will say whether it made it final; what is left had no proof yet.
    Given { base: Arc<Outcome>, rest: Vec<Signed>, taken: Option<Receiver<bool>> },
    /// It does not hold.
    Refused(CheckError),
    /// The control thread went on by itself, or has stopped.
    Stale,
}

/// A fetch under way.
struct Fetch {
    number: u64,
    plan: Plan<Signed>,
    /// What the next blocks are checked against; not here while a piece is being checked.
    base: Option<Arc<Outcome>>,
    unproven: Vec<Signed>,
    /// What the control thread says of the piece before.
    taken: Option<Receiver<bool>>,
    /// Who sent the last of what is being checked.
    blamed: usize,
    /// Whether it was said that nobody has the next block.
    told_missing: bool,
}

/// See the module.
pub struct Driver {
    chain: Arc<Chain>,
    dial: Arc<dyn Dial>,
    settings: Settings,
    control: Sender<ToControl>,
    waker: Arc<Waker>,
    observer: Arc<Observer>,
    peers: HashMap<usize, Peer>,
    answers: Channel<(usize, Answer)>,
    checked: Channel<Checked>,
    fetch: Option<Fetch>,
    fetches: u64,
    polled: Instant,
    /// The own height and since when it is that.
    height: (u64, Instant),
}

impl Driver {
    /// A driver of the node whose control thread takes from `control`'s other end and is woken by `waker`.
    #[must_use]
    pub fn new(
        chain: Arc<Chain>,
        dial: Arc<dyn Dial>,
        settings: Settings,
        control: Sender<ToControl>,
        waker: Arc<Waker>,
        observer: Arc<Observer>,
    ) -> Driver {
        let now = Instant::now();
        let peer = |number| {
            (number, Peer { asks: None, first: 1, tip: 0, busy: false, asked_in: 0, left_alone_until: now })
        };
        let peers = dial.peers().into_iter().map(peer).collect();
        Driver {
            chain,
            dial,
            settings,
            control,
            waker,
            observer,
            peers,
            answers: mpsc::channel(64),
            checked: mpsc::channel(1),
            fetch: None,
            fetches: 0,
            polled: now,
            height: (0, now),
        }
    }

    /// Runs for as long as it is polled.
    pub async fn run(mut self) {
        let every = self.settings.poll.min(Duration::from_millis(250));
        let mut tick = tokio::time::interval_at(Instant::now() + self.settings.delay, every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((peer, answer)) = self.answers.1.recv() => self.on_answer(peer, answer),
                Some(checked) = self.checked.1.recv() => self.on_checked(checked),
                _ = tick.tick() => self.on_tick().await,
            }
            self.ask_blocks();
            self.check_next();
        }
    }

    async fn on_tick(&mut self) {
        let now = Instant::now();
        for (number, peer) in &mut self.peers {
            if peer.asks.is_none() && peer.left_alone_until <= now {
                peer.left_alone_until = now + PATIENCE;
                let (chain, answers) = (Arc::clone(&self.chain), self.answers.0.clone());
                tokio::spawn(converse(chain, *number, self.dial.dial(*number), answers));
            }
        }
        if now >= self.polled + self.settings.poll {
            self.polled = now;
            for peer in self.peers.values_mut().filter(|peer| !peer.busy) {
                peer.ask(Ask::Tip);
            }
        }
        let own = self.observer.durable_height().0;
        if own != self.height.0 {
            self.height = (own, now);
        }
        let stands = now.duration_since(self.height.1) >= self.settings.stall;
        let lag_min = if stands { 0 } else { self.settings.lag_min };
        let best = self.peers.values().filter(|peer| peer.asks.is_some()).map(|peer| peer.tip).max();
        let best = best.unwrap_or(0);
        match &mut self.fetch {
            Some(fetch) => fetch.plan.extend(best),
            None if best > own.saturating_add(lag_min) => self.begin(best, lag_min).await,
            None => {}
        }
    }

    async fn begin(&mut self, target: u64, lag_min: u64) {
        let (reply, answer) = bounded(1);
        let (control, waker) = (self.control.clone(), Arc::clone(&self.waker));
        let asked = tokio::task::spawn_blocking(move || {
            control.send_timeout(ToControl::Base(reply), CONTROL_PATIENCE).ok()?;
            waker.wake();
            answer.recv_timeout(CONTROL_PATIENCE).ok()
        });
        let Ok(Some(base)) = asked.await else { return };
        if target > base.height.0.saturating_add(lag_min) {
            self.observer.catching_up(base.height.0, target);
            let plan = Plan::new(base.height.0, target);
            self.fetches += 1;
            let number = self.fetches;
            self.fetch = Some(Fetch {
                number,
                plan,
                base: Some(base),
                unproven: Vec::new(),
                taken: None,
                blamed: 0,
                told_missing: false,
            });
        }
    }

    fn on_answer(&mut self, number: usize, answer: Answer) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        match answer {
            Answer::Connected(asks) => (peer.asks, peer.busy, peer.tip) = (Some(asks), false, 0),
            Answer::Tip(first, tip) => (peer.busy, peer.first, peer.tip) = (false, first.0, tip.0),
            Answer::Blocks(blocks) => {
                peer.busy = false;
                // An answer to a fetch that has ended is of no use and no fault.
                let fetch = self.fetch.as_mut().filter(|fetch| fetch.number == peer.asked_in);
                if fetch.is_some_and(|fetch| !fetch.plan.answered(number, blocks)) {
                    self.leave(number, "it sent no block of a range below its tip", PENALTY);
                }
            }
            // Nobody asks for these here.
            Answer::Snapshot(_) | Answer::Range(..) => {}
            Answer::Failed(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.leave(number, &error.to_string(), PENALTY);
            }
            Answer::Failed(error) => self.leave(number, &error.to_string(), RETRY),
        }
    }

    /// Ends the stream to a peer and leaves it alone for a while.
    fn leave(&mut self, number: usize, why: &str, penalty: Duration) {
        if let Some(peer) = self.peers.get_mut(&number) {
            let known = peer.asks.take().is_some();
            (peer.busy, peer.left_alone_until) = (false, Instant::now() + penalty);
            if known && penalty == PENALTY {
                self.observer.counters.catchup_refused.add(1);
                self.observer.conduct.note_slot(number, Offence::BadSyncAnswer);
                eprintln!("catch-up: peer {number} is left alone for {} s: {why}", PENALTY.as_secs());
            }
        }
        if let Some(fetch) = &mut self.fetch {
            fetch.plan.failed(number);
        }
    }

    fn ask_blocks(&mut self) {
        let Some(fetch) = &mut self.fetch else { return };
        let connected = self.peers.values().filter(|peer| peer.asks.is_some()).count();
        for (number, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.busy && peer.asks.is_some()) {
            if let Some(range) = fetch.plan.ask(*number, peer.first..=peer.tip, connected) {
                peer.asked_in = fetch.number;
                peer.ask(Ask::Blocks(range));
            }
        }
        let known = |peer: &&Peer| peer.asks.is_some() && peer.tip > 0;
        let oldest = self.peers.values().filter(known).map(|peer| peer.first).min();
        let expected = fetch.plan.expected();
        if let Some(oldest) = oldest.filter(|oldest| *oldest > expected && !fetch.told_missing) {
            fetch.told_missing = true;
            eprintln!(
                "catch-up: no peer has block {expected}, the oldest that one has is {oldest}: move the data folder's files \
                 away and start with catchup.start = \"snapshot\""
            );
        }
    }

    /// Starts checking the next blocks when the ones before are done.
    fn check_next(&mut self) {
        let Some(fetch) = &mut self.fetch else { return };
        let Some(base) = fetch.base.take() else { return };
        let Some((peer, blocks)) = fetch.plan.take() else {
            fetch.base = Some(base);
            if fetch.plan.is_done() {
                // What is left without a proof is not final there either.
                self.observer.caught_up();
                self.fetch = None;
            }
            return;
        };
        fetch.blamed = peer;
        let (mut all, before) = (std::mem::take(&mut fetch.unproven), fetch.taken.take());
        all.extend(blocks);
        let (chain, control, waker) =
            (Arc::clone(&self.chain), self.control.clone(), Arc::clone(&self.waker));
        let done = self.checked.0.clone();
        tokio::task::spawn_blocking(move || {
            let _ = done.blocking_send(check(&chain, base, all, before, &control, &waker));
        });
    }

    fn on_checked(&mut self, checked: Checked) {
        let Some(fetch) = &mut self.fetch else { return };
        match checked {
            Checked::Given { base, rest, taken } if is_bounded(&rest) => {
                self.observer.catching_up(base.height.0, fetch.plan.target());
                (fetch.base, fetch.unproven, fetch.taken) = (Some(base), rest, taken);
            }
            Checked::Given { .. } => {
                let blamed = fetch.blamed;
                self.end_fetch();
                self.leave(blamed, "it sent too many blocks without a proof that one is final", PENALTY);
            }
            Checked::Refused(error) => {
                let blamed = fetch.blamed;
                self.end_fetch();
                self.leave(blamed, &error.to_string(), PENALTY);
            }
            // The next tick begins again, if need be.
            Checked::Stale => self.end_fetch(),
        }
    }

    /// What is on its way is dropped when it comes.
    fn end_fetch(&mut self) {
        self.fetch = None;
        self.observer.caught_up();
    }
}

impl Peer {
    fn ask(&mut self, ask: Ask) {
        if let Some(asks) = &self.asks {
            self.busy = asks.try_send(ask).is_ok();
        }
    }
}

fn is_bounded(unproven: &[Signed]) -> bool {
    let bytes: usize = unproven.iter().map(Signed::body_bytes).sum();
    unproven.len() <= UNPROVEN_MAX && bytes <= UNPROVEN_BYTES_MAX
}

/// Checks blocks on top of `base` and hands over what is proven final, once the piece before was taken.
fn check(
    chain: &Chain,
    base: Arc<Outcome>,
    mut blocks: Vec<Signed>,
    before: Option<Receiver<bool>>,
    control: &Sender<ToControl>,
    waker: &Waker,
) -> Checked {
    let (count, proof) = match proven(chain, &base, &blocks) {
        Ok(Some(proven)) => proven,
        Ok(None) => return Checked::Given { base, rest: blocks, taken: before },
        Err(error) => return Checked::Refused(error),
    };
    let rest = blocks.split_off(count);
    let caught_up = match execute_all(chain, &base, blocks, proof) {
        Ok(caught_up) => caught_up,
        Err(error) => return Checked::Refused(error),
    };
    let Some(base) = caught_up.blocks.last().map(|block| Arc::clone(&block.outcome)) else {
        return Checked::Stale;
    };
    // The control thread makes a piece final, and the disk takes it, while the next one is executed.
    if before.is_some_and(|before| before.recv_timeout(CONTROL_PATIENCE) != Ok(true)) {
        return Checked::Stale;
    }
    let (reply, taken) = bounded(1);
    if control.send_timeout(ToControl::Blocks(caught_up, reply), CONTROL_PATIENCE).is_err() {
        return Checked::Stale;
    }
    waker.wake();
    Checked::Given { base, rest, taken: Some(taken) }
}
