//! What figures were measured on: printed above every bench and every report.

use crate::tree::Tree;
use core::fmt;
use serde::Serialize;

/// A machine, as far as it decides what is measured on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The CPU's name, family and model.
    pub cpu: String,
    /// It is a guest.
    pub under_hypervisor: bool,
    /// Cores that this process may use.
    pub usable_cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Target features that decide the speed of what is measured, as the compiler was told them.
    pub compiled_for: String,
    /// The cores that the kernel keeps other threads away from; `None` when there is none.
    pub isolated: Option<String>,
    /// The first core's frequency governor; `None` where the kernel does not tell.
    pub governor: Option<String>,
    /// Whether cores have sibling threads; `None` where the kernel does not tell.
    pub smt: Option<bool>,
    /// The kernel's clock source.
    pub clock_source: Option<String>,
}

impl Fingerprint {
    /// The fingerprint of `tree`, of which this process may use `usable_cores`.
    #[must_use]
    pub fn of(tree: &Tree, usable_cores: usize) -> Fingerprint {
        let line = |path: &str| {
            let text = tree.read(path).ok()?;
            text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
        };
        let cpuinfo = tree.read("proc/cpuinfo").unwrap_or_default();
        let smt = match line("sys/devices/system/cpu/smt/active").as_deref() {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        };
        Fingerprint {
            cpu: model(&cpuinfo),
            under_hypervisor: under_hypervisor(&cpuinfo),
            usable_cores,
            kernel: line("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            compiled_for: features(),
            isolated: line("sys/devices/system/cpu/isolated"),
            governor: line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            smt,
            clock_source: line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }

    /// Only the kernel can say that cores are isolated; a quiet machine is not a claim.
    #[must_use]
    pub fn isolation(&self) -> String {
        match &self.isolated {
            Some(list) => format!("isolated cores: {list}"),
            None => "cores shared with the rest of the system (no isolcpus)".into(),
        }
    }

    /// What may not be said of figures from this machine: that cores were isolated, where the kernel isolates none.
    ///
    /// # Errors
    /// The claim, and what would make it true.
    pub fn allows(&self, claim: &str) -> Result<(), String> {
        let words = claim.split(|letter: char| !letter.is_ascii_alphabetic());
        let claims = words.clone().any(|word| word.eq_ignore_ascii_case("isolated"));
        if claims && self.isolated.is_none() {
            return Err(format!(
                "\"{claim}\" says isolated, and the kernel isolates no core here: leave the word out, or boot with \
                 isolcpus (`roko tune check` prints the parameters)"
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guest = if self.under_hypervisor { " under a hypervisor" } else { "" };
        writeln!(f, "CPU {}{guest}, {} usable cores, Linux {}", self.cpu, self.usable_cores, self.kernel)?;
        writeln!(f, "compiled for: {}", self.compiled_for)?;
        let smt = match self.smt {
            Some(true) => "on",
            Some(false) => "off",
            None => "not visible",
        };
        let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "not visible".into());
        write!(
            f,
            "{}; frequency governor {}; SMT {smt}; clock source {}",
            self.isolation(),
            told(&self.governor),
            told(&self.clock_source)
        )
    }
}

fn value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    let (_, value) =
        cpuinfo.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key)?;
    Some(value.trim())
}

fn model(cpuinfo: &str) -> String {
    let name = value(cpuinfo, "model name").unwrap_or("unknown");
    match (value(cpuinfo, "cpu family"), value(cpuinfo, "model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name.to_owned(),
    }
}

/// Whether `/proc/cpuinfo` is a guest's.
#[must_use]
pub fn under_hypervisor(cpuinfo: &str) -> bool {
    value(cpuinfo, "flags").unwrap_or_default().split(' ').any(|flag| flag == "hypervisor")
}

fn features() -> String {
    let all = [
        ("avx2", cfg!(target_feature = "avx2")),
        ("bmi2", cfg!(target_feature = "bmi2")),
        ("aes", cfg!(target_feature = "aes")),
        ("sha", cfg!(target_feature = "sha")),
        ("vaes", cfg!(target_feature = "vaes")),
        ("avx512f", cfg!(target_feature = "avx512f")),
        ("avx512ifma", cfg!(target_feature = "avx512ifma")),
    ];
    let names: Vec<&str> = all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if names.is_empty() { "generic x86-64".into() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_by_its_files_and_isolation_by_the_kernel_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        file(
            "proc/cpuinfo",
            "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A CPU\nflags\t\t: fpu hypervisor aes\n",
        );
        file("proc/sys/kernel/osrelease", "6.1.0\n");
        file("sys/devices/system/cpu/isolated", "\n");
        let print = Fingerprint::of(&Tree::at(folder.path()), 2);
        assert_eq!((print.cpu.as_str(), print.under_hypervisor), ("A CPU (family 25, model 17)", true));
        assert_eq!((&print.isolated, print.smt), (&None, None));
        assert!(print.to_string().contains("cores shared with the rest"), "{print}");
        assert!(print.allows("a quiet machine").is_ok());
        for claim in ["Isolated cores", "on isolated, pinned cores"] {
            assert!(print.allows(claim).expect_err("refused").contains("isolcpus"));
        }
        file("sys/devices/system/cpu/isolated", "2-7\n");
        let print = Fingerprint::of(&Tree::at(folder.path()), 2);
        assert!(print.allows("isolated cores").is_ok() && print.to_string().contains("isolated cores: 2-7"));
    }
}
