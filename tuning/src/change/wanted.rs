//! Which settings a profile wants otherwise than they are.

use crate::host::HostCores;
use crate::machine::{DEFAULT_AFFINITY, Machine, THP};
use crate::tree::TreeError;

/// One file that should hold something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is, in words: `hugepages`, `irq`.
    pub setting: &'static str,
    /// The file, without the leading slash.
    pub path: String,
    /// What it holds.
    pub before: String,
    /// What it should hold.
    pub after: String,
    /// Whether the kernel may keep its own value and that is no failure: some interrupts are the kernel's to place.
    pub may_be_refused: bool,
}

/// All changes, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The changes, in the order in which they are made.
    pub changes: Vec<Change>,
    /// Settings whose files cannot be read, with the reason: they are left alone.
    pub unread: Vec<(&'static str, TreeError)>,
}

/// Everything that the profile wants otherwise and that can change while the machine runs.
#[must_use]
pub fn wanted(machine: &Machine<'_>) -> Wanted {
    let mut all = Wanted::default();
    let parts = [
        ("hugepages", hugepages(machine)),
        ("thp", thp(machine)),
        ("governor", governors(machine)),
        ("c-states", c_states(machine)),
        ("irq-affinity", irqs(machine)),
    ];
    for (setting, part) in parts {
        match part {
            Ok(changes) => all.changes.extend(changes),
            Err(error) => all.unread.push((setting, error)),
        }
    }
    all
}

fn change(setting: &'static str, path: String, before: String, after: impl Into<String>) -> Change {
    Change { setting, path, before, after: after.into(), may_be_refused: false }
}

/// More hugepages where there are too few. Those beyond the profile's number may be somebody else's.
pub(crate) fn hugepages(machine: &Machine<'_>) -> Result<Vec<Change>, TreeError> {
    let want = u64::from(machine.profile.host.hugepages_2mib);
    if want == 0 {
        return Ok(Vec::new());
    }
    let path = machine.hugepages_path("nr_hugepages");
    let have = machine.tree.number(&path)?;
    let short = have < want;
    Ok(short.then(|| change("hugepages", path, have.to_string(), want.to_string())).into_iter().collect())
}

/// Transparent hugepages only for who asks.
pub(crate) fn thp(machine: &Machine<'_>) -> Result<Vec<Change>, TreeError> {
    let now = machine.tree.setting(THP)?;
    let always = now == "always";
    Ok(always.then(|| change("thp", THP.to_owned(), now, "madvise")).into_iter().collect())
}

/// The governor `performance` on pinned cores.
pub(crate) fn governors(machine: &Machine<'_>) -> Result<Vec<Change>, TreeError> {
    let mut changes = Vec::new();
    for cpu in machine.profile.pinned_cores().iter() {
        let path = Machine::governor_path(cpu);
        let now = machine.tree.read(&path)?;
        if now != "performance" {
            changes.push(change("governor", path, now, "performance"));
        }
    }
    Ok(changes)
}

/// No slow idle states on pinned cores that sleep.
pub(crate) fn c_states(machine: &Machine<'_>) -> Result<Vec<Change>, TreeError> {
    let deep = machine.deep_idle(&machine.profile.sleeping_cores())?;
    let enabled = deep.iter().filter(|state| state.enabled);
    Ok(enabled.map(|state| change("c-states", Machine::idle_path(state), "0".to_owned(), "1")).collect())
}

/// Interrupts on other cores than the poll threads'.
pub(crate) fn irqs(machine: &Machine<'_>) -> Result<Vec<Change>, TreeError> {
    let cores = machine.profile.poll_cores();
    let free = machine.topology.online().without(&cores);
    // Without another core there is nowhere to move them.
    if cores.is_empty() || free.is_empty() {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    for irq in machine.irqs_on(&cores)? {
        let rest = irq.cpus.without(&cores);
        let to = if rest.is_empty() { &free } else { &rest };
        let change = change("irq", Machine::irq_path(irq.irq), irq.cpus.to_string(), to.to_string());
        changes.push(Change { may_be_refused: true, ..change });
    }
    let mask = machine.tree.read(DEFAULT_AFFINITY)?;
    if let Some(cleared) = without_cores(&mask, &cores).filter(|cleared| *cleared != mask) {
        changes.push(change("irq", DEFAULT_AFFINITY.to_owned(), mask, cleared));
    }
    Ok(changes)
}

/// The kernel's mask, groups of eight hexadecimal digits with commas between, without these cores. `None` when it is no
/// mask, or when nothing would be left.
fn without_cores(mask: &str, cores: &HostCores) -> Option<String> {
    let mut left = 0;
    let mut groups = Vec::new();
    for (group, first) in mask.split(',').rev().zip((0u32..).step_by(32)) {
        let mut bits = u32::from_str_radix(group, 16).ok()?;
        for core in cores.iter().filter(|core| (first..first + 32).contains(core)) {
            bits &= !(1 << (core - first));
        }
        left |= bits;
        groups.push(format!("{bits:0width$x}", width = group.len()));
    }
    groups.reverse();
    (left != 0).then(|| groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_taken_out_of_the_kernels_masks() {
        let cores = HostCores::new([1, 2, 33]);
        assert_eq!(without_cores("f", &cores).as_deref(), Some("9"));
        assert_eq!(without_cores("ffffffff,ffffffff", &cores).as_deref(), Some("fffffffd,fffffff9"));
        assert_eq!(without_cores("6", &cores), None);
        assert_eq!(without_cores("x", &cores), None);
    }
}
