//! What the figures were measured on, printed at the head of every bench.

use crate::two_threads::{cores, run_pinned};
use core::sync::atomic::{AtomicU64, Ordering};
use roko_os::tsc::tsc;
use roko_tuning::{Fingerprint, Tree};
use std::sync::Arc;

/// Prints the fingerprint. `port` names the device that frames move through, or says that none do.
pub fn print(bench: &str, port: &str) {
    println!("bench {bench}, port: {port}");
    let machine = Fingerprint::of(&Tree::host(), cores().len()).to_string();
    machine.lines().for_each(|line| println!("  {line}"));
    match round_trip_ns() {
        Some(ns) => {
            println!(
                "  core-to-core round trip {ns:.0} ns (median over 200 batches of 500, two pinned threads)"
            )
        }
        None => println!("  core-to-core round trip not measured: one usable core"),
    }
}

/// A number thrown to the other core and back: the floor beneath every hand-over between two threads.
fn round_trip_ns() -> Option<f64> {
    const BATCHES: usize = 200;
    const TRIPS: u64 = 500;
    let ball = Arc::new(AtomicU64::new(0));
    let other = Arc::clone(&ball);
    let wait = |ball: &AtomicU64, value: u64| {
        while ball.load(Ordering::Acquire) != value {
            core::hint::spin_loop();
        }
    };
    let last = 2 * TRIPS * BATCHES as u64;
    let (mut batches, ()) = run_pinned(
        move || {
            let (mut at, mut batches, began) = (0, Vec::with_capacity(BATCHES), std::time::Instant::now());
            let first_tick = tsc();
            for _ in 0..BATCHES {
                let start = tsc();
                for _ in 0..TRIPS {
                    ball.store(at + 1, Ordering::Release);
                    at += 2;
                    wait(&ball, at);
                }
                batches.push((tsc() - start) as f64 / TRIPS as f64);
            }
            let ns_per_tick = began.elapsed().as_nanos() as f64 / (tsc() - first_tick) as f64;
            batches.iter_mut().for_each(|batch| *batch *= ns_per_tick);
            batches
        },
        move || {
            for at in (0..last).step_by(2) {
                wait(&other, at + 1);
                other.store(at + 2, Ordering::Release);
            }
        },
    )?;
    batches.sort_by(f64::total_cmp);
    Some(batches[BATCHES / 2])
}
