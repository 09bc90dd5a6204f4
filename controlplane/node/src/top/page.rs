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
    /// Where it was asked.
    pub(super) address: SocketAddr,
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
                    Seen { address: answer.address, node, rates, deepest: past.deepest.clone() }
                })
                .collect();
            if !seen.is_empty() {
                processes.push((answer.address, seen));
            }
        }
        if let Some(name) =
            self.node.as_ref().filter(|_| processes.is_empty() && answers.iter().all(Result::is_ok))
        {
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
            times(out, seen)?;
            load::threads(out, *address, seen)?;
            load::lanes(out, seen)?;
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
        "node",
        "kind",
        "height",
        "blocks/s",
        "view",
        "final tx/s",
        "pool",
        "in flight",
        "frames in/s",
        "out/s",
        "clock +-ms",
        "MiB",
    )?;
    for (place, seen) in processes.iter().flat_map(|(_, seen)| seen.iter().enumerate()) {
        if place == 0 && processes.len() > 1 {
            writeln!(out, "at {}", seen.address)?;
        }
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

/// Where the times of a process' nodes come from: one line, as they share a clock and are of one kind.
fn times(out: &mut String, seen: &[Seen<'_>]) -> std::fmt::Result {
    let all = || seen.iter().map(|seen| &seen.node.detail.time);
    let Some(first) = all().next().filter(|time| !time.source.is_empty()) else { return Ok(()) };
    for seen in seen.iter().filter(|seen| seen.node.detail.link_up == Some(false)) {
        writeln!(out, "{}: the port's link is DOWN", seen.node.name)?;
    }
    write!(out, "time: {}; receive stamps: {}", first.source, first.rx_stamps)?;
    let bound_ns = all().map(|time| time.stamp_bound_ns).max().unwrap_or(0);
    if bound_ns > 0 {
        write!(out, ", +-{:.3} ms", bound_ns as f64 / 1e6)?;
    }
    if let Some(port) = &first.port_clock {
        write!(out, "; the port's clock {:?}, {} ns off its map", port.state, port.offset_ns)?;
    }
    let refused: u64 = all().map(|time| time.stamps_refused).sum();
    if refused > 0 {
        write!(out, "; {refused} stamps refused")?;
    }
    writeln!(out)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::peers::PeerStatus;
    use crate::observe::status::detail::{CatchupStatus, LaneStatus, RingStatus};
    use crate::observe::views::{BallotStatus, CountedVote, ViewStatus};
    use serde_json::json;

    /// A node as one of an older version tells it: without any detail.
    fn older(name: &str) -> NodeStatus {
        let none = json!({ "all": [], "recent": [], "sum_ns": 0 });
        let finality = json!({ "total": none, "watermark_wait": none, "pacing": none, "propose": none, "sync": none,
            "votes": none });
        serde_json::from_value(json!({ "name": name, "port": "net_ring", "view": 7, "durable_height": 1_000,
            "transactions_final": 500, "blocks_final": 6, "abandoned_blocks": 0, "final_ids_from": 1, "final_ids": [],
            "pool_pending": 0, "pool_in_flight": 0, "finality": finality, "block_time": none, "commit_sync": none,
            "wire_to_mempool": none, "drops": {}, "problem": null, "clock_error_bound_ns": 9, "rss_mb": 5,
            "stages": [{ "stage": "rx", "regime_ns": [0, 0, 0, 0] }], "clock_state": "converged", "audit": null }))
        .expect("a status")
    }

    fn ring(name: &str, depth: u64, overruns: Option<u64>) -> RingStatus {
        RingStatus { name: name.into(), depth, capacity: 512, overruns, ..RingStatus::default() }
    }

    /// The same node at `clock_ns`, in some trouble.
    fn troubled(clock_ns: u64, blocks: u64) -> NodeStatus {
        let mut node = older("validator-0");
        node.durable_height += blocks;
        node.stages[0].regime_ns = [0, clock_ns / 2, 0, 0];
        node.problem = Some("not voting: the disk is full".into());
        node.detail.clock_ns = clock_ns;
        node.detail.index = Some(0);
        node.detail.catchup = Some(CatchupStatus { height: 1_000 + blocks, target: 4_000 });
        node.detail.lanes =
            (0..2).map(|lane| LaneStatus { lane, opened: 7, ..LaneStatus::default() }).collect();
        node.detail.rings =
            vec![ring("idle", 0, Some(0)), ring("lossy", 3, Some(blocks)), ring("held", 0, None)];
        node.detail.peers = (1..12)
            .map(|index| PeerStatus {
                index,
                messages: 10 * blocks,
                round_trip_ns: Some(250_000),
                ..PeerStatus::default()
            })
            .collect();
        let counted =
            (0..10).map(|signer| CountedVote { signer, after_ns: Some(i64::from(signer) * 1_000_000) });
        let ballot = BallotStatus { ballot: "notarize".into(), block: None, counted: counted.collect() };
        node.detail.views =
            vec![ViewStatus { view: 7, leader: Some(3), ballots: vec![ballot], ..ViewStatus::default() }];
        node
    }

    fn answer(node: NodeStatus) -> Vec<Result<Answer, TopError>> {
        vec![Ok(Answer { address: ([127, 0, 0, 1], 9_615).into(), nodes: vec![node] })]
    }

    fn row<'a>(page: &'a str, begins: &str) -> Vec<&'a str> {
        let row = page.lines().find(|line| line.starts_with(begins));
        row.unwrap_or_else(|| panic!("no {begins}: {page}")).split_whitespace().collect()
    }

    #[test]
    fn rates_are_differences_and_trouble_is_told() {
        let mut page = Page::new(None, false);
        let first = page.draw(&answer(troubled(10_000_000_000, 0))).expect("a page");
        assert_eq!(row(&first, "validator-0")[3], "-", "no rate from one answer: {first}");
        let text = page.draw(&answer(troubled(11_000_000_000, 200))).expect("a page");
        assert_eq!(row(&text, "validator-0")[2..4], ["1200", "200.0"]);
        assert!(
            text.contains("[#######.................] 1200 of 4000 blocks, 2800 to fetch at 200/s: 14 s"),
            "{text}"
        );
        assert!(text.contains("problem: not voting: the disk is full"), "{text}");
        assert!(text.contains("50.0 %"), "half a core: {text}");
        assert_eq!(row(&text, "lane  "), ["lane", "received", "crossed", "dropped", "opened", "verified"]);
        assert_eq!(row(&text, "1    "), ["1", "0", "0", "0", "7", "0"]);
        assert_eq!(row(&text, "lossy")[1..], ["3", "3", "512", "200", "200.0"]);
        assert!(text.contains("2 more rings, empty"), "{text}");
        assert_eq!(
            row(&text, "  validator 11")[3..5],
            ["0.250", "2000.0"],
            "a round trip, frames a second: {text}"
        );
        assert!(text.contains("10 of 12 +0.0 to +9.0, without 10 11"), "{text}");
        let again = page.draw(&answer(troubled(1_000_000_000, 0))).expect("a page");
        assert_eq!(
            row(&again, "validator-0")[3],
            "-",
            "a node that was started again has no rate yet: {again}"
        );
    }

    #[test]
    fn an_older_node_and_one_that_went_away_are_shown_as_far_as_they_are_known() {
        let mut page = Page::new(None, true);
        let mut answers = answer(older("old"));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        answers.push(Err(TopError::NoAnswer { address: ([10, 0, 0, 5], 9_615).into(), source: refused }));
        page.draw(&answers).expect("a page");
        let text = page.draw(&answers).expect("a page");
        assert_eq!(row(&text, "old")[1..4], ["-", "1000", "-"]);
        assert!(text.contains("10.0.0.5:9615") && text.contains("roko devnet"), "{text}");
        assert!(!text.contains("peers of") && !text.contains("views of"), "{text}");
        let error =
            Page::new(Some("new".into()), true).draw(&answer(older("old"))).expect_err("no such node");
        assert_eq!(error.to_string(), "no node is called \"new\"; --node takes one of: old");
    }
}
