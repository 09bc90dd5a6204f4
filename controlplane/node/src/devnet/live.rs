//! The live view: a page in the terminal, drawn again four times a second.

use super::Devnet;
use super::load::LoadCounts;
use super::report::rss_mb;
use crate::observe::FinalityTimes;
use roko_pipeline::metrics::Regime;
use roko_services::NodeApi;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Width of a regime bar, characters.
const BAR: usize = 40;
/// Span over which the rate is taken.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// What the view remembers between two drawings.
#[derive(Default)]
pub struct Live {
    finals: VecDeque<(Instant, u64)>,
    ticks_before: Vec<[u64; 4]>,
    drawn_at: Option<Instant>,
}

impl Live {
    /// The page as text, lines ending in a newline.
    #[must_use]
    pub fn page(&mut self, devnet: &Devnet, counts: &LoadCounts, rate: u64) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.chain(&mut out, devnet, counts, rate);
        let _ = finality(&mut out, devnet);
        let _ = nodes(&mut out, devnet);
        let _ = self.regimes(&mut out, devnet);
        let _ = dropped(&mut out, devnet);
        out
    }

    fn chain(
        &mut self,
        out: &mut String,
        devnet: &Devnet,
        counts: &LoadCounts,
        offered: u64,
    ) -> std::fmt::Result {
        let final_txs =
            devnet.nodes.iter().map(|n| n.observer.progress(|p| p.transactions_final)).max().unwrap_or(0);
        let rate = self.rate(final_txs);
        let reading = devnet.clock.now();
        writeln!(
            out,
            "ROKO devnet   {} validators   port {} (virtual)   up {:.0} s   {} MiB",
            devnet.nodes.len(),
            devnet.port_kind,
            devnet.started.elapsed().as_secs_f64(),
            rss_mb(),
        )?;
        writeln!(
            out,
            "clock         host, untraceable   error bound {:.1} ms   {:?}",
            reading.error_bound_ns as f64 / 1e6,
            reading.state,
        )?;
        let submitted = counts.submitted.load(Ordering::Relaxed);
        writeln!(
            out,
            "transactions  {submitted} offered at {offered}/s   {final_txs} final   {rate:.0} final/s   forks {}",
            devnet.forks(),
        )
    }

    fn rate(&mut self, final_txs: u64) -> f64 {
        let now = Instant::now();
        self.finals.push_back((now, final_txs));
        while self.finals.len() > 2 && self.finals.front().is_some_and(|(at, _)| now - *at > RATE_SPAN) {
            self.finals.pop_front();
        }
        let Some((at, before)) = self.finals.front() else { return 0.0 };
        (final_txs - before) as f64 / (now - *at).as_secs_f64().max(0.001)
    }

    /// One bar a stage: how the stages' time was spent since the last drawing, all validators together.
    fn regimes(&mut self, out: &mut String, devnet: &Devnet) -> std::fmt::Result {
        let Some(first) = devnet.nodes.first() else { return Ok(()) };
        writeln!(
            out,
            "\nstage      share of a core: # processing  ! backpressured  h housekeeping  . caught up or idle"
        )?;
        let stages = first.data_plane.stages.len();
        let since = self.drawn_at.replace(Instant::now()).map_or(Duration::ZERO, |at| at.elapsed());
        let per_tick = devnet.clock.map().nanos_per_tick_q32.max(1);
        let wall_ticks = ((since.as_nanos() << 32) / u128::from(per_tick)) as u64;
        self.ticks_before.resize(stages, [0; 4]);
        for place in 0..stages {
            let mut ticks = [0u64; 4];
            for node in &devnet.nodes {
                if let Some(stage) = node.data_plane.stages.get(place) {
                    let all =
                        [Regime::CaughtUp, Regime::Processing, Regime::Backpressured, Regime::Housekeeping];
                    all.iter().for_each(|regime| ticks[*regime as usize] += stage.regime_ticks(*regime));
                }
            }
            let before = std::mem::replace(&mut self.ticks_before[place], ticks);
            let spent: Vec<u64> =
                ticks.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
            writeln!(out, "{:<10} [{}]", first.data_plane.stages[place].stage(), bar(&spent, wall_ticks))?;
        }
        Ok(())
    }
}

/// A bar of [`BAR`] characters, the whole being the time that went by; a regime that took any time shows at least one.
fn bar(spent: &[u64], wall_ticks: u64) -> String {
    let total: u64 = spent.iter().sum::<u64>().max(wall_ticks).max(1);
    let share = |regime: Regime| {
        let ticks = spent[regime as usize];
        let chars = (ticks as u128 * BAR as u128 / u128::from(total)) as usize;
        if ticks > total / 200 { chars.max(1) } else { chars }
    };
    let mut bar = String::new();
    for (regime, mark) in
        [(Regime::Processing, '#'), (Regime::Backpressured, '!'), (Regime::Housekeeping, 'h')]
    {
        bar.extend(std::iter::repeat_n(mark, share(regime)));
    }
    bar.truncate(BAR);
    format!("{bar:.<BAR$}")
}

fn finality(out: &mut String, devnet: &Devnet) -> std::fmt::Result {
    let mut times = FinalityTimes::default();
    devnet.nodes.iter().for_each(|node| node.observer.progress(|progress| times.merge(&progress.finality)));
    let ms = |nanos: Option<u64>| nanos.map_or("-".to_owned(), |nanos| format!("{:.1}", nanos as f64 / 1e6));
    let total = times.total.summary();
    writeln!(
        out,
        "finality      p50 {} ms   p99 {} ms   (stamp to commit)",
        ms(total.p50_ns),
        ms(total.p99_ns)
    )?;
    write!(out, "  parts, p50 ")?;
    for (name, part) in [
        ("watermark", &times.watermark_wait),
        ("pacing", &times.pacing),
        ("propose", &times.propose),
        ("sync", &times.sync),
        ("votes", &times.votes),
    ] {
        write!(out, " {name} {}", ms(part.summary().p50_ns))?;
    }
    writeln!(out, " ms")
}

fn nodes(out: &mut String, devnet: &Devnet) -> std::fmt::Result {
    writeln!(out, "\nvalidator     final height      view   pool waiting   in flight")?;
    for node in &devnet.nodes {
        let pool = node.queue_stats().mempool;
        writeln!(
            out,
            "{:<14}{:>12}{:>10}{:>15}{:>12}   {}",
            node.observer.name,
            node.observer.durable_height().0,
            node.observer.view().0,
            pool.pending,
            pool.in_flight,
            node.observer.problem().unwrap_or_default(),
        )?;
    }
    Ok(())
}

fn dropped(out: &mut String, devnet: &Devnet) -> std::fmt::Result {
    let dropped = devnet.dropped();
    let all: Vec<String> = dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    writeln!(out, "\nrefused or dropped: {}", if all.is_empty() { "nothing".into() } else { all.join("   ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_and_shows_small_regimes() {
        let bar_of = |caught, processing, backpressured, housekeeping| {
            let mut spent = [0; 4];
            spent[Regime::CaughtUp as usize] = caught;
            spent[Regime::Processing as usize] = processing;
            spent[Regime::Backpressured as usize] = backpressured;
            spent[Regime::Housekeeping as usize] = housekeeping;
            bar(&spent, 0)
        };
        assert_eq!(bar_of(0, 0, 0, 0), ".".repeat(BAR));
        assert_eq!(bar_of(50, 50, 0, 0), format!("{}{}", "#".repeat(BAR / 2), ".".repeat(BAR / 2)));
        assert_eq!(bar_of(980, 0, 10, 10), format!("!h{}", ".".repeat(BAR - 2)));
        assert_eq!(bar_of(0, 7, 7, 7).len(), BAR);
    }
}
