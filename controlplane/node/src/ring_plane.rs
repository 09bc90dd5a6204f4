//! The replica's [`Plane`] over the rings of a pipeline. What a full ring does not take is kept here and offered again,
//! so that nothing the replica asks is lost; how much is kept is counted.

use crate::replica::plane::{Plane, PoolCommand, Target};
use arrayvec::ArrayVec;
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::builder::BuilderCommand;
use roko_pipeline::lanes::FanOut;
use roko_pipeline::link::FinalTx;
use roko_pipeline::order::OrderCommand;
use roko_pipeline::peer::PeerIndex;
use roko_pipeline::spread::{self, SpreadBlock, SpreadBlockTask, SpreadCommand};
use roko_ring::mempool::{Limits, Span};
use roko_ring::spsc::{Consumer, Producer};
use roko_time::NodeClock;
use roko_wire::NanoMoment;
use roko_wire::frame::PriorityClass;
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages kept when the ring to spread stays full; past it the oldest goes, and the machine's resends mend it.
const MESSAGES_KEPT_MAX: usize = 8_192;

/// Ends of the rings that lead from control into the data plane.
pub struct PlaneRings {
    /// To order.
    pub order: Producer<OrderCommand>,
    /// To every verify.
    pub finals: FanOut<FinalTx>,
    /// Messages to spread.
    pub spread: Producer<SpreadCommand>,
    /// Blocks to spread.
    pub blocks: Producer<SpreadBlockTask>,
    /// Blocks that spread is done with.
    pub returned: Consumer<Arc<SpreadBlock>>,
    /// Buffers to the builder.
    pub builder: Producer<BuilderCommand>,
}

/// See the module.
pub struct RingPlane {
    rings: PlaneRings,
    limits: Limits,
    clock: NodeClock,
    now: NanoMoment,
    orders: VecDeque<OrderCommand>,
    messages: VecDeque<SpreadCommand>,
    blocks: VecDeque<SpreadBlockTask>,
    builder: VecDeque<BuilderCommand>,
    dropped: u64,
}

impl RingPlane {
    /// A plane over `rings`; a drain takes at most `limits`. What is sent says when it was asked for, by `clock`.
    #[must_use]
    pub fn new(rings: PlaneRings, limits: Limits, clock: NodeClock) -> RingPlane {
        RingPlane {
            rings,
            limits,
            clock,
            now: NanoMoment::ZERO,
            orders: VecDeque::new(),
            messages: VecDeque::new(),
            blocks: VecDeque::new(),
            builder: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Messages given up because spread stayed full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn target(to: Target) -> spread::Target {
        match to {
            Target::Validators => spread::Target::Validators,
            // Validators come first in the membership, in genesis' order: index and slot are the same.
            Target::One(index) => spread::Target::Peer(PeerIndex(index.0)),
        }
    }
}

fn push_all<T: Send>(waiting: &mut VecDeque<T>, ring: &mut Producer<T>) {
    while let Some(item) = waiting.pop_front() {
        if let Err(refused) = ring.push(item) {
            waiting.push_front(refused);
            return;
        }
    }
}

impl Plane for RingPlane {
    fn pump(&mut self, now: NanoMoment) {
        self.now = now;
        push_all(&mut self.orders, &mut self.rings.order);
        push_all(&mut self.messages, &mut self.rings.spread);
        push_all(&mut self.blocks, &mut self.rings.blocks);
        push_all(&mut self.builder, &mut self.rings.builder);
        // Dropped here, so that the data plane frees no memory.
        while self.rings.returned.pop().is_some() {}
    }

    fn send(&mut self, to: Target, class: PriorityClass, message: &[u8]) {
        let Ok(message) = ArrayVec::try_from(message) else {
            // A message of our own that fits no frame is a fault of a limit; it is counted and not sent.
            self.dropped += 1;
            return;
        };
        let asked = self.clock.now().now;
        self.messages.push_back(SpreadCommand::Send { to: Self::target(to), class, message, asked });
        push_all(&mut self.messages, &mut self.rings.spread);
        if self.messages.len() > MESSAGES_KEPT_MAX {
            self.messages.pop_front();
            self.dropped += 1;
        }
    }

    fn spread(&mut self, block: Arc<SpreadBlock>, to: Target) {
        let chunks = 0..block.chunk_count() as u32;
        self.blocks.push_back(SpreadBlockTask { block, to: Self::target(to), chunks });
        push_all(&mut self.blocks, &mut self.rings.blocks);
    }

    fn pool(&mut self, command: PoolCommand) {
        let now = self.now;
        if let PoolCommand::FinalizeId { id, .. } = command {
            // A full ring costs verify a signature check, no more.
            self.rings.finals.push_where_room(&FinalTx { id, now });
        }
        self.orders.push_back(match command {
            PoolCommand::Drain(drain) => OrderCommand::Drain {
                tag: drain.tag,
                span: Span { from: drain.from, watermark: drain.watermark, after: drain.after },
                limits: self.limits,
            },
            PoolCommand::MarkInFlight { tag, id } => OrderCommand::MarkInFlight { tag, id },
            PoolCommand::PutBack { tag } => OrderCommand::PutBack { tag },
            PoolCommand::Finalize { tag } => OrderCommand::Finalize { tag, now },
            PoolCommand::FinalizeId { id, valid_until } => OrderCommand::FinalizeId { id, valid_until, now },
            PoolCommand::Return { id } => OrderCommand::Return { id },
            PoolCommand::Remove { id } => OrderCommand::Remove { id },
            PoolCommand::Watermark(watermark) => OrderCommand::Watermark { watermark },
        });
        push_all(&mut self.orders, &mut self.rings.order);
    }

    fn rebuild(&mut self, buffer: Box<BlockBuffer>) {
        self.builder.push_back(BuilderCommand::Rebuild(buffer));
        push_all(&mut self.builder, &mut self.rings.builder);
    }

    fn release(&mut self, buffer: Box<BlockBuffer>) {
        self.builder.push_back(BuilderCommand::Release(buffer));
        push_all(&mut self.builder, &mut self.rings.builder);
    }
}
