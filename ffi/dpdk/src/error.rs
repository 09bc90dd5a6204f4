//! What goes wrong, and what mends it. One enum for the crate; nothing on the packet path returns it.

use std::ffi::CString;
use std::fmt;

/// A POSIX or DPDK error number, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// "Operation not supported": how a driver says that it lacks a capability.
    pub const NOT_SUPPORTED: Errno = Errno(95);
    /// "Function not implemented": some drivers say this instead.
    pub const NOT_IMPLEMENTED: Errno = Errno(38);
    /// "Invalid argument".
    pub const INVALID: Errno = Errno(22);

    /// The number that DPDK left in this thread's `rte_errno`.
    pub(crate) fn last() -> Errno {
        // SAFETY: reads a thread-local integer; always valid.
        Errno(unsafe { dpdk_sys::dpdk_errno() })
    }

    /// DPDK's functions return a negative error number, or zero and above for success.
    pub(crate) fn check(code: i32) -> Result<i32, Errno> {
        if code < 0 { Err(Errno(code.saturating_neg())) } else { Ok(code) }
    }

    /// Whether the number says that the driver lacks the function.
    pub fn means_unsupported(self) -> bool {
        self == Errno::NOT_SUPPORTED || self == Errno::NOT_IMPLEMENTED
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

/// Why a DPDK call was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// DPDK starts once in a process's life.
    #[error(
        "DPDK was started in this process before, or was refused, and it starts once a process: share the running Eal"
    )]
    EalStartedBefore,
    /// `rte_eal_init` refused.
    #[error(
        "DPDK did not start ({errno}) with `{arguments}`: without hugepages use Memory::NoHuge, \
         with them reserve enough (vm.nr_hugepages); LogLevel::Info prints DPDK's own reason; start a new process to try again"
    )]
    EalStart {
        /// The reason.
        errno: Errno,
        /// The argument vector that the EAL was given.
        arguments: String,
    },
    /// The EAL has users left.
    #[error(
        "DPDK is in use by {handles} other handles (ports, queues, pools, rings, threads): drop them first"
    )]
    EalInUse {
        /// Handles besides this one.
        handles: usize,
    },
    /// Packets are outside their pools.
    #[error(
        "{mbufs} mbufs are still held; DPDK's memory stays mapped until the process exits: drop them first"
    )]
    MbufsHeld {
        /// How many.
        mbufs: usize,
    },
    /// A name DPDK cannot take.
    #[error("the name {name:?} does not fit: 1 to {bytes_max} bytes, none of them NUL")]
    BadName {
        /// The name given.
        name: String,
        /// The longest name allowed there.
        bytes_max: usize,
    },
    /// A size DPDK cannot take.
    #[error("{what} is {value}, but it must be within {min} and {max}")]
    OutOfRange {
        /// Which parameter.
        what: &'static str,
        /// The value given.
        value: usize,
        /// The least value allowed.
        min: usize,
        /// The greatest value allowed.
        max: usize,
    },
    /// `rte_pktmbuf_pool_create` refused.
    #[error(
        "the mbuf pool {name:?} could not be made ({errno}): give the EAL more memory or the pool fewer mbufs"
    )]
    PoolCreate {
        /// The pool's name.
        name: String,
        /// The reason.
        errno: Errno,
    },
    /// No pool has this name.
    #[error("there is no mbuf pool named {name:?}: make it with Eal::pool first")]
    NoSuchPool {
        /// The name looked for.
        name: String,
    },
    /// `rte_ring_create` refused.
    #[error("the ring {name:?} could not be made ({errno}): names are unique, and its depth takes memory")]
    RingCreate {
        /// The ring's name.
        name: String,
        /// The reason.
        errno: Errno,
    },
    /// No port has this name or number.
    #[error(
        "there is no port {port}: Eal::start probes PCI only with PciDevices, virtual ports are made by name"
    )]
    NoSuchPort {
        /// The name or number looked for.
        port: String,
    },
    /// Another handle has the port.
    #[error("port {port} is taken: one Port exists per device")]
    PortTaken {
        /// The port's number.
        port: u16,
    },
    /// A virtual device could not be made.
    #[error(
        "the virtual device {name:?} could not be made ({errno}): its driver plugin must be installed, its name unique, \
         and DPDK was built for {ports_max} ports (use ring_link for more)"
    )]
    VdevCreate {
        /// The device's name.
        name: String,
        /// The reason.
        errno: Errno,
        /// `RTE_MAX_ETHPORTS` of this DPDK.
        ports_max: usize,
    },
    /// A port refused a control call.
    #[error("port {port} refused to {operation}: {errno}")]
    Port {
        /// The port's number.
        port: u16,
        /// What was asked of it.
        operation: &'static str,
        /// The reason.
        errno: Errno,
    },
    /// A port has queues out.
    #[error(
        "port {port} has {handles} queue or timesync handles in use: drop them before it is stopped or started"
    )]
    PortInUse {
        /// The port's number.
        port: u16,
        /// Handles besides the port itself.
        handles: usize,
    },
    /// The calling thread has an lcore id.
    #[error("this thread is registered with DPDK as lcore {lcore}: one ThreadGuard a thread")]
    ThreadRegistered {
        /// Its lcore id.
        lcore: u32,
    },
    /// `rte_thread_register` refused.
    #[error("DPDK did not register the thread ({errno}): it was built for {lcores_max} lcores")]
    ThreadRegister {
        /// The reason.
        errno: Errno,
        /// `RTE_MAX_LCORE` of this DPDK.
        lcores_max: usize,
    },
    /// The dynamic timestamp field could not be registered.
    #[error(
        "the mbuf's timestamp field could not be registered ({errno}): another user fills the dynamic area"
    )]
    TimestampField {
        /// The reason.
        errno: Errno,
    },
    /// A receive callback could not be added.
    #[error("port {port} takes no receive callback ({errno})")]
    RxCallback {
        /// The port's number.
        port: u16,
        /// The reason.
        errno: Errno,
    },
    /// An mbuf has no room.
    #[error(
        "{wanted_bytes} bytes do not fit into the mbuf's {room_bytes}: make the pool with a larger data room"
    )]
    NoRoom {
        /// Bytes asked for.
        wanted_bytes: usize,
        /// Bytes there are.
        room_bytes: usize,
    },
}

/// A name for DPDK, checked against the limit of the table it goes into.
pub(crate) fn c_name(name: &str, bytes_max: usize) -> Result<CString, Error> {
    let bad = || Error::BadName { name: name.to_owned(), bytes_max };
    if name.is_empty() || name.len() > bytes_max {
        return Err(bad());
    }
    CString::new(name).map_err(|_| bad())
}
