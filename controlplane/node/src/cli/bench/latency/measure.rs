//! Where the durations come from: a devnet of this process with its own load, or nodes that run elsewhere.

use super::LatencyArgs;
use crate::bench::Named;
use crate::cli::devnet::{DRAIN_MAX, DevnetArgs, beside};
use crate::cli::{CliError, CliResult};
use crate::devnet::load::{Due, Loader};
use crate::devnet::{Devnet, Watched};
use crate::observe::latency::merged;
use crate::observe::status::NodeStatus;
use crate::top::{Source, TopError};
use crossbeam::channel::{Receiver, unbounded};
use roko_pipeline::histogram::Histogram;
use roko_services::api::BlockInfo;
use roko_wire::TxId;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// Between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(50);
/// How long the watcher of blocks waits for one before it looks whether it is over.
const BLOCK_WAIT: Duration = Duration::from_millis(200);

/// What was measured, and how.
pub(super) struct Measured {
    pub(super) port: String,
    pub(super) clock: String,
    pub(super) load: String,
    pub(super) seconds: f64,
    /// Transfers that were due while it was measured; 0 when somebody else offers them.
    pub(super) due: u64,
    /// Of these, how many never became final.
    pub(super) not_final: u64,
    /// In the order of the way.
    pub(super) points: Vec<Named>,
}

/// What the stages recorded from `before` to `after`.
fn between(before: &[NodeStatus], after: &[NodeStatus]) -> Vec<Named> {
    let before = merged(before);
    let point = |now: crate::observe::latency::Merged| {
        let then = before.iter().find(|then| (&then.stage, &then.since) == (&now.stage, &now.since));
        let histogram =
            then.map_or_else(|| now.histogram.clone(), |then| now.histogram.after(&then.histogram));
        Named { name: now.stage, since: now.since, histogram }
    };
    merged(after).into_iter().map(point).collect()
}

/// Runs a devnet, offers it a load on its data plane, and measures once it is warm.
pub(super) fn own(args: &LatencyArgs, net: &DevnetArgs) -> Result<Measured, CliError> {
    let mut measured = None;
    beside(net, |devnet, loader, stop| {
        measured = Some(run(args, devnet, loader, stop)?);
        Ok(())
    })?;
    measured.ok_or_else(|| CliError("the devnet ended before anything was measured".into()))
}

/// Waits until what was submitted is final everywhere, a while at most.
fn drain(devnet: &Devnet, submitted: u64, stop: &AtomicBool) {
    let all_final = || devnet.statuses(false).iter().all(|node| node.transactions_final >= submitted);
    let began = Instant::now();
    while !all_final() && began.elapsed() < DRAIN_MAX && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
    }
}

fn run(
    args: &LatencyArgs,
    devnet: &Devnet,
    mut loader: Loader,
    stop: &Arc<AtomicBool>,
) -> Result<Measured, CliError> {
    wait("the first final block", stop, || devnet.durable_height() > 0)?;
    let (told, dues) = unbounded();
    loader.tell_due(told);
    let counts = loader.counts();
    let blocks = devnet.nodes[0].observer.final_blocks.subscribe();
    let over = AtomicBool::new(false);
    let (rate, sending) = (args.rate, args.warm_up + args.length);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let finals = std::thread::scope(|scope| -> Result<_, CliError> {
        let finals = scope.spawn(|| final_times(blocks, &over));
        let load = scope.spawn(|| {
            let _ = roko_os::affinity::sharpen_timers();
            loader.run(rate, Some(sending), stop);
        });
        let mut told = began;
        while !load.is_finished() {
            std::thread::sleep(LOOK);
            if before.is_empty() && began.elapsed() >= args.warm_up {
                before = devnet.statuses(false);
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                eprintln!("{:>4.0} of {:.0} s", began.elapsed().as_secs_f64(), sending.as_secs_f64());
            }
        }
        drain(devnet, counts.submitted.load(Ordering::Relaxed), stop);
        // The stages publish what they recorded about once a millisecond.
        std::thread::sleep(LOOK);
        after = devnet.statuses(false);
        over.store(true, Ordering::Relaxed);
        finals.join().map_err(|_| CliError("the watcher of final blocks failed".into()))
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(CliError("stopped before the measurement was over".into()));
    }
    let bound = after.iter().map(|node| node.clock_error_bound_ns).max().unwrap_or(0);
    let (sent, last, due, not_final) = ends(&dues, &finals, (began + args.warm_up, Instant::now()));
    let mut points = vec![Named { name: "sent".into(), since: "due".into(), histogram: sent }];
    points.extend(between(&before, &after));
    points.push(Named { name: "final".into(), since: "due".into(), histogram: last });
    let stamped =
        devnet.nodes.iter().map(|node| node.stage_counter("rx", "hardware_stamped")).sum::<u64>() > 0;
    Ok(Measured {
        port: format!("{} (virtual)", devnet.port_kind),
        clock: format!(
            "host, untraceable, error bound {:.1} ms; receive times by {}",
            bound as f64 / 1e6,
            if stamped { "the port" } else { "the CPU's counter after each burst" }
        ),
        load: format!(
            "open loop, {} transfers a second to {} validators on their data planes; latency counts from when each was due",
            args.rate, args.validators
        ),
        seconds: args.length.as_secs_f64(),
        due,
        not_final,
        points,
    })
}

fn wait(what: &str, stop: &AtomicBool, done: impl Fn() -> bool) -> CliResult {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > DRAIN_MAX || stop.load(Ordering::Relaxed) {
            return Err(CliError(format!(
                "{what} did not come in {DRAIN_MAX:?}: run `roko devnet` and see why"
            )));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// When each transaction was final: its block was on the first validator's disk, and it said so.
fn final_times(mut blocks: broadcast::Receiver<Arc<BlockInfo>>, over: &AtomicBool) -> HashMap<TxId, Instant> {
    let mut finals = HashMap::new();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return finals;
    };
    while !over.load(Ordering::Relaxed) {
        let block = runtime.block_on(async { tokio::time::timeout(BLOCK_WAIT, blocks.recv()).await });
        let now = Instant::now();
        match block {
            Ok(Ok(block)) => finals.extend(block.transactions.iter().map(|id| (*id, now))),
            // Blocks that were missed show as transfers that did not become final, never as fast ones.
            Ok(Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => break,
        }
    }
    finals
}

/// From when each transfer was due until it was handed to the port, and until it was final; of those due from `from` on.
/// What is not final at `end` counts as long as it was waited for, so that what is lost makes no percentile better. Also how
/// many were due, and how many are not final.
fn ends(
    dues: &Receiver<Due>,
    finals: &HashMap<TxId, Instant>,
    (from, end): (Instant, Instant),
) -> (Histogram, Histogram, u64, u64) {
    let (mut sent, mut last, mut due, mut not_final) = (Histogram::default(), Histogram::default(), 0, 0);
    let nanos = |to: Instant, due: Instant| {
        u64::try_from(to.saturating_duration_since(due).as_nanos()).unwrap_or(u64::MAX)
    };
    for one in dues.try_iter().filter(|one| one.due >= from) {
        due += 1;
        sent.record(nanos(one.sent, one.due));
        let at = finals.get(&one.id);
        not_final += u64::from(at.is_none());
        last.record(nanos(*at.unwrap_or(&end), one.due));
    }
    (sent, last, due, not_final)
}

/// Watches nodes that run elsewhere, whatever they are offered.
pub(super) fn attached(args: &LatencyArgs) -> Result<Measured, CliError> {
    let in_words = |error: TopError| CliError(error.to_string());
    let sources: Result<Vec<Source>, TopError> =
        args.attach.iter().map(|text| Source::resolve(text)).collect();
    let sources = sources.map_err(in_words)?;
    let ask = || -> Result<Vec<NodeStatus>, CliError> {
        let answers: Result<Vec<_>, TopError> = sources.iter().map(Source::ask).collect();
        Ok(answers.map_err(in_words)?.into_iter().flat_map(|answer| answer.nodes).collect())
    };
    let (before, began) = (ask()?, Instant::now());
    std::thread::sleep(args.length);
    let after = ask()?;
    let mut ports: Vec<&str> = after.iter().map(|node| node.port.as_str()).collect();
    ports.dedup();
    let bound = after.iter().map(|node| node.clock_error_bound_ns).max().unwrap_or(0);
    Ok(Measured {
        port: ports.join(", "),
        clock: format!(
            "as the nodes tell: error bound at most {:.1} ms, {:?}",
            bound as f64 / 1e6,
            after.first().map(|node| node.clock_state)
        ),
        load: format!(
            "{} nodes watched, nothing sent to them; the machine above is the one that watched",
            after.len()
        ),
        seconds: began.elapsed().as_secs_f64(),
        due: 0,
        not_final: 0,
        points: between(&before, &after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_transfer_was_due_and_what_is_lost_is_told() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let (tell, dues) = unbounded();
        // A sender that stalled for 50 ms hands four of them over at once; the first is from the warm-up.
        for (number, due) in [0, 10, 20, 30, 40].into_iter().enumerate() {
            let id = TxId([number as u8; 32]);
            tell.send(Due { id, due: at(due), sent: at(60) }).expect("the other end is here");
        }
        let finals = (0..4).map(|number| (TxId([number; 32]), at(70))).collect();
        let (sent, last, due, not_final) = ends(&dues, &finals, (at(10), at(1_000)));
        assert_eq!((due, not_final), (4, 1));
        assert_eq!((sent.count(), sent.max_ns()), (4, 50_000_000));
        // The one that was lost was waited for from 40 ms to 1 s.
        assert_eq!((last.count(), last.max_ns(), last.sum_ns()), (4, 960_000_000, 1_110_000_000));
    }
}
