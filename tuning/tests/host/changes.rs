//! Applying and reverting on a recorded machine, killed after every step.

use crate::common::{FLAT, Fake, profile};
use core::ops::ControlFlow::{self, Break, Continue};
use roko_tuning::change::{Event, Outcome, Record, apply, revert, wanted};
use roko_tuning::{Profile, Tree};

fn keep_on(_: Event<'_>) -> ControlFlow<()> {
    Continue(())
}

/// A machine on which everything that can change is wrong.
fn bad() -> (Fake, Profile) {
    let fake = Fake::good(FLAT);
    fake.set("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3");
    fake.set("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
    fake.set("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave");
    fake.set("sys/devices/system/cpu/cpu11/cpufreq/scaling_governor", "schedutil");
    fake.set("sys/devices/system/cpu/cpu10/cpuidle/state2/disable", "0");
    fake.set("proc/irq/24/smp_affinity_list", "0-13");
    fake.set("proc/irq/26/smp_affinity_list", "5");
    fake.set("proc/irq/default_smp_affinity", "3fff");
    (fake, profile("one-core-per-stage"))
}

/// The settings in the kernel's words: the switch of THP shows its choices, a plain file does not.
fn settings(fake: &Fake) -> Vec<String> {
    let tree = fake.tree();
    let files = fake.snapshot();
    let root = fake.path("");
    let name = |path: &std::path::Path| path.strip_prefix(&root).unwrap().display().to_string();
    files.iter().map(|(path, _)| format!("{}={}", name(path), tree.setting(&name(path)).unwrap())).collect()
}

fn apply_all(fake: &Fake, profile: &Profile) -> Outcome {
    let changes = fake.with(profile, wanted).changes;
    apply(&fake.tree(), &changes, &fake.state(), &mut keep_on).unwrap()
}

#[test]
fn what_is_wrong_is_changed_once_and_put_back() {
    let (fake, profile) = bad();
    let before = settings(&fake);
    let found = fake.with(&profile, wanted);
    assert!(found.unread.is_empty());
    assert_eq!(apply_all(&fake, &profile), Outcome { written: 8, ..Outcome::default() });
    let after: Vec<String> = settings(&fake).into_iter().filter(|line| !before.contains(line)).collect();
    let wanted_after = [
        "proc/irq/24/smp_affinity_list=0,10-13",
        "proc/irq/26/smp_affinity_list=0,10-13",
        "proc/irq/default_smp_affinity=3c01",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor=performance",
        "sys/devices/system/cpu/cpu10/cpuidle/state2/disable=1",
        "sys/devices/system/cpu/cpu11/cpufreq/scaling_governor=performance",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages=1024",
        "sys/kernel/mm/transparent_hugepage/enabled=madvise",
    ];
    assert_eq!(after, wanted_after);

    // Twice changes nothing more, and keeps the first record.
    let record = Record::load(&fake.state()).unwrap();
    assert_eq!(apply_all(&fake, &profile), Outcome::default());
    assert_eq!(Record::load(&fake.state()).unwrap(), record);

    let outcome = revert(&fake.tree(), &fake.state(), &mut keep_on).unwrap();
    assert_eq!(outcome.written, 8);
    assert_eq!(settings(&fake), before);
    assert!(!fake.state().exists());
    // And so does taking it back twice.
    assert_eq!(revert(&fake.tree(), &fake.state(), &mut keep_on).unwrap(), Outcome::default());
}

#[test]
fn a_good_machine_is_not_touched_and_no_record_is_made() {
    let fake = Fake::good(FLAT);
    assert_eq!(apply_all(&fake, &profile("one-core-per-stage")), Outcome::default());
    assert!(!fake.path("record").exists());
}

#[test]
fn killed_after_each_step_everything_is_put_back() {
    let steps = 16;
    for stop in 0..steps {
        let (fake, profile) = bad();
        let before = settings(&fake);
        let changes = fake.with(&profile, wanted).changes;
        let mut step = 0;
        let outcome = apply(&fake.tree(), &changes, &fake.state(), &mut |_| {
            step += 1;
            if step > stop { Break(()) } else { Continue(()) }
        });
        assert!(outcome.unwrap().stopped, "step {stop}");
        // Half of them also try again before they give up.
        if stop % 2 == 0 {
            apply_all(&fake, &profile);
        }
        // Taking it back is killed after its first write, and done again.
        let _ = revert(&fake.tree(), &fake.state(), &mut |_| Break(())).unwrap();
        revert(&fake.tree(), &fake.state(), &mut keep_on).unwrap();
        assert_eq!(settings(&fake), before, "stopped at step {stop}");
        assert!(!fake.state().exists());
    }
}

#[test]
fn a_record_outlives_no_restart() {
    let (fake, profile) = bad();
    apply_all(&fake, &profile);
    let tuned = settings(&fake);
    fake.set("proc/sys/kernel/random/boot_id", "another");
    assert_eq!(revert(&fake.tree(), &fake.state(), &mut keep_on).unwrap(), Outcome::default());
    assert_eq!(settings(&fake).len(), tuned.len());
    assert!(fake.path("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").exists());
    assert!(!fake.state().exists(), "the restart has put everything back already");
}

#[test]
fn an_interrupt_that_the_kernel_keeps_is_no_failure_and_not_recorded() {
    let (fake, profile) = bad();
    let mut changes = fake.with(&profile, wanted).changes;
    changes.retain(|change| change.path == "proc/irq/24/smp_affinity_list");
    // What cannot be written at all: the interrupt went away after it was looked at.
    fake.remove("proc/irq/24");
    let outcome = apply(&fake.tree(), &changes, &fake.state(), &mut keep_on).unwrap();
    assert_eq!(outcome, Outcome { kept: 1, ..Outcome::default() });
    assert!(!fake.state().exists());
    let mut needed = changes.clone();
    needed[0].may_be_refused = false;
    assert_eq!(apply(&fake.tree(), &needed, &fake.state(), &mut keep_on).unwrap().refused, 1);
}

#[test]
fn a_setting_that_went_away_keeps_nothing_from_being_put_back() {
    let (fake, profile) = bad();
    apply_all(&fake, &profile);
    fake.remove("proc/irq/26");
    let outcome = revert(&fake.tree(), &fake.state(), &mut keep_on).unwrap();
    assert_eq!((outcome.written, outcome.refused, fake.state().exists()), (7, 0, false));
}

#[test]
fn a_record_that_is_none_is_not_overwritten() {
    let (fake, profile) = bad();
    std::fs::create_dir_all(fake.state().parent().unwrap()).unwrap();
    std::fs::write(fake.state(), "{").unwrap();
    let changes = fake.with(&profile, wanted).changes;
    let before = settings(&fake);
    let error = apply(&fake.tree(), &changes, &fake.state(), &mut keep_on).unwrap_err().to_string();
    assert!(error.contains("cannot be understood"), "{error}");
    assert_eq!((settings(&fake), std::fs::read_to_string(fake.state()).unwrap()), (before, "{".to_owned()));
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let (fake, profile) = bad();
    fake.remove("sys/devices/system/cpu/cpu5/cpufreq");
    fake.remove("sys/kernel/mm/transparent_hugepage");
    let found = fake.with(&profile, wanted);
    let names: Vec<&str> = found.unread.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["thp", "governor"]);
    assert!(found.changes.iter().all(|change| !change.path.contains("cpufreq")));
    assert!(Tree::at("/nowhere").read("proc/cmdline").is_err());
}
