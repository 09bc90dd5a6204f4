//! Recorded machines: folders with the kernel's files, made by each test.

use roko_tuning::{Machine, Profile, Topology, Tree, builtin};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A machine in a folder, which goes with it.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
}

/// How many cores, and how they hang together.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) cores: u32,
    pub(crate) packages: u32,
    pub(crate) cores_per_l3: u32,
    pub(crate) smt: bool,
}

pub(crate) const FLAT: Shape = Shape { cores: 14, packages: 1, cores_per_l3: 14, smt: false };

impl Fake {
    /// A machine of this shape, with everything as `one-core-per-stage` wants it (cores 1-9 isolated, and so on).
    pub(crate) fn good(shape: Shape) -> Fake {
        // In memory where that is there: a machine is hundreds of files, and each record is synced.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let fake = Fake { folder: folder.unwrap() };
        fake.cpus(shape);
        let all = format!("0-{}", shape.cores * if shape.smt { 2 } else { 1 } - 1);
        fake.set("sys/devices/system/cpu/online", &all);
        fake.set("sys/devices/system/cpu/isolated", "1-9");
        fake.set("sys/devices/system/cpu/nohz_full", "1-9");
        fake.set("sys/devices/system/cpu/cpuidle/current_driver", "acpi_idle");
        fake.set("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024");
        fake.set("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1000");
        fake.set("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
        fake.set("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
        fake.set("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm");
        fake.set("proc/cmdline", "quiet nohz_full=1-9");
        fake.set("proc/cpuinfo", "vendor_id\t: GenuineIntel");
        fake.set("proc/thread-self/status", &format!("Name:\tx\nCpus_allowed_list:\t{all}\n"));
        fake.set("proc/sys/kernel/random/boot_id", "0c0ffee0");
        fake.set("proc/self/limits", &limits("unlimited", "8192"));
        for irq in 24..28 {
            fake.set(&format!("proc/irq/{irq}/smp_affinity_list"), "0,10-13");
        }
        fake.set("proc/irq/default_smp_affinity", "3c01");
        std::fs::create_dir_all(fake.path("sys/class/net")).unwrap();
        std::fs::create_dir_all(fake.path("sys/bus/pci/drivers")).unwrap();
        fake
    }

    fn cpus(&self, shape: Shape) {
        let Shape { cores, packages, cores_per_l3, smt } = shape;
        let per_package = cores / packages;
        let siblings = |core: u32| if smt { format!("{core},{}", core + cores) } else { core.to_string() };
        let range = |first: u32, count: u32| {
            let mut list = format!("{first}-{}", first + count - 1);
            if smt {
                write!(list, ",{}-{}", first + cores, first + cores + count - 1).unwrap();
            }
            list
        };
        for cpu in 0..cores * if smt { 2 } else { 1 } {
            let core = cpu % cores;
            let at = format!("sys/devices/system/cpu/cpu{cpu}");
            self.set(&format!("{at}/topology/physical_package_id"), &(core / per_package).to_string());
            self.set(&format!("{at}/topology/thread_siblings_list"), &siblings(core));
            self.set(&format!("{at}/cache/index3/level"), "3");
            let l3 = range(core / cores_per_l3 * cores_per_l3, cores_per_l3);
            self.set(&format!("{at}/cache/index3/shared_cpu_list"), &l3);
            self.set(&format!("{at}/cache/index3/size"), "32768K");
            self.set(&format!("{at}/cpufreq/scaling_governor"), "performance");
            for (state, name, latency) in [(0, "POLL", "0"), (1, "C1", "1"), (2, "C6", "133")] {
                self.set(&format!("{at}/cpuidle/state{state}/name"), name);
                self.set(&format!("{at}/cpuidle/state{state}/latency"), latency);
                self.set(&format!("{at}/cpuidle/state{state}/disable"), if state == 2 { "1" } else { "0" });
            }
        }
        for node in 0..packages {
            let at = format!("sys/devices/system/node/node{node}");
            self.set(&format!("{at}/cpulist"), &range(node * per_package, per_package));
            self.set(&format!("{at}/meminfo"), &format!("Node {node} MemTotal:  16777216 kB\n"));
            self.set(&format!("{at}/hugepages/hugepages-2048kB/nr_hugepages"), "1024");
            self.set(&format!("{at}/hugepages/hugepages-2048kB/free_hugepages"), "1024");
        }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Where a record goes: beside the machine, not in it.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("record/tune.json")
    }

    pub(crate) fn set(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }

    /// A card with an interface on PCI.
    pub(crate) fn card(&self, interface: &str, address: &str, driver: &str, node: i32) {
        let device = format!("sys/devices/pci0000:00/{address}");
        self.set(&format!("{device}/numa_node"), &node.to_string());
        self.set(&format!("{device}/class"), "0x020000");
        std::fs::create_dir_all(self.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        self.link(&format!("{device}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
        self.link(&format!("sys/bus/pci/devices/{address}"), &device);
        if !interface.is_empty() {
            self.link(&format!("sys/class/net/{interface}/device"), &device);
        }
    }

    fn link(&self, from: &str, to: &str) {
        let from = self.path(from);
        std::fs::create_dir_all(from.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(self.path(to), from).unwrap();
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::at(self.folder.path())
    }

    /// Every setting of the machine: path and text, the record left out.
    pub(crate) fn snapshot(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for part in ["sys", "proc"] {
            collect(&self.path(part), &mut files);
        }
        files.sort();
        files
    }

    /// Does something with the machine and a profile for it.
    pub(crate) fn with<T>(&self, profile: &Profile, act: impl FnOnce(&Machine<'_>) -> T) -> T {
        let tree = self.tree();
        let topology = Topology::of(&tree).unwrap();
        act(&Machine { tree: &tree, topology: &topology, profile, profile_arg: "p" })
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push((path.clone(), std::fs::read_to_string(path).unwrap())),
        }
    }
}

pub(crate) fn limits(memlock: &str, nofile: &str) -> String {
    format!(
        "Limit                     Soft Limit           Hard Limit           Units\n\
         Max open files            {nofile}                 {nofile}                files\n\
         Max locked memory         {memlock}              {memlock}              bytes\n\
         Max realtime priority     0                    0\n"
    )
}

pub(crate) fn profile(name: &str) -> Profile {
    Profile::parse(builtin(name).unwrap()).unwrap()
}
