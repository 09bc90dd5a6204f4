//! The live view: a page in the terminal, drawn again four times a second.

use super::Watched;
use super::load::LoadCounts;
use super::report::dropped;
use crate::observe::FinalityTimes;
use crate::observe::status::NodeStatus;
use roko_pipeline::metrics::Regime;
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
    spent_before: Vec<[u64; 4]>,
    drawn_at: Option<Instant>,
}

impl Live {
    /// The page as text, lines ending in a newline.
    #[must_use]
    pub fn page(&mut self, network: &impl Watched, counts: &LoadCounts, rate: u64) -> String {
        let nodes = network.statuses(false);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.chain(&mut out, network, &nodes, counts, rate);
        let _ = finality(&mut out, &nodes);
        let _ = table(&mut out, &nodes);
        let _ = self.regimes(&mut out, &nodes);
        let _ = refusals(&mut out, &nodes);
        out
    }

    fn chain(
        &mut self,
        out: &mut String,
        network: &impl Watched,
        nodes: &[NodeStatus],
        counts: &LoadCounts,
        offered: u64,
    ) -> std::fmt::Result {
        let final_txs = nodes.iter().map(|node| node.transactions_final).max().unwrap_or(0);
        let rate = self.rate(final_txs);
        let processes = match network.processes() {
            1 => String::new(),
            count => format!(" in {count} processes"),
        };
        writeln!(
            out,
            "ROKO devnet   {} validators{processes}   port {} (virtual)   up {:.0} s   {} MiB",
            nodes.len(),
            network.port_kind(),
            network.started().elapsed().as_secs_f64(),
            network.rss_mb(),
        )?;
        if let Some(worst) = nodes.iter().max_by_key(|node| node.clock_error_bound_ns) {
            writeln!(
                out,
                "clock         {}   error bound {:.1} ms   {:?}   receive stamps: {}",
                worst.detail.time.source,
                worst.clock_error_bound_ns as f64 / 1e6,
                worst.clock_state,
                worst.detail.time.rx_stamps,
            )?;
        }
        let submitted = counts.submitted.load(Ordering::Relaxed);
        writeln!(
            out,
            "transactions  {submitted} offered at {offered}/s   {final_txs} final   {rate:.0} final/s   forks {}",
            network.forks(),
        )
    }

    fn rate(&mut self, final_txs: u64) -> f64 {
        let now = Instant::now();
        self.finals.push_back((now, final_txs));
        while self.finals.len() > 2 && self.finals.front().is_some_and(|(at, _)| now - *at > RATE_SPAN) {
            self.finals.pop_front();
        }
        let Some((at, before)) = self.finals.front() else { return 0.0 };
        final_txs.saturating_sub(*before) as f64 / (now - *at).as_secs_f64().max(0.001)
    }

    /// One bar a stage: how the stages' time was spent since the last drawing, all validators together.
    fn regimes(&mut self, out: &mut String, nodes: &[NodeStatus]) -> std::fmt::Result {
        let Some(first) = nodes.first() else { return Ok(()) };
        writeln!(
            out,
            "\nstage      share of a core: # processing  ! backpressured  h housekeeping  . caught up or idle"
        )?;
        let since = self.drawn_at.replace(Instant::now()).map_or(Duration::ZERO, |at| at.elapsed());
        self.spent_before.resize(first.stages.len(), [0; 4]);
        for (place, stage) in first.stages.iter().enumerate() {
            let mut all = [0u64; 4];
            for of_node in nodes.iter().filter_map(|node| node.stages.get(place)) {
                all.iter_mut().zip(of_node.regime_ns).for_each(|(sum, one)| *sum += one);
            }
            let before = std::mem::replace(&mut self.spent_before[place], all);
            let spent: Vec<u64> =
                all.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
            writeln!(out, "{:<10} [{}]", stage.stage, bar(&spent, since.as_nanos() as u64))?;
        }
        Ok(())
    }
}

/// A bar of [`BAR`] characters, the whole being the time that went by; a regime that took any time shows at least one.
pub(crate) fn bar(spent: &[u64], wall_ns: u64) -> String {
    let total: u64 = spent.iter().sum::<u64>().max(wall_ns).max(1);
    let share = |regime: Regime| {
        let nanos = spent[regime as usize];
        let chars = (nanos as u128 * BAR as u128 / u128::from(total)) as usize;
        if nanos > total / 200 { chars.max(1) } else { chars }
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

fn finality(out: &mut String, nodes: &[NodeStatus]) -> std::fmt::Result {
    let mut times = FinalityTimes::default();
    nodes.iter().for_each(|node| times.merge(&node.finality));
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

fn table(out: &mut String, nodes: &[NodeStatus]) -> std::fmt::Result {
    writeln!(out, "\nvalidator     final height      view   pool waiting   in flight")?;
    for node in nodes {
        writeln!(
            out,
            "{:<14}{:>12}{:>10}{:>15}{:>12}   {}",
            node.name,
            node.durable_height,
            node.view,
            node.pool_pending,
            node.pool_in_flight,
            node.problem.as_deref().unwrap_or_default(),
        )?;
    }
    Ok(())
}

fn refusals(out: &mut String, nodes: &[NodeStatus]) -> std::fmt::Result {
    let dropped = dropped(nodes);
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
