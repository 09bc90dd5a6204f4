//! A safe face over DPDK: EAL, ports, queues, mbufs, rings, timestamps.
//!
//! Place in the line: the data plane's `Port` over DPDK is built on this crate, and nothing else
//! in the workspace names a DPDK symbol. It may assume a Linux machine with the DPDK libraries of
//! the version it was built with.
//!
//! # Who keeps whom alive
//!
//! ```text
//!   RxQueue, TxQueue, Timesync ──► Port's device ──► rings (virtual ports)
//!   RingRx, RingTx ──────────────────────────────►  rings ──┐
//!   MbufPool, ThreadGuard, Port ─────────────────────────── ┴──► the running EAL
//! ```
//!
//! Every arrow is an `Arc`, so the EAL ends after the last handle. An [`Mbuf`] is the exception: it
//! is one pointer, without a count, because a count would cost more than the rest of its handling.
//! For that reason a pool is returned only with the EAL, and the EAL is cleaned up only when every
//! mbuf is back in its pool; an mbuf that is still held keeps the memory mapped until the process exits.
//!
//! # Which thread may do what
//!
//! * [`Eal`], [`MbufPool`] and [`Port`] may be used from any thread; control calls are serialised.
//! * [`RxQueue`], [`TxQueue`], [`RingRx`], [`RingTx`] are single: one exists per queue, they move
//!   between threads and every burst takes `&mut self`. That is how DPDK's rule of one thread a
//!   queue is kept, and how a port cannot be stopped under a thread that polls it.
//! * A polling thread holds a [`ThreadGuard`], so that the pools' per-thread caches work for it.
//!
//! # A packet's way
//!
//! `pool` gives an `mbuf`, a `queue` sends it; a virtual port (`ring_port`) passes the pointer
//! through a `ring` to the other side, whose `queue` hands the same `mbuf` out. `timestamp` reads
//! or writes the receive time on the way; `timesync` talks to a NIC's own clock.
//!
//! # Example: one port, its other side as a bare ring
//!
//! ```no_run
//! use roko_dpdk::{Burst, Eal, EalConfig, PoolConfig, PortConfig, ring_port};
//!
//! let eal = Eal::start(&EalConfig::unprivileged(64))?;
//! let pool = eal.pool("frames", &PoolConfig { mbufs: 4095, ..PoolConfig::default() })?;
//! let (mut port, mut wire) = ring_port(&eal, "validator0", 512)?;
//! let mut queues = port.start(&PortConfig::default(), &pool)?;
//! let (rx, tx) = (&mut queues.rx[0], &mut queues.tx[0]);
//!
//! let mut burst = Burst::new();
//! burst.push(pool.alloc_from(b"a frame").expect("the pool has mbufs"));
//! tx.tx_burst(&mut burst);
//! wire.rx_burst(&mut burst);
//! wire.tx_burst(&mut burst);
//! assert_eq!(rx.rx_burst(&mut burst), 1);
//! # Ok::<(), roko_dpdk::Error>(())
//! ```

mod eal;
mod error;
mod mbuf;
mod pool;
mod port;
mod queue;
mod ring;
mod ring_port;
mod thread;
mod timestamp;
mod timesync;

pub use eal::{
    Eal, EalConfig, LogLevel, Memory, PORTS_MAX, PciDevices, dpdk_version, hugepages_free_megabytes,
};
pub use error::{Errno, Error};
pub use mbuf::Mbuf;
pub use pool::{MbufPool, PoolConfig};
pub use port::{
    Capabilities, Link, Offloads, Port, PortConfig, PortStats, Queues, RssFields, null_port, port_ids,
    vdev_port,
};
pub use queue::{RxQueue, TxQueue};
pub use ring::{RingEnd, RingRx, RingTx, ring_link, ring_pipe};
pub use ring_port::{ring_pair, ring_port, ring_port_of_queues};
pub use thread::ThreadGuard;
pub use timestamp::{ManualClock, RxClock, StampEvery, TimestampField, TscClock};
pub use timesync::{TickClock, Timesync, TxTimestamps};

/// Packets in a burst, at most: the size DPDK's drivers are tuned for.
pub const BURST_PACKETS: usize = 32;

/// A burst of packets, without allocation.
pub type Burst = arrayvec::ArrayVec<Mbuf, BURST_PACKETS>;
