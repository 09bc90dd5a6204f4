//! Every limit of the wire and the ledger, each with its derivation. What may differ between chains is in genesis.

/// Largest Ethernet frame without FCS on a 1500-byte MTU link: 14 + 1500.
pub const FRAME_BYTES_MAX: usize = 1514;
/// Largest message inside a sealed frame: the frame less Ethernet (14), IPv6 (40), UDP (8), our header (20) and the AEAD tag (16).
pub const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - 14 - 40 - 8 - 20 - 16;
/// Validators in one epoch's set. A certificate's two bitmaps and an aggregate signature must fit one frame.
pub const VALIDATORS_MAX: usize = 256;
/// Bytes of a signer bitmap.
pub const BITMAP_BYTES: usize = VALIDATORS_MAX / 8;
/// Largest transaction, canonical bytes and signature: one stamped batch of one transaction fits one message.
pub const TX_BYTES_MAX: usize = 1_232;
/// Most transactions in one message: a transfer takes 245 bytes and its stamp 6.
pub const TXS_PER_MESSAGE_MAX: usize = 5;
/// Most items of an access list, and most storage keys of an item.
pub const ACCESS_LIST_MAX: usize = 32;
/// Depth of a stamp batch's Merkle tree.
pub const STAMP_DEPTH_MAX: usize = 3;
/// Most transactions in a block's body.
pub const BLOCK_TXS_MAX: usize = 8_192;
/// Largest block body, bytes of the rkyv archive: 8,192 transfers with stamps take about 3 MiB.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Data bytes of a chunk: what is left of a message after the chunk's header, signature and longest Merkle path.
pub const CHUNK_DATA_BYTES: usize = 864;
/// Most chunks of a block.
pub const CHUNKS_MAX: usize = BLOCK_BYTES_MAX.div_ceil(CHUNK_DATA_BYTES);
/// Certificates carried whole by one Propose; further ones go before it.
pub const PROPOSE_CERTIFICATES_MAX: usize = 4;
/// Most blocks of one question when a node catches up: a second or two of a busy chain.
pub const SYNC_BLOCKS_MAX: usize = 256;
/// Blocks between two heights whose state is kept for snapshots, the same for every node, so that one asker can fetch from
/// several: ten seconds of a busy chain.
pub const SNAPSHOT_BLOCKS: usize = 1_024;
/// Most headers from a snapshot's block to one with a proof of its own: a node that caught up keeps one for each range.
pub const SNAPSHOT_HEADERS_MAX: usize = 4 * SYNC_BLOCKS_MAX + 1;
/// Most accounts of one answer: half a megabyte.
pub const RANGE_ACCOUNTS_MAX: usize = 4_096;
/// Depth of the deepest Merkle path on the wire: a tree of `BLOCK_TXS_MAX` leaves.
pub const MERKLE_DEPTH_MAX: usize = 13;

const _: () = assert!(1 << MERKLE_DEPTH_MAX >= BLOCK_TXS_MAX);
// A snapshot's anchor: headers, receipts of a full block (73 bytes each), a few certificates.
const _: () = assert!(
    SNAPSHOT_HEADERS_MAX * (crate::block::Header::BYTES_MIN + 32) + BLOCK_TXS_MAX * 73 + 65_536
        <= crate::sync::SYNC_BYTES_MAX
);
const _: () = assert!(1 << MERKLE_DEPTH_MAX >= CHUNKS_MAX);
const _: () = assert!(1 << STAMP_DEPTH_MAX >= TXS_PER_MESSAGE_MAX);
const _: () = assert!(
    1 + crate::stamp::BATCH_HEADER_BYTES + TXS_PER_MESSAGE_MAX * (crate::stamp::BATCH_TX_BYTES + 245)
        <= MESSAGE_BYTES_MAX
);
const _: () = assert!(
    1 + crate::stamp::BATCH_HEADER_BYTES + crate::stamp::BATCH_TX_BYTES + TX_BYTES_MAX <= MESSAGE_BYTES_MAX
);
const _: () =
    assert!(1 + 32 + 8 + 4 + 4 + 64 + 1 + 32 * MERKLE_DEPTH_MAX + 2 + CHUNK_DATA_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(
    1 + crate::block::Header::BYTES_MIN
        + 32
        + 64
        + 2
        + 1
        + PROPOSE_CERTIFICATES_MAX * crate::vote::Certificate::BYTES_MAX
        <= MESSAGE_BYTES_MAX
);
