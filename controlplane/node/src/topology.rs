//! The whole node on one page: which stages there are, which rings join them, what a full ring means, and which thread
//! runs what.
//!
//! The profile decides the threads: the same binary runs every stage of every validator on one thread of a laptop, or
//! one stage a core on a server.

use crate::devnet::network::EnterThread;
use crate::jitter::Tap;
use roko_pipeline::Depths;
use roko_pipeline::idle::Idle;
use roko_pipeline::lanes::LANES_MAX;
use roko_pipeline::metrics::StageMetrics;
use roko_pipeline::poll::{PollLoop, Stage as PollStage};
use roko_tuning::{IdleStrategy, Profile, Stage};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What happens when a ring is full. Each outcome has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The newest item is dropped and counted.
    Drop,
    /// The stage before waits, and says so in its regime.
    Backpressure,
    /// The sender is told to come back.
    Refuse,
    /// It cannot be full: it holds every item there is.
    Never,
}

impl WhenFull {
    /// One word, as `roko top` and the status show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WhenFull::Drop => "drop",
            WhenFull::Backpressure => "backpressure",
            WhenFull::Refuse => "refuse",
            WhenFull::Never => "never",
        }
    }
}

/// One ring: its name, who writes, who reads, what it holds, and what happens when it is full.
pub struct RingRow {
    /// Name in metrics.
    pub name: &'static str,
    /// Key of its depth under `[rings]` in a profile; empty where the depth follows from something else.
    pub depth_key: &'static str,
    /// From and to.
    pub way: &'static str,
    /// What it carries.
    pub items: &'static str,
    /// When it is full.
    pub when_full: WhenFull,
}

const fn row(
    name: &'static str,
    depth_key: &'static str,
    way: &'static str,
    items: &'static str,
    when_full: WhenFull,
) -> RingRow {
    RingRow { name, depth_key, way, items, when_full }
}

use WhenFull::{Backpressure, Drop, Never, Refuse};

/// Every ring of a node, in packet order. With several lanes the rings up to `verify_spread` are there for each, but for
/// those of the slow path's answers; those between decodes and opens for each pair, and `decode_open` then drops.
pub const RINGS: &[RingRow] = &[
    row("rx_filter", "ingress", "rx > filter", "frames with their receive time", Drop),
    row("filter_slow_path", "", "filter > slow path", "address resolution, echo requests", Drop),
    row("slow_path_tx", "", "slow path > tx", "answers and questions, the last class", Drop),
    row("filter_decode", "ingress", "filter > decode", "datagrams for this node", Backpressure),
    row("handshake_filter", "", "handshake > filter", "new addresses of peers, bans", Refuse),
    row("handshake_decode", "", "handshake > decode", "keys that open, keys to forget", Refuse),
    row("decode_open_retired", "", "decode > open", "keys to forget", Backpressure),
    row("decode_open_admitted", "", "decode > open", "keys of frames with a new one", Drop),
    row("decode_open", "ingress", "decode > open", "sealed frames of known sessions", Backpressure),
    row("open_decode", "", "open > decode", "sessions of which a frame verified", Drop),
    row("open_verify", "to_verify", "open > verify", "transactions", Drop),
    row("open_control", "to_control", "open > control", "votes, certificates, proposals, chunks", Drop),
    row("inject_verify", "injected", "rpc > verify", "transactions by RPC", Refuse),
    row("control_verify", "order_commands", "control > verify", "final transactions from blocks", Drop),
    row("verify_order", "stamped", "verify > order", "verified, stamped transactions", Backpressure),
    row("verify_spread", "stamped", "verify > spread", "own stamp batches", Drop),
    row("order_control", "seen", "order > control", "reports of pooled transactions", Drop),
    row("order_builder", "", "order > builder", "drained block buffers", Never),
    row("builder_control", "", "builder > control", "built blocks", Never),
    row("control_builder", "", "control > builder", "block buffers to build again or give back", Never),
    row("builder_order", "", "builder > order", "free block buffers", Never),
    row("control_order", "order_commands", "control > order", "mempool commands", Backpressure),
    row("control_spread", "spread_commands", "control > spread", "messages", Backpressure),
    row("control_spread_blocks", "spread_blocks", "control > spread", "bodies", Backpressure),
    row("spread_control", "spread_blocks", "spread > control", "bodies that are sent", Never),
    row("handshake_spread", "", "handshake > spread", "ways to peers, with the keys that seal", Refuse),
    row("spread_handshake", "", "spread > handshake", "keys that are worn", Refuse),
    row("control_tx", "", "control > tx", "event frames, whose departure is stamped", Refuse),
    row("tx_control", "", "tx > control", "departures", Drop),
    row("spread_tx_consensus", "to_tx", "spread > tx", "sealed consensus frames", Backpressure),
    row("spread_tx_block", "to_tx", "spread > tx", "sealed chunks", Backpressure),
    row("spread_tx_relay", "to_tx", "spread > tx", "sealed stamp batches", Drop),
    row("spread_tx_client", "to_tx", "spread > tx", "sealed submissions", Backpressure),
];

const _: () = assert!(LANES_MAX == roko_tuning::LANES_MAX as usize, "a profile's lanes are the data plane's");

/// Where one stage runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagePlace {
    /// The poll thread, by its name in the profile.
    pub thread: String,
    /// The core that the profile pins it to; `None` where the scheduler chooses.
    pub core: Option<u32>,
}

/// Where a node's threads run: a profile, checked against this host.
#[derive(Clone)]
pub struct Placement {
    profile: Profile,
    allowed: Vec<usize>,
    tap: Option<Arc<Tap>>,
}

impl Placement {
    /// The placement of a profile; `allowed` are the cores that this process may use.
    #[must_use]
    pub fn new(profile: Profile, allowed: Vec<usize>) -> Placement {
        Placement { profile, allowed, tap: None }
    }

    /// The same, with its poll threads watched: each spins, on the core that the profile pins it to, or on one of the last.
    #[must_use]
    pub fn tapped(self, tap: Option<Arc<Tap>>) -> Placement {
        Placement { tap, ..self }
    }

    /// Whether its poll threads are watched.
    #[must_use]
    pub const fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Ring depths, by the profile.
    #[must_use]
    pub fn depths(&self) -> Depths {
        let depth = |key: &str| self.profile.ring_depth(key) as usize;
        Depths {
            ingress: depth("ingress"),
            to_verify: depth("to_verify"),
            to_control: depth("to_control"),
            injected: depth("injected"),
            stamped: depth("stamped"),
            seen: depth("seen"),
            order_commands: depth("order_commands"),
            spread_commands: depth("spread_commands"),
            spread_blocks: depth("spread_blocks"),
            to_tx: depth("to_tx"),
        }
    }

    /// What poll threads do when no stage has work.
    #[must_use]
    pub fn idle(&self) -> Idle {
        if self.is_tapped() {
            return Idle::Spin;
        }
        let idle = &self.profile.idle;
        let sleep_us_max = u32::try_from(idle.sleep_us_max).unwrap_or(u32::MAX);
        match idle.strategy {
            IdleStrategy::Spin => Idle::Spin,
            IdleStrategy::Backoff => Idle::Backoff { spins: idle.spin_iterations, yields: 4, sleep_us_max },
            IdleStrategy::Park => Idle::Park { sleep_us: sleep_us_max },
        }
    }

    /// Lanes of a validator's data plane.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.profile.lanes.count as usize
    }

    /// The thread and core of each stage, in the order of their figures.
    #[must_use]
    pub fn places(&self, stages: &[Arc<StageMetrics>]) -> Vec<StagePlace> {
        let place = |stage: &Arc<StageMetrics>| {
            let thread = self.thread_of(stage).to_owned();
            let core = self.profile.threads.get(&thread).and_then(|thread| thread.core);
            StagePlace { thread, core }
        };
        stages.iter().map(place).collect()
    }

    /// The thread of a stage. One that is no profile's joins that of rx, but `wake` that of tx.
    fn thread_of(&self, stage: &StageMetrics) -> &str {
        let none = if stage.stage() == "wake" { Stage::Tx } else { Stage::Rx };
        let on = self.profile.stages.get(&stage.stage().parse::<Stage>().unwrap_or(none));
        on.map_or("", |on| on.of_lane(stage.lane().unwrap_or(0).into()))
    }

    fn pin(&self, core: Option<u32>) -> impl FnOnce() + Send + 'static + use<> {
        let allowed = self.allowed.clone();
        move || {
            // Short sleeps of idle strategies and precise timers; without it the kernel may add 50 us to each.
            let _ = roko_os::affinity::sharpen_timers();
            if let Some(core) = core {
                // The profile was checked against this host; a core that went away since costs speed, not truth.
                let _ = roko_os::affinity::pin_current_thread(core as usize, &allowed);
            }
        }
    }

    /// Pins the thread that calls it to the control core.
    pub fn pin_control(&self) -> impl FnOnce() + Send + 'static + use<> {
        self.pin(self.profile.control.core)
    }

    /// Pins the thread that calls it to the BLS core.
    pub fn pin_bls(&self) -> impl FnOnce() + Send + 'static + use<> {
        self.pin(self.profile.bls.core)
    }

    /// Pins the thread that calls it to the storage core.
    pub fn pin_storage(&self) -> impl FnOnce() + Send + 'static + use<> {
        self.pin(self.profile.storage.core)
    }

    /// Puts stages on the profile's threads, and starts those. A stage that is no profile's joins the thread of rx (a
    /// devnet's switch) or tx (what wakes the control thread). `enter` runs on each thread and its result lives as long as the thread polls.
    pub fn start_polling(
        &self,
        stages: Vec<(&'static str, Box<dyn PollStage>)>,
        stop: &Arc<AtomicBool>,
        enter: &impl EnterThread,
    ) -> std::io::Result<Vec<std::thread::JoinHandle<()>>> {
        let mut groups: Vec<(String, Vec<Box<dyn PollStage>>)> = Vec::new();
        for (_, stage) in stages {
            let thread = self.thread_of(&stage.metrics()).to_owned();
            match groups.iter_mut().find(|(group, _)| *group == thread) {
                Some((_, group)) => group.push(stage),
                None => groups.push((thread, vec![stage])),
            }
        }
        let mut threads = Vec::new();
        for (at, (name, stages)) in groups.into_iter().enumerate() {
            let core = self.profile.threads.get(&name).and_then(|thread| thread.core);
            let spare = self.allowed.iter().rev().cycle().nth(at).map(|core| *core as u32);
            let tapped = self.tap.clone().zip(core.or(spare));
            let pin = self.pin(tapped.as_ref().map(|(_, core)| *core).or(core));
            let (idle, stop, enter) = (self.idle(), Arc::clone(stop), enter.clone());
            let thread = std::thread::Builder::new().name(format!("poll-{name}")).spawn(move || {
                pin();
                let _guard = enter.enter();
                let poll = PollLoop::new(stages, idle, Arc::clone(&stop));
                match tapped {
                    Some((tap, core)) => tap.run(&name, core as usize, poll, &stop),
                    None => drop(poll.run()),
                }
            })?;
            threads.push(thread);
        }
        Ok(threads)
    }
}
