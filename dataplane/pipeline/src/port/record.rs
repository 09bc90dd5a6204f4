//! A port that writes what it sends to a capture, beside sending it.
//!
//! For load clients and tests: writing to a file may make system calls, so it is not for a validator's poll threads.

use super::{Burst, FrameBuf, Port, RxStamps, TxPort};
use crate::pcap::PcapWriter;
use std::io::Write;

/// The sending half.
pub struct RecordedTx<T, W: Write> {
    tx: T,
    capture: PcapWriter<W>,
    now_ns: fn() -> u64,
    failed: u64,
}

/// See the module.
pub struct Recorded<P, W: Write> {
    port: P,
    capture: PcapWriter<W>,
    now_ns: fn() -> u64,
}

impl<P: Port, W: Write> Recorded<P, W> {
    /// Records what `port` takes to `capture`, with times of `now_ns`, nanoseconds since 1970.
    pub fn new(port: P, capture: PcapWriter<W>, now_ns: fn() -> u64) -> Recorded<P, W> {
        Recorded { port, capture, now_ns }
    }
}

impl<T: TxPort, W: Write + Send + 'static> TxPort for RecordedTx<T, W> {
    type Buf = T::Buf;
    fn tx_burst(&mut self, burst: &mut Burst<T::Buf>) -> usize {
        // What the port will not take is offered again, and is written when it is taken.
        let now_ns = (self.now_ns)();
        let offered: arrayvec::ArrayVec<Vec<u8>, { super::BURST }> =
            burst.iter().map(|buf| buf.data().to_vec()).collect();
        let sent = self.tx.tx_burst(burst);
        for frame in &offered[..sent] {
            self.failed += u64::from(self.capture.write(now_ns, frame).is_err());
        }
        sent
    }
}

impl<T, W: Write> Drop for RecordedTx<T, W> {
    fn drop(&mut self) {
        if self.capture.flush().is_err() || self.failed > 0 {
            eprintln!("the capture is not whole: {} frames could not be written", self.failed);
        }
    }
}

impl<P: Port, W: Write + Send + 'static> Port for Recorded<P, W> {
    type Buf = P::Buf;
    type Rx = P::Rx;
    type Tx = RecordedTx<P::Tx, W>;
    type Pool = P::Pool;
    fn kind(&self) -> &'static str {
        self.port.kind()
    }
    fn rx_stamps(&self) -> RxStamps {
        self.port.rx_stamps()
    }
    fn offloads(&self) -> Vec<&'static str> {
        self.port.offloads()
    }
    fn rx_queues(&self) -> usize {
        self.port.rx_queues()
    }
    fn split_queues(self) -> (Vec<P::Rx>, RecordedTx<P::Tx, W>, P::Pool) {
        let (rx, tx, pool) = self.port.split_queues();
        (rx, RecordedTx { tx, capture: self.capture, now_ns: self.now_ns, failed: 0 }, pool)
    }
}
