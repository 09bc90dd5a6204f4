//! The poll threads of a devnet in this process, watched while transfers are offered.

use super::{CoreGaps, JitterArgs, LOOK, PROGRESS, settle};
use crate::cli::CliError;
use crate::cli::devnet::{DevnetArgs, beside};
use crate::jitter::Tap;
use roko_tuning::jitter::Ledger;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Validators of the devnet.
const VALIDATORS: u16 = 4;

/// Runs it for as long as is asked, and makes a ledger for each poll thread.
pub(super) fn measure(args: &JitterArgs, load: u64) -> Result<Vec<(Ledger, CoreGaps)>, CliError> {
    let above_ns = args.above_us * 1_000;
    let tap = Arc::new(Tap::new(above_ns));
    let mut devnet = DevnetArgs::plain(VALIDATORS, &args.profile.profile, false)?;
    devnet.tap = Some(Arc::clone(&tap));
    beside(&devnet, |_, loader, stop| {
        std::thread::scope(|scope| {
            let length = args.length;
            let offering = scope.spawn(move || loader.run(load, Some(length), stop));
            let (began, mut told) = (Instant::now(), Instant::now());
            while !offering.is_finished() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK.min(Duration::from_millis(50)));
                let counts = tap.drain();
                if told.elapsed() >= PROGRESS {
                    told = Instant::now();
                    let counts: Vec<String> =
                        counts.iter().map(|(name, gaps)| format!("poll-{name} {gaps} gaps")).collect();
                    let (now, all) = (began.elapsed().as_secs_f64(), length.as_secs_f64());
                    eprintln!("{now:.0} of {all:.0} s   {}", counts.join("  "));
                }
            }
        });
        Ok(())
    })?;
    let threads = tap.take().into_iter().map(|thread| {
        let watched =
            thread.watched.map_err(|why| CliError(format!("watching poll-{}: {why}", thread.name)))?;
        let mut ledger = Ledger::new(thread.core, above_ns);
        thread.gaps.iter().for_each(|gap| ledger.add(gap.cause, gap.evidence.gap_ns));
        settle(&mut ledger, watched, &thread.gaps);
        let ns_per_tick = tap.rate().ns_per_tick;
        Ok((ledger, CoreGaps { core: thread.core, ns_per_tick, gaps: thread.gaps }))
    });
    threads.collect()
}
