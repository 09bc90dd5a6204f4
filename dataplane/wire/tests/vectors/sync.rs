//! Vectors of catch-up.

use super::Vector;
use super::consensus::slow_block;
use crate::samples::*;
use roko_wire::block::Header;
use roko_wire::chunk::sign_proposal;
use roko_wire::ids::{BlockId, Height, View};
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
    let tip = SyncMessage::Tip { height: Height(7), view: View(41), block: BlockId(counting(0x01)) };
    vec![
        Vector::new("get_tip", message(&SyncMessage::GetTip)),
        Vector::new("tip", message(&tip))
            .from("height", 7)
            .from("view", 41)
            .from("block", BlockId(counting(0x01))),
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
}
