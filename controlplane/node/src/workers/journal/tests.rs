use super::*;
use arrayvec::ArrayVec;
use roko_consensus::recovery::ProposalRecord;
use roko_state::fault::FaultStorage;
use roko_state::vote_log::VoteLogOptions;
use roko_wire::block::{Header, chunk_leaves};
use roko_wire::{ChainId, Epoch, Hash32, Height, NanoMoment, ValidatorIndex, merkle};
use std::time::{Duration, Instant};

fn body(view: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64 * 7 + view) as u8).collect()
}

fn propose(view: u64, body: &[u8]) -> Propose {
    let mut leaves = Vec::new();
    chunk_leaves(body, &mut leaves);
    let mut tree = merkle::Tree::default();
    tree.rebuild(leaves.into_iter());
    let header = Header {
        chain_id: ChainId(1),
        epoch: Epoch(0),
        view: View(view),
        height: Height(view),
        parent: BlockId::ZERO,
        justification_hash: Hash32::ZERO,
        proposer: ValidatorIndex(0),
        time: NanoMoment(1),
        watermark: NanoMoment(1),
        tx_root: Hash32::ZERO,
        chunk_root: tree.root(),
        body_bytes: body.len() as u32,
        tx_count: 0,
        parent_state_root: Hash32::ZERO,
        parent_receipts_root: Hash32::ZERO,
        gas_limit: 0,
        base_fee: 0,
        next_set_root: None,
    };
    Propose { header, signature: [7; 64], certificates: ArrayVec::new(), certificate_count: 0 }
}

fn block(view: u64, bytes: usize) -> (Propose, Vec<u8>, Vec<Vec<u8>>) {
    let body = body(view, bytes);
    let propose = propose(view, &body);
    let records = block_records(&propose, &propose.header.id(), &body);
    (propose, body, records)
}

fn proposal(view: u64) -> Vec<u8> {
    let mut record = Vec::new();
    Record::Proposal(ProposalRecord { view: View(view), block: BlockId([view as u8; 32]) })
        .write(&mut record);
    record
}

#[test]
fn blocks_of_every_length_come_back_whole_with_the_records_between_them() {
    let lengths = [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 3];
    let mut records = Vec::new();
    let mut blocks = Vec::new();
    let mut views = Vec::new();
    for (view, length) in (1..).zip(lengths) {
        let (propose, body, of_block) = block(view, length);
        assert_eq!(of_block.len(), 1 + length.div_ceil(PIECE_BYTES));
        views.extend(std::iter::repeat_n(View(view), of_block.len() + 1));
        records.extend(of_block);
        records.push(proposal(view));
        blocks.push((propose, body));
    }
    let read = read(&records).unwrap();
    assert!(read.blocks == blocks, "{} blocks of {}", read.blocks.len(), blocks.len());
    assert_eq!(read.records.len(), lengths.len());
    assert_eq!(read.views, views, "each record is freed with its own view");
}

#[test]
fn two_blocks_whose_pieces_are_mixed_come_back_apart() {
    let (first, first_body, of_first) = block(1, 3 * PIECE_BYTES);
    let (second, second_body, of_second) = block(2, 3 * PIECE_BYTES);
    let mixed: Vec<Vec<u8>> = of_first.into_iter().zip(of_second).flat_map(|(a, b)| [a, b]).collect();
    let read = read(&mixed).unwrap();
    assert!(read.blocks == [(first, first_body), (second, second_body)]);
}

#[test]
fn a_torn_body_is_left_out_and_what_is_around_it_is_not() {
    let (_, _, torn) = block(1, 4 * PIECE_BYTES);
    let (whole, whole_body, of_whole) = block(2, 2 * PIECE_BYTES);
    for missing in 0..torn.len() {
        let mut records = vec![proposal(9)];
        records.extend(torn.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, r)| r.clone()));
        records.extend(of_whole.clone());
        let read = read(&records).unwrap();
        assert!(read.blocks == [(whole.clone(), whole_body.clone())], "without record {missing}");
        assert_eq!((read.records.len(), read.views.len()), (1, records.len()));
    }
    let mut flipped = torn.clone();
    flipped[2][100] ^= 1;
    assert!(read(&flipped).unwrap().blocks.is_empty(), "a body that does not hash to its header");
    let mut twice = torn.clone();
    twice.extend(torn[1..].iter().cloned());
    assert_eq!(read(&twice).unwrap().blocks.len(), 1, "a block that was journaled again");
    assert!(read(&[vec![99]]).is_err(), "a record of another version is no empty journal");
}

/// The next report, within a while.
fn report(journal: &mut Journal) -> Option<JournalDone> {
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        if let Some(done) = journal.poll() {
            return Some(done);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

#[test]
fn a_full_journal_waits_until_it_may_forget_and_then_goes_on() {
    let storage = FaultStorage::new();
    let (log, _) = VoteLog::open(&storage, VoteLogOptions { bytes: 64 * 1024 }).unwrap();
    let mut journal = Journal::spawn(log, VecDeque::new(), Arc::default(), || ()).unwrap();
    let mut waiting: VecDeque<u64> = VecDeque::new();
    for view in 1..=10 {
        let (_, _, records) = block(view, 8 * 1024);
        journal.append(Batch { id: view, view: View(view), records });
        waiting.push_back(view);
    }
    let mut take = |journal: &mut Journal| {
        while let Some(done) = report(journal) {
            let JournalDone::Durable(batches) = done else { panic!("{done:?}") };
            batches.iter().for_each(|batch| assert_eq!(waiting.pop_front(), Some(*batch)));
        }
        waiting.len()
    };
    let left = take(&mut journal);
    assert!((1..9).contains(&left), "64 KiB hold some blocks of 8 KiB and not ten: {left} wait");
    journal.prune(View(10 - left as u64));
    assert_eq!(take(&mut journal), 0, "what waited is written once there is room");
}
