//! Wires all stages of one validator: a row per stage, a row per ring, and what a full ring means. The stages before order
//! come once a lane ([`crate::lanes`]), and so do their rings; those between decodes and opens once a pair.
//!
//! | ring | when it is full |
//! |---|---|
//! | rx to filter | rx drops and counts |
//! | filter to the slow path | filter drops and counts |
//! | slow path to tx | the slow path drops and counts |
//! | filter to decode | backpressure |
//! | decode to open | backpressure; with several lanes decode drops and counts, so that a slow one does not hold up the others |
//! | handshakes to filter, decode, spread (addresses, keys, links) | the handshake tries again |
//! | decode to open (retired keys) | decode retires the rest later |
//! | spread to handshakes (worn keys) | said again with the next frame |
//! | open to verify, open to control | open drops and counts, by kind |
//! | injector to verify | the injector's caller is told to come back |
//! | control to verify | the report is dropped; it costs a signature check |
//! | verify to order | backpressure |
//! | verify to spread | the batch stays in this node's pool only; counted |
//! | order to control (seen) | the report is dropped and counted |
//! | order, builder, control (block buffers) | never full: each ring holds every buffer |
//! | control to order, builder, spread | control's push fails, control tries again |
//! | spread to tx, by class | consensus and block frames wait; relay frames wait a while, then are dropped and counted |
//! | control to tx (event frames) | the caller is told to come back |
//! | tx to control (departures) | the report is dropped and counted |
//! | tx to the port | frames wait |

mod inward;
mod middle;
mod outward;

use crate::block_buffer::{BlockBuffer, BlockRoom};
use crate::builder::BuilderCommand;
use crate::by_peer::PeerMetrics;
use crate::clock::{ClockPage, PortClockPage};
use crate::event::{EventPort, event_ring};
use crate::filter::FilterConfig;
use crate::inject::Injector;
use crate::lanes::{FanIn, FanOut, LANES_MAX};
use crate::link::{ControlFrame, FinalTx, OutFrame, Seen};
use crate::metrics::{StageMetrics, lane_label};
use crate::open::PeerRates;
use crate::order::{OrderCommand, OrderConfig};
use crate::peer::{KeySource, KnownChange, LinkCommand, PeerIndex, PeerLink, Role, Worn};
use crate::poll::Stage;
use crate::port::{BURST, FramePool, Port, RxStamps};
use crate::slow_path::{SLOW_PATH_FRAMES, SlowPathEnds, SlowPathTap};
use crate::spread::{SpreadBlock, SpreadBlockTask, SpreadCommand};
use crate::tx::Tx;
use crate::verify::VerifyConfig;
use core::net::IpAddr;
use inward::{Inward, InwardParts, Queue};
use middle::Middle;
use outward::Outward;
use roko_ring::spsc::{Consumer, Gauge, Producer, ring};
use std::borrow::Cow;
use std::sync::Arc;

/// Depths of the rings, in items; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depths {
    /// rx to filter, filter to decode, decode to open: absorb a burst while the stages behind are busy elsewhere.
    pub ingress: usize,
    /// open to verify: signature checks are the slowest step, so this is the longest queue. Its length over the rate of
    /// checks is the delay that a full queue means.
    pub to_verify: usize,
    /// open to control.
    pub to_control: usize,
    /// injector to verify.
    pub injected: usize,
    /// verify to order, and verify to spread.
    pub stamped: usize,
    /// order to control.
    pub seen: usize,
    /// control to order.
    pub order_commands: usize,
    /// control to spread: messages.
    pub spread_commands: usize,
    /// control to spread and back: blocks.
    pub spread_blocks: usize,
    /// spread to tx, each class.
    pub to_tx: usize,
}

impl Default for Depths {
    /// For a validator of a devnet: about 9,000 frames may be under way.
    fn default() -> Depths {
        Depths {
            ingress: 512,
            to_verify: 2048,
            to_control: 4096,
            injected: 256,
            stamped: 256,
            seen: 8192,
            order_commands: 16_384,
            spread_commands: 256,
            spread_blocks: 16,
            to_tx: 256,
        }
    }
}

impl Depths {
    /// Frames that can be under way at once in this many lanes: what the port's pool must hold beside the driver's own rings.
    #[must_use]
    pub const fn frames_max(&self, lanes: usize) -> usize {
        let lane = 2 * self.ingress
            + lanes * self.decode_open(lanes)
            + self.to_verify
            + self.to_control
            + self.injected
            + 2 * self.stamped;
        lanes * lane + 4 * self.to_tx
    }

    /// Depth of the ring between a decode and an open: those from all queues to one open hold about as much as one queue's
    /// would, and each a burst or two.
    const fn decode_open(&self, queues: usize) -> usize {
        let share = (self.ingress / queues).next_power_of_two();
        if queues > 1 && share < 2 * BURST { 2 * BURST } else { share }
    }
}

/// Settings of a validator's data plane.
pub struct DataPlaneConfig {
    /// What is for this node.
    pub filter: FilterConfig,
    /// How transactions are checked and stamped.
    pub verify: VerifyConfig,
    /// The pool and the block buffers.
    pub order: OrderConfig,
    /// What each peer may send.
    pub rates: PeerRates,
    /// Most peers in the node's table.
    pub peers_max: usize,
    /// Links that exist at start; more come by [`LinkCommand::Link`].
    pub links: Vec<(PeerIndex, Role, PeerLink)>,
    /// Ring depths.
    pub depths: Depths,
    /// Lanes: stages from rx to verify, of which a port with fewer queues leaves rx to decode of the last ones out.
    pub lanes: usize,
    /// Maps the port's own clock to the time-stamp counter; without it the port's stamps are not used.
    pub port_clock: Option<PortClockPage>,
    /// Passes on what a host must answer; false where a kernel answers on this address.
    pub slow_path: bool,
}

/// The control plane's ends of everything.
pub struct ControlEnds<P: Port> {
    /// Messages from peers, checked for who may send them, not for what they say.
    pub frames: FanIn<ControlFrame<P::Buf>>,
    /// Transactions that are now in the pool.
    pub seen: Consumer<Seen>,
    /// Built blocks.
    pub built: Consumer<Box<BlockBuffer>>,
    /// Commands to the builder; has room for every buffer.
    pub builder: Producer<BuilderCommand>,
    /// Commands to order.
    pub order: Producer<OrderCommand>,
    /// Transactions that became final without passing this node's pool, to verify.
    pub finals: FanOut<FinalTx>,
    /// Messages to spread.
    pub spread: Producer<SpreadCommand>,
    /// The handshakes' ends.
    pub sessions: SessionEnds,
    /// Blocks to spread.
    pub blocks: Producer<SpreadBlockTask>,
    /// Blocks that spread is done with.
    pub returned: Consumer<Arc<SpreadBlock>>,
    /// Takes in transactions from the node's own RPC.
    pub injector: Injector<P::Pool>,
    /// Each stage's figures, in packet order.
    pub metrics: Vec<Arc<StageMetrics>>,
    /// What each peer's frames were refused for, by the stages that open and verify them.
    pub refused_by_peer: Vec<Arc<PeerMetrics>>,
    /// Depth of each ring.
    pub gauges: Vec<RingGauge>,
    /// The port's driver.
    pub port_kind: &'static str,
    /// What its device does by itself.
    pub offloads: Vec<&'static str>,
    /// What receive times it gives.
    pub rx_stamps: RxStamps,
    /// Sends frames whose departure is stamped.
    pub events: EventPort<P::Buf>,
    /// Frames that a host must answer, and its own; where [`DataPlaneConfig::slow_path`] asks for it.
    pub slow_path: Option<SlowPathEnds<P::Pool>>,
}

/// What handshakes hold of the data plane, beside the ring of the [`KeySource`].
pub struct SessionEnds {
    /// The ways to peers, to spread.
    pub links: Producer<LinkCommand>,
    /// Keys that are worn, from spread.
    pub worn: Consumer<Worn>,
    /// Addresses of known peers that change, to every filter.
    pub known: FanOut<KnownChange>,
}

/// A validator's data plane: the stages in packet order, to be put on threads as the profile says.
pub struct DataPlane<P: Port> {
    /// The stages by name.
    pub stages: Vec<(&'static str, Box<dyn Stage>)>,
    /// What the control plane holds.
    pub control: ControlEnds<P>,
}

/// Event frames that wait to be sent, and reports of their departure: a card stamps one at a time, so few are under way.
const EVENTS: usize = 16;

/// A ring's depth, for whoever shows it. Of a ring that each lane has there is one for each lane.
#[derive(Clone)]
pub struct RingGauge {
    /// The ring's name: the same in all lanes.
    pub name: &'static str,
    /// The lane, where there are several: that of the reader between decode and open, where lanes cross.
    pub lane: Option<u8>,
    /// What the lane has of the ring: one from each decode, where lanes cross.
    parts: Vec<Gauge>,
}

impl RingGauge {
    /// The gauge of a single ring.
    #[must_use]
    pub fn new(name: &'static str, lane: Option<u8>, gauge: Gauge) -> RingGauge {
        RingGauge { name, lane, parts: vec![gauge] }
    }

    /// The name, with the lane where there are several.
    #[must_use]
    pub fn label(&self) -> Cow<'static, str> {
        lane_label(self.name, self.lane)
    }

    /// Items in it, as [`Gauge::depth`].
    #[must_use]
    pub fn depth(&self) -> usize {
        self.parts.iter().map(Gauge::depth).sum()
    }

    /// Items that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.parts.iter().map(Gauge::capacity).sum()
    }
}

/// Makes rings and remembers their gauges.
struct Rings {
    lanes: usize,
    gauges: Vec<RingGauge>,
}

impl Rings {
    /// What a lane is called: nothing where there is but one.
    fn lane(&self, lane: usize) -> Option<u8> {
        (self.lanes > 1).then_some(lane as u8)
    }

    fn ring<T: Send>(&mut self, name: &'static str, depth: usize) -> (Producer<T>, Consumer<T>) {
        let (producer, consumer) = ring(depth);
        self.gauges.push(RingGauge::new(name, None, producer.depth_gauge()));
        (producer, consumer)
    }

    /// A ring of one lane.
    fn of_lane<T: Send>(
        &mut self,
        name: &'static str,
        lane: usize,
        depth: usize,
    ) -> (Producer<T>, Consumer<T>) {
        let (producer, consumer) = ring(depth);
        let (lane, gauge) = (self.lane(lane), producer.depth_gauge());
        match self.gauges.iter_mut().find(|known| (known.name, known.lane) == (name, lane)) {
            Some(known) => known.parts.push(gauge),
            None => self.gauges.push(RingGauge::new(name, lane, gauge)),
        }
        (producer, consumer)
    }
}

/// Settings that do not fit together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// The mempool's sizes.
    #[error("mempool: {0}")]
    Mempool(#[from] roko_ring::mempool::ConfigError),
    /// A ring's depth.
    #[error("ring depths must be powers of two, all of them: {0:?}")]
    Depth(Depths),
    /// No block buffer.
    #[error("block_buffers is {0}: use 2 to 64, one to build while another is voted on")]
    BlockBuffers(usize),
    /// A number of lanes that there cannot be.
    #[error("lanes is {0}: use 1 to {LANES_MAX}")]
    Lanes(usize),
    /// A port whose queues are more than the lanes.
    #[error("the port {kind} has {queues} receive queues for {lanes} lanes: open it with {lanes} at most")]
    Queues {
        /// The port's driver.
        kind: &'static str,
        /// Its receive queues.
        queues: usize,
        /// The lanes.
        lanes: usize,
    },
    /// Not a source of keys for each queue.
    #[error("{sources} sources of keys for {queues} receive queues: give one to each")]
    KeySources {
        /// The sources.
        sources: usize,
        /// The receive queues.
        queues: usize,
    },
    /// The room of a block.
    #[error(
        "a block of {} transactions and {} bytes is beyond what a body may hold",
        room.txs,
        room.body_bytes
    )]
    BlockRoom {
        /// The room asked for.
        room: BlockRoom,
    },
}

fn check<P: Port>(port: &P, config: &DataPlaneConfig, sources: usize) -> Result<(), AssemblyError> {
    let (lanes, queues, kind) = (config.lanes, port.rx_queues(), port.kind());
    if !(1..=LANES_MAX).contains(&lanes) {
        return Err(AssemblyError::Lanes(lanes));
    }
    if queues > lanes {
        return Err(AssemblyError::Queues { kind, queues, lanes });
    }
    if sources != queues {
        return Err(AssemblyError::KeySources { sources, queues });
    }
    let depths = &config.depths;
    let all = [
        depths.ingress,
        depths.to_verify,
        depths.to_control,
        depths.injected,
        depths.stamped,
        depths.seen,
        depths.order_commands,
        depths.spread_commands,
        depths.spread_blocks,
        depths.to_tx,
    ];
    if !all.iter().all(|depth| depth.is_power_of_two()) || depths.stamped < 16 {
        return Err(AssemblyError::Depth(*depths));
    }
    if !(2..=64).contains(&config.order.block_buffers) {
        return Err(AssemblyError::BlockBuffers(config.order.block_buffers));
    }
    let room = config.order.block_room;
    let most = (roko_wire::limits::BLOCK_TXS_MAX, roko_wire::limits::BLOCK_BYTES_MAX);
    if room.txs == 0 || room.txs > most.0 || room.body_bytes < 4096 || room.body_bytes > most.1 {
        return Err(AssemblyError::BlockRoom { room });
    }
    Ok(())
}

/// Wires a validator's stages over `port`. `keys` has a source for each of its receive queues; all are told the same.
///
/// # Errors
/// When settings do not fit together; says which.
pub fn assemble<P: Port>(
    port: P,
    config: DataPlaneConfig,
    keys: Vec<Box<dyn KeySource>>,
    clock: ClockPage,
) -> Result<DataPlane<P>, AssemblyError>
where
    P::Pool: Sync,
{
    check(&port, &config, keys.len())?;
    let (port_kind, stamps, offloads) = (port.kind(), port.rx_stamps(), port.offloads());
    let fills_checksums = port.fills_udp6_checksums();
    let (halves, port_tx, pool) = port.split_queues();
    let DataPlaneConfig {
        filter,
        verify,
        order,
        rates,
        peers_max,
        links,
        depths,
        lanes,
        port_clock,
        slow_path,
    } = config;
    let mut rings = Rings { lanes, gauges: Vec::new() };
    let slow_path = slow_path.then(|| (filter.ip, pool.clone()));
    let (taps, slow_path, slow_frames) = slow_path_rings(&mut rings, halves.len(), slow_path);
    let queues = halves.into_iter().zip(keys).zip(taps);
    let queues = queues.map(|((port, keys), tap)| Queue { port, keys, tap }).collect();
    let port_page = port_clock.clone();
    let parts = InwardParts { queues, stamps, port_clock: port_page, filter, rates, peers_max, lanes };
    let inward = Inward::new(&mut rings, &depths, parts, &clock);
    let middle =
        Middle::new(&mut rings, &depths, inward.to_verify, &pool, (&verify, order, peers_max), &clock)?;
    let outward = (peers_max, &clock, fills_checksums);
    let outward = Outward::new(&mut rings, &depths, middle.batches, &pool, outward, &links);
    let refused_by_peer = [inward.refused_by_peer, middle.refused_by_peer].concat();
    let mut stages = inward.stages;
    stages.extend(middle.stages);
    stages.push(outward.spread_stage);
    let ((frames_out, event_frames), (departed, departures)) =
        (rings.ring("control_tx", EVENTS), rings.ring("tx_control", EVENTS));
    let (events, event_duties) = event_ring((frames_out, departures), (event_frames, departed));
    let tx = Tx::new(port_tx, outward.by_class, event_duties, (clock, port_clock));
    stages.push(Box::new(tx.with_slow_path(slow_frames)));
    let control = ControlEnds {
        frames: inward.frames,
        seen: middle.seen,
        built: middle.built,
        builder: middle.builder,
        order: middle.order,
        finals: middle.finals,
        spread: outward.spread,
        sessions: SessionEnds { links: outward.links, worn: outward.worn, known: inward.known },
        blocks: outward.blocks,
        returned: outward.returned,
        injector: middle.injector,
        metrics: stages.iter().map(|stage| stage.metrics()).collect(),
        refused_by_peer,
        gauges: rings.gauges,
        port_kind,
        offloads,
        rx_stamps: stamps,
        events,
        slow_path,
    };
    Ok(DataPlane { stages: stages.into_iter().map(|stage| (stage.name(), stage)).collect(), control })
}

/// The filters', the control side's and tx's end of the slow path's rings, where there is one.
type SlowPathRings<P> = (
    Vec<Option<SlowPathTap<<P as FramePool>::Buf>>>,
    Option<SlowPathEnds<P>>,
    Option<Consumer<OutFrame<<P as FramePool>::Buf>>>,
);

/// A card may give what a host must answer to any queue, so each has a tap.
fn slow_path_rings<P: FramePool>(
    rings: &mut Rings,
    queues: usize,
    of: Option<(IpAddr, P)>,
) -> SlowPathRings<P> {
    let Some((own, pool)) = of else { return ((0..queues).map(|_| None).collect(), None, None) };
    let (mut taps, mut up) = (Vec::new(), Vec::new());
    for queue in 0..queues {
        let (up_out, up_in) = rings.of_lane("filter_slow_path", queue, SLOW_PATH_FRAMES);
        taps.push(Some(SlowPathTap::new(own, up_out)));
        up.push(up_in);
    }
    let (down, down_in) = rings.ring("slow_path_tx", SLOW_PATH_FRAMES);
    (taps, Some(SlowPathEnds { up: FanIn::new(up), down, pool }), Some(down_in))
}
