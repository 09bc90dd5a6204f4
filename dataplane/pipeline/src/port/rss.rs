//! Receive-side scaling in software: the sending side of a port inside this process whose other end has several receive
//! queues. A card spreads flows itself; here whoever sends does it, by the same hash ([`roko_wire::rss`]).

use super::{Burst, FrameBuf, PortCounts, TxPort};
use roko_wire::rss::queue_of_frame;

/// A sending half for each queue of the other end. Frames of a flow go by one queue, in the order in which they are given.
pub struct RssTx<T: TxPort> {
    queues: Vec<T>,
    /// One frame on its way into a queue.
    one: Burst<T::Buf>,
}

impl<T: TxPort> RssTx<T> {
    /// Spreads over `queues`; over one it sends as that does.
    #[must_use]
    pub fn new(queues: Vec<T>) -> RssTx<T> {
        RssTx { queues, one: Burst::new() }
    }
}

impl<T: TxPort> TxPort for RssTx<T> {
    type Buf = T::Buf;

    /// A queue that is full stops the burst: a frame behind it may be of the same flow.
    fn tx_burst(&mut self, burst: &mut Burst<T::Buf>) -> usize {
        if let [only] = self.queues.as_mut_slice() {
            return only.tx_burst(burst);
        }
        let (offered, mut sent) = (burst.len(), 0);
        let mut left = Burst::new();
        for frame in burst.drain(..) {
            if !left.is_empty() {
                left.push(frame);
                continue;
            }
            let queue = queue_of_frame(frame.data(), self.queues.len());
            self.one.push(frame);
            sent += self.queues[queue].tx_burst(&mut self.one);
            left.extend(self.one.drain(..));
        }
        *burst = left;
        debug_assert_eq!(offered, sent + burst.len());
        sent
    }

    fn counts(&self) -> PortCounts {
        let zero = PortCounts::default();
        self.queues.iter().map(TxPort::counts).fold(zero, |sum, of| PortCounts {
            dropped: sum.dropped + of.dropped,
            system_calls: sum.system_calls + of.system_calls,
        })
    }
}
