//! The second stage: what is not a datagram of the right size for this node, or comes too often, goes no further.
//!
//! Everything here is cheap and forged at will, so each source prefix (an IPv4 address, an IPv6 /64) has a token bucket
//! in a table of fixed size. Known peers have generous buckets of their own that no stranger's hash can share.

use crate::clock::ClockPage;
use crate::keyed::secret;
use crate::latency::{LatencyRecorder, Since};
use crate::link::{Datagram, RxFrame, Span};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::KnownChange;
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, FrameBuf};
use crate::session::SEAL_BYTES;
use crate::slow_path::SlowPathTap;
use arrayvec::ArrayVec;
use core::net::IpAddr;
use roko_ring::prefetch;
use roko_ring::spsc::{Consumer, Producer};
use roko_ring::table::{Hash, Key, Table};
use roko_wire::NanoMoment;
use roko_wire::limits::MESSAGE_BYTES_MAX;
use roko_wire::net::{NetError, parse_udp};
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
    /// For each known peer's address, on each queue of the port: its frames come by one while its ports stay.
    pub known: RateLimit,
    /// Addresses of known peers.
    pub known_addresses: Vec<IpAddr>,
}

impl FilterConfig {
    /// The settings of each filter behind a port of `queues` queues. Who makes up port numbers reaches every queue, so a
    /// stranger's limit is divided, rounded up: all filters together let in about what one would.
    #[must_use]
    pub fn for_each_of(mut self, queues: usize) -> FilterConfig {
        let share = |count: u32| count.div_ceil(queues as u32);
        let RateLimit { frames_per_second, burst_frames } = self.stranger;
        self.stranger =
            RateLimit { frames_per_second: share(frames_per_second), burst_frames: share(burst_frames) };
        self
    }
}

/// A limit in the terms of its arithmetic, nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// From one token to the next.
    period_ns: u64,
    /// How far ahead of now tokens may be taken.
    ahead_ns_max: u64,
}

impl Pace {
    pub(crate) fn of(limit: RateLimit) -> Pace {
        let period_ns = 1_000_000_000 / u64::from(limit.frames_per_second.max(1));
        Pace { period_ns, ahead_ns_max: period_ns.saturating_mul(limit.burst_frames.max(1).into()) }
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// The moment at which the bucket was or will be full: tokens are the time passed since, capped. Nanoseconds of the chain's
    /// timescale, which 64 bits hold until the year 2554.
    full_at_ns: u64,
}

impl Bucket {
    /// Takes a token if there is one. A bucket is full when `full_at` is past; each token moves it one period ahead
    /// (the generic cell rate algorithm, ITU-T I.371).
    pub(crate) fn take(&mut self, pace: Pace, now: NanoMoment) -> bool {
        let now_ns = u64::try_from(now.0).unwrap_or(u64::MAX);
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(pace.period_ns);
        if full_at_ns - now_ns > pace.ahead_ns_max {
            return false;
        }
        self.full_at_ns = full_at_ns;
        true
    }
}

/// Buckets of strangers; sources whose hashes meet share one.
const STRANGER_BUCKETS: usize = 4096;
/// Bytes at a frame's start that are asked for ahead: all headers, up to the session's name.
const HEAD_BYTES: usize = 128;
const _: () = assert!(BURST <= 32, "a burst's frames are bits of a word");

/// Where a frame comes from: an IPv6 address, or an IPv4 one mapped into them (RFC 4291, 2.5.5.2); its network, and the host in
/// it. Two words, so that a record is half a cache line.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Source {
    network: u64,
    host: u64,
}

/// What is above an IPv4 address in the lower half of its mapped one.
const MAPPED_IPV4: u64 = 0xffff;

impl Source {
    #[inline]
    fn of(ip: IpAddr) -> Source {
        match ip {
            IpAddr::V4(ip) => Source { network: 0, host: MAPPED_IPV4 << 32 | u64::from(ip.to_bits()) },
            IpAddr::V6(ip) => Source { network: (ip.to_bits() >> 64) as u64, host: ip.to_bits() as u64 },
        }
    }

    /// The network of a stranger, who can take any address of an IPv6 one.
    fn network(self) -> Source {
        let is_ipv4 = self.network == 0 && self.host >> 32 == MAPPED_IPV4;
        if is_ipv4 { self } else { Source { host: 0, ..self } }
    }
}

impl Key for Source {
    #[inline]
    fn words(&self) -> [u64; 2] {
        [self.network, self.host]
    }
}

/// What a frame's headers say.
#[derive(Clone, Copy, Default)]
struct Headers {
    source: Source,
    hash: Hash,
    payload: Span,
}

/// The stage.
pub struct Filter<B> {
    input: Consumer<RxFrame<B>>,
    out: Producer<Datagram<B>>,
    own: Source,
    port: u16,
    known: Table<Source, Bucket>,
    known_pace: Pace,
    stranger_pace: Pace,
    changes: Consumer<KnownChange>,
    slow_path: Option<SlowPathTap<B>>,
    strangers: Box<[Bucket]>,
    latency: LatencyRecorder,
    counters: Counters<FilterCounter>,
}

impl<B: FrameBuf> Filter<B> {
    /// The stage.
    #[must_use]
    pub fn new(
        config: FilterConfig,
        clock: ClockPage,
        changes: Consumer<KnownChange>,
        input: Consumer<RxFrame<B>>,
        out: Producer<Datagram<B>>,
    ) -> Filter<B> {
        let latency = LatencyRecorder::new(Since::Wire, clock);
        let (known_pace, stranger_pace) = (Pace::of(config.known), Pace::of(config.stranger));
        let mut known = Table::new(config.known_addresses.len(), secret());
        for ip in &config.known_addresses {
            known.insert(Source::of(*ip), Bucket::default());
        }
        Filter {
            input,
            out,
            own: Source::of(config.ip),
            port: config.port,
            known,
            known_pace,
            stranger_pace,
            changes,
            slow_path: None,
            strangers: vec![Bucket::default(); STRANGER_BUCKETS].into_boxed_slice(),
            counters: Counters::timed("filter", &[&latency]),
            latency,
        }
    }

    /// The same, as the stage of one lane.
    #[must_use]
    pub fn in_lane(mut self, lane: Option<u8>) -> Filter<B> {
        self.counters = self.counters.in_lane(lane);
        self
    }

    /// The same, with what a host must answer passed on by `tap`.
    #[must_use]
    pub fn with_slow_path(mut self, tap: Option<SlowPathTap<B>>) -> Filter<B> {
        self.slow_path = tap;
        self
    }

    /// Reads a frame's headers into `headers`, field by field: the copy of a whole that was written in parts waits for them.
    #[inline]
    fn check(&self, frame: &[u8], headers: &mut Headers) -> Result<(), FilterCounter> {
        let udp = parse_udp(frame).map_err(|error| match error {
            NetError::Truncated => FilterCounter::Truncated,
            NetError::EtherType => FilterCounter::NotIp,
            NetError::IpHeader => FilterCounter::BadIpHeader,
            NetError::Checksum => FilterCounter::BadChecksum,
            NetError::NotUdp => FilterCounter::NotUdp,
        })?;
        if Source::of(udp.addresses.destination_ip) != self.own {
            return Err(FilterCounter::WrongAddress);
        }
        if udp.addresses.destination_port != self.port {
            return Err(FilterCounter::WrongPort);
        }
        if udp.payload_bytes <= SEAL_BYTES {
            return Err(FilterCounter::TooShort);
        }
        if udp.payload_bytes > SEAL_BYTES + MESSAGE_BYTES_MAX {
            return Err(FilterCounter::TooLong);
        }
        let source = Source::of(udp.addresses.source_ip);
        let hash = self.known.hash(&source);
        self.known.prefetch(hash);
        (headers.source, headers.hash) = (source, hash);
        headers.payload = Span::new(udp.payload_at, udp.payload_bytes);
        Ok(())
    }

    /// A peer has one address at a time, so there is room.
    fn follow(&mut self, change: KnownChange) {
        match change {
            KnownChange::Moved { from, to } => {
                if let Some(bucket) = self.known.remove(&Source::of(from)) {
                    self.known.insert(Source::of(to), bucket);
                }
            }
            KnownChange::Banned(ip) => {
                self.known.remove(&Source::of(ip));
            }
            KnownChange::Readmitted(ip) => {
                let source = Source::of(ip);
                if self.known.get(self.known.hash(&source), &source).is_none() {
                    self.known.insert(source, Bucket::default());
                }
            }
        }
    }

    fn take_token(&mut self, source: Source, hash: Hash, now: NanoMoment) -> bool {
        if let Some(bucket) = self.known.get_mut(hash, &source) {
            return bucket.take(self.known_pace, now);
        }
        let place = self.known.hash(&source.network()).place_in(STRANGER_BUCKETS);
        self.strangers[place].take(self.stranger_pace, now)
    }

    /// Counts a frame that is no datagram for this node; what a host must answer goes to the slow path.
    #[cold]
    fn refuse(&mut self, frame: RxFrame<B>, refusal: FilterCounter) {
        let diverted = match (&mut self.slow_path, refusal) {
            (Some(tap), FilterCounter::NotIp | FilterCounter::NotUdp) => tap.offer(frame.buf),
            _ => None,
        };
        self.counters.count(diverted.unwrap_or(refusal));
    }

    /// Passes a frame on if its source may send now.
    #[inline]
    fn pass(&mut self, frame: RxFrame<B>, headers: Headers) {
        let RxFrame { buf, received } = frame;
        if !self.take_token(headers.source, headers.hash, received.moment) {
            self.counters.count(FilterCounter::RateLimited);
            return;
        }
        self.latency.note(received.moment);
        let pushed = self.out.push(Datagram { buf, received, payload: headers.payload });
        debug_assert!(pushed.is_ok(), "room was checked");
        self.counters.count(FilterCounter::Passed);
    }
}

impl<B: FrameBuf> Stage for Filter<B> {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        while let Some(change) = self.changes.pop() {
            self.follow(change);
        }
        // A burst at a time, so that its cache misses overlap: the headers, the index, the buckets.
        let room = self.out.free_slots();
        let mut burst = ArrayVec::<_, BURST>::new();
        self.input.pop_each(BURST.min(room), |frame| {
            let data = frame.buf.data();
            prefetch::bytes(&data[..data.len().min(HEAD_BYTES)]);
            burst.push(frame);
        });
        let mut headers = [Headers::default(); BURST];
        let mut refusals = [FilterCounter::Passed; BURST];
        let mut passing = 0_u32;
        for (place, frame) in burst.iter().enumerate() {
            match self.check(frame.buf.data(), &mut headers[place]) {
                Ok(()) => passing |= 1 << place,
                Err(refusal) => refusals[place] = refusal,
            }
        }
        for headers in &mut headers[..burst.len()] {
            self.known.prefetch_record(&mut headers.hash);
        }
        let work = burst.len();
        for (place, frame) in burst.into_iter().enumerate() {
            if passing >> place & 1 == 1 {
                self.pass(frame, headers[place]);
            } else {
                self.refuse(frame, refusals[place]);
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
    fn a_strangers_limit_is_divided_and_a_known_peers_is_not() {
        let limit = |frames_per_second, burst_frames| RateLimit { frames_per_second, burst_frames };
        let config = FilterConfig {
            ip: [10, 0, 0, 1].into(),
            port: 1,
            stranger: limit(1_000, 5),
            known: limit(500, 50),
            known_addresses: Vec::new(),
        };
        for (queues, stranger) in [(1, limit(1_000, 5)), (4, limit(250, 2)), (16, limit(63, 1))] {
            let each = config.clone().for_each_of(queues);
            assert_eq!((each.stranger, each.known), (stranger, config.known), "{queues}");
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_later() {
        let pace = Pace::of(RateLimit { frames_per_second: 10, burst_frames: 3 });
        let mut bucket = Bucket::default();
        let at = |ms: u128| NanoMoment(1_700_000_000_000_000_000 + ms * 1_000_000);
        let taken = |bucket: &mut Bucket, ms| (0..9).filter(|_| bucket.take(pace, at(ms))).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 100), 1);
        assert_eq!(taken(&mut bucket, 10_000), 3);
    }
}
