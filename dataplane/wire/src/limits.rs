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
/// Most transactions in one message: a transfer takes at least 180 bytes.
pub const TXS_PER_MESSAGE_MAX: usize = 8;
/// Most transactions in a block's body.
pub const BLOCK_TXS_MAX: usize = 8_192;
/// Largest block body, bytes of the rkyv archive: 8,192 transfers with stamps take about 3 MiB.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Data bytes of a chunk: what is left of a message after the chunk's header, signature and longest Merkle path.
pub const CHUNK_DATA_BYTES: usize = 768;
/// Most chunks of a block.
pub const CHUNKS_MAX: usize = BLOCK_BYTES_MAX.div_ceil(CHUNK_DATA_BYTES);
/// Certificates carried whole by one Propose; hashes stand for further ones.
pub const PROPOSE_CERTIFICATES_MAX: usize = 4;
/// Depth of the deepest Merkle path on the wire: a tree of `BLOCK_TXS_MAX` leaves.
pub const MERKLE_DEPTH_MAX: usize = 13;

const _: () = assert!(1 << MERKLE_DEPTH_MAX >= BLOCK_TXS_MAX);
const _: () = assert!(1 << MERKLE_DEPTH_MAX >= CHUNKS_MAX);
