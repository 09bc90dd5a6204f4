//! Every check on a good machine, a bad one, and one that does not tell.

use crate::common::{FLAT, Fake, Shape, limits, profile};
use roko_tuning::check::{Finding, State, check, needs_mending, to_text};
use roko_tuning::{HostCores, Profile};

fn finding(fake: &Fake, profile: &Profile, name: &str) -> Finding {
    let findings = fake.with(profile, check);
    findings.into_iter().find(|finding| finding.check == name).expect("there is such a check")
}

/// The state of a check, and the text of what is seen and mended.
fn state(fake: &Fake, profile: &Profile, name: &str) -> (State, String) {
    let finding = finding(fake, profile, name);
    (finding.state, format!("{} | {}", finding.seen, finding.mend.unwrap_or_default()))
}

fn stages() -> Profile {
    profile("one-core-per-stage")
}

/// One with a card that goes through vfio.
fn with_card() -> Profile {
    let mut profile = stages();
    profile.host.nic_driver = Some("ice".to_owned());
    profile
}

#[track_caller]
fn expect(fake: &Fake, profile: &Profile, name: &str, wanted: State, mentions: &[&str]) {
    let (found, text) = state(fake, profile, name);
    assert_eq!(found, wanted, "{name}: {text}");
    for word in mentions {
        assert!(text.contains(word), "{name}: {word:?} is not in {text:?}");
    }
}

#[test]
fn a_good_machine_is_well_and_says_so_in_one_line_each() {
    let fake = Fake::good(FLAT);
    let findings = fake.with(&stages(), check);
    for finding in &findings {
        assert!(matches!(finding.state, State::Ok | State::NotNeeded), "{finding:?}");
    }
    assert!(!needs_mending(&findings, true));
    // One line each, an empty one, and the sum.
    assert_eq!(to_text(&findings).lines().count(), findings.len() + 2);
    let json = serde_json::to_value(&findings).unwrap();
    assert_eq!(json[1]["check"], "hugepages");
    assert_eq!(json[1]["state"], "ok");
}

#[test]
fn a_profile_that_wants_nothing_is_told_nothing() {
    let findings = Fake::good(FLAT).with(&profile("devnet-2core"), check);
    let not_needed = findings.iter().filter(|finding| finding.state == State::NotNeeded).count();
    assert!(not_needed >= 12, "{findings:#?}");
    assert!(!needs_mending(&findings, true));
}

#[test]
fn an_empty_machine_is_unknown_and_nothing_is_guessed() {
    let fake = Fake::good(FLAT);
    fake.with(&with_card(), |machine| {
        fake.remove("sys");
        fake.remove("proc");
        for finding in check(machine) {
            // The topology was read before; what follows from it and the profile alone is still told.
            let told = ["numa", "smt", "nic"].contains(&finding.check);
            assert!(told || finding.state == State::Unknown, "{finding:?}");
            assert!(told || finding.seen.contains("/proc") || finding.seen.contains("/sys"), "{finding:?}");
        }
        assert!(needs_mending(&check(machine), true));
    });
}

#[test]
fn memory() {
    let fake = Fake::good(FLAT);
    let pages = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    expect(&fake, &stages(), "hugepages", State::Ok, &["1024 of 1024", "1000 free"]);
    fake.set(pages, "8");
    let mend = "echo 1024 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    expect(&fake, &stages(), "hugepages", State::Matters, &["8 of 1024", mend]);
    let mut on_node = stages();
    on_node.host.numa_node = Some(0);
    expect(&fake, &on_node, "hugepages", State::Ok, &["on NUMA node 0"]);
    fake.remove(pages);
    expect(&fake, &stages(), "hugepages", State::Unknown, &[pages]);

    let thp = "sys/kernel/mm/transparent_hugepage/enabled";
    fake.set(thp, "[always] madvise never");
    expect(&fake, &stages(), "thp", State::Matters, &["always", "echo madvise | sudo tee /sys/kernel/mm"]);
    fake.remove(thp);
    expect(&fake, &stages(), "thp", State::Unknown, &[thp]);
}

#[test]
fn isolation() {
    let fake = Fake::good(FLAT);
    let at = |file: &str| format!("sys/devices/system/cpu/{file}");
    fake.set(&at("isolated"), "1-3");
    let mend = "isolcpus=managed_irq,domain,1-9 nohz_full=1-9 rcu_nocbs=1-9";
    expect(&fake, &stages(), "isolcpus", State::Matters, &["4-9", mend, "update-grub"]);
    fake.set("sys/fs/cgroup/cpuset.cpus.isolated", "4-9");
    expect(&fake, &stages(), "isolcpus", State::Ok, &[]);
    fake.remove(&at("isolated"));
    expect(&fake, &stages(), "isolcpus", State::Unknown, &["isolated"]);

    fake.set(&at("nohz_full"), " (null)");
    expect(&fake, &stages(), "nohz_full", State::Matters, &["1-9"]);
    fake.remove(&at("nohz_full"));
    expect(&fake, &stages(), "nohz_full", State::Matters, &["1-9"]);
    fake.set(&at("nohz_full"), "what");
    expect(&fake, &stages(), "nohz_full", State::Unknown, &["what"]);

    for (line, wanted) in [
        ("rcu_nocbs=all", State::Ok),
        ("rcu_nocbs=1-9 x", State::Ok),
        ("rcu_nocbs=1-2", State::Matters),
        ("x", State::Matters),
    ] {
        fake.set("proc/cmdline", line);
        expect(&fake, &stages(), "rcu_nocbs", wanted, &[]);
    }
    fake.remove("proc/cmdline");
    expect(&fake, &stages(), "rcu_nocbs", State::Unknown, &["/proc/cmdline"]);
}

#[test]
fn interrupts() {
    let fake = Fake::good(FLAT);
    fake.set("proc/irq/25/smp_affinity_list", "0-13");
    fake.set("proc/irq/26/smp_affinity_list", "4");
    let mend = ["2 interrupts", "25 26", "echo 0,10-13 | sudo tee /proc/irq/25/smp_affinity_list"];
    expect(&fake, &stages(), "irq-affinity", State::Matters, &mend);
    for irq in 24..28 {
        fake.set(&format!("proc/irq/{irq}/smp_affinity_list"), "2");
    }
    expect(&fake, &stages(), "irq-affinity", State::Matters, &["roko tune apply --profile p"]);
    for irq in 24..28 {
        fake.set(&format!("proc/irq/{irq}/smp_affinity_list"), "0");
    }
    fake.set("proc/irq/default_smp_affinity", "3fff");
    expect(&fake, &stages(), "irq-affinity", State::Matters, &["made later", "echo 3c01"]);
    fake.remove("proc/irq");
    expect(&fake, &stages(), "irq-affinity", State::Unknown, &["/proc/irq"]);
}

#[test]
fn power() {
    let fake = Fake::good(FLAT);
    let governor = "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor";
    fake.set(governor, "schedutil");
    expect(
        &fake,
        &stages(),
        "governor",
        State::Matters,
        &["1 of 12", "schedutil", "echo performance", governor],
    );
    fake.remove(governor);
    expect(&fake, &stages(), "governor", State::Unknown, &[governor]);
    fake.remove("sys/devices/system/cpu/cpu3/cpufreq");
    expect(&fake, &stages(), "governor", State::Unknown, &["core 3", "hypervisor"]);

    // A spinning core never sleeps; that of the control thread does.
    let disable = |cpu: u32| format!("sys/devices/system/cpu/cpu{cpu}/cpuidle/state2/disable");
    fake.set(&disable(3), "0");
    expect(&fake, &stages(), "c-states", State::Ok, &["10-12"]);
    fake.set(&disable(10), "0");
    expect(&fake, &stages(), "c-states", State::Matters, &["C6 (133 us)", "echo 1", &disable(10)]);
    fake.remove("sys/devices/system/cpu/cpu10/cpuidle");
    expect(&fake, &stages(), "c-states", State::Unknown, &["core 10", "hypervisor"]);
    fake.set("sys/devices/system/cpu/cpuidle/current_driver", "none");
    expect(&fake, &stages(), "c-states", State::Ok, &["no idle driver"]);
}

#[test]
fn siblings_and_nodes() {
    let fake = Fake::good(Shape { smt: true, ..FLAT });
    fake.set("sys/devices/system/cpu/isolated", "1-9");
    expect(&fake, &stages(), "smt", State::Matters, &["sibling 15", "echo 0 | sudo tee", "cpu15/online"]);
    fake.set("sys/devices/system/cpu/isolated", "1-9,15-23");
    expect(&fake, &stages(), "smt", State::Ok, &[]);
    let mut both = stages();
    both.threads.get_mut("tx").unwrap().core = Some(15);
    expect(&fake, &both, "smt", State::Matters, &["cores 1 and 15 are one", "roko tune plan"]);

    let two = Fake::good(Shape { cores: 16, packages: 2, cores_per_l3: 8, smt: false });
    expect(&two, &stages(), "numa", State::Matters, &["{0, 1}", "roko tune plan"]);
    let one = Fake::good(Shape { cores: 32, packages: 2, cores_per_l3: 16, smt: false });
    expect(&one, &stages(), "numa", State::Ok, &["{0}"]);
    let mut elsewhere = with_card();
    elsewhere.host.numa_node = Some(1);
    one.card("eth1", "0000:81:00.0", "ice", 1);
    expect(
        &one,
        &elsewhere,
        "numa",
        State::Matters,
        &["host.numa_node is 1", "eth1 0000:81:00.0 is on node 1"],
    );
    elsewhere.host.numa_node = Some(7);
    expect(&one, &elsewhere, "profile", State::Matters, &["numa_node = 7", "0 1"]);
}

#[test]
fn cards() {
    let fake = Fake::good(FLAT);
    fake.card("eth0", "0000:01:00.0", "e1000e", -1);
    expect(&fake, &stages(), "nic", State::NotNeeded, &["virtual"]);
    expect(&fake, &with_card(), "nic", State::Matters, &["no card with the driver ice", "e1000e"]);
    fake.card("eth1", "0000:41:00.0", "ice", 0);
    let bind = "sudo ip link set eth1 down && sudo dpdk-devbind.py --bind=vfio-pci 0000:41:00.0";
    expect(&fake, &with_card(), "nic", State::Matters, &[bind, "ethtool -i eth1"]);
    expect(&fake, &with_card(), "vfio", State::Matters, &["sudo modprobe vfio-pci"]);
    expect(&fake, &with_card(), "phc", State::Matters, &["no hardware clock"]);
    fake.set("sys/class/ptp/ptp0/clock_name", "ice-0000:41:00.0-clk");
    expect(&fake, &with_card(), "phc", State::Ok, &["ptp0 (ice-0000:41:00.0-clk)"]);

    let bound = Fake::good(FLAT);
    bound.card("", "0000:41:00.0", "vfio-pci", 0);
    expect(&bound, &with_card(), "nic", State::Ok, &["0000:41:00.0: vfio-pci"]);
    expect(&bound, &with_card(), "vfio", State::Ok, &[]);
    expect(&bound, &with_card(), "phc", State::Unknown, &["vfio holds"]);
    expect(&bound, &with_card(), "iommu", State::Unknown, &["iommu_groups"]);
    std::fs::create_dir_all(bound.path("sys/kernel/iommu_groups")).unwrap();
    expect(&bound, &with_card(), "iommu", State::Matters, &["intel_iommu=on iommu=pt", "VT-d"]);
    std::fs::create_dir_all(bound.path("sys/kernel/iommu_groups/0")).unwrap();
    expect(&bound, &with_card(), "iommu", State::Ok, &["1 IOMMU"]);

    let shared = Fake::good(FLAT);
    shared.card("eth2", "0000:51:00.0", "mlx5_core", 0);
    shared.set("sys/devices/pci0000:00/0000:51:00.0/infiniband/mlx5_0/fw_ver", "16.35.2000");
    let mut mlx = stages();
    mlx.host.nic_driver = Some("mlx5_core".to_owned());
    expect(&shared, &mlx, "nic", State::Ok, &["mlx5_core, firmware 16.35.2000"]);
    for name in ["vfio", "iommu"] {
        expect(&shared, &mlx, name, State::NotNeeded, &[]);
    }
}

#[test]
fn clock_and_limits() {
    let fake = Fake::good(FLAT);
    let clock = |file: &str| format!("sys/devices/system/clocksource/clocksource0/{file}");
    fake.set(&clock("current_clocksource"), "hpet");
    expect(&fake, &stages(), "clocksource", State::Matters, &["hpet", "echo tsc | sudo tee"]);
    fake.set(&clock("available_clocksource"), "hpet acpi_pm");
    expect(&fake, &stages(), "clocksource", State::Matters, &["dmesg"]);
    fake.remove(&clock("current_clocksource"));
    expect(&fake, &stages(), "clocksource", State::Unknown, &["current_clocksource"]);

    fake.set("proc/self/limits", &limits("8388608", "1024"));
    expect(
        &fake,
        &with_card(),
        "memlock",
        State::Matters,
        &["8192 KiB", "2097152 KiB", "LimitMEMLOCK=unlimited"],
    );
    expect(&fake, &stages(), "nofile", State::Matters, &["1024", "LimitNOFILE=4096"]);
    fake.set("proc/self/limits", &limits("4294967296", "4096"));
    expect(&fake, &with_card(), "memlock", State::Ok, &[]);
    expect(&fake, &stages(), "nofile", State::Ok, &[]);
    expect(&fake, &stages(), "rtprio", State::NotNeeded, &["0 for this shell"]);
    fake.set("proc/self/limits", "nothing");
    for name in ["memlock", "nofile", "rtprio"] {
        expect(&fake, &with_card(), name, State::Unknown, &["/proc/self/limits"]);
    }
}

#[test]
fn a_profile_that_does_not_fit_is_the_first_finding() {
    let fake = Fake::good(Shape { cores: 2, packages: 1, cores_per_l3: 2, smt: false });
    let findings = fake.with(&stages(), check);
    assert_eq!((findings[0].check, findings[0].state), ("profile", State::Matters));
    assert!(findings[0].seen.contains("core 9 is not on this host"), "{}", findings[0].seen);
    // Eleven missing cores, no core left, and the line above them.
    assert_eq!(findings[0].seen.lines().count(), 13);
    expect(&fake, &stages(), "smt", State::Unknown, &["2-9"]);
    assert!(needs_mending(&findings, false));
    assert_eq!(HostCores::of(&fake.tree()).unwrap().count(), 2);
}
