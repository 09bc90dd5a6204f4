//! What the data plane passes on because no kernel has its port: address resolution and echo requests go up, answers and
//! questions come down. Whoever reads and answers them is on the control side.
//!
//! Only frames that the filter refuses anyway are looked at, so datagrams pay nothing. The way up is one short ring: what
//! finds it full is dropped and counted, and echo requests leave half of it to address resolution.

use crate::filter::FilterCounter;
use crate::lanes::FanIn;
use crate::link::OutFrame;
use crate::port::{FrameBuf, FramePool};
use core::net::IpAddr;
use roko_ring::spsc::Producer;
use roko_wire::host_frame::{HostFrame, host_frame};

/// Frames of each ring. A host on a link of some hundred is asked by all of them within a second at most, and the slow path
/// looks every few milliseconds.
pub const SLOW_PATH_FRAMES: usize = 64;

/// The filter's end.
pub struct SlowPathTap<B> {
    own: IpAddr,
    up: Producer<B>,
}

impl<B: FrameBuf> SlowPathTap<B> {
    /// Passes on what a host at `own` must answer.
    #[must_use]
    pub fn new(own: IpAddr, up: Producer<B>) -> SlowPathTap<B> {
        SlowPathTap { own, up }
    }

    /// Takes a refused frame if the slow path is to have it, and says what became of it.
    pub(crate) fn offer(&mut self, frame: B) -> Option<FilterCounter> {
        let left_free = match host_frame(frame.data(), &self.own)? {
            HostFrame::Resolution => 0,
            HostFrame::Echo => SLOW_PATH_FRAMES / 2,
        };
        let pushed = self.up.free_slots() > left_free && self.up.push(frame).is_ok();
        Some(if pushed { FilterCounter::SlowPath } else { FilterCounter::SlowPathFull })
    }
}

/// The control side's ends.
pub struct SlowPathEnds<P: FramePool> {
    /// Frames that it is to answer, from every filter.
    pub up: FanIn<P::Buf>,
    /// Its own frames, whole, to tx: after all that is sealed.
    pub down: Producer<OutFrame<P::Buf>>,
    /// Where its frames come from.
    pub pool: P,
}
