//! Sessions of two nodes over loopback, with data planes that remember what they are told.

use super::*;
use crate::hello::ChainFacts;
use crate::membership::tests::{client, membership};
use crate::session::BootStamp;
use crate::tls::{TlsConfig, WallClock};
use crate::{HandshakeLimits, NodeIdentity, Refusal};
use roko_wire::genesis::Preset;
use roko_wire::{ChainId, Hash32};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a data plane was told.
#[derive(Default)]
struct Told {
    /// Keys that open frames, by name.
    installed: HashMap<KeyName, [u8; 32]>,
    retired: Vec<KeyName>,
    /// Keys that seal frames, in order, each with where frames go.
    links: Vec<(usize, KeyName, [u8; 32], Endpoint)>,
    moves: Vec<(usize, Endpoint)>,
    banned: Vec<(usize, bool)>,
    worn: VecDeque<(usize, KeyName)>,
    /// Calls that find the ring full before one succeeds.
    full: u32,
}

#[derive(Clone, Default)]
struct Remembers(Arc<Mutex<Told>>);

impl Remembers {
    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.0)
    }
}

impl KeySink for Remembers {
    fn install(&mut self, key: &PeerKey) -> Result<(), RingFull> {
        let mut told = self.told();
        if told.full > 0 {
            told.full -= 1;
            return Err(RingFull);
        }
        told.installed.insert(key.name, key.keys.key);
        Ok(())
    }
    fn retire(&mut self, _: usize, name: KeyName) -> Result<(), RingFull> {
        let mut told = self.told();
        told.installed.remove(&name);
        told.retired.push(name);
        Ok(())
    }
    fn link(&mut self, key: &PeerKey, endpoint: Endpoint) -> Result<(), RingFull> {
        self.told().links.push((key.slot, key.name, key.keys.key, endpoint));
        Ok(())
    }
    fn readdress(&mut self, slot: usize, endpoint: Endpoint) -> Result<(), RingFull> {
        self.told().moves.push((slot, endpoint));
        Ok(())
    }
    fn banned(&mut self, slot: usize, banned: bool) -> Result<(), RingFull> {
        self.told().banned.push((slot, banned));
        Ok(())
    }
    fn worn(&mut self) -> Option<(usize, KeyName)> {
        self.told().worn.pop_front()
    }
}

fn endpoint(seed: u8) -> Endpoint {
    Endpoint { ip: [10, 0, 0, seed].into(), port: 7_700 }
}

fn node(
    seed: u8,
    boot: u64,
    socket: Option<TcpListener>,
    addresses: Vec<Option<SocketAddr>>,
    times: PhaseTimes,
    runtime: &Handle,
) -> (Sessions, Remembers) {
    let tls = TlsEndpoint::new(TlsConfig {
        identity: Arc::new(NodeIdentity::from_seed(&[seed; 32])),
        members: Arc::new(membership(2, &[client(0x8001, 50)]).unwrap()),
        chain: ChainFacts { genesis_hash: Hash32([9; 32]), chain_id: ChainId(77), preset: Preset::Balanced },
        boot: BootStamp::new(boot).unwrap(),
        endpoint: endpoint(seed),
        limits: HandshakeLimits::default(),
        clock: WallClock::host(),
        log: Arc::new(|_| {}),
    })
    .unwrap();
    let sink = Remembers::default();
    let config =
        SessionsConfig { tls: Arc::new(tls), sink: Box::new(sink.clone()), addresses, times, socket };
    (Sessions::start(config, runtime).unwrap(), sink)
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn reached(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Validators 0 and 1; 0 dials 1.
fn pair(times: PhaseTimes, runtime: &Runtime) -> [(Sessions, Remembers); 2] {
    let (socket, address) = socket();
    let second = node(2, 1_000, Some(socket), vec![None; 3], times, runtime.handle());
    let first = node(1, 1_000, None, vec![None, Some(address), None], times, runtime.handle());
    for (sessions, _) in [&first, &second] {
        assert!(sessions.wait_for(1, PATIENCE));
    }
    [first, second]
}

/// The key that one end seals with for `slot` is one that the other end has.
fn sealed_is_opened(from: &Remembers, slot: usize, to: &Remembers) {
    let last = from.told().links.iter().rfind(|link| link.0 == slot).copied().unwrap();
    let opened = to.told();
    assert_eq!(opened.installed.get(&last.1), Some(&last.2), "{:?}", last.1);
}

#[test]
fn both_ends_have_the_same_keys_and_each_direction_its_own() {
    let runtime = runtime().unwrap();
    let [(_first, one), (_second, two)] = pair(PhaseTimes::default(), &runtime);
    sealed_is_opened(&one, 1, &two);
    sealed_is_opened(&two, 0, &one);
    let (ours, theirs) = (one.told().links[0], two.told().links[0]);
    assert_ne!(ours.2, theirs.2);
    assert_eq!((ours.0, ours.3, theirs.0, theirs.3), (1, endpoint(2), 0, endpoint(1)));
    assert_eq!((ours.1.session.sender_index(), theirs.1.session.sender_index()), (0, 1));
}

#[test]
fn a_full_ring_delays_a_session_and_loses_nothing() {
    let runtime = runtime().unwrap();
    let (socket, address) = socket();
    let (second, two) = node(2, 1_000, Some(socket), vec![None; 3], PhaseTimes::default(), runtime.handle());
    two.told().full = 30;
    let to = vec![None, Some(address), None];
    let (_first, one) = node(1, 1_000, None, to, PhaseTimes::default(), runtime.handle());
    assert!(second.wait_for(1, PATIENCE));
    assert!(reached(|| !one.told().links.is_empty()));
    sealed_is_opened(&one, 1, &two);
    assert_eq!(second.counters().ring_full.load(Ordering::Relaxed), 30);
}

#[test]
fn phases_follow_each_other_by_age_and_old_keys_go_after_the_grace_time() {
    let runtime = runtime().unwrap();
    let times = PhaseTimes { rekey_ms: 250, grace_ms: 150, session_ms: 60_000 };
    let [(first, one), (_second, two)] = pair(times, &runtime);
    assert!(reached(|| one.told().links.len() >= 4 && two.told().links.len() >= 4));
    let phases: Vec<u8> = one.told().links.iter().map(|link| link.1.phase).collect();
    assert_eq!(phases[..4], [0, 1, 2, 3]);
    assert!(first.counters().rekeyed.load(Ordering::Relaxed) >= 3);
    let old = one.told().links[0].1;
    assert!(reached(|| two.told().retired.contains(&old)));
    assert!(two.told().installed.len() <= 3, "keys do not pile up");
    let keys: std::collections::HashSet<[u8; 32]> = one.told().links.iter().map(|link| link.2).collect();
    assert_eq!(keys.len(), one.told().links.len(), "no phase has another's key");
}

#[test]
fn a_worn_key_is_replaced_at_once() {
    let runtime = runtime().unwrap();
    let [(_first, one), (_second, two)] = pair(PhaseTimes::default(), &runtime);
    let worn = one.told().links[0].1;
    one.told().worn.extend([(1, worn), (1, worn), (7, worn)]);
    assert!(reached(|| one.told().links.len() == 2));
    sealed_is_opened(&one, 1, &two);
    // What was worn is no longer the key: the report of it asks for nothing more.
    one.told().worn.push_back((1, worn));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((one.told().links.len(), two.told().links.len()), (2, 1), "the other direction has its own");
    assert!(two.told().installed.contains_key(&worn), "the old key opens what is under way");
}

#[test]
fn a_session_is_renewed_by_a_new_handshake_without_a_gap() {
    let runtime = runtime().unwrap();
    let times = PhaseTimes { rekey_ms: 60_000, grace_ms: 200, session_ms: 2_300 };
    let [(_first, one), (_second, two)] = pair(times, &runtime);
    let before = one.told().links[0].1.session;
    assert!(reached(|| one.told().links.len() >= 2 && two.told().links.len() >= 2));
    let after = one.told().links[1].1;
    assert!(after.session.0 > before.0 && after.phase == 0);
    sealed_is_opened(&one, 1, &two);
    sealed_is_opened(&two, 0, &one);
    assert!(reached(|| two.told().retired.iter().any(|name| name.session == before)), "after the grace time");
}

#[test]
fn of_two_connections_with_a_peer_the_newer_counts() {
    use tokio::io::AsyncReadExt;
    let runtime = runtime().unwrap();
    let (socket, address) = socket();
    let (second, two) = node(2, 1_000, Some(socket), vec![None; 3], PhaseTimes::default(), runtime.handle());
    // Somebody with the node key of validator 0 who dials twice, as after a crash that the other end has not noticed.
    let (first, _) = node(1, 1_000, None, vec![None; 3], PhaseTimes::default(), runtime.handle());
    let dial = || runtime.block_on(first.tls().connect(address, 1, Alpn::FRAMES)).unwrap();
    let mut older = dial();
    let name = |stream: &PeerStream| KeyName { session: stream.own_session(), core: CORE, phase: 0 };
    assert!(reached(|| two.told().installed.contains_key(&name(&older))));
    let newer = dial();
    assert!(reached(|| two.told().installed.contains_key(&name(&newer))));
    let ended = runtime.block_on(async {
        let mut discard = Vec::new();
        tokio::time::timeout(PATIENCE, older.read_to_end(&mut discard)).await
    });
    assert!(ended.is_ok(), "the older one is closed");
    assert_eq!(second.counters().completed.load(Ordering::Relaxed), 2);
}

#[test]
fn a_peer_that_moves_is_followed_and_keeps_its_keys() {
    let runtime = runtime().unwrap();
    let [(first, one), (_second, two)] = pair(PhaseTimes::default(), &runtime);
    let there = Endpoint { ip: [192, 0, 2, 9].into(), port: 9_999 };
    first.announce(there);
    assert!(reached(|| two.told().moves.last() == Some(&(0, there))));
    assert_eq!((one.told().links.len(), two.told().links.len()), (1, 1), "no key changed");
}

#[test]
fn sessions_come_when_the_peer_comes_and_again_when_it_comes_back() {
    let runtime = runtime().unwrap();
    let (held, address) = socket();
    drop(held);
    let to = vec![None, Some(address), None];
    let times = PhaseTimes { grace_ms: 100, ..PhaseTimes::default() };
    let (first, one) = node(1, 1_000, None, to.clone(), times, runtime.handle());
    let (_client, lone) = node(50, 1_000, None, to, times, runtime.handle());
    assert!(reached(|| first.counters().unreachable.load(Ordering::Relaxed) >= 2), "nobody is there yet");
    assert!(first.banning().lost().is_empty(), "who was never there is not lost");
    let mut before = None;
    for boot in [5_000, 9_000] {
        let socket = TcpListener::bind(address).unwrap();
        let (second, two) = node(2, boot, Some(socket), vec![None; 3], times, runtime.handle());
        assert!(second.wait_for(2, PATIENCE), "the validator and the client dial it");
        assert!(reached(|| one.told().links.last().map(|link| link.1) != before));
        sealed_is_opened(&one, 1, &two);
        sealed_is_opened(&two, 2, &lone);
        assert!(first.banning().lost().is_empty());
        before = one.told().links.last().map(|link| link.1);
        drop(second);
        assert!(reached(|| first.counters().sessions.load(Ordering::Relaxed) == 0), "its end is noticed");
        assert_eq!(first.banning().lost(), [1]);
    }
}

#[test]
fn a_banned_peer_is_cut_off_told_why_and_comes_back_when_it_may() {
    let runtime = runtime().unwrap();
    for (bans, banned) in [(0, 1), (1, 0)] {
        let ends = pair(PhaseTimes::default(), &runtime);
        let ((here, told), (there, _)) = (&ends[bans], &ends[banned]);
        let banning = here.banning();
        assert_eq!(told.told().installed.len(), 1);
        banning.ban(banned);
        assert!(reached(|| told.told().installed.is_empty()), "no frame of it is opened any more");
        assert!(reached(|| told.told().banned == [(banned, true)]));
        assert!(reached(|| there.counters().refusals_by_peers(Refusal::Banned) > 0), "it is told why");
        assert!(reached(|| here.counters().sessions.load(Ordering::Relaxed) == 0));
        let completed = here.counters().completed.load(Ordering::Relaxed);
        if bans == 1 {
            assert!(reached(|| here.counters().refused(Refusal::Banned) > 1), "it dials again and again");
        } else {
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(here.counters().completed.load(Ordering::Relaxed), completed, "and does not get in");
        assert!(told.told().installed.is_empty() && told.told().links.len() == 1, "frames to it go on");
        banning.readmit(banned);
        assert!(here.wait_for(1, PATIENCE));
        assert!(reached(|| told.told().banned == [(banned, true), (banned, false)]));
        assert!(reached(|| told.told().links.len() == 2));
        sealed_is_opened(&ends[banned].1, bans, told);
    }
}

#[test]
fn a_stream_of_another_protocol_ends_with_the_ban() {
    use tokio::io::AsyncReadExt;
    let runtime = runtime().unwrap();
    let (socket, address) = socket();
    let (second, _) = node(2, 1_000, Some(socket), vec![None; 3], PhaseTimes::default(), runtime.handle());
    let mut taken = second.tls().routes().register(Alpn::SYNC, 2);
    let (first, _) = node(1, 1_000, None, vec![None; 3], PhaseTimes::default(), runtime.handle());
    let _near = runtime.block_on(first.tls().connect(address, 1, Alpn::SYNC)).unwrap();
    let mut far = runtime.block_on(taken.recv()).unwrap();
    let reading = runtime.spawn(async move { far.read_u8().await.map_err(|error| error.kind()) });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!reading.is_finished(), "nothing was said");
    second.banning().ban(0);
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, reading).await });
    assert_eq!(ended.unwrap().unwrap(), Err(io::ErrorKind::ConnectionAborted));
    let again = runtime.block_on(first.tls().connect(address, 1, Alpn::SYNC));
    assert_eq!(again.unwrap_err().refusal(), Some(Refusal::Banned));
    let own = runtime.block_on(second.tls().connect(address, 0, Alpn::SYNC));
    assert_eq!(own.unwrap_err().refusal(), Some(Refusal::Banned), "nor is it dialled");
}
