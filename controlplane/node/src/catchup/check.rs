//! What a peer sends as final blocks, checked before any of it is believed: the links, the proof that the last one is
//! final, and then every block as if it were proposed now, but for its time.
//!
//! Signatures do not depend on what is before a block: they are checked as a range comes, all of it together so that every
//! lane is filled, while the range before is executed.

use crate::chain::Chain;
use crate::replica::blocks::Outcome;
use crate::replica::catchup::{CaughtUp, FetchedBlock};
use crate::replica::first_hand::{Signatures, verdicts};
use crate::replica::validate::{check, execute};
use roko_consensus::verify::ProofError;
use roko_consensus::{justification_hash, verify_final};
use roko_ed25519::Check;
use roko_execution::validity::BlockError;
use roko_wire::block::{BodyError, BodyView, Header, chunk_count, chunk_leaf};
use roko_wire::chunk::propose_signing_bytes;
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

/// A block whose signatures were checked. One that does not hold is checked once more, and then names the fault.
#[derive(Clone, Debug)]
pub struct Signed {
    block: Received,
    id: BlockId,
    /// Whether its proposer signed it.
    proposed: bool,
    signatures: Signatures,
}

impl Signed {
    /// Bytes of its body.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.block.body.len()
    }
}

/// Checks the signatures of a range: proposers', stamps' and transactions'.
#[must_use]
pub fn check_signatures(chain: &Chain, blocks: Vec<Received>) -> Vec<Signed> {
    let ids: Vec<BlockId> = blocks.iter().map(|block| block.header.id()).collect();
    let proposed = check_proposals(chain, &blocks, &ids);
    let signatures = {
        // What cannot be read is refused when its turn comes.
        let bodies: Vec<_> = blocks.iter().map(|block| BodyView::access(&block.body).ok()).collect();
        Signatures::of_all(chain, &bodies)
    };
    let all = blocks.into_iter().zip(ids).zip(proposed).zip(signatures);
    all.map(|(((block, id), proposed), signatures)| Signed { block, id, proposed, signatures }).collect()
}

/// Whether each block's proposer signed it.
fn check_proposals(chain: &Chain, blocks: &[Received], ids: &[BlockId]) -> Vec<bool> {
    let known = |block: &Received| block.header.proposer.as_usize() < chain.node_keys.len();
    let key = |block: &Received| {
        chain.node_keys.get(block.header.proposer.as_usize()).map_or([0; 32], |key| (*key).into())
    };
    let signed: Vec<([u8; 32], _)> = blocks
        .iter()
        .zip(ids)
        .map(|(block, id)| (key(block), propose_signing_bytes(chain.domain, block.header.view, id)))
        .collect();
    let checks: Vec<Check<'_>> = blocks
        .iter()
        .zip(&signed)
        .map(|(block, (key, message))| Check { key, signature: &block.seals.signature.0, message })
        .collect();
    blocks.iter().zip(verdicts(&checks)).map(|(block, holds)| holds && known(block)).collect()
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
    blocks: &[Signed],
) -> Result<Option<(usize, Vec<Certificate>)>, CheckError> {
    let (mut parent, mut height) = (base.block, base.height);
    for Signed { block, id, .. } in blocks {
        let header = &block.header;
        if header.parent != parent || header.height != height.next() {
            return Err(CheckError::Link { got: header.height, after: parent, height });
        }
        (parent, height) = (*id, header.height);
    }
    for (place, Signed { block, id, .. }) in blocks.iter().enumerate().rev() {
        let proof = &block.seals.proof;
        match verify_final(*id, block.header.view, proof, chain.domain, &chain.set, &chain.quorums) {
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
    blocks: Vec<Signed>,
    proof: Vec<Certificate>,
) -> Result<CaughtUp, CheckError> {
    // What certifies a block that has no proof of its own stands in its successor.
    let next: Vec<Vec<Certificate>> = blocks
        .iter()
        .skip(1)
        .map(|next| next.block.seals.justification.clone())
        .chain([proof.clone()])
        .collect();
    let mut outcome = Arc::clone(base);
    let mut fetched = Vec::with_capacity(blocks.len());
    for (signed, next) in blocks.into_iter().zip(next) {
        outcome = Arc::new(execute_one(chain, &outcome, &signed)?);
        let mut block = signed.block;
        block.seals.proof = next;
        let Received { header, seals, body } = block;
        fetched.push(FetchedBlock { header, seals, body, outcome: Arc::clone(&outcome) });
    }
    Ok(CaughtUp { blocks: fetched, proof })
}

fn execute_one(chain: &Chain, parent: &Outcome, signed: &Signed) -> Result<Outcome, CheckError> {
    let Signed { block: Received { header, seals, body }, id, proposed, signatures } = signed;
    let height = header.height;
    if body.len() != header.body_bytes as usize || chunk_root(body) != header.chunk_root {
        return Err(CheckError::Body(height));
    }
    if !proposed || justification_hash(&seals.justification) != header.justification_hash {
        return Err(CheckError::Seals(height));
    }
    let view = BodyView::access(body).map_err(|error| CheckError::Archive(height, error))?;
    let checked = check(chain, header, &view, body.len(), parent, signatures)
        .map_err(|error| CheckError::Block(height, error))?;
    Ok(execute(chain, *id, header, checked, parent))
}

fn chunk_root(body: &[u8]) -> roko_wire::Hash32 {
    let mut chunks = Tree::with_capacity(chunk_count(body.len()));
    chunks.rebuild(body.chunks(CHUNK_DATA_BYTES).enumerate().map(|(at, data)| chunk_leaf(at as u32, data)));
    chunks.root()
}
