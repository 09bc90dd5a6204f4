//! The host's half: sends event messages at an interval, takes what comes back, and checks what the guest printed.

use crate::DEVICE;
use crate::checks::{self, Frame, Reply, Run};
use crate::datagram;
use crate::emulator::Emulator;
use crate::monitor::Monitor;
use crate::ptp::{self, Event};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time between two messages to one port.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// What each port is sent.
const EVENTS: [Event; 2] = [Event::Sync, Event::DelayReq];
/// How long the guest may take for one line: it boots in 10 to 20 s on an idle machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a message may take to come back.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Plays all runs of one boot and prints a summary of each. An error lists everything that did not hold.
pub(crate) fn run(folder: &Path, frames: u16, runs: &[&str]) -> Result<(), String> {
    let mut wires = Vec::new();
    for index in 0..EVENTS.len() {
        wires.push(Wire::bind(folder, index)?);
    }
    let mut guest = Guest::open(&folder.join("guest.jsonl"))?;
    let mut problems = Vec::new();
    for kind in runs {
        let asks = match *kind {
            "asks" => true,
            "plain" => false,
            other => return Err(format!("a RUN is {other:?} and must be `asks` or `plain`")),
        };
        let run = play(folder, frames, asks, &mut wires, &mut guest)?;
        let found = checks::problems(&run);
        println!("{}", summary(&run, &found));
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", run.dpdk)));
    }
    guest.line("end")?;
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// One run: from `ready` to the cards that are the kernel's again.
fn play(
    folder: &Path,
    frames: u16,
    asks: bool,
    wires: &mut [Wire],
    guest: &mut Guest,
) -> Result<Run, String> {
    let mut cards = Vec::new();
    for _ in 0..wires.len() {
        let card = guest.line("card")?;
        let registers = card["registers"].as_str().and_then(|text| text.strip_prefix("0x"));
        let registers = registers.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        cards.push(registers.ok_or_else(|| format!("the guest names no registers: {card}"))?);
    }
    let ready = guest.line("ready")?;
    let dpdk = ready["dpdk"].as_str().unwrap_or("DPDK ?").to_owned();
    eprintln!("{dpdk} is ready in the guest: {} messages to each of {} ports", frames, wires.len());
    let mut emulator = Emulator::connect(&folder.join("qtest.sock"))?;
    for (registers, event) in cards.iter().zip(EVENTS) {
        emulator.stamp_message(*registers, event.kind())?;
        emulator.free_rx_stamp(*registers)?;
    }
    let (mut sent, mut replies, mut seen) = (vec![Vec::new(); wires.len()], Vec::new(), Vec::new());
    let origin = Instant::now();
    let (mut began, mut link_changes, mut datagrams) = (origin, Vec::new(), Vec::new());
    for sequence in 0..frames {
        if sequence == frames / 2 {
            let pause = Instant::now();
            link_changes = pull_and_plug(folder, guest)?;
            for wire in wires.iter_mut() {
                datagrams.push(wire.send_datagrams()?);
            }
            began += pause.elapsed();
        }
        let due = began + INTERVAL * u32::from(sequence);
        sleep(due.saturating_duration_since(Instant::now()));
        for (index, wire) in wires.iter_mut().enumerate() {
            sent[index].push(origin.elapsed().as_nanos() as i64);
            wire.send(EVENTS[index], sequence)?;
        }
        for wire in wires.iter_mut() {
            replies.push(wire.reply()?);
        }
        for _ in wires.iter() {
            seen.push(Frame::read(&guest.line("frame")?)?);
        }
        for registers in &cards {
            emulator.free_rx_stamp(*registers)?;
        }
    }
    let mut counters = Vec::new();
    for _ in wires.iter() {
        counters.push(guest.line("counters")?);
    }
    guest.line("released")?;
    let mut drivers = Vec::new();
    for _ in wires.iter() {
        drivers.push(guest.line("given_back")?["driver"].as_str().unwrap_or("none").to_owned());
    }
    Ok(Run { dpdk, asks, frames, sent, replies, seen, link_changes, datagrams, counters, drivers })
}

/// Pulls the first port's cable and plugs it in again, each until the guest has seen it. Returns what it saw.
fn pull_and_plug(folder: &Path, guest: &mut Guest) -> Result<Vec<bool>, String> {
    let mut monitor = Monitor::connect(&folder.join("monitor.sock"))?;
    let mut seen = Vec::new();
    for up in [false, true] {
        monitor.set_link(0, up)?;
        seen.extend(guest.line("link")?["up"].as_bool());
    }
    Ok(seen)
}

fn summary(run: &Run, problems: &[String]) -> Value {
    let of = |pick: fn(&Frame) -> Option<i64>| run.seen.iter().filter(|frame| pick(frame).is_some()).count();
    json!({
        "device": DEVICE, "dpdk": run.dpdk, "ports": run.sent.len(), "messages": run.seen.len(),
        "rx_stamps": of(|frame| frame.rx_ns), "tx_stamps": of(|frame| frame.tx_ns),
        "flagged_in_mbuf": run.seen.iter().filter(|frame| frame.flagged).count(),
        "spacing_error_us_max": checks::spacing_error_ns_max(run) / 1_000,
        "turn_us": { "min": checks::turn_ns(run).min().map(|ns| ns / 1_000),
                     "max": checks::turn_ns(run).max().map(|ns| ns / 1_000) },
        "link_changes": run.link_changes,
        "checksums_filled_in": run.datagrams.iter().filter(|whole| **whole).count(),
        "wrong_checksums_refused": run.counters.iter().filter_map(|line| line["bad_checksums"].as_u64()).sum::<u64>(),
        "given_back_to": run.drivers, "problems": problems,
    })
}

/// The far end of a port's cable.
struct Wire {
    socket: UnixDatagram,
    port: std::path::PathBuf,
    index: usize,
}

impl Wire {
    fn bind(folder: &Path, index: usize) -> Result<Wire, String> {
        let place = folder.join(format!("host{index}.sock"));
        let socket = UnixDatagram::bind(&place)
            .and_then(|socket| socket.set_read_timeout(Some(REPLY_TIMEOUT)).map(|()| socket))
            .map_err(|error| format!("the socket {}: {error}", place.display()))?;
        Ok(Wire { socket, port: folder.join(format!("port{index}.sock")), index })
    }

    fn address(&self) -> [u8; 6] {
        [2, 0, 0, 0, 1, self.index as u8]
    }

    fn send(&mut self, event: Event, sequence: u16) -> Result<(), String> {
        self.send_frame(&ptp::frame(event, sequence, self.address()))
    }

    /// Sends a datagram whose checksum is wrong and one whose is right. Whether the next that comes back is the answer of the second.
    fn send_datagrams(&mut self) -> Result<bool, String> {
        self.send_frame(&datagram::damaged(self.address()))?;
        self.send_frame(&datagram::frame(self.address()))?;
        let mut bytes = [0; 2048];
        loop {
            let len = self.receive(&mut bytes)?;
            if datagram::is_one(&bytes[..len]) {
                return Ok(datagram::is_answer(&bytes[..len], self.address()));
            }
        }
    }

    fn send_frame(&mut self, frame: &[u8]) -> Result<(), String> {
        match self.socket.send_to(frame, &self.port) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the emulator takes no frame at {}: {error}", self.port.display())),
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, String> {
        self.socket.recv(bytes).map_err(|error| {
            format!("port {}: nothing came back within {REPLY_TIMEOUT:?}: {error}", self.index)
        })
    }

    /// The next event message from the port; what else a port sends is passed over.
    fn reply(&mut self) -> Result<Reply, String> {
        let mut bytes = [0; 2048];
        loop {
            let len = self.receive(&mut bytes)?;
            if let Some((event, sequence)) = ptp::read(&bytes[..len]) {
                let origin_ns = ptp::origin_time(&bytes[..len]);
                return Ok(Reply { port: self.index, event: event.name(), sequence, origin_ns });
            }
        }
    }
}

/// What the guest prints, one JSON object a line.
struct Guest {
    lines: BufReader<std::fs::File>,
}

impl Guest {
    fn open(path: &Path) -> Result<Guest, String> {
        let began = Instant::now();
        loop {
            match std::fs::File::open(path) {
                Ok(file) => return Ok(Guest { lines: BufReader::new(file) }),
                Err(error) if began.elapsed() > REPLY_TIMEOUT => {
                    return Err(format!("the guest's lines {}: {error}", path.display()));
                }
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The next line, which must be of this kind.
    fn line(&mut self, kind: &str) -> Result<Value, String> {
        let (mut text, began) = (String::new(), Instant::now());
        while !text.ends_with('\n') {
            let read = self.lines.read_line(&mut text);
            let read = read.map_err(|error| format!("the guest's lines cannot be read: {error}"))?;
            if read == 0 {
                if began.elapsed() > LINE_TIMEOUT {
                    return Err(format!("the guest did not print its line {kind:?} within {LINE_TIMEOUT:?}"));
                }
                sleep(Duration::from_millis(1));
            }
        }
        let line: Value = serde_json::from_str(text.trim())
            .map_err(|error| format!("the guest printed {:?}, which is no JSON: {error}", text.trim()))?;
        if line["line"] == kind {
            Ok(line)
        } else {
            Err(format!("the guest printed {line} where its line {kind:?} was due"))
        }
    }
}
