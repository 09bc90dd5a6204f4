//! One validator's disk is full: it says so and does not vote, the others go on without it, and once there is room it
//! has everything that became final meanwhile.

mod common;

use common::net::{Net, Said, Tap, VALIDATORS, Words, reached};
use roko_services::NodeApi;
use roko_services::api::BlockSelector;
use roko_state::fault::FaultStorage;
use roko_wire::Height;
use std::time::{Duration, Instant};

/// The validator whose disk is full.
const FULL: usize = 3;
/// Transfers a second.
const RATE: u64 = 200;
/// Blocks that the others make without it.
const BLOCKS_WITHOUT: u64 = 60;
/// A vote that was being written when the disk turned out to be full may still go out.
const UNDER_WAY: Duration = Duration::from_millis(500);

fn votes(said: &[Said], from: Instant, to: Instant) -> usize {
    said.iter()
        .filter(|said| said.by == FULL && said.at > from && said.at < to)
        .filter(|said| matches!(said.what, Words::Vote(..)))
        .count()
}

#[test]
fn a_full_disk_stops_one_validators_votes_and_loses_nothing_final() {
    let storages: Vec<FaultStorage> = (0..VALIDATORS).map(|_| FaultStorage::new()).collect();
    let tap = Tap::of_next_validator();
    let net = Net::new(std::sync::Arc::clone(&tap));
    let mut running = net.start(&storages).expect("it starts");
    let counts = running.load(RATE);
    assert!(reached(|| running.durable(FULL) > 5), "no blocks");

    let observer = std::sync::Arc::clone(&running.nodes()[FULL].observer);
    assert_eq!(observer.problem(), None);
    storages[FULL].set_space_bytes(Some(storages[FULL].used_bytes()));
    assert!(reached(|| observer.problem().is_some()), "a full disk is not noticed");
    let full_at = Instant::now();
    let said = observer.problem().expect("just seen");
    assert!(said.contains("not voting") && said.contains("disk is full"), "{said}");
    let stood_at = running.durable(FULL);
    assert!(reached(|| running.durable(0) > stood_at + BLOCKS_WITHOUT), "three of four do not go on");
    assert_eq!(running.durable(FULL), stood_at, "nothing is called durable that is not on disk");
    assert!(observer.counters.disk_full.get() > 0);
    while full_at.elapsed() < 2 * UNDER_WAY {
        std::thread::sleep(Duration::from_millis(10));
    }

    let room_at = Instant::now();
    let others = running.durable(0);
    storages[FULL].set_space_bytes(None);
    assert!(reached(|| observer.problem().is_none()), "room is not noticed");
    assert!(reached(|| running.durable(FULL) > others + 10), "it does not catch up");
    let resumed_at = Instant::now();
    std::thread::sleep(UNDER_WAY);
    running.stop_load();

    let submitted = counts.submitted.load(std::sync::atomic::Ordering::Relaxed);
    let finals = |index: usize| running.nodes()[index].observer.progress(|p| p.transactions_final);
    let all_final = reached(|| (0..VALIDATORS).all(|index| finals(index) >= submitted));
    assert!(all_final, "{:?} of {submitted} are final", [finals(0), finals(1), finals(2), finals(3)]);
    let last = (0..VALIDATORS).map(|index| running.durable(index)).min().unwrap_or(0);
    assert!(last > others);
    for height in 1..=last {
        let id = |index: usize| {
            let block = running.nodes()[index].block(BlockSelector::Height(Height(height)));
            block.unwrap_or_else(|| panic!("validator {index} lacks height {height}")).id
        };
        assert!((1..VALIDATORS).all(|index| id(index) == id(0)), "a fork at height {height}");
    }
    assert_eq!(running.devnet.forks(), 0);
    running.stop();

    let said = net.said(&tap.take());
    let (while_full, after) =
        (votes(&said, full_at + UNDER_WAY, room_at), votes(&said, resumed_at, Instant::now()));
    assert_eq!(while_full, 0, "it voted though it could not keep what became final");
    assert!(after > 0, "it does not vote again");
    assert!(votes(&said, full_at - Duration::from_secs(60), full_at) > 0, "the tap sees its votes");
    assert_eq!(common::net::contradictions(&said), Vec::<String>::new());
}

#[test]
fn a_network_whose_disks_are_all_full_stops_when_asked_and_goes_on_once_there_is_room() {
    let mut storages: Vec<FaultStorage> = (0..VALIDATORS).map(|_| FaultStorage::new()).collect();
    let tap = Tap::of_next_validator();
    let net = Net::new(std::sync::Arc::clone(&tap));
    let mut running = net.start(&storages).expect("it starts");
    running.load(RATE);
    assert!(reached(|| running.durable(FULL) > 5), "no blocks");
    storages.iter().for_each(|storage| storage.set_space_bytes(Some(storage.used_bytes())));
    let nodes = running.nodes().to_vec();
    assert!(reached(|| nodes.iter().filter(|node| node.observer.problem().is_some()).count() > 1));
    let (stopped, ended) = std::sync::mpsc::channel();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(common::PATIENCE).is_err() {
            eprintln!("a node with a full disk does not end");
            std::process::exit(101);
        }
    });
    running.stop();
    stopped.send(()).expect("the watchdog waits");
    watchdog.join().expect("it was told in time");
    let acknowledged: Vec<_> = nodes.iter().map(|node| node.block(BlockSelector::Final)).collect();

    storages.iter_mut().for_each(|storage| *storage = storage.restart());
    let running = net.start(&storages).expect("it starts again");
    let mut last = 0;
    for (node, block) in running.nodes().iter().zip(acknowledged) {
        let block = block.expect("there were blocks");
        let now = node.block(BlockSelector::Height(block.height)).map(|block| block.id);
        assert_eq!(now, Some(block.id), "a final block is gone");
        last = last.max(block.height.0);
    }
    assert!(reached(|| (0..VALIDATORS).all(|index| running.durable(index) > last + 5)), "it stands still");
    running.stop();
    assert_eq!(common::net::contradictions(&net.said(&tap.take())), Vec::<String>::new());
}
