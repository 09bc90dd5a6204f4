//! Vectors of catch-up.

use super::Vector;
use super::consensus::slow_block;
use crate::samples::*;
use roko_wire::Account;
use roko_wire::block::Header;
use roko_wire::chunk::sign_proposal;
use roko_wire::ids::{Address, BlockId, Hash32, Height, View};
use roko_wire::snapshot::{Anchor, StateRange};
use roko_wire::sync::{SealedBlock, Seals, Signature, SyncMessage};

fn message(message: &SyncMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

pub(crate) fn vectors() -> Vec<Vector> {
    let header = Header { body_bytes: 4, ..header() };
    let signature = Signature(sign_proposal(&node(), DOMAIN, View(41), &header.id()));
    let seals = Seals { signature, justification: vec![slow_block()], proof: Vec::new() };
    let tip = SyncMessage::Tip {
        height: Height(7),
        view: View(41),
        block: BlockId(counting(0x01)),
        first: Height(1),
    };
    vec![
        Vector::new("get_tip", message(&SyncMessage::GetTip)),
        Vector::new("tip", message(&tip))
            .from("height", 7)
            .from("view", 41)
            .from("block", BlockId(counting(0x01)))
            .from("first", 1),
        Vector::new("get_blocks", message(&SyncMessage::GetBlocks { from: Height(8), count: 256 }))
            .from("from", 8)
            .from("count", 256),
        Vector::new(
            "block",
            message(&SyncMessage::Block(SealedBlock { header, seals, body: &[1, 2, 3, 4] })),
        )
        .from("header", "block/header with 4 bytes of body")
        .from("justification", "consensus/certificate_slow_block")
        .from("body", "01020304"),
        Vector::new("end", message(&SyncMessage::End)),
    ]
    .into_iter()
    .chain(snapshots())
    .collect()
}

fn snapshots() -> Vec<Vector> {
    let child = Header { height: Height(41), parent: header().id(), body_bytes: 0, ..header() };
    let anchor = Anchor {
        headers: vec![header(), child],
        seals: Seals::default(),
        proof: vec![slow_block()],
        receipts: &[1, 2, 3],
    };
    let mut from = Hash32::ZERO;
    from.0[0] = 0x40;
    let question = SyncMessage::GetRange { height: Height(1_024), from, depth: 6 };
    let account = Account { nonce: 9, code_hash: Hash32(counting(0x80)), ..Account::default() };
    let range = StateRange {
        siblings: vec![Hash32::ZERO, Hash32(counting(0x21))],
        accounts: vec![(Address([0x11; 20]), account)],
    };
    vec![
        Vector::new("get_snapshot", message(&SyncMessage::GetSnapshot)),
        Vector::new("snapshot", message(&SyncMessage::Snapshot(anchor)))
            .from("headers", "block/header, and its child at height 41 without a body")
            .from("seals", "empty, the signature zero")
            .from("proof", "consensus/certificate_slow_block")
            .from("receipts", "010203"),
        Vector::new("get_range", message(&question))
            .from("height", 1_024)
            .from("from", "the place that begins with the bits 01, then zeros")
            .from("depth", 6),
        Vector::new("range", message(&SyncMessage::Range(range)))
            .from("siblings", "an empty one, then 2122...40")
            .from("accounts", "one of nonce 9 and code hash 8081...9f at address 1111...11"),
    ]
}
