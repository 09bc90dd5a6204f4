//! `roko bench`: how long what takes, with what it was measured on.

mod latency;
mod report;

use super::CliResult;
use clap::Subcommand;

/// What to measure or show.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Latency by stage, from the wire to finality: of a devnet that this command runs, or of nodes that run already.
    #[command(after_help = "\
Examples:
  roko bench latency                                     a devnet of its own: 3 s to warm up, 20 s measured, a table
  roko bench latency --rate 5000 --for 1m --svg lat.svg  curves of every stage in one drawing
  roko bench latency --attach 127.0.0.1:9615 --for 30s   nodes that run, whatever they are offered meanwhile
  roko bench latency --json | jq '.rows[] | select(.stage == \"final\")'
How to read it:
  filter .. order   from a frame's receive time until it passed the stage; order is the mempool
  builder           from the stamp until the block was built, by its proposer
  in_block          from the stamp until a block with the transaction is whole and valid at the node that stamped it;
  voted, finalised  until its own vote for that is on disk, until the commit is known
  spread, tx        frames on their way out: since the wire for stamp batches, since asked for votes and certificates
  sent, final       from the moment at which the rate says that a transfer is due, until it was handed to the client's
                    port, and until its block is on disk
The load is open: what is due does not wait for what is slow, and final counts from when it was due, so a stall shows in
every percentile that it touches (no coordinated omission). Each figure lies within 1 % of one that was measured.")]
    Latency(latency::LatencyArgs),
    /// Criterion's results as one HTML page, with plots and ratios, to open without a network.
    #[command(after_help = "\
Examples:
  cargo bench && roko bench report --out bench.html
  roko bench report --criterion other/target/criterion --title 'EPYC 9354P' --out epyc.html
The first case of each operation is this project's; the others are its peers and floors.
It refuses to say \"isolated\" where the kernel isolates no core.")]
    Report(report::ReportArgs),
}

/// Carries the command out.
pub fn run(command: &BenchCommand) -> CliResult {
    match command {
        BenchCommand::Latency(args) => latency::run(args),
        BenchCommand::Report(args) => report::run(args),
    }
}
