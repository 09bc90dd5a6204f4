//! A new node gets the state of a made chain from peers that lie, break off and know nothing, is stopped and goes on, and
//! catches up from there.

mod common;
#[path = "common/made_chain.rs"]
mod made_chain;

use crossbeam::channel::bounded;
use made_chain::Mix;
use roko_node::catchup::driver::Dialing;
use roko_node::catchup::snapshot::{Ending, FetchParts, Progress, fetch};
use roko_node::catchup::stream::{self, Stream};
use roko_node::catchup::{Dial, Driver, Settings, ToControl, server};
use roko_node::chain::Chain;
use roko_node::observe::Observer;
use roko_node::replica::Started;
use roko_node::replica::blocks::Outcome;
use roko_node::wake::Waker;
use roko_node::workers::journal;
use roko_state::fault::{Crash, FaultStorage};
use roko_state::{Reader, StateStore, StoreOptions, recovery};
use roko_wire::Height;
use roko_wire::limits::SNAPSHOT_BLOCKS;
use roko_wire::sync::SyncMessage;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::duplex;
use tokio::runtime::Runtime;

/// The chain goes a little beyond one height that is kept.
const MIX: Mix = Mix { blocks: SNAPSHOT_BLOCKS as u64 + 20, txs: 6, new_percent: 60, accounts: 600 };
const WINDOW: usize = 256 * 1024;

/// What a peer answers from.
struct Made {
    chain: Arc<Chain>,
    store: StateStore<FaultStorage>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let genesis = made_chain::genesis(MIX.accounts);
    let chain = Arc::new(Chain::new(genesis.genesis.clone()).expect("a chain"));
    let mut store = made_chain::open(&chain, FaultStorage::new());
    made_chain::make(&genesis, &chain, &mut store, MIX, |_| {});
    Made { chain, store }
});

/// How a peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Honest,
    /// Alters a byte of each anchor, this far from its beginning.
    AltersAnchor(usize),
    /// Alters a byte of each range, this far from its end.
    AltersRange(usize),
    /// Leaves an account out of each range.
    LeavesOut,
    /// Answers so many ranges and then none.
    Forgets(u64),
    /// Closes the stream in the middle of an answer.
    Breaks,
    /// Has no snapshot.
    Young,
}

struct Peers {
    conducts: Vec<Conduct>,
    /// Ranges that were answered.
    ranges: Arc<AtomicU64>,
}

impl Dial for Peers {
    fn peers(&self) -> Vec<usize> {
        (0..self.conducts.len()).collect()
    }

    fn dial(&self, peer: usize) -> Dialing {
        let (near, far) = duplex(WINDOW);
        tokio::spawn(answer(self.conducts[peer], MADE.store.reader(), far, Arc::clone(&self.ranges)));
        Box::pin(async { Ok(Box::new(near) as Box<dyn Stream>) })
    }
}

/// Puts itself between an asker and an honest server.
async fn answer(
    conduct: Conduct,
    store: Reader<FaultStorage>,
    mut asker: impl Stream,
    ranges: Arc<AtomicU64>,
) {
    let (mut near, far) = duplex(WINDOW);
    tokio::spawn(server::serve(far, store, Arc::new(Observer::new("peer".into(), None))));
    let (mut bytes, patience) = (Vec::new(), Duration::from_secs(10));
    while stream::read(&mut asker, &mut bytes, patience).await.unwrap_or(false) {
        let asks_blocks = matches!(SyncMessage::read(&bytes), Ok(SyncMessage::GetBlocks { .. }));
        let mut question = Vec::new();
        stream::frame(&mut question, |out| out.extend_from_slice(&bytes));
        if stream::send_bytes(&mut near, &question, patience).await.is_err() {
            return;
        }
        loop {
            if !stream::read(&mut near, &mut bytes, patience).await.unwrap_or(false) {
                return;
            }
            let more = asks_blocks && !matches!(SyncMessage::read(&bytes), Ok(SyncMessage::End));
            if !tamper(conduct, &mut bytes, &ranges) {
                return;
            }
            let mut out = Vec::new();
            stream::frame(&mut out, |out| out.extend_from_slice(&bytes));
            if stream::send_bytes(&mut asker, &out, patience).await.is_err() {
                return;
            }
            if !more {
                break;
            }
        }
    }
}

/// Changes an answer by a peer's conduct; false when it breaks off.
fn tamper(conduct: Conduct, bytes: &mut Vec<u8>, ranges: &AtomicU64) -> bool {
    let end = || {
        let mut end = Vec::new();
        SyncMessage::End.write(&mut end);
        end
    };
    let changed = match (SyncMessage::read(bytes), conduct) {
        (Ok(SyncMessage::Snapshot(_)), Conduct::AltersAnchor(at)) => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
            return true;
        }
        (Ok(SyncMessage::Snapshot(_)), Conduct::Young) => end(),
        (Ok(SyncMessage::Range(mut range)), conduct) => {
            let answered = ranges.fetch_add(1, Ordering::Relaxed);
            match conduct {
                Conduct::AltersRange(from_end) => {
                    let at = bytes.len() - from_end.min(bytes.len() - 1);
                    bytes[at] ^= 1;
                    return true;
                }
                Conduct::LeavesOut => {
                    range.accounts.pop();
                    let mut out = Vec::new();
                    SyncMessage::Range(range).write(&mut out);
                    out
                }
                Conduct::Forgets(after) if answered >= after => end(),
                Conduct::Breaks if answered % 7 == 6 => return false,
                _ => return true,
            }
        }
        _ => return true,
    };
    *bytes = changed;
    true
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn parts(storage: &FaultStorage, conducts: &[Conduct]) -> FetchParts<FaultStorage> {
    let peers = Peers { conducts: conducts.to_vec(), ranges: Arc::default() };
    FetchParts {
        chain: Arc::clone(&MADE.chain),
        dial: Arc::new(peers),
        storage: storage.clone(),
        options: StoreOptions::default(),
        none_patience: Duration::from_millis(300),
        silence_patience: Duration::from_secs(5),
        before_install: Box::new(|| Ok(())),
    }
}

fn fetch_from(storage: &FaultStorage, conducts: &[Conduct]) -> (Ending, Arc<Progress>) {
    let progress = Arc::new(Progress::default());
    let fetching = fetch(parts(storage, conducts), Arc::clone(&progress));
    let ending = runtime().block_on(async { tokio::time::timeout(common::PATIENCE, fetching).await });
    (ending.expect("it ends").expect("the disk is well"), progress)
}

fn open(storage: &FaultStorage) -> StateStore<FaultStorage> {
    made_chain::open(&MADE.chain, storage.clone())
}

const HEIGHT: Height = Height(SNAPSHOT_BLOCKS as u64);

#[test]
fn the_state_comes_over_whoever_lies() {
    let honest = FaultStorage::new();
    assert_eq!(fetch_from(&honest, &[Conduct::Honest]).0, Ending::Installed(HEIGHT));
    let store = open(&honest);
    let pinned = MADE.store.reader().pin(HEIGHT).expect("it is kept");
    assert_eq!((store.last(), store.reader().first()), (pinned.last, HEIGHT.next()));
    assert!(store.tree().iter().eq(pinned.tree.iter()), "the same accounts");
    assert_eq!(store.block(HEIGHT).expect("it can be read"), None);
    // An altered byte anywhere in an anchor: in the headers, the seals, the proof and the receipts.
    for at in [3, 100, 310, 700, 750, 900, 1_200, usize::MAX] {
        let storage = FaultStorage::new();
        let (ending, progress) = fetch_from(&storage, &[Conduct::AltersAnchor(at), Conduct::Honest]);
        assert_eq!(ending, Ending::Installed(HEIGHT), "anchor altered at {at}");
        assert_eq!(progress.refused.load(Ordering::Relaxed), 1, "anchor altered at {at}");
        assert_eq!(open(&storage).last(), pinned.last);
    }
    for conduct in
        [Conduct::AltersRange(1), Conduct::AltersRange(130), Conduct::AltersRange(9_999), Conduct::LeavesOut]
    {
        let storage = FaultStorage::new();
        let (ending, progress) = fetch_from(&storage, &[conduct, Conduct::Breaks, Conduct::Honest]);
        assert_eq!(ending, Ending::Installed(HEIGHT), "{conduct:?}");
        assert_eq!(progress.refused.load(Ordering::Relaxed), 1, "{conduct:?}");
        assert_eq!(open(&storage).last(), pinned.last);
    }
}

#[test]
fn without_a_snapshot_or_an_honest_peer_nothing_is_made() {
    let storage = FaultStorage::new();
    assert!(matches!(fetch_from(&storage, &[Conduct::Young]).0, Ending::NoSnapshot(_)));
    assert!(matches!(fetch_from(&storage, &[Conduct::AltersAnchor(100)]).0, Ending::NoSnapshot(_)));
    assert!(!recovery::exists(&storage).expect("it can be read"));
}

#[test]
fn what_was_proven_is_kept_over_a_loss_of_power_and_not_fetched_again() {
    let whole = {
        let storage = FaultStorage::new();
        let peers = parts(&storage, &[Conduct::Honest]);
        let (counted, progress) = (Arc::new(AtomicU64::new(0)), Arc::new(Progress::default()));
        let dial = Peers { conducts: vec![Conduct::Honest], ranges: Arc::clone(&counted) };
        let all = FetchParts { dial: Arc::new(dial), ..peers };
        runtime().block_on(fetch(all, progress)).expect("it ends");
        counted.load(Ordering::Relaxed)
    };
    let storage = FaultStorage::new();
    let halfway = whole / 2;
    let runtime = runtime();
    let progress = Arc::new(Progress::default());
    let counted = Arc::new(AtomicU64::new(0));
    let dial = Peers { conducts: vec![Conduct::Forgets(halfway)], ranges: Arc::clone(&counted) };
    let half = FetchParts { dial: Arc::new(dial), ..parts(&storage, &[]) };
    // It waits for somebody who still has that height; the node is stopped meanwhile.
    let fetching = runtime.spawn(fetch(half, Arc::clone(&progress)));
    for _ in 0..common::PATIENCE.as_millis() / 20 {
        if counted.load(Ordering::Relaxed) > halfway && progress.accounts.load(Ordering::Relaxed) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    fetching.abort();
    runtime.shutdown_timeout(Duration::from_secs(5));
    let storage = storage.crash(Crash::DropAll);
    let again = Arc::new(AtomicU64::new(0));
    let dial = Peers { conducts: vec![Conduct::Honest], ranges: Arc::clone(&again) };
    let rest = FetchParts { dial: Arc::new(dial), ..parts(&storage, &[]) };
    let ending = self::runtime().block_on(fetch(rest, Arc::default())).expect("it ends");
    assert_eq!(ending, Ending::Installed(HEIGHT));
    let fetched = again.load(Ordering::Relaxed);
    assert!(fetched <= whole - halfway + 16, "{fetched} of {whole} ranges fetched again");
    assert_eq!(open(&storage).last(), MADE.store.reader().pin(HEIGHT).expect("kept").last);
}

#[test]
fn the_blocks_above_are_checked_on_top_of_it() {
    let storage = FaultStorage::new();
    assert_eq!(fetch_from(&storage, &[Conduct::Honest]).0, Ending::Installed(HEIGHT));
    let store = open(&storage);
    let nothing = journal::read(&[]).expect("an empty journal");
    let started = Started::read(&MADE.chain, store.snapshot(), store.anchor(), nothing).expect("an anchor");
    assert_eq!((started.outcome.height, started.recovered.last_final.height), (HEIGHT, HEIGHT));
    let observer = Arc::new(Observer::new("snapshot".into(), None));
    observer.start_at(&started.outcome);
    let (control, asked) = bounded(1);
    let dial = Arc::new(Peers { conducts: vec![Conduct::Honest], ranges: Arc::default() });
    let settings = Settings { poll: Duration::from_millis(20), ..Settings::FOLLOWER };
    let runtime = runtime();
    let waker = Arc::new(Waker::default());
    let driver = {
        let _entered = runtime.enter();
        Driver::new(Arc::clone(&MADE.chain), dial, settings, control, waker, observer)
    };
    runtime.spawn(driver.run());
    let mut base: Arc<Outcome> = Arc::new(started.outcome);
    while base.height.0 < MIX.blocks {
        match asked.recv_timeout(common::PATIENCE).expect("the catch-up goes on") {
            ToControl::Base(reply) => drop(reply.send(Arc::clone(&base))),
            ToControl::Blocks(caught_up, reply) => {
                base = Arc::clone(&caught_up.blocks.last().expect("at least one").outcome);
                let _ = reply.send(true);
            }
        }
    }
    let last = MADE.store.last();
    assert_eq!((base.block, base.tree.root()), (last.block_id, last.root));
    runtime.shutdown_background();
}
