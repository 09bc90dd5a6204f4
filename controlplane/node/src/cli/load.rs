//! `roko load`: transfers at a fixed rate, and how long they took to be final.
//!
//! The load is open: when each transfer is due is fixed in advance by the rate, and its latency counts from then, not
//! from when a slow node let it go. So a node that stalls shows the stall in every percentile it touches (no
//! coordinated omission). `board` keeps the books, `offer` talks to the nodes, `report` says what came out.

mod board;
mod offer;
mod report;
#[cfg(test)]
mod tests;

pub use offer::{LoadPlan, offer};
pub use report::{LatencyMs, LoadReport, Progress};

use super::send::{RPC_DEFAULT, runtime};
use super::{CliError, CliResult};
use crate::accounts::{AccountKey, DEVNET_CHAIN_ID, DEVNET_SEED, devnet_account, load_account, parse_roko};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use roko_wire::ChainId;
use ruint::aliases::U256;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `roko load`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  roko load --devnet-seed --rate 1000 --for 30s        against `roko devnet --rate 0`, from its accounts
  roko load --rpc ws://10.0.0.5:9944,ws://10.0.0.6:9944 --key chain/accounts/*.key --rate 500 --for 2m
  roko load --devnet-seed --rate 2000 --for 10s --report json > load.json
Each account has one transfer on its way to a node at a time: give about as many accounts as the rate times the reply
time, and more when \"held back\" is not 0. Final blocks are learnt from the first node.")]
pub struct LoadArgs {
    /// Nodes' JSON-RPC addresses; accounts are spread over them.
    #[arg(long, value_delimiter = ',', default_value = RPC_DEFAULT, value_name = "URL,...")]
    rpc: Vec<String>,
    /// Key files of the paying accounts.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "devnet_seed")]
    key: Vec<PathBuf>,
    /// Pay from the rich accounts of this seed's chain [without TEXT: those of `roko devnet`]
    #[arg(long, value_name = "TEXT", conflicts_with = "key", num_args = 0..=1, default_missing_value = DEVNET_SEED)]
    devnet_seed: Option<String>,
    /// How many accounts of the seed's chain to pay from.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    accounts: u32,
    /// Transfers a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long to send: 500ms, 30s, 2m.
    #[arg(long = "for", default_value = "30s", value_name = "TIME", value_parser = parse_time)]
    duration: Duration,
    /// How long to wait afterwards for what is not final; what is not final then counts as lost.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_time)]
    drain: Duration,
    /// Most transfers that are sent and not final; more are held back, and counted.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight_max: u32,
    /// What each transfer moves, in ROKO.
    #[arg(long, default_value = "0.000001", value_name = "ROKO", value_parser = parse_roko)]
    value: U256,
    /// Most paid per gas, in the smallest unit [default: ten times the base fee, as load raises it]
    #[arg(long, value_name = "UNITS")]
    max_fee: Option<u128>,
    /// The chain's number (`roko genesis inspect`): part of what is signed.
    #[arg(long, default_value_t = DEVNET_CHAIN_ID.0)]
    chain_id: u64,
    /// How to report on standard output.
    #[arg(long, default_value = "text")]
    report: ReportForm,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportForm {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// Reads `500ms`, `30s` or `2m`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let error = || format!("\"{text}\" is no time: write 500ms, 30s or 2m");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u32 = text[..digits].parse().map_err(|_| error())?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err(error()),
    }
}

/// Carries the command out.
pub fn run(args: &LoadArgs) -> CliResult {
    let plan = LoadPlan {
        rpc: args.rpc.clone(),
        accounts: accounts(args)?,
        rate_per_second: args.rate,
        duration: args.duration,
        drain: args.drain,
        in_flight_max: args.in_flight_max as usize,
        value: args.value,
        max_fee: args.max_fee,
        chain_id: ChainId(args.chain_id),
    };
    // Drawn on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(plan.transfers());
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} sent, {msg} [{elapsed}]");
    bar.set_style(style.map_err(|error| CliError::with("the progress bar", error))?);
    let report = runtime()?.block_on(offer(plan, |progress: &Progress| {
        bar.set_position(progress.sent);
        bar.set_message(format!(
            "{} final, {} in flight, {} refused",
            progress.finalized, progress.in_flight, progress.refused
        ));
    }))?;
    bar.finish_and_clear();
    match args.report {
        ReportForm::Text => println!("{report}"),
        ReportForm::Json => {
            println!("{}", serde_json::to_string_pretty(&report).expect("numbers and text keys only"));
        }
    }
    Ok(())
}

fn accounts(args: &LoadArgs) -> Result<Vec<AccountKey>, CliError> {
    match &args.devnet_seed {
        Some(seed) => Ok((0..args.accounts).map(|index| devnet_account(seed.as_bytes(), index)).collect()),
        None => {
            let load = |path: &PathBuf| load_account(path).map_err(|error| CliError(error.to_string()));
            args.key.iter().map(load).collect()
        }
    }
}
