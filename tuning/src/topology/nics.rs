//! Network devices on a bus: the kernel's interfaces, and PCI Ethernet devices that have none because vfio holds them.

use crate::tree::Tree;
use std::collections::BTreeSet;

const INTERFACES: &str = "sys/class/net";
const PCI: &str = "sys/bus/pci/devices";
/// PCI's class code of Ethernet controllers, without the programming interface (PCI Code and ID Assignment, 02h 00h).
const ETHERNET: &str = "0x0200";

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// The kernel's interface; `None` when no kernel driver holds the device.
    pub interface: Option<String>,
    /// Its PCI address, or its name on another bus; `None` where the kernel does not tell.
    pub address: Option<String>,
    /// The driver that holds it.
    pub driver: Option<String>,
    /// Its NUMA node; `None` where the firmware does not tell.
    pub node: Option<u32>,
    /// Its firmware's version, where the driver shows it in `/sys`.
    pub firmware: Option<String>,
    /// Names of its hardware clocks, `ptp0`.
    pub clocks: Vec<String>,
}

impl Nic {
    /// Whether the node can drive it over DPDK as it is bound now: vfio holds it, or its driver shares it.
    #[must_use]
    pub fn is_for_dpdk(&self) -> bool {
        let shares = |driver: &str| driver == "vfio-pci" || crate::profile::is_bifurcated(driver);
        self.driver.as_deref().is_some_and(shares)
    }

    /// Interface and address as they are shown.
    #[must_use]
    pub fn label(&self) -> String {
        let names = [self.interface.as_deref(), self.address.as_deref()];
        names.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Every network device on a bus. What cannot be read of one is left out: virtual machines show little.
pub(super) fn read(tree: &Tree) -> Vec<Nic> {
    let mut nics = Vec::new();
    for interface in tree.names(INTERFACES).unwrap_or_default() {
        let device = format!("{INTERFACES}/{interface}/device");
        if tree.has(&device) {
            nics.push(Nic {
                address: tree.link_name(&device),
                interface: Some(interface),
                ..describe(tree, &device)
            });
        }
    }
    let known: BTreeSet<String> = nics.iter().filter_map(|nic| nic.address.clone()).collect();
    for address in tree.names(PCI).unwrap_or_default() {
        let device = format!("{PCI}/{address}");
        let ethernet = tree.read(&format!("{device}/class")).is_ok_and(|class| class.starts_with(ETHERNET));
        // A virtio device's interface hangs below the PCI device, one level deeper.
        let below = || tree.names(&device).unwrap_or_default().iter().any(|name| name.starts_with("virtio"));
        if ethernet && !known.contains(&address) && !below() {
            nics.push(Nic { address: Some(address), ..describe(tree, &device) });
        }
    }
    nics
}

fn describe(tree: &Tree, device: &str) -> Nic {
    let firmware = tree.names(&format!("{device}/infiniband")).unwrap_or_default();
    let firmware = firmware.first().and_then(|name| {
        let path = format!("{device}/infiniband/{name}/fw_ver");
        tree.read(&path).ok()
    });
    Nic {
        driver: tree.link_name(&format!("{device}/driver")),
        node: tree.number_or_none(&format!("{device}/numa_node")).ok().flatten(),
        firmware,
        clocks: tree.names(&format!("{device}/ptp")).unwrap_or_default(),
        ..Nic::default()
    }
}
