//! A chain that is made as fast as a machine can, without a network: blocks of signed and stamped transfers, executed for
//! real, each with the certificates that four validators would have made. Every block passes the checks of a node that
//! catches up.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by tests and an example")]

use crossbeam::channel::bounded;
use roko_consensus::{VerifiedVote, aggregate_votes, justification_hash};
use roko_node::accounts::{DevnetGenesis, Transfer, devnet_genesis};
use roko_node::catchup::check::{Received, check_signatures, execute_all};
use roko_node::chain::Chain;
use roko_node::replica::Started;
use roko_node::replica::blocks::Outcome;
use roko_node::workers::journal;
use roko_state::storage::Storage;
use roko_state::{CommitBlock, StateStore};
use roko_wire::block::{Body, BodyBatch, BodyTx, Header, chunk_count, chunk_leaf, tx_leaf};
use roko_wire::chunk::sign_proposal;
use roko_wire::genesis::Preset;
use roko_wire::limits::CHUNK_DATA_BYTES;
use roko_wire::merkle::{Tree, root_in_place};
use roko_wire::nano::ClockSource;
use roko_wire::stamp::{SignedRoot, Stamp};
use roko_wire::sync::{Seals, Signature};
use roko_wire::vote::{Bitmap, Certificate, CertificateKind};
use roko_wire::{Address, BlockId, ChainId, Epoch, Hash32, Height, NanoMoment, TxId, ValidatorIndex, View};
use ruint::aliases::U256;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// When the chain begins, nanoseconds since 1970 (TAI).
const GENESIS_NS: u128 = 1_790_000_000_000_000_000;
/// The devnet's pace.
pub const BLOCK_NS: u128 = 10_000_000;
/// How far a watermark lies behind its block.
const LAG_NS: u128 = 3_000_000;
const BOUND_NS: u64 = 10_000_000;
const VALIDATORS: u16 = 4;
/// Blocks of one commit to the store.
const BATCH: usize = 64;

/// What the chain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub blocks: u64,
    /// Transfers of each block; each has a stamp batch of its own, as at the devnet's rates.
    pub txs: u64,
    /// Of a hundred transfers, so many go to an address that has nothing yet.
    pub new_percent: u64,
    /// Accounts of genesis, which send in turns.
    pub accounts: u32,
}

/// The chain's genesis, with all keys.
pub fn genesis(accounts: u32) -> DevnetGenesis {
    let time = NanoMoment(GENESIS_NS);
    devnet_genesis(VALIDATORS, accounts, Preset::Balanced, ChainId(78), b"a made chain", time)
        .expect("a genesis")
}

/// Opens a store of the chain.
pub fn open<S: Storage>(chain: &Chain, storage: S) -> StateStore<S> {
    StateStore::open(storage, &chain.genesis_accounts(), chain.genesis_block).expect("a store").0
}

/// Makes the chain into an empty store. `told` hears each height that is on disk.
pub fn make<S: Storage>(
    made: &DevnetGenesis,
    chain: &Arc<Chain>,
    store: &mut StateStore<S>,
    mix: Mix,
    mut told: impl FnMut(u64),
) {
    let nothing = journal::read(&[]).expect("an empty journal");
    let started = Started::read(chain, store.snapshot(), None, nothing).expect("genesis");
    let (bodies, made_bodies) = bounded(256);
    let (commits, to_commit) = bounded::<(CommitBlock, roko_state::Tree)>(256);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let mut maker = Bodies::new(made, mix);
            for height in 1..=mix.blocks {
                bodies.send(maker.next(height)).expect("it is taken");
            }
        });
        threads.spawn(move || {
            let mut outcome = Arc::new(started.outcome);
            let mut justification = Vec::new();
            for (height, body) in (1..).zip(made_bodies) {
                let (next, certificates, block) = seal(made, chain, &outcome, height, body, justification);
                justification = certificates;
                commits.send((block, next.tree.clone())).expect("it is taken");
                outcome = next;
            }
        });
        while let Ok(first) = to_commit.recv() {
            let (blocks, trees): (Vec<_>, Vec<_>) =
                std::iter::once(first).chain(to_commit.try_iter().take(BATCH - 1)).unzip();
            store.commit_executed(&blocks, &trees).expect("a commit");
            store.maintain().expect("a segment");
            told(store.last().height.0);
        }
    });
}

/// A body and what its header says of it.
struct MadeBody {
    bytes: Vec<u8>,
    tx_root: Hash32,
    txs: u32,
}

/// Signs transfers and stamps; nothing of it depends on what the blocks yield.
struct Bodies<'a> {
    made: &'a DevnetGenesis,
    mix: Mix,
    sent: u64,
    last: NanoMoment,
}

fn block_time(height: u64) -> NanoMoment {
    NanoMoment(GENESIS_NS + u128::from(height) * BLOCK_NS)
}

fn watermark(height: u64) -> NanoMoment {
    if height == 0 { block_time(0) } else { block_time(height).saturating_sub(LAG_NS as u64) }
}

impl<'a> Bodies<'a> {
    fn new(made: &'a DevnetGenesis, mix: Mix) -> Bodies<'a> {
        Bodies { made, mix, sent: 0, last: NanoMoment(GENESIS_NS) }
    }

    fn next(&mut self, height: u64) -> MadeBody {
        let (from, to) = (watermark(height - 1), watermark(height));
        let (mut body, mut leaves) = (Body::default(), Vec::new());
        for place in 0..self.mix.txs {
            let time = NanoMoment(from.0 + (to.0 - from.0) * u128::from(place) / u128::from(self.mix.txs));
            self.transfer(time, (place % u64::from(VALIDATORS)) as u16, &mut body, &mut leaves);
        }
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&body).expect("a body").to_vec();
        MadeBody { bytes, tx_root: root_in_place(&mut leaves), txs: self.mix.txs as u32 }
    }

    fn transfer(&mut self, time: NanoMoment, ingress: u16, body: &mut Body, leaves: &mut Vec<Hash32>) {
        let (number, accounts) = (self.sent, u64::from(self.mix.accounts));
        self.sent += 1;
        let sender = number % accounts;
        let to = if number % 100 < self.mix.new_percent {
            let mut fresh = Address::ZERO;
            fresh.0.copy_from_slice(&Sha256::digest(number.to_le_bytes())[..20]);
            fresh
        } else {
            self.made.accounts[((sender + 1) % accounts) as usize].address()
        };
        let transfer = Transfer {
            chain_id: self.made.genesis.chain_id,
            nonce: number / accounts,
            to,
            value: U256::from(1_000_u64),
            max_fee: 2_000_000_000,
            max_priority_fee: 1,
            valid_from: time.saturating_sub(1_000_000_000),
            valid_until: time.saturating_add(10_000_000_000),
        };
        let signed = transfer.sign(&self.made.accounts[sender as usize]);
        let (chain_id, ingress) = (self.made.genesis.chain_id, ValidatorIndex(ingress));
        let stamp = Stamp { time, bound_ns: BOUND_NS, source: ClockSource::System.into(), ingress };
        let key = self.made.node_identities[ingress.as_usize()].signing_key();
        let root = SignedRoot::sign(key, chain_id, ingress, 1, stamp.leaf(chain_id, &signed.id));
        self.last = self.last.saturating_add(1).max(time);
        leaves.push(tx_leaf(&signed.id, self.last, &stamp));
        let batch = body.batches.len() as u32;
        let (leaves, signature) = (1, root.signature);
        body.batches.push(BodyBatch { ingress: ingress.0, leaves, root: root.root.0, signature });
        body.txs.push(BodyTx {
            moment: self.last.0,
            stamp_time: time.0,
            bound_ns: BOUND_NS,
            source: ClockSource::System as u8,
            leaf_index: 0,
            path_len: 0,
            batch,
            tx_len: signed.raw.len() as u32,
        });
        body.tx_bytes.extend_from_slice(&signed.raw);
    }
}

/// Makes a block of a body: header, signatures, what it yields, and its record. Returns its slow certificate too.
fn seal(
    made: &DevnetGenesis,
    chain: &Arc<Chain>,
    parent: &Arc<Outcome>,
    height: u64,
    body: MadeBody,
    justification: Vec<Certificate>,
) -> (Arc<Outcome>, Vec<Certificate>, CommitBlock) {
    let (view, proposer) = (View(height), ValidatorIndex((height % u64::from(VALIDATORS)) as u16));
    let mut chunks = Tree::with_capacity(chunk_count(body.bytes.len()));
    chunks.rebuild(
        body.bytes.chunks(CHUNK_DATA_BYTES).enumerate().map(|(at, data)| chunk_leaf(at as u32, data)),
    );
    let header = Header {
        chain_id: chain.domain.chain_id,
        epoch: Epoch(0),
        view,
        height: Height(height),
        parent: parent.block,
        justification_hash: justification_hash(&justification),
        proposer,
        time: block_time(height),
        watermark: watermark(height),
        tx_root: body.tx_root,
        chunk_root: chunks.root(),
        body_bytes: body.bytes.len() as u32,
        tx_count: body.txs,
        parent_state_root: parent.tree.root(),
        parent_receipts_root: parent.receipts_root,
        gas_limit: chain.rules.gas_limit,
        base_fee: parent.next_base_fee,
        next_set_root: None,
    };
    let id = header.id();
    let key = made.node_identities[proposer.as_usize()].signing_key();
    let signature = Signature(sign_proposal(key, chain.domain, view, &id));
    let (slow, commit) = certificates(made, chain, view, id);
    let seals = Seals { signature, justification, proof: vec![commit.clone()] };
    let received = Received { header, seals, body: body.bytes };
    let done = execute_all(chain, parent, check_signatures(chain, vec![received]), vec![commit])
        .expect("the block is valid");
    let block = done.blocks.into_iter().next_back().expect("one block");
    let record = commit_of(&block.header, &block.seals, block.body, &block.outcome);
    (block.outcome, vec![slow], record)
}

/// The slow certificate that three votes make, and the fast commit of all four.
fn certificates(
    made: &DevnetGenesis,
    chain: &Chain,
    view: View,
    block: BlockId,
) -> (Certificate, Certificate) {
    let ballot = CertificateKind::CommitFast(block).first_ballot();
    let votes: Vec<VerifiedVote> = (0..)
        .zip(&made.bls_keys)
        .map(|(index, key)| VerifiedVote::sign(chain.domain, key, ValidatorIndex(index), view, ballot))
        .collect();
    let of = |kind, count: usize| {
        let mut signers = Bitmap::default();
        (0..count).for_each(|index| assert!(signers.insert(ValidatorIndex(index as u16))));
        let signature = aggregate_votes(&votes[..count].iter().collect::<Vec<_>>());
        Certificate { view, kind, signers, fallback_signers: Bitmap::default(), signature }
    };
    let all = usize::from(VALIDATORS);
    (of(CertificateKind::SlowBlock(block), all - 1), of(CertificateKind::CommitFast(block), all))
}

fn commit_of(header: &Header, seals: &Seals, body: Vec<u8>, outcome: &Outcome) -> CommitBlock {
    let (mut header_bytes, mut certificates, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
    header.write(&mut header_bytes);
    seals.write(&mut certificates);
    outcome.receipts.iter().for_each(|receipt| receipt.write(&mut receipts));
    CommitBlock {
        height: outcome.height,
        block_id: outcome.block,
        header: header_bytes,
        body,
        certificates,
        receipts,
        tx_ids: outcome.txs.iter().map(|tx| tx.id).collect::<Vec<TxId>>(),
        changes: outcome.changes.clone(),
        expected_root: outcome.tree.root(),
    }
}
