//! The second stage: what is not a datagram of the right size for this node, or comes too often, goes no further.
//!
//! Everything here is cheap and forged at will, so each source prefix (an IPv4 address, an IPv6 /64) has a token bucket
//! in a table of fixed size. Known peers have generous buckets of their own that no stranger's hash can share.

use crate::clock::ClockPage;
use crate::latency::{LatencyRecorder, Since};
use crate::link::{Datagram, RxFrame, Span};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::KnownAddress;
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, FrameBuf};
use crate::session::SEAL_BYTES;
use crate::slow_path::SlowPathTap;
use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;
use roko_ring::spsc::{Consumer, Producer};
use roko_wire::NanoMoment;
use roko_wire::limits::MESSAGE_BYTES_MAX;
use roko_wire::net::{NetError, parse_udp};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::Arc;

crate::counters!(
    /// Counters of [`Filter`].
    FilterCounter {
        /// Datagrams passed on.
        Passed = "passed",
        /// Shorter than the headers say.
        Truncated = "truncated",
        /// Neither IPv4 nor IPv6.
        NotIp = "not_ip",
        /// Options, fragments, extension headers.
        BadIpHeader = "bad_ip_header",
        /// Wrong IPv4 header checksum.
        BadChecksum = "bad_checksum",
        /// Not UDP.
        NotUdp = "not_udp",
        /// For another address.
        WrongAddress = "wrong_address",
        /// For another UDP port.
        WrongPort = "wrong_port",
        /// Too short for header, kind and tag.
        TooShort = "too_short",
        /// Longer than any sealed message.
        TooLong = "too_long",
        /// Its source has used up its tokens.
        RateLimited = "rate_limited",
        /// Address resolution and echo requests, passed on to the slow path.
        SlowPath = "slow_path",
        /// The same, dropped because the ring to the slow path was full.
        SlowPathFull = "slow_path_full",
    }
);

/// A token bucket's size and rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Frames per second in the long run.
    pub frames_per_second: u32,
    /// Frames at once.
    pub burst_frames: u32,
}

/// Settings of [`Filter`].
#[derive(Clone, Debug)]
pub struct FilterConfig {
    /// This node's address.
    pub ip: IpAddr,
    /// This node's UDP port.
    pub port: u16,
    /// For sources that are no known peer.
    pub stranger: RateLimit,
    /// For each known peer's address.
    pub known: RateLimit,
    /// Addresses of known peers.
    pub known_addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// The moment at which the bucket was or will be full: tokens are the time passed since, capped.
    full_at: u128,
}

impl Bucket {
    /// Takes a token if there is one. A bucket is full when `full_at` is past; each token moves it one period ahead
    /// (the generic cell rate algorithm, ITU-T I.371).
    fn take(&mut self, limit: &RateLimit, now: NanoMoment) -> bool {
        let period = 1_000_000_000 / u128::from(limit.frames_per_second.max(1));
        let full_at = self.full_at.max(now.0) + period;
        if full_at - now.0 > period * u128::from(limit.burst_frames.max(1)) {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

/// Buckets of strangers; sources whose hashes meet share one.
const STRANGER_BUCKETS: usize = 4096;

/// The stage.
pub struct Filter<B> {
    input: Consumer<RxFrame<B>>,
    out: Producer<Datagram<B>>,
    config: FilterConfig,
    /// Twice the room that known peers need, so that it never grows.
    known: HashMap<IpAddr, Bucket>,
    moved: Consumer<KnownAddress>,
    slow_path: Option<SlowPathTap<B>>,
    strangers: Box<[Bucket]>,
    hasher: RandomState,
    latency: LatencyRecorder,
    counters: Counters<FilterCounter>,
}

impl<B: FrameBuf> Filter<B> {
    /// The stage.
    #[must_use]
    pub fn new(
        config: FilterConfig,
        clock: ClockPage,
        moved: Consumer<KnownAddress>,
        input: Consumer<RxFrame<B>>,
        out: Producer<Datagram<B>>,
    ) -> Filter<B> {
        let latency = LatencyRecorder::new(Since::Wire, clock);
        let mut known = HashMap::with_capacity(4 * config.known_addresses.len());
        known.extend(config.known_addresses.iter().map(|ip| (*ip, Bucket::default())));
        Filter {
            input,
            out,
            config,
            known,
            moved,
            slow_path: None,
            strangers: vec![Bucket::default(); STRANGER_BUCKETS].into_boxed_slice(),
            hasher: RandomState::new(),
            counters: Counters::timed("filter", &[&latency]),
            latency,
        }
    }

    /// The same, with what a host must answer passed on by `tap`.
    #[must_use]
    pub fn with_slow_path(mut self, tap: Option<SlowPathTap<B>>) -> Filter<B> {
        self.slow_path = tap;
        self
    }

    fn check(&mut self, frame: &RxFrame<B>) -> Result<Span, FilterCounter> {
        let udp = parse_udp(frame.buf.data()).map_err(|error| match error {
            NetError::Truncated => FilterCounter::Truncated,
            NetError::EtherType => FilterCounter::NotIp,
            NetError::IpHeader => FilterCounter::BadIpHeader,
            NetError::Checksum => FilterCounter::BadChecksum,
            NetError::NotUdp => FilterCounter::NotUdp,
        })?;
        if udp.addresses.destination_ip != self.config.ip {
            return Err(FilterCounter::WrongAddress);
        }
        if udp.addresses.destination_port != self.config.port {
            return Err(FilterCounter::WrongPort);
        }
        if udp.payload_bytes <= SEAL_BYTES {
            return Err(FilterCounter::TooShort);
        }
        if udp.payload_bytes > SEAL_BYTES + MESSAGE_BYTES_MAX {
            return Err(FilterCounter::TooLong);
        }
        if !self.take_token(udp.addresses.source_ip, frame.received.moment) {
            return Err(FilterCounter::RateLimited);
        }
        Ok(Span::new(udp.payload_at, udp.payload_bytes))
    }

    fn take_token(&mut self, source: IpAddr, now: NanoMoment) -> bool {
        if let Some(bucket) = self.known.get_mut(&source) {
            return bucket.take(&self.config.known, now);
        }
        let mut hasher = self.hasher.build_hasher();
        match source {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
        }
        let place = hasher.finish() as usize % STRANGER_BUCKETS;
        self.strangers[place].take(&self.config.stranger, now)
    }
}

impl<B: FrameBuf> Stage for Filter<B> {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        while let Some(KnownAddress { from, to }) = self.moved.pop() {
            // One address in for one out: the table keeps its size.
            if let Some(bucket) = self.known.remove(&from) {
                self.known.insert(to, bucket);
            }
        }
        let room = self.out.free_slots();
        let mut work = 0;
        while work < BURST.min(room) {
            let Some(frame) = self.input.pop() else { break };
            work += 1;
            match self.check(&frame) {
                Ok(payload) => {
                    self.latency.note(frame.received.moment);
                    let datagram = Datagram { buf: frame.buf, received: frame.received, payload };
                    let pushed = self.out.push(datagram);
                    debug_assert!(pushed.is_ok(), "room was checked");
                    self.counters.count(FilterCounter::Passed);
                }
                Err(refusal) => {
                    let diverted = match (&mut self.slow_path, refusal) {
                        (Some(tap), FilterCounter::NotIp | FilterCounter::NotUdp) => tap.offer(frame.buf),
                        _ => None,
                    };
                    self.counters.count(diverted.unwrap_or(refusal));
                }
            }
        }
        self.latency.settle();
        Progress { work, backpressured: room == 0 && !self.input.is_empty() }
    }

    fn housekeeping(&mut self, _cx: &mut PollContext) {
        self.latency.publish();
        self.counters.publish();
    }

    fn metrics(&self) -> Arc<StageMetrics> {
        self.counters.shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_later() {
        let limit = RateLimit { frames_per_second: 10, burst_frames: 3 };
        let mut bucket = Bucket::default();
        let at = |ms: u128| NanoMoment(1_700_000_000_000_000_000 + ms * 1_000_000);
        let taken = |bucket: &mut Bucket, ms| (0..9).filter(|_| bucket.take(&limit, at(ms))).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 100), 1);
        assert_eq!(taken(&mut bucket, 10_000), 3);
    }
}
