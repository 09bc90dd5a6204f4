//! What a kernel would do for a port that it no longer owns: answer ARP, neighbour solicitations and pings, and find out
//! where frames to peers go.
//!
//! The thread `slow-path` reads what the filter passes on (`roko_pipeline::slow_path`) and writes whole frames to tx, after
//! all that is sealed. With `port.neighbours = "resolve"` the handshakes' ways to peers come through it: it puts each next
//! hop's Ethernet address in (`ways`), asks for it (`neighbours`), and moves the way when it changes. What is said on the link
//! is pure and in `answers`; how often it answers in `limit`. Memory is bounded by the number of peers and by fixed tables.
#![allow(clippy::result_large_err, reason = "a ring gives back what it has no room for")]

mod answers;
#[cfg(test)]
mod answers_tests;
mod limit;
mod neighbours;
mod ways;

pub use ways::Route;

use answers::{Said, Station};
use limit::AnswerLimit;
use neighbours::Neighbours;
use roko_pipeline::link::OutFrame;
use roko_pipeline::metrics::{Counters, StageMetrics};
use roko_pipeline::peer::LinkCommand;
use roko_pipeline::port::{FrameBuf, FramePool};
use roko_pipeline::slow_path::{SLOW_PATH_FRAMES, SlowPathEnds};
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::net::Mac;
use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ways::Ways;

roko_pipeline::counters!(
    /// Counters of [`SlowPath`].
    SlowPathCounter {
        /// Frames that the filter passed on.
        Heard = "heard",
        /// Questions for this node's address that were answered.
        Answered = "answered",
        /// Echo requests that were answered.
        Echoed = "echoed",
        /// Questions for next hops' addresses.
        Asked = "asked",
        /// Next hops whose address is known.
        Known = "known",
        /// Next hops whose address is not known.
        Unknown = "unknown",
        /// Addresses that were learned or have changed.
        Learned = "learned",
        /// Addresses that were forgotten: nobody answered.
        Forgotten = "forgotten",
        /// Frames that are not well made, or not for this node.
        Malformed = "malformed",
        /// Answers not given: their source, or all, asked too often.
        RateLimited = "rate_limited",
        /// Frames of its own that found no memory or no room on the way to tx.
        DroppedFull = "dropped_full",
        /// Frames of somebody else with this node's IP address.
        AddressConflict = "address_conflict",
        /// Peers that are not on the link, and there is no gateway.
        NoRoute = "no_route",
    }
);

/// Settings of the slow path.
#[derive(Clone, Debug)]
pub struct SlowPathOptions {
    /// The Ethernet address that this node answers with.
    pub mac: Mac,
    /// Finds out where frames to peers go; `None` where that is derived.
    pub resolve: Option<Resolve>,
}

/// How next hops are found.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// What is on the link, and the gateway.
    pub route: Route,
    /// Ethernet addresses that are given.
    pub fixed: Vec<(IpAddr, Mac)>,
}

/// Looks this often, unless there is work: half of it is what a ping takes longer than on the data plane.
const PAUSE: Duration = Duration::from_millis(2);

/// Ways to peers on their way through.
struct Resolver {
    ways: Ways,
    neighbours: Neighbours,
    from_handshakes: Consumer<LinkCommand>,
    to_spread: Producer<LinkCommand>,
}

/// See the module.
pub struct SlowPath<P: FramePool> {
    station: Station,
    ends: SlowPathEnds<P>,
    resolver: Option<Resolver>,
    limit: AnswerLimit<RandomState>,
    scratch: Box<[u8]>,
    began: Instant,
    counters: Counters<SlowPathCounter>,
}

/// Longest frame that the slow path writes, bytes: what a port without jumbo frames carries.
const FRAME_BYTES: usize = 1_514;

impl<P: FramePool> SlowPath<P> {
    /// The slow path of a node at `own` over `ends`, and the ring that the handshakes write to instead of `links`, which is
    /// spread's.
    #[must_use]
    pub fn new(
        own: IpAddr,
        options: &SlowPathOptions,
        ends: SlowPathEnds<P>,
        links: Producer<LinkCommand>,
        peers_max: usize,
    ) -> (SlowPath<P>, Producer<LinkCommand>) {
        let (resolver, links) = match &options.resolve {
            None => (None, links),
            Some(Resolve { route, fixed }) => {
                let (to_resolver, from_handshakes) = roko_ring::spsc::ring(links.capacity());
                let resolver = Resolver {
                    ways: Ways::new(*route, peers_max),
                    neighbours: Neighbours::new(peers_max, fixed),
                    from_handshakes,
                    to_spread: links,
                };
                (Some(resolver), to_resolver)
            }
        };
        let slow_path = SlowPath {
            station: Station { mac: options.mac, ip: own },
            ends,
            resolver,
            limit: AnswerLimit::new(RandomState::new()),
            scratch: vec![0; FRAME_BYTES].into_boxed_slice(),
            began: Instant::now(),
            counters: Counters::new("slow_path"),
        };
        (slow_path, links)
    }

    /// Its figures.
    #[must_use]
    pub fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }

    /// Runs until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let announced = self.station.announce(&mut self.scratch);
        self.send(announced);
        while !stop.load(Ordering::Relaxed) {
            if !self.turn(self.began.elapsed()) {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// One look at everything, `now` after the start. Returns whether there was work.
    fn turn(&mut self, now: Duration) -> bool {
        let mut work = false;
        for _ in 0..SLOW_PATH_FRAMES {
            let Some(frame) = self.ends.up.pop() else { break };
            self.counters.count(SlowPathCounter::Heard);
            match self.station.hear(frame.data(), &mut self.scratch) {
                Some(said) => self.on_said(&said, now),
                None => self.counters.count(SlowPathCounter::Malformed),
            }
            work = true;
        }
        work |= self.resolve(now);
        self.counters.publish();
        work
    }

    fn on_said(&mut self, said: &Said, now: Duration) {
        self.counters.add(SlowPathCounter::AddressConflict, u64::from(said.conflict));
        if let (Some(resolver), Some(claim)) = (&mut self.resolver, said.claim) {
            let learned = resolver.neighbours.heard(claim.ip, claim.mac, claim.answer, millis(now));
            self.counters.add(SlowPathCounter::Learned, u64::from(learned));
        }
        let Some(answer) = said.answer else { return };
        if !self.limit.allows(answer.to, now.as_micros() as u64) {
            self.counters.count(SlowPathCounter::RateLimited);
        } else if self.send(Some(answer.bytes)) {
            self.counters.count(if answer.echo {
                SlowPathCounter::Echoed
            } else {
                SlowPathCounter::Answered
            });
        }
    }

    /// Takes ways from the handshakes, asks what is not known, and tells spread what is.
    fn resolve(&mut self, now: Duration) -> bool {
        let Some(mut resolver) = self.resolver.take() else { return false };
        let mut work = false;
        while let Some(command) = resolver.from_handshakes.pop() {
            let reached = resolver.ways.take(command, &mut resolver.neighbours, millis(now));
            self.counters.add(SlowPathCounter::NoRoute, u64::from(!reached));
            work = true;
        }
        while let Some((question, forgotten)) = resolver.neighbours.due(millis(now)) {
            self.counters.add(SlowPathCounter::Forgotten, u64::from(forgotten));
            let written = self.station.ask(&question, &mut self.scratch);
            let sent = self.send(written);
            self.counters.add(SlowPathCounter::Asked, u64::from(sent));
        }
        resolver.ways.tell(&resolver.neighbours, |command| resolver.to_spread.push(command).err());
        let (known, unknown) = resolver.neighbours.counts();
        self.counters.set(SlowPathCounter::Known, known as u64);
        self.counters.set(SlowPathCounter::Unknown, unknown as u64);
        self.resolver = Some(resolver);
        work
    }

    /// Sends the first `bytes` of what was written.
    fn send(&mut self, bytes: Option<usize>) -> bool {
        let Some(written) = bytes.and_then(|bytes| self.scratch.get(..bytes)) else { return false };
        let frame = self.ends.pool.alloc().filter(|frame| frame.capacity() >= written.len());
        let sent = frame.is_some_and(|mut buf| {
            buf.set_len(written.len());
            buf.data_mut().copy_from_slice(written);
            self.ends.down.push(OutFrame { buf, origin: None }).is_ok()
        });
        self.counters.add(SlowPathCounter::DroppedFull, u64::from(!sent));
        sent
    }
}

fn millis(now: Duration) -> u64 {
    now.as_millis() as u64
}
