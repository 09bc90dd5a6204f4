//! The page: nodes first, then for each process its threads and rings, then peers and views as one node knows them.

use super::past::{Past, Rates};
use super::source::{Answer, TopError};
use super::{consensus, load};
use crate::observe::status::NodeStatus;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Width of a catch-up bar, characters.
const CATCHUP_BAR: u64 = 24;

/// A node's answer with what it means a second.
pub(super) struct Seen<'a> {
    pub(super) node: &'a NodeStatus,
    pub(super) rates: Rates,
    /// The deepest that each ring was seen.
    pub(super) deepest: Vec<u64>,
}

/// The page and what it remembers between two drawings.
#[derive(Debug)]
pub struct Page {
    node: Option<String>,
    whole: bool,
    pasts: HashMap<(SocketAddr, String), Past>,
}

impl Page {
    /// A page of all nodes, or of the one named `node`. A `whole` page leaves nothing out; another one, which is drawn
    /// again and again, leaves out rings that were always empty, and older views.
    #[must_use]
    pub fn new(node: Option<String>, whole: bool) -> Page {
        Page { node, whole, pasts: HashMap::new() }
    }

    /// The page as text, lines ending in a newline.
    ///
    /// # Errors
    /// When it is to show one node and nobody who answers has it.
    pub fn draw(&mut self, answers: &[Result<Answer, TopError>]) -> Result<String, TopError> {
        let mut processes: Vec<(SocketAddr, Vec<Seen<'_>>)> = Vec::new();
        for answer in answers.iter().flatten() {
            let wanted = |node: &&NodeStatus| self.node.as_ref().is_none_or(|name| *name == node.name);
            let nodes = answer.nodes.iter().filter(wanted);
            let pasts = &mut self.pasts;
            let seen: Vec<Seen<'_>> = nodes
                .map(|node| {
                    let past = pasts.entry((answer.address, node.name.clone())).or_default();
                    let rates = past.add(node);
                    Seen { node, rates, deepest: past.deepest.clone() }
                })
                .collect();
            if !seen.is_empty() {
                processes.push((answer.address, seen));
            }
        }
        if let Some(name) = self.node.as_ref().filter(|_| processes.is_empty() && answers.iter().all(Result::is_ok)) {
            let all = answers.iter().flatten().flat_map(|answer| &answer.nodes);
            let known: Vec<&str> = all.map(|node| node.name.as_str()).collect();
            return Err(TopError::NoNode { name: name.clone(), known: known.join(", ") });
        }
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, answers, &processes);
        Ok(out)
    }

    fn write(
        &self,
        out: &mut String,
        answers: &[Result<Answer, TopError>],
        processes: &[(SocketAddr, Vec<Seen<'_>>)],
    ) -> std::fmt::Result {
        nodes(out, processes)?;
        for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            writeln!(out, "{error}")?;
        }
        for (address, seen) in processes {
            load::threads(out, *address, seen)?;
            load::rings(out, seen, self.whole)?;
        }
        for (_, seen) in processes {
            // What one node knows of the others is much like what the next one knows.
            if let Some(first) = seen.first() {
                let others = (seen.len() > 1).then_some("; --node shows another node's");
                consensus::peers(out, first, others.unwrap_or_default())?;
                consensus::views(out, first, self.whole)?;
            }
        }
        Ok(())
    }
}

fn nodes(out: &mut String, processes: &[(SocketAddr, Vec<Seen<'_>>)]) -> std::fmt::Result {
    writeln!(
        out,
        "{:<16}{:<10}{:>9}{:>10}{:>9}{:>11}{:>8}{:>10}{:>12}{:>12}{:>11}{:>7}",
        "node", "kind", "height", "blocks/s", "view", "final tx/s", "pool", "in flight", "frames in/s", "out/s",
        "clock +-ms", "MiB",
    )?;
    for seen in processes.iter().flat_map(|(_, seen)| seen) {
        let (node, rates) = (seen.node, &seen.rates);
        let rate = |value: f64| if rates.span_ns == 0 { "-".to_owned() } else { format!("{value:.1}") };
        writeln!(
            out,
            "{:<16}{:<10}{:>9}{:>10}{:>9}{:>11}{:>8}{:>10}{:>12}{:>12}{:>11.3}{:>7}",
            node.name,
            if node.detail.kind.is_empty() { "-" } else { &node.detail.kind },
            node.durable_height,
            rate(rates.blocks),
            node.view,
            rate(rates.transactions),
            node.pool_pending,
            node.pool_in_flight,
            rate(rates.frames_received),
            rate(rates.frames_sent),
            node.clock_error_bound_ns as f64 / 1e6,
            node.rss_mb,
        )?;
        catchup(out, seen)?;
        if let Some(problem) = &node.problem {
            writeln!(out, "  problem: {problem}")?;
        }
    }
    Ok(())
}

/// How far a node that is behind has come.
fn catchup(out: &mut String, seen: &Seen<'_>) -> std::fmt::Result {
    let Some(fetch) = seen.node.detail.catchup else { return Ok(()) };
    let done = fetch.height.min(fetch.target);
    let filled = (u128::from(done) * u128::from(CATCHUP_BAR) / u128::from(fetch.target.max(1))) as usize;
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(CATCHUP_BAR as usize - filled));
    let left = fetch.target - done;
    write!(out, "  catching up [{bar}] {done} of {} blocks, {left} to fetch", fetch.target)?;
    if seen.rates.blocks >= 1.0 {
        write!(out, " at {:.0}/s: {:.0} s", seen.rates.blocks, left as f64 / seen.rates.blocks)?;
    }
    writeln!(out)
}
