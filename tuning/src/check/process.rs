//! The clock that the kernel counts by, and the limits of processes.

use super::{Finding, State, Subject};
use crate::machine::Machine;

/// Open files that a node may need: sixteen validators of a devnet with 128 RPC connections each, and as many again for
/// segments, journals and peers.
const OPEN_FILES_MIN: u64 = 2 * 16 * 128;
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0";

pub(super) fn clock_source(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "clocksource",
        why: "with any other than tsc each reading of the time is a system call or a slow device access",
        cost: "nothing where the kernel offers tsc; where it does not, it has found the counter unsteady",
    };
    let read = |file| machine.tree.read(&format!("{CLOCK}/{file}"));
    subject.read(read("current_clocksource"), |current| {
        if current == "tsc" {
            return subject.ok("tsc");
        }
        let offered = read("available_clocksource").unwrap_or_default();
        match offered.split_whitespace().any(|name| name == "tsc") {
            true => subject.matters(
                format!("{current}, and tsc is available"),
                format!("echo tsc | sudo tee /{CLOCK}/current_clocksource"),
            ),
            false => subject.matters(
                format!("{current}; the kernel offers {offered}"),
                "sudo dmesg | grep -i tsc, which says why the kernel does not trust it",
            ),
        }
    })
}

/// A soft limit of this process: `None` when it has none.
fn limit(machine: &Machine<'_>, name: &str) -> Result<Option<u64>, crate::TreeError> {
    let path = "proc/self/limits";
    let text = machine.tree.read(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let soft = line.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    match soft {
        "unlimited" => Ok(None),
        _ => soft.parse().map(Some).map_err(|_| crate::TreeError::Unexpected {
            path: format!("/{path}"),
            text: line.unwrap_or_default().to_owned(),
            expected: "a list with the limits of this process",
        }),
    }
}

/// How a limit is raised, for a shell and for a unit.
fn raise(item: &str, unit: &str, value: impl core::fmt::Display) -> String {
    format!(
        "echo \"* - {item} {value}\" | sudo tee -a /etc/security/limits.d/roko.conf and log in again; \
         in a systemd unit {unit}={value}"
    )
}

pub(super) fn memlock(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "memlock",
        why: "all memory that a card may reach is locked: above the limit the port does not open",
        cost: "the user may lock that much memory",
    };
    let pages = u64::from(machine.profile.host.hugepages_2mib);
    if pages == 0 || machine.profile.host.nic_driver.is_none() {
        return subject.not_needed("the profile names no card (host.nic_driver), or no memory for it");
    }
    // vfio and RDMA verbs both count the frames' memory, hugepages or not; a page of 2 MiB is 2,048 KiB.
    let want_kib = pages * 2_048;
    subject.read(limit(machine, "Max locked memory"), |limit| match limit {
        None => subject.ok("unlimited for this shell"),
        Some(bytes) if bytes >> 10 >= want_kib => subject.ok(format!("{} KiB for this shell", bytes >> 10)),
        Some(bytes) => subject.matters(
            format!("{} KiB for this shell; the profile's hugepages are {want_kib} KiB", bytes >> 10),
            raise("memlock", "LimitMEMLOCK", "unlimited"),
        ),
    })
}

pub(super) fn nofile(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "nofile",
        why: "each RPC connection and each segment of the store is an open file: at the limit connections are refused",
        cost: "a little kernel memory for each file that is really open",
    };
    subject.read(limit(machine, "Max open files"), |limit| match limit {
        None => subject.ok("unlimited for this shell"),
        Some(files) if files >= OPEN_FILES_MIN => subject.ok(format!("{files} for this shell")),
        Some(files) => subject.matters(
            format!("{files} for this shell; {OPEN_FILES_MIN} are enough for sixteen validators"),
            raise("nofile", "LimitNOFILE", OPEN_FILES_MIN),
        ),
    })
}

pub(super) fn rtprio(machine: &Machine<'_>) -> Finding {
    let subject = Subject {
        check: "rtprio",
        why: "no thread of the node asks for real-time priority: isolated cores keep others away without it",
        cost: "a spinning real-time thread starves the kernel's own threads on its core",
    };
    let seen = match limit(machine, "Max realtime priority") {
        Ok(None) => "unlimited for this shell, and unused".to_owned(),
        Ok(Some(priority)) => format!("{priority} for this shell, and unused"),
        Err(error) => return subject.finding(State::Unknown, error.to_string(), None),
    };
    subject.not_needed(seen)
}
