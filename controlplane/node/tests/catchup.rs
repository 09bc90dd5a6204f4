//! Catch-up from the stores of a chain that really ran: every block comes over, checked, and what does not hold is
//! refused, whoever sends it.

mod common;

use common::DevnetProcess;
use crossbeam::channel::{Receiver, bounded};
use roko_node::catchup::driver::Dialing;
use roko_node::catchup::stream::{self, Stream};
use roko_node::catchup::{Dial, Driver, Settings, ToControl, server};
use roko_node::chain::Chain;
use roko_node::observe::Observer;
use roko_node::replica::Started;
use roko_node::replica::blocks::Outcome;
use roko_node::wake::Waker;
use roko_node::workers::journal;
use roko_state::file::{FileStorage, WritePath};
use roko_state::{Reader, StateStore};
use roko_wire::genesis::Genesis;
use roko_wire::sync::SyncMessage;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::duplex;

/// Blocks that the chain has at least.
const BLOCKS: u64 = 600;
/// Bytes under way between two ends.
const WINDOW: usize = 256 * 1024;

/// Lets a devnet make a chain, and reads it.
fn chain_of(dir: &Path) -> (Arc<Chain>, StateStore<FileStorage>) {
    let mut devnet = DevnetProcess::start(dir, 300, &["--report", "json", "--for", "60s"]);
    loop {
        let line = devnet.line("");
        let height = line.split_once("height").and_then(|(_, rest)| rest.split_whitespace().next());
        if height.and_then(|height| height.parse().ok()).is_some_and(|height: u64| height >= BLOCKS) {
            break;
        }
    }
    devnet.kill();
    let text = std::fs::read_to_string(dir.join("genesis.json")).expect("the devnet wrote its genesis");
    let chain = Arc::new(Chain::new(Genesis::parse(&text).expect("a genesis")).expect("a chain"));
    let storage = FileStorage::open(&dir.join("validator-0"), WritePath::Best).expect("a directory");
    let accounts = chain.genesis_accounts();
    let (store, _) = StateStore::open(storage, &accounts, chain.genesis_block).expect("a store");
    (chain, store)
}

/// How a peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Honest,
    /// Alters a byte of each answer, this far from its end.
    Alters(usize),
    /// Closes the stream in the middle of an answer.
    Breaks,
    /// Says that its chain is longer than it is.
    Boasts,
}

struct Peers {
    conducts: Vec<Conduct>,
    store: Reader<FileStorage>,
}

impl Dial for Peers {
    fn peers(&self) -> Vec<usize> {
        (0..self.conducts.len()).collect()
    }

    fn dial(&self, peer: usize) -> Dialing {
        let (near, far) = duplex(WINDOW);
        let (conduct, store) = (self.conducts[peer], self.store.clone());
        tokio::spawn(answer(conduct, store, far));
        Box::pin(async { Ok(Box::new(near) as Box<dyn Stream>) })
    }
}

/// Where nobody looks.
fn nobody() -> Arc<Observer> {
    Arc::new(Observer::new("peer".into(), None))
}

/// Puts itself between an asker and an honest server.
async fn answer(conduct: Conduct, store: Reader<FileStorage>, mut asker: impl Stream) {
    if conduct == Conduct::Honest {
        let _ = server::serve(asker, store, nobody()).await;
        return;
    }
    let (mut near, far) = duplex(WINDOW);
    tokio::spawn(server::serve(far, store, nobody()));
    let (mut bytes, patience) = (Vec::new(), Duration::from_secs(10));
    while stream::read(&mut asker, &mut bytes, patience).await.unwrap_or(false) {
        let mut question = Vec::new();
        stream::frame(&mut question, |out| out.extend_from_slice(&bytes));
        if stream::send_bytes(&mut near, &question, patience).await.is_err() {
            return;
        }
        for answered in 0.. {
            if !stream::read(&mut near, &mut bytes, patience).await.unwrap_or(false) {
                return;
            }
            let last = !matches!(SyncMessage::read(&bytes), Ok(SyncMessage::Block(_)));
            match (conduct, last) {
                (Conduct::Breaks, _) if answered == 40 => return,
                (Conduct::Alters(from_end), false) => {
                    let at = bytes.len() - from_end.min(bytes.len());
                    bytes[at] ^= 4;
                }
                (Conduct::Boasts, true) if bytes[0] == 2 => {
                    bytes[1..9].copy_from_slice(&u64::MAX.to_le_bytes())
                }
                _ => {}
            }
            let mut out = Vec::new();
            stream::frame(&mut out, |out| out.extend_from_slice(&bytes));
            if stream::send_bytes(&mut asker, &out, patience).await.is_err() {
                return;
            }
            if last {
                break;
            }
        }
    }
}

/// Stands for a control thread: takes what follows what it has, until it has `height`.
fn take_until(
    asked: &Receiver<ToControl>,
    observer: &Observer,
    mut base: Arc<Outcome>,
    height: u64,
) -> Arc<Outcome> {
    while base.height.0 < height {
        match asked.recv_timeout(common::PATIENCE).expect("the catch-up goes on") {
            ToControl::Base(reply) => reply.send(Arc::clone(&base)).expect("it waits"),
            ToControl::Blocks(caught_up, reply) => {
                let first = caught_up.blocks.first().expect("at least one");
                let follows = first.header.parent == base.block;
                if follows {
                    base = Arc::clone(&caught_up.blocks.last().expect("at least one").outcome);
                    observer.start_at(&base);
                }
                // When the next piece is refused, nobody waits for what became of this one.
                let _ = reply.send(follows);
            }
        }
    }
    base
}

/// Catches up from genesis with peers of these conducts; returns what the chain then yields and how long it took.
fn catch_up(
    chain: &Arc<Chain>,
    store: &StateStore<FileStorage>,
    conducts: &[Conduct],
) -> (Arc<Observer>, Duration) {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let storage = FileStorage::open(empty.path(), WritePath::Best).expect("a directory");
    let accounts = chain.genesis_accounts();
    let (new, _) = StateStore::open(storage, &accounts, chain.genesis_block).expect("a store");
    let nothing = journal::read(&[]).expect("an empty journal");
    let started = Started::read(chain, new.snapshot(), None, nothing).expect("genesis");
    let observer = Arc::new(Observer::new("catch-up".into(), None));
    observer.start_at(&started.outcome);
    let (control, asked) = bounded(1);
    let peers = Peers { conducts: conducts.to_vec(), store: store.reader() };
    let settings = Settings { poll: Duration::from_millis(20), ..Settings::FOLLOWER };
    let waker = Arc::new(Waker::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let began = Instant::now();
    let driver =
        Driver::new(Arc::clone(chain), Arc::new(peers), settings, control, waker, Arc::clone(&observer));
    runtime.spawn(driver.run());
    let last = store.last();
    let end = take_until(&asked, &observer, Arc::new(started.outcome), last.height.0);
    let took = began.elapsed();
    assert_eq!((end.block, end.tree.root()), (last.block_id, last.root), "the same chain and the same state");
    runtime.shutdown_background();
    (observer, took)
}

#[test]
fn a_new_node_gets_the_whole_chain_whoever_lies() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (chain, store) = chain_of(dir.path());
    let height = store.last().height.0;
    let (observer, took) = catch_up(&chain, &store, &[Conduct::Honest]);
    println!("{height} blocks in {took:?}");
    assert_eq!(observer.counters.catchup_refused.get(), 0);
    // Bytes near the end are the body's, further ones the seals', and 4,000 from the end the header's.
    for from_end in [1, 100, 700, 1_500, 100_000] {
        let (observer, _) = catch_up(&chain, &store, &[Conduct::Alters(from_end), Conduct::Honest]);
        assert_eq!(observer.counters.catchup_refused.get(), 1, "altered {from_end} from the end");
    }
    let (observer, _) = catch_up(&chain, &store, &[Conduct::Boasts, Conduct::Breaks, Conduct::Honest]);
    assert_eq!(observer.counters.catchup_refused.get(), 1, "who boasts has no block to show");
}
