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

/// `net_ring_` before it and a NUL behind it fill what the driver has room for.
const NAME_BYTES_MAX: usize = 19;

/// A virtual port and the bare ring end opposite it, each way `depth` packets deep.
pub fn ring_port(eal: &Eal, name: &str, depth: usize) -> Result<(Port, RingEnd), Error> {
    c_name(name, NAME_BYTES_MAX)?;
    let up = MbufRing::create(eal.inner(), &format!("{name}.up"), depth)?;
    let down = MbufRing::create(eal.inner(), &format!("{name}.down"), depth)?;
    let port = port_over(eal, name, &down, &up)?;
    Ok((port, RingEnd { rx: RingRx::new(up), tx: RingTx::new(down) }))
}

/// Two virtual ports wired back to back, each way `depth` packets deep.
pub fn ring_pair(eal: &Eal, name_a: &str, name_b: &str, depth: usize) -> Result<(Port, Port), Error> {
    c_name(name_a, NAME_BYTES_MAX)?;
    c_name(name_b, NAME_BYTES_MAX)?;
    let a_to_b = MbufRing::create(eal.inner(), &format!("{name_a}.up"), depth)?;
    let b_to_a = MbufRing::create(eal.inner(), &format!("{name_b}.up"), depth)?;
    let a = port_over(eal, name_a, &b_to_a, &a_to_b)?;
    let b = port_over(eal, name_b, &a_to_b, &b_to_a)?;
    Ok((a, b))
}

/// The port that receives from one ring and sends to the other.
fn port_over(eal: &Eal, name: &str, rx: &Arc<MbufRing>, tx: &Arc<MbufRing>) -> Result<Port, Error> {
    let port_name = c_name(name, NAME_BYTES_MAX)?;
    let vdev = c_name(&format!("net_ring_{name}"), NAME_BYTES_MAX + 9)?;
    let control = eal.inner().control();
    let (rx_ring, tx_ring) = (rx.raw(), tx.raw());
    // SAFETY: both rings are alive and outlive the device, which keeps them; each array has the one element
    // that is announced; the name is NUL-terminated and copied; the control lock is held. The rings are
    // single-producer, single-consumer, and so is their use: the one RxQueue, the one TxQueue, and the
    // one handle on the other side of each ring.
    let id = unsafe { dpdk_sys::rte_eth_from_rings(port_name.as_ptr(), &rx_ring, 1, &tx_ring, 1, 0) };
    let errno = Errno::last();
    drop(control);
    let id = u16::try_from(id).map_err(|_| Error::VdevCreate {
        name: name.to_owned(),
        errno,
        ports_max: PORTS_MAX,
    })?;
    Port::claim(eal.inner(), id, Some(vdev), vec![Arc::clone(rx), Arc::clone(tx)])
}
