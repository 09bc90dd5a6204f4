//! Proposing: a drain of the mempool becomes a block on the parent that consensus names.

use super::Replica;
use super::blocks::{Block, BlockTimes, BodyState, Outcome};
use super::messages::summary_of;
use super::plane::{DrainRequest, Plane, PoolCommand, Target};
use super::validate::{TreeView, execute};
use roko_consensus::{Event, ProposalRequest, Verdict, VerifiedCertificate, justification_hash};
use roko_execution::selection::{BlockFrame, Exclusion, Selection};
use roko_execution::{Candidate, SenderRefusal, StampStanding, select};
use roko_pipeline::block_buffer::BlockBuffer;
use roko_pipeline::spread::SpreadBlock;
use roko_ring::mempool::Ended;
use roko_wire::block::{BodyView, Header};
use roko_wire::chunk::sign_proposal;
use roko_wire::nano::ClockState;
use roko_wire::order::Ordered;
use roko_wire::stamp::Stamp;
use roko_wire::tx::parse;
use roko_wire::{BlockId, Hash32, NanoMoment, TxId};
use std::sync::Arc;

/// Bytes of an empty body's archive, at most: four empty arrays' headers.
const BODY_BYTES_EMPTY: usize = 64;

/// What a body holds of a transaction beside its wire bytes, at most: its record, its path, its own batch.
const BODY_BYTES_PER_TX: usize = 64 + 32 * roko_wire::limits::STAMP_DEPTH_MAX + 128;

/// After so many skipped views a proposer uses its own stamps only. Validators see transactions come at different times
/// and may differ on which stamps are implausible; then they can refuse one proposal after the other, and the same
/// transactions with the same stamps would come up again.
const WARY_AFTER_SKIPS: u64 = 2;

/// A block that the data plane is building.
#[derive(Debug)]
pub(super) struct Building {
    request: ProposalRequest,
    tag: u64,
    watermark: NanoMoment,
    time: NanoMoment,
    rebuilt: bool,
    /// Stamps of other validators are stamped anew: see [`WARY_AFTER_SKIPS`].
    wary: bool,
}

impl<P: Plane> Replica<P> {
    /// Has the mempool drained for a proposal. A node whose clock is not fit to attest time proposes nothing.
    pub(super) fn start_building(&mut self, request: ProposalRequest) {
        if self.disk_full || self.abstains() || self.clock.state == ClockState::Degraded {
            self.observer.counters.abstained.add(1);
            return;
        }
        let Some(parent) = self.blocks.outcome(&request.parent) else { return };
        self.cancel_building();
        let now = self.now();
        let time = now.max(request.parent_time.saturating_add(1));
        let watermark = now.saturating_sub(self.chain.watermark_lag_ns).max(parent.watermark);
        let tag = self.blocks.fresh_tag();
        let drain = DrainRequest { tag, from: parent.watermark, watermark, after: parent.last_moment };
        self.plane.pool(PoolCommand::Drain(drain));
        let wary = self.skipped_between(&request.parent, request.view) >= WARY_AFTER_SKIPS;
        self.building = Some(Building { request, tag, watermark, time, rebuilt: false, wary });
    }

    /// Gives back what a build that never became a block has drained.
    fn cancel_building(&mut self) {
        if let Some(building) = self.building.take() {
            self.plane.pool(PoolCommand::PutBack { tag: building.tag });
        }
    }

    /// Takes a block that the data plane has built.
    pub fn on_built(&mut self, mut buffer: Box<BlockBuffer>) {
        let Some(mut building) = self.building.take_if(|building| building.tag == buffer.tag()) else {
            self.plane.release(buffer);
            return;
        };
        let Some(parent) = self.blocks.outcome(&building.request.parent) else {
            self.plane.pool(PoolCommand::PutBack { tag: building.tag });
            self.plane.release(buffer);
            return;
        };
        if !building.rebuilt {
            let selection = self.select(&building, &buffer, &parent);
            if !selection.excluded.is_empty() {
                selection.excluded.iter().for_each(|(place, _)| buffer.exclude(*place));
                self.let_go(&buffer, &selection);
                self.plane.rebuild(buffer);
                building.rebuilt = true;
                self.building = Some(building);
                return;
            }
        }
        self.propose(building, &buffer, &parent);
        self.plane.release(buffer);
    }

    fn select(&self, building: &Building, buffer: &BlockBuffer, parent: &Outcome) -> Selection {
        let frame = BlockFrame {
            rules: &self.chain.rules,
            state: &TreeView(&parent.tree),
            from: parent.watermark,
            watermark: building.watermark,
            last_moment: parent.last_moment,
            base_fee: parent.next_base_fee,
            body_bytes_empty: BODY_BYTES_EMPTY,
            implausible_permille_max: match building.wary {
                true => 0,
                false => self.chain.genesis.limits.implausible_stamps_permille_max / 2,
            },
        };
        let candidates: Vec<Candidate> = (0..buffer.candidates().len())
            .filter_map(|place| self.candidate(buffer, place, building.wary))
            .collect();
        select(&frame, &candidates)
    }

    /// A drained candidate as the selection sees it; every one was parsed before it got into the pool.
    fn candidate(&self, buffer: &BlockBuffer, place: usize, wary: bool) -> Option<Candidate> {
        let drained = &buffer.candidates()[place];
        let wire = buffer.wire(place);
        let terms = parse(wire).ok()?.terms();
        let order = Ordered {
            id: drained.id,
            sender: drained.sender,
            nonce: drained.nonce,
            time: drained.time,
            tie_break: drained.tie_break,
            moment: drained.time,
        };
        let stamp = self.standing(&drained.id, &drained.proof.stamp, wary);
        Some(Candidate::new(order, &terms, &self.chain.rules, wire.len() + BODY_BYTES_PER_TX, stamp))
    }

    fn standing(&self, id: &TxId, stamp: &Stamp, wary: bool) -> StampStanding {
        if wary && self.own.as_ref().is_some_and(|own| own.index != stamp.ingress) {
            return StampStanding::Implausible;
        }
        match self.seen.get(id).filter(|seen| seen.stamp == *stamp) {
            None => StampStanding::Unknown,
            Some(seen) if self.plausible_window().allows(stamp, seen.received) => StampStanding::Plausible,
            Some(_) => StampStanding::Implausible,
        }
    }

    /// What is left out is no longer in flight: what can never get into a block leaves the pool, the rest waits there.
    fn let_go(&mut self, buffer: &BlockBuffer, selection: &Selection) {
        let mut gone = vec![false; buffer.candidates().len()];
        for (place, exclusion) in &selection.excluded {
            let counters = &self.observer.counters;
            let (never, counter) = match exclusion {
                Exclusion::Sender(SenderRefusal::StaleNonce { .. }) => (true, &counters.stale_nonce),
                Exclusion::Sender(SenderRefusal::NonceGap { .. }) => (false, &counters.nonce_gap),
                Exclusion::Sender(_) => (true, &counters.over_balance),
                Exclusion::Duplicate => (false, &counters.duplicate),
                Exclusion::ImplausibleStamp => (false, &counters.stamps_put_off),
                Exclusion::FeeBelowBase { .. } => (false, &counters.fee_below_base),
                Exclusion::MomentExpired { .. } => (true, &counters.expired),
                Exclusion::BlockFull
                | Exclusion::BeforeSpan
                | Exclusion::NoMoment
                | Exclusion::OutOfOrder => (false, &counters.postponed),
            };
            counter.add(1);
            gone[*place] = never;
        }
        for (place, candidate) in buffer.candidates().iter().enumerate() {
            let id = candidate.id;
            if gone[place] {
                self.plane.pool(PoolCommand::Remove { id });
            } else if buffer.is_excluded(place) {
                self.plane.pool(PoolCommand::Return { id });
            }
        }
    }

    fn propose(&mut self, building: Building, buffer: &BlockBuffer, parent: &Outcome) {
        let Building { request, tag, watermark, time, .. } = building;
        let Some(own) = &self.own else { return };
        // A drain that ended early leaves the rest for the next block, with its stamps still in the span.
        let report = buffer.report();
        let ended_early = report.ended != Ended::Watermark && report.reached > buffer.last_moment();
        let watermark = if ended_early { watermark.min(report.reached) } else { watermark };
        let header = Header {
            chain_id: self.chain.domain.chain_id,
            epoch: self.chain.domain.epoch,
            view: request.view,
            height: request.parent_height.next(),
            parent: request.parent,
            justification_hash: justification_hash(&request.certificates),
            proposer: own.index,
            time,
            watermark,
            tx_root: buffer.tx_root(),
            chunk_root: buffer.chunks().root(),
            body_bytes: buffer.body().len() as u32,
            tx_count: buffer.included().len() as u32,
            parent_state_root: parent.tree.root(),
            parent_receipts_root: parent.receipts_root,
            gas_limit: self.chain.rules.gas_limit,
            base_fee: parent.next_base_fee,
            next_set_root: None::<Hash32>,
        };
        let id = header.id();
        let signature = sign_proposal(&own.node_key, self.chain.domain, header.view, &id);
        let (bytes, chunks) = (buffer.body().to_vec(), buffer.chunks().clone());
        let body = Arc::new(SpreadBlock::new(id, header.view, signature, bytes, chunks));
        let now = self.now();
        let block = Block {
            header: header.clone(),
            signature,
            certificates: request.certificates,
            body: BodyState::Whole(Arc::clone(&body)),
            verdict_wanted: true,
            verdict: Some(Verdict::Valid),
            outcome: None,
            tag,
            journaled: false,
            times: BlockTimes { header: Some(time), valid: Some(now), vote_durable: None },
        };
        if !self.blocks.insert(id, block) {
            self.plane.pool(PoolCommand::PutBack { tag });
            return;
        }
        // The journal syncs while the block is checked and executed.
        self.journal_proposal(header.view, id);
        let checked = BodyView::access(body.body()).map_err(|error| error.to_string()).and_then(|view| {
            self.check(&header, &view, body.body().len(), parent).map_err(|e| e.to_string())
        });
        match checked {
            Ok(checked) => {
                let outcome = execute(&self.chain, id, &header, checked, parent);
                if let Some(block) = self.blocks.get_mut(&id) {
                    block.outcome = Some(Arc::new(outcome));
                }
            }
            Err(error) => {
                // Our own selection and the rules disagree: better no block than one that all others refuse. Without
                // the block nothing is sent when the journal is done.
                self.observer.note_own_invalid(&error);
                self.abandon(&id);
            }
        }
    }

    /// The own proposal is on disk: it goes out, and the machine votes on it.
    pub(super) fn send_proposal(&mut self, id: BlockId) {
        self.send_block(&id, Target::Validators);
        let Some(block) = self.blocks.get(&id) else { return };
        let certificates: Vec<_> =
            block.certificates.iter().cloned().map(VerifiedCertificate::assume).collect();
        let of_parent = |c: &&VerifiedCertificate| c.certificate().kind.block() == Some(block.header.parent);
        let parent_view =
            certificates.iter().find(of_parent).map_or(roko_wire::View(0), |c| c.certificate().view);
        let summary = summary_of(block, id, parent_view, certificates);
        self.feed(Event::ProposalBuilt(summary));
    }
}
