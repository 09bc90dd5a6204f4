//! The block that a snapshot is the state after, checked before anything is fetched: headers from it to one that a
//! quorum's certificate proves final. What it yields stands in its child's header, because results are committed to by the
//! child.

use crate::chain::Chain;
use crate::replica::receipts_of;
use roko_consensus::verify::{CertificateError, ProofError, verify_certificate};
use roko_consensus::{justification_hash, verify_final};
use roko_execution::receipt::receipts_root;
use roko_state::BlockRecord;
use roko_wire::block::Header;
use roko_wire::chunk::verify_proposal;
use roko_wire::limits::SNAPSHOT_BLOCKS;
use roko_wire::snapshot::Anchor;
use roko_wire::sync::Seals;
use roko_wire::vote::Certificate;
use roko_wire::{ChainId, Height};

/// An anchor as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedAnchor {
    headers: Vec<Header>,
    seals: Seals,
    proof: Vec<Certificate>,
    receipts: Vec<u8>,
}

/// Why an anchor is refused.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// A state of another height than nodes keep.
    #[error("its snapshot is of height {0}, which is no multiple of {SNAPSHOT_BLOCKS}")]
    Height(Height),
    /// Headers that do not follow each other.
    #[error("its header at height {0} does not follow the one before it")]
    Link(Height),
    /// Another chain.
    #[error("its snapshot is of chain {0}")]
    Chain(ChainId),
    /// The proof of the last header.
    #[error("the proof of its block at height {0} does not hold: {1}")]
    Proof(Height, ProofError),
    /// Justification, signature or certificates of the block itself.
    #[error("the seals of its block at height {0} do not belong to it")]
    Seals(Height),
    /// A certificate beside the block.
    #[error("a certificate of its block at height {0}: {1}")]
    Certificate(Height, CertificateError),
    /// The receipts are others than its child's header names.
    #[error("the receipts of its block at height {0} are not those that the next header commits to")]
    Receipts(Height),
}

impl ReceivedAnchor {
    /// Takes it out of a message.
    #[must_use]
    pub fn of(anchor: Anchor<'_>) -> ReceivedAnchor {
        let Anchor { headers, seals, proof, receipts } = anchor;
        ReceivedAnchor { headers, seals, proof, receipts: receipts.to_vec() }
    }

    /// The block that the state is after, as a store keeps it: its root is the state's, and its body is not there.
    ///
    /// # Errors
    /// When anything of it does not hold.
    pub fn check(self, chain: &Chain) -> Result<BlockRecord, AnchorError> {
        let ReceivedAnchor { headers, seals, proof, receipts } = self;
        // Parsing leaves two at least.
        let ([first, child, ..], Some(last)) = (&headers[..], headers.last()) else {
            return Err(AnchorError::Link(Height(0)));
        };
        let height = first.height;
        if height.0 == 0 || !height.0.is_multiple_of(SNAPSHOT_BLOCKS as u64) {
            return Err(AnchorError::Height(height));
        }
        if first.chain_id != chain.domain.chain_id {
            return Err(AnchorError::Chain(first.chain_id));
        }
        for pair in headers.windows(2) {
            if pair[1].height != pair[0].height.next() || pair[1].parent != pair[0].id() {
                return Err(AnchorError::Link(pair[1].height));
            }
        }
        verify_final(last.id(), last.view, &proof, chain.domain, &chain.set, &chain.quorums)
            .map_err(|error| AnchorError::Proof(last.height, error))?;
        check_seals(chain, first, &seals)?;
        let known = receipts_of(&receipts).map_err(|_| AnchorError::Receipts(height))?;
        if receipts_root(&known) != child.parent_receipts_root {
            return Err(AnchorError::Receipts(height));
        }
        let (mut header, mut certificates) = (Vec::new(), Vec::new());
        first.write(&mut header);
        seals.write(&mut certificates);
        Ok(BlockRecord {
            height,
            block_id: first.id(),
            header,
            certificates,
            receipts,
            expected_root: child.parent_state_root,
            ..BlockRecord::default()
        })
    }
}

/// What is given on to consensus must hold by itself, though the block is known to be final.
fn check_seals(chain: &Chain, header: &Header, seals: &Seals) -> Result<(), AnchorError> {
    let (height, id) = (header.height, header.id());
    let key = chain.node_keys.get(header.proposer.as_usize());
    let signed =
        key.is_some_and(|key| verify_proposal(key, chain.domain, header.view, &id, &seals.signature.0));
    if !signed || justification_hash(&seals.justification) != header.justification_hash {
        return Err(AnchorError::Seals(height));
    }
    for certificate in &seals.proof {
        verify_certificate(certificate.clone(), chain.domain, &chain.set, &chain.quorums)
            .map_err(|error| AnchorError::Certificate(height, error))?;
    }
    Ok(())
}
