//! `roko run` on a device that DPDK drives.

use super::{placement, run_node};
use crate::cli::{CliError, CliResult};
use crate::clock::{card, stamps};
use crate::config::{Neighbours, NodeConfig, PciOrVirtual};
use crate::devnet::network::Registered;
use roko_dpdk::{Capabilities, Eal, EalConfig, Error, PciDevices, PoolConfig, Port, PortConfig, vdev_port};
use roko_os::link::DeviceLink;
use roko_pipeline::port::dpdk::DpdkPort;
use roko_wire::net::{ETHERNET_BYTES, Mac};
use std::sync::Arc;

/// The MTU of a link without jumbo frames, which a frame buffer of the usual size holds.
const MTU_BYTES: u16 = 1_500;

/// Opens a device of DPDK and runs the node on it.
pub(super) fn on_dpdk(config: &NodeConfig, device: &PciOrVirtual) -> CliResult {
    let say = |error: Error| CliError::with("the port", error);
    let megabytes = config.port.memory_mb;
    let pci = match device {
        PciOrVirtual::Pci(address) => PciDevices::Only(vec![address.clone()]),
        PciOrVirtual::Virtual(_) => PciDevices::None,
    };
    let eal_config = if config.port.hugepages {
        EalConfig::hugepages(megabytes, pci)
    } else {
        EalConfig { pci, ..EalConfig::unprivileged(megabytes) }
    };
    let eal = Arc::new(Eal::start(&eal_config).map_err(say)?);
    // Only a PCI device does DMA by itself, and it has hugepages.
    let packed = !config.port.hugepages;
    let room = PoolConfig::default().data_room_bytes + (config.port.mtu - MTU_BYTES);
    let pool_config =
        PoolConfig { mbufs: config.port.frames, packed, data_room_bytes: room, ..PoolConfig::default() };
    let pool = eal.pool("frames", &pool_config).map_err(say)?;
    let (name, arguments) = device.as_str().split_once(',').unwrap_or((device.as_str(), ""));
    let lanes = placement(&config.tuning.profile)?.lanes();
    let arguments = with_queues(name, arguments, lanes);
    let mut port = match device {
        PciOrVirtual::Virtual(_) => vdev_port(&eal, name, &arguments),
        PciOrVirtual::Pci(_) => Port::by_name(&eal, name),
    }
    .map_err(say)?;
    // Peers know this node by a configured or derived Ethernet address, which need not be the device's own.
    let can = port.capabilities().map_err(say)?;
    let phc = config.port.phc.as_deref();
    let plan = stamps::plan(config.port.stamps, &can.driver, can.rx_timestamp_field, phc.is_some());
    let port_config = PortConfig {
        rx_timestamp_field: plan.wants_field(),
        mtu_bytes: mtu(config.port.mtu, &can)?,
        ..port_config(config, lanes, &can)
    };
    let mut queues = port.start(&port_config, &pool).map_err(say)?;
    let mut config = config.clone();
    if config.port.neighbours == Neighbours::Resolve && config.network.mac.is_none() {
        config.network.mac = Some(Mac(port.mac().map_err(say)?));
    }
    let config = &config;
    let card =
        card::stamps(plan, &eal, &port, phc).map_err(|error| CliError::with("the port's clock", error))?;
    let Some(tx) = queues.tx.pop() else {
        return Err(CliError(format!("the port {name} has no send queue")));
    };
    let mut node_port = DpdkPort::over(queues.rx, tx, pool, kind_of(device), card.stamps)
        .on_vlan(config.vlan())
        .with_offloads(queues.offloads);
    if let Some(departures) = card.departures {
        node_port = node_port.with_departures(Box::new(departures));
    }
    // DPDK says of the kernel's devices that they are up, whatever they are.
    let kernels = device_of(&arguments).map(DeviceLink::new).transpose();
    let kernels = kernels.map_err(|error| CliError::with("the port's device", error))?;
    let mut look = || {
        let is_up = port.link().ok()?.up;
        Some(is_up && kernels.as_ref().is_none_or(DeviceLink::is_up))
    };
    run_node(config, node_port, card.clock, &Registered::new(Arc::clone(&eal)), &mut look)?;
    drop(port);
    Ok(())
}

/// The port's driver, as it is shown.
fn kind_of(device: &PciOrVirtual) -> &'static str {
    match device {
        PciOrVirtual::Pci(_) => "pci",
        PciOrVirtual::Virtual(text) if text.starts_with("net_af_packet") => "net_af_packet",
        PciOrVirtual::Virtual(text) if text.starts_with("net_af_xdp") => "net_af_xdp",
        PciOrVirtual::Virtual(_) => "virtual",
    }
}

/// What is asked of the device, beside times and MTU. A port with fewer queues than lanes feeds all of them too.
fn port_config(config: &NodeConfig, lanes: usize, can: &Capabilities) -> PortConfig {
    PortConfig {
        rx_queues: lanes.min(can.rx_queues_max).max(1) as u16,
        promiscuous: true,
        checksums: true,
        vlan_tags: config.vlan().is_some(),
        ..PortConfig::default()
    }
}

/// A virtual device's arguments, with a receive queue for each lane where the driver makes them and nobody said how many.
fn with_queues(name: &str, arguments: &str, lanes: usize) -> String {
    let is_said = arguments.split(',').any(|argument| argument.starts_with("qpairs="));
    if lanes > 1 && name.starts_with("net_af_packet") && !is_said {
        format!("{arguments},qpairs={lanes}")
    } else {
        arguments.to_owned()
    }
}

/// The device of the kernel that a virtual device's arguments name.
fn device_of(arguments: &str) -> Option<&str> {
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

/// What the device's MTU is to be set to: 0, its default, without jumbo frames.
fn mtu(asked: u16, can: &Capabilities) -> Result<u16, CliError> {
    let most = usize::from(can.mtu_bytes_max).min(can.rx_frame_bytes_max.saturating_sub(ETHERNET_BYTES));
    match asked {
        MTU_BYTES => Ok(0),
        _ if usize::from(asked) <= most => Ok(asked),
        _ => Err(CliError(format!("port.mtu = {asked}: {} takes up to {most}: lower it", can.driver))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_sockets_get_a_queue_for_each_lane_unless_their_number_is_given() {
        let of = |name, lanes| with_queues(name, "iface=data0", lanes);
        assert_eq!(of("net_af_packet0", 4), "iface=data0,qpairs=4");
        assert_eq!(of("net_af_packet0", 1), "iface=data0");
        assert_eq!(of("net_af_xdp0", 4), "iface=data0");
        assert_eq!(with_queues("net_af_packet0", "iface=x,qpairs=2", 4), "iface=x,qpairs=2");
        assert_eq!(
            (device_of("qdisc_bypass=1,iface=data0,qpairs=4"), device_of("size=64")),
            (Some("data0"), None)
        );
    }
}
