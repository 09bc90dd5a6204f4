//! `roko tune apply` and `roko tune revert`: changes the running machine for a profile, and puts it back.

use super::{Here, ProfileArg, say};
use crate::cli::{CliError, CliResult};
use clap::Args;
use core::ops::ControlFlow;
use roko_tuning::change::{ApplyError, Change, Event, Outcome, Record, apply, revert, wanted};
use roko_tuning::{Machine, Tree};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where what was there before is recorded, when nothing else is said.
const STATE: &str = "/var/lib/roko/tune.json";

/// Arguments of `roko tune apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    profile: ProfileArg,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `roko tune revert`.
#[derive(Args, Debug)]
pub struct RevertArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// The record of what was there before.
    #[arg(long, value_name = "FILE", default_value = STATE)]
    state: PathBuf,
    /// Print what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Makes the changes.
pub(super) fn run(args: &ApplyArgs) -> CliResult {
    let here = Here::new(&args.profile)?;
    here.must_fit()?;
    let machine = here.machine();
    let wanted = wanted(&machine);
    for (setting, why) in &wanted.unread {
        say(format_args!("left alone  {setting}: {why}"));
    }
    if wanted.changes.is_empty() {
        say(format_args!("nothing to change for profile {}", here.profile.name));
        print_boot(&machine);
        return Ok(());
    }
    if args.common.dry_run {
        wanted.changes.iter().for_each(|change| {
            say(format_args!("would write {}", arrow(&change.path, &change.before, &change.after)))
        });
        print_boot(&machine);
        return Ok(());
    }
    if let Some(done) = elevate(&here.tree, &wanted.changes, &args.common.state) {
        return done;
    }
    let outcome = finish(apply(&here.tree, &wanted.changes, &args.common.state, &mut print_event));
    say(format_args!("recorded in {}; `roko tune revert` puts it back", args.common.state.display()));
    print_boot(&machine);
    outcome
}

/// Puts everything back.
pub(super) fn run_revert(args: &RevertArgs) -> CliResult {
    let (tree, state) = (Tree::host(), &args.common.state);
    let record = Record::load(state).map_err(|error| CliError(error.to_string()))?;
    let Some(record) = record else {
        say(format_args!("nothing to put back: there is no record at {}", state.display()));
        return Ok(());
    };
    let changes: Vec<Change> = record
        .settings
        .iter()
        .rev()
        .map(|setting| Change {
            setting: "recorded",
            path: setting.path.clone(),
            before: tree.setting(&setting.path).unwrap_or_default(),
            after: setting.before.clone(),
            may_be_refused: false,
        })
        .collect();
    if args.common.dry_run {
        let differ = changes.iter().filter(|change| change.before != change.after);
        differ.for_each(|change| {
            say(format_args!("would write {}", arrow(&change.path, &change.before, &change.after)))
        });
        return Ok(());
    }
    if let Some(done) = elevate(&tree, &changes, state) {
        return done;
    }
    let outcome = finish(revert(&tree, state, &mut print_event));
    if outcome.is_ok() {
        say(format_args!("everything is as it was; the record is gone"));
    }
    outcome
}

fn arrow(path: &str, before: &str, after: &str) -> String {
    format!("/{path}: {before} -> {after}")
}

fn print_event(event: Event<'_>) -> ControlFlow<()> {
    match event {
        Event::Recorded { .. } => {}
        Event::Written { path, before, after } => {
            say(format_args!("wrote       {}", arrow(path, before, after)))
        }
        Event::Refused { path, why, expected: true } => {
            say(format_args!("kept        /{path}: the kernel places this one itself ({why})"));
        }
        Event::Refused { path, why, expected: false } => say(format_args!("refused     /{path}: {why}")),
    }
    ControlFlow::Continue(())
}

fn finish(outcome: Result<Outcome, ApplyError>) -> CliResult {
    let outcome = outcome.map_err(|error| CliError(error.to_string()))?;
    match outcome.refused {
        0 => Ok(()),
        1 => Err(CliError("one setting was refused: the reason stands above".to_owned())),
        many => Err(CliError(format!("{many} settings were refused: the reasons stand above"))),
    }
}

fn print_boot(machine: &Machine<'_>) {
    let parameters = machine.boot_parameters();
    if !parameters.is_empty() {
        say(format_args!(
            "only at boot: {} (`roko tune check` says which are there and how to set them)",
            parameters.join(" ")
        ));
    }
}

/// Runs this command again through sudo when a file is closed to this user. `None` when that is not needed.
fn elevate(tree: &Tree, changes: &[Change], state: &Path) -> Option<CliResult> {
    let closed = |change: &&Change| tree.writable(&change.path).is_err_and(|error| error.is_permission());
    let first = changes.iter().find(closed)?;
    let program = std::env::current_exe().unwrap_or_else(|_| "roko".into());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let line = format!("sudo {} {}", program.display(), arguments.join(" "));
    if !std::io::stdin().is_terminal() {
        return Some(Err(CliError(format!(
            "/{} can be written by root only (its value is then recorded in {}): {line}",
            first.path,
            state.display()
        ))));
    }
    eprintln!("/{} can be written by root only; running: {line}", first.path);
    let status = Command::new("sudo").arg("--").arg(program).args(arguments).status();
    Some(match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError(format!("sudo ended with {status}; what it printed says why"))),
        Err(error) => Err(CliError::with(format!("sudo cannot be run; as root: {line}"), error)),
    })
}
