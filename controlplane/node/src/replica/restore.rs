//! Starting: from genesis or from what the disk holds.

use super::assembly::EarlyChunks;
use super::blocks::{Block, BlockTimes, Blocks, BodyState, Outcome};
use super::certificates::Certificates;
use super::finalize::{CommittedBlocks, read_seals};
use super::messages::{PullBudget, summary_of};
use super::plane::Plane;
use super::seen::Seen;
use super::{LINGER_PER_DELTA, Replica};
use crate::abstain::Abstention;
use crate::chain::{Chain, Own};
use crate::observe::Observer;
use crate::workers::bls::BlsWorker;
use crate::workers::journal::{Journal, Journaled};
use crate::workers::store::Store;
use roko_consensus::collector::VoteCollector;
use roko_consensus::machine::Machine;
use roko_consensus::recovery::open_records;
use roko_consensus::{Config, Event, FinalBlock, Recovered, VerifiedCertificate, aggregate_votes};
use roko_execution::{Receipt, base_fee};
use roko_pipeline::spread::SpreadBlock;
use roko_state::{BlockRecord, Snapshot};
use roko_wire::block::Header;
use roko_wire::chunk::Propose;
use roko_wire::codec::{DecodeError, Reader};
use roko_wire::nano::ClockReading;
use roko_wire::{Height, NanoMoment, View};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How far timeouts may grow, in Deltas.
const DELTA_GROWTH_MAX: u64 = 64;
/// Transactions remembered as seen first-hand and not final: two seconds of 50,000 a second.
const SEEN_MAX: usize = 100_000;
/// Longest pause between repetitions when nothing moves.
const STANDSTILL_NS: u64 = 10_000_000_000;

/// What a replica is put together from.
pub struct Parts<P> {
    /// The chain.
    pub chain: Arc<Chain>,
    /// This node's keys, if it is a validator.
    pub own: Option<Own>,
    /// The BLS worker.
    pub bls: BlsWorker,
    /// The journal.
    pub journal: Journal,
    /// The store.
    pub store: Store,
    /// Final blocks.
    pub reader: Box<dyn CommittedBlocks>,
    /// Until when nothing is voted on, after a repair.
    pub abstains: Option<Abstention>,
    /// The data plane.
    pub plane: P,
    /// Where everything is counted and shown.
    pub observer: Arc<Observer>,
    /// The clock now.
    pub clock: ClockReading,
}

/// What the disk holds.
pub struct Started {
    /// The last final block and its view, and what consensus must remember.
    pub recovered: Recovered,
    /// What the last final block yields.
    pub outcome: Outcome,
    /// Blocks that are not final and were voted for.
    pub blocks: Vec<(Propose, Vec<u8>)>,
}

impl Started {
    /// Reads the last final block and the journal.
    pub fn read(
        chain: &Chain,
        snapshot: Snapshot,
        record: Option<&BlockRecord>,
        journaled: Journaled,
    ) -> Result<Started, DecodeError> {
        let Some(record) = record else {
            let recovered = Recovered::genesis(chain.genesis_block, chain.genesis.time);
            return Ok(Started {
                recovered,
                outcome: genesis_outcome(chain, snapshot),
                blocks: journaled.blocks,
            })
            .map(|started| started.with_records(journaled.records));
        };
        let header = Header::read(&mut Reader::new(&record.header))?;
        let seals = read_seals(&record.certificates)?;
        let receipts = receipts_of(&record.receipts)?;
        let gas_used = receipts.iter().map(|receipt| receipt.gas_used).sum();
        let floor = chain.rules.base_fee_floor;
        let last_final = FinalBlock {
            block: record.block_id,
            view: header.view,
            height: record.height,
            time: header.time,
            proof: seals.proof,
        };
        let outcome = Outcome {
            block: record.block_id,
            height: record.height,
            time: header.time,
            watermark: header.watermark,
            // Moments lie below the watermark: starting at it keeps them rising though the last one is forgotten
            // with an empty block.
            last_moment: receipts.last().map_or_else(|| header.watermark.saturating_sub(1), |r| r.moment),
            tree: snapshot.tree,
            receipts_root: roko_execution::receipt::receipts_root(&receipts),
            receipts,
            changes: Vec::new(),
            txs: Vec::new(),
            gas_used,
            next_base_fee: base_fee::next(header.base_fee, gas_used, header.gas_limit, floor),
        };
        let recovered = Recovered { last_final, votes: Vec::new(), proposals: Vec::new() };
        Ok(Started { recovered, outcome, blocks: journaled.blocks }.with_records(journaled.records))
    }

    fn with_records(mut self, records: Vec<roko_consensus::recovery::Record>) -> Started {
        let final_view = self.recovered.last_final.view;
        (self.recovered.votes, self.recovered.proposals) = open_records(records, final_view);
        self.blocks.retain(|(propose, _)| propose.header.view > final_view);
        self
    }
}

/// A stored block's receipts.
pub(crate) fn receipts_of(bytes: &[u8]) -> Result<Vec<Receipt>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut receipts = Vec::with_capacity(bytes.len() / Receipt::BYTES);
    while !reader.rest().is_empty() {
        receipts.push(Receipt::read(&mut reader)?);
    }
    Ok(receipts)
}

fn genesis_outcome(chain: &Chain, snapshot: Snapshot) -> Outcome {
    Outcome {
        block: chain.genesis_block,
        height: Height(0),
        time: chain.genesis.time,
        watermark: chain.genesis.time,
        last_moment: chain.genesis.time,
        tree: snapshot.tree,
        receipts_root: roko_wire::Hash32::ZERO,
        receipts: Vec::new(),
        changes: Vec::new(),
        txs: Vec::new(),
        gas_used: 0,
        next_base_fee: chain.rules.base_fee_floor,
    }
}

fn machine_config(chain: &Chain, own: Option<&Own>) -> Config {
    let limits = &chain.genesis.limits;
    let delta_ns = Chain::millis(limits.delta_ms);
    Config {
        domain: chain.domain,
        set: Arc::clone(&chain.set),
        quorums: chain.quorums,
        own_index: own.map(|own| own.index),
        leader_seed: chain.genesis.seed.0,
        delta_ns,
        delta_ns_max: delta_ns * DELTA_GROWTH_MAX,
        delta_growth_percent: 5,
        min_block_interval_ns: Chain::millis(limits.min_block_interval_ms),
        empty_block_interval_ns: Chain::millis(limits.empty_block_interval_ms),
        standstill_ns: STANDSTILL_NS,
        aggregator: aggregate_votes,
    }
}

impl<P: Plane> Replica<P> {
    /// A replica that goes on from what the disk holds.
    #[must_use]
    pub fn new(parts: Parts<P>, started: Started) -> Replica<P> {
        let Parts { chain, own, bls, journal, store, reader, abstains, plane, observer, clock } = parts;
        let own_index = own.as_ref().map(|own| own.index);
        let final_view = started.recovered.last_final.view;
        let mut certificates = Certificates::default();
        started
            .recovered
            .last_final
            .proof
            .iter()
            .for_each(|certificate| certificates.add_verified(certificate));
        let machine = Machine::new(machine_config(&chain, own.as_ref()), started.recovered, clock.now);
        let linger_ns = Chain::millis(chain.genesis.limits.delta_ms) / LINGER_PER_DELTA;
        let collector = VoteCollector::new(Arc::clone(&chain.set), chain.quorums, own_index, linger_ns);
        observer.start_at(&started.outcome);
        if abstains.is_some() {
            observer.set_problem(Some("not voting until the chain is past the moment at which the store was repaired or begun from a snapshot".into()));
        }
        let mut replica = Replica {
            machine,
            collector,
            certificates,
            blocks: Blocks::new(started.outcome, final_view),
            early: EarlyChunks::default(),
            seen: Seen::new(SEEN_MAX),
            waiting: HashMap::new(),
            checks: VecDeque::new(),
            pulls: PullBudget::new(chain.set.len()),
            chain,
            own,
            bls,
            journal,
            store,
            reader,
            plane,
            observer,
            actions: VecDeque::new(),
            step_out: Vec::new(),
            timer: NanoMoment::ZERO,
            building: None,
            journaled: HashMap::new(),
            next_batch: 0,
            unsigned: VecDeque::new(),
            committing: VecDeque::new(),
            disk_full: false,
            abstains,
            stopped: None,
            clock,
            bans_seen: 0,
        };
        replica.feed(Event::Tick);
        replica.restore_blocks(started.blocks);
        replica
    }

    /// Gives the machine the blocks that this node had voted for: others may have lost them.
    fn restore_blocks(&mut self, mut blocks: Vec<(Propose, Vec<u8>)>) {
        blocks.sort_by_key(|(propose, _)| propose.header.view);
        for (propose, body) in blocks {
            let id = propose.header.id();
            let complete = propose.certificates.len() == usize::from(propose.certificate_count);
            let tag = self.blocks.fresh_tag();
            let body = SpreadBlock::from_body(id, propose.header.view, propose.signature, body);
            let block = Block {
                body: BodyState::Whole(Arc::new(body)),
                signature: propose.signature,
                certificates: propose.certificates.to_vec(),
                verdict_wanted: false,
                verdict: None,
                outcome: None,
                tag,
                journaled: true,
                times: BlockTimes { header: Some(propose.header.time), ..BlockTimes::default() },
                header: propose.header,
            };
            let verified: Vec<_> =
                block.certificates.iter().cloned().map(VerifiedCertificate::assume).collect();
            verified.iter().for_each(|c| self.certificates.add_verified(c.certificate()));
            let of_parent =
                |c: &&VerifiedCertificate| c.certificate().kind.block() == Some(block.header.parent);
            let parent_view = verified.iter().find(of_parent).map_or(View(0), |c| c.certificate().view);
            // A justification that was not carried whole is asked for again by whoever needs it.
            debug_assert!(complete || !verified.is_empty());
            let summary = summary_of(&block, id, parent_view, verified);
            if self.blocks.insert(id, block) {
                self.feed(Event::Proposal(summary));
            }
        }
    }
}
