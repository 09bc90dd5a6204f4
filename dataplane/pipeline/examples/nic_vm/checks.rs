//! What must hold of a run. Rates and delays are the emulator's, so nothing is asked of them.

use crate::harness::INTERVAL;
use serde_json::Value;

/// How far the stamps' spacing may be from the interval at which frames were sent: a loaded host's scheduler.
const SPACING_TOLERANCE_NS: i64 = 20_000_000;

/// One pair of neighbours in so many may be further off: the host had other work then. A clock of a wrong rate has them all off.
const OFF_ONE_IN: usize = 10;

/// How late the clock may be when it is read after it was moved or set: two readings by an emulated CPU on a loaded host.
const CLOCK_TOLERANCE_NS: i64 = 20_000_000;

/// A message as the guest saw it; times in ns of the card's clock.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) port: usize,
    pub(crate) message: String,
    pub(crate) sequence: u16,
    pub(crate) flagged: bool,
    pub(crate) rx_ns: Option<i64>,
    pub(crate) tx_ns: Option<i64>,
    pub(crate) clock_ns: Option<i64>,
}

impl Frame {
    pub(crate) fn read(line: &Value) -> Result<Frame, String> {
        let read = || {
            Some(Frame {
                port: line["port"].as_u64()? as usize,
                message: line["message"].as_str()?.to_owned(),
                sequence: u16::try_from(line["sequence"].as_u64()?).ok()?,
                flagged: line["flagged"].as_bool()?,
                rx_ns: line["rx_ns"].as_i64(),
                tx_ns: line["tx_ns"].as_i64(),
                clock_ns: line["clock_ns"].as_i64(),
            })
        };
        read().ok_or_else(|| format!("the guest's line lacks something: {line}"))
    }
}

/// A message as it came back.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) port: usize,
    pub(crate) event: &'static str,
    pub(crate) sequence: u16,
    /// The receive time that the guest wrote into it, ns; 0 for none.
    pub(crate) origin_ns: u64,
}

/// One run over all ports.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) dpdk: String,
    /// The driver says which frames were stamped, and asks for departure stamps.
    pub(crate) asks: bool,
    pub(crate) frames: u16,
    /// When each message was sent, by port, ns since the run began.
    pub(crate) sent: Vec<Vec<i64>>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) seen: Vec<Frame>,
    /// The states of the first port's link that the guest saw, after the one at its start.
    pub(crate) link_changes: Vec<bool>,
    /// Whether each port's datagram came back, its checksum filled in.
    pub(crate) datagrams: Vec<bool>,
    pub(crate) counters: Vec<Value>,
    /// Which driver has each card after the run.
    pub(crate) drivers: Vec<String>,
}

/// Everything that does not hold.
pub(crate) fn problems(run: &Run) -> Vec<String> {
    let mut problems = Vec::new();
    if run.link_changes != [false, true] {
        problems
            .push(format!("the cable was pulled and plugged in, and the guest saw {:?}", run.link_changes));
    }
    for port in 0..run.sent.len() {
        let seen: Vec<&Frame> = run.seen.iter().filter(|frame| frame.port == port).collect();
        let replies: Vec<&Reply> = run.replies.iter().filter(|reply| reply.port == port).collect();
        let mut say = |problem: String| problems.push(format!("port {port}: {problem}"));
        let due: Vec<u16> = (0..run.frames).collect();
        if seen.iter().map(|frame| frame.sequence).ne(due.iter().copied()) {
            say("the guest did not see every message once, in order".to_owned());
        }
        if replies.iter().map(|reply| reply.sequence).ne(due.iter().copied()) {
            say("not every message came back once, in order".to_owned());
        }
        for (frame, reply) in seen.iter().zip(&replies) {
            stamps(run.asks, frame, reply).into_iter().for_each(&mut say);
        }
        for (what, times) in [
            ("receive", seen.iter().filter_map(|frame| frame.rx_ns).collect::<Vec<_>>()),
            ("departure", seen.iter().filter_map(|frame| frame.tx_ns).collect()),
        ] {
            if !times.is_sorted_by(|earlier, later| earlier < later) {
                say(format!("{what} stamps do not rise: {times:?}"));
            }
        }
        let off: Vec<i64> = spacing_errors(run, port).filter(|ns| ns.abs() > SPACING_TOLERANCE_NS).collect();
        if off.len() > usize::from(run.frames) / OFF_ONE_IN {
            say(format!(
                "{} pairs of stamps are off the interval of {INTERVAL:?}, in ns: {off:?}",
                off.len()
            ));
        }
        match run.drivers.get(port).map(String::as_str) {
            Some("igb") => (),
            other => say(format!("the card was not given back to the kernel's igb: {other:?}")),
        }
        if run.datagrams.get(port) != Some(&true) {
            say("the datagram did not come back with its checksum filled in".to_owned());
        }
        if let Some(line) = run.counters.get(port) {
            wrong_counter(line, run.frames).into_iter().chain(wrong_clock(&line["clock"])).for_each(&mut say);
        }
    }
    problems
}

/// What is wrong with one message's stamps.
fn stamps(asks: bool, frame: &Frame, reply: &Reply) -> Vec<String> {
    let mut problems = Vec::new();
    let mut hold = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{what}: {frame:?}, {reply:?}"));
        }
    };
    hold(frame.rx_ns.is_some_and(|ns| ns > 0), "no receive stamp");
    hold(frame.flagged == asks, "the mbuf's flag is not what the driver's build says");
    hold(frame.tx_ns.is_some() == asks, "the departure stamp is not what the driver's build says");
    if let (Some(rx_ns), Some(tx_ns)) = (frame.rx_ns, frame.tx_ns) {
        hold(tx_ns > rx_ns, "it left before it came");
    }
    let last = frame.tx_ns.or(frame.rx_ns);
    hold(frame.clock_ns.is_some() && frame.clock_ns >= last, "the clock is behind its own stamps");
    hold(frame.message == reply.event, "another message came back");
    hold(frame.rx_ns.is_some_and(|ns| ns as u64 == reply.origin_ns), "it did not carry its receive stamp");
    problems
}

fn wrong_counter(line: &Value, frames: u16) -> Option<String> {
    // The link's other traffic may be counted too, so the card's own counts are a floor.
    let exact = [("turned", frames), ("tx_sent", frames + 1), ("datagrams", 1), ("bad_checksums", 1)];
    let exact = exact.iter().find(|(key, wanted)| line[*key] != *wanted).map(|(key, _)| key);
    let floor = ["rx_received", "card_rx_packets", "card_tx_packets"];
    let floor = floor.iter().find(|key| line[**key].as_u64() < Some(frames.into()));
    let zero = ["dropped", "card_rx_missed"].iter().find(|key| line[**key] != 0);
    let key = exact.or(floor).or(zero)?;
    Some(format!("{key} does not fit {frames} messages: {line}"))
}

fn wrong_clock(line: &Value) -> Option<String> {
    let within = |key: &str| line[key].as_i64().is_some_and(|ns| (0..=CLOCK_TOLERANCE_NS).contains(&ns));
    let key = ["moved_error_ns", "set_error_ns"].into_iter().find(|key| !within(key))?;
    Some(format!("the clock does not show what it was given, {key}: {line}"))
}

/// How far each pair of neighbouring receive stamps is from the time between the two messages' sending, ns.
fn spacing_errors(run: &Run, port: usize) -> impl Iterator<Item = i64> {
    let times: Vec<i64> =
        run.seen.iter().filter(|frame| frame.port == port).filter_map(|frame| frame.rx_ns).collect();
    let sent = run.sent[port].clone();
    (1..times.len().min(sent.len())).map(move |at| (times[at] - times[at - 1]) - (sent[at] - sent[at - 1]))
}

/// The largest of them, without its sign.
pub(crate) fn spacing_error_ns_max(run: &Run) -> i64 {
    let all = (0..run.sent.len()).flat_map(|port| spacing_errors(run, port));
    all.map(i64::abs).max().unwrap_or(0)
}

/// From receipt to departure by the card's clock, ns.
pub(crate) fn turn_ns(run: &Run) -> impl Iterator<Item = i64> + '_ {
    run.seen.iter().filter_map(|frame| Some(frame.tx_ns? - frame.rx_ns?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Makes one thing wrong.
    type Damage = fn(&mut Run);

    /// A run of two ports in which everything holds.
    fn run(asks: bool) -> Run {
        let (frames, step_ns) = (3_u16, INTERVAL.as_nanos() as i64);
        let mut run = Run {
            dpdk: "DPDK 22.11.11".to_owned(),
            asks,
            frames,
            sent: vec![Vec::new(); 2],
            replies: Vec::new(),
            seen: Vec::new(),
            link_changes: vec![false, true],
            datagrams: vec![true; 2],
            counters: Vec::new(),
            drivers: vec!["igb".to_owned(); 2],
        };
        for (port, message) in ["Sync", "Delay_Req"].into_iter().enumerate() {
            for sequence in 0..frames {
                let rx_ns = 5_000_000_000 + step_ns * i64::from(sequence);
                run.sent[port].push(step_ns * i64::from(sequence));
                run.replies.push(Reply { port, event: message, sequence, origin_ns: rx_ns as u64 });
                run.seen.push(Frame {
                    port,
                    message: message.to_owned(),
                    sequence,
                    flagged: asks,
                    rx_ns: Some(rx_ns),
                    tx_ns: asks.then_some(rx_ns + 900_000),
                    clock_ns: Some(rx_ns + 1_000_000),
                });
            }
            run.counters.push(json!({
                "rx_received": 4, "turned": 3, "tx_sent": 4, "datagrams": 1, "bad_checksums": 1, "dropped": 0,
                "card_rx_packets": 5, "card_tx_packets": 4, "card_rx_missed": 0,
                "clock": { "moved_error_ns": 40_000, "set_error_ns": 50_000 },
            }));
        }
        run
    }

    #[test]
    fn a_good_run_has_no_problems() {
        for asks in [true, false] {
            assert_eq!(problems(&run(asks)), Vec::<String>::new());
        }
        assert_eq!(turn_ns(&run(true)).max(), Some(900_000));
    }

    #[test]
    fn each_thing_that_must_hold_is_looked_at() {
        let cases: [(&str, Damage); 18] = [
            ("the cable was pulled", |run| run.link_changes.truncate(1)),
            ("did not see every message", |run| run.seen.truncate(5)),
            ("not every message came back", |run| run.replies.swap(0, 1)),
            ("no receive stamp", |run| run.seen[1].rx_ns = None),
            ("the mbuf's flag", |run| run.seen[1].flagged = false),
            ("the departure stamp", |run| run.seen[1].tx_ns = None),
            ("it left before it came", |run| run.seen[1].tx_ns = run.seen[1].rx_ns),
            ("behind its own stamps", |run| run.seen[1].clock_ns = run.seen[1].rx_ns),
            ("another message", |run| run.replies[1].event = "Delay_Req"),
            ("did not carry", |run| run.replies[1].origin_ns += 1),
            ("receive stamps do not rise", |run| run.seen[1].rx_ns = run.seen[0].rx_ns),
            ("departure stamps do not rise", |run| run.seen[2].tx_ns = run.seen[1].tx_ns),
            ("off the interval", |run| run.sent[0][1] += SPACING_TOLERANCE_NS + 1),
            ("not given back", |run| run.drivers[1] = "vfio-pci".to_owned()),
            ("set_error_ns", |run| run.counters[1]["clock"]["set_error_ns"] = json!(100_000_000)),
            ("its checksum filled in", |run| run.datagrams[1] = false),
            ("bad_checksums does not fit", |run| run.counters[0]["bad_checksums"] = json!(0)),
            ("card_rx_missed does not fit", |run| run.counters[1]["card_rx_missed"] = json!(1)),
        ];
        for (wanted, damage) in cases {
            let mut run = run(true);
            damage(&mut run);
            let found = problems(&run);
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted:?} is not in {found:#?}");
        }
        let mut plain = run(false);
        plain.seen[0].tx_ns = plain.seen[0].rx_ns.map(|ns| ns + 1);
        assert_eq!(problems(&plain).len(), 1, "a departure stamp that nobody can have asked for");
    }

    #[test]
    fn a_line_that_lacks_something_is_refused() {
        let line = json!({ "port": 1, "message": "Sync", "sequence": 65_535, "flagged": true, "rx_ns": 5,
                           "tx_ns": null, "clock_ns": 7 });
        let frame = Frame::read(&line).expect("a whole line");
        assert_eq!((frame.port, frame.sequence, frame.rx_ns, frame.tx_ns), (1, 65_535, Some(5), None));
        for (key, value) in [("sequence", json!(65_536)), ("flagged", json!(null)), ("port", json!("1"))] {
            let mut bad = line.clone();
            bad[key] = value;
            assert!(Frame::read(&bad).is_err(), "{bad}");
        }
    }
}
