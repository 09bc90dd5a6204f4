//! A switch inside the process: joins the ports of a devnet's validators and clients.
//!
//! A stage like any other. It owns the far end of each port and forwards by destination address; where an address
//! lives it learns from the frames that come from there. Frames to addresses it has not learned are dropped and
//! counted: every node of a devnet is known before it starts.

use crate::metrics::{Counters, StageMetrics};
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, Burst, FrameBuf, RxPort, TxPort};
use roko_wire::net::Mac;
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Switch`].
    SwitchCounter {
        /// Frames taken from the ports.
        Received = "received",
        /// Frames forwarded.
        Forwarded = "forwarded",
        /// Frames to an address that no port has.
        UnknownAddress = "unknown_address",
        /// Frames to an address at the port they came from.
        SamePort = "same_port",
        /// Frames too short for addresses.
        Runt = "runt",
        /// Frames that waited because their port took none.
        Retained = "retained",
        /// Frames dropped because their port's queue stayed full.
        DroppedFull = "dropped_full",
        /// Addresses that found the table full.
        TableFull = "table_full",
    }
);

/// Addresses that the table holds; a power of two.
const TABLE_PLACES: usize = 1024;
/// Places looked at for one address.
const PROBES_MAX: usize = 16;
/// Frames that wait for a port at most.
const QUEUE_FRAMES: usize = 4096;

/// Learned addresses: open addressing, entries move but never leave.
struct Table {
    places: Box<[Option<(Mac, u16)>]>,
}

impl Table {
    fn probe(mac: &Mac) -> impl Iterator<Item = usize> + use<> {
        let [a, b, c, d, e, f] = mac.0;
        let word = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        // Fibonacci hashing; addresses here are our own, nobody aims for collisions that matter.
        let start = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        (0..PROBES_MAX).map(move |step| (start + step) % TABLE_PLACES)
    }

    fn find(&self, mac: &Mac) -> Option<u16> {
        for place in Table::probe(mac) {
            match &self.places[place] {
                Some((known, port)) if known == mac => return Some(*port),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    /// False when there is no place for the address.
    fn learn(&mut self, mac: Mac, port: u16) -> bool {
        for place in Table::probe(&mac) {
            match &mut self.places[place] {
                Some((known, at)) if *known == mac => {
                    *at = port;
                    return true;
                }
                Some(_) => {}
                empty => {
                    *empty = Some((mac, port));
                    return true;
                }
            }
        }
        false
    }
}

struct SwitchPort<R: RxPort, T> {
    rx: R,
    tx: T,
    queue: std::collections::VecDeque<R::Buf>,
}

/// The stage.
pub struct Switch<R: RxPort, T: TxPort<Buf = R::Buf>> {
    ports: Vec<SwitchPort<R, T>>,
    table: Table,
    burst: Burst<R::Buf>,
    counters: Counters<SwitchCounter>,
}

impl<R: RxPort, T: TxPort<Buf = R::Buf>> Switch<R, T> {
    /// A switch over the far ends of `ports`.
    #[must_use]
    pub fn new(ports: Vec<(R, T)>) -> Switch<R, T> {
        let queue = || std::collections::VecDeque::with_capacity(QUEUE_FRAMES);
        Switch {
            ports: ports.into_iter().map(|(rx, tx)| SwitchPort { rx, tx, queue: queue() }).collect(),
            table: Table { places: vec![None; TABLE_PLACES].into_boxed_slice() },
            burst: Burst::new(),
            counters: Counters::new("switch"),
        }
    }

    /// Tells the switch before it starts that `mac` is at `port`, so that the first frame to it is not dropped.
    pub fn learn(&mut self, mac: Mac, port: usize) {
        self.table.learn(mac, port as u16);
    }

    fn take_from(&mut self, port: usize) -> usize {
        let count = self.ports[port].rx.rx_burst(&mut self.burst);
        self.counters.add(SwitchCounter::Received, count as u64);
        for buf in self.burst.drain(..) {
            let Some((destination, source)) = addresses(buf.data()) else {
                self.counters.count(SwitchCounter::Runt);
                continue;
            };
            if self.table.find(&source) != Some(port as u16) && !self.table.learn(source, port as u16) {
                self.counters.count(SwitchCounter::TableFull);
            }
            match self.table.find(&destination).map(usize::from) {
                None => self.counters.count(SwitchCounter::UnknownAddress),
                Some(to) if to == port => self.counters.count(SwitchCounter::SamePort),
                Some(to) if self.ports[to].queue.len() >= QUEUE_FRAMES => {
                    self.counters.count(SwitchCounter::DroppedFull);
                }
                Some(to) => self.ports[to].queue.push_back(buf),
            }
        }
        count
    }

    fn give_to(&mut self, port: usize) -> usize {
        let SwitchPort { tx, queue, .. } = &mut self.ports[port];
        let mut sent = 0;
        while !queue.is_empty() {
            let take = queue.len().min(BURST);
            let mut burst: Burst<R::Buf> = queue.drain(..take).collect();
            sent += tx.tx_burst(&mut burst);
            if !burst.is_empty() {
                self.counters.add(SwitchCounter::Retained, burst.len() as u64);
                for buf in burst.into_iter().rev() {
                    queue.push_front(buf);
                }
                break;
            }
        }
        self.counters.add(SwitchCounter::Forwarded, sent as u64);
        sent
    }
}

fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let mac = |at: usize| frame.get(at..at + 6).and_then(|bytes| bytes.try_into().ok()).map(Mac);
    Some((mac(0)?, mac(6)?))
}

impl<R: RxPort, T: TxPort<Buf = R::Buf>> Stage for Switch<R, T> {
    fn name(&self) -> &'static str {
        "switch"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        let taken: usize = (0..self.ports.len()).map(|port| self.take_from(port)).sum();
        let given: usize = (0..self.ports.len()).map(|port| self.give_to(port)).sum();
        let held = self.ports.iter().any(|port| !port.queue.is_empty());
        Progress { work: taken + given, backpressured: held }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}
