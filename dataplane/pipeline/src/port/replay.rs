//! A capture as a port: frames come at the times at which they were captured, by a clock that the caller sets.
//!
//! A frame is received by the first poll after the clock reached its time, and its time counts as the port's own stamp.
//! What is sent goes nowhere and is counted. Nothing here depends on the machine: a capture gives the same frames with
//! the same times, poll for poll.

use super::inprocess::{InProcessPool, StampedBuf, StampedPool};
use super::{Burst, FrameBuf, FramePool, Port, RxPort, RxStamps, TxPort};
use crate::pcap::{PcapError, PcapReader, Record};
use core::sync::atomic::{AtomicU64, Ordering};
use roko_wire::port_clock::PortTime;
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

/// What has become of a capture's frames; shared, so that it is read while the pipeline holds the port.
#[derive(Debug, Default)]
pub struct ReplayState {
    now_ns: AtomicU64,
    next_ns: AtomicU64,
    delivered: AtomicU64,
    left_out: AtomicU64,
    sent: AtomicU64,
}

impl ReplayState {
    /// Sets the virtual clock, nanoseconds since 1970: frames up to then come with the next polls.
    pub fn set_now(&self, now_ns: u64) {
        self.now_ns.store(now_ns, Ordering::Relaxed);
    }

    /// When the next frame is due, by its capture; `None` after the last.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        let next = self.next_ns.load(Ordering::Relaxed);
        (next != u64::MAX).then_some(next)
    }

    /// Frames handed over.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Frames left out: longer than any that a port delivers, or captured in part.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Frames that the node sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// The receiving half.
pub struct ReplayRx {
    records: VecDeque<Record>,
    pool: StampedPool,
    state: Arc<ReplayState>,
}

/// The sending half.
pub struct ReplayTx {
    state: Arc<ReplayState>,
}

/// See the module.
pub struct ReplayPort {
    rx: ReplayRx,
    tx: ReplayTx,
    pool: StampedPool,
}

impl ReplayPort {
    /// A port that replays `capture`, read whole now, with frames of its own from `pool`. Frames are in the order of their
    /// times; those of one time as they stand in the file.
    ///
    /// # Errors
    /// When the capture cannot be read to its end.
    pub fn new(capture: impl Read, pool: InProcessPool) -> Result<(ReplayPort, Arc<ReplayState>), PcapError> {
        let mut reader = PcapReader::new(capture)?;
        let (state, mut records) = (Arc::new(ReplayState::default()), Vec::new());
        while let Some(record) = reader.next_record()? {
            let whole = record.bytes_on_wire as usize == record.frame.len();
            if whole && record.frame.len() <= super::inprocess::FRAME_CAPACITY {
                records.push(record);
            } else {
                state.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        records.sort_by_key(|record| record.time_ns);
        let pool = StampedPool(pool);
        let rx = ReplayRx { records: records.into(), pool: pool.clone(), state: Arc::clone(&state) };
        rx.note_next();
        Ok((ReplayPort { rx, tx: ReplayTx { state: Arc::clone(&state) }, pool }, state))
    }
}

impl ReplayRx {
    fn note_next(&self) {
        let next = self.records.front().map_or(u64::MAX, |record| record.time_ns);
        self.state.next_ns.store(next, Ordering::Relaxed);
    }
}

impl RxPort for ReplayRx {
    type Buf = StampedBuf;
    fn rx_burst(&mut self, out: &mut Burst<StampedBuf>) -> usize {
        let (now, held) = (self.state.now_ns.load(Ordering::Relaxed), out.len());
        while !out.is_full() && self.records.front().is_some_and(|record| record.time_ns <= now) {
            // Without a free frame the record waits for the next poll: a replay loses nothing.
            let Some(mut buf) = self.pool.alloc() else { break };
            let Some(record) = self.records.pop_front() else { break };
            buf.set_len(record.frame.len());
            buf.data_mut().copy_from_slice(&record.frame);
            buf.time_ns = Some(record.time_ns);
            out.push(buf);
        }
        let count = out.len() - held;
        if count > 0 {
            self.state.delivered.fetch_add(count as u64, Ordering::Relaxed);
            self.note_next();
        }
        count
    }
    fn stamp(&self, frame: &StampedBuf) -> Option<PortTime> {
        frame.time_ns.map(PortTime::Nanoseconds)
    }
}

impl TxPort for ReplayTx {
    type Buf = StampedBuf;
    fn tx_burst(&mut self, burst: &mut Burst<StampedBuf>) -> usize {
        let count = burst.len();
        burst.clear();
        self.state.sent.fetch_add(count as u64, Ordering::Relaxed);
        count
    }
}

impl Port for ReplayPort {
    type Buf = StampedBuf;
    type Rx = ReplayRx;
    type Tx = ReplayTx;
    type Pool = StampedPool;
    fn kind(&self) -> &'static str {
        "replay"
    }
    fn rx_stamps(&self) -> RxStamps {
        RxStamps::Capture
    }
    fn split_queues(self) -> (Vec<ReplayRx>, ReplayTx, StampedPool) {
        (vec![self.rx], self.tx, self.pool)
    }
}
