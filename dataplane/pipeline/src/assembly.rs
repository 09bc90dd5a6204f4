//! Wires all stages of one validator: a row per stage, a row per ring, and what a full ring means.
//!
//! | ring | when it is full |
//! |---|---|
//! | rx to filter | rx drops and counts |
//! | filter to the slow path | filter drops and counts |
//! | slow path to tx | the slow path drops and counts |
//! | filter to decode, decode to open | backpressure |
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

use crate::block_buffer::{BlockBuffer, BlockRoom};
use crate::builder::{Builder, BuilderCommand, BuilderLinks};
use crate::by_peer::PeerMetrics;
use crate::clock::{ClockPage, PortClockPage};
use crate::decode::{ADMITTED_DEPTH, Decode};
use crate::event::{EventPort, event_ring};
use crate::filter::{Filter, FilterConfig};
use crate::inject::Injector;
use crate::keys::sessions_depth;
use crate::link::{ControlFrame, FinalTx, MessageFrame, OutFrame, OwnBatch, RxFrame, Seen};
use crate::metrics::StageMetrics;
use crate::open::{Open, OpenLinks, PeerRates};
use crate::order::{Order, OrderCommand, OrderConfig, OrderLinks};
use crate::peer::{KeySource, KnownChange, LinkCommand, PeerIndex, PeerLink, Role, Worn};
use crate::poll::Stage;
use crate::port::{FrameBuf, FramePool, Port, RxPort, RxStamps};
use crate::rx::Rx;
use crate::slow_path::{SLOW_PATH_FRAMES, SlowPathEnds, SlowPathTap};
use crate::spread::{OutLinks, Spread, SpreadBlock, SpreadBlockTask, SpreadCommand, SpreadLinks};
use crate::tx::Tx;
use crate::verify::{Verify, VerifyConfig, VerifyLinks};
use core::net::IpAddr;
use roko_ring::spsc::{Consumer, Gauge, Producer, ring};
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
    /// Frames that can be under way at once: what the port's pool must hold beside the driver's own rings.
    #[must_use]
    pub const fn frames_max(&self) -> usize {
        3 * self.ingress
            + self.to_verify
            + self.to_control
            + self.injected
            + 2 * self.stamped
            + 4 * self.to_tx
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
    /// Maps the port's own clock to the time-stamp counter; without it the port's stamps are not used.
    pub port_clock: Option<PortClockPage>,
    /// Passes on what a host must answer; false where a kernel answers on this address.
    pub slow_path: bool,
}

/// The control plane's ends of everything.
pub struct ControlEnds<P: Port> {
    /// Messages from peers, checked for who may send them, not for what they say.
    pub frames: Consumer<ControlFrame<P::Buf>>,
    /// Transactions that are now in the pool.
    pub seen: Consumer<Seen>,
    /// Built blocks.
    pub built: Consumer<Box<BlockBuffer>>,
    /// Commands to the builder; has room for every buffer.
    pub builder: Producer<BuilderCommand>,
    /// Commands to order.
    pub order: Producer<OrderCommand>,
    /// Transactions that became final without passing this node's pool, to verify.
    pub finals: Producer<FinalTx>,
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
    /// Depth of each ring by name.
    pub gauges: Vec<(&'static str, Gauge)>,
    /// The port's driver.
    pub port_kind: &'static str,
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
    /// Addresses of known peers that change, to filter.
    pub known: Producer<KnownChange>,
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

/// Makes a ring and remembers its gauge.
struct Rings {
    gauges: Vec<(&'static str, Gauge)>,
}

impl Rings {
    fn ring<T: Send>(&mut self, name: &'static str, depth: usize) -> (Producer<T>, Consumer<T>) {
        let (producer, consumer) = ring(depth);
        self.gauges.push((name, producer.depth_gauge()));
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

fn check(config: &DataPlaneConfig) -> Result<(), AssemblyError> {
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

/// Wires a validator's stages over `port`.
///
/// # Errors
/// When settings do not fit together; says which.
pub fn assemble<P: Port>(
    port: P,
    config: DataPlaneConfig,
    keys: Box<dyn KeySource>,
    clock: ClockPage,
) -> Result<DataPlane<P>, AssemblyError>
where
    P::Pool: Sync,
{
    check(&config)?;
    let (port_kind, rx_stamps) = (port.kind(), port.rx_stamps());
    let (port_rx, port_tx, pool) = port.split();
    let DataPlaneConfig { filter, verify, order, rates, peers_max, links, depths, port_clock, slow_path } =
        config;
    let mut rings = Rings { gauges: Vec::new() };
    let (tap, slow_path, slow_frames) =
        slow_path_rings(&mut rings, slow_path.then(|| (filter.ip, pool.clone())));

    let port_page = port_clock.clone();
    let rx = |out| Rx::new((port_rx, rx_stamps), clock.clone(), port_page, out);
    let (known, moved) = rings.ring("handshake_filter", sessions_depth(peers_max));
    let inward = Inward::new(&mut rings, &depths, rx, (filter, moved, tap), (peers_max, rates, &clock), keys);
    let middle =
        Middle::new(&mut rings, &depths, inward.to_verify, &pool, (verify, order, peers_max), &clock)?;
    let outward = Outward::new(&mut rings, &depths, middle.batches, &pool, (peers_max, &clock), &links);
    let refused_by_peer = vec![inward.refused_by_peer, middle.refused_by_peer];
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    stages.extend(inward.stages);
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
        sessions: SessionEnds { links: outward.links, worn: outward.worn, known },
        blocks: outward.blocks,
        returned: outward.returned,
        injector: middle.injector,
        metrics: stages.iter().map(|stage| stage.metrics()).collect(),
        refused_by_peer,
        gauges: rings.gauges,
        port_kind,
        rx_stamps,
        events,
        slow_path,
    };
    Ok(DataPlane { stages: stages.into_iter().map(|stage| (stage.name(), stage)).collect(), control })
}

/// The filter's, the control side's and tx's end of the slow path's rings, where there is one.
type SlowPathRings<P> = (
    Option<SlowPathTap<<P as FramePool>::Buf>>,
    Option<SlowPathEnds<P>>,
    Option<Consumer<OutFrame<<P as FramePool>::Buf>>>,
);

fn slow_path_rings<P: FramePool>(rings: &mut Rings, of: Option<(IpAddr, P)>) -> SlowPathRings<P> {
    let Some((own, pool)) = of else { return (None, None, None) };
    let (up_out, up) = rings.ring("filter_slow_path", SLOW_PATH_FRAMES);
    let (down, down_in) = rings.ring("slow_path_tx", SLOW_PATH_FRAMES);
    (Some(SlowPathTap::new(own, up_out)), Some(SlowPathEnds { up, down, pool }), Some(down_in))
}

/// rx to open: from the port to messages.
struct Inward<B> {
    stages: [Box<dyn Stage>; 4],
    to_verify: Consumer<MessageFrame<B>>,
    frames: Consumer<ControlFrame<B>>,
    refused_by_peer: Arc<PeerMetrics>,
}

impl<B: FrameBuf> Inward<B> {
    fn new<R: RxPort<Buf = B>>(
        rings: &mut Rings,
        depths: &Depths,
        rx: impl FnOnce(Producer<RxFrame<B>>) -> Rx<R>,
        (filter, moved, tap): (FilterConfig, Consumer<KnownChange>, Option<SlowPathTap<B>>),
        (peers_max, rates, clock): (usize, PeerRates, &ClockPage),
        keys: Box<dyn KeySource>,
    ) -> Inward<B> {
        let (rx_out, filter_in) = rings.ring("rx_filter", depths.ingress);
        let (filter_out, decode_in) = rings.ring("filter_decode", depths.ingress);
        let (decode_out, open_in) = rings.ring("decode_open", depths.ingress);
        let (established_out, established_in) = rings.ring("open_decode", 256);
        let (retired_out, retired_in) = rings.ring("decode_open_retired", sessions_depth(peers_max));
        let (admitted_out, admitted_in) = rings.ring("decode_open_admitted", ADMITTED_DEPTH);
        let (open_to_verify, to_verify) = rings.ring("open_verify", depths.to_verify);
        let (open_to_control, frames) = rings.ring("open_control", depths.to_control);
        let links = OpenLinks {
            input: open_in,
            to_verify: open_to_verify,
            to_control: open_to_control,
            established: established_out,
            retired: retired_in,
            admitted: admitted_in,
        };
        let open = Open::new(peers_max, clock.clone(), rates, links);
        let refused_by_peer = open.refused_by_peer();
        let stages: [Box<dyn Stage>; 4] = [
            Box::new(rx(rx_out)),
            Box::new(Filter::new(filter, clock.clone(), moved, filter_in, filter_out).with_slow_path(tap)),
            Box::new(Decode::new(
                peers_max,
                keys,
                clock.clone(),
                decode_in,
                (established_in, retired_out, admitted_out),
                decode_out,
            )),
            Box::new(open),
        ];
        Inward { stages, to_verify, frames, refused_by_peer }
    }
}

/// verify to builder: from messages to blocks.
struct Middle<P: FramePool> {
    stages: [Box<dyn Stage>; 3],
    batches: Consumer<OwnBatch<P::Buf>>,
    injector: Injector<P>,
    finals: Producer<FinalTx>,
    seen: Consumer<Seen>,
    order: Producer<OrderCommand>,
    builder: Producer<BuilderCommand>,
    built: Consumer<Box<BlockBuffer>>,
    refused_by_peer: Arc<PeerMetrics>,
}

impl<P: FramePool> Middle<P> {
    fn new(
        rings: &mut Rings,
        depths: &Depths,
        input: Consumer<MessageFrame<P::Buf>>,
        pool: &P,
        (verify, order, peers_max): (VerifyConfig, OrderConfig, usize),
        clock: &ClockPage,
    ) -> Result<Middle<P>, AssemblyError> {
        let buffers = order.block_buffers.next_power_of_two();
        let (block_room, ingress) = (order.block_room, order.ingress);
        let (inject_out, injected) = rings.ring("inject_verify", depths.injected);
        let (finals, finals_in) = rings.ring("control_verify", depths.order_commands);
        let (to_order, order_in) = rings.ring("verify_order", depths.stamped);
        let (to_spread, batches) = rings.ring("verify_spread", depths.stamped);
        let (seen_out, seen) = rings.ring("order_control", depths.seen);
        let (order_out, commands) = rings.ring("control_order", depths.order_commands);
        let (to_builder, builder_in) = rings.ring("order_builder", buffers);
        let (mut free_out, free_buffers) = rings.ring("builder_order", buffers);
        let (built_out, built) = rings.ring("builder_control", buffers);
        let (builder, builder_commands) = rings.ring("control_builder", buffers);
        for _ in 0..order.block_buffers {
            let given = free_out.push(BlockBuffer::new(block_room));
            debug_assert!(given.is_ok(), "the ring holds every buffer");
        }
        let verify_links =
            VerifyLinks { input, injected, finals: finals_in, to_order, to_spread, pool: pool.clone() };
        let order_links = OrderLinks { input: order_in, commands, seen: seen_out, to_builder, free_buffers };
        let builder_links = BuilderLinks {
            input: builder_in,
            commands: builder_commands,
            built: built_out,
            free_buffers: free_out,
        };
        let verify = Verify::new(verify, peers_max, clock.clone(), verify_links);
        let refused_by_peer = verify.refused_by_peer();
        let stages: [Box<dyn Stage>; 3] = [
            Box::new(verify),
            Box::new(Order::new(order, clock.clone(), order_links)?),
            Box::new(Builder::new(block_room, ingress, clock.clone(), builder_links)),
        ];
        let injector = Injector::new(inject_out, pool.clone());
        Ok(Middle {
            stages,
            batches,
            injector,
            finals,
            seen,
            order: order_out,
            builder,
            built,
            refused_by_peer,
        })
    }
}

/// spread: from messages and blocks to sealed frames.
struct Outward<B> {
    spread_stage: Box<dyn Stage>,
    by_class: [Consumer<OutFrame<B>>; 4],
    spread: Producer<SpreadCommand>,
    links: Producer<LinkCommand>,
    worn: Consumer<Worn>,
    blocks: Producer<SpreadBlockTask>,
    returned: Consumer<Arc<SpreadBlock>>,
}

impl<B: FrameBuf> Outward<B> {
    fn new<P: FramePool<Buf = B>>(
        rings: &mut Rings,
        depths: &Depths,
        batches: Consumer<OwnBatch<B>>,
        pool: &P,
        (peers_max, clock): (usize, &ClockPage),
        peers: &[(PeerIndex, Role, PeerLink)],
    ) -> Outward<B> {
        let (spread, commands) = rings.ring("control_spread", depths.spread_commands);
        let (session_links, sessions) = rings.ring("handshake_spread", sessions_depth(peers_max));
        let (worn_out, worn) = rings.ring("spread_handshake", sessions_depth(peers_max));
        let (blocks, block_tasks) = rings.ring("control_spread_blocks", depths.spread_blocks);
        let (returned_out, returned) = rings.ring("spread_control", depths.spread_blocks);
        let (tx_consensus, from_consensus) = rings.ring("spread_tx_consensus", depths.to_tx);
        let (tx_block, from_block) = rings.ring("spread_tx_block", depths.to_tx);
        let (tx_relay, from_relay) = rings.ring("spread_tx_relay", depths.to_tx);
        let (tx_client, from_client) = rings.ring("spread_tx_client", depths.to_tx);
        let links = SpreadLinks {
            commands,
            sessions,
            worn: worn_out,
            blocks: block_tasks,
            returned: returned_out,
            batches,
            out: OutLinks { by_class: [tx_consensus, tx_block, tx_relay, tx_client] },
            pool: pool.clone(),
        };
        let mut stage = Spread::new(peers_max, clock, links);
        for (peer, role, link) in peers {
            stage.link(*peer, *role, link);
        }
        let by_class = [from_consensus, from_block, from_relay, from_client];
        Outward {
            spread_stage: Box::new(stage),
            by_class,
            spread,
            links: session_links,
            worn,
            blocks,
            returned,
        }
    }
}
