//! Vectors of stamps, Merkle trees, headers, bodies and chunks.

use super::Vector;
use crate::samples::*;
use roko_wire::block::{chunk_leaf, tx_leaf};
use roko_wire::chunk::{Chunk, sign_proposal};
use roko_wire::ids::{BlockId, Hash32, View};
use roko_wire::limits::CHUNK_DATA_BYTES;
use roko_wire::merkle::{self, Tree};
use roko_wire::message::{Message, MessageKind};
use roko_wire::nano::NanoMoment;
use roko_wire::stamp::write_signed_batch;
use roko_wire::tx::tx_id;

pub(crate) fn stamps() -> Vec<Vector> {
    let txs = batch_txs();
    let id = tx_id(&txs[0].1);
    let borrowed: Vec<(NanoMoment, &[u8])> = txs.iter().map(|(time, wire)| (*time, &wire[..])).collect();
    let mut batch = vec![MessageKind::Batch as u8];
    write_signed_batch(&node(), CHAIN, &stamp(), &borrowed, &mut batch);
    let root = Hash32(body().batches[0].root);
    vec![
        Vector::new("leaf", stamp().leaf(CHAIN, &id))
            .from("chain_id", CHAIN)
            .from("id", "transaction/ed25519_id")
            .from("time", MOMENT)
            .from("bound_ns", 850)
            .from("source", "ptp (1)")
            .from("ingress", 2),
        Vector::new("root", root)
            .from("leaves", "stamp/leaf and that of transaction/secp256k1, 1500 ns later"),
        Vector::new("root_signature", body().batches[0].signature)
            .from("secret", NODE_SECRET)
            .from("chain_id", CHAIN)
            .from("ingress", 2)
            .from("leaves", 2)
            .from("root", "stamp/root"),
        Vector::new("batch", batch)
            .from("secret", NODE_SECRET)
            .from("transactions", "transaction/ed25519, transaction/secp256k1 1500 ns later"),
    ]
}

/// A body of two chunks: 864 and 3 bytes that count up.
fn two_chunks() -> Vec<u8> {
    (0..CHUNK_DATA_BYTES + 3).map(|i| i as u8).collect()
}

/// Message of the second chunk of [`two_chunks`], of the block with the id of [`header`].
fn chunk() -> Vec<u8> {
    let body = two_chunks();
    let mut tree = Tree::default();
    tree.rebuild(
        body.chunks(CHUNK_DATA_BYTES).enumerate().map(|(index, data)| chunk_leaf(index as u32, data)),
    );
    let block = header().id();
    let mut out = Vec::new();
    Message::Chunk(Chunk {
        block,
        view: View(41),
        index: 1,
        count: 2,
        signature: sign_proposal(&node(), DOMAIN, View(41), &block),
        path: tree.path(1).expect("a leaf"),
        data: &body[CHUNK_DATA_BYTES..],
    })
    .write(&mut out);
    out
}

pub(crate) fn vectors() -> Vec<Vector> {
    let leaves: Vec<Hash32> = (0..3u8).map(|i| merkle::leaf(&[&[i]])).collect();
    let mut tree = Tree::default();
    tree.rebuild(leaves.iter().copied());
    let mut path = Vec::new();
    merkle::write_path(&tree.path(2).expect("a leaf"), &mut path);
    let (mut plain, mut last) = (Vec::new(), Vec::new());
    let end_of_epoch = roko_wire::block::Header { next_set_root: Some(Hash32(counting(0x61))), ..header() };
    header().write(&mut plain);
    end_of_epoch.write(&mut last);
    let mut pull = Vec::new();
    Message::PullBlock(BlockId(counting(0x01))).write(&mut pull);
    vec![
        Vector::new("merkle_leaf", leaves[0]).from("data", "00"),
        Vector::new("merkle_node", merkle::node(&leaves[0], &leaves[1])).from("leaves", "of 00 and of 01"),
        Vector::new("merkle_root", tree.root()).from("leaves", "of 00, of 01, of 02"),
        Vector::new("merkle_path", path).from("tree", "block/merkle_root").from("index", 2),
        Vector::new("header", plain).from("fields", "in the table beside it in WIRE.md"),
        Vector::new("header_id", header().id()).from("header", "block/header"),
        Vector::new("header_end_of_epoch", last).from("next_set_root", Hash32(counting(0x61))),
        Vector::new("header_end_of_epoch_id", end_of_epoch.id()).from("header", "block/header_end_of_epoch"),
        Vector::new("body", archive(&body()))
            .from("transactions", "transaction/ed25519, transaction/secp256k1")
            .from("batch", "stamp/batch"),
        Vector::new("tx_leaf", tx_leaf(&tx_id(&batch_txs()[0].1), MOMENT, &stamp()))
            .from("id", "transaction/ed25519_id")
            .from("moment", MOMENT)
            .from("stamp", "as in stamp/leaf"),
        Vector::new("chunk_leaf", chunk_leaf(1, &two_chunks()[CHUNK_DATA_BYTES..]))
            .from("index", 1)
            .from("data", "606162"),
        Vector::new("chunk", chunk())
            .from("secret", NODE_SECRET)
            .from("body", "867 bytes: byte i is i modulo 256")
            .from("index", 1),
        Vector::new("pull_block", pull).from("block", BlockId(counting(0x01))),
    ]
}
