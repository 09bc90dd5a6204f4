//! What must be on disk before it leaves the node, as canonical records, so that a restart never votes twice.
//!
//! A record is written and synced before the vote or Propose it holds is sent. Records of final views can be
//! dropped. Layout: a kind byte, then the fields of the wire.

use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::vote::Vote;
use roko_wire::{BlockId, View};

const KIND_VOTE: u8 = 1;
const KIND_PROPOSAL: u8 = 2;

/// An own vote: view, ballot and signature, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRecord {
    /// The vote.
    pub vote: Vote,
}

/// An own Propose: the block's bytes are in the block store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalRecord {
    /// The view proposed in.
    pub view: View,
    /// The block proposed.
    pub block: BlockId,
}

/// One record of the vote log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An own vote.
    Vote(VoteRecord),
    /// An own Propose.
    Proposal(ProposalRecord),
}

impl Record {
    /// Most bytes of an encoded record.
    pub const BYTES_MAX: usize = 1 + Vote::BYTES;

    /// The view that the record is about.
    #[must_use]
    pub const fn view(&self) -> View {
        match self {
            Record::Vote(record) => record.vote.view,
            Record::Proposal(record) => record.view,
        }
    }

    /// Appends the canonical layout.
    pub fn write(&self, out: &mut impl Sink) {
        match self {
            Record::Vote(record) => {
                out.put_u8(KIND_VOTE);
                record.vote.write(out);
            }
            Record::Proposal(record) => {
                out.put_u8(KIND_PROPOSAL);
                out.put_u64(record.view.0);
                out.put(&record.block.0);
            }
        }
    }

    /// Reads the canonical layout.
    pub fn read(reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
        match reader.u8("record kind")? {
            KIND_VOTE => Ok(Record::Vote(VoteRecord { vote: Vote::read(reader)? })),
            KIND_PROPOSAL => {
                let view = View(reader.u64("record view")?);
                Ok(Record::Proposal(ProposalRecord { view, block: BlockId(reader.array("record block")?) }))
            }
            kind => Err(DecodeError::BadValue { field: "record kind", value: u64::from(kind) }),
        }
    }
}

/// The records of a log above `final_view`, parted into votes and proposals.
#[must_use]
pub fn open_records(
    records: impl IntoIterator<Item = Record>,
    final_view: View,
) -> (Vec<VoteRecord>, Vec<ProposalRecord>) {
    let (mut votes, mut proposals) = (Vec::new(), Vec::new());
    for record in records.into_iter().filter(|record| record.view() > final_view) {
        match record {
            Record::Vote(vote) => votes.push(vote),
            Record::Proposal(proposal) => proposals.push(proposal),
        }
    }
    (votes, proposals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roko_wire::ValidatorIndex;
    use roko_wire::vote::Ballot;

    fn records() -> Vec<Record> {
        let vote = |view, ballot| {
            let vote = Vote { view: View(view), ballot, signer: ValidatorIndex(3), signature: [9; 96] };
            Record::Vote(VoteRecord { vote })
        };
        vec![
            vote(7, Ballot::Notarize(BlockId([1; 32]))),
            vote(8, Ballot::SkipFallback),
            vote(u64::MAX, Ballot::FinalSkip),
            Record::Proposal(ProposalRecord { view: View(8), block: BlockId([2; 32]) }),
        ]
    }

    #[test]
    fn records_round_trip_one_after_another() {
        let mut bytes = Vec::new();
        records().iter().for_each(|record| record.write(&mut bytes));
        let mut reader = Reader::new(&bytes);
        let read: Vec<Record> = (0..4).map(|_| Record::read(&mut reader).unwrap()).collect();
        assert_eq!(read, records());
        reader.finish().unwrap();
    }

    #[test]
    fn every_truncation_is_an_error() {
        for record in records() {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            assert!(bytes.len() <= Record::BYTES_MAX);
            for len in 0..bytes.len() {
                assert!(Record::read(&mut Reader::new(&bytes[..len])).is_err());
            }
        }
        assert!(Record::read(&mut Reader::new(&[9])).is_err());
    }

    #[test]
    fn only_records_above_the_final_view_count() {
        let (votes, proposals) = open_records(records(), View(7));
        assert_eq!((votes.len(), proposals.len()), (2, 1));
    }
}
