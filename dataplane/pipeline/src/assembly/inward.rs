//! Wires rx to open: from the port to messages. A chain for each queue of the port, an open for each lane, and between
//! every decode and every open rings of their own.

use super::{Depths, Rings};
use crate::by_peer::PeerMetrics;
use crate::clock::{ClockPage, PortClockPage};
use crate::decode::{ADMITTED_DEPTH, Decode, DecodeLanes, ToOpen};
use crate::filter::{Filter, FilterConfig};
use crate::keys::sessions_depth;
use crate::lanes::{FanIn, FanOut, Owners};
use crate::link::{ControlFrame, MessageFrame};
use crate::open::{FromDecode, Open, OpenLinks, PeerRates};
use crate::peer::{KeySource, KnownChange};
use crate::poll::Stage;
use crate::port::{FrameBuf, RxPort, RxStamps};
use crate::rx::Rx;
use crate::slow_path::SlowPathTap;
use roko_ring::spsc::Consumer;
use std::sync::Arc;

/// Reports of verified keys from one open to one decode.
const ESTABLISHED: usize = 256;

/// One queue of the port.
pub(super) struct Queue<R: RxPort> {
    /// Its receiving half.
    pub(super) port: R,
    /// Where its frames' keys are known.
    pub(super) keys: Box<dyn KeySource>,
    /// The slow path's end, where there is one.
    pub(super) tap: Option<SlowPathTap<R::Buf>>,
}

/// What the stages are made of.
pub(super) struct InwardParts<R: RxPort> {
    pub(super) queues: Vec<Queue<R>>,
    pub(super) stamps: RxStamps,
    pub(super) port_clock: Option<PortClockPage>,
    pub(super) filter: FilterConfig,
    pub(super) rates: PeerRates,
    pub(super) peers_max: usize,
    pub(super) lanes: usize,
}

/// See the module.
pub(super) struct Inward<B> {
    pub(super) stages: Vec<Box<dyn Stage>>,
    pub(super) to_verify: Vec<Consumer<MessageFrame<B>>>,
    pub(super) frames: FanIn<ControlFrame<B>>,
    pub(super) known: FanOut<KnownChange>,
    pub(super) refused_by_peer: Vec<Arc<PeerMetrics>>,
}

/// The ends of the rings between decodes and opens: those of each decode, and those of each open.
type Mesh<B> = (Vec<Vec<ToOpen<B>>>, Vec<Vec<FromDecode<B>>>);

fn mesh<B: FrameBuf>(
    rings: &mut Rings,
    depths: &Depths,
    peers_max: usize,
    queues: usize,
    lanes: usize,
) -> Mesh<B> {
    let mut to: Vec<Vec<ToOpen<B>>> = (0..queues).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<FromDecode<B>>> = (0..lanes).map(|_| Vec::new()).collect();
    for (lane, from) in from.iter_mut().enumerate() {
        for to in &mut to {
            let (retired_out, retired) =
                rings.of_lane("decode_open_retired", lane, sessions_depth(peers_max));
            let (admitted_out, admitted) = rings.of_lane("decode_open_admitted", lane, ADMITTED_DEPTH);
            let (frames_out, frames) = rings.of_lane("decode_open", lane, depths.decode_open(queues));
            let (established_out, established) = rings.of_lane("open_decode", lane, ESTABLISHED);
            to.push(ToOpen { frames: frames_out, admitted: admitted_out, retired: retired_out, established });
            from.push(FromDecode { frames, admitted, retired, established: established_out });
        }
    }
    (to, from)
}

impl<B: FrameBuf> Inward<B> {
    pub(super) fn new<R: RxPort<Buf = B>>(
        rings: &mut Rings,
        depths: &Depths,
        parts: InwardParts<R>,
        clock: &ClockPage,
    ) -> Inward<B> {
        let InwardParts { queues, stamps, port_clock, filter, rates, peers_max, lanes } = parts;
        let filter = filter.for_each_of(queues.len());
        let (mut rxs, mut filters, mut decodes) = (Vec::<Box<dyn Stage>>::new(), Vec::new(), Vec::new());
        let (mut known, owners) = (Vec::new(), Owners::new(lanes));
        let mut chains = Vec::new();
        for (queue, Queue { port, keys, tap }) in queues.into_iter().enumerate() {
            let (known_out, moved) = rings.of_lane("handshake_filter", queue, sessions_depth(peers_max));
            let (rx_out, filter_in) = rings.of_lane("rx_filter", queue, depths.ingress);
            let (filter_out, decode_in) = rings.of_lane("filter_decode", queue, depths.ingress);
            let lane = rings.lane(queue);
            let rx = Rx::new((port, stamps), clock.clone(), port_clock.clone(), rx_out);
            rxs.push(Box::new(rx.in_lane(lane)));
            let filter = Filter::new(filter.clone(), clock.clone(), moved, filter_in, filter_out);
            filters.push(Box::new(filter.with_slow_path(tap).in_lane(lane)) as Box<dyn Stage>);
            known.push(known_out);
            chains.push((keys, decode_in));
        }
        let (to, from) = mesh(rings, depths, peers_max, chains.len(), lanes);
        for (own, ((keys, input), to)) in chains.into_iter().zip(to).enumerate() {
            let lanes = DecodeLanes { own, owners, to };
            let decode = Decode::new(peers_max, keys, clock.clone(), input, lanes);
            decodes.push(Box::new(decode.in_lane(rings.lane(own))) as Box<dyn Stage>);
        }
        let mut stages = rxs;
        stages.extend(filters.into_iter().chain(decodes));
        let (mut to_verify, mut frames, mut refused_by_peer) = (Vec::new(), Vec::new(), Vec::new());
        for (lane, from) in from.into_iter().enumerate() {
            let (verify_out, verify_in) = rings.of_lane("open_verify", lane, depths.to_verify);
            let (control_out, control_in) = rings.of_lane("open_control", lane, depths.to_control);
            let links = OpenLinks { from, to_verify: verify_out, to_control: control_out };
            let open = Open::new(peers_max, clock.clone(), rates, links).in_lane(rings.lane(lane));
            refused_by_peer.push(open.refused_by_peer());
            stages.push(Box::new(open));
            to_verify.push(verify_in);
            frames.push(control_in);
        }
        Inward { stages, to_verify, frames: FanIn::new(frames), known: FanOut::new(known), refused_by_peer }
    }
}
