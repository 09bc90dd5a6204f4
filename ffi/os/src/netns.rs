//! Network namespaces: made by name, entered by a thread, removed when dropped.
//!
//! They are made by `ip` of iproute2, so that a person finds them with `ip netns` and looks inside with
//! `ip netns exec NAME`. Making one needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
//!
//! A name begins with the process that made it, `roko-<pid>-`: [`remove_stale`] takes away what a killed one left.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where `ip` keeps named namespaces.
const FOLDER: &str = "/run/netns";
/// What names begin with.
const PREFIX: &str = "roko-";

/// Why there is no network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// `ip` is not installed.
    #[error("the program `ip` cannot be run ({0}): install the package iproute2")]
    NoIp(io::Error),
    /// This process may not make namespaces.
    #[error(
        "making a network namespace was refused ({0}): it needs root, or the capabilities CAP_SYS_ADMIN and \
         CAP_NET_ADMIN; run the command with sudo"
    )]
    Refused(String),
    /// A command of `ip` failed.
    #[error("`ip {command}` failed: {why}")]
    Command {
        /// Its arguments.
        command: String,
        /// What it said.
        why: String,
    },
    /// A namespace that is there cannot be entered.
    #[error("the network namespace {name} cannot be entered: {source}")]
    Enter {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// A network namespace of this process. Dropping it removes it and every device in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name ends in `suffix` and is unique on this machine.
    ///
    /// # Errors
    /// Where `ip` is missing, or this process may not.
    pub fn create(suffix: &str) -> Result<Namespace, NetnsError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{suffix}", std::process::id());
        let out = ip(&["netns", "add", &name])?;
        if !out.status.success() {
            // `ip` leaves the name behind when it could not mount the namespace.
            let _ = ip(&["netns", "del", &name]);
            return Err(NetnsError::Refused(said(&out)));
        }
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // Devices made here would announce IPv6 addresses of their own; where they may not be silenced, they do.
        namespace.within(|| {
            for which in ["all", "default"] {
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
            }
        })?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with these arguments in the namespace.
    ///
    /// # Errors
    /// When it fails; says what it said.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), NetnsError> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments);
        succeed(ip(&all)?, &all)
    }

    /// Tells a bridge of this namespace where an Ethernet address is, so that it floods no frame to it.
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn bridge_learn(&self, address: &str, device: &str) -> Result<(), NetnsError> {
        let arguments = ["-n", &self.name, "fdb", "replace", address, "dev", device, "master", "static"];
        succeed(run("bridge", &arguments)?, &arguments)
    }

    /// Runs `ip` with the arguments of one line, in the namespace; words are separated by spaces.
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn ip_line(&self, line: &str) -> Result<(), NetnsError> {
        self.ip(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Moves the calling thread into the namespace; threads and processes that it starts are there too. There is no way
    /// back: use a thread of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<(), NetnsError> {
        let enter = || {
            let file = File::open(Path::new(FOLDER).join(&self.name))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(())
        };
        enter().map_err(|source| NetnsError::Enter { name: self.name.clone(), source })
    }

    /// Runs `work` on a thread in the namespace and gives its result back. Sockets that it opens stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Joins this namespace to `other` by a pair of virtual Ethernet devices: `here` in this one, `there` in the other,
    /// both up, with these Ethernet addresses where one is given, and without an IPv6 address of their own making.
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn join(&self, here: &Device<'_>, other: &Namespace, there: &Device<'_>) -> Result<(), NetnsError> {
        let (a, b) = (here.name, there.name);
        self.ip_line(&format!("link add {a} type veth peer name {b} netns {}", other.name))?;
        for (namespace, device) in [(self, here), (other, there)] {
            let name = device.name;
            if let Some(address) = device.address {
                namespace.ip_line(&format!("link set {name} address {address}"))?;
            }
            namespace.ip_line(&format!("link set {name} addrgenmode none"))?;
            namespace
                .ip_line(&format!("link set {name} {} up", if device.arp { "arp on" } else { "arp off" }))?;
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What cannot be removed is taken away by the next that makes one.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// One end of a virtual cable.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Its name, 15 characters at most.
    pub name: &'a str,
    /// Its Ethernet address, `02:00:00:00:00:01`; the kernel chooses where there is none.
    pub address: Option<&'a str>,
    /// Whether the kernel answers ARP there: not where a data plane owns the device.
    pub arp: bool,
}

impl<'a> Device<'a> {
    /// A device that the kernel does not speak on by itself.
    #[must_use]
    pub const fn silent(name: &'a str) -> Device<'a> {
        Device { name, address: None, arp: false }
    }

    /// A device that the kernel answers ARP on.
    #[must_use]
    pub const fn kernel(name: &'a str) -> Device<'a> {
        Device { name, address: None, arp: true }
    }
}

/// Removes the namespaces of processes that are gone. Returns how many.
pub fn remove_stale() -> usize {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return 0 };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| is_stale(name) && ip(&["netns", "del", name]).is_ok_and(|out| out.status.success()))
        .count()
}

/// Whether the name is one of ours and its process is gone.
fn is_stale(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let Some((pid, _)) = rest.split_once('-') else { return false };
    pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn ip(arguments: &[&str]) -> Result<Output, NetnsError> {
    run("ip", arguments)
}

/// Runs a program of iproute2.
fn run(program: &str, arguments: &[&str]) -> Result<Output, NetnsError> {
    // A person's PATH often lacks the folders of system programs.
    let found = ["/usr/sbin", "/sbin", "/usr/bin"]
        .map(|folder| Path::new(folder).join(program))
        .into_iter()
        .find(|path| path.exists());
    let path = found.unwrap_or_else(|| program.into());
    Command::new(path).args(arguments).stdin(Stdio::null()).output().map_err(NetnsError::NoIp)
}

fn succeed(out: Output, arguments: &[&str]) -> Result<(), NetnsError> {
    if out.status.success() {
        return Ok(());
    }
    Err(NetnsError::Command { command: arguments.join(" "), why: said(&out) })
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_entered_by_a_thread_and_goes_with_its_handle() {
        let (left, right) = match (Namespace::create("left"), Namespace::create("right")) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(refusal), _) | (_, Err(refusal)) => return eprintln!("skipped: {refusal}"),
        };
        let end = |name| Device { address: Some("02:00:00:00:00:07"), ..Device::silent(name) };
        left.join(&end("one"), &right, &end("two")).expect("a cable between them");
        let devices = || std::fs::read_to_string("/proc/thread-self/net/dev").expect("procfs");
        assert!(left.within(devices).expect("it is ours").contains("one:"));
        assert!(right.within(devices).expect("it is ours").contains("two:"));
        assert!(!devices().contains("one:"), "this thread stays where it was");
        let refusal = left.ip_line("link set nothing up").expect_err("there is no such device");
        assert!(refusal.to_string().contains("link set nothing up"), "{refusal}");
        let path = Path::new(FOLDER).join(left.name());
        assert!(path.exists());
        drop(left);
        assert!(!path.exists());
    }

    #[test]
    fn only_names_of_processes_that_are_gone_are_stale() {
        assert!(!is_stale(&format!("roko-{}-0-hub", std::process::id())));
        assert!(is_stale("roko-4294967295-0-hub"), "above every process number");
        for foreign in ["roko", "roko-", "roko-x-0", "other-4294967295-0", "roko-4294967295"] {
            assert!(!is_stale(foreign), "{foreign}");
        }
    }
}
