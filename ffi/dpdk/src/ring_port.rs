//! Virtual ports over rings: true Ethernet ports to whoever polls them, and a pointer passed underneath.
//!
//! [`ring_port`] gives a port and the bare ring end opposite it, for a software switch: the switch needs no
//! port of its own per validator, and DPDK's table of ports (32 in Debian) is spent on one side only.
//! [`ring_pair`] wires two ports back to back.
//!
//! ```text
//!   TxQueue ──► ring "<name>.up"   ──► RingEnd.rx       (the switch's side)
//!   RxQueue ◄── ring "<name>.down" ◄── RingEnd.tx
//! ```
//!
//! The packets belong to the pools they came from, on both sides; the pool given to `Port::start` is not
//! used by these ports. The rings are as deep as asked here, whatever `PortConfig` says of queue sizes.

use std::sync::Arc;

use crate::eal::{Eal, PORTS_MAX};
use crate::error::{Errno, Error, c_name};
use crate::port::Port;
use crate::ring::{MbufRing, RingEnd, RingRx, RingTx};

/// Queues of the driver (`RTE_PMD_RING_MAX_RX_RINGS`).
const QUEUES_MAX: usize = 16;
/// `net_ring_` before it and a NUL behind it fill what the driver has room for.
const NAME_BYTES_MAX: usize = 19;

/// A virtual port and the bare ring end opposite it, each way `depth` packets deep.
pub fn ring_port(eal: &Eal, name: &str, depth: usize) -> Result<(Port, RingEnd), Error> {
    let (port, rx, mut queues) = ring_port_of_queues(eal, name, depth, 1)?;
    let tx = queues.remove(0);
    Ok((port, RingEnd { rx, tx }))
}

/// The same with several receive queues, and the bare ring that each is filled by: whoever fills them does what a card's
/// receive-side scaling does. Returns the port, what it sends, and its queues by number.
pub fn ring_port_of_queues(
    eal: &Eal,
    name: &str,
    depth: usize,
    rx_queues: u16,
) -> Result<(Port, RingRx, Vec<RingTx>), Error> {
    c_name(name, NAME_BYTES_MAX)?;
    let (what, value, max) = ("a ring port's receive queues", usize::from(rx_queues), QUEUES_MAX);
    if !(1..=max).contains(&value) {
        return Err(Error::OutOfRange { what, value, min: 1, max });
    }
    let up = MbufRing::create(eal.inner(), &format!("{name}.up"), depth)?;
    let mut down = vec![MbufRing::create(eal.inner(), &format!("{name}.down"), depth)?];
    for queue in 1..rx_queues {
        down.push(MbufRing::create(eal.inner(), &format!("{name}.down{queue}"), depth)?);
    }
    let port = port_over(eal, name, &down, &up)?;
    Ok((port, RingRx::new(up), down.into_iter().map(RingTx::new).collect()))
}

/// Two virtual ports wired back to back, each way `depth` packets deep.
pub fn ring_pair(eal: &Eal, name_a: &str, name_b: &str, depth: usize) -> Result<(Port, Port), Error> {
    c_name(name_a, NAME_BYTES_MAX)?;
    c_name(name_b, NAME_BYTES_MAX)?;
    let a_to_b = MbufRing::create(eal.inner(), &format!("{name_a}.up"), depth)?;
    let b_to_a = MbufRing::create(eal.inner(), &format!("{name_b}.up"), depth)?;
    let a = port_over(eal, name_a, std::slice::from_ref(&b_to_a), &a_to_b)?;
    let b = port_over(eal, name_b, std::slice::from_ref(&a_to_b), &b_to_a)?;
    Ok((a, b))
}

/// The port that receives from some rings, at most [`QUEUES_MAX`], and sends to another.
fn port_over(eal: &Eal, name: &str, rx: &[Arc<MbufRing>], tx: &Arc<MbufRing>) -> Result<Port, Error> {
    let port_name = c_name(name, NAME_BYTES_MAX)?;
    let vdev = c_name(&format!("net_ring_{name}"), NAME_BYTES_MAX + 9)?;
    let control = eal.inner().control();
    let rx_rings: Vec<*mut dpdk_sys::rte_ring> = rx.iter().map(|ring| ring.raw()).collect();
    let (queues, tx_ring) = (rx_rings.len() as u32, tx.raw());
    // SAFETY: the rings are alive and outlive the device, which keeps them; the arrays have the `queues` elements and the
    // one element that are announced; the name is NUL-terminated and copied; the control lock is held. The rings are
    // single-producer, single-consumer, and so is their use: the RxQueue of each, the one TxQueue, and the
    // one handle on the other side of each ring.
    let id = unsafe {
        dpdk_sys::rte_eth_from_rings(port_name.as_ptr(), rx_rings.as_ptr(), queues, &tx_ring, 1, 0)
    };
    let errno = Errno::last();
    drop(control);
    let id = u16::try_from(id).map_err(|_| Error::VdevCreate {
        name: name.to_owned(),
        errno,
        ports_max: PORTS_MAX,
    })?;
    Port::claim(eal.inner(), id, Some(vdev), rx.iter().chain([tx]).map(Arc::clone).collect())
}
