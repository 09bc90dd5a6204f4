//! Threads and rings of a process: how full each is.

use super::page::Seen;
use crate::devnet::live::bar;
use crate::observe::status::detail::{LaneStatus, RingStatus};
use roko_pipeline::metrics::Regime;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// A poll thread with its stages' time, all nodes of the process together: they share it.
struct Thread {
    name: String,
    core: Option<u32>,
    stages: Vec<(String, [u64; 4])>,
}

/// One bar a poll thread and one a stage.
pub(super) fn threads(out: &mut String, address: SocketAddr, seen: &[Seen<'_>]) -> std::fmt::Result {
    let span_ns = seen.iter().map(|seen| seen.rates.span_ns).max().unwrap_or(0);
    let threads = by_thread(seen);
    if threads.is_empty() {
        return writeln!(out, "\n{address}: no poll threads: a full node has no data plane");
    }
    writeln!(
        out,
        "\n{:<28}core   share of a core over {:.1} s: # processing  ! backpressured  h housekeeping  . the rest",
        format!("threads at {address}"),
        span_ns as f64 / 1e9,
    )?;
    for thread in threads {
        let mut all = [0; 4];
        for (_, spent) in &thread.stages {
            all.iter_mut().zip(spent).for_each(|(sum, one)| *sum += one);
        }
        let core = thread.core.map_or("any".to_owned(), |core| core.to_string());
        writeln!(out, "poll-{:<23}{core:<6} [{}] {}", thread.name, bar(&all, span_ns), busy(&all, span_ns))?;
        for (stage, spent) in &thread.stages {
            writeln!(out, "  {stage:<32} [{}] {}", bar(spent, span_ns), busy(spent, span_ns))?;
        }
    }
    Ok(())
}

fn by_thread(seen: &[Seen<'_>]) -> Vec<Thread> {
    let mut threads: Vec<Thread> = Vec::new();
    for seen in seen {
        for (place, stage) in seen.node.stages.iter().enumerate() {
            let spent = seen.rates.stages.get(place).copied().unwrap_or_default();
            let known = threads.iter().position(|thread| thread.name == stage.thread);
            let at = known.unwrap_or_else(|| {
                threads.push(Thread { name: stage.thread.clone(), core: stage.core, stages: Vec::new() });
                threads.len() - 1
            });
            let stages = &mut threads[at].stages;
            match stages.iter_mut().find(|(name, _)| *name == stage.stage) {
                Some((_, sum)) => sum.iter_mut().zip(spent).for_each(|(sum, one)| *sum += one),
                None => stages.push((stage.stage.clone(), spent)),
            }
        }
    }
    threads
}

/// The share of the time that was not idle, in words.
fn busy(spent: &[u64; 4], span_ns: u64) -> String {
    if span_ns == 0 {
        return "-".into();
    }
    let share = |regime: Regime| spent[regime as usize] as f64 * 100.0 / span_ns as f64;
    let mut text = format!("{:>5.1} %", share(Regime::Processing));
    if spent[Regime::Backpressured as usize] > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, ", held up {:.1} %", share(Regime::Backpressured));
    }
    text
}

/// How frames and transactions are spread over the lanes since the start, all nodes together; nothing where there is one.
pub(super) fn lanes(out: &mut String, seen: &[Seen<'_>]) -> std::fmt::Result {
    let Some(first) = seen.first().filter(|seen| !seen.node.detail.lanes.is_empty()) else { return Ok(()) };
    writeln!(
        out,
        "\n{:<6}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "lane", "received", "crossed", "dropped", "opened", "verified"
    )?;
    for lane in &first.node.detail.lanes {
        let all =
            seen.iter().flat_map(|seen| &seen.node.detail.lanes).filter(|other| other.lane == lane.lane);
        let sum = |of: fn(&LaneStatus) -> u64| all.clone().map(of).sum::<u64>();
        let counts = [
            sum(|lane| lane.received),
            sum(|lane| lane.crossed),
            sum(|lane| lane.dropped),
            sum(|lane| lane.opened),
            sum(|lane| lane.verified),
        ];
        write!(out, "{:<6}", lane.lane)?;
        counts.iter().try_for_each(|count| write!(out, "{count:>12}"))?;
        writeln!(out)?;
    }
    Ok(())
}

/// Every ring: the deepest of all nodes' and the sum of what was lost. Unless the page is `whole`, rings that were never
/// seen with an item and lost none are only counted.
pub(super) fn rings(out: &mut String, seen: &[Seen<'_>], whole: bool) -> std::fmt::Result {
    let Some(first) = seen.first().filter(|seen| !seen.node.detail.rings.is_empty()) else { return Ok(()) };
    writeln!(
        out,
        "\n{:<23}{:<20}{:>7}{:>9}{:>10}  {:<14}{:>10}{:>9}",
        "ring", "way", "depth", "deepest", "capacity", "when full", "overruns", "/s"
    )?;
    let mut quiet = 0;
    for (place, ring) in first.node.detail.rings.iter().enumerate() {
        let same = |seen: &Seen<'_>| seen.node.detail.rings.get(place).map_or(0, |ring| ring.depth);
        let depth = seen.iter().map(same).max().unwrap_or(0);
        let deepest = seen.iter().filter_map(|seen| seen.deepest.get(place)).max().copied().unwrap_or(0);
        let lost = |seen: &Seen<'_>| seen.node.detail.rings.get(place).and_then(|ring| ring.overruns);
        let overruns = ring.overruns.map(|_| seen.iter().filter_map(lost).sum::<u64>());
        if !whole && deepest == 0 && overruns.unwrap_or(0) == 0 {
            quiet += 1;
            continue;
        }
        let rate: f64 = seen.iter().filter_map(|seen| seen.rates.overruns.get(place)).sum();
        row(out, ring, depth, deepest, overruns, rate)?;
    }
    if quiet > 0 {
        writeln!(out, "{quiet} more rings, empty whenever they were looked at and without overruns")?;
    }
    Ok(())
}

fn row(
    out: &mut String,
    ring: &RingStatus,
    depth: u64,
    deepest: u64,
    overruns: Option<u64>,
    rate: f64,
) -> std::fmt::Result {
    let (count, rate) = match overruns {
        Some(count) => (count.to_string(), format!("{rate:.1}")),
        None => ("-".into(), "-".into()),
    };
    writeln!(
        out,
        "{:<23}{:<20}{depth:>7}{deepest:>9}{:>10}  {:<14}{count:>10}{rate:>9}",
        ring.name, ring.way, ring.capacity, ring.when_full,
    )
}
