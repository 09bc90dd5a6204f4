//! What the figures were measured on, printed at the head of every bench.

use crate::two_threads::{cores, run_pinned};
use core::sync::atomic::{AtomicU64, Ordering};
use roko_os::tsc::tsc;
use std::fs::read_to_string;
use std::sync::Arc;

/// The first line of a file beneath `/proc` or `/sys`, if it has one.
fn line(path: &str) -> Option<String> {
    let text = read_to_string(path).ok()?;
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

/// Prints the fingerprint. `port` names the device that frames move through, or says that none do.
pub fn print(bench: &str, port: &str) {
    let kernel = line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    println!("bench {bench}, port: {port}");
    println!("  CPU {}{}, {} usable cores, Linux {kernel}", model(), hypervisor(), cores().len());
    println!("  compiled for: {}", features());
    println!("  {}; frequency governor {}; SMT {}", isolation(), governor(), smt());
    match round_trip_ns() {
        Some(ns) => {
            println!(
                "  core-to-core round trip {ns:.0} ns (median over 200 batches of 500, two pinned threads)"
            )
        }
        None => println!("  core-to-core round trip not measured: one usable core"),
    }
}

fn cpuinfo(key: &str) -> Option<String> {
    let text = read_to_string("/proc/cpuinfo").ok()?;
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

fn model() -> String {
    let name = cpuinfo("model name").unwrap_or_else(|| "unknown".into());
    match (cpuinfo("cpu family"), cpuinfo("model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name,
    }
}

fn hypervisor() -> &'static str {
    let flags = cpuinfo("flags").unwrap_or_default();
    if flags.split(' ').any(|flag| flag == "hypervisor") { " under a hypervisor" } else { "" }
}

/// The target features that decide the speed of what is measured here, as the compiler was told them.
fn features() -> String {
    let all = [
        ("avx2", cfg!(target_feature = "avx2")),
        ("bmi2", cfg!(target_feature = "bmi2")),
        ("aes", cfg!(target_feature = "aes")),
        ("sha", cfg!(target_feature = "sha")),
        ("vaes", cfg!(target_feature = "vaes")),
        ("avx512f", cfg!(target_feature = "avx512f")),
        ("avx512ifma", cfg!(target_feature = "avx512ifma")),
    ];
    let names: Vec<&str> = all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if names.is_empty() { "generic x86-64".into() } else { names.join(" ") }
}

/// Only the kernel can say that cores are isolated; a quiet machine is not a claim.
fn isolation() -> String {
    match line("/sys/devices/system/cpu/isolated") {
        Some(list) => format!("isolated cores: {list}"),
        None => "cores shared with the rest of the system (no isolcpus)".into(),
    }
}

fn governor() -> String {
    line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").unwrap_or_else(|| "not visible".into())
}

fn smt() -> &'static str {
    match line("/sys/devices/system/cpu/smt/active").as_deref() {
        Some("1") => "on",
        Some("0") => "off",
        _ => "not visible",
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
