//! Wires spread: from messages, batches and blocks to sealed frames.

use super::{Depths, Rings};
use crate::clock::ClockPage;
use crate::keys::sessions_depth;
use crate::lanes::FanIn;
use crate::link::{OutFrame, OwnBatch};
use crate::peer::{LinkCommand, PeerIndex, PeerLink, Role, Worn};
use crate::poll::Stage;
use crate::port::{FrameBuf, FramePool};
use crate::spread::{OutLinks, Spread, SpreadBlock, SpreadBlockTask, SpreadCommand, SpreadLinks};
use roko_ring::spsc::{Consumer, Producer};
use std::sync::Arc;

/// spread: from messages and blocks to sealed frames.
pub(super) struct Outward<B> {
    pub(super) spread_stage: Box<dyn Stage>,
    pub(super) by_class: [Consumer<OutFrame<B>>; 4],
    pub(super) spread: Producer<SpreadCommand>,
    pub(super) links: Producer<LinkCommand>,
    pub(super) worn: Consumer<Worn>,
    pub(super) blocks: Producer<SpreadBlockTask>,
    pub(super) returned: Consumer<Arc<SpreadBlock>>,
}

impl<B: FrameBuf> Outward<B> {
    pub(super) fn new<P: FramePool<Buf = B>>(
        rings: &mut Rings,
        depths: &Depths,
        batches: FanIn<OwnBatch<B>>,
        pool: &P,
        (peers_max, clock, port_fills_checksums): (usize, &ClockPage, bool),
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
        let mut stage = Spread::new(peers_max, clock, links).leaving_checksums_to_port(port_fills_checksums);
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
