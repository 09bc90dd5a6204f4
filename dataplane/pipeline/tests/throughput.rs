//! Four validators on one thread: everything arrives everywhere, and where the time goes.
//!
//! `ROKO_PIPELINE_TXS=8000 cargo test --release -p roko-pipeline --test throughput -- --nocapture` measures; without
//! the variable a small run checks that nothing is lost. The pools of the test hold 8,192.

mod common;

use common::*;
use roko_pipeline::idle::Idle;
use roko_pipeline::metrics::Regime;
use roko_pipeline::order::OrderCommand;
use roko_pipeline::poll::PollLoop;
use roko_ring::mempool::{Limits, Span};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALIDATORS: u8 = 4;

#[test]
fn four_validators_on_one_thread_pool_everything() {
    let txs = std::env::var("ROKO_PIPELINE_TXS").map_or(500, |text| text.parse().expect("a number"));
    let wires = transfers(0..txs / 20, 0..20);
    let mut net = Net::new(VALIDATORS);
    let mut poll = PollLoop::new(core::mem::take(&mut net.stages), Idle::Spin, Arc::default());
    let (mut seen, began) = ([0; VALIDATORS as usize], Instant::now());
    let mut sent = 0;
    let verify_room =
        net.controls[0].gauges.iter().find(|gauge| gauge.name == "open_verify").unwrap().clone();
    while seen != [wires.len(); VALIDATORS as usize] {
        if sent < wires.len() && verify_room.depth() < 64 {
            let end = (sent + 20).min(wires.len());
            let refs: Vec<&[u8]> = wires[sent..end].iter().map(Vec::as_slice).collect();
            net.client.submit(sent / 20 % usize::from(VALIDATORS), &refs).expect("the port has room");
            sent = end;
        }
        poll.turn();
        for (control, seen) in net.controls.iter_mut().zip(&mut seen) {
            while control.seen.pop().is_some() {
                *seen += 1;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{seen:?} of {} arrived", wires.len());
    }
    let elapsed = began.elapsed();
    poll.keep_house();
    println!("{} transactions at {} validators in {elapsed:?}", wires.len(), VALIDATORS);
    println!(
        "{:.0} transactions/s, {:.1} us of core time each",
        wires.len() as f64 / elapsed.as_secs_f64(),
        elapsed.as_secs_f64() * 1e6 / wires.len() as f64
    );
    let ticks_of_ns = f64::from(2_u32).powi(32) / net.clock.read().nanos_per_tick_q32 as f64;
    for metrics in &net.controls[0].metrics {
        let ns = |regime| metrics.regime_ticks(regime) as f64 / ticks_of_ns / wires.len() as f64;
        println!(
            "{:8} processing {:8.0} ns/tx   caught up {:7.0}   backpressured {:6.0}   housekeeping {:5.0}",
            metrics.stage(),
            ns(Regime::Processing),
            ns(Regime::CaughtUp),
            ns(Regime::Backpressured),
            ns(Regime::Housekeeping)
        );
    }
    let span = Span { from: START, watermark: now(&net.clock), after: START };
    let limits = Limits { txs: 2_000, bytes: 1 << 20, gas: u64::MAX };
    let control = &mut net.controls[0];
    control.order.push(OrderCommand::Drain { tag: 1, span, limits }).expect("it has room");
    let began = Instant::now();
    let block = loop {
        poll.turn();
        if let Some(block) = control.built.pop() {
            break block;
        }
    };
    let (count, bytes) = (block.included().len(), block.body().len());
    println!("block of {count} transactions, {bytes} bytes, drained and built in {:?}", began.elapsed());
    assert_eq!(count, wires.len().min(2_000));
    let checked: u64 = net.controls.iter().map(|control| control.metrics[4].value("passed")).sum();
    assert_eq!(checked, 4 * wires.len() as u64, "every transaction is checked once by each");
}
