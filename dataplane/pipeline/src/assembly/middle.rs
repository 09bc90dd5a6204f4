//! Wires verify, one a lane, order and builder: from messages to blocks.

use super::{AssemblyError, Depths, Rings};
use crate::block_buffer::BlockBuffer;
use crate::builder::{Builder, BuilderCommand, BuilderLinks};
use crate::by_peer::PeerMetrics;
use crate::clock::ClockPage;
use crate::inject::Injector;
use crate::lanes::{FanIn, FanOut};
use crate::link::{FinalTx, MessageFrame, OwnBatch, Seen, StampedFrame};
use crate::order::{Order, OrderCommand, OrderConfig, OrderLinks};
use crate::poll::Stage;
use crate::port::FramePool;
use crate::verify::{Verify, VerifyConfig, VerifyLinks};
use roko_ring::spsc::{Consumer, Producer};
use std::sync::Arc;

/// See the module.
pub(super) struct Middle<P: FramePool> {
    pub(super) stages: Vec<Box<dyn Stage>>,
    pub(super) batches: FanIn<OwnBatch<P::Buf>>,
    pub(super) injector: Injector<P>,
    pub(super) finals: FanOut<FinalTx>,
    pub(super) seen: Consumer<Seen>,
    pub(super) order: Producer<OrderCommand>,
    pub(super) builder: Producer<BuilderCommand>,
    pub(super) built: Consumer<Box<BlockBuffer>>,
    pub(super) refused_by_peer: Vec<Arc<PeerMetrics>>,
}

/// The verify of every lane, and the ends of their rings.
struct Verifying<P: FramePool> {
    stages: Vec<Box<dyn Stage>>,
    to_order: FanIn<StampedFrame<P::Buf>>,
    batches: FanIn<OwnBatch<P::Buf>>,
    injector: Injector<P>,
    finals: FanOut<FinalTx>,
    refused_by_peer: Vec<Arc<PeerMetrics>>,
}

impl<P: FramePool> Verifying<P> {
    fn new(
        rings: &mut Rings,
        depths: &Depths,
        inputs: Vec<Consumer<MessageFrame<P::Buf>>>,
        pool: &P,
        (config, peers_max): (&VerifyConfig, usize),
        clock: &ClockPage,
    ) -> Verifying<P> {
        let (mut stages, mut refused_by_peer) = (Vec::<Box<dyn Stage>>::new(), Vec::new());
        let (mut inject, mut final_rings) = (Vec::new(), Vec::new());
        let (mut to_order, mut batches) = (Vec::new(), Vec::new());
        for (lane, input) in inputs.into_iter().enumerate() {
            let (inject_out, injected) = rings.of_lane("inject_verify", lane, depths.injected);
            let (finals_out, finals) = rings.of_lane("control_verify", lane, depths.order_commands);
            let (order_out, order_in) = rings.of_lane("verify_order", lane, depths.stamped);
            let (spread_out, spread_in) = rings.of_lane("verify_spread", lane, depths.stamped);
            let pool = pool.clone();
            let links =
                VerifyLinks { input, injected, finals, to_order: order_out, to_spread: spread_out, pool };
            let verify = Verify::new(config.clone(), peers_max, clock.clone(), links);
            let verify = verify.in_lane(rings.lane(lane));
            refused_by_peer.push(verify.refused_by_peer());
            stages.push(Box::new(verify));
            inject.push(inject_out);
            final_rings.push(finals_out);
            to_order.push(order_in);
            batches.push(spread_in);
        }
        Verifying {
            stages,
            to_order: FanIn::new(to_order),
            batches: FanIn::new(batches),
            injector: Injector::new(inject, pool.clone()),
            finals: FanOut::new(final_rings),
            refused_by_peer,
        }
    }
}

impl<P: FramePool> Middle<P> {
    pub(super) fn new(
        rings: &mut Rings,
        depths: &Depths,
        inputs: Vec<Consumer<MessageFrame<P::Buf>>>,
        pool: &P,
        (verify, order, peers_max): (&VerifyConfig, OrderConfig, usize),
        clock: &ClockPage,
    ) -> Result<Middle<P>, AssemblyError> {
        let buffers = order.block_buffers.next_power_of_two();
        let (block_room, ingress) = (order.block_room, order.ingress);
        let verifying = Verifying::new(rings, depths, inputs, pool, (verify, peers_max), clock);
        let Verifying { mut stages, to_order, batches, injector, finals, refused_by_peer } = verifying;
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
        let order_links = OrderLinks { input: to_order, commands, seen: seen_out, to_builder, free_buffers };
        let builder_links = BuilderLinks {
            input: builder_in,
            commands: builder_commands,
            built: built_out,
            free_buffers: free_out,
        };
        stages.push(Box::new(Order::new(order, clock.clone(), order_links)?));
        stages.push(Box::new(Builder::new(block_room, ingress, clock.clone(), builder_links)));
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
