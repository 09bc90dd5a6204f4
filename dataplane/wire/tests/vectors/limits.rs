//! The limits as a table: `WIRE.md` and the file show them, and their arithmetic is checked once more from the fields.

use super::Vector;
use roko_wire::block::Header;
use roko_wire::frame::{FRAME_HEADER_BYTES, TAG_BYTES};
use roko_wire::limits::*;
use roko_wire::stamp::{BATCH_HEADER_BYTES, BATCH_TX_BYTES};
use roko_wire::vote::{Certificate, VOTE_SIGNING_BYTES, Vote};

/// Every limit by name.
pub(crate) fn table() -> Vec<(&'static str, usize)> {
    vec![
        ("FRAME_BYTES_MAX", FRAME_BYTES_MAX),
        ("MESSAGE_BYTES_MAX", MESSAGE_BYTES_MAX),
        ("VALIDATORS_MAX", VALIDATORS_MAX),
        ("BITMAP_BYTES", BITMAP_BYTES),
        ("TX_BYTES_MAX", TX_BYTES_MAX),
        ("TXS_PER_MESSAGE_MAX", TXS_PER_MESSAGE_MAX),
        ("ACCESS_LIST_MAX", ACCESS_LIST_MAX),
        ("STAMP_DEPTH_MAX", STAMP_DEPTH_MAX),
        ("BLOCK_TXS_MAX", BLOCK_TXS_MAX),
        ("BLOCK_BYTES_MAX", BLOCK_BYTES_MAX),
        ("CHUNK_DATA_BYTES", CHUNK_DATA_BYTES),
        ("CHUNKS_MAX", CHUNKS_MAX),
        ("PROPOSE_CERTIFICATES_MAX", PROPOSE_CERTIFICATES_MAX),
        ("SYNC_BLOCKS_MAX", SYNC_BLOCKS_MAX),
        ("SNAPSHOT_BLOCKS", SNAPSHOT_BLOCKS),
        ("SNAPSHOT_HEADERS_MAX", SNAPSHOT_HEADERS_MAX),
        ("RANGE_ACCOUNTS_MAX", RANGE_ACCOUNTS_MAX),
        ("MERKLE_DEPTH_MAX", MERKLE_DEPTH_MAX),
    ]
}

/// The limits as 64-bit numbers.
pub(crate) fn vectors() -> Vec<Vector> {
    let mut vector = Vector::new(
        "table",
        table().iter().flat_map(|(_, value)| (*value as u64).to_le_bytes()).collect::<Vec<_>>(),
    );
    for (name, value) in table() {
        vector = vector.from(name, value);
    }
    vec![vector]
}

#[test]
fn every_limit_of_the_source_is_in_the_table() {
    let source = std::fs::read_to_string(super::root().join("src/limits.rs")).expect("the file exists");
    let names: Vec<&str> =
        source.split("pub const ").skip(1).filter_map(|rest| rest.split(':').next()).collect();
    assert_eq!(names, table().iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn the_largest_messages_fit_one_frame_and_nothing_is_wasted_by_half() {
    let transfer = crate::samples::transfer().sign_ed25519(&crate::samples::sender()).len();
    assert_eq!(transfer, 245);
    let batch = 1 + BATCH_HEADER_BYTES + TXS_PER_MESSAGE_MAX * (BATCH_TX_BYTES + transfer);
    let single = 1 + BATCH_HEADER_BYTES + BATCH_TX_BYTES + TX_BYTES_MAX;
    let chunk = 1 + 32 + 8 + 4 + 4 + 64 + (1 + 32 * MERKLE_DEPTH_MAX) + 2 + CHUNK_DATA_BYTES;
    let propose =
        1 + (Header::BYTES_MIN + 32) + 64 + 2 + 1 + PROPOSE_CERTIFICATES_MAX * Certificate::BYTES_MAX;
    for (what, bytes) in [("batch", batch), ("single", single), ("chunk", chunk), ("propose", propose)] {
        assert!(bytes <= MESSAGE_BYTES_MAX, "{what}: {bytes} bytes do not fit");
        assert!(2 * bytes > MESSAGE_BYTES_MAX, "{what}: {bytes} bytes leave over half a frame unused");
    }
    // One more transfer would not fit.
    assert!(batch + BATCH_TX_BYTES + transfer > MESSAGE_BYTES_MAX);
    assert_eq!(14 + 40 + 8 + FRAME_HEADER_BYTES + MESSAGE_BYTES_MAX + TAG_BYTES, FRAME_BYTES_MAX);
}

#[test]
fn trees_are_deep_enough_and_not_deeper() {
    for (what, leaves, depth) in [
        ("transactions", BLOCK_TXS_MAX, MERKLE_DEPTH_MAX),
        ("chunks", CHUNKS_MAX, MERKLE_DEPTH_MAX),
        ("stamps", TXS_PER_MESSAGE_MAX, STAMP_DEPTH_MAX),
    ] {
        assert!(leaves <= 1 << depth && leaves > 1 << (depth - 1), "{what}: {leaves} leaves, depth {depth}");
    }
    let largest = vec![0u8; BLOCK_BYTES_MAX];
    assert_eq!(largest.chunks(CHUNK_DATA_BYTES).count(), CHUNKS_MAX);
    assert_eq!(BITMAP_BYTES * 8, VALIDATORS_MAX);
}

#[test]
fn stated_sizes_are_the_sizes_written() {
    let stored = |file, name| super::stored(file, name).len();
    assert_eq!(stored("block", "header"), Header::BYTES_MIN);
    assert_eq!(stored("block", "header_end_of_epoch"), Header::BYTES_MIN + 32);
    assert_eq!(stored("consensus", "vote_notarize"), 1 + Vote::BYTES);
    assert_eq!(stored("consensus", "vote_signing_bytes"), VOTE_SIGNING_BYTES);
    assert_eq!(stored("ledger", "account"), roko_wire::Account::BYTES);
    let full = Certificate {
        signers: roko_wire::vote::Bitmap([0xff; BITMAP_BYTES]),
        fallback_signers: roko_wire::vote::Bitmap([0xff; BITMAP_BYTES]),
        ..super::consensus::slow_block()
    };
    let mut bytes = Vec::new();
    full.write(&mut bytes);
    assert_eq!(bytes.len(), Certificate::BYTES_MAX);
}

#[test]
fn a_full_block_of_transfers_fits_the_largest_body() {
    use roko_wire::block::{Body, BodyBatch, BodyTx};
    let transfer = crate::samples::transfer().sign_ed25519(&crate::samples::sender());
    let mut body = Body::default();
    for index in 0..BLOCK_TXS_MAX {
        if index % TXS_PER_MESSAGE_MAX == 0 {
            body.batches.push(BodyBatch { ingress: 0, leaves: 5, root: [0; 32], signature: [0; 64] });
        }
        let (leaf_index, batch) = ((index % TXS_PER_MESSAGE_MAX) as u8, body.batches.len() as u32 - 1);
        let path_len = STAMP_DEPTH_MAX as u8;
        let tx_len = transfer.len() as u32;
        body.txs.push(BodyTx {
            moment: 0,
            stamp_time: 0,
            bound_ns: 0,
            source: 0,
            leaf_index,
            path_len,
            batch,
            tx_len,
        });
        body.paths.extend([[0; 32]; STAMP_DEPTH_MAX]);
        body.tx_bytes.extend_from_slice(&transfer);
    }
    let archive = crate::samples::archive(&body);
    assert!(
        archive.len() <= BLOCK_BYTES_MAX && archive.len() > BLOCK_BYTES_MAX / 2,
        "{} bytes",
        archive.len()
    );
    assert_eq!(roko_wire::block::BodyView::access(&archive).expect("it is valid").len(), BLOCK_TXS_MAX);
}
