//! `roko replay`: a capture through a validator's data plane, under the capture's own time.

use super::profile::placement;
use super::run::{load_chain, options};
use super::{CliError, CliResult};
use crate::config::NodeConfig;
use crate::replay::{ReplayPlan, ReplayReport, keys, replay};
use clap::Args;
use roko_peers::{Membership, NodeIdentity};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `roko replay`.
#[derive(Args, Debug)]
#[command(after_help = "\
Every frame comes at the time at which it was captured, by a virtual clock, so the same capture gives the same hashes on
any machine. Nothing is sent, no device is touched, and the node's data is neither read nor written.
The capture is a pcap file of Ethernet frames; CAPTURE.keys beside it opens them.

Examples:
  roko devnet --rate 2000 --for 10s --data-dir net --record net/load.pcap
  roko replay net/load.pcap --config net/validator-0/node.toml
  roko replay net/load.pcap --config net/validator-0/node.toml --json")]
pub struct ReplayArgs {
    /// The capture.
    capture: PathBuf,
    /// The configuration of the validator that receives it.
    #[arg(long)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &ReplayArgs) -> CliResult {
    let config = NodeConfig::load(&args.config).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CliError(format!("{}:\n  {}", args.config.display(), all.join("\n  ")))
    })?;
    let chain = load_chain(&config)?;
    let identity =
        NodeIdentity::load(&config.node.node_key).map_err(|error| CliError::with("node key", error))?;
    let members = Membership::new(&chain.genesis, &config.client_entries(), |at| config.mac_of(&at.ip))
        .map_err(|error| CliError::with("peers", error))?;
    let keys = keys::read(&args.capture).map_err(|error| {
        CliError::with(format!("{} (the capture's keys)", keys::keys_path(&args.capture).display()), error)
    })?;
    let capture = File::open(&args.capture).map_err(|error| CliError::with(args.capture.display(), error))?;
    let placement = placement(&config.tuning.profile)?;
    let options = options(&config);
    let plan = ReplayPlan {
        chain,
        identity: &identity,
        members: &members,
        options: &options,
        depths: placement.depths(),
        keys: &keys,
    };
    let began = Instant::now();
    let report = replay(&plan, BufReader::new(capture)).map_err(|error| CliError(error.to_string()))?;
    if args.json {
        let text = serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?;
        println!("{text}");
    } else {
        print!("{}", words(&report));
        eprintln!("replayed in {:.2} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn words(report: &ReplayReport) -> String {
    let mut text = format!(
        "frames        {} in {:.3} s of the capture's time, {} left out\ntransactions  {} in {} blocks\n\
         order         {}\nstate         {}\n",
        report.frames,
        report.span_ns as f64 / 1e9,
        report.frames_left_out,
        report.transactions,
        report.blocks,
        report.order_hash,
        report.state_hash,
    );
    for (counter, count) in &report.counters {
        text += &format!("{counter:<32} {count}\n");
    }
    text
}
