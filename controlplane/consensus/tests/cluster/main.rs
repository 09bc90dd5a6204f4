//! Whole clusters in simulated time: real machines and collectors, a network that delays, reorders and loses,
//! disks that make votes durable late, crashes, and Byzantine roles. Everything follows from a seed.

mod network;
mod node;
mod rng;
mod roles;
mod setup;

use network::Cluster;
use roles::Role;
use setup::Setup;

/// Runs one seed; panics with the seed in the message when a rule of safety breaks.
fn run(setup: &Setup, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(setup.clone(), seed);
    cluster.run_ms(setup.chaos_ms);
    cluster
}

/// How many seeds a test tries; the environment variable asks for a longer search.
fn seeds(short: u64) -> std::ops::Range<u64> {
    let factor = std::env::var("ROKO_CONSENSUS_SEEDS_FACTOR").ok().and_then(|text| text.parse().ok());
    0..short * factor.unwrap_or(1)
}

fn safety(setup: &Setup, short: u64) {
    let mut finalized = 0;
    for seed in seeds(short) {
        let cluster = run(setup, seed);
        assert!(cluster.violation.is_none(), "seed {seed} of {setup:?}: {:?}", cluster.violation);
        finalized += cluster.final_blocks();
    }
    assert!(finalized > 0, "no seed of {setup:?} made a block final, so the test shows nothing");
}

#[test]
fn four_with_loss_and_crashes_never_fork() {
    safety(&Setup::new(&[32_000; 4]).lossy(), 200);
}

#[test]
fn four_with_an_equivocator_never_fork() {
    safety(&Setup::new(&[32_000; 4]).lossy().role(3, Role::Equivocator), 200);
}

#[test]
fn four_with_a_withholder_never_fork() {
    safety(&Setup::new(&[32_000; 4]).lossy().role(1, Role::Withholder), 100);
}

#[test]
fn six_on_the_fast_preset_with_an_equivocator_never_fork() {
    safety(&Setup::new(&[32_000; 6]).fast().lossy().role(0, Role::Equivocator), 100);
}

#[test]
fn five_weighted_with_the_heaviest_tolerated_equivocator_never_fork() {
    safety(&Setup::new(&[70_000, 60_000, 60_000, 50_000, 45_000]).lossy().role(0, Role::Equivocator), 100);
}

/// After the network heals every honest node must go on making blocks final, whatever came before.
fn liveness(setup: &Setup, short: u64) {
    for seed in seeds(short) {
        let mut cluster = run(setup, seed);
        cluster.heal();
        let before = cluster.honest_heights();
        cluster.run_ms(3_000);
        assert!(cluster.violation.is_none(), "seed {seed} of {setup:?}: {:?}", cluster.violation);
        let after = cluster.honest_heights();
        for (was, is) in before.iter().zip(&after) {
            assert!(
                *is >= was + 3,
                "seed {seed} of {setup:?}: heights {before:?} then {after:?}\n{}",
                cluster.report()
            );
        }
    }
}

#[test]
fn four_go_on_after_the_network_heals() {
    liveness(&Setup::new(&[32_000; 4]).lossy(), 8);
}

#[test]
fn four_go_on_beside_an_equivocator() {
    liveness(&Setup::new(&[32_000; 4]).lossy().role(2, Role::Equivocator), 8);
}

#[test]
fn four_go_on_beside_a_withholder() {
    liveness(&Setup::new(&[32_000; 4]).lossy().role(0, Role::Withholder), 8);
}

#[test]
fn six_fast_go_on_beside_an_equivocator() {
    liveness(&Setup::new(&[32_000; 6]).fast().lossy().role(5, Role::Equivocator), 6);
}

#[test]
fn five_weighted_go_on_after_the_network_heals() {
    liveness(&Setup::new(&[70_000, 60_000, 60_000, 50_000, 45_000]).lossy(), 6);
}

#[test]
fn the_same_seed_gives_the_same_trace_twice() {
    let setup = Setup::new(&[32_000; 4]).lossy().role(3, Role::Equivocator).traced();
    let hashes: Vec<[u8; 32]> = (0..6).map(|seed| run(&setup, seed).trace_hash()).collect();
    let again: Vec<[u8; 32]> = (0..6).map(|seed| run(&setup, seed).trace_hash()).collect();
    assert_eq!(hashes, again);
    assert_ne!(hashes[0], hashes[1], "different seeds must give different traces");
}

#[test]
fn a_good_network_needs_one_job_a_view_and_sends_no_final() {
    let mut cluster = Cluster::new(Setup::new(&[32_000; 4]).busy(), 1);
    cluster.run_ms(2_000);
    let heights = cluster.honest_heights();
    assert!(heights.iter().all(|height| *height >= 100), "{heights:?}");
    for (jobs, views) in cluster.jobs_and_views() {
        // A late vote of the view that just became final may cost a job now and then.
        assert!(jobs * 10 <= views * 12, "{jobs} jobs in {views} views");
    }
    assert_eq!(cluster.finals_sent(), 0);
}

#[test]
fn an_idle_chain_neither_spins_nor_skips() {
    let mut cluster = Cluster::new(Setup::new(&[32_000; 4]), 1);
    cluster.run_ms(20_000);
    let heights = cluster.honest_heights();
    assert!(heights.iter().all(|height| (18..=21).contains(height)), "{heights:?}");
    assert_eq!(cluster.skips_sent(), 0);
}

#[test]
fn a_silent_leader_costs_its_views_and_no_timeouts() {
    let mut cluster = Cluster::new(Setup::new(&[32_000; 4]).busy().role(3, Role::Silent), 1);
    cluster.run_ms(10_000);
    let heights = cluster.honest_heights();
    // Three views of at least 10 ms in four make blocks. If the fourth took three Delta, 60 ms, there would be 330.
    assert!(heights.iter().all(|height| *height >= 450), "{heights:?}");
}

/// The checks above must be able to fail: with these faults put in, some seed breaks safety.
fn must_break(setup: &Setup, what: &str) {
    let broken = (0..4_000).find(|seed| run(setup, *seed).violation.is_some());
    assert!(broken.is_some(), "no seed noticed: {what}");
}

#[test]
fn one_byzantine_too_many_is_noticed() {
    let setup = Setup::new(&[32_000; 4]).lossy().role(2, Role::Equivocator).role(3, Role::Equivocator);
    must_break(&setup, "f + 1 Byzantine");
}

#[test]
fn a_slow_quorum_too_small_is_noticed() {
    let mut setup = Setup::new(&[1; 4]).lossy().role(3, Role::Equivocator);
    setup.quorums.slow -= 1;
    must_break(&setup, "S less one");
}
