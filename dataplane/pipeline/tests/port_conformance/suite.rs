//! What every port must do. A kind says what of it cannot be asked of it, and the suite asks the rest.

use roko_pipeline::port::{BURST, Burst, FrameBuf, FramePool, Port, RxPort, TxPort};
use roko_wire::net::{Addresses, ETHERNET_BYTES, fill_udp6_checksum, headers_bytes, write_headers};
use std::time::{Duration, Instant};

/// How long a frame may take to the other end, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing comes before nothing is taken to come any more.
const SILENCE: Duration = Duration::from_millis(200);
/// Bytes of the longest frame: a payload of 1,500 and the Ethernet header.
pub(crate) const FRAME_BYTES_MAX: usize = 1_514;

/// Bytes of a small frame: headers of IPv6, and a number.
const SMALL_BYTES: usize = 72;

/// What kind of port it is.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// From the first port to the second.
    pub(crate) there: Addresses,
    /// The frame's memory is passed on, nothing is copied.
    pub(crate) same_memory: bool,
    /// The Ethernet header is not the sender's: the kernel keeps it.
    pub(crate) ethernet_rewritten: bool,
    /// Frames that each direction holds at most, where a full port leaves what it does not take. Without it the kernel
    /// drops what nobody polls in time.
    pub(crate) holds_at_most: Option<usize>,
    /// Frames sent at once when the port is to overflow.
    pub(crate) flood: usize,
}

/// The two ports taken apart, after the suite.
pub(crate) struct Ends<A: Port, B: Port> {
    pub(crate) a: (A::Rx, A::Tx, A::Pool),
    pub(crate) b: (B::Rx, B::Tx, B::Pool),
    /// Frames sent to fill the port up, and how many of them arrived.
    pub(crate) flooded: (usize, usize),
    /// Frames that each end sent in all.
    pub(crate) sent: (usize, usize),
}

/// A frame of `bytes` in all: headers that hold, then bytes that follow from `number`.
fn frame<P: FramePool>(pool: &P, way: &Addresses, bytes: usize, number: u32) -> P::Buf {
    let mut buf = pool.alloc().expect("a frame is free");
    assert!(buf.data().is_empty(), "a fresh frame is empty");
    assert!(buf.capacity() >= FRAME_BYTES_MAX);
    buf.set_len(bytes);
    let start = headers_bytes(&way.source_ip);
    write_headers(way, bytes - start, buf.data_mut()).expect("it fits");
    for (at, byte) in buf.data_mut()[start..].iter_mut().enumerate() {
        *byte = number.wrapping_add(at as u32 / 4).to_le_bytes()[at % 4];
    }
    fill_udp6_checksum(buf.data_mut());
    buf
}

fn number(frame: &[u8], way: &Addresses) -> u32 {
    let start = headers_bytes(&way.source_ip);
    u32::from_le_bytes(frame[start..start + 4].try_into().expect("four bytes"))
}

/// Polls until `count` frames are there.
fn receive<R: RxPort>(rx: &mut R, count: usize) -> Vec<R::Buf> {
    let (mut all, until) = (Vec::new(), Instant::now() + PATIENCE);
    while all.len() < count {
        let mut burst = Burst::new();
        if rx.rx_burst(&mut burst) == 0 {
            assert!(Instant::now() < until, "{} of {count} frames have come", all.len());
            std::thread::yield_now();
        }
        all.extend(burst);
    }
    assert_eq!(all.len(), count, "more frames than were sent");
    all
}

/// Offers until all are taken.
fn send<T: TxPort>(tx: &mut T, burst: &mut Burst<T::Buf>) {
    let until = Instant::now() + PATIENCE;
    while !burst.is_empty() {
        tx.tx_burst(burst);
        assert!(Instant::now() < until, "the port takes nothing");
    }
}

/// One direction of a link.
struct Way<'a, T: TxPort, P, R: RxPort> {
    tx: &'a mut T,
    pool: &'a P,
    rx: &'a mut R,
    addresses: Addresses,
    kind: Kind,
    sent: &'a mut usize,
}

impl<T: TxPort, P: FramePool<Buf = T::Buf>, R: RxPort> Way<'_, T, P, R> {
    fn bytes(&self, frame: &[u8]) -> Vec<u8> {
        let from = if self.kind.ethernet_rewritten { ETHERNET_BYTES } else { 0 };
        frame[from..].to_vec()
    }

    /// Frames of every size arrive as they were sent, in order.
    fn sizes(&mut self) {
        let least = headers_bytes(&self.addresses.source_ip) + 4;
        let all = (least..least + 40).chain((100..FRAME_BYTES_MAX).step_by(97)).chain([FRAME_BYTES_MAX]);
        let sizes: Vec<usize> = all.collect();
        for (round, sizes) in sizes.chunks(BURST).enumerate() {
            let number = |index: usize| (round * BURST + index) as u32;
            let sent: Burst<T::Buf> = sizes
                .iter()
                .enumerate()
                .map(|(index, bytes)| frame(self.pool, &self.addresses, *bytes, number(index)))
                .collect();
            let expected: Vec<Vec<u8>> = sent.iter().map(|buf| self.bytes(buf.data())).collect();
            let place = sent[0].data().as_ptr();
            let mut sent = sent;
            send(self.tx, &mut sent);
            *self.sent += sizes.len();
            let arrived = receive(self.rx, sizes.len());
            assert!(!self.kind.same_memory || arrived[0].data().as_ptr() == place, "nothing is copied");
            for (buf, expected) in arrived.iter().zip(&expected) {
                assert!(
                    self.bytes(buf.data()) == *expected,
                    "a frame of {} bytes has changed",
                    expected.len()
                );
            }
        }
    }

    /// Many bursts, polled as they come: none is lost, doubled or out of order.
    fn bursts(&mut self, rounds: u32) {
        for round in 0..rounds {
            let mut burst: Burst<T::Buf> =
                (0..BURST as u32).map(|at| frame(self.pool, &self.addresses, 128, round * 32 + at)).collect();
            send(self.tx, &mut burst);
            *self.sent += BURST;
            for (at, buf) in receive(self.rx, BURST).iter().enumerate() {
                assert_eq!(number(buf.data(), &self.addresses), round * 32 + at as u32);
            }
        }
        let mut burst = Burst::new();
        assert_eq!(self.rx.rx_burst(&mut burst), 0, "an empty port gives nothing");
    }

    /// More than the port holds: what it does not take stays with the caller; what it takes arrives in order, but for what
    /// the kernel dropped. Returns how many were taken and how many arrived.
    fn flood(&mut self) -> (usize, usize) {
        let mut taken = 0;
        let most = self.kind.holds_at_most.map_or(self.kind.flood, |most| most + BURST);
        while taken < most {
            let next = taken as u32;
            let mut burst: Burst<T::Buf> = (0..BURST as u32)
                .map_while(|at| Some((at, self.pool.alloc()?)))
                .map(|(at, buf)| {
                    drop(buf);
                    frame(self.pool, &self.addresses, SMALL_BYTES, next + at)
                })
                .collect();
            let offered = burst.len();
            let now = self.tx.tx_burst(&mut burst);
            assert_eq!(burst.len(), offered - now);
            if let Some(first) = burst.first() {
                assert_eq!(
                    number(first.data(), &self.addresses),
                    next + now as u32,
                    "the first unsent is the next"
                );
            }
            taken += now;
            if now < BURST {
                break;
            }
        }
        if let Some(most) = self.kind.holds_at_most {
            assert!(taken <= most, "the port is deeper than it says");
        }
        *self.sent += taken;
        let (mut arrived, mut last, mut heard) = (0, None, Instant::now());
        while heard.elapsed() < SILENCE {
            let mut burst = Burst::new();
            if self.rx.rx_burst(&mut burst) > 0 {
                heard = Instant::now();
            } else if self.kind.holds_at_most.is_some() {
                break;
            }
            for buf in &burst {
                let number = number(buf.data(), &self.addresses);
                assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
                last = Some(number);
                arrived += 1;
            }
        }
        assert!(arrived > 0 && (arrived == taken || self.kind.holds_at_most.is_none() && arrived < taken));
        (taken, arrived)
    }
}

/// Asks a port of several queues, at the other end of `tx`: a flow comes by one queue and in order, flows spread over all
/// queues, nothing is lost or doubled. Of frames that go by addresses of hosts and by UDP ports, `flows` are made.
pub(crate) fn spreads<T: TxPort, P: FramePool<Buf = T::Buf>, B: Port>(
    (tx, pool): (&mut T, &P),
    b: B,
    there: Addresses,
    flows: u16,
) {
    const ROUNDS: u32 = 20;
    let (queues, kind) = (b.rx_queues(), b.kind());
    let (mut rx, _b_tx, _b_pool) = b.split_queues();
    assert!(queues > 1 && rx.len() == queues);
    let flow_of = |flow: u16| Addresses { source_port: there.source_port + flow, ..there };
    let (mut came, mut queue_of, mut received) = (vec![0; flows.into()], vec![None; flows.into()], 0);
    let mut poll = |rx: &mut Vec<B::Rx>, want: usize| {
        let until = Instant::now() + PATIENCE;
        while received < want {
            for (queue, half) in rx.iter_mut().enumerate() {
                let mut burst = Burst::new();
                half.rx_burst(&mut burst);
                for buf in &burst {
                    let udp = roko_wire::net::parse_udp(buf.data()).expect("a frame of ours");
                    let flow = usize::from(udp.addresses.source_port - there.source_port);
                    assert_eq!(number(buf.data(), &there), came[flow], "{kind}: flow {flow} in order");
                    came[flow] += 1;
                    assert_eq!(*queue_of[flow].get_or_insert(queue), queue, "{kind}: flow {flow} stays");
                    received += 1;
                }
            }
            assert!(Instant::now() < until, "{kind}: {received} of {want} frames have come");
        }
        let counts: Vec<usize> =
            (0..queues).map(|queue| queue_of.iter().filter(|of| **of == Some(queue)).count()).collect();
        (received, counts)
    };
    for round in 0..ROUNDS {
        for first in (0..flows).step_by(8) {
            let group = first..(first + 8).min(flows);
            let mut burst: Burst<T::Buf> =
                group.clone().map(|flow| frame(pool, &flow_of(flow), SMALL_BYTES, round)).collect();
            send(tx, &mut burst);
            let want = usize::from(flows) * round as usize + usize::from(group.end);
            poll(&mut rx, want);
        }
    }
    let (received, counts) = poll(&mut rx, usize::from(flows) * ROUNDS as usize);
    assert_eq!(received, usize::from(flows) * ROUNDS as usize, "{kind}: nothing is doubled");
    let even = usize::from(flows) / queues;
    assert!(counts.iter().all(|count| (even / 3..=even * 3).contains(count)), "{kind}: {counts:?}");
    eprintln!("{kind}: {flows} flows over {queues} queues: {counts:?}");
}

/// Asks everything of two ports that are joined. Each pool holds at least twice what a direction holds.
pub(crate) fn conforms<A: Port, B: Port>(a: A, b: B, kind: Kind) -> Ends<A, B> {
    assert!(!a.kind().is_empty() && !b.kind().is_empty());
    let ((mut a_rx, mut a_tx, a_pool), (mut b_rx, mut b_tx, b_pool)) = (a.split(), b.split());
    let mut sent = (0, 0);
    let (there, back) = (kind.there, kind.there.reversed());
    for _ in 0..3 {
        let mut way =
            Way { tx: &mut a_tx, pool: &a_pool, rx: &mut b_rx, addresses: there, kind, sent: &mut sent.0 };
        way.sizes();
        way.bursts(64);
        let mut way =
            Way { tx: &mut b_tx, pool: &b_pool, rx: &mut a_rx, addresses: back, kind, sent: &mut sent.1 };
        way.sizes();
        way.bursts(64);
    }

    // A burst that already holds frames keeps them.
    let mut burst: Burst<A::Buf> = [frame(&a_pool, &there, SMALL_BYTES, 7)].into_iter().collect();
    send(&mut a_tx, &mut burst);
    sent.0 += 1;
    let mut held: Burst<B::Buf> = [frame(&b_pool, &back, SMALL_BYTES, 9)].into_iter().collect();
    let until = Instant::now() + PATIENCE;
    while b_rx.rx_burst(&mut held) == 0 {
        assert!(Instant::now() < until, "the frame has not come");
    }
    assert_eq!((number(held[0].data(), &there), number(held[1].data(), &there)), (9, 7));
    drop(held);

    let flooded =
        Way { tx: &mut a_tx, pool: &a_pool, rx: &mut b_rx, addresses: there, kind, sent: &mut sent.0 }
            .flood();
    // It works as before afterwards.
    Way { tx: &mut a_tx, pool: &a_pool, rx: &mut b_rx, addresses: there, kind, sent: &mut sent.0 }.bursts(4);

    // An exhausted pool says so and recovers.
    let all: Vec<A::Buf> = std::iter::from_fn(|| a_pool.alloc()).collect();
    assert!(all.len() >= BURST);
    drop(all);
    assert!(a_pool.alloc().is_some());

    // The halves work from other threads.
    let (a_tx, a_pool) = std::thread::spawn(move || {
        let mut burst: Burst<A::Buf> = [frame(&a_pool, &there, 99, 0xee)].into_iter().collect();
        send(&mut a_tx, &mut burst);
        (a_tx, a_pool)
    })
    .join()
    .expect("it does not panic");
    sent.0 += 1;
    assert_eq!(number(receive(&mut b_rx, 1)[0].data(), &there), 0xee);
    Ends { a: (a_rx, a_tx, a_pool), b: (b_rx, b_tx, b_pool), flooded, sent }
}
