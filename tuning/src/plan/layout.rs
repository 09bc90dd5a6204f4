//! How stages are spread over threads, by the number of cores that there are.

use crate::BUILTIN;
use crate::profile::{Lanes, Profile, StageThreads};
use crate::stage::Stage;
use std::collections::{BTreeMap, BTreeSet};

/// Stages on threads. The rest of the profile is that of a built-in one.
pub(super) struct Layout {
    /// The built-in profile that the rest, and its comments, come from.
    pub(super) base: &'static str,
    /// Lanes.
    pub(super) lanes: Lanes,
    /// Threads in packet order.
    pub(super) threads: Vec<String>,
    /// The threads of each stage.
    pub(super) stages: BTreeMap<Stage, StageThreads>,
    /// Whether each has a core.
    pub(super) pinned: bool,
    /// How many of control, BLS and storage have a core of their own, in that order.
    pub(super) own_cores: usize,
}

use Stage::{Builder, Decode, Filter, Open, Order, Rx, Spread, Tx, Verify};

/// Threads, with the stages of each.
type Row = &'static [(&'static str, &'static [Stage])];

const NINE: Row = &[
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
const FOUR: Row = &[
    ("ingress", &[Rx, Filter, Decode, Open]),
    ("verify", &[Verify]),
    ("pool", &[Order, Builder]),
    ("egress", &[Spread, Tx]),
];
const TWO: Row = &[("data", &[Rx, Filter, Decode, Open, Order, Builder, Spread, Tx]), ("verify", &[Verify])];
const ONE: Row = &[("data", &[Rx, Filter, Decode, Open, Verify, Order, Builder, Spread, Tx])];
/// Behind the lanes.
const OUTWARD: Row = &[("order", &[Order]), ("builder", &[Builder]), ("spread", &[Spread]), ("tx", &[Tx])];

/// Control, BLS and storage.
const OWN_CORES: usize = 3;
/// Lanes that are made without being asked for: what is left of a larger machine is for other work.
const LANES_PLANNED_MAX: usize = 8;
/// Lanes whose frames one core takes in: a signature costs fifty times what a frame costs before it.
const LANES_OF_AN_INGRESS: usize = 2;

impl Layout {
    /// The layout for this many cores, the kernel's not counted.
    pub(super) fn of(cores: usize) -> Layout {
        let lanes = lanes_for(cores.saturating_sub(OUTWARD.len() + OWN_CORES));
        match cores {
            _ if lanes > 2 => Layout::in_lanes(lanes),
            12.. => Layout::single("one-core-per-stage", NINE, OWN_CORES),
            7.. => Layout::single("workstation-8core", FOUR, OWN_CORES),
            // Signatures are the slowest step: the first core to spare is theirs, the next one consensus'.
            3.. => Layout::single("workstation-8core", TWO, 1),
            _ => Layout::single("devnet-2core", ONE, 0),
        }
    }

    fn single(base: &'static str, row: Row, own_cores: usize) -> Layout {
        let on = |(name, stages): &(&'static str, &'static [Stage])| {
            let name = *name;
            stages.iter().map(move |stage| (*stage, StageThreads::from(name)))
        };
        Layout {
            base,
            lanes: Lanes::default(),
            threads: row.iter().map(|(name, _)| (*name).to_owned()).collect(),
            stages: row.iter().flat_map(on).collect(),
            pinned: base != "devnet-2core",
            own_cores,
        }
    }

    /// A core for each lane's signatures, and one for the frames of every two lanes.
    fn in_lanes(lanes: usize) -> Layout {
        let ingress: Vec<String> =
            (0..lanes).map(|lane| format!("in{}", lane / LANES_OF_AN_INGRESS)).collect();
        let verify: Vec<String> = (0..lanes).map(|lane| format!("lane{lane}")).collect();
        let mut layout = Layout::single("epyc-32core-ice", OUTWARD, OWN_CORES);
        for stage in [Rx, Filter, Decode] {
            layout.stages.insert(stage, StageThreads::EachLane(ingress.clone()));
        }
        for stage in [Open, Verify] {
            layout.stages.insert(stage, StageThreads::EachLane(verify.clone()));
        }
        // A lane's frames go from one to the next of these, so that they share a cache.
        let mut threads: Vec<String> = ingress.into_iter().zip(verify).flat_map(|(a, b)| [a, b]).collect();
        let mut known = BTreeSet::new();
        threads.retain(|name| known.insert(name.clone()));
        threads.append(&mut layout.threads);
        Layout { lanes: Lanes { count: lanes as u32 }, threads, ..layout }
    }

    /// Everything but stages and cores, as the built-in profile has it.
    pub(super) fn rest(&self) -> Profile {
        let text = BUILTIN.iter().find(|(name, _)| *name == self.base).map(|(_, text)| *text);
        // Tests parse every built-in profile.
        Profile::parse(text.unwrap_or_default()).expect("a built-in profile is sound")
    }
}

/// The most lanes that have room on this many cores.
fn lanes_for(cores: usize) -> usize {
    let fits = |lanes: &usize| lanes + lanes.div_ceil(LANES_OF_AN_INGRESS) <= cores;
    (0..=LANES_PLANNED_MAX).rev().find(fits).unwrap_or(0)
}
