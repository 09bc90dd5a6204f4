//! The second stage: what is not a datagram of the right size for this node, or comes too often, goes no further.
//!
//! Everything here is cheap and forged at will, so each source prefix (an IPv4 address, an IPv6 /64) has a token bucket
//! in a table of fixed size. Known peers have generous buckets of their own that no stranger's hash can share.

use crate::clock::ClockPage;
use crate::keyed::secret;
use crate::latency::{LatencyRecorder, Since};
use crate::link::{Datagram, RxFrame, Span};
use crate::metrics::{Counters, StageMetrics};
use crate::peer::KnownAddress;
use crate::poll::{PollContext, Progress, Stage};
use crate::port::{BURST, FrameBuf};
use crate::session::SEAL_BYTES;
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv6Addr};
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

/// A limit in the terms of its arithmetic, nanoseconds.
#[derive(Clone, Copy)]
struct Pace {
    /// From one token to the next.
    period_ns: u64,
    /// How far ahead of now tokens may be taken.
    ahead_ns_max: u64,
}

impl Pace {
    fn of(limit: RateLimit) -> Pace {
        let period_ns = 1_000_000_000 / u64::from(limit.frames_per_second.max(1));
        Pace { period_ns, ahead_ns_max: period_ns.saturating_mul(limit.burst_frames.max(1).into()) }
    }
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// The moment at which the bucket was or will be full: tokens are the time passed since, capped. Nanoseconds of the chain's
    /// timescale, which 64 bits hold until the year 2554.
    full_at_ns: u64,
}

impl Bucket {
    /// Takes a token if there is one. A bucket is full when `full_at` is past; each token moves it one period ahead
    /// (the generic cell rate algorithm, ITU-T I.371).
    fn take(&mut self, pace: Pace, now_ns: u64) -> bool {
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

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Source(IpAddr);

impl Source {
    /// The network of a stranger, who can take any address of an IPv6 one.
    fn network(self) -> Source {
        match self.0 {
            IpAddr::V4(_) => self,
            IpAddr::V6(ip) => Source(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        }
    }
}

impl Key for Source {
    fn words(&self) -> [u64; 2] {
        let bits = match self.0 {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        [(bits >> 64) as u64, bits as u64]
    }
}

/// What a frame's headers say, if it is for this node.
struct Headers {
    payload: Span,
    source: Source,
    hash: Hash,
}

/// The stage.
pub struct Filter<B> {
    input: Consumer<RxFrame<B>>,
    out: Producer<Datagram<B>>,
    config: FilterConfig,
    known: Table<Source, Bucket>,
    known_pace: Pace,
    stranger_pace: Pace,
    moved: Consumer<KnownAddress>,
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
        moved: Consumer<KnownAddress>,
        input: Consumer<RxFrame<B>>,
        out: Producer<Datagram<B>>,
    ) -> Filter<B> {
        let latency = LatencyRecorder::new(Since::Wire, clock);
        let (known_pace, stranger_pace) = (Pace::of(config.known), Pace::of(config.stranger));
        let mut known = Table::new(config.known_addresses.len(), secret());
        for ip in &config.known_addresses {
            known.insert(Source(*ip), Bucket::default());
        }
        Filter {
            input,
            out,
            config,
            known,
            known_pace,
            stranger_pace,
            moved,
            strangers: vec![Bucket::default(); STRANGER_BUCKETS].into_boxed_slice(),
            counters: Counters::timed("filter", &[&latency]),
            latency,
        }
    }

    fn check(&self, frame: &RxFrame<B>) -> Result<Headers, FilterCounter> {
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
        let source = Source(udp.addresses.source_ip);
        let hash = self.known.hash(&source);
        self.known.prefetch(hash);
        Ok(Headers { payload: Span::new(udp.payload_at, udp.payload_bytes), source, hash })
    }

    fn take_token(&mut self, source: Source, hash: Hash, now: NanoMoment) -> bool {
        let now_ns = u64::try_from(now.0).unwrap_or(u64::MAX);
        if let Some(bucket) = self.known.get_mut(hash, &source) {
            return bucket.take(self.known_pace, now_ns);
        }
        let place = self.known.hash(&source.network()).place_in(STRANGER_BUCKETS);
        self.strangers[place].take(self.stranger_pace, now_ns)
    }

    fn pass(
        &mut self,
        frame: RxFrame<B>,
        headers: Result<Headers, FilterCounter>,
    ) -> Result<(), FilterCounter> {
        let Headers { payload, source, hash } = headers?;
        if !self.take_token(source, hash, frame.received.moment) {
            return Err(FilterCounter::RateLimited);
        }
        self.latency.note(frame.received.moment);
        let pushed = self.out.push(Datagram { buf: frame.buf, received: frame.received, payload });
        debug_assert!(pushed.is_ok(), "room was checked");
        Ok(())
    }
}

impl<B: FrameBuf> Stage for Filter<B> {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn poll(&mut self, _cx: &mut PollContext) -> Progress {
        while let Some(KnownAddress { from, to }) = self.moved.pop() {
            // One address in for one out: there is room.
            if let Some(bucket) = self.known.remove(&Source(from)) {
                self.known.insert(Source(to), bucket);
            }
        }
        // A burst at a time, so that its cache misses overlap: the headers, the index, the buckets.
        let room = self.out.free_slots();
        let mut burst = ArrayVec::<_, BURST>::new();
        while burst.len() < BURST.min(room)
            && let Some(frame) = self.input.pop()
        {
            let data = frame.buf.data();
            prefetch::bytes(&data[..data.len().min(HEAD_BYTES)]);
            burst.push(frame);
        }
        let headers: ArrayVec<_, BURST> = burst.iter().map(|frame| self.check(frame)).collect();
        for headers in headers.iter().flatten() {
            self.known.prefetch_record(headers.hash);
        }
        let work = burst.len();
        for (frame, headers) in burst.into_iter().zip(headers) {
            let outcome = self.pass(frame, headers).err().unwrap_or(FilterCounter::Passed);
            self.counters.count(outcome);
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
        let pace = Pace::of(RateLimit { frames_per_second: 10, burst_frames: 3 });
        let mut bucket = Bucket::default();
        let at = |ms: u64| 1_700_000_000_000_000_000 + ms * 1_000_000;
        let taken = |bucket: &mut Bucket, ms| (0..9).filter(|_| bucket.take(pace, at(ms))).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 100), 1);
        assert_eq!(taken(&mut bucket, 10_000), 3);
    }
}
