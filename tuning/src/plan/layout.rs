//! How stages are spread over threads, by the number of cores that there are.

use crate::BUILTIN;
use crate::profile::Profile;
use crate::stage::Stage;

/// Stages on threads. The rest of the profile is that of a built-in one.
pub(super) struct Layout {
    /// The built-in profile that the rest, and its comments, come from.
    pub(super) base: &'static str,
    /// Threads in packet order, with their stages.
    pub(super) threads: &'static [(&'static str, &'static [Stage])],
    /// Whether each has a core.
    pub(super) pinned: bool,
    /// How many of control, BLS and storage have a core of their own, in that order.
    pub(super) own_cores: usize,
}

use Stage::{Builder, Decode, Filter, Open, Order, Rx, Spread, Tx, Verify};

const NINE: &[(&str, &[Stage])] = &[
    ("rx", &[Rx]),
    ("filter", &[Filter]),
    ("decode", &[Decode]),
    ("open", &[Open]),
    ("verify", &[Verify]),
    ("order", &[Order]),
    ("builder", &[Builder]),
    ("spread", &[Spread]),
    ("tx", &[Tx]),
];
const FOUR: &[(&str, &[Stage])] = &[
    ("ingress", &[Rx, Filter, Decode, Open]),
    ("verify", &[Verify]),
    ("pool", &[Order, Builder]),
    ("egress", &[Spread, Tx]),
];
const TWO: &[(&str, &[Stage])] =
    &[("data", &[Rx, Filter, Decode, Open, Order, Builder, Spread, Tx]), ("verify", &[Verify])];
const ONE: &[(&str, &[Stage])] = &[("data", &[Rx, Filter, Decode, Open, Verify, Order, Builder, Spread, Tx])];

impl Layout {
    /// The layout for this many cores, the kernel's not counted.
    pub(super) fn of(cores: usize) -> Layout {
        let row = |base, threads: &'static [(&'static str, &'static [Stage])], own_cores| Layout {
            base,
            threads,
            pinned: base != "devnet-2core",
            own_cores,
        };
        match cores {
            12.. => row("one-core-per-stage", NINE, 3),
            7.. => row("workstation-8core", FOUR, 3),
            // Signatures are the slowest step: the first core to spare is theirs, the next one consensus'.
            3.. => row("workstation-8core", TWO, 1),
            _ => row("devnet-2core", ONE, 0),
        }
    }

    /// Everything but stages and cores, as the built-in profile has it.
    pub(super) fn rest(&self) -> Profile {
        let text = BUILTIN.iter().find(|(name, _)| *name == self.base).map(|(_, text)| *text);
        // Tests parse every built-in profile.
        Profile::parse(text.unwrap_or_default()).expect("a built-in profile is sound")
    }
}
