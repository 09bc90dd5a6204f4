//! A port: one Ethernet device, real or virtual.
//!
//! ```text
//!             start(config, pool)                 drop
//!   stopped ──────────────────────► started ──────────────► closed
//!      ▲          gives Queues          │
//!      └──────────── stop ──────────────┘   needs every queue back
//! ```
//!
//! A port is configured when it starts; to change it, stop it and start it anew. The last handle of a
//! port, its own or a queue's, stops and closes it.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::eal::{Eal, PORTS_MAX, Running};
use crate::error::{Errno, Error, c_name};
use crate::pool::MbufPool;
use crate::queue::{RxQueue, TxQueue, port_result};
use crate::ring::MbufRing;
use crate::timesync::{TickClock, Timesync};

/// `RTE_ETH_NAME_MAX_LEN` less the closing NUL.
const NAME_BYTES_MAX: usize = 63;

/// How a port starts. With several receive queues the card spreads flows over them (receive-side scaling, RSS) by addresses
/// and UDP ports, as far as [`Capabilities::rss`] says it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Send queues.
    pub tx_queues: u16,
    /// Packets a receive queue holds; the driver may round it.
    pub rx_ring_packets: u16,
    /// Packets a send queue holds; the driver may round it.
    pub tx_ring_packets: u16,
    /// The largest payload of a frame; 0 leaves the driver's default.
    pub mtu_bytes: u16,
    /// Asks the NIC for a receive time in every mbuf, where [`Capabilities::rx_timestamp_field`] says it can.
    pub rx_timestamp_field: bool,
    /// Receives frames for every address.
    pub promiscuous: bool,
    /// Leaves the check of received checksums, and the sum over what is sent by IPv6, to the device where it can do it.
    pub checksums: bool,
    /// Leaves tags of virtual LANs to the device where it can take them off and put them on.
    pub vlan_tags: bool,
}

/// What a started device does by itself, of what [`PortConfig`] asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// It marks packets whose IPv4 or UDP checksum is wrong: [`Mbuf::has_bad_checksum`](crate::Mbuf::has_bad_checksum).
    pub rx_checksums: bool,
    /// It fills in checksums: [`Mbuf::request_udp6_checksum`](crate::Mbuf::request_udp6_checksum).
    pub tx_udp6_checksums: bool,
    /// It takes tags off: [`Mbuf::stripped_vlan`](crate::Mbuf::stripped_vlan).
    pub vlan_strip: bool,
    /// It puts tags on: [`Mbuf::request_vlan_tag`](crate::Mbuf::request_vlan_tag).
    pub vlan_insert: bool,
}

impl Default for PortConfig {
    /// One queue each way, 512 packets deep.
    fn default() -> Self {
        PortConfig {
            rx_queues: 1,
            tx_queues: 1,
            rx_ring_packets: 512,
            tx_ring_packets: 512,
            mtu_bytes: 0,
            rx_timestamp_field: false,
            promiscuous: false,
            checksums: false,
            vlan_tags: false,
        }
    }
}

/// What a port's device can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The driver's name, for example `net_ring`.
    pub driver: String,
    /// Receive queues, at most.
    pub rx_queues_max: usize,
    /// Send queues, at most.
    pub tx_queues_max: usize,
    /// The largest frame it receives.
    pub rx_frame_bytes_max: usize,
    /// The largest MTU that it can be set to.
    pub mtu_bytes_max: u16,
    /// The driver's preferred receive burst; [`BURST_PACKETS`](crate::BURST_PACKETS) when it has no preference,
    /// and never more than that.
    pub rx_burst_packets: usize,
    /// The driver's preferred send burst, likewise.
    pub tx_burst_packets: usize,
    /// Whether it can write the receive time into every mbuf.
    pub rx_timestamp_field: bool,
    /// What it spreads flows over receive queues by; where it says nothing, a virtual device's queues are filled by
    /// whoever is at its other end.
    pub rss: RssFields,
}

/// What a card's receive-side scaling hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RssFields {
    /// Addresses of IP packets.
    pub addresses: bool,
    /// Addresses and ports of UDP datagrams.
    pub udp_ports: bool,
}

/// A port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Speed in Mbit/s, if the driver knows it.
    pub speed_mbps: Option<u32>,
    /// Whether both sides may speak at once.
    pub full_duplex: bool,
}

/// A port's counters since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that the device dropped because nobody polled in time.
    pub rx_missed: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped because the pool was empty.
    pub rx_no_mbuf: u64,
}

/// The queues of a started port.
#[derive(Debug)]
pub struct Queues {
    /// Receive queues, by number.
    pub rx: Vec<RxQueue>,
    /// Send queues, by number.
    pub tx: Vec<TxQueue>,
    /// What the device does by itself.
    pub offloads: Offloads,
}

impl Offloads {
    /// What a device can do of what is asked.
    fn of(config: &PortConfig, info: &dpdk_sys::dpdk_port_info) -> Offloads {
        let rx = |flags: u64| info.rx_offloads & flags == flags;
        let tx = |flag: u64| info.tx_offloads & flag != 0;
        Offloads {
            rx_checksums: config.checksums && rx(dpdk_sys::DPDK_RX_OFFLOAD_CHECKSUMS),
            tx_udp6_checksums: config.checksums && tx(dpdk_sys::DPDK_TX_OFFLOAD_UDP_CHECKSUM),
            vlan_strip: config.vlan_tags && rx(dpdk_sys::DPDK_RX_OFFLOAD_VLAN_STRIP),
            vlan_insert: config.vlan_tags && tx(dpdk_sys::DPDK_TX_OFFLOAD_VLAN_INSERT),
        }
    }

    /// The receive and send flags that turn them on, and the receive times beside.
    fn flags(self, rx_timestamp_field: bool) -> (u64, u64) {
        let flag = |on: bool, flag: u64| if on { flag } else { 0 };
        let rx = flag(self.rx_checksums, dpdk_sys::DPDK_RX_OFFLOAD_CHECKSUMS)
            | flag(self.vlan_strip, dpdk_sys::DPDK_RX_OFFLOAD_VLAN_STRIP)
            | flag(rx_timestamp_field, dpdk_sys::DPDK_RX_OFFLOAD_TIMESTAMP);
        let tx = flag(self.vlan_insert, dpdk_sys::DPDK_TX_OFFLOAD_VLAN_INSERT)
            | flag(self.tx_udp6_checksums, dpdk_sys::DPDK_TX_OFFLOAD_UDP_CHECKSUM);
        (rx, tx)
    }
}

/// The device under a port and its queues; its drop stops and closes it.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    started: AtomicBool,
    /// The virtual bus's name of it, if it is a virtual device that this crate made.
    vdev: Option<CString>,
    /// Rings that a virtual port stands on: they outlive the device.
    _rings: Vec<Arc<MbufRing>>,
    eal: Arc<Running>,
}

impl Device {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn eal(&self) -> &Arc<Running> {
        &self.eal
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut control = self.eal.control();
        // SAFETY: the last handle of the device is gone (Port, queues and Timesync hold an Arc), so no
        // burst runs and none follows; the control lock keeps other control calls out; the rings below a
        // virtual device are dropped after this. What these calls answer cannot be mended in a drop.
        unsafe {
            if self.started.load(Ordering::Acquire) {
                dpdk_sys::rte_eth_dev_stop(self.id);
            }
            match &self.vdev {
                Some(name) => dpdk_sys::rte_vdev_uninit(name.as_ptr()),
                None => dpdk_sys::rte_eth_dev_close(self.id),
            };
        }
        control.ports.retain(|&taken| taken != self.id);
    }
}

/// One Ethernet device. There is one `Port` for each.
#[derive(Debug)]
pub struct Port {
    device: Arc<Device>,
}

/// Drivers that deliver only what this process sent, which is one mbuf a frame: their queues need not look for more.
const WHOLE_FRAME_DRIVERS: &[&str] = &["net_null", "net_ring"];

impl Port {
    /// Takes the port with this number.
    pub fn by_id(eal: &Eal, id: u16) -> Result<Port, Error> {
        // SAFETY: any number may be asked for; the EAL runs.
        if unsafe { dpdk_sys::rte_eth_dev_is_valid_port(id) } == 0 {
            return Err(Error::NoSuchPort { port: id.to_string() });
        }
        Port::claim(eal.inner(), id, None, Vec::new())
    }

    /// Takes the port with this name: a PCI address (`0000:01:00.0`) or a virtual device's name.
    pub fn by_name(eal: &Eal, name: &str) -> Result<Port, Error> {
        Port::by_id(eal, id_of(&c_name(name, NAME_BYTES_MAX)?)?)
    }

    pub(crate) fn claim(
        eal: &Arc<Running>,
        id: u16,
        vdev: Option<CString>,
        rings: Vec<Arc<MbufRing>>,
    ) -> Result<Port, Error> {
        let mut control = eal.control();
        if control.ports.contains(&id) {
            return Err(Error::PortTaken { port: id });
        }
        control.ports.push(id);
        drop(control);
        let device =
            Device { id, started: AtomicBool::new(false), vdev, _rings: rings, eal: Arc::clone(eal) };
        Ok(Port { device: Arc::new(device) })
    }

    /// The port's number.
    pub fn id(&self) -> u16 {
        self.device.id
    }

    /// The port's name.
    pub fn name(&self) -> Result<String, Error> {
        let mut name = [0; NAME_BYTES_MAX + 1];
        // SAFETY: `name` is as long as DPDK's names are at most; the port is valid while this handle lives.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_name_by_port(self.id(), name.as_mut_ptr()) };
        self.answer("tell its name", code)?;
        // SAFETY: DPDK wrote a NUL-terminated string into `name`, which lives on.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// What the device can do.
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        let info = self.info()?;
        let burst = |preferred: u16| match usize::from(preferred) {
            0 => crate::BURST_PACKETS,
            packets => packets.min(crate::BURST_PACKETS),
        };
        let driver: Vec<u8> =
            info.driver.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
        Ok(Capabilities {
            driver: String::from_utf8_lossy(&driver).into_owned(),
            rx_queues_max: info.rx_queues_max.into(),
            tx_queues_max: info.tx_queues_max.into(),
            rx_frame_bytes_max: info.rx_frame_bytes_max as usize,
            mtu_bytes_max: info.mtu_bytes_max,
            rx_burst_packets: burst(info.rx_burst_packets),
            tx_burst_packets: burst(info.tx_burst_packets),
            rx_timestamp_field: info.rx_offloads & dpdk_sys::DPDK_RX_OFFLOAD_TIMESTAMP != 0,
            rss: RssFields {
                addresses: info.rss_flows & dpdk_sys::DPDK_RSS_ADDRESSES != 0,
                udp_ports: info.rss_flows & dpdk_sys::DPDK_RSS_UDP_PORTS != 0,
            },
        })
    }

    fn info(&self) -> Result<dpdk_sys::dpdk_port_info, Error> {
        let mut info = dpdk_sys::dpdk_port_info::default();
        // SAFETY: `info` is ours to write; the port is valid while this handle lives.
        let code = unsafe { dpdk_sys::dpdk_port_info(self.id(), &mut info) };
        self.answer("describe itself", code)?;
        Ok(info)
    }

    /// Sets up the queues, starts the port and hands the queues out. Packets are received into `pool`.
    pub fn start(&mut self, config: &PortConfig, pool: &MbufPool) -> Result<Queues, Error> {
        self.check_idle()?;
        self.check_queues(config)?;
        let (id, info) = (self.id(), self.info()?);
        let control = self.device.eal.control();
        let offloads = Offloads::of(config, &info);
        let (rx_offloads, tx_offloads) = offloads.flags(config.rx_timestamp_field);
        if self.device.started.swap(false, Ordering::AcqRel) {
            // SAFETY: the port is valid, and no queue handle exists (`check_idle`).
            self.answer("stop", unsafe { dpdk_sys::rte_eth_dev_stop(id) })?;
        }
        let (rx, tx, mtu) = (config.rx_queues, config.tx_queues, config.mtu_bytes);
        // A driver refuses what it cannot hash, so it is asked for what it has said that it can.
        let wanted = dpdk_sys::DPDK_RSS_ADDRESSES | dpdk_sys::DPDK_RSS_UDP_PORTS;
        let rss = if rx > 1 { wanted & info.rss_flows } else { 0 };
        // SAFETY: the port is valid and stopped, no queue handle exists, the control lock is held.
        let code = unsafe { dpdk_sys::dpdk_port_configure(id, rx, tx, mtu, rx_offloads, tx_offloads, rss) };
        self.answer("be configured", code)?;
        let (mut rx_ring, mut tx_ring) = (config.rx_ring_packets, config.tx_ring_packets);
        // SAFETY: both integers are ours to write; the port is configured.
        let code = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_ring, &mut tx_ring) };
        self.answer("take these ring sizes", code)?;
        for queue in 0..rx {
            // SAFETY: the queue is within the configured count; the pool lives until the EAL ends.
            let code = unsafe { dpdk_sys::dpdk_rx_queue_setup(id, queue, rx_ring, pool.raw()) };
            self.answer("set up a receive queue", code)?;
        }
        for queue in 0..tx {
            // SAFETY: the queue is within the configured count.
            let code = unsafe { dpdk_sys::dpdk_tx_queue_setup(id, queue, tx_ring) };
            self.answer("set up a send queue", code)?;
        }
        // SAFETY: the port is configured and every queue is set up.
        self.answer("start", unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        self.device.started.store(true, Ordering::Release);
        if config.promiscuous {
            // SAFETY: the port is valid and started.
            self.answer("be promiscuous", unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) })?;
        }
        drop(control);
        let may_chain = !WHOLE_FRAME_DRIVERS.contains(&&*self.capabilities()?.driver);
        Ok(Queues {
            rx: (0..rx).map(|queue| RxQueue::new(&self.device, queue, may_chain)).collect(),
            tx: (0..tx).map(|queue| TxQueue::new(&self.device, queue)).collect(),
            offloads,
        })
    }

    /// Stops the port. Its queue handles must have been dropped: a queue of a stopped port is not polled.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.check_idle()?;
        let _control = self.device.eal.control();
        if self.device.started.swap(false, Ordering::AcqRel) {
            // SAFETY: the port is valid and no queue handle exists.
            self.answer("stop", unsafe { dpdk_sys::rte_eth_dev_stop(self.id()) })?;
        }
        Ok(())
    }

    /// That this handle is the only one; as it is borrowed exclusively, no other can come up meanwhile.
    fn check_idle(&mut self) -> Result<(), Error> {
        let port = self.id();
        let handles = Arc::strong_count(&self.device) - 1;
        match Arc::get_mut(&mut self.device) {
            Some(_) => Ok(()),
            None => Err(Error::PortInUse { port, handles }),
        }
    }

    fn check_queues(&self, config: &PortConfig) -> Result<(), Error> {
        let capabilities = self.capabilities()?;
        for (what, value, max) in [
            ("PortConfig::rx_queues", config.rx_queues, capabilities.rx_queues_max),
            ("PortConfig::tx_queues", config.tx_queues, capabilities.tx_queues_max),
        ] {
            if value == 0 || usize::from(value) > max {
                return Err(Error::OutOfRange { what, value: value.into(), min: 1, max });
            }
        }
        if config.rx_timestamp_field && !capabilities.rx_timestamp_field {
            let errno = Errno::NOT_SUPPORTED;
            return Err(Error::Port { port: self.id(), operation: "stamp received packets", errno });
        }
        Ok(())
    }

    /// The state of the link, without waiting for it.
    pub fn link(&self) -> Result<Link, Error> {
        let mut link = dpdk_sys::dpdk_link::default();
        // SAFETY: `link` is ours to write; the port is valid while this handle lives.
        self.answer("tell its link", unsafe { dpdk_sys::dpdk_link_get(self.id(), &mut link) })?;
        let speed_mbps = (link.speed_mbps != 0 && link.speed_mbps != u32::MAX).then_some(link.speed_mbps);
        Ok(Link { up: link.up != 0, speed_mbps, full_duplex: link.full_duplex != 0 })
    }

    /// The device's MAC address. Virtual ports over rings have all zeros.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let mut mac = [0; 6];
        // SAFETY: six bytes of ours to write; the port is valid while this handle lives.
        self.answer("tell its address", unsafe { dpdk_sys::dpdk_mac_get(self.id(), mac.as_mut_ptr()) })?;
        Ok(mac)
    }

    /// The device's counters.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let mut raw = dpdk_sys::dpdk_stats::default();
        // SAFETY: `raw` is ours to write; the port is valid while this handle lives.
        self.answer("tell its counters", unsafe { dpdk_sys::dpdk_stats_get(self.id(), &mut raw) })?;
        Ok(PortStats {
            rx_packets: raw.rx_packets,
            tx_packets: raw.tx_packets,
            rx_bytes: raw.rx_bytes,
            tx_bytes: raw.tx_bytes,
            rx_missed: raw.rx_missed,
            rx_errors: raw.rx_errors,
            tx_errors: raw.tx_errors,
            rx_no_mbuf: raw.rx_no_mbuf,
        })
    }

    /// The NIC's own clock (IEEE 1588), if the port has one. Ask a started port: real drivers touch registers.
    pub fn timesync(&self) -> Result<Option<Timesync>, Error> {
        Timesync::enable(&self.device)
    }

    /// The port's free-running clock, if it has one. Ask a started port.
    pub fn tick_clock(&self) -> Result<Option<TickClock>, Error> {
        TickClock::open(&self.device)
    }

    fn answer(&self, operation: &'static str, code: i32) -> Result<i32, Error> {
        port_result(self.id(), operation, code)
    }
}

fn id_of(name: &CStr) -> Result<u16, Error> {
    let mut id = 0;
    // SAFETY: the name is NUL-terminated, the number ours to write.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    Errno::check(code).map_err(|_| Error::NoSuchPort { port: name.to_string_lossy().into_owned() })?;
    Ok(id)
}

/// The numbers of all ports that DPDK has found or made.
pub fn port_ids(eal: &Eal) -> Vec<u16> {
    let _control = eal.inner().control();
    // SAFETY: walks the device table, which changes under the control lock only.
    let next = |from: u64| unsafe { dpdk_sys::rte_eth_find_next_owned_by(from as u16, 0) };
    let mut ids = Vec::new();
    let mut id = next(0);
    while id < PORTS_MAX as u64 {
        ids.push(id as u16);
        id = next(id + 1);
    }
    ids
}

/// Makes a virtual port by its driver's name and a number (`net_null0`, `net_af_packet0`), with the driver's
/// own arguments (`iface=veth0`).
pub fn vdev_port(eal: &Eal, name: &str, arguments: &str) -> Result<Port, Error> {
    let vdev = c_name(name, NAME_BYTES_MAX)?;
    let text = CString::new(arguments)
        .map_err(|_| Error::BadName { name: arguments.to_owned(), bytes_max: arguments.len() })?;
    let control = eal.inner().control();
    // SAFETY: the EAL runs; both strings are NUL-terminated and copied; the control lock is held.
    let code = unsafe { dpdk_sys::rte_vdev_init(vdev.as_ptr(), text.as_ptr()) };
    drop(control);
    Errno::check(code).map_err(|errno| Error::VdevCreate {
        name: name.to_owned(),
        errno,
        ports_max: PORTS_MAX,
    })?;
    let id = id_of(&vdev)?;
    Port::claim(eal.inner(), id, Some(vdev), Vec::new())
}

/// A port that receives empty packets without end and swallows what it sends: the floor of a poll loop.
pub fn null_port(eal: &Eal, number: u16) -> Result<Port, Error> {
    vdev_port(eal, &format!("net_null{number}"), "")
}
