//! A block's body of 1,000 transactions: checked and read in place, against decoders that build it anew.
//!
//! The peers decode the same content: prost a message a transaction, as a schema would have it, and bincode 2 the
//! same four flat arrays as ours. All then walk the transactions and add up moments and bytes.

use bincode::config::standard;
use prost::Message;
use rkyv::util::AlignedVec;
use roko_benches::{Comparison, Report, fixtures};
use roko_wire::block::{Body, BodyView};

const TXS: usize = 1_000;

#[derive(Clone, PartialEq, Message)]
struct ProstBatch {
    #[prost(uint32, tag = "1")]
    ingress: u32,
    #[prost(uint32, tag = "2")]
    leaves: u32,
    #[prost(bytes = "vec", tag = "3")]
    root: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ProstTx {
    #[prost(fixed64, tag = "1")]
    moment_high: u64,
    #[prost(fixed64, tag = "2")]
    moment_low: u64,
    #[prost(fixed64, tag = "3")]
    stamp_time_high: u64,
    #[prost(fixed64, tag = "4")]
    stamp_time_low: u64,
    #[prost(uint64, tag = "5")]
    bound_ns: u64,
    #[prost(uint32, tag = "6")]
    source: u32,
    #[prost(uint32, tag = "7")]
    leaf_index: u32,
    #[prost(uint32, tag = "8")]
    batch: u32,
    #[prost(bytes = "vec", repeated, tag = "9")]
    path: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "10")]
    wire: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ProstBody {
    #[prost(message, repeated, tag = "1")]
    batches: Vec<ProstBatch>,
    #[prost(message, repeated, tag = "2")]
    txs: Vec<ProstTx>,
}

#[derive(bincode::Encode, bincode::Decode)]
struct BincodeBatch {
    ingress: u16,
    leaves: u8,
    root: [u8; 32],
    signature: [u8; 64],
}

#[derive(bincode::Encode, bincode::Decode)]
struct BincodeTx {
    moment: u128,
    stamp_time: u128,
    bound_ns: u64,
    source: u8,
    leaf_index: u8,
    path_len: u8,
    batch: u32,
    tx_len: u32,
}

#[derive(bincode::Encode, bincode::Decode)]
struct BincodeBody {
    batches: Vec<BincodeBatch>,
    txs: Vec<BincodeTx>,
    paths: Vec<[u8; 32]>,
    tx_bytes: Vec<u8>,
}

fn prost_body(body: &Body) -> ProstBody {
    let batch = |batch: &roko_wire::block::BodyBatch| ProstBatch {
        ingress: batch.ingress.into(),
        leaves: batch.leaves.into(),
        root: batch.root.to_vec(),
        signature: batch.signature.to_vec(),
    };
    let (mut paths, mut bytes) = (&body.paths[..], &body.tx_bytes[..]);
    let txs = body.txs.iter().map(|tx| {
        let (path, paths_left) = paths.split_at(tx.path_len.into());
        let (wire, bytes_left) = bytes.split_at(tx.tx_len as usize);
        (paths, bytes) = (paths_left, bytes_left);
        ProstTx {
            moment_high: (tx.moment >> 64) as u64,
            moment_low: tx.moment as u64,
            stamp_time_high: (tx.stamp_time >> 64) as u64,
            stamp_time_low: tx.stamp_time as u64,
            bound_ns: tx.bound_ns,
            source: tx.source.into(),
            leaf_index: tx.leaf_index.into(),
            batch: tx.batch,
            path: path.iter().map(|hash| hash.to_vec()).collect(),
            wire: wire.to_vec(),
        }
    });
    ProstBody { txs: txs.collect(), batches: body.batches.iter().map(batch).collect() }
}

fn bincode_body(body: &Body) -> BincodeBody {
    let batch = |batch: &roko_wire::block::BodyBatch| BincodeBatch {
        ingress: batch.ingress,
        leaves: batch.leaves,
        root: batch.root,
        signature: batch.signature,
    };
    let tx = |tx: &roko_wire::block::BodyTx| BincodeTx {
        moment: tx.moment,
        stamp_time: tx.stamp_time,
        bound_ns: tx.bound_ns,
        source: tx.source,
        leaf_index: tx.leaf_index,
        path_len: tx.path_len,
        batch: tx.batch,
        tx_len: tx.tx_len,
    };
    BincodeBody {
        batches: body.batches.iter().map(batch).collect(),
        txs: body.txs.iter().map(tx).collect(),
        paths: body.paths.clone(),
        tx_bytes: body.tx_bytes.clone(),
    }
}

type Walked = (u128, usize);

fn rkyv_walk(bytes: &[u8]) -> Walked {
    let view = BodyView::access(bytes).expect("the body is well formed");
    view.entries().fold((0, 0), |(sum, len), tx| (sum ^ tx.moment.0, len + tx.wire.len()))
}

fn prost_walk(bytes: &[u8]) -> Walked {
    let body = ProstBody::decode(bytes).expect("the body is well formed");
    body.txs.iter().fold((0, 0), |(sum, len), tx| {
        (sum ^ (u128::from(tx.moment_high) << 64 | u128::from(tx.moment_low)), len + tx.wire.len())
    })
}

fn bincode_walk(bytes: &[u8]) -> Walked {
    let (body, _): (BincodeBody, usize) =
        bincode::decode_from_slice(bytes, standard()).expect("the body is well formed");
    body.txs.iter().fold((0, 0), |(sum, len), tx| (sum ^ tx.moment, len + tx.tx_len as usize))
}

fn main() {
    let mut report = Report::new("block_access", "none; bytes in memory");
    let mut criterion = Report::criterion();
    let body = fixtures::body(TXS);
    let (prost, bincode) = (prost_body(&body), bincode_body(&body));
    let archived = rkyv::to_bytes::<rkyv::rancor::Panic>(&body).expect("it serialises");
    let prost_bytes = prost.encode_to_vec();
    let bincode_bytes = bincode::encode_to_vec(&bincode, standard()).expect("it serialises");
    assert_eq!(rkyv_walk(&archived), prost_walk(&prost_bytes));
    assert_eq!(rkyv_walk(&archived), bincode_walk(&bincode_bytes));
    let bytes = (archived.len(), prost_bytes.len(), bincode_bytes.len());
    report.note(format!("a body of {TXS}: rkyv {} bytes, prost {}, bincode {}", bytes.0, bytes.1, bytes.2));

    Comparison::new("block_access/txs=1000", 1)
        .call("rkyv_checked", || rkyv_walk(core::hint::black_box(&archived)))
        .call("bincode", || bincode_walk(core::hint::black_box(&bincode_bytes)))
        .floor_ratio(0.1)
        .call("prost", || prost_walk(core::hint::black_box(&prost_bytes)))
        .floor_ratio(0.1)
        .run(&mut criterion, &mut report);

    // Each encoder keeps its buffer, as the builder of blocks does.
    let mut own = AlignedVec::<16>::new();
    let (mut prost_out, mut bincode_out) = (Vec::new(), vec![0; bincode_bytes.len()]);
    let mut floor = Vec::with_capacity(archived.len());
    Comparison::new("block_encode/txs=1000", 1)
        .call("rkyv", || {
            let mut out = core::mem::take(&mut own);
            out.clear();
            own = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Panic>(&body, out).expect("it serialises");
            own.len()
        })
        .call("bincode", || {
            bincode::encode_into_slice(&bincode, &mut bincode_out, standard()).expect("it fits")
        })
        .call("prost", || {
            prost_out.clear();
            prost.encode(&mut prost_out).expect("a vector grows");
            prost_out.len()
        })
        .call("copy_of_the_bytes", || {
            floor.clear();
            floor.extend_from_slice(core::hint::black_box(&archived));
            floor.len()
        })
        .run(&mut criterion, &mut report);
    report.finish(criterion);
}
