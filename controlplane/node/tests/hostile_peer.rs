//! One of four validators is hostile: it has its own keys, real sessions with everybody, and sends what no honest program
//! sends, over the data plane and over TLS. Every kind ends in a counter that names it; who only a liar can be is banned and
//! comes back; the others go on, agree, and do not grow.

mod common;

use common::PATIENCE;
use common::net::{Net, Running, Tap, VALIDATORS, reached};
use roko_node::api::NodeHandle;
use roko_node::conduct::PeerConduct;
use roko_node::devnet::Drill;
use roko_node::devnet::attack::{Attack, Hostile};
use roko_node::devnet::report::rss_mb;
use roko_peers::ScoreConfig;
use roko_services::NodeApi;
use roko_state::fault::FaultStorage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The validator that is hostile: the last one.
const LIAR: u16 = VALIDATORS as u16 - 1;
/// Honest transfers a second.
const RATE: u64 = 50;
/// Long enough to be seen, short enough that every kind gets its turn.
const BAN_MS: u64 = 800;
/// How much the process may grow beside the chain, MiB: allocator slack, and what each side of the attack keeps.
const GROWTH_MB_MAX: u64 = 96;
/// How much later than at once a machine that is busy may do something.
const LATE: Duration = Duration::from_millis(300);

type Node = NodeHandle<FaultStorage>;

fn net(scores: ScoreConfig) -> Net {
    let mut net = Net::new(Tap::new(|_, _| false));
    net.drill = Some(Drill::Hostile);
    net.scores = scores;
    net
}

fn short_bans() -> ScoreConfig {
    ScoreConfig { ban_ms: BAN_MS, ban_ms_max: BAN_MS, ..ScoreConfig::default() }
}

fn drops(node: &Node) -> BTreeMap<String, u64> {
    node.metrics().drops.iter().map(|drop| (format!("{}.{}", drop.stage, drop.reason), drop.count)).collect()
}

fn drop_of(node: &Node, name: &str) -> u64 {
    drops(node).get(name).copied().unwrap_or(0)
}

fn conduct(node: &Node) -> PeerConduct {
    node.observer.conduct.read().into_iter().find(|one| one.index == LIAR).unwrap_or_default()
}

fn liar(running: &Running<FaultStorage>) -> &Hostile {
    running.devnet.hostile.as_ref().expect("the last validator is hostile")
}

/// Nobody but the liar was held to anything.
fn only_the_liar_is_blamed(nodes: &[Arc<Node>]) {
    for node in nodes {
        for one in node.observer.conduct.read().iter().filter(|one| one.index != LIAR) {
            assert!(one.bans == 0 && one.score_permille < 100, "{}: {one:?}", node.observer.name);
        }
    }
}

/// The chain goes on by some blocks on every honest validator.
fn goes_on(running: &Running<FaultStorage>, why: &str) {
    for index in 0..running.nodes().len() {
        let height = running.durable(index);
        assert!(reached(|| running.durable(index) > height + 3), "validator {index} stands still: {why}");
    }
}

/// One kind against everybody, until it has been counted, punished when it is to be, and forgiven.
fn suffer(running: &Running<FaultStorage>, attack: Attack) {
    let nodes = running.nodes();
    let before: Vec<BTreeMap<String, u64>> = nodes.iter().map(|node| drops(node)).collect();
    let bans: Vec<u64> = nodes.iter().map(|node| conduct(node).bans).collect();
    let opened = liar(running).sessions_opened();
    liar(running).set(Some(attack));
    for (node, before) in nodes.iter().zip(&before) {
        for name in attack.counted_as() {
            let grown = || drop_of(node, name) > before.get(*name).copied().unwrap_or(0);
            assert!(
                reached(grown),
                "{attack:?} is not counted as {name} by {}: {:?}",
                node.observer.name,
                drops(node)
            );
        }
    }
    if attack.is_banned() {
        for (node, bans) in nodes.iter().zip(&bans) {
            let banned = reached(|| conduct(node).bans > *bans);
            assert!(banned, "{attack:?} is not banned by {}: {:?}", node.observer.name, conduct(node));
        }
    } else {
        std::thread::sleep(LATE);
        for (node, bans) in nodes.iter().zip(&bans) {
            assert_eq!(conduct(node).bans, *bans, "{attack:?} is nobody's fault: {:?}", conduct(node));
        }
    }
    goes_on(running, &format!("{attack:?}"));
    liar(running).set(None);
    if attack.is_banned() {
        let back = |node: &Arc<Node>| conduct(node).banned_for_ms.is_none();
        assert!(reached(|| nodes.iter().all(back)), "bans end");
        let again = opened + nodes.len() as u64;
        assert!(reached(|| liar(running).sessions_opened() >= again), "{attack:?}: it is let in again");
    }
}

#[test]
fn every_kind_of_lie_is_counted_and_punished_and_the_others_go_on() {
    let storages: Vec<FaultStorage> = (0..VALIDATORS).map(|_| FaultStorage::new()).collect();
    let net = net(short_bans());
    let mut running = net.start(&storages).expect("it starts");
    running.load(RATE);
    assert!(
        reached(|| liar(&running).sessions_opened() as usize >= VALIDATORS - 1),
        "everybody opens a session with it"
    );
    goes_on(&running, "before");
    let disks_mb = || (3 * storages.iter().map(FaultStorage::used_bytes).sum::<u64>()) >> 20;
    let (rss_before, disks_before) = (rss_mb(), disks_mb());
    for attack in Attack::ALL {
        let began = Instant::now();
        suffer(&running, *attack);
        eprintln!("{attack:?}: {:.1} s, {} frames", began.elapsed().as_secs_f64(), liar(&running).frames());
        only_the_liar_is_blamed(running.nodes());
    }
    let chain_mb = disks_mb() - disks_before;
    let rss_after = rss_mb();
    eprintln!("from {rss_before} to {rss_after} MiB, of which the chain about {chain_mb} MiB");
    assert!(
        rss_after <= rss_before + chain_mb + GROWTH_MB_MAX,
        "from {rss_before} to {rss_after}, chain {chain_mb}"
    );
    running.stop_load();
    for node in running.nodes() {
        assert_eq!(node.observer.problem(), None, "{}", node.observer.name);
    }
    assert_eq!(running.devnet.forks(), 0);
    let audits: Vec<_> =
        running.nodes().iter().filter_map(|node| node.status_now(u64::MAX, true).audit).collect();
    assert!(audits.iter().all(|audit| audit.balances_conserved), "{audits:?}");
    running.stop();
}

#[test]
fn frames_of_a_banned_validator_are_refused_before_they_are_opened_and_it_is_seen_everywhere() {
    let storages: Vec<FaultStorage> = (0..VALIDATORS).map(|_| FaultStorage::new()).collect();
    let net = net(ScoreConfig::default());
    let running = net.start(&storages).expect("it starts");
    assert!(reached(|| liar(&running).sessions_opened() as usize >= VALIDATORS - 1));
    liar(&running).set(Some(Attack::BadVotes));
    let nodes = running.nodes();
    assert!(reached(|| nodes.iter().all(|node| conduct(node).banned_for_ms.is_some())), "everybody bans it");
    // What was on its way is through.
    std::thread::sleep(LATE);
    let node = &nodes[0];
    let (opened, votes) = (node.stage_counter("open", "opened"), drop_of(node, "control.bad_vote"));
    let at_the_door = || {
        ["decode.unknown_session", "decode.admission_limited", "filter.rate_limited"]
            .iter()
            .map(|name| drop_of(node, name))
            .sum::<u64>()
    };
    let (frames, refused) = (liar(&running).frames(), at_the_door());
    assert!(reached(|| at_the_door() > refused + 1_000), "{:?}", drops(node));
    assert!(liar(&running).frames() > frames);
    assert_eq!(drop_of(node, "control.bad_vote"), votes, "none of them is opened");
    assert!(reached(|| node.stage_counter("open", "opened") > opened), "the others' are");
    let one = conduct(node);
    assert!(one.offences["bad_vote"] >= 10 && one.bans == 1 && one.score_permille <= 2_000, "{one:?}");
    assert!(node.data_plane.handshakes.sessions.load(std::sync::atomic::Ordering::Relaxed) <= 3);
    let page = roko_services::metrics::render(&[node.metrics()]);
    for line in [
        "roko_peer_banned{node=\"validator-0\",peer=\"3\"} 1",
        "roko_peer_bans_total{node=\"validator-0\",peer=\"3\"} 1",
        "roko_peer_offences_total{node=\"validator-0\",peer=\"3\",reason=\"bad_vote\"}",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let status = serde_json::to_value(node.status_now(u64::MAX, false)).expect("a status");
    assert_eq!(status["conduct"][0]["index"], LIAR, "{status}");
    goes_on(&running, "the three that are left are a quorum");
    assert_eq!(running.devnet.forks(), 0);
    running.stop();
}

#[test]
fn without_bans_rates_alone_keep_the_network_going() {
    let storages: Vec<FaultStorage> = (0..VALIDATORS).map(|_| FaultStorage::new()).collect();
    let net = net(ScoreConfig { bans: false, ..ScoreConfig::default() });
    let mut running = net.start(&storages).expect("it starts");
    let counts = running.load(RATE);
    assert!(reached(|| liar(&running).sessions_opened() as usize >= VALIDATORS - 1));
    for attack in [Attack::Flood, Attack::BadVotes, Attack::BadCertificates, Attack::BadChunks] {
        liar(&running).set(Some(attack));
        std::thread::sleep(Duration::from_secs(1));
        goes_on(&running, &format!("{attack:?} without bans"));
    }
    for node in running.nodes() {
        let one = conduct(node);
        assert!(one.bans == 0 && one.withheld > 0 && one.banned_for_ms.is_none(), "{one:?}");
    }
    running.stop_load();
    let sent = counts.submitted.load(std::sync::atomic::Ordering::Relaxed);
    let finals = |node: &Node| node.observer.progress(|progress| progress.transactions_final);
    let all = reached(|| running.nodes().iter().all(|node| finals(node) >= sent));
    assert!(all, "{sent} transfers within {PATIENCE:?}");
    assert_eq!(running.devnet.forks(), 0);
    running.stop();
}
