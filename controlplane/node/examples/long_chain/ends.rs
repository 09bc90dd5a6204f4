//! Both ends of the measurement: the peer that answers, and the full node that asks.

use super::{made_chain, storage};
use roko_node::accounts::DevnetGenesis;
use roko_node::catchup::Dial;
use roko_node::catchup::link::{self, validators};
use roko_node::catchup::snapshot::{Ending, FetchParts, Progress, fetch as fetch_snapshot};
use roko_node::catchup::{CatchupParts, Settings, server};
use roko_node::chain::Chain;
use roko_node::follower::{self, FollowerParts};
use roko_node::observe::Observer;
use roko_node::topology::Placement;
use roko_node::validator::NodeOptions;
use roko_node::{clock, handshake};
use roko_peers::tls::{Alpn, Listener};
use roko_peers::{ClientEntry, HandshakeLimits, Membership, NodeIdentity, TlsEndpoint};
use roko_state::{FileStorage, StoreOptions};
use roko_wire::genesis::Endpoint;
use roko_wire::net::Mac;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub(super) fn chain_of(made: &DevnetGenesis) -> Arc<Chain> {
    Arc::new(Chain::new(made.genesis.clone()).expect("a chain"))
}

fn asker() -> NodeIdentity {
    NodeIdentity::from_seed(&[7; 32])
}

/// A member's end of TLS: the first validator's, or the asker's.
fn endpoint(chain: &Chain, identity: NodeIdentity, dir: &Path) -> Arc<TlsEndpoint> {
    let at = Endpoint { ip: LOCALHOST.into(), port: 7_700 };
    let full = ClientEntry { index: 0x8000, node_key: asker().node_key(), endpoint: at };
    let members = Membership::new(&chain.genesis, &[full], |_| Mac([2, 0, 0, 0, 0, 1])).expect("members");
    let log = Arc::new(|line: &str| eprintln!("{line}"));
    std::fs::create_dir_all(dir).expect("a folder");
    let member = (Arc::new(identity), Arc::new(members));
    let limits = HandshakeLimits::default();
    Arc::new(handshake::endpoint(member, chain, &dir.join("boot"), log, limits).expect("TLS"))
}

/// Answers from the made chain until standard input ends. Prints its address first.
pub(super) fn serve(dir: &Path) {
    let mut made = made_chain::genesis(super::ACCOUNTS);
    let chain = chain_of(&made);
    let store = made_chain::open(&chain, storage(&dir.join("chain")));
    let tls = endpoint(&chain, made.node_identities.swap_remove(0), &dir.join("peer"));
    let (reader, last) = (store.reader(), store.last());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut streams = tls.routes().register(Alpn::SYNC, 8);
    let socket = runtime.block_on(tokio::net::TcpListener::bind((LOCALHOST, 0))).expect("a port");
    println!("{} {} {}", socket.local_addr().expect("an address"), last.height, last.root);
    runtime.spawn(Listener::serve(tls, socket, vec![LOCALHOST.into()]));
    let observer = Arc::new(Observer::new("peer".into(), None));
    runtime.spawn(async move {
        while let Some(stream) = streams.recv().await {
            tokio::spawn(server::serve(stream, reader.clone(), Arc::clone(&observer)));
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Fetches the chain and prints how long it took.
pub(super) fn fetch(dir: &Path, snapshot: bool) {
    let program = std::env::current_exe().expect("this program");
    let mut peer = Command::new(program)
        .args(["serve", "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(peer.stdout.take().expect("piped")).read_line(&mut line).expect("it answers");
    let mut words = line.split_whitespace();
    let address: SocketAddr = words.next().expect("an address").parse().expect("an address");
    let height: u64 = words.next().expect("a height").parse().expect("a height");
    let root = words.next().expect("a root").to_owned();
    run(dir, address, height, &root, snapshot);
    drop(peer.stdin.take());
    let _ = peer.wait();
}

fn run(dir: &Path, peer: SocketAddr, height: u64, root: &str, snapshot: bool) {
    let folder = dir.join("asker");
    let _ = std::fs::remove_dir_all(&folder);
    let made = made_chain::genesis(super::ACCOUNTS);
    let chain = chain_of(&made);
    let (storage, tls) = (storage(&folder), endpoint(&chain, asker(), &folder));
    let mut addresses = vec![None; tls.members().peers().len()];
    addresses[0] = Some(peer);
    let runtime = roko_peers::link::runtime().expect("a runtime");
    let began = Instant::now();
    if snapshot {
        let dial = validators(Arc::clone(&tls), addresses.clone());
        runtime.block_on(begin(&chain, dial, &storage));
    }
    let profile = roko_tuning::builtin("devnet-2core").expect("built in");
    let profile = roko_tuning::Profile::parse(profile).expect("a profile");
    let placement = Placement::new(profile, roko_os::affinity::allowed_cores().expect("cores"));
    let (clock, _driver) = clock::start(&chain, 10_000).expect("a clock");
    let parts = FollowerParts {
        chain: Arc::clone(&chain),
        storage,
        data_dir: &folder,
        clock,
        placement: &placement,
        options: NodeOptions::default(),
        handshakes: Arc::clone(tls.counters()),
    };
    let node = follower::start(parts).expect("a full node");
    let (handle, ends) = (node.handle, node.catchup);
    let (reader, observer) = (handle.reader().clone(), Arc::clone(&handle.observer));
    let settings = Settings::FOLLOWER;
    let parts = CatchupParts { tls, addresses, chain, reader, ends, observer, settings };
    let fetching = link::start(parts, runtime.handle());
    let stop = Arc::new(AtomicBool::new(false));
    let (control, stopping) = (node.control, Arc::clone(&stop));
    let control = std::thread::Builder::new().name("control".into()).spawn(move || control.run(&stopping));
    let mut said = Instant::now();
    while handle.observer.durable_height().0 < height {
        std::thread::sleep(Duration::from_millis(5));
        if said.elapsed() >= Duration::from_secs(5) {
            said = Instant::now();
            eprintln!(
                "block {} after {:.0} s",
                handle.observer.durable_height(),
                began.elapsed().as_secs_f64()
            );
        }
    }
    let took = began.elapsed();
    print_threads();
    let last = handle.snapshot().last;
    assert_eq!(last.root.to_string(), root, "the same state");
    let made_in = Duration::from_nanos((u128::from(height) * made_chain::BLOCK_NS) as u64);
    println!(
        "{height} blocks checked, executed and on disk in {:.1} s, {:.0} a second: {:.0} times as fast as at a block each 10 ms",
        took.as_secs_f64(),
        height as f64 / took.as_secs_f64(),
        made_in.as_secs_f64() / took.as_secs_f64()
    );
    stop.store(true, Ordering::Relaxed);
    drop(fetching);
    let _ = control.expect("a thread").join();
}

/// Begins the asker's store from the peer's snapshot, and says how long that took.
async fn begin(chain: &Arc<Chain>, dial: Arc<dyn Dial>, storage: &FileStorage) {
    let began = Instant::now();
    let parts = FetchParts {
        chain: Arc::clone(chain),
        dial,
        storage: storage.clone(),
        options: StoreOptions::default(),
        none_patience: Duration::from_secs(5),
        silence_patience: Duration::from_secs(30),
        before_install: Box::new(|| Ok(())),
    };
    let progress = Arc::new(Progress::default());
    let ending = fetch_snapshot(parts, Arc::clone(&progress)).await.expect("a snapshot");
    assert!(matches!(ending, Ending::Installed(_)), "{ending:?}");
    println!(
        "state after block {}: {} accounts, {} KiB in {:.2} s",
        progress.height.load(Ordering::Relaxed),
        progress.accounts.load(Ordering::Relaxed),
        progress.bytes.load(Ordering::Relaxed) >> 10,
        began.elapsed().as_secs_f64()
    );
}

/// Seconds of a core that each thread has taken: where the time goes when the machine is shared.
fn print_threads() {
    let mut threads: std::collections::BTreeMap<String, f64> = std::collections::BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else {
            continue;
        };
        // Fields 14 and 15 of proc(5), in ticks of 10 ms; the name is the second.
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        *threads.entry(name.to_owned()).or_default() += ticks as f64 / 100.0;
    }
    let shown: Vec<String> = threads.iter().map(|(name, seconds)| format!("{name} {seconds:.1}")).collect();
    println!("seconds of a core: {}", shown.join(", "));
}
