//! `roko config`: checks a node's configuration, or prints one with every key explained.

use super::{CliError, CliResult};
use crate::config::{NodeConfig, example};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration and the files that it names; every problem is printed, and nothing is started.
    #[command(after_help = "\
Examples:
  roko config check node.toml      prints \"ok\" and what the node would be, or every problem; exit code 1 then
Run it after every change: it needs neither the network device nor special rights.")]
    Check {
        /// The configuration file.
        path: PathBuf,
    },
    /// Print a complete configuration: every key with its unit, range, default, and when to change it.
    #[command(after_help = "\
Examples:
  roko config example --output node.toml
  roko config example | less
Then set what has \"required\" beside it, and run `roko config check node.toml`.")]
    Example {
        /// Write it here instead of to standard output; an existing file is not overwritten.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Carries the command out.
pub fn run(command: &ConfigCommand) -> CliResult {
    match command {
        ConfigCommand::Check { path } => {
            print!("{}", check(path)?);
            Ok(())
        }
        ConfigCommand::Example { output: None } => {
            print!("{}", example(&[]));
            Ok(())
        }
        ConfigCommand::Example { output: Some(path) } => write_new(path, &example(&[])),
    }
}

/// The summary of a good configuration, or every problem of a bad one.
fn check(path: &Path) -> Result<String, CliError> {
    let config = NodeConfig::load(path).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        let (count, s) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
        CliError(format!("{} has {count} problem{s}:\n{}", path.display(), lines.join("\n")))
    })?;
    let (node, network) = (&config.node, &config.network);
    Ok(format!(
        "ok\n  node      {} ({:?}), data in {}\n  port      {}, {} frames\n  network   {}:{}\n  tuning    {}\n  \
         rpc       {}\n  metrics   {}\n  clients   {}\n",
        node.name,
        node.kind,
        node.data_dir.display(),
        config.port.name(),
        config.port.frames,
        network.ip,
        network.port,
        config.tuning.profile,
        config.rpc.listen,
        config.metrics.listen,
        config.clients.len(),
    ))
}

/// Writes a file that does not exist yet.
pub(super) fn write_new(path: &Path, text: &str) -> CliResult {
    use std::io::Write;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError(format!(
            "{} exists and is not overwritten: move it away, or name another",
            path.display()
        )),
        _ => CliError::with(format!("{} cannot be written", path.display()), error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command below this one that a person can type, with its words.
    fn commands(command: &clap::Command, words: &str, out: &mut Vec<(String, clap::Command)>) {
        for inner in command.get_subcommands() {
            let words = format!("{words} {}", inner.get_name());
            match inner.has_subcommands() {
                true => commands(inner, &words, out),
                false => out.push((words, inner.clone())),
            }
        }
    }

    #[test]
    fn every_help_text_teaches_by_example() {
        use crate::cli::{
            bench::BenchCommand, genesis::GenesisCommand, keys::KeysCommand, load::LoadArgs, send::SendArgs,
            tune::TuneCommand,
        };
        use clap::{Args, Command};
        let part = |name: &'static str| Command::new(name);
        let root = part("roko")
            .subcommand(ConfigCommand::augment_subcommands(part("config")))
            .subcommand(KeysCommand::augment_subcommands(part("keys")))
            .subcommand(GenesisCommand::augment_subcommands(part("genesis")))
            .subcommand(BenchCommand::augment_subcommands(part("bench")))
            .subcommand(TuneCommand::augment_subcommands(part("tune")))
            .subcommand(SendArgs::augment_args(part("send")))
            .subcommand(LoadArgs::augment_args(part("load")));
        root.clone().debug_assert();
        let mut all = Vec::new();
        commands(&root, "roko", &mut all);
        assert_eq!(all.len(), 18);
        for (words, command) in &mut all {
            let help = command.render_long_help().to_string();
            let example = help.lines().any(|line| line.trim_start().starts_with(words.as_str()));
            assert!(example && help.contains("Examples:"), "{words}:\n{help}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{words} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn a_bad_file_lists_every_problem_and_an_example_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        run(&ConfigCommand::Example { output: Some(path.clone()) }).unwrap();
        let refusal = write_new(&path, "").unwrap_err().to_string();
        assert!(refusal.contains("not overwritten"), "{refusal}");
        // The example names no voting key, and its files are not there.
        let refusal = check(&path).unwrap_err().to_string();
        assert!(refusal.contains("1 problem:") && refusal.contains("node.bls_key"), "{refusal}");
        let text = std::fs::read_to_string(&path).unwrap().replace("#bls_key", "bls_key");
        std::fs::write(&path, text).unwrap();
        let refusal = check(&path).unwrap_err().to_string();
        for key in ["3 problems:", "node.genesis", "node.node_key", "node.bls_key"] {
            assert!(refusal.contains(key), "{key}: {refusal}");
        }
    }
}
