//! The replay port sends to nobody, so the suite asks it alone: frames as in the capture, each at its time.

use crate::nowhere;
use roko_pipeline::pcap::PcapWriter;
use roko_pipeline::port::inprocess::InProcessPool;
use roko_pipeline::port::replay::ReplayPort;
use roko_pipeline::port::{BURST, Burst, FrameBuf, FramePool, Port, RxPort, RxStamps, TxPort};
use roko_wire::net::{headers_bytes, write_headers};
use roko_wire::port_clock::PortTime;

/// A capture of frames of every size, two microseconds apart from `start` on.
fn capture(start: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut file, mut frames) = (Vec::new(), Vec::new());
    let mut writer = PcapWriter::new(&mut file).expect("a vector takes everything");
    for (index, bytes) in (60..=1_514).step_by(7).enumerate() {
        let mut frame = vec![index as u8; bytes];
        let way = nowhere();
        write_headers(&way, bytes - headers_bytes(&way.source_ip), &mut frame).expect("it fits");
        writer.write(start + index as u64 * 2_000, &frame).expect("written");
        frames.push(frame);
    }
    writer.write(start, &[0; 4_000]).expect("longer than any port delivers");
    (file, frames)
}

#[test]
fn the_replay_port_conforms() {
    let start = 1_800_000_000_000_000_000;
    let (file, frames) = capture(start);
    // Fewer frames than the capture has: those that are held are waited for.
    let pool = InProcessPool::new(48);
    let (port, state) = ReplayPort::new(file.as_slice(), pool.clone()).expect("a good capture");
    assert_eq!((port.kind(), port.rx_stamps()), ("replay", RxStamps::Capture));
    assert_eq!((state.left_out(), state.next_at()), (1, Some(start)));
    let (mut rx, mut tx, frame_pool) = port.split();
    let mut burst = Burst::new();
    assert_eq!(rx.rx_burst(&mut burst), 0, "before its time nothing comes");
    let mut next = 0;
    for now in (start..).step_by(500).take(frames.len() * 4 + 4) {
        state.set_now(now);
        let mut burst = Burst::new();
        rx.rx_burst(&mut burst);
        for buf in &burst {
            let at = start + next as u64 * 2_000;
            assert_eq!(rx.stamp(buf), Some(PortTime::Nanoseconds(at)));
            assert!(at <= now && now < at + 500, "frame {next} at {now}");
            assert!(buf.data() == frames[next], "frame {next} has changed");
            next += 1;
        }
        // What the node sends is counted and goes home.
        let offered = burst.len();
        assert_eq!(tx.tx_burst(&mut burst), offered);
    }
    assert_eq!((next, state.next_at()), (frames.len(), None));
    assert_eq!((state.delivered(), state.sent()), (frames.len() as u64, frames.len() as u64));
    assert_eq!(pool.available(), 48, "every frame is back");

    // All at once: bursts are full, in order, and an empty pool loses nothing.
    let (port, state) = ReplayPort::new(file.as_slice(), pool.clone()).expect("a good capture");
    let (mut rx, ..) = port.split();
    state.set_now(u64::MAX);
    let mut held = Vec::new();
    while held.len() < 48 {
        let mut burst = Burst::new();
        assert!(rx.rx_burst(&mut burst) > 0);
        assert!(burst.len() == BURST || held.len() + burst.len() == 48);
        held.extend(burst);
    }
    let mut burst = Burst::new();
    assert_eq!((rx.rx_burst(&mut burst), frame_pool.alloc().is_none()), (0, true));
    held.clear();
    let mut seen = 48;
    while state.next_at().is_some() {
        let mut burst = Burst::new();
        rx.rx_burst(&mut burst);
        for buf in &burst {
            assert!(buf.data() == frames[seen]);
            seen += 1;
        }
    }
    assert_eq!(seen, frames.len());
}
