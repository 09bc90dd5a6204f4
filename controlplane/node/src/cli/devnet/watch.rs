//! Runs the load over a devnet, wherever its nodes run, and shows what happens until it is over.

use super::{DRAIN_MAX, DevnetArgs};
use crate::cli::{CliError, CliResult};
use crate::devnet::Watched;
use crate::devnet::live::Live;
use crate::devnet::load::{LoadCounts, Loader};
use crate::devnet::report::{Report, Run, report};
use crate::observe::status::NodeStatus;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs the load and shows what happens until it is over, and then the report if it is wanted.
pub(super) fn watch(
    args: &DevnetArgs,
    network: &impl Watched,
    loader: Loader,
    stop: &Arc<AtomicBool>,
) -> CliResult {
    let report = measure(args, network, loader, stop)?;
    if args.report.is_some() {
        let text = serde_json::to_string(&report).map_err(|error| CliError::with("the report", error))?;
        println!("{text}");
    }
    network.failure().map_or(Ok(()), |failure| Err(CliError(failure)))
}

/// Runs the load and shows what happens until it is over.
pub(super) fn measure(
    args: &DevnetArgs,
    network: &impl Watched,
    loader: Loader,
    stop: &Arc<AtomicBool>,
) -> Result<Report, CliError> {
    let first_final = wait_for_first(network, stop);
    if let Some(after) = first_final {
        eprintln!("first final block after {:.0} ms", after.as_secs_f64() * 1e3);
    }
    let counts = loader.counts();
    let (rate, length, load_stop) = (args.rate, args.length, Arc::clone(stop));
    let began = Instant::now();
    let load = std::thread::Builder::new()
        .name("load".into())
        .spawn(move || {
            let _ = roko_os::affinity::sharpen_timers();
            loader.run(rate, length, &load_stop);
        })
        .map_err(|error| CliError::with("the load thread", error))?;
    show(args, network, &counts, &load, stop);
    let loaded = began.elapsed();
    let _ = load.join();
    drain(network, &counts, stop);
    Ok(report(network, &Run { counts: &counts, load: loaded, first_final }))
}

fn durable_height(network: &impl Watched) -> u64 {
    network.statuses(false).iter().map(|node| node.durable_height).min().unwrap_or(0)
}

fn wait_for_first(network: &impl Watched, stop: &AtomicBool) -> Option<Duration> {
    let before = durable_height(network);
    while !stop.load(Ordering::Relaxed)
        && network.failure().is_none()
        && network.started().elapsed() < DRAIN_MAX
    {
        if durable_height(network) > before {
            return Some(network.started().elapsed());
        }
        std::thread::sleep(network.patience());
    }
    None
}

/// Draws the live view, or prints a line a second where there is no terminal.
fn show(
    args: &DevnetArgs,
    network: &impl Watched,
    counts: &LoadCounts,
    load: &std::thread::JoinHandle<()>,
    stop: &AtomicBool,
) {
    let terminal = std::io::stdout().is_terminal() && args.report.is_none();
    let mut live = Live::default();
    let interval = Duration::from_millis(if terminal { 250 } else { 1_000 });
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed)
        && network.failure().is_none()
        && !(load.is_finished() && (args.length.is_some() || args.report.is_some()))
    {
        if terminal {
            let page = live.page(network, counts, args.rate);
            // Home, each line cleared to its end, then everything below: no flicker.
            let drawn = page.replace('\n', "\x1b[K\r\n");
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\x1b[H{drawn}\x1b[J\nCtrl-C stops the network.");
            let _ = out.flush();
        } else {
            let nodes = network.statuses(false);
            let views: Vec<String> = nodes.iter().map(|node| node.view.to_string()).collect();
            eprintln!(
                "{:>5.0} s   height {:>7}   views {}   {:>9} offered   {:>9} final   {:>5} MiB",
                began.elapsed().as_secs_f64(),
                nodes.iter().map(|node| node.durable_height).min().unwrap_or(0),
                views.join(" "),
                counts.submitted.load(Ordering::Relaxed),
                nodes.iter().map(|node| node.transactions_final).min().unwrap_or(0),
                network.rss_mb(),
            );
        }
        std::thread::sleep(interval);
    }
    if network.failure().is_some() {
        // The load has nobody to go to.
        stop.store(true, Ordering::Relaxed);
    }
    if terminal {
        println!();
    }
}

/// Waits until everything offered is final on every node, as long as that makes progress.
fn drain(network: &impl Watched, counts: &LoadCounts, stop: &AtomicBool) {
    let submitted = counts.submitted.load(Ordering::Relaxed);
    let settled = || {
        let nodes = network.statuses(false);
        // A validator that was started again counts from there, and what was sent to it meanwhile is lost.
        let counted = |node: &NodeStatus| node.transactions_final >= submitted;
        (network.faults().is_some() || nodes.iter().all(counted))
            && nodes.iter().all(|node| node.durable_height == nodes[0].durable_height)
    };
    let began = Instant::now();
    while began.elapsed() < DRAIN_MAX && network.failure().is_none() && !settled() {
        // Who asked for an end gets one, though not before what is on its way had a chance.
        if stop.load(Ordering::Relaxed) && began.elapsed() > DRAIN_MAX / 5 {
            break;
        }
        std::thread::sleep(network.patience());
    }
}
