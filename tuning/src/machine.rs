//! [`Machine`]: a tree, its topology and the profile that it shall run, as checks and changes look at them.

use crate::host::HostCores;
use crate::profile::Profile;
use crate::topology::Topology;
use crate::tree::{Tree, TreeError};

/// A machine and the profile that it shall run.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The kernel's files.
    pub tree: &'a Tree,
    /// What the machine is made of.
    pub topology: &'a Topology,
    /// The profile.
    pub profile: &'a Profile,
    /// The profile as the user named it, for commands that are printed.
    pub profile_arg: &'a str,
}

/// An interrupt and the CPUs that it may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Irq {
    /// The kernel's number.
    pub irq: u32,
    /// Where it may be handled.
    pub cpus: HostCores,
}

/// An idle state that a core takes longer to leave than [`IDLE_EXIT_US_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeepIdle {
    /// The CPU.
    pub cpu: u32,
    /// The state's number.
    pub state: u32,
    /// The driver's name of it, `C6`.
    pub name: String,
    /// How long leaving it takes, microseconds, as the driver says.
    pub exit_us: u64,
    /// Whether the core may still enter it.
    pub enabled: bool,
}

/// Longest time to leave an idle state that is left alone: a tenth of the default of `idle.sleep_us_max`, so that what the
/// hardware adds to a sleep is small beside the sleep.
pub const IDLE_EXIT_US_MAX: u64 = 10;

/// `/proc/irq`.
pub(crate) const IRQS: &str = "proc/irq";
/// The folder of CPUs.
pub(crate) const CPUS: &str = "sys/devices/system/cpu";
/// The switch of transparent hugepages.
pub(crate) const THP: &str = "sys/kernel/mm/transparent_hugepage/enabled";
/// Who interrupts may reach that are made later; a mask in hexadecimal digits.
pub(crate) const DEFAULT_AFFINITY: &str = "proc/irq/default_smp_affinity";

impl Machine<'_> {
    /// The number of reserved hugepages of 2 MiB: on the profile's NUMA node, else of the whole machine.
    pub(crate) fn hugepages_path(&self, file: &str) -> String {
        match self.profile.host.numa_node {
            Some(node) => format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/{file}"),
            None => format!("sys/kernel/mm/hugepages/hugepages-2048kB/{file}"),
        }
    }

    pub(crate) fn governor_path(cpu: u32) -> String {
        format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor")
    }

    pub(crate) fn irq_path(irq: u32) -> String {
        format!("{IRQS}/{irq}/smp_affinity_list")
    }

    pub(crate) fn idle_path(state: &DeepIdle) -> String {
        format!("{CPUS}/cpu{}/cpuidle/state{}/disable", state.cpu, state.state)
    }

    /// The interrupts that may reach one of `cores`.
    pub(crate) fn irqs_on(&self, cores: &HostCores) -> Result<Vec<Irq>, TreeError> {
        let mut irqs = Vec::new();
        for irq in self.tree.numbered(IRQS, "")? {
            match self.tree.cpus(&Machine::irq_path(irq)) {
                Ok(cpus) if !cpus.shared_with(cores).is_empty() => irqs.push(Irq { irq, cpus }),
                Ok(_) => {}
                // An interrupt can go between the listing and the reading.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(irqs)
    }

    /// The slow idle states of `cores`, whether or not they are disabled already.
    pub(crate) fn deep_idle(&self, cores: &HostCores) -> Result<Vec<DeepIdle>, TreeError> {
        let mut deep = Vec::new();
        for cpu in cores.iter() {
            let at = format!("{CPUS}/cpu{cpu}/cpuidle");
            for state in self.tree.numbered(&at, "state")? {
                let of = |file: &str| format!("{at}/state{state}/{file}");
                let exit_us = self.tree.number(&of("latency"))?;
                if exit_us > IDLE_EXIT_US_MAX {
                    let (name, enabled) =
                        (self.tree.read(&of("name"))?, self.tree.number(&of("disable"))? == 0);
                    deep.push(DeepIdle { cpu, state, name, exit_us, enabled });
                }
            }
        }
        Ok(deep)
    }

    /// The CPUs that the kernel's scheduler leaves alone: by `isolcpus`, or by an isolated cpuset.
    pub(crate) fn isolated(&self) -> Result<HostCores, TreeError> {
        let boot = self.tree.cpus(&format!("{CPUS}/isolated"))?;
        // Kernels before 6.7 and machines with cgroup v1 have no such file.
        let cpuset = self.tree.cpus("sys/fs/cgroup/cpuset.cpus.isolated").unwrap_or_default();
        Ok(HostCores::new(boot.iter().chain(cpuset.iter())))
    }

    /// Parameters for the kernel's command line that the profile wants and that cannot be set later.
    #[must_use]
    pub fn boot_parameters(&self) -> Vec<String> {
        let cores = self.profile.poll_cores();
        let mut parameters = Vec::new();
        if self.profile.spins() && !cores.is_empty() {
            parameters.push(format!("isolcpus=managed_irq,domain,{cores}"));
            parameters.push(format!("nohz_full={cores}"));
            parameters.push(format!("rcu_nocbs={cores}"));
        }
        if self.needs_vfio() {
            let cpuinfo = self.tree.read("proc/cpuinfo").unwrap_or_default();
            // AMD's IOMMU is on by itself; Intel's is not in every kernel.
            if cpuinfo.contains("GenuineIntel") {
                parameters.push("intel_iommu=on".to_owned());
            }
            parameters.push("iommu=pt".to_owned());
        }
        parameters
    }

    /// How boot parameters get there on Debian.
    pub(crate) fn boot_command(parameters: &[String]) -> String {
        format!(
            "add `{}` to GRUB_CMDLINE_LINUX in /etc/default/grub, then: sudo update-grub && sudo reboot",
            parameters.join(" ")
        )
    }

    /// Whether the profile's card is driven through vfio.
    pub(crate) fn needs_vfio(&self) -> bool {
        self.profile.host.nic_driver.as_deref().is_some_and(|driver| !crate::profile::is_bifurcated(driver))
    }
}
