//! The `roko` binary: reads the command line, carries the command out, and turns a failure into an exit code.
#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match roko_node::cli::Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roko: {error}");
            ExitCode::FAILURE
        }
    }
}
