//! Topologies, drawings and plans of recorded machines, and of the one that runs the test.

use crate::common::{FLAT, Fake, Shape, profile};
use roko_tuning::check::{check, needs_mending};
use roko_tuning::plan::plan;
use roko_tuning::{BUILTIN, HostCores, Profile, Topology, Tree};
use std::collections::BTreeSet;

const EPYC: Shape = Shape { cores: 32, packages: 1, cores_per_l3: 4, smt: true };
const TWO_SOCKETS: Shape = Shape { cores: 32, packages: 2, cores_per_l3: 16, smt: true };

#[test]
fn a_recorded_machine_is_read() {
    let fake = Fake::good(TWO_SOCKETS);
    fake.card("eth1", "0000:81:00.0", "mlx5_core", 1);
    let topology = Topology::of(&fake.tree()).unwrap();
    assert_eq!((topology.source, topology.cores(), topology.cpus.len()), ("/sys", 32, 64));
    assert_eq!(topology.nodes.keys().copied().collect::<Vec<_>>(), [0, 1]);
    let cpu = *topology.cpu(49).unwrap();
    assert_eq!((cpu.package, cpu.core, cpu.l3, cpu.node), (1, 17, Some(16), Some(1)));
    assert_eq!(topology.siblings(17).collect::<Vec<_>>(), [49]);
    assert_eq!(topology.nics[0].node, Some(1));
    fake.remove("sys/devices/system/cpu/cpu3");
    let error = Topology::of(&fake.tree()).unwrap_err().to_string();
    assert!(error.contains("cpu3/topology"), "{error}");
}

#[test]
fn this_machine_reads_the_same_in_both_ways() {
    let files = Topology::of_files(&Tree::host()).unwrap();
    let other = Topology::of(&Tree::host()).unwrap();
    assert!(!files.cpus.is_empty());
    assert_eq!(files.cpus, other.cpus);
    assert_eq!((&files.l3, &files.nics), (&other.l3, &other.nics));
    assert_eq!(files.nodes.keys().collect::<Vec<_>>(), other.nodes.keys().collect::<Vec<_>>());
}

#[test]
fn drawings_show_every_thread_of_every_profile() {
    let fake = Fake::good(EPYC);
    fake.card("eth<1>", "0000:41:00.0", "ice", 0);
    let topology = Topology::of(&fake.tree()).unwrap();
    for (name, _) in BUILTIN {
        let profile = profile(name);
        let (text, svg) = (topology.to_text(&profile), topology.to_svg(&profile));
        for thread in profile.placed_threads() {
            assert_eq!(text.matches(&thread.label()).count(), 1, "{name}: {}\n{text}", thread.label());
            // A long list of stages is wrapped, so the drawing is searched for names.
            let drawn = ["<", " (", ":"].map(|end| svg.matches(&format!(">{}{end}", thread.name)).count());
            assert_eq!(drawn.iter().sum::<usize>(), 1, "{name}: {}", thread.name);
        }
        assert!(svg.contains("eth&lt;1&gt;") && !svg.contains("eth<1>"));
        assert_eq!(svg.matches("<rect class=\"group\"").count(), 8);
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
    let small = Fake::good(Shape { cores: 2, packages: 1, cores_per_l3: 2, smt: false });
    let text = Topology::of(&small.tree()).unwrap().to_text(&profile("one-core-per-stage"));
    assert!(text.contains("poll-tx: core 9 is not online here"), "{text}");
}

/// The plan of a machine, checked: it parses, fits, explains every key and wants no other profile.
fn planned(fake: &Fake) -> Profile {
    let topology = Topology::of(&fake.tree()).unwrap();
    let host = HostCores::of(&fake.tree()).unwrap();
    let plan = plan(&topology, &host, "mine");
    let text = plan.to_toml();
    let parsed = Profile::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    assert_eq!(parsed, plan.profile, "{text}");
    assert_eq!(parsed.validate_on(&host, &topology), []);
    let findings = fake.with(&parsed, check);
    let of = |name: &str| findings.iter().find(|finding| finding.check == name).unwrap();
    for name in ["profile", "numa"] {
        assert!(of(name).mend.is_none(), "{:?}", of(name));
    }
    assert!(!of("smt").seen.contains("are one"), "{:?}", of("smt"));
    for line in text.lines().filter(|line| line.contains(" = ") && !line.starts_with("# ")) {
        let above = text[..text.find(line).unwrap()].trim_end().lines().last().unwrap_or_default();
        assert!(above.starts_with("# ") || above.contains(" = "), "{line} has no comment in\n{text}");
    }
    parsed
}

#[test]
fn plans_use_what_a_machine_has() {
    for cores in (1..=16).chain([20, 40]) {
        let profile = planned(&Fake::good(Shape { cores, packages: 1, cores_per_l3: cores, smt: false }));
        // Two for the frames of three or four lanes, one for each lane's signatures, four for what is behind them.
        let (lanes, threads) = match cores {
            20.. => (8, 4 + 8 + 4),
            16.. => (5, 3 + 5 + 4),
            14.. => (4, 2 + 4 + 4),
            13.. => (3, 2 + 3 + 4),
            8.. => (1, 4),
            4.. => (1, 2),
            _ => (1, 1),
        };
        assert_eq!((profile.lanes.count, profile.threads.len()), (lanes, threads), "{cores} cores");
        assert_eq!(profile.spins(), cores >= 13);
        assert!(!profile.pinned_cores().contains(0), "the first core is the kernel's");
    }
}

#[test]
fn a_plan_keeps_neighbours_in_one_cache_and_on_the_cards_node() {
    let fake = Fake::good(EPYC);
    let profile = planned(&fake);
    let topology = Topology::of(&fake.tree()).unwrap();
    let l3 = |name: &str| topology.cpu(profile.threads[name].core.unwrap()).unwrap().l3;
    assert_eq!(BTreeSet::from(["in0", "lane0", "lane1"].map(l3)).len(), 1);

    let two = Fake::good(TWO_SOCKETS);
    two.card("eth1", "0000:81:00.0", "mlx5_core", 1);
    let profile = planned(&two);
    assert_eq!(profile.host.numa_node, Some(1));
    assert_eq!(profile.host.nic_driver.as_deref(), Some("mlx5_core"));
    assert_eq!(profile.pinned_cores().to_string(), "16-31");
}

#[test]
fn a_good_machine_for_a_plan_is_one_that_was_tuned_for_it() {
    let machine = Fake::good(Shape { cores: 13, ..FLAT });
    let profile = planned(&machine);
    assert_eq!(profile.poll_cores().to_string(), "1-9");
    assert!(!needs_mending(&machine.with(&profile, check), true));
}
