//! What a peer sends as final blocks, checked before any of it is believed: the links, the proof that the last one is
//! final, and then every block as if it were proposed now, but for its time.

use crate::chain::Chain;
use crate::replica::blocks::Outcome;
use crate::replica::catchup::{CaughtUp, FetchedBlock};
use crate::replica::seen::Seen;
use crate::replica::validate::{check, execute};
use roko_consensus::verify::ProofError;
use roko_consensus::{justification_hash, verify_final};
use roko_execution::validity::BlockError;
use roko_wire::block::{BodyError, BodyView, Header, chunk_count, chunk_leaf};
use roko_wire::chunk::verify_proposal;
use roko_wire::limits::CHUNK_DATA_BYTES;
use roko_wire::merkle::Tree;
use roko_wire::sync::Seals;
use roko_wire::vote::Certificate;
use roko_wire::{BlockId, Height};
use std::sync::Arc;

/// A block as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its header.
    pub header: Header,
    /// What stands beside it.
    pub seals: Seals,
    /// Its body.
    pub body: Vec<u8>,
}

/// Why blocks from a peer are refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It does not follow the block before it.
    #[error("the block at height {got} does not follow block {after} at height {height}")]
    Link {
        /// Its height.
        got: Height,
        /// The block before.
        after: BlockId,
        /// That one's height.
        height: Height,
    },
    /// Its certificates.
    #[error("the proof of the block at height {0} does not hold: {1}")]
    Proof(Height, ProofError),
    /// Its body is another one.
    #[error("the body at height {0} is not the one that its header names")]
    Body(Height),
    /// Its justification or its proposer's signature.
    #[error("the seals of the block at height {0} do not belong to it")]
    Seals(Height),
    /// Its body cannot be read.
    #[error("the body at height {0}: {1}")]
    Archive(Height, BodyError),
    /// It breaks a rule.
    #[error("the block at height {0} is invalid here: {1}")]
    Block(Height, BlockError),
}

/// How many of `blocks`, which follow `base`, are proven final: all up to the last one that has a proof. Their links are
/// checked, and the proof is returned.
///
/// # Errors
/// When they do not follow each other, or a proof does not hold.
pub fn proven(
    chain: &Chain,
    base: &Outcome,
    blocks: &[Received],
) -> Result<Option<(usize, Vec<Certificate>)>, CheckError> {
    let (mut parent, mut height) = (base.block, base.height);
    let mut ids = Vec::with_capacity(blocks.len());
    for block in blocks {
        let header = &block.header;
        if header.parent != parent || header.height != height.next() {
            return Err(CheckError::Link { got: header.height, after: parent, height });
        }
        (parent, height) = (header.id(), header.height);
        ids.push(parent);
    }
    for (place, block) in blocks.iter().enumerate().rev() {
        let proof = &block.seals.proof;
        match verify_final(ids[place], block.header.view, proof, chain.domain, &chain.set, &chain.quorums) {
            Ok(proof) => return Ok(Some((place + 1, proof))),
            Err(ProofError::NoCommit) => {}
            Err(error) => return Err(CheckError::Proof(block.header.height, error)),
        }
    }
    Ok(None)
}

/// Checks and executes blocks that are proven final by `proof`, on top of `base`.
///
/// # Errors
/// When one breaks a rule: then none is taken.
pub fn execute_all(
    chain: &Chain,
    base: &Arc<Outcome>,
    blocks: Vec<Received>,
    proof: Vec<Certificate>,
) -> Result<CaughtUp, CheckError> {
    // What certifies a block that has no proof of its own stands in its successor.
    let next: Vec<Vec<Certificate>> =
        blocks.iter().skip(1).map(|block| block.seals.justification.clone()).chain([proof.clone()]).collect();
    let (mut outcome, nothing_seen) = (Arc::clone(base), Seen::new(2));
    let mut fetched = Vec::with_capacity(blocks.len());
    for (mut block, next) in blocks.into_iter().zip(next) {
        outcome = Arc::new(execute_one(chain, &outcome, &block, &nothing_seen)?);
        block.seals.proof = next;
        let Received { header, seals, body } = block;
        fetched.push(FetchedBlock { header, seals, body, outcome: Arc::clone(&outcome) });
    }
    Ok(CaughtUp { blocks: fetched, proof })
}

fn execute_one(
    chain: &Chain,
    parent: &Outcome,
    block: &Received,
    seen: &Seen,
) -> Result<Outcome, CheckError> {
    let Received { header, seals, body } = block;
    let (height, id) = (header.height, header.id());
    if body.len() != header.body_bytes as usize || chunk_root(body) != header.chunk_root {
        return Err(CheckError::Body(height));
    }
    let key = chain.node_keys.get(header.proposer.as_usize());
    let signed =
        key.is_some_and(|key| verify_proposal(key, chain.domain, header.view, &id, &seals.signature.0));
    if !signed || justification_hash(&seals.justification) != header.justification_hash {
        return Err(CheckError::Seals(height));
    }
    let view = BodyView::access(body).map_err(|error| CheckError::Archive(height, error))?;
    let checked = check(chain, header, &view, body.len(), parent, seen)
        .map_err(|error| CheckError::Block(height, error))?;
    Ok(execute(chain, id, header, checked, parent))
}

fn chunk_root(body: &[u8]) -> roko_wire::Hash32 {
    let mut chunks = Tree::with_capacity(chunk_count(body.len()));
    chunks.rebuild(body.chunks(CHUNK_DATA_BYTES).enumerate().map(|(at, data)| chunk_leaf(at as u32, data)));
    chunks.root()
}
