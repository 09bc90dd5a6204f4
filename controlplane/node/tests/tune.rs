//! `roko tune` as a person types it. It reads this machine and writes nothing to it.

use roko_tuning::{BUILTIN, Profile};
use serde_json::Value;
use std::process::{Command, Output};

fn roko(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roko")).arg("tune").args(arguments).output().expect("the node runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_plan_for_this_machine_is_a_profile_that_fits_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml").display().to_string();
    assert!(roko(&["plan", "--name", "mine", "--output", &path]).status.success());
    let plan = std::fs::read_to_string(&path).expect("the plan is written");
    assert_eq!(Profile::parse(&plan).expect("a plan parses").name, "mine");
    assert_eq!(text(&roko(&["plan", "--name", "mine"]).stdout), plan);
    let again = roko(&["plan", "--output", &path]);
    assert!(!again.status.success() && text(&again.stderr).contains("not overwritten"));

    let check = roko(&["check", "--profile", &path, "--json"]);
    let report: Value = serde_json::from_slice(&check.stdout).expect("one JSON object");
    assert_eq!(report["well"] == true, check.status.success(), "{report}");
    assert_eq!(report["findings"][0]["state"], "ok", "{report}");
    let lines = text(&roko(&["check", "--profile", &path]).stdout);
    for finding in report["findings"].as_array().expect("a list") {
        assert!(lines.contains(finding["check"].as_str().expect("a name")), "{lines}");
    }

    let svg = folder.path().join("machine.svg").display().to_string();
    let show = roko(&["show", "--profile", &path, "--svg", &svg]);
    assert!(show.status.success() && text(&show.stdout).contains("poll-data"), "{}", text(&show.stdout));
    assert!(std::fs::read_to_string(&svg).expect("the drawing is written").starts_with("<svg "));
}

#[test]
fn a_dry_run_records_nothing_and_without_a_record_nothing_is_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("tune.json").display().to_string();
    let run = roko(&["apply", "--dry-run", "--state", &state]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let revert = roko(&["revert", "--state", &state]);
    assert!(revert.status.success() && text(&revert.stdout).contains("no record at"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn every_built_in_profile_is_listed_and_a_wrong_name_is_answered_with_them() {
    let help = text(&roko(&["check", "--help"]).stdout);
    let refusal = roko(&["check", "--profile", "nonesuch"]);
    assert!(!refusal.status.success());
    // The help is wrapped to the terminal, names are not.
    let (help, refusal) = (help.replace('\n', " "), text(&refusal.stderr));
    for (name, _) in BUILTIN {
        assert!(help.contains(name), "{name}: {help}");
        assert!(refusal.contains(name), "{name}: {refusal}");
    }
}

#[test]
fn a_profile_that_does_not_fit_is_not_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("far.toml").display().to_string();
    let far = roko_tuning::builtin("devnet-2core").expect("built in").replace("#core = 1", "core = 8191");
    std::fs::write(&path, far).expect("written");
    let run = roko(&["apply", "--profile", &path]);
    assert!(!run.status.success());
    assert!(text(&run.stderr).contains("core 8191 is not on this host"), "{}", text(&run.stderr));
}
