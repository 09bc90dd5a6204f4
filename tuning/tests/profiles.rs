//! Built-in profiles are sound and documented; every check reports, and all of them at once.

use roko_tuning::{
    BUILTIN, HostCores, IdleStrategy, Profile, ProfileError, ProfileProblem, RING_DEFAULT, Stage, builtin,
};

const DEVNET: &str = "devnet-2core";
const ONE_CORE_PER_STAGE: &str = "one-core-per-stage";

fn profile(name: &str) -> Profile {
    Profile::parse(builtin(name).unwrap()).unwrap()
}

/// The text of the devnet profile with one piece replaced; the piece must be there once.
fn edited(from: &str, to: &str) -> String {
    let text = builtin(DEVNET).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

fn problems(text: &str) -> Vec<ProfileProblem> {
    let errors = Profile::parse(text).unwrap_err();
    let problem = |error| match error {
        ProfileError::Problem(problem) => problem,
        ProfileError::Syntax(text) => panic!("{text}"),
    };
    errors.into_iter().map(problem).collect()
}

#[test]
fn builtin_profiles_parse_under_their_own_names() {
    for (name, _) in BUILTIN {
        assert_eq!(profile(name).name, name);
    }
    assert_eq!(builtin("devnet-3core"), None);
}

#[test]
fn the_devnet_runs_everything_on_one_thread_of_any_two_cores() {
    let profile = profile(DEVNET);
    assert_eq!(profile.idle.strategy, IdleStrategy::Backoff);
    assert_eq!(profile.threads.len(), 1);
    assert_eq!(profile.stages_of("data").collect::<Vec<_>>(), Stage::ALL);
    assert_eq!(profile.validate(&HostCores::new([0, 1])), []);
    assert_eq!(profile.validate(&HostCores::new([6, 7])), []);
}

#[test]
fn one_core_per_stage_wants_thirteen_cores_and_says_what_is_missing() {
    let profile = profile(ONE_CORE_PER_STAGE);
    assert_eq!(profile.idle.strategy, IdleStrategy::Spin);
    for stage in Stage::ALL {
        assert_eq!(profile.stages_of(stage.name()).collect::<Vec<_>>(), [stage]);
    }
    assert_eq!(profile.validate(&HostCores::new(0..13)), []);

    let on_two_cores = profile.validate(&HostCores::new([0, 1]));
    let missing: Vec<u32> = on_two_cores
        .iter()
        .filter_map(|problem| match problem {
            ProfileProblem::NoSuchCore { core, .. } => Some(*core),
            _ => None,
        })
        .collect();
    let mut sorted = missing.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (2..13).collect::<Vec<_>>());
    assert!(on_two_cores.contains(&ProfileProblem::NoCoreLeft { spinning: 9, cores: 2 }));
    assert!(on_two_cores[0].to_string().contains("this process may use 0-1"), "{}", on_two_cores[0]);
}

#[test]
fn every_key_of_a_builtin_profile_is_explained() {
    for (name, text) in BUILTIN {
        let mut comment = String::new();
        let mut keys = 0;
        for line in text.lines() {
            if line.is_empty() || line.starts_with('[') {
                comment.clear();
            } else if line.starts_with("# ") {
                comment.push_str(line);
            } else {
                keys += 1;
                let short = comment.contains("as in [threads.");
                let whole = ["Unit:", "Default:", "Change it when"].iter().all(|part| comment.contains(part));
                assert!(short || whole, "{name}: {line}");
            }
        }
        assert!(keys >= 20, "{name} has {keys} keys");
    }
}

#[test]
fn a_profile_reads_back_from_what_it_writes() {
    for (name, _) in BUILTIN {
        let profile = profile(name);
        let text = toml::to_string(&profile).unwrap();
        assert_eq!(Profile::parse(&text).unwrap(), profile);
    }
}

#[test]
fn defaults_are_the_ones_the_comments_give() {
    let text = builtin(DEVNET).unwrap();
    let without: String = text
        .lines()
        .filter(|line| {
            !["burst_packets", "housekeeping_interval_us", "spin_iterations", "sleep_us_max", "count"]
                .iter()
                .any(|key| line.starts_with(key))
                && *line != "[lanes]"
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(Profile::parse(&without).unwrap(), profile(DEVNET));
}

#[test]
fn text_that_is_no_profile_is_one_error_with_its_line() {
    let cases = [
        ("name = \"x", "line 1"),
        (&*edited("[idle]", "burts_packets = 3\n[idle]"), "burts_packets"),
        (&*edited("[idle]\n", "[idle]\nstrateg = 1\n"), "strateg"),
        (&*edited("\"backoff\"", "\"sleepy\""), "sleepy"),
        (&*edited("burst_packets = 32", "burst_packets = -1"), "burst_packets"),
        (&*edited("[lanes]", "[lanes]\ncore = 1"), "core"),
        (&*edited("[bls]", "[verify]\nworkers = 1\n[bls]"), "lanes"),
        (&*edited("rx = \"data\"", "rx = [\"data\", 1]"), "line"),
        (&*edited("[bls]", "[bls]\ncpu = 1"), "cpu"),
    ];
    for (text, mentioned) in cases {
        let errors = Profile::parse(text).unwrap_err();
        assert_eq!(errors.len(), 1);
        let message = errors[0].to_string();
        assert!(matches!(errors[0], ProfileError::Syntax(_)), "{message}");
        assert!(message.contains(mentioned), "{mentioned} is not in: {message}");
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = edited("burst_packets = 32\n", "burst_packets = 33\n")
        .replace("name = \"devnet-2core\"", "name = \" \"")
        .replace("housekeeping_interval_us = 1000", "housekeeping_interval_us = 0")
        .replace("sleep_us_max = 100", "sleep_us_max = 0")
        .replace("count = 1", "count = 17")
        .replace("verify = \"data\"", "verify = [\"data\", \"checks\"]")
        .replace("order = \"data\"", "order = [\"data\", \"data\"]")
        .replace("rx = \"data\"", "rxx = \"data\"")
        .replace("open = \"data\"", "open = \"crypto\"")
        .replace("[threads.data]", "[threads.spare]\n[threads.data]")
        .replace("default = 1024", "rx = 1000\ntx = 16\nbig = 4194304");
    let problems = problems(&text);
    let expected = [
        ProfileProblem::EmptyName,
        ProfileProblem::BadBurst { burst_packets: 33 },
        ProfileProblem::BadHousekeeping { interval_us: 0 },
        ProfileProblem::NoSleep { strategy: "backoff" },
        ProfileProblem::BadLanes { lanes: 17 },
        ProfileProblem::ThreadsForLanes { stage: Stage::Verify, threads: 2, lanes: 17 },
        ProfileProblem::UnknownThread { stage: Stage::Verify, thread: "checks".to_owned() },
        ProfileProblem::SeveralThreads { stage: Stage::Order, threads: 2 },
        ProfileProblem::UnknownStage("rxx".parse::<Stage>().unwrap_err()),
        ProfileProblem::MissingStage { stage: Stage::Rx },
        ProfileProblem::UnknownThread { stage: Stage::Open, thread: "crypto".to_owned() },
        ProfileProblem::UnusedThread { thread: "spare".to_owned() },
        ProfileProblem::MissingRingDefault,
        ProfileProblem::BadRingDepth { ring: "rx".to_owned(), depth: 1000, nearest: 1024 },
        ProfileProblem::RingBelowBurst { ring: "tx".to_owned(), depth: 16, burst_packets: 33 },
        ProfileProblem::BadRingDepth { ring: "big".to_owned(), depth: 1 << 22, nearest: 1 << 20 },
    ];
    for problem in &expected {
        assert!(problems.contains(problem), "{problem:?} is not in {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_profile_changed_in_code_is_checked_again() {
    let mut profile = profile(DEVNET);
    profile.rings.insert(RING_DEFAULT.to_owned(), 0);
    profile.stages.remove(&Stage::Tx);
    profile.burst_packets = 0;
    let problems = profile.validate(&HostCores::new([0]));
    assert_eq!(
        problems,
        [
            ProfileProblem::BadBurst { burst_packets: 0 },
            ProfileProblem::MissingStage { stage: Stage::Tx },
            ProfileProblem::BadRingDepth { ring: RING_DEFAULT.to_owned(), depth: 0, nearest: 2 },
        ]
    );
}

#[test]
fn spinning_threads_need_cores_of_their_own() {
    let mut profile = profile(ONE_CORE_PER_STAGE);
    profile.control.core = Some(1);
    profile.threads.get_mut("tx").unwrap().core = None;
    let problems = profile.validate(&HostCores::new(0..13));
    let users = "[threads.rx] [control]".to_owned();
    assert_eq!(
        problems,
        [
            ProfileProblem::SpinShared { core: 1, users },
            ProfileProblem::SpinUnpinned { thread: "tx".to_owned() }
        ]
    );

    // The same placement is fine for threads that give their core up.
    profile.idle.strategy = IdleStrategy::Backoff;
    assert_eq!(profile.validate(&HostCores::new(0..13)), []);
}

#[test]
fn profiles_fit_the_machines_that_they_are_named_for() {
    let machines =
        [("workstation-8core", 8), ("epyc-32core-ice", 32), ("xeon-2socket-mlx5", 32), ("bench-isolated", 8)];
    for (name, cores) in machines {
        let profile = profile(name);
        assert_eq!(profile.validate(&HostCores::new(0..cores)), [], "{name}");
        let on_four = profile.validate(&HostCores::new(0..4));
        let pinned = profile.pinned_cores().iter().filter(|core| *core >= 4).count();
        let missing =
            on_four.iter().filter(|problem| matches!(problem, ProfileProblem::NoSuchCore { .. })).count();
        assert_eq!((missing, pinned > 0), (pinned, true), "{name}: every missing core is named at once");
    }
    assert_eq!(profile("xeon-2socket-mlx5").host.nic_driver.as_deref(), Some("mlx5_core"));
    assert_eq!(profile("epyc-32core-ice").host.numa_node, Some(0));
}

#[test]
fn a_stage_in_lanes_has_a_thread_for_all_or_one_for_each() {
    let profile = profile("epyc-32core-ice");
    assert_eq!(profile.lanes.count, 4);
    let threads = |stage| -> Vec<&str> {
        (0..4).map(|lane| profile.stages.get(&stage).map_or("", |on| on.of_lane(lane))).collect()
    };
    assert_eq!(threads(Stage::Rx), ["in0", "in0", "in1", "in1"]);
    assert_eq!(threads(Stage::Verify), ["lane0", "lane1", "lane2", "lane3"]);
    assert_eq!(threads(Stage::Order), ["order"; 4]);
    assert_eq!(profile.stages_of("in1").collect::<Vec<_>>(), [Stage::Rx, Stage::Filter, Stage::Decode]);
    let labels: Vec<String> = profile.placed_threads().iter().map(|thread| thread.label()).collect();
    assert!(labels.contains(&"poll-lane3 (open verify)".to_owned()), "{labels:?}");
    let message = ProfileProblem::ThreadsForLanes { stage: Stage::Rx, threads: 3, lanes: 4 }.to_string();
    assert!(message.contains("[stages]: rx names 3 threads for 4 lanes"), "{message}");
}

#[test]
fn ring_names_are_checked_against_the_topology() {
    let mut profile = profile(DEVNET);
    profile.rings.retain(|ring, _| ring == "default");
    assert_eq!(profile.validate_rings(&["rx-filter"]), []);
    profile.rings.insert("rx-filter".to_owned(), 64);
    profile.rings.insert("rx-filtre".to_owned(), 64);
    let known = "rx-filter".to_owned();
    assert_eq!(
        profile.validate_rings(&["rx-filter"]),
        [ProfileProblem::UnknownRing { ring: "rx-filtre".to_owned(), known }]
    );
    assert_eq!((profile.ring_depth("rx-filter"), profile.ring_depth("spread-tx")), (64, 1024));
}
