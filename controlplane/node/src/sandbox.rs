//! What a node gives up once it has started: its user's privileges, and on poll threads every system call that polling
//! does not need.
//!
//! Frames from strangers are parsed on poll threads. Whoever finds a hole there finds a thread that cannot open a file,
//! start a program or reach another machine by a socket of its own: those calls fail with EPERM. The rest of the process
//! needs files and sockets; it gives up the user that it started as (`node.user`).

use crate::devnet::network::{EnterThread, ThreadGuard};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;

/// What every poll thread needs: to wait, to wake others, to tell the time where the kernel does not map its clock, to
/// give memory back when it ends, and to end.
const ALWAYS: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
/// Sockets that the driver has opened: packets, or kicks of a ring that the kernel shares.
const SOCKET: &[i64] = &[
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_poll,
    libc::SYS_ppoll,
];
const URING: &[i64] = &[libc::SYS_io_uring_enter];

/// The calls that a port's driver makes while it polls, beside those that every poll thread makes.
fn of_driver(port: &str) -> &'static [i64] {
    match port {
        "net_af_packet" | "net_af_xdp" | "af_packet" | "af_xdp" => SOCKET,
        "io_uring" | "io_uring_udp" => URING,
        _ => &[],
    }
}

/// A filter for the poll threads of a node on a port of this kind.
///
/// # Errors
/// When this machine's architecture is none that filters are made for.
pub fn filter(port: &str) -> Result<BpfProgram, String> {
    let any = |call: &i64| (*call, Vec::new());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().chain(of_driver(port)).map(any).collect();
    // A message of a panic, and memory that cannot be executed.
    let execute = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    for (call, argument, operator, value) in [
        (libc::SYS_write, 0, SeccompCmpOp::Eq, 2),
        (libc::SYS_writev, 0, SeccompCmpOp::Eq, 2),
        (libc::SYS_mmap, 2, execute.clone(), 0),
        (libc::SYS_mprotect, 2, execute, 0),
    ] {
        let rule = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|error| error.to_string())?;
        rules.insert(call, vec![rule]);
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(|_| {
        format!("there is no system-call filter for {}: set sandbox.seccomp = false", std::env::consts::ARCH)
    })?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}

/// Confines each poll thread after it has been prepared for its port.
#[derive(Clone)]
pub struct Confined<E> {
    inner: E,
    filter: Option<Arc<BpfProgram>>,
}

impl<E: EnterThread> Confined<E> {
    /// Confines threads to `filter`; `None` leaves them as they are.
    #[must_use]
    pub fn new(inner: E, filter: Option<BpfProgram>) -> Confined<E> {
        Confined { inner, filter: filter.map(Arc::new) }
    }
}

impl<E: EnterThread> EnterThread for Confined<E> {
    fn enter(&self) -> ThreadGuard {
        let guard = self.inner.enter();
        if let Some(filter) = &self.filter
            && let Err(error) = apply_filter(filter)
        {
            // A kernel without seccomp: what the node said of it would not be true otherwise.
            eprintln!(
                "this poll thread is NOT confined: {error}; set sandbox.seccomp = false if that is meant"
            );
        }
        guard
    }
}

/// What a process that gave up its privileges is now.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The user.
    pub user: String,
    /// Its id.
    pub uid: u32,
    /// Its group's id.
    pub gid: u32,
}

/// Becomes `user` for good, with none of root's capabilities; `data_dir` and what is in it is given to that user before.
/// Call it when devices and keys are open, and before poll threads are confined.
///
/// # Errors
/// When this process is not root, there is no such user, or the system refuses.
pub fn become_user(user: &str, data_dir: &Path) -> Result<Dropped, String> {
    use nix::unistd::{Uid, User, geteuid, initgroups, setresgid, setresuid};
    let found = User::from_name(user).map_err(|error| format!("looking up the user {user}: {error}"))?;
    let Some(found) = found else {
        return Err(format!("node.user: there is no user {user}: `useradd --system {user}` makes one"));
    };
    if !geteuid().is_root() {
        return Err(format!("node.user: only root can become {user}: start as root, or take the key out"));
    }
    let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
    give(data_dir, uid, gid).map_err(|error| format!("giving {} to {user}: {error}", data_dir.display()))?;
    let name = std::ffi::CString::new(user).map_err(|error| error.to_string())?;
    let become_it = || {
        initgroups(&name, found.gid)?;
        setresgid(found.gid, found.gid, found.gid)?;
        setresuid(found.uid, found.uid, found.uid)
    };
    become_it().map_err(|error| format!("becoming {user}: {error}"))?;
    // Leaving root takes all capabilities of every thread; what can be taken back was not given up.
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(format!("this process could become root again after it became {user}"));
    }
    Ok(Dropped { user: user.to_owned(), uid, gid })
}

/// Gives a directory and everything in it to a user.
fn give(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    chown(path, Some(uid), Some(gid))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // A link is not followed: it may lead out of the directory.
        if entry.file_type()?.is_dir() {
            give(&entry.path(), uid, gid)?;
        } else if entry.file_type()?.is_file() {
            chown(entry.path(), Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devnet::network::Plain;
    use std::io::ErrorKind;
    use std::time::{Duration, Instant};

    /// What a confined thread may do.
    fn confined<T: Send + 'static>(port: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let enter = Confined::new(Plain, Some(filter(port).unwrap()));
        let thread = std::thread::spawn(move || {
            let _guard = enter.enter();
            work()
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_poll_thread_waits_and_allocates_and_nothing_else() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let refused = confined("net_ring", move || {
            std::thread::sleep(Duration::from_millis(1));
            std::thread::park_timeout(Duration::from_millis(1));
            assert!(Instant::now().elapsed() < Duration::from_secs(60));
            // More than the allocator has at hand, so that it asks the system.
            assert_eq!(vec![1u8; 64 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
            [
                std::fs::File::open("/proc/self/status").err(),
                std::fs::write(std::env::temp_dir().join("roko-confined"), "x").err(),
                std::net::UdpSocket::bind("127.0.0.1:0").err(),
                std::net::TcpStream::connect(to).err(),
                std::process::Command::new("/bin/true").spawn().err(),
                socket.send_to(b"x", to).err(),
            ]
            .map(|error| error.map(|error| error.kind()))
        });
        assert_eq!(refused, [Some(ErrorKind::PermissionDenied); 6]);
        // The thread alone is confined.
        assert!(std::fs::File::open("/proc/self/status").is_ok());
    }

    #[test]
    fn a_driver_that_needs_its_socket_keeps_it() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let (sent, opened) = confined("net_af_packet", move || {
            (socket.send_to(b"x", to), std::net::UdpSocket::bind("127.0.0.1:0").is_ok())
        });
        assert_eq!((sent.unwrap(), opened), (1, false));
    }

    #[test]
    fn who_is_not_there_cannot_be_become() {
        let dir = tempfile::tempdir().unwrap();
        let error = become_user("no-such-user-here", dir.path()).unwrap_err();
        assert!(error.contains("no-such-user-here") && error.contains("useradd"), "{error}");
    }
}
