//! What `roko top` shows of a node beside its state: traffic, rings, peers, views. A node of an older version tells none of
//! it, so every field has a default.

use crate::api::NodeHandle;
use crate::clock::source_name;
use crate::conduct::PeerConduct;
use crate::observe::peers::PeerStatus;
use crate::observe::views::ViewStatus;
use crate::topology::{RINGS, WhenFull};
use roko_pipeline::assembly::RingGauge;
use roko_state::storage::Storage;
use roko_wire::NanoMoment;
use roko_wire::nano::ClockState;
use serde::{Deserialize, Serialize};

/// Frames and bytes through the port since the start; of a full node all zero, for it has no port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Frames that the port gave.
    pub frames_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Frames that the port took.
    pub frames_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
}

/// One ring between two threads or stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingStatus {
    /// Its name, as in the metrics.
    pub name: String,
    /// From and to.
    pub way: String,
    /// Items in it when the status was made.
    pub depth: u64,
    /// Most items.
    pub capacity: u64,
    /// What happens when it is full: `drop`, `backpressure`, `refuse`, or `never` when it holds all there are.
    pub when_full: String,
    /// Items that were dropped or refused because it was full; `None` where that cannot be or is not counted.
    pub overruns: Option<u64>,
}

/// One lane's share of the work: frames and transactions since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneStatus {
    /// Which.
    pub lane: u8,
    /// Frames that its receive queue gave; 0 where the port has fewer queues than there are lanes.
    pub received: u64,
    /// Frames that its decode gave to other lanes, whose sessions they are of.
    pub crossed: u64,
    /// Frames that its decode dropped because their lane was full.
    pub dropped: u64,
    /// Frames of its sessions that opened.
    pub opened: u64,
    /// Transactions that its verify passed.
    pub verified: u64,
}

/// A fetch of blocks that this node lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CatchupStatus {
    /// The last block here.
    pub height: u64,
    /// The last block to fetch.
    pub target: u64,
}

/// Where the node's time and the times of its frames come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeStatus {
    /// The clock's source, in words.
    pub source: String,
    /// What receive times the port gives, in words.
    pub rx_stamps: String,
    /// Frames by what stamped them: the card, the kernel, the poll.
    pub hardware_stamped: u64,
    /// See `hardware_stamped`.
    pub kernel_stamped: u64,
    /// See `hardware_stamped`.
    pub poll_stamped: u64,
    /// Stamps of the port that were not used.
    pub stamps_refused: u64,
    /// Error bound of the last frame's time, nanoseconds; 0 before the first.
    pub stamp_bound_ns: u64,
    /// Steps of the source, and how often it could not be read.
    pub source_steps: u64,
    /// See `source_steps`.
    pub source_losses: u64,
    /// The clock that the port stamps with; `None` when it has none.
    pub port_clock: Option<PortClockStatus>,
}

impl TimeStatus {
    /// Frames by what stamped them, and stamps that were refused; nothing for a node without a port.
    #[must_use]
    pub fn by_stamper(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("hardware", self.hardware_stamped),
            ("kernel", self.kernel_stamped),
            ("poll", self.poll_stamped),
            ("refused", self.stamps_refused),
        ];
        if all.iter().all(|(_, count)| *count == 0) { Vec::new() } else { all.into() }
    }

    /// Faults by clock and kind.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, &'static str, u64)> {
        let port = self.port_clock.iter();
        let port = port.flat_map(|at| [("port", "stepped", at.steps), ("port", "unreadable", at.losses)]);
        let source = [("source", "stepped", self.source_steps), ("source", "unreadable", self.source_losses)];
        source.into_iter().chain(port).collect()
    }
}

/// The clock that a port stamps with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortClockStatus {
    /// Health of its map to the counter.
    pub state: ClockState,
    /// How far its last reading was from the map, nanoseconds.
    pub offset_ns: i64,
    /// How often it was stepped.
    pub steps: u64,
    /// How often it could not be read.
    pub losses: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// `validator` or `full`.
    pub kind: String,
    /// Its place in the validator set; `None` of a full node.
    pub index: Option<u16>,
    /// The node's clock when the status was made, nanoseconds since 1970: what rates are taken over.
    pub clock_ns: u64,
    /// Blocks being fetched; `None` when the node is not behind.
    pub catchup: Option<CatchupStatus>,
    /// Where times come from.
    pub time: TimeStatus,
    /// Through the port.
    pub traffic: Traffic,
    /// What the port's device does so that no core has to, in words.
    pub port_offloads: Vec<String>,
    /// Whether the port's link is up; `None` when the port does not tell.
    pub link_up: Option<bool>,
    /// How often the link has gone and come back.
    pub link_changes: u64,
    /// Each lane; empty where there is but one.
    pub lanes: Vec<LaneStatus>,
    /// Every ring, in packet order.
    pub rings: Vec<RingStatus>,
    /// The other validators, by index.
    pub peers: Vec<PeerStatus>,
    /// The members that were refused for anything: their scores, bans and offences.
    pub conduct: Vec<PeerConduct>,
    /// The last views, the newest first.
    pub views: Vec<ViewStatus>,
}

impl<S: Storage> NodeHandle<S> {
    /// The detail at `now`, the node's clock. Everything is read from counters and pages that are published anyway.
    pub(super) fn detail(&self, now: NanoMoment) -> Detail {
        let (observer, counter) = (&self.observer, |stage, label| self.stage_counter(stage, label));
        Detail {
            kind: if self.own_index.is_some() { "validator" } else { "full" }.into(),
            index: self.own_index.map(|index| index.0),
            clock_ns: u64::try_from(now.0).unwrap_or(u64::MAX),
            catchup: observer.catchup().map(|(height, target)| CatchupStatus { height, target }),
            time: self.time_status(),
            traffic: Traffic {
                frames_received: counter("rx", "received"),
                bytes_received: counter("rx", "bytes"),
                frames_sent: counter("tx", "sent"),
                bytes_sent: counter("tx", "bytes"),
            },
            port_offloads: self.data_plane.offloads.iter().map(|what| (*what).into()).collect(),
            link_up: self.data_plane.link.up(),
            link_changes: self.data_plane.link.changes(),
            lanes: self.lanes(),
            rings: self.rings(),
            peers: self.peers(now),
            conduct: observer.conduct.read(),
            views: observer.recent_views(now),
        }
    }

    fn peers(&self, now: NanoMoment) -> Vec<PeerStatus> {
        let mut peers = self.observer.peers.read(self.chain.set.len(), self.own_index, now);
        for peer in &mut peers {
            // A validator's slot is its index.
            peer.round_trip_ns = self.data_plane.handshakes.round_trips.of(peer.index.into());
        }
        peers
    }

    /// Where times come from, and how the clocks have fared.
    pub(crate) fn time_status(&self) -> TimeStatus {
        let (rx, clock) = (|label| self.stage_counter("rx", label), self.clock.status());
        let port_clock = self.clock.port_page().map(|page| {
            let (steps, losses) = clock.port_faults();
            PortClockStatus { state: page.read().state, offset_ns: clock.port_offset_ns(), steps, losses }
        });
        TimeStatus {
            source: source_name(self.clock.map().source).into(),
            rx_stamps: self.data_plane.rx_stamps.into(),
            hardware_stamped: rx("hardware_stamped"),
            kernel_stamped: rx("kernel_stamped"),
            poll_stamped: rx("poll_stamped"),
            stamps_refused: rx("stamp_refused"),
            stamp_bound_ns: rx("stamp_bound_ns"),
            source_steps: clock.steps(),
            source_losses: clock.losses(),
            port_clock,
        }
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        let stages = &self.data_plane.stages;
        let lanes = stages.iter().filter(|stage| stage.stage() == "open").filter_map(|open| open.lane());
        let of = |lane: u8| {
            let count = |stage: &str, label: &str| {
                let own = stages.iter().find(|of| of.stage() == stage && of.lane() == Some(lane));
                own.map_or(0, |own| own.value(label))
            };
            LaneStatus {
                lane,
                received: count("rx", "received"),
                crossed: count("decode", "crossed"),
                dropped: count("decode", "dropped_lane_full"),
                opened: count("open", "opened"),
                verified: count("verify", "passed"),
            }
        };
        lanes.map(of).collect()
    }

    fn rings(&self) -> Vec<RingStatus> {
        let of = |ring: &RingGauge| {
            let row = RINGS.iter().find(|row| row.name == ring.name);
            let crosses = ring.name == "decode_open" && ring.lane.is_some();
            let when_full = row.map(|row| if crosses { WhenFull::Drop } else { row.when_full });
            RingStatus {
                name: ring.label().into(),
                way: row.map_or("", |row| row.way).into(),
                depth: ring.depth() as u64,
                capacity: ring.capacity() as u64,
                when_full: when_full.map_or("", WhenFull::name).into(),
                overruns: self.ring_overruns(ring),
            }
        };
        self.data_plane.rings.iter().map(of).collect()
    }
}
