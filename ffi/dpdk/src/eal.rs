//! The EAL: DPDK's process-wide state. Everything else holds it alive.
//!
//! It is started on a short-lived thread of its own. `rte_eal_init` pins the thread that calls it
//! and gives it lcore 0, with a mempool cache; on a thread that ends, neither the caller's affinity
//! nor its caches are touched. It follows that a thread has a mempool cache only while it holds a
//! [`ThreadGuard`](crate::ThreadGuard), which is what makes the count of mbufs exact when the EAL ends.
//!
//! A process starts DPDK once: neither after an end nor after a refused start can it start again, since the
//! EAL keeps what it parsed. Whether hugepages are to be had is therefore asked before, with
//! [`hugepages_free_megabytes`].

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Errno, Error};
use crate::pool::{MbufPool, PoolConfig};
use crate::thread::ThreadGuard;

/// Ports this DPDK was built for (`RTE_MAX_ETHPORTS`; 32 in Debian). Bare rings do not count.
pub const PORTS_MAX: usize = dpdk_sys::DPDK_PORTS_MAX as usize;

/// Whether this process has started DPDK, or has tried to.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Where DPDK takes its memory from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Ordinary pages, this many MiB; needs no privilege. DMA of real NICs does not work with it.
    NoHuge {
        /// Size of DPDK's heap.
        megabytes: u32,
    },
    /// Hugepages without files (`--in-memory`), taken as needed, at least this many MiB at start.
    Hugepages {
        /// Size of DPDK's heap at start.
        megabytes: u32,
    },
}

/// Which PCI devices DPDK takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PciDevices {
    /// The PCI bus is not scanned.
    None,
    /// These addresses only (`0000:01:00.0`, with driver arguments after a comma if any).
    Only(Vec<String>),
}

/// How much DPDK prints to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// What a person who debugs the start wants to see.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    fn as_argument(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// How DPDK starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Where the memory comes from.
    pub memory: Memory,
    /// The CPU on which DPDK's start runs; `None` takes the first that the process may use. DPDK
    /// starts no worker threads of its own: polling threads are ours (see `Eal::register_thread`).
    pub main_cpu: Option<usize>,
    /// Which PCI devices are taken over.
    pub pci: PciDevices,
    /// How much DPDK prints.
    pub log_level: LogLevel,
    /// Further EAL arguments, as DPDK documents them.
    pub extra_arguments: Vec<String>,
}

impl EalConfig {
    /// No privilege, no hugepages, no PCI: what a container and a test have. An mbuf of the default size takes
    /// an ordinary page of 4 KiB to itself, so 64 MiB hold 16,000 of them.
    ///
    /// DPDK may complain that its folder under `/tmp` belongs to another user; it keeps nothing there in this
    /// mode and starts.
    pub fn unprivileged(megabytes: u32) -> Self {
        EalConfig {
            memory: Memory::NoHuge { megabytes },
            main_cpu: None,
            pci: PciDevices::None,
            log_level: LogLevel::Error,
            extra_arguments: Vec::new(),
        }
    }

    /// Hugepages and the given PCI devices: what a validator on its own machine has.
    pub fn hugepages(megabytes: u32, pci: PciDevices) -> Self {
        EalConfig { memory: Memory::Hugepages { megabytes }, pci, ..EalConfig::unprivileged(0) }
    }

    /// The argument vector for `rte_eal_init`.
    fn arguments(&self) -> Vec<String> {
        let cpu = self.main_cpu.unwrap_or_else(first_allowed_cpu);
        let mut arguments = vec!["roko".to_owned(), "--no-telemetry".to_owned()];
        arguments.push(format!("--lcores=0@{cpu}"));
        arguments.push(format!("--log-level={}", self.log_level.as_argument()));
        let megabytes = match self.memory {
            Memory::NoHuge { megabytes } => {
                arguments.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
                megabytes
            }
            Memory::Hugepages { megabytes } => {
                arguments.push("--in-memory".to_owned());
                megabytes
            }
        };
        arguments.extend(["-m".to_owned(), megabytes.to_string()]);
        match &self.pci {
            PciDevices::None => arguments.push("--no-pci".to_owned()),
            PciDevices::Only(devices) => {
                for device in devices {
                    arguments.extend(["-a".to_owned(), device.clone()]);
                }
            }
        }
        arguments.extend(self.extra_arguments.iter().cloned());
        arguments
    }
}

/// The first CPU of the process's affinity mask: in a container CPU 0 may belong to somebody else.
fn first_allowed_cpu() -> usize {
    let Ok(mask) = rustix::thread::sched_getaffinity(None) else { return 0 };
    (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| mask.is_set(cpu)).unwrap_or(0)
}

/// Hugepage memory that is free on this machine, in MiB of the default page size; 0 where there is none.
pub fn hugepages_free_megabytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return 0 };
    let value = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    value("HugePages_Free:") * value("Hugepagesize:") / 1024
}

/// DPDK's version as it calls itself, for example `DPDK 22.11.11`.
pub fn dpdk_version() -> String {
    // SAFETY: returns a pointer to a static NUL-terminated string; DPDK keeps it for the process's life.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}

/// The running DPDK of this process.
///
/// It is not `Clone`: ports, pools, rings and threads hold what they need of it.
#[derive(Debug)]
pub struct Eal {
    inner: Arc<Running>,
}

impl Eal {
    /// Starts DPDK. Once a process: a second call is an error, also after the first has ended or was refused.
    pub fn start(config: &EalConfig) -> Result<Eal, Error> {
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::EalStartedBefore);
        }
        let arguments = config.arguments();
        init_on_own_thread(&arguments)
            .map_err(|errno| Error::EalStart { errno, arguments: arguments.join(" ") })?;
        Ok(Eal { inner: Arc::new(Running { control: Mutex::new(Control::default()) }) })
    }

    /// Makes a pool of mbufs.
    pub fn pool(&self, name: &str, config: &PoolConfig) -> Result<MbufPool, Error> {
        MbufPool::create(&self.inner, name, config)
    }

    /// Another handle on a pool made before.
    pub fn pool_by_name(&self, name: &str) -> Result<MbufPool, Error> {
        MbufPool::find(&self.inner, name)
    }

    /// Registers the calling thread, for as long as the guard lives: pools then keep a cache for it.
    pub fn register_thread(&self) -> Result<ThreadGuard, Error> {
        ThreadGuard::register(&self.inner)
    }

    /// Ends DPDK and says whether everything had been returned. Dropping the handle does the same, silently.
    pub fn shutdown(self) -> Result<(), Error> {
        match Arc::try_unwrap(self.inner) {
            Err(shared) => Err(Error::EalInUse { handles: Arc::strong_count(&shared).saturating_sub(1) }),
            Ok(running) => match running.mbufs_held() {
                0 => Ok(()),
                mbufs => Err(Error::MbufsHeld { mbufs }),
            },
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Running> {
        &self.inner
    }
}

/// What the control calls of all handles share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) pools: Vec<PoolEntry>,
    /// Port numbers that a `Port` owns.
    pub(crate) ports: Vec<u16>,
}

/// A pool, for as long as the EAL runs.
#[derive(Debug, Clone)]
pub(crate) struct PoolEntry {
    pub(crate) raw: NonNull<dpdk_sys::rte_mempool>,
    pub(crate) name: Arc<str>,
    pub(crate) mbufs: u32,
    pub(crate) data_room_bytes: u16,
}

// SAFETY: a mempool is built for use by many threads; the pointer is valid until the EAL ends.
unsafe impl Send for PoolEntry {}
// SAFETY: as above; every function that takes `&PoolEntry` is one of the mempool's multi-thread calls.
unsafe impl Sync for PoolEntry {}

impl PoolEntry {
    pub(crate) fn available(&self) -> usize {
        // SAFETY: the pool lives as long as the EAL, which every holder of an entry keeps alive.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) as usize }
    }
}

/// The EAL while it runs; its drop is the cleanup.
#[derive(Debug)]
pub(crate) struct Running {
    control: Mutex<Control>,
}

impl Running {
    /// Serialises control calls: `rte_ethdev`'s and the virtual bus's are not safe to run at once.
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        // A poisoned lock means that a control call panicked between two steps; the tables are plain
        // lists that are valid after every step.
        self.control.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn mbufs_held(&self) -> usize {
        self.control().pools.iter().map(|pool| (pool.mbufs as usize).saturating_sub(pool.available())).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.mbufs_held() == 0 {
            // SAFETY: this is the last handle, so no port, queue, ring or registered thread is left
            // (each holds an Arc of this), and no Mbuf either: the count above is exact, because only
            // registered threads have caches and none is registered. Nothing reaches DPDK's memory again.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        }
    }
}

/// Runs `rte_eal_init` on a thread that ends afterwards (see the module's docs for why).
fn init_on_own_thread(arguments: &[String]) -> Result<(), Errno> {
    let owned: Vec<CString> = arguments
        .iter()
        .map(|argument| CString::new(argument.as_str()).map_err(|_| Errno::INVALID))
        .collect::<Result<_, _>>()?;
    let init = move || {
        // DPDK keeps pointers into the vector, so it is given one that is never freed: once a process.
        let vector: Vec<*mut c_char> =
            owned.into_iter().map(CString::into_raw).chain([std::ptr::null_mut()]).collect();
        let vector = vector.leak();
        let count = (vector.len() - 1) as i32;
        // SAFETY: `vector` holds `count` NUL-terminated strings and a closing null, all leaked; STARTED
        // lets one thread of the process come here.
        let code = unsafe { dpdk_sys::rte_eal_init(count, vector.as_mut_ptr()) };
        if code < 0 { Err(Errno::last()) } else { Ok(()) }
    };
    std::thread::Builder::new()
        .name("eal-start".to_owned())
        .spawn(init)
        .map_err(|error| Errno(error.raw_os_error().unwrap_or(Errno::INVALID.0)))?
        .join()
        .unwrap_or(Err(Errno::INVALID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_an_unprivileged_start() {
        let mut config = EalConfig::unprivileged(64);
        config.main_cpu = Some(3);
        let text = config.arguments().join(" ");
        assert_eq!(
            text,
            "roko --no-telemetry --lcores=0@3 --log-level=error --no-huge --no-shconf -m 64 --no-pci"
        );
    }

    #[test]
    fn arguments_of_a_start_with_hugepages() {
        let pci = PciDevices::Only(vec!["0000:01:00.0".to_owned(), "0000:01:00.1".to_owned()]);
        let mut config = EalConfig::hugepages(1024, pci);
        config.main_cpu = Some(0);
        config.extra_arguments = vec!["--iova-mode=va".to_owned()];
        let text = config.arguments().join(" ");
        assert_eq!(
            text,
            "roko --no-telemetry --lcores=0@0 --log-level=error --in-memory -m 1024 \
             -a 0000:01:00.0 -a 0000:01:00.1 --iova-mode=va"
        );
    }

    #[test]
    fn the_version_names_itself() {
        assert!(dpdk_version().starts_with("DPDK 2"), "{}", dpdk_version());
    }
}
